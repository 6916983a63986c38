//! What the API description says of commands: parameters, bodies, answers, problems, and an example of each that a test
//! executes.

mod orders;
mod sessions;
mod users;

use runtime::{
    json::Json,
    openapi::{Body, Description, parameters, problem_body, schema},
    problem::{
        IDEMPOTENCY_KEY_IN_FLIGHT, IDEMPOTENCY_KEY_REUSED, INVALID_IDEMPOTENCY_KEY,
        OUTCOME_UNKNOWN, Problem, STALE_VERSION, UNREADABLE,
    },
};
use serde_json::Value;
use utoipa::{
    ToSchema,
    openapi::{ObjectBuilder, Required, Type, path::ParameterBuilder},
};

pub use orders::{cancel_order, create_order, replace_order, set_order_status};
pub use sessions::{jwks, login, logout, refresh};
pub use users::{change_password, change_role, erase_user, register, update_profile};

use crate::commands::idempotency::KEY_CHARS_MAX;

/// A command: what it did may not be known in time, and a condition may not hold.
fn command(description: Description, condition: Required) -> Description {
    let (name, text) = match condition {
        Required::True => (
            "IfMatchRequired",
            "The ETag of what the change is based on, or `*` for whatever is there.",
        ),
        Required::False => (
            "IfMatch",
            "The ETag that it must still have; without one, any.",
        ),
    };
    named(description)
        .parameter(name, if_match(text).required(condition))
        .problems(&[&UNREADABLE, &STALE_VERSION, &OUTCOME_UNKNOWN])
}

/// A request that its client may give a name.
fn named(description: Description) -> Description {
    description
        .parameter("IdempotencyKey", idempotency_key())
        .problems(&[
            &INVALID_IDEMPOTENCY_KEY,
            &IDEMPOTENCY_KEY_REUSED,
            &IDEMPOTENCY_KEY_IN_FLIGHT,
        ])
}

fn if_match(description: &str) -> ParameterBuilder {
    let tags = ObjectBuilder::new().schema_type(Type::String);
    parameters::in_header("If-Match", tags, description).example(Some("\"1\"".into()))
}

fn idempotency_key() -> ParameterBuilder {
    let key = schema::pattern(
        &format!(r#"^([!-~]{{1,{KEY_CHARS_MAX}}}|"([!-\[\]-~]|\\["\\]){{1,{KEY_CHARS_MAX}}}")$"#),
        "",
    );
    parameters::in_header(
        "Idempotency-Key",
        key,
        "The client's name for what it wants, bare or quoted. A repeated request with the same key gets the answer of the \
         first, for 24 hours, and is done once. Scoped to the caller and to what it is sent \
         to; at `/register`, to the address.",
    )
    .example(Some("\"basket-17\"".into()))
}

/// A body of the type `T` with an example that is accepted, and one that `read` refuses.
fn body<T: ToSchema, R>(
    media_types: &'static [&'static str],
    accepted: Value,
    refused: Value,
    read: impl FnOnce(Json<'_>) -> Result<R, Problem>,
) -> Body {
    let text = refused.to_string();
    let problem = runtime::json::parse(text.as_bytes()).and_then(read).err();
    let problem = problem.as_ref().map(problem_body).unwrap_or_default();
    Body::new::<T>(media_types, accepted).refused(refused, problem)
}

#[cfg(test)]
mod tests;
