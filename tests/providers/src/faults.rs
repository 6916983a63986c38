//! Failing on request: what goes wrong, for whom, how often.

use std::any::Any;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use actix_web::dev::Extensions;
use actix_web::http::StatusCode;
use actix_web::http::header::{LOCATION, RETRY_AFTER};
use actix_web::{HttpRequest, HttpResponse};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::kept::Provider;

/// Most faults that wait at once.
pub const FAULTS_COUNT_MAX: usize = 64;
/// Longest a request is kept without an answer, or delayed, in milliseconds.
pub const HANG_MS_MAX: u64 = 300_000;
/// How long a request is kept without an answer unless the fault says otherwise, in milliseconds.
pub const HANG_MS_DEFAULT: u64 = 120_000;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Answers with `status` (500 unless given, by SMTP 451) and `retry_after`; nothing is kept.
    Status,
    /// Never answers; nothing is kept. The connection is closed after `delay_ms`.
    Hang,
    /// Closes the connection without an answer; nothing is kept.
    Reset,
    /// Keeps the message and never answers. The connection is closed after `delay_ms`.
    AcceptThenHang,
    /// Answers as usual, but only after `delay_ms`.
    Slow,
}

/// Where in an SMTP session a failure sets in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// When a client connects.
    Connect,
    /// When the recipient is named.
    Recipient,
    /// When the whole mail is there.
    #[default]
    Message,
}

/// A failure as ordered by `POST /faults`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Who fails.
    pub provider: Provider,
    /// Where it sets in, [`Stage::Message`] unless given; only of SMTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Stage>,
    /// What goes wrong.
    pub kind: Kind,
    /// The status to answer with, 200 to 599, by SMTP 400 to 599; only of [`Kind::Status`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The `Retry-After` to answer with, in seconds; only of [`Kind::Status`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u32>,
    /// How long to delay or to keep hanging, in milliseconds, at most [`HANG_MS_MAX`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// How many requests fail; absent: all until the faults are cleared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
}

impl Fault {
    /// What is wrong with the order, if anything.
    fn complaint(&self) -> Option<String> {
        if let Some(complaint) = self.complaint_about_smtp() {
            return Some(complaint);
        }
        let only_status = self.status.is_some() || self.retry_after.is_some();
        if only_status && self.kind != Kind::Status {
            return Some("status and retry_after belong to the kind status".to_owned());
        }
        if self
            .status
            .is_some_and(|status| !(200..600).contains(&status))
        {
            return Some("status must be between 200 and 599".to_owned());
        }
        if self.delay_ms.is_some_and(|delay| delay > HANG_MS_MAX) {
            return Some(format!("delay_ms must be at most {HANG_MS_MAX}"));
        }
        if self.delay_ms.is_some() && matches!(self.kind, Kind::Status | Kind::Reset) {
            return Some(
                "delay_ms belongs to the kinds hang, accept_then_hang and slow".to_owned(),
            );
        }
        if self.delay_ms.is_none() && self.kind == Kind::Slow {
            return Some("slow needs delay_ms".to_owned());
        }
        if self.times == Some(0) {
            return Some("times must be at least 1".to_owned());
        }
        None
    }

    fn complaint_about_smtp(&self) -> Option<String> {
        if self.provider != Provider::Smtp {
            return self
                .at
                .map(|_| "at belongs to the provider smtp".to_owned());
        }
        if self.retry_after.is_some() {
            return Some("smtp has no retry_after".to_owned());
        }
        if self.status.is_some_and(|status| status < 400) {
            return Some("status must be between 400 and 599".to_owned());
        }
        let at_the_end = self.at.unwrap_or_default() == Stage::Message;
        (self.kind == Kind::AcceptThenHang && !at_the_end)
            .then(|| "accept_then_hang needs the whole mail".to_owned())
    }

    /// How long it delays or hangs.
    #[must_use]
    pub fn delay(&self) -> Duration {
        Duration::from_millis(self.delay_ms.unwrap_or(HANG_MS_DEFAULT))
    }
}

/// A fault that waits for requests or has met some.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ordered {
    /// The fault as ordered.
    #[serde(flatten)]
    pub fault: Fault,
    /// How many requests it has met.
    pub met: u32,
}

/// The faults ordered, oldest first. Per request the oldest one with requests left applies.
#[derive(Default)]
pub struct Faults(Mutex<Vec<Ordered>>);

impl Faults {
    /// Adds a fault behind the ones already there.
    ///
    /// # Errors
    /// A sentence saying what is wrong with the order.
    pub fn order(&self, fault: Fault) -> Result<Ordered, String> {
        if let Some(complaint) = fault.complaint() {
            return Err(complaint);
        }
        let mut ordered = self.0.lock();
        ordered.retain(|o| o.fault.times.is_none_or(|times| o.met < times));
        if ordered.len() >= FAULTS_COUNT_MAX {
            return Err(format!(
                "at most {FAULTS_COUNT_MAX} faults may wait; DELETE /faults first"
            ));
        }
        let item = Ordered { fault, met: 0 };
        ordered.push(item.clone());
        Ok(item)
    }

    /// The fault that applies to this request, which counts as met.
    #[must_use]
    pub fn meet(&self, provider: Provider) -> Option<Fault> {
        self.meet_at(provider, Stage::default())
    }

    /// The fault that applies to this stage of a session, which counts as met.
    #[must_use]
    pub fn meet_at(&self, provider: Provider, stage: Stage) -> Option<Fault> {
        let mut ordered = self.0.lock();
        let next = ordered.iter_mut().find(|o| {
            o.fault.provider == provider
                && o.fault.at.unwrap_or_default() == stage
                && o.fault.times.is_none_or(|times| o.met < times)
        })?;
        next.met = next.met.saturating_add(1);
        Some(next.fault.clone())
    }

    /// All faults ordered since the last [`Faults::clear`] that still wait or were the latest.
    #[must_use]
    pub fn list(&self) -> Vec<Ordered> {
        self.0.lock().clone()
    }

    /// Forgets all faults.
    pub fn clear(&self) {
        self.0.lock().clear();
    }
}

/// Answers a provider's request under a fault, if there is one.
///
/// `handle` does what the provider does, `refuse` gives a status the provider's error body.
pub async fn under(
    fault: Option<Fault>,
    request: &HttpRequest,
    handle: impl FnOnce() -> HttpResponse,
    refuse: impl FnOnce(StatusCode) -> HttpResponse,
) -> HttpResponse {
    let Some(fault) = fault else {
        return handle();
    };
    match fault.kind {
        Kind::Status => refusal(&fault, request, refuse),
        Kind::Reset => close(request),
        Kind::Hang => {
            tokio::time::sleep(fault.delay()).await;
            close(request)
        }
        Kind::AcceptThenHang => {
            let answer = handle();
            if !answer.status().is_success() {
                return answer;
            }
            tokio::time::sleep(fault.delay()).await;
            close(request)
        }
        Kind::Slow => {
            tokio::time::sleep(fault.delay()).await;
            handle()
        }
    }
}

fn refusal(
    fault: &Fault,
    request: &HttpRequest,
    refuse: impl FnOnce(StatusCode) -> HttpResponse,
) -> HttpResponse {
    let status = fault
        .status
        .and_then(|status| StatusCode::from_u16(status).ok())
        .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = refuse(status);
    if let Some(seconds) = fault.retry_after {
        answer.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    if status.is_redirection()
        && let Ok(here) = request.uri().to_string().parse()
    {
        answer.headers_mut().insert(LOCATION, here);
    }
    answer
}

/// A second handle on the connection a request came through.
struct Connection(TcpStream);

/// Remembers the connection so that [`under`] can close it without an answer.
pub fn remember_connection(io: &dyn Any, data: &mut Extensions) {
    if let Some(stream) = io.downcast_ref::<actix_web::rt::net::TcpStream>()
        && let Ok(second) = stream.as_fd().try_clone_to_owned()
    {
        data.insert(Connection(TcpStream::from(second)));
    }
}

/// Closes the connection; the response returned reaches nobody.
fn close(request: &HttpRequest) -> HttpResponse {
    if let Some(connection) = request.conn_data::<Connection>() {
        let closed = connection.0.shutdown(Shutdown::Both);
        if let Err(error) = closed {
            tracing::debug!(%error, "the connection was already closed");
        }
    } else {
        tracing::error!("the connection of the request is not known, so it is answered after all");
    }
    HttpResponse::InternalServerError().force_close().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(provider: Provider, times: Option<u32>) -> Fault {
        let (status, retry_after, delay_ms) = (None, None, None);
        Fault {
            provider,
            at: None,
            kind: Kind::Status,
            status,
            retry_after,
            delay_ms,
            times,
        }
    }

    #[test]
    fn a_fault_meets_as_many_requests_as_ordered_and_only_of_its_provider() {
        let faults = Faults::default();
        faults.order(fault(Provider::Twilio, Some(2))).unwrap();
        assert!(faults.meet(Provider::Sendgrid).is_none());
        assert!(faults.meet(Provider::Twilio).is_some());
        assert!(faults.meet(Provider::Twilio).is_some());
        assert!(faults.meet(Provider::Twilio).is_none());
        assert_eq!(faults.list().first().map(|o| o.met), Some(2));
    }

    #[test]
    fn faults_apply_in_the_order_given_and_until_cleared() {
        let faults = Faults::default();
        faults.order(fault(Provider::Twilio, Some(1))).unwrap();
        let second = Fault {
            kind: Kind::Reset,
            ..fault(Provider::Twilio, None)
        };
        faults.order(second).unwrap();
        let kinds: Vec<_> = (0..3)
            .filter_map(|_| faults.meet(Provider::Twilio))
            .map(|f| f.kind)
            .collect();
        assert_eq!(kinds, [Kind::Status, Kind::Reset, Kind::Reset]);
        faults.clear();
        assert!(faults.meet(Provider::Twilio).is_none());
    }

    #[test]
    fn an_order_that_makes_no_sense_is_refused() {
        let base = fault(Provider::Twilio, None);
        let bad = [
            Fault {
                status: Some(99),
                ..base.clone()
            },
            Fault {
                kind: Kind::Slow,
                ..base.clone()
            },
            Fault {
                kind: Kind::Hang,
                retry_after: Some(1),
                ..base.clone()
            },
            Fault {
                kind: Kind::Hang,
                delay_ms: Some(HANG_MS_MAX + 1),
                ..base.clone()
            },
            Fault {
                delay_ms: Some(1),
                ..base.clone()
            },
            Fault {
                times: Some(0),
                ..base.clone()
            },
        ];
        for order in bad {
            assert!(Faults::default().order(order.clone()).is_err(), "{order:?}");
        }
    }

    #[test]
    fn a_fault_of_smtp_sets_in_where_it_was_ordered() {
        let faults = Faults::default();
        let at = |at| Fault {
            at,
            ..fault(Provider::Smtp, None)
        };
        faults.order(at(Some(Stage::Recipient))).unwrap();
        assert!(faults.meet_at(Provider::Smtp, Stage::Connect).is_none());
        assert!(faults.meet_at(Provider::Smtp, Stage::Recipient).is_some());
        assert!(faults.meet(Provider::Smtp).is_none());
        let bad = [
            Fault {
                status: Some(250),
                ..at(None)
            },
            Fault {
                kind: Kind::AcceptThenHang,
                ..at(Some(Stage::Connect))
            },
            Fault {
                provider: Provider::Mailgun,
                ..at(Some(Stage::Connect))
            },
        ];
        for order in bad {
            assert!(Faults::default().order(order.clone()).is_err(), "{order:?}");
        }
    }

    #[test]
    fn no_more_faults_wait_than_the_limit() {
        let faults = Faults::default();
        for _ in 0..FAULTS_COUNT_MAX {
            faults.order(fault(Provider::Twilio, None)).unwrap();
        }
        assert!(faults.order(fault(Provider::Twilio, None)).is_err());
    }
}
