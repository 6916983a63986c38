//! What a problem is in gRPC: the one place where problems become statuses.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status, metadata::MetadataValue};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::problem::{FieldError, Kind, NOT_OWNER, Problem};

/// Whose reasons they are (`google.rpc.ErrorInfo`).
const DOMAIN: &str = "orderlog";
/// Details go where metadata goes, and clients take 8 KiB of that and no more; base64 makes a third more of them.
const VIOLATIONS_BYTES_MAX: usize = 4 * 1024;

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        let kind = problem.kind();
        let mut metadata = HashMap::from([("problem".to_owned(), kind.name.to_owned())]);
        if let Some(rule) = problem.rule() {
            metadata.insert("rule".into(), rule.into());
        }
        if let Some(version) = problem.current_version() {
            metadata.insert("current_version".into(), version.to_string());
        }
        let violations = violations(problem.errors());
        let left_out = problem.errors().len() - violations.len();
        if left_out > 0 {
            metadata.insert("errors_left_out".into(), left_out.to_string());
        }
        let mut details = ErrorDetails::with_error_info(reason(kind), DOMAIN, metadata);
        if !violations.is_empty() {
            details.set_bad_request(violations);
        }
        if let Some(seconds) = problem.retry_after_s() {
            details.set_retry_info(Some(Duration::from_secs(seconds.into())));
        }
        let mut status = Self::with_error_details(code(kind), problem.detail(), details);
        if problem.asks_another_node() {
            let metadata = status.metadata_mut();
            metadata.insert(NOT_OWNER, MetadataValue::from_static("1"));
        }
        status
    }
}

/// The code that a problem is answered with. Clients repeat UNAVAILABLE without asking, so only what was not done may
/// be that; DEADLINE_EXCEEDED says that it may have been done.
fn code(kind: &Kind) -> Code {
    match kind.name {
        "unreadable"
        | "invalid"
        | "invalid-idempotency-key"
        | "invalid-consistency-token"
        | "invalid-cursor"
        | "precondition-required"
        | "unsupported-media-type" => Code::InvalidArgument,
        "not-authenticated" => Code::Unauthenticated,
        "not-allowed" => Code::PermissionDenied,
        "not-found" => Code::NotFound,
        "method-not-allowed" => Code::Unimplemented,
        "rule-broken" | "idempotency-key-reused" => Code::FailedPrecondition,
        "address-taken" => Code::AlreadyExists,
        "stale-version" | "idempotency-key-in-flight" => Code::Aborted,
        "too-large" | "too-many-requests" => Code::ResourceExhausted,
        "unavailable" | "not-yet-consistent" => Code::Unavailable,
        "outcome-unknown" => Code::DeadlineExceeded,
        // A test goes through all of them.
        _ => Code::Unknown,
    }
}

/// The problem's name as `google.rpc.ErrorInfo` wants it: `STALE_VERSION`.
fn reason(kind: &Kind) -> String {
    kind.name.to_uppercase().replace('-', "_")
}

/// The wrong values, as many as there is room for.
fn violations(errors: &[FieldError]) -> Vec<FieldViolation> {
    let mut room = VIOLATIONS_BYTES_MAX;
    errors
        .iter()
        .map_while(|error| {
            let bytes = error.pointer.len() + error.message.len() + error.code.len();
            room = room.checked_sub(bytes)?;
            let mut violation = FieldViolation::new(&error.pointer, &error.message);
            violation.reason = error.code.to_uppercase();
            Some(violation)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_has_its_code() {
        for kind in Kind::ALL {
            assert_ne!(code(kind), Code::Unknown, "{}", kind.name);
        }
    }

    #[test]
    fn a_problem_keeps_its_name_and_members() {
        let status = Status::from(Problem::stale_version(7));
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(status.code(), Code::Aborted);
        assert_eq!((&*info.reason, &*info.domain), ("STALE_VERSION", DOMAIN));
        assert_eq!(info.metadata["current_version"], "7");
        assert_eq!(info.metadata["problem"], "stale-version");
        let status = Status::from(Problem::rule_broken("completed_is_final", "no"));
        let details = status.get_error_details();
        assert_eq!(
            details.error_info().unwrap().metadata["rule"],
            "completed_is_final"
        );
    }

    #[test]
    fn what_may_have_been_done_is_not_repeated_without_asking() {
        let status = Status::from(Problem::outcome_unknown(2));
        assert_eq!(status.code(), Code::DeadlineExceeded);
        let pause = status.get_error_details().retry_info().unwrap().retry_delay;
        assert_eq!(pause, Some(Duration::from_secs(2)));
    }

    #[test]
    fn only_a_shard_of_another_node_is_asked_for_elsewhere() {
        let asks_another = |problem| Status::from(problem).metadata().contains_key(NOT_OWNER);
        assert!(asks_another(Problem::not_owner(1)));
        assert!(!asks_another(Problem::unavailable("away", 1)));
        assert!(!asks_another(Problem::outcome_unknown(1)));
    }

    #[test]
    fn errors_without_end_do_not_burst_the_metadata() {
        let error = |index| FieldError {
            pointer: format!("/lines/{index}/sku"),
            code: "missing",
            message: "must be given".into(),
        };
        let status = Status::from(Problem::invalid((0..1_000).map(error).collect()));
        let details = status.get_error_details();
        let listed = details.bad_request().unwrap().field_violations.len();
        let left_out = &details.error_info().unwrap().metadata["errors_left_out"];
        assert_eq!(listed + left_out.parse::<usize>().unwrap(), 1_000);
        assert!(
            status.details().len() < 6 * 1024,
            "{}",
            status.details().len()
        );
    }
}
