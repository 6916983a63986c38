//! The edge to the providers: one module per provider; here what they share, from the HTTP client with its
//! bounds to the meaning of an answer. Only here is it known what a provider's status means. Which provider is asked,
//! and who takes over from whom, is the [`route`]'s.

pub mod circuit;
pub mod mailgun;
pub mod route;
pub mod sendgrid;
pub mod smtp;
pub mod twilio;

use std::time::{Duration, SystemTime};

use reqwest::{RequestBuilder, Response, StatusCode, header::RETRY_AFTER};
use runtime::trace::{self, Span, SpanKind};
use time::{OffsetDateTime, format_description::well_known::Rfc2822};

pub use mailgun::Mailgun;
pub use route::{MailProvider, Route, SmsProvider};
pub use sendgrid::SendGrid;
pub use smtp::Smtp;
pub use twilio::Twilio;

/// Longest excerpt of an answer that goes into a reason.
const DETAIL_CHARS_MAX: usize = 200;
/// Most connections to one provider that are kept open while idle.
const IDLE_CONNECTIONS_MAX: usize = 64;
/// A connection must stand within this part of the time of a call: whoever cannot be reached certainly took nothing,
/// and there shall be time left for somebody else.
const CONNECT_PART_OF_TIMEOUT: u32 = 2;

/// The bounds of a call to a provider.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Time for a whole call, from connecting to the last byte of the answer.
    pub timeout: Duration,
    /// Most bytes of an answer that are read.
    pub answer_bytes_max: usize,
}

impl Bounds {
    /// Time for connecting.
    pub fn connect_timeout(&self) -> Duration {
        self.timeout / CONNECT_PART_OF_TIMEOUT
    }
}

/// What a provider made of a message. Reasons are predicates of the provider ("answered 503") without personal data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It took the message; its name for it, where it gave one.
    Taken(Option<String>),
    /// It certainly did not take the message, because of itself or of our account there: another one may.
    Unable {
        /// Why.
        reason: String,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// It may or may not have taken the message.
    Unknown(String),
    /// It did not take the message, because of the message or its recipient: so will all others.
    Refused(String),
}

impl Verdict {
    /// Every name that [`Verdict::name`] gives.
    pub const NAMES: [&'static str; 4] = ["sent", "failed", "unknown", "refused"];

    /// The name, as in the metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Taken(_) => "sent",
            Self::Unable { .. } => "failed",
            Self::Unknown(_) => "unknown",
            Self::Refused(_) => "refused",
        }
    }

    fn unable(reason: impl Into<String>) -> Self {
        Self::Unable {
            reason: reason.into(),
            retry_after: None,
        }
    }
}

/// The HTTP client of all providers: bounded in time, follows no redirects.
///
/// # Errors
/// When no TLS provider is installed.
pub fn client(bounds: Bounds) -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .timeout(bounds.timeout)
        .connect_timeout(bounds.connect_timeout())
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .user_agent(concat!("orderlog-notifier/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// An answer whose status is known; as much of its body as could be read.
struct Answer {
    status: StatusCode,
    message_id: Option<String>,
    retry_after: Option<Duration>,
    body: Vec<u8>,
}

/// Sends a request to a provider; the error is what became of it when there was no answer.
async fn call(
    provider: &'static str,
    request: RequestBuilder,
    bounds: Bounds,
) -> Result<Answer, Verdict> {
    let name = || format!("POST {provider}");
    let mut span = trace::current().and_then(|at| Span::below(Some(at), name(), SpanKind::Client));
    let sent = request.send().await;
    if let Some(span) = &mut span {
        span.set("peer.service", provider);
        span.set("http.request.method", "POST");
        describe(span, &sent);
    }
    let response = sent.map_err(|error| without_answer(&error))?;
    let header = |name: &str| {
        response
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let message_id = header("x-message-id").and_then(reference);
    let retry_after =
        header(RETRY_AFTER.as_str()).and_then(|value| parse_retry_after(value, SystemTime::now()));
    let status = response.status();
    Ok(Answer {
        status,
        message_id,
        retry_after,
        body: read_body(response, bounds.answer_bytes_max).await,
    })
}

/// What a span says about a call. Not the URL: it may name an account.
fn describe(span: &mut Span, sent: &reqwest::Result<Response>) {
    match sent {
        Ok(response) => {
            let status = response.status();
            if let Some(host) = response.url().host_str() {
                span.set("server.address", host.to_owned());
            }
            if let Some(port) = response.url().port_or_known_default() {
                span.set("server.port", i64::from(port));
            }
            span.set("http.response.status_code", i64::from(status.as_u16()));
            if status.is_client_error() || status.is_server_error() {
                span.fail(status.as_u16().to_string());
            }
        }
        Err(error) if error.is_timeout() => span.fail("timeout"),
        Err(error) if error.is_connect() => span.fail("connection_refused"),
        Err(_) => span.fail("connection_broken"),
    }
}

/// The body up to `bytes_max`. One that breaks off, or is too long, is cut: the status has said what matters.
async fn read_body(mut response: Response, bytes_max: usize) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = bytes_max.saturating_sub(body.len());
        body.extend(chunk.iter().take(room));
        if chunk.len() >= room {
            break;
        }
    }
    body
}

/// What became of a request that got no answer. Only one that never left is known not to have been taken.
fn without_answer(error: &reqwest::Error) -> Verdict {
    if error.is_builder() {
        return Verdict::Refused("cannot be asked for this".to_owned());
    }
    if error.is_connect() {
        return Verdict::unable("cannot be reached");
    }
    let reason = if error.is_timeout() {
        "gave no answer in time"
    } else {
        "broke the connection before its answer"
    };
    Verdict::Unknown(reason.to_owned())
}

/// What a status means; `detail` says more about a refusal, without personal data.
fn meaning(answer: &Answer, reference: Option<String>, detail: Option<String>) -> Verdict {
    let status = answer.status;
    if status.is_success() {
        return Verdict::Taken(reference);
    }
    let detail = detail
        .map(|detail| format!(" ({detail})"))
        .unwrap_or_default();
    let reason = format!("answered {}{detail}", status.as_u16());
    if is_of_an_intermediary(status) {
        return Verdict::Unknown(reason);
    }
    if status.is_client_error() && !is_about_us(status) {
        return Verdict::Refused(reason);
    }
    Verdict::Unable {
        reason,
        retry_after: answer.retry_after,
    }
}

/// Whether somebody before the provider says that it got no answer from it, which may have been a yes.
fn is_of_an_intermediary(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT
    )
}

/// Whether a refusal is about our account, our address for the provider or our haste, not about the message.
fn is_about_us(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::UNAUTHORIZED
            | StatusCode::PAYMENT_REQUIRED
            | StatusCode::FORBIDDEN
            | StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS
    )
}

/// `Retry-After` as seconds or as a date.
fn parse_retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    // HTTP dates name their zone GMT, which RFC 2822 knows as an obsolete form.
    let at: SystemTime = OffsetDateTime::parse(value, &Rfc2822).ok()?.into();
    Some(at.duration_since(now).unwrap_or_default())
}

/// A provider's name for a message, if it is one: visible ASCII, not too long.
fn reference(text: &str) -> Option<String> {
    let is_one = !text.is_empty()
        && text.len() <= DETAIL_CHARS_MAX
        && text.bytes().all(|b| b.is_ascii_graphic());
    is_one.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16) -> Answer {
        let status = StatusCode::from_u16(status).unwrap();
        Answer {
            status,
            message_id: None,
            retry_after: Some(Duration::from_secs(7)),
            body: Vec::new(),
        }
    }

    #[test]
    fn statuses_mean_what_they_mean() {
        let taken = Verdict::Taken(None);
        let reason = |status: u16| format!("answered {status}");
        let unable = |status: u16| Verdict::Unable {
            reason: reason(status),
            retry_after: Some(Duration::from_secs(7)),
        };
        let refused = |status: u16| Verdict::Refused(reason(status));
        let unknown = |status: u16| Verdict::Unknown(reason(status));
        for (status, expected) in [
            (200, taken.clone()),
            (201, taken.clone()),
            (202, taken),
            (302, unable(302)),
            (400, refused(400)),
            (401, unable(401)),
            (403, unable(403)),
            (404, unable(404)),
            (408, unable(408)),
            (413, refused(413)),
            (422, refused(422)),
            (429, unable(429)),
            (500, unable(500)),
            (502, unknown(502)),
            (503, unable(503)),
            (504, unknown(504)),
        ] {
            assert_eq!(meaning(&answer(status), None, None), expected, "{status}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (value, seconds) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("Sun, 06 Nov 1994 08:51:37 GMT", Some(120)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
        ] {
            assert_eq!(
                parse_retry_after(value, now),
                seconds.map(Duration::from_secs),
                "{value}"
            );
        }
    }

    #[test]
    fn a_reference_is_short_and_visible() {
        assert_eq!(reference("SM0123"), Some("SM0123".to_owned()));
        for text in ["", "a b", "a\u{0}", &"x".repeat(DETAIL_CHARS_MAX + 1)] {
            assert_eq!(reference(text), None);
        }
    }
}
