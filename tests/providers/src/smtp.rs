//! SMTP submission (RFC 5321, 6409) under TLS (RFC 3207, 8314), the part that clients use: EHLO,
//! STARTTLS, AUTH PLAIN, MAIL, RCPT, DATA, RSET, NOOP, QUIT. No mail is taken without TLS and AUTH.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use smtp_proto::{
    AUTH_PLAIN, EXT_8BIT_MIME, EXT_AUTH, EXT_SIZE, EXT_SMTP_UTF8, EXT_START_TLS, EhloResponse,
    Error, Request,
};
use time::OffsetDateTime;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::certificate::Certificate;
use crate::faults::{Fault, Kind, Stage};
use crate::kept::{Channel, Message, Provider};
use crate::{Shared, mime};

/// Largest mail taken.
pub const MAIL_BYTES_MAX: usize = 10 * 1024 * 1024;
/// Most recipients of one mail.
pub const RECIPIENTS_COUNT_MAX: usize = 100;
/// Most sessions at the same time; further ones wait.
pub const SESSIONS_COUNT_MAX: usize = 256;
/// Longest line of a command or a mail, its end included.
const LINE_BYTES_MAX: u64 = 4_096;
/// Longest that a client may keep silent.
const SILENCE_MAX: Duration = Duration::from_secs(60);
const HOST: &str = "localhost";

/// How a connection begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// In the clear, until STARTTLS.
    Plain,
    /// Under TLS.
    Encrypted,
}

/// An address where mail is taken.
#[derive(Clone)]
pub struct Door {
    listener: Arc<TcpListener>,
    start: Start,
    tls: TlsAcceptor,
}

impl Door {
    /// A door behind a bound listener.
    ///
    /// # Errors
    /// When the certificate is none.
    pub fn new(
        listener: TcpListener,
        start: Start,
        certificate: &Certificate,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            listener: Arc::new(listener),
            start,
            tls: TlsAcceptor::from(certificate.server()?),
        })
    }

    /// Takes mail from now on, in the current runtime.
    pub(crate) fn open(self, shared: Arc<Shared>) -> std::io::Result<()> {
        let listener = self.listener.try_clone()?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let slots = Arc::new(Semaphore::new(SESSIONS_COUNT_MAX));
        tokio::spawn(async move {
            while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let session =
                            serve(stream, self.start, self.tls.clone(), Arc::clone(&shared));
                        tokio::spawn(async move {
                            if let Err(error) = session.await {
                                tracing::debug!(%error, "an SMTP session ended");
                            }
                            drop(slot);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "no connection");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        });
        Ok(())
    }
}

/// Speaks with one client to the end.
async fn serve(
    stream: TcpStream,
    start: Start,
    tls: TlsAcceptor,
    shared: Arc<Shared>,
) -> std::io::Result<()> {
    // A fault at this stage sets in before anything is said.
    let fault = shared.faults.meet_at(Provider::Smtp, Stage::Connect);
    if start == Start::Encrypted {
        let stream = tokio::time::timeout(SILENCE_MAX, tls.accept(stream)).await??;
        let mut session = Session::new(stream, &shared, true);
        session.greet(fault).await?;
        return session.run().await.map(|_| ());
    }
    let mut session = Session::new(stream, &shared, false);
    session.greet(fault).await?;
    if session.run().await? == End::StartTls {
        let stream = session.stream.into_inner();
        let stream = tokio::time::timeout(SILENCE_MAX, tls.accept(stream)).await??;
        Session::new(stream, &shared, true).run().await?;
    }
    Ok(())
}

/// Why a session was left.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// Over.
    Over,
    /// TLS is to begin.
    StartTls,
}

/// What becomes of the session after a step.
enum Step {
    /// It is done as usual.
    Done,
    /// The session is over.
    Over,
    /// TLS is to begin.
    StartTls,
}

struct Session<'a, S> {
    stream: BufReader<S>,
    shared: &'a Shared,
    is_encrypted: bool,
    is_known: bool,
    from: Option<String>,
    to: Vec<String>,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Session<'a, S> {
    fn new(stream: S, shared: &'a Shared, is_encrypted: bool) -> Self {
        Self {
            stream: BufReader::new(stream),
            shared,
            is_encrypted,
            is_known: false,
            from: None,
            to: Vec::new(),
        }
    }

    async fn greet(&mut self, fault: Option<Fault>) -> std::io::Result<()> {
        if let Some(fault) = fault
            && matches!(self.under(&fault).await?, Step::Over)
        {
            return Err(std::io::ErrorKind::ConnectionAborted.into());
        }
        self.say(&format!("220 {HOST} ESMTP stand-in")).await
    }

    async fn say(&mut self, line: &str) -> std::io::Result<()> {
        let stream = self.stream.get_mut();
        stream.write_all(format!("{line}\r\n").as_bytes()).await?;
        stream.flush().await
    }

    /// The next line with its end; empty when there is none.
    async fn line(&mut self) -> std::io::Result<Vec<u8>> {
        let mut line = Vec::new();
        let mut limited = (&mut self.stream).take(LINE_BYTES_MAX);
        tokio::time::timeout(SILENCE_MAX, limited.read_until(b'\n', &mut line)).await??;
        if line.last().is_some_and(|last| *last != b'\n') {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        Ok(line)
    }

    async fn run(&mut self) -> std::io::Result<End> {
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(End::Over);
            }
            let request = match Request::parse(&mut line.iter()) {
                Ok(request) => request.into_owned(),
                Err(Error::UnknownCommand) => {
                    self.say("500 5.5.1 unknown command").await?;
                    continue;
                }
                Err(Error::InvalidRecipientAddress | Error::InvalidSenderAddress) => {
                    self.say("501 5.1.3 not an address").await?;
                    continue;
                }
                Err(_) => {
                    self.say("501 5.5.4 syntax error").await?;
                    continue;
                }
            };
            match self.obey(request).await? {
                Step::Done => {}
                Step::Over => return Ok(End::Over),
                Step::StartTls => return Ok(End::StartTls),
            }
        }
    }

    async fn obey(&mut self, request: Request<String>) -> std::io::Result<Step> {
        match request {
            Request::Ehlo { .. } => self.introduce().await?,
            Request::Helo { .. } => self.say(&format!("250 {HOST}")).await?,
            Request::Noop { .. } => self.say("250 2.0.0 fine").await?,
            Request::Rset => {
                self.forget();
                self.say("250 2.0.0 forgotten").await?;
            }
            Request::Auth {
                mechanism,
                initial_response,
            } => self.sign_in(mechanism, &initial_response).await?,
            Request::Mail { .. } if !self.is_encrypted => {
                self.say("530 5.7.0 must issue a STARTTLS command first")
                    .await?;
            }
            Request::Mail { .. } if !self.is_known => {
                self.say("530 5.7.0 authentication required").await?;
            }
            Request::Mail { from } => {
                self.forget();
                self.from = Some(from.address);
                self.say("250 2.1.0 ok").await?;
            }
            Request::Rcpt { .. } if self.from.is_none() => {
                self.say("503 5.5.1 MAIL first").await?;
            }
            Request::Rcpt { .. } if self.to.len() >= RECIPIENTS_COUNT_MAX => {
                self.say("452 4.5.3 too many recipients").await?;
            }
            Request::Rcpt { to } => {
                let fault = self.shared.faults.meet_at(Provider::Smtp, Stage::Recipient);
                if let Some(fault) = fault {
                    let step = self.under(&fault).await?;
                    if fault.kind != Kind::Slow {
                        return Ok(step);
                    }
                }
                self.to.push(to.address);
                self.say("250 2.1.5 ok").await?;
            }
            Request::Data if self.to.is_empty() => self.say("503 5.5.1 RCPT first").await?,
            Request::Data => return self.take().await,
            Request::StartTls if !self.is_encrypted => {
                self.say("220 2.0.0 go ahead").await?;
                return Ok(Step::StartTls);
            }
            Request::Quit => {
                self.say("221 2.0.0 bye").await?;
                return Ok(Step::Over);
            }
            Request::StartTls => self.say("503 5.5.1 TLS is active").await?,
            Request::Lhlo { .. }
            | Request::Bdat { .. }
            | Request::Vrfy { .. }
            | Request::Expn { .. }
            | Request::Help { .. }
            | Request::Etrn { .. }
            | Request::Atrn { .. }
            | Request::Burl { .. } => self.say("502 5.5.1 not here").await?,
        }
        Ok(Step::Done)
    }

    fn forget(&mut self) {
        self.from = None;
        self.to.clear();
    }

    async fn introduce(&mut self) -> std::io::Result<()> {
        let mut hello = EhloResponse::new(HOST);
        hello.size = MAIL_BYTES_MAX;
        hello.capabilities = EXT_8BIT_MIME | EXT_SIZE | EXT_SMTP_UTF8;
        if self.is_encrypted {
            hello.capabilities |= EXT_AUTH;
            hello.auth_mechanisms = AUTH_PLAIN;
        } else {
            hello.capabilities |= EXT_START_TLS;
        }
        let mut written = Vec::new();
        hello.write(&mut written)?;
        let stream = self.stream.get_mut();
        stream.write_all(&written).await?;
        stream.flush().await
    }

    async fn sign_in(&mut self, mechanism: u64, initial: &str) -> std::io::Result<()> {
        if !self.is_encrypted {
            return self.say("538 5.7.11 encryption required").await;
        }
        if mechanism != AUTH_PLAIN {
            return self.say("504 5.5.4 PLAIN only").await;
        }
        let encoded = if initial.is_empty() {
            self.say("334 ").await?;
            String::from_utf8_lossy(&self.line().await?).into_owned()
        } else {
            initial.to_owned()
        };
        let known = &self.shared.credentials;
        let wanted = format!("\0{}\0{}", known.smtp_username, known.smtp_password);
        let given = STANDARD.decode(encoded.trim()).unwrap_or_default();
        self.is_known = given == wanted.as_bytes();
        if self.is_known {
            self.say("235 2.7.0 welcome").await
        } else {
            self.say("535 5.7.8 authentication credentials invalid")
                .await
        }
    }

    /// Takes a mail: everything up to the line with the dot.
    async fn take(&mut self) -> std::io::Result<Step> {
        self.say("354 go ahead").await?;
        let mut mail = Vec::new();
        loop {
            let line = self.line().await?;
            match line.strip_prefix(b".") {
                Some(b"\r\n") => break,
                _ if line.is_empty() => return Ok(Step::Over),
                Some(unstuffed) => mail.extend_from_slice(unstuffed),
                None => mail.extend_from_slice(&line),
            }
            if mail.len() > MAIL_BYTES_MAX {
                self.say("552 5.3.4 too large").await?;
                return Ok(Step::Over);
            }
        }
        let fault = self.shared.faults.meet_at(Provider::Smtp, Stage::Message);
        if let Some(fault) = fault {
            if fault.kind == Kind::AcceptThenHang {
                self.keep(&mail);
            }
            let step = self.under(&fault).await?;
            if fault.kind != Kind::Slow {
                return Ok(step);
            }
        }
        let answer = match self.keep(&mail) {
            Some(id) => format!("250 2.0.0 queued as {id}"),
            None => "554 5.6.0 not a mail".to_owned(),
        };
        self.forget();
        self.say(&answer).await?;
        Ok(Step::Done)
    }

    /// Keeps a mail, once per recipient; its id.
    fn keep(&self, mail: &[u8]) -> Option<String> {
        let texts = mime::texts(mail).ok()?;
        let queue_id = uuid::Uuid::now_v7().simple().to_string();
        let message = |to: &String| Message {
            id: texts.message_id.clone().unwrap_or_else(|| queue_id.clone()),
            provider: Provider::Smtp,
            channel: Channel::Email,
            to: to.clone(),
            from: self.from.clone().unwrap_or_default(),
            subject: texts.subject.clone(),
            text: texts.text.clone(),
            html: texts.html.clone(),
            event_id: texts.event_id.clone(),
            received_at: OffsetDateTime::now_utc(),
        };
        self.shared.kept.keep(self.to.iter().map(message).collect());
        Some(queue_id)
    }

    /// What a fault makes of this step.
    async fn under(&mut self, fault: &Fault) -> std::io::Result<Step> {
        match fault.kind {
            Kind::Status => {
                let status = fault.status.unwrap_or(451);
                let enhanced = match (fault.at.unwrap_or_default(), status) {
                    (Stage::Recipient, 550) => "5.1.1".to_owned(),
                    (Stage::Connect | Stage::Recipient | Stage::Message, _) => {
                        format!("{}.0.0", status / 100)
                    }
                };
                self.say(&format!("{status} {enhanced} as ordered")).await?;
                self.forget();
                // At the door, whoever is not wanted is sent away.
                Ok(match fault.at.unwrap_or_default() {
                    Stage::Connect => Step::Over,
                    Stage::Recipient | Stage::Message => Step::Done,
                })
            }
            Kind::Reset => Ok(Step::Over),
            Kind::Hang | Kind::AcceptThenHang => {
                tokio::time::sleep(fault.delay()).await;
                Ok(Step::Over)
            }
            Kind::Slow => {
                tokio::time::sleep(fault.delay()).await;
                Ok(Step::Done)
            }
        }
    }
}
