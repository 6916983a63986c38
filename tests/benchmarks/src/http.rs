//! Just enough of HTTP/1.1 to load a server without loading the machine: whole requests are written as bytes made
//! beforehand, answers are read up to their Content-Length. One request at a time, the connection is kept. Plain, or over
//! TLS.

use std::{path::Path, sync::Arc};

use anyhow::{Context, bail, ensure};
use memchr::memmem;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// More than any answer that is asked for here.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
const BUFFER_BYTES: usize = 16 * 1024;

/// A kept connection.
pub struct Connection {
    stream: Stream,
    buffer: Vec<u8>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Where a server is, and whether it speaks TLS.
#[derive(Clone)]
pub struct Server {
    address: String,
    tls: Option<TlsConnector>,
}

impl From<&str> for Server {
    /// Without TLS.
    fn from(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            tls: None,
        }
    }
}

impl Server {
    /// With TLS, for HTTP/1.1, at `localhost`; trusts the authorities in this file.
    pub fn with_tls(address: &str, ca_file: &Path) -> anyhow::Result<Self> {
        let certificates = CertificateDer::pem_file_iter(ca_file)
            .with_context(|| format!("{} cannot be read", ca_file.display()))?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates.flatten());
        let mut config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            address: address.to_owned(),
            tls: Some(TlsConnector::from(Arc::new(config))),
        })
    }
}

/// An answer, as long as the next request is not sent.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// The status.
    pub status: u16,
    head: &'a [u8],
    /// The body.
    pub body: &'a [u8],
}

/// Where the parts of a message are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Bytes of the head, with its empty line.
    pub head: usize,
    /// Bytes of the body.
    pub body: usize,
}

impl Connection {
    /// Connects without TLS.
    pub async fn open(address: &str) -> anyhow::Result<Self> {
        Self::to(&Server::from(address)).await
    }

    /// Connects.
    pub async fn to(server: &Server) -> anyhow::Result<Self> {
        let address = &server.address;
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("nobody listens on {address}"))?;
        stream.set_nodelay(true)?;
        let stream = match &server.tls {
            None => Stream::Plain(stream),
            Some(tls) => {
                let name = ServerName::try_from("localhost")?;
                Stream::Tls(Box::new(tls.connect(name, stream).await?))
            }
        };
        Ok(Self {
            stream,
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    /// Sends a whole request and reads the whole answer.
    pub async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<Answer<'_>> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(request).await?,
            Stream::Tls(stream) => {
                stream.write_all(request).await?;
                stream.flush().await?;
            }
        }
        let (mut filled, mut extent) = (0, None);
        while extent.is_none_or(|Extent { head, body }| filled < head + body) {
            if filled == self.buffer.len() {
                ensure!(filled < ANSWER_BYTES_MAX, "the answer has no end");
                self.buffer.resize(filled * 2, 0);
            }
            let free = self.buffer.get_mut(filled..).unwrap_or_default();
            let read = match &mut self.stream {
                Stream::Plain(stream) => stream.read(free).await?,
                Stream::Tls(stream) => stream.read(free).await?,
            };
            match read {
                0 => bail!("the server closed the connection"),
                received => filled += received,
            }
            if extent.is_none() {
                extent = message_extent(self.buffer.get(..filled).unwrap_or_default())?;
            }
        }
        let received = self.buffer.get(..filled).unwrap_or_default();
        let head_bytes = extent.map_or(0, |extent| extent.head);
        let (head, body) = received.split_at_checked(head_bytes).unwrap_or_default();
        Ok(Answer {
            status: status(head).context("an answer without a status")?,
            head,
            body,
        })
    }
}

impl Answer<'_> {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(header(self.head, name)?).ok()
    }

    /// The body as JSON; an error unless the status is `expected`.
    pub fn json(&self, expected: u16) -> anyhow::Result<serde_json::Value> {
        ensure!(
            self.status == expected,
            "{} instead of {expected}: {}",
            self.status,
            String::from_utf8_lossy(self.body)
        );
        Ok(serde_json::from_slice(self.body)?)
    }
}

/// A request as bytes.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        let length = body.len();
        text.push_str(&format!(
            "content-type: application/json\r\ncontent-length: {length}\r\n"
        ));
    }
    text.push_str("\r\n");
    text.push_str(body);
    text.into_bytes()
}

/// How long the message is that begins here; `None` while its head is not complete.
pub fn message_extent(received: &[u8]) -> anyhow::Result<Option<Extent>> {
    let Some(end) = memmem::find(received, b"\r\n\r\n") else {
        return Ok(None);
    };
    let (head, _) = received.split_at_checked(end + 4).unwrap_or_default();
    let body = match header(head, "content-length") {
        Some(length) => std::str::from_utf8(length)?.parse()?,
        None => 0,
    };
    Ok(Some(Extent {
        head: end + 4,
        body,
    }))
}

fn header<'a>(head: &'a [u8], wanted: &str) -> Option<&'a [u8]> {
    head.split(|byte| *byte == b'\n').find_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        let (name, value) = line.split_at_checked(colon)?;
        name.eq_ignore_ascii_case(wanted.as_bytes())
            .then(|| value.get(1..).unwrap_or_default().trim_ascii())
    })
}

fn status(head: &[u8]) -> Option<u16> {
    std::str::from_utf8(head.get(9..12)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_as_long_as_its_head_says() {
        let whole = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\nETag: \"1\"\r\n\r\n{}";
        let extent = Extent { head: 54, body: 2 };
        assert_eq!(message_extent(whole).unwrap(), Some(extent));
        assert_eq!(message_extent(&whole[..54]).unwrap(), Some(extent));
        assert_eq!(message_extent(&whole[..53]).unwrap(), None);
        assert_eq!(header(&whole[..54], "etag"), Some(&b"\"1\""[..]));
        assert_eq!(status(whole), Some(201));
    }

    #[test]
    fn a_request_says_how_long_it_is() {
        let bytes = request("POST", "/orders", &[("authorization", "Bearer t")], "{}");
        let extent = message_extent(&bytes).unwrap().unwrap();
        assert_eq!((extent.body, extent.head + 2), (2, bytes.len()));
    }
}
