//! What a call says besides what it asks for: who sends it, under which name, and how long it waits.

use std::{future::Future, time::Duration};

use events::{TraceContext, ids::CorrelationId};
use tokio::time::{Instant, timeout_at};
use tonic::{
    Request,
    codegen::http::{HeaderMap, header::AUTHORIZATION},
    metadata::MetadataMap,
};
use tracing::Instrument;
use uuid::Uuid;

use crate::{
    auth::{Caller, TokenVerifier, bearer_token},
    problem::Problem,
    request_id::TRACEPARENT,
    trace,
};

/// No call takes longer, whatever deadline it names: longer than a query may wait, and than a command does.
const CALL_WITHIN_MAX: Duration = Duration::from_secs(40);
/// Metadata: the correlation id, in both directions.
pub(super) const REQUEST_ID: &str = "x-request-id";
const DEADLINE: &str = "grpc-timeout";
/// As many as the protocol allows.
const DEADLINE_DIGITS_MAX: usize = 8;
const RETRY_AFTER_S: u32 = 1;

/// A call under way.
#[derive(Debug, Clone)]
pub struct Call {
    /// The intent across all that it causes: its `x-request-id` where that is a UUID, else made for it.
    pub correlation_id: CorrelationId,
    /// The caller's place in a trace, where it is well-formed.
    pub traceparent: Option<TraceContext>,
    pub(super) deadline: Instant,
}

impl Call {
    /// What its metadata says.
    pub(super) fn begun(metadata: &HeaderMap) -> Self {
        let text = |name: &str| metadata.get(name).and_then(|value| value.to_str().ok());
        let sent = text(REQUEST_ID).and_then(|id| Uuid::try_parse(id).ok());
        let wanted = text(DEADLINE).and_then(duration);
        let traceparent = text(TRACEPARENT).and_then(|text| text.parse().ok());
        Self {
            correlation_id: CorrelationId(sent.unwrap_or_else(Uuid::now_v7)),
            traceparent,
            deadline: Instant::now() + wanted.unwrap_or(CALL_WITHIN_MAX).min(CALL_WITHIN_MAX),
        }
    }

    /// The call that a request came with.
    pub fn of<T>(request: &Request<T>) -> Self {
        let known = request.extensions().get::<Self>().cloned();
        known.unwrap_or_else(|| Self::begun(&HeaderMap::new()))
    }

    /// Carries a command out, and waits for it until the deadline. It goes on when the deadline passes or the caller
    /// goes away: what was begun is finished, and answered as `outcome-unknown`.
    pub async fn carry_out<T: Send + 'static>(
        &self,
        command: impl Future<Output = Result<T, Problem>> + Send + 'static,
    ) -> Result<T, Problem> {
        let task = tokio::spawn(trace::within(trace::current(), command).in_current_span());
        match timeout_at(self.deadline, task).await {
            Ok(Ok(outcome)) => outcome,
            // It panicked, or nobody waits any more.
            Ok(Err(_)) | Err(_) => Err(Problem::outcome_unknown(RETRY_AFTER_S)),
        }
    }
}

/// How long the caller waits for the answer, no longer than any call may take.
pub fn deadline(metadata: &MetadataMap) -> Duration {
    let wanted = text(metadata, DEADLINE).and_then(duration);
    wanted.unwrap_or(CALL_WITHIN_MAX).min(CALL_WITHIN_MAX)
}

/// The caller's place in a trace, where it is well-formed.
pub fn traceparent(metadata: &MetadataMap) -> Option<TraceContext> {
    text(metadata, TRACEPARENT)?.parse().ok()
}

/// The token that a call carries.
pub fn bearer(metadata: &MetadataMap) -> Option<&str> {
    let values = metadata.get_all(AUTHORIZATION.as_str());
    bearer_token(values.iter().map(|value| value.to_str().ok()))
}

fn text<'m>(metadata: &'m MetadataMap, name: &str) -> Option<&'m str> {
    metadata.get(name)?.to_str().ok()
}

impl Caller {
    /// The caller that the metadata of a call names.
    pub fn of_call<T>(request: &Request<T>, verifier: &TokenVerifier) -> Result<Self, Problem> {
        let values = request.metadata().get_all(AUTHORIZATION.as_str());
        verifier.caller(values.iter().map(|value| value.to_str().ok()))
    }
}

/// `grpc-timeout`: digits and a unit.
fn duration(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let good = digits.len() <= DEADLINE_DIGITS_MAX && digits.bytes().all(|it| it.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| good)?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3_600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_digits_and_a_unit() {
        for (text, expected) in [
            ("2S", Some(Duration::from_secs(2))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3_600))),
            ("250m", Some(Duration::from_millis(250))),
            ("3M", Some(Duration::from_secs(180))),
            ("7u", Some(Duration::from_micros(7))),
            ("9n", Some(Duration::from_nanos(9))),
            ("", None),
            ("S", None),
            ("+2S", None),
            ("2", None),
            ("2s", None),
            ("999999999S", None),
            ("2ü", None),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
    }

    #[tokio::test]
    async fn a_command_is_finished_also_when_nobody_waits_any_more() {
        let mut metadata = HeaderMap::new();
        metadata.insert(DEADLINE, "1m".parse().unwrap());
        let call = Call::begun(&metadata);
        let (go_on, wait) = tokio::sync::oneshot::channel();
        let (finished, is_finished) = tokio::sync::oneshot::channel();
        let command = async move {
            wait.await.ok();
            finished.send(()).ok();
            Ok(())
        };
        let problem = call.carry_out(command).await.unwrap_err();
        assert_eq!(problem.kind().name, "outcome-unknown");
        go_on.send(()).unwrap();
        is_finished.await.unwrap();
    }
}
