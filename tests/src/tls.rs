//! Connections to the gateway that send what no HTTP library would.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

use crate::environment;

const CONNECTED_WITHIN: Duration = Duration::from_secs(2);
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// host:port of the gateway.
pub fn gateway_address() -> String {
    environment::url().replace("https://", "")
}

/// A plain connection.
pub fn connect(address: &str) -> TcpStream {
    let address = address.parse().expect("an address");
    let stream = TcpStream::connect_timeout(&address, CONNECTED_WITHIN).expect("a connection");
    stream.set_nodelay(true).expect("no delay");
    stream
}

/// A TLS connection to the gateway; one byte after another as the test wants it.
pub struct Tls(StreamOwned<ClientConnection, TcpStream>);

impl Tls {
    /// Connects to the stack's gateway, with HTTP/1.1 and any version of TLS that both sides know.
    pub fn open() -> Self {
        Self::to(&gateway_address())
    }

    /// The same to the gateway at this address.
    pub fn to(address: &str) -> Self {
        Self::with(address, rustls::ALL_VERSIONS, &["http/1.1"]).expect("a handshake")
    }

    /// Connects with these versions of TLS and offers these protocols; an error when the gateway does not want to.
    pub fn with(
        address: &str,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&str],
    ) -> std::io::Result<Self> {
        let pem = std::fs::read(environment::variable("ORDERLOG_CA_FILE"))?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
        let mut config = ClientConfig::builder_with_protocol_versions(versions)
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
        let name = ServerName::try_from("localhost").expect("a name");
        let mut connection =
            ClientConnection::new(Arc::new(config), name).map_err(std::io::Error::other)?;
        let mut stream = connect(address);
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        Ok(Self(StreamOwned::new(connection, stream)))
    }

    /// The protocol that was agreed on.
    pub fn protocol(&self) -> Option<String> {
        let protocol = self.0.conn.alpn_protocol()?;
        Some(String::from_utf8_lossy(protocol).into_owned())
    }

    /// Sends bytes; a gateway that has hung up already is fine.
    pub fn send(&mut self, bytes: &[u8]) {
        let sent = self.0.write_all(bytes).and_then(|()| self.0.flush());
        if let Err(error) = sent {
            assert!(hung_up(&error), "{error}");
        }
    }

    /// One answer with its body.
    pub fn answer(&mut self, patience: Duration) -> String {
        self.read(patience, true)
    }

    /// Everything that comes until the gateway closes the connection, and after how long it did.
    pub fn until_closed(&mut self, patience: Duration) -> (String, Duration) {
        let begun = Instant::now();
        (self.read(patience, false), begun.elapsed())
    }

    fn read(&mut self, patience: Duration, only_one: bool) -> String {
        self.0
            .sock
            .set_read_timeout(Some(patience))
            .expect("a time-out");
        let mut received = Vec::new();
        let mut part = [0; 16 * 1024];
        while received.len() < ANSWER_BYTES_MAX && !(only_one && is_whole(&received)) {
            match self.0.read(&mut part) {
                Ok(0) => break,
                Ok(length) => received.extend_from_slice(&part[..length]),
                Err(error) if hung_up(&error) => break,
                Err(error) => panic!("{error}, after {:?}", String::from_utf8_lossy(&received)),
            }
        }
        String::from_utf8_lossy(&received).into_owned()
    }
}

fn hung_up(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    )
}

/// Whether these bytes are one answer with as much body as it announced.
fn is_whole(received: &[u8]) -> bool {
    let text = String::from_utf8_lossy(received);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let value = name.eq_ignore_ascii_case("content-length").then_some(value);
        value?.trim().parse::<usize>().ok()
    });
    length.is_some_and(|length| body.len() >= length)
}
