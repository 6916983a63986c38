//! What the API description says of all queries.

use runtime::{
    openapi::{Description, Endpoint, parameters, schema},
    problem::{INVALID, INVALID_CONSISTENCY_TOKEN, INVALID_CURSOR, NOT_YET_CONSISTENT, UNREADABLE},
};
use utoipa::openapi::{KnownFormat, ObjectBuilder, Type, path::ParameterBuilder};

use crate::{
    orders,
    query::{CURSOR_CHARACTERS_MAX, LIMIT_DEFAULT, LIMIT_MAX, WAIT_DEFAULT, WAIT_SECONDS_MAX},
    users,
};

/// Every operation of this service, described.
pub fn endpoints() -> Vec<Endpoint> {
    let mut endpoints: Vec<_> = users::http::endpoints().into();
    endpoints.extend(orders::http::endpoints());
    endpoints
}

/// A query: signed in, after what its consistency token names, and strict about its parameters.
pub fn query(description: Description) -> Description {
    let token = parameters::in_header(
        "Consistency-Token",
        ObjectBuilder::new().schema_type(Type::String),
        "The token of an earlier answer: what was done then is seen. The query waits for that.",
    )
    .example(Some("orders-1-116".into()));
    let prefer = format!(
        "`wait=<seconds>` (RFC 7240): how long to wait for the point that Consistency-Token names, instead of {} s; \
         {WAIT_SECONDS_MAX} s at most. What cannot be read is left alone.",
        WAIT_DEFAULT.as_secs(),
    );
    let prefer = parameters::in_header(
        "Prefer",
        ObjectBuilder::new().schema_type(Type::String),
        &prefer,
    )
    .example(Some("wait=10".into()));
    description
        .signed_in()
        .parameter("ConsistencyToken", token)
        .parameter("Prefer", prefer)
        .problems(&[
            &UNREADABLE,
            &INVALID_CONSISTENCY_TOKEN,
            &INVALID,
            &NOT_YET_CONSISTENT,
        ])
}

/// The parameter `fields` of items that have these.
pub fn fields(known: &[&str]) -> ParameterBuilder {
    let schema = schema::pattern("^[a-z_]+(,[a-z_]+)*$", "Names with commas between them.");
    let meaning = format!("Only these members of each item, of: {}.", known.join(", "));
    parameters::in_query("fields", schema, meaning)
}

/// A parameter that is a time.
pub fn time(name: &str, meaning: &str) -> ParameterBuilder {
    let schema = schema::formatted(KnownFormat::DateTime, "A time.");
    parameters::in_query(name, schema, meaning)
}

/// A query that is answered page by page.
pub fn pages(description: Description) -> Description {
    let limit =
        schema::integer(1, LIMIT_MAX.into(), "How many items.").default(Some(LIMIT_DEFAULT.into()));
    let limit = parameters::in_query("limit", limit, "How many items a page has at most.")
        .example(Some(2.into()));
    let cursor =
        schema::pattern("^[A-Za-z0-9_-]+$", "Opaque.").max_length(Some(CURSOR_CHARACTERS_MAX));
    let cursor = parameters::in_query(
        "cursor",
        cursor,
        "Where the page begins: `next_cursor` of the page before, with the same filter.",
    );
    query(description)
        .parameter("Limit", limit)
        .parameter("Cursor", cursor)
        .problems(&[&INVALID_CURSOR])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_that_is_kept_says_what_is_answered_here() {
        let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
        runtime::openapi::document::keep(kept, "projections", &endpoints()).unwrap();
    }
}
