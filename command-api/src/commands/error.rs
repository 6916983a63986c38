//! The one place where what went wrong inside becomes a problem outside. Failures of ours are logged here,
//! once; what a client did wrong is not a failure.

use runtime::{data_keys::DataKeyError, problem::Problem, representation::NotShown};

use crate::{identity::IdentityError, shard::Refused};

/// When to come back after a short disturbance.
const RETRY_AFTER_S: u32 = 1;
/// When to come back for the answer of a request that is being worked on.
const IN_FLIGHT_RETRY_AFTER_S: u32 = 1;

/// The problem while the process takes up its work.
pub fn starting() -> Problem {
    Problem::unavailable("the service is starting", RETRY_AFTER_S)
}

/// The problem that a refused command is answered with.
pub fn of_refused(refused: Refused) -> Problem {
    match refused {
        Refused::NotFound => Problem::not_found(),
        Refused::NotAllowed => Problem::not_allowed("your role does not allow this"),
        Refused::Stale { current } => Problem::stale_version(current),
        Refused::Order(rejection) => Problem::rule_broken(rejection.rule(), rejection.to_string()),
        Refused::User(rejection) => Problem::rule_broken(rejection.rule(), rejection.to_string()),
        Refused::AddressTaken => Problem::address_taken(),
        Refused::KeyReused => Problem::idempotency_key_reused(),
        Refused::KeyInFlight => Problem::idempotency_key_in_flight(IN_FLIGHT_RETRY_AFTER_S),
        Refused::Unavailable(why) => {
            tracing::debug!(%why, "unavailable");
            Problem::unavailable(why.to_string(), RETRY_AFTER_S)
        }
        Refused::NotOwner => Problem::not_owner(RETRY_AFTER_S),
        Refused::OutcomeUnknown => {
            tracing::warn!("the outcome of a command is unknown");
            Problem::outcome_unknown(RETRY_AFTER_S)
        }
    }
}

/// The problem when a data key cannot be had before anything was done.
pub fn of_data_key(error: DataKeyError) -> Problem {
    tracing::error!(%error, "no data key");
    Problem::unavailable(
        "the keys that personal data is sealed with cannot be reached",
        RETRY_AFTER_S,
    )
}

/// The problem when the identity tables cannot be used before anything was done.
pub fn of_identity(error: IdentityError) -> Problem {
    match error {
        IdentityError::Busy => Problem::too_many_requests(RETRY_AFTER_S),
        error @ (IdentityError::Unreachable(_) | IdentityError::Broken(_)) => {
            tracing::error!(%error, "identity");
            Problem::unavailable("accounts cannot be checked now", RETRY_AFTER_S)
        }
    }
}

/// The problem when personal data cannot be sealed.
pub fn not_sealed() -> Problem {
    tracing::error!("personal data could not be sealed");
    Problem::unavailable("personal data cannot be sealed now", RETRY_AFTER_S)
}

/// The problem when a command was carried out but its outcome cannot be shown: sent again, it changes
/// nothing more and is answered.
pub fn not_shown(error: &dyn std::error::Error) -> Problem {
    tracing::error!(%error, "what was done cannot be shown");
    Problem::outcome_unknown(RETRY_AFTER_S)
}

/// [`not_shown`] for stored data.
pub fn of_not_shown(error: NotShown) -> Problem {
    not_shown(&error)
}
