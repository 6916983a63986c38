//! The headers of answers, and those that every request may have.

use utoipa::openapi::{
    Header, HeaderBuilder, KnownFormat, ObjectBuilder, Required, Type,
    path::{Parameter, ParameterBuilder, ParameterIn},
};

use super::{examples, schema};
use crate::consistency::CONSISTENCY_TOKEN_PATTERN;

/// An entity tag of ours.
const ETAG_PATTERN: &str = r#"^"[0-9A-Za-z_-]+"$"#;

/// Headers that every answer has.
pub const OF_EVERY_ANSWER: [&str; 3] = ["Cache-Control", "X-Content-Type-Options", "X-Request-Id"];

/// What is said about a header of answers; `None` for one that no answer has.
pub fn of_answer(name: &str) -> Option<Header> {
    let header = match name {
        "Allow" => header(
            schema::pattern("^[A-Z]+(, [A-Z]+)*$", ""),
            "The methods that this path knows.",
        ),
        "Cache-Control" => header(
            ObjectBuilder::new().schema_type(Type::String),
            "Whether the answer may be kept: `no-store` on all that is somebody's own.",
        ),
        "Consistency-Token" => header(
            schema::pattern(CONSISTENCY_TOKEN_PATTERN, ""),
            "Opaque. A query that sends it back is answered from a read model that has got as far as this answer.",
        ),
        "Content-Security-Policy" => header(
            ObjectBuilder::new().schema_type(Type::String),
            "What the page may load: nothing but its own style.",
        ),
        "ETag" => header(
            schema::pattern(ETAG_PATTERN, ""),
            "The version of what is answered, as a strong entity tag. To be sent in If-Match.",
        ),
        "Location" => header(
            schema::pattern("^/(users|orders)/[0-9a-f-]{36}$", ""),
            "Where it can be read.",
        ),
        "Retry-After" => header(
            schema::integer(1, 3_600, ""),
            "In how many seconds to ask again.",
        ),
        "WWW-Authenticate" => header(
            schema::pattern("^Bearer", ""),
            "How to say who asks: with an access token.",
        ),
        "X-Content-Type-Options" => header(
            schema::one_of(&["nosniff"], ""),
            "The body is what Content-Type says.",
        ),
        "X-Request-Id" => header(
            schema::formatted(KnownFormat::Uuid, ""),
            "The name of the request, for questions about it: its own X-Request-Id where that is a UUID.",
        ),
        _ => return None,
    };
    Some(header)
}

fn header(schema: ObjectBuilder, description: &str) -> Header {
    HeaderBuilder::new()
        .schema(Some(schema.description(None::<String>)))
        .description(Some(description))
        .build()
}

/// Headers that every request may have.
pub fn of_every_request() -> [(&'static str, Parameter); 2] {
    let request_id = in_header(
        "X-Request-Id",
        schema::formatted(KnownFormat::Uuid, ""),
        "A name for the request. It is logged, recorded with the events, and returned. Anything but a UUID is replaced.",
    )
    .example(Some(examples::REQUEST_ID.into()));
    let traceparent = in_header(
        "traceparent",
        schema::pattern("^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$", ""),
        "The caller's W3C trace context, which is continued. Anything else is left alone.",
    )
    .example(Some(
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into(),
    ));
    [
        ("XRequestId", request_id.build()),
        ("Traceparent", traceparent.build()),
    ]
}

/// A header of requests that may be left out.
pub fn in_header(name: &str, schema: ObjectBuilder, description: &str) -> ParameterBuilder {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(schema.description(None::<String>)))
}
