//! SMTP submission (RFC 6409) over TLS: any server that takes mail for others.
//!
//! One connection per mail, spoken step by step, because the step says what became of a mail when the connection
//! breaks: before its content went out it was certainly not taken, afterwards nobody knows.

use std::time::Duration;

use events::ids::EventId;
use lettre::{
    Address, Message,
    address::AddressError,
    message::{
        Mailbox, MultiPart,
        header::{HeaderName, HeaderValue},
    },
    transport::smtp::{
        Error,
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters},
        commands::{Data, Mail as MailFrom, Rcpt},
        extension::{ClientId, Extension, MailParameter},
        response::{Code, Severity},
    },
};
use runtime::trace::{self, Span, SpanKind};
use tokio::time::timeout;

use super::{Bounds, Verdict};
use crate::{
    react::Channel,
    settings::{Encryption, SmtpUrl},
    texts::Mail,
};

/// Its name, as in the settings, the ledger, the metrics and the spans.
pub const NAME: &str = "smtp";
/// How long is waited for the goodbye of a server that has taken a mail.
const QUIT_TIMEOUT: Duration = Duration::from_secs(2);

/// The enhanced statuses 5.x.y (RFC 3463, RFC 7505) that are about the recipient's address or box, as (x, y). 5.1.7 and
/// 5.1.8 are about the sender's.
const RECIPIENT_STATUSES: [(u16, u16); 9] = [
    (1, 0),
    (1, 1),
    (1, 2),
    (1, 3),
    (1, 4),
    (1, 6),
    (1, 10),
    (2, 1),
    (2, 2),
];
/// The codes that are about the recipient when it was named and they come without an enhanced status.
const RECIPIENT_CODES: [u16; 3] = [550, 551, 553];

/// A mail server.
#[derive(Clone)]
pub struct Smtp {
    bounds: Bounds,
    url: SmtpUrl,
    tls: Option<TlsParameters>,
    hello: ClientId,
    from: Address,
}

/// Why mails cannot be sent this way at all.
#[derive(Debug, thiserror::Error)]
pub enum SmtpError {
    /// Mails cannot come from there.
    #[error("MAIL_FROM is no e-mail address: {0}")]
    From(#[from] AddressError),
    /// The server's certificate could not be checked.
    #[error("TLS for SMTP_URL cannot be set up: {0}")]
    Tls(#[from] Error),
}

/// How far a conversation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Connecting, greeting, TLS, signing in, naming the sender.
    Opening,
    /// Naming the recipient.
    Recipient,
    /// The recipient was taken, and the content is announced.
    Announcing,
    /// The content is on its way, or was answered.
    Content,
}

impl Smtp {
    /// The server at `url`; mails come from the address `from`. With `ca_pem` only certificates that these have
    /// signed are trusted, otherwise those of the public authorities.
    ///
    /// # Errors
    /// When `from` is no address or the certificates cannot be read.
    pub fn new(
        bounds: Bounds,
        url: SmtpUrl,
        ca_pem: Option<&[u8]>,
        from: &str,
    ) -> Result<Self, SmtpError> {
        let from: Address = from.parse()?;
        let tls = match url.encryption {
            Encryption::None => None,
            Encryption::StartTls | Encryption::Implicit => {
                let mut builder = TlsParameters::builder(url.host.clone());
                if let Some(pem) = ca_pem {
                    builder = builder
                        .certificate_store(CertificateStore::None)
                        .add_root_certificate(Certificate::from_pem(pem)?);
                }
                Some(builder.build()?)
            }
        };
        Ok(Self {
            bounds,
            url,
            tls,
            hello: ClientId::Domain(from.domain().to_owned()),
            from,
        })
    }

    /// Sends one mail to the address `to`, which names the event it is about.
    pub async fn send(&self, to: &str, mail: &Mail, event_id: EventId) -> Verdict {
        let message_id = message_id(event_id, self.from.domain());
        let Ok(to) = to.parse::<Address>() else {
            return Verdict::Refused("cannot be given this address".to_owned());
        };
        let Ok(message) = self.message(to.clone(), mail, event_id, &message_id) else {
            return Verdict::Refused("cannot be given this mail".to_owned());
        };
        let content = message.formatted();
        let mut step = Step::Opening;
        let conversation = Box::pin(self.converse(to, &content, &mut step));
        let name = || format!("MAIL {NAME}");
        let mut span =
            trace::current().and_then(|at| Span::below(Some(at), name(), SpanKind::Client));
        let verdict = match timeout(self.bounds.timeout, conversation).await {
            Ok(Ok(())) => Verdict::Taken(Some(message_id)),
            Ok(Err(error)) => meaning(step, &error),
            Err(_) => without_answer(step, "gave no answer in time"),
        };
        if let Some(span) = &mut span {
            self.describe(span, &verdict);
        }
        verdict
    }

    /// What a span says about a conversation.
    fn describe(&self, span: &mut Span, verdict: &Verdict) {
        span.set("peer.service", NAME);
        span.set("server.address", self.url.host.clone());
        span.set("server.port", i64::from(self.url.port));
        match verdict {
            Verdict::Taken(_) => {}
            Verdict::Unable { .. } | Verdict::Unknown(_) | Verdict::Refused(_) => {
                span.fail(verdict.name());
            }
        }
    }

    fn message(
        &self,
        to: Address,
        mail: &Mail,
        event_id: EventId,
        message_id: &str,
    ) -> Result<Message, lettre::error::Error> {
        let header = |name: &'static str, value: String| {
            HeaderValue::new(HeaderName::new_from_ascii_str(name), value)
        };
        Message::builder()
            .from(Mailbox::new(None, self.from.clone()))
            .to(Mailbox::new(None, to))
            .subject(&mail.subject)
            .message_id(Some(message_id.to_owned()))
            .raw_header(header("X-Event-Id", event_id.to_string()))
            .raw_header(header("Auto-Submitted", "auto-generated".to_owned()))
            .multipart(MultiPart::alternative_plain_html(
                mail.text.clone(),
                mail.html.clone(),
            ))
    }

    async fn converse(&self, to: Address, content: &[u8], step: &mut Step) -> Result<(), Error> {
        let mut connection = self.connect().await?;
        let is_utf8 = !to.to_string().is_ascii()
            && connection
                .server_info()
                .supports_feature(Extension::SmtpUtfEight);
        let parameters = if is_utf8 {
            vec![MailParameter::SmtpUtfEight]
        } else {
            Vec::new()
        };
        connection
            .command(MailFrom::new(Some(self.from.clone()), parameters))
            .await?;
        *step = Step::Recipient;
        connection.command(Rcpt::new(to, Vec::new())).await?;
        *step = Step::Announcing;
        connection.command(Data).await?;
        *step = Step::Content;
        connection.message(content).await?;
        // The mail is taken; what happens to the connection changes nothing about that.
        tokio::spawn(async move { timeout(QUIT_TIMEOUT, connection.abort()).await });
        Ok(())
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, Error> {
        let at_once = self
            .tls
            .clone()
            .filter(|_| self.url.encryption == Encryption::Implicit);
        let mut connection = AsyncSmtpConnection::connect_tokio1(
            (self.url.host.as_str(), self.url.port),
            Some(self.bounds.connect_timeout()),
            &self.hello,
            at_once,
            None,
        )
        .await?;
        if self.url.encryption == Encryption::StartTls
            && let Some(tls) = &self.tls
        {
            connection.starttls(tls.clone(), &self.hello).await?;
        }
        if let Some((user, password)) = &self.url.credentials {
            let credentials = Credentials::new(user.clone(), password.expose().to_owned());
            connection.auth(DEFAULT_MECHANISMS, &credentials).await?;
        }
        Ok(connection)
    }
}

/// The same for every attempt, so that a mail program can tell a mail that was sent twice.
fn message_id(event_id: EventId, domain: &str) -> String {
    format!("<{}.{event_id}@{domain}>", Channel::Email.name())
}

/// What a failed step means. The server's sentences stay out: they may repeat the address.
fn meaning(step: Step, error: &Error) -> Verdict {
    let Some(code) = error.status() else {
        return without_answer(step, "broke the connection, or was not understood");
    };
    let text = std::error::Error::source(error).map(ToString::to_string);
    answered(step, code, &text.unwrap_or_default())
}

/// What an answer other than yes means. Quota, policy and blocked senders are 5yz as well: only what is certainly
/// about the recipient would be refused by others too.
fn answered(step: Step, code: Code, text: &str) -> Verdict {
    let status = enhanced_status(code, text);
    let is_of_the_recipient = match (step, status) {
        (Step::Opening, _) => false,
        (Step::Recipient | Step::Announcing | Step::Content, Some(status)) => {
            RECIPIENT_STATUSES.contains(&status)
        }
        (Step::Recipient, None) => RECIPIENT_CODES.contains(&code.into()),
        (Step::Announcing | Step::Content, None) => false,
    };
    let reason = match status {
        Some((subject, detail)) => format!("answered {code} 5.{subject}.{detail}"),
        None => format!("answered {code}"),
    };
    if is_of_the_recipient {
        Verdict::Refused(reason)
    } else {
        Verdict::unable(reason)
    }
}

/// Subject and detail of the enhanced status (RFC 3463) that leads the text of a 5yz.
fn enhanced_status(code: Code, text: &str) -> Option<(u16, u16)> {
    if code.severity != Severity::PermanentNegativeCompletion {
        return None;
    }
    let status = text.split_whitespace().next()?.strip_prefix("5.")?;
    let (subject, detail) = status.split_once('.')?;
    Some((subject.parse().ok()?, detail.parse().ok()?))
}

fn without_answer(step: Step, reason: &str) -> Verdict {
    match step {
        Step::Opening | Step::Recipient | Step::Announcing => {
            Verdict::unable(format!("{reason}, before the mail went out"))
        }
        Step::Content => Verdict::Unknown(reason.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use lettre::transport::smtp::response::Response;
    use uuid::Uuid;

    use super::*;

    const EVENT: EventId = EventId(Uuid::from_u128(0xE));

    fn smtp() -> Smtp {
        let bounds = Bounds {
            timeout: Duration::from_secs(1),
            answer_bytes_max: 0,
        };
        let url = "smtps://127.0.0.1".parse().unwrap();
        Smtp::new(bounds, url, None, "shop@example.com").unwrap()
    }

    fn written(subject: &str) -> String {
        let mail = Mail {
            subject: subject.to_owned(),
            text: "Guten Tag".to_owned(),
            html: "<p>Guten Tag</p>".to_owned(),
        };
        let to = "ada@example.com".parse().unwrap();
        let message = smtp().message(to, &mail, EVENT, &message_id(EVENT, "example.com"));
        String::from_utf8(message.unwrap().formatted()).unwrap()
    }

    #[test]
    fn a_mail_names_its_event_and_is_the_same_every_time() {
        let written = written("Hello");
        for header in [
            "X-Event-Id: 00000000-0000-0000-0000-00000000000e\r\n",
            "Message-ID: <email.00000000-0000-0000-0000-00000000000e@example.com>\r\n",
            "From: shop@example.com\r\n",
            "To: ada@example.com\r\n",
        ] {
            assert!(written.contains(header), "{header} {written}");
        }
    }

    #[test]
    fn no_subject_makes_a_header() {
        let written = written("Hello\r\nBcc: everybody@example.com\r\n\r\nbody");
        let head = written.split("\r\n\r\n").next().unwrap();
        assert!(!head.contains("\r\nBcc:"), "{written}");
        assert!("a@example.com\r\nBcc: x".parse::<Address>().is_err());
    }

    #[test]
    fn only_what_is_about_the_recipient_is_refused() {
        use Step::{Announcing, Content, Opening, Recipient};
        for (step, answer, is_refused) in [
            (Recipient, "550 5.1.1 <ada@example.com>: no such user", true),
            (Announcing, "550 5.1.1 no such user", true),
            (Content, "550 5.1.10 null MX", true),
            (Content, "550 5.2.1 disabled", true),
            (Recipient, "552 5.2.2 mailbox full", true),
            (Recipient, "550 no such user", true),
            (Recipient, "551 not here", true),
            (Recipient, "553 what is this", true),
            (Recipient, "550 5.1.8 bad outbound sender", false),
            (Recipient, "550 5.1.90 daily limit for recipients", false),
            (Recipient, "550 5.4.5 daily sending quota exceeded", false),
            (Recipient, "554 5.7.1 relay access denied", false),
            (Recipient, "550 5.7.1 blocked", false),
            (Recipient, "550 5.0.0 no", false),
            (Recipient, "554 no", false),
            (Recipient, "450 5.1.1 later", false),
            (Announcing, "550 no", false),
            (Content, "554 5.2.252 SendAsDenied", false),
            (Content, "550 5.7.60 cannot send as", false),
            (Content, "550 no", false),
            (Content, "554 spam", false),
            (Opening, "550 5.1.1 no", false),
            (Opening, "550 no", false),
        ] {
            let response: Response = format!("{answer}\r\n").parse().unwrap();
            let text = response.first_line().unwrap();
            let verdict = answered(step, response.code(), text);
            let shown = format!("{verdict:?}");
            let refused = matches!(verdict, Verdict::Refused(_));
            assert_eq!(refused, is_refused, "{step:?} {answer} {shown}");
            for word in ["ada", "user", "quota", "<"] {
                assert!(!shown.contains(word), "{shown}");
            }
        }
        let code = "554 no\r\n".parse::<Response>().unwrap().code();
        let told = answered(Step::Recipient, code, "5.7.1 relay access denied");
        assert_eq!(told, Verdict::unable("answered 554 5.7.1"));
    }

    #[test]
    fn without_an_answer_it_counts_whether_the_mail_went_out() {
        let reason = "gave no answer in time";
        for step in [Step::Opening, Step::Recipient, Step::Announcing] {
            assert!(matches!(
                without_answer(step, reason),
                Verdict::Unable { .. }
            ));
        }
        assert_eq!(
            without_answer(Step::Content, reason),
            Verdict::Unknown(reason.to_owned())
        );
    }
}
