//! The problems of an operation: each by its name, as it is answered.

use std::collections::BTreeMap;

use actix_web::{ResponseError, body::MessageBody, http::StatusCode};
use serde_json::Value;
use utoipa::{
    PartialSchema,
    openapi::{
        ArrayBuilder, Components, ContentBuilder, ObjectBuilder, OneOfBuilder, Ref, RefOr,
        Response, ResponseBuilder, Schema, Type,
    },
};

use super::answer::{named_example, with_headers};
use crate::{
    json::ERRORS_MAX,
    problem::{FieldError, INVALID, Kind, PROBLEM_JSON, Problem, RULE_BROKEN, STALE_VERSION},
};

/// A problem, and an example of it other than the usual one.
pub type Answered = (&'static Kind, Option<Value>);

/// The answers with these problems, one per status.
pub fn responses(problems: &[Answered], components: &mut Components) -> BTreeMap<u16, Response> {
    let mut by_status: BTreeMap<u16, Vec<&Answered>> = BTreeMap::new();
    for answered in problems {
        let same = by_status.entry(answered.0.status.as_u16()).or_default();
        if !same.iter().any(|(known, _)| *known == answered.0) {
            same.push(answered);
        }
    }
    by_status
        .into_iter()
        .map(|(status, problems)| (status, response(&problems, components)))
        .collect()
}

fn response(problems: &[&Answered], components: &mut Components) -> Response {
    let description: Vec<String> = problems
        .iter()
        .map(|(kind, _)| format!("`{}`: {}. {}", kind.name, kind.title, kind.advice))
        .collect();
    let schemas: Vec<Ref> = problems
        .iter()
        .map(|(kind, _)| {
            let name = schema_name(kind);
            let reference = Ref::from_schema_name(name.as_str());
            components.schemas.insert(name, schema(kind));
            reference
        })
        .collect();
    let one_of = OneOfBuilder::new();
    let schema: RefOr<Schema> = match schemas.as_slice() {
        [one] => one.clone().into(),
        several => several
            .iter()
            .cloned()
            .fold(one_of, OneOfBuilder::item)
            .into(),
    };
    let examples: Vec<_> = problems
        .iter()
        .map(|(kind, example)| match example {
            Some(value) => (kind.name, named_example(kind.title, value.clone()).into()),
            None => {
                let usual = named_example(kind.title, usual(kind));
                components
                    .examples
                    .insert(kind.name.to_owned(), usual.into());
                let reference = Ref::new(format!("#/components/examples/{}", kind.name));
                (kind.name, RefOr::Ref(reference))
            }
        })
        .collect();
    let content = ContentBuilder::new()
        .schema(Some(schema))
        .examples_from_iter(examples)
        .build();
    let mut headers: Vec<_> = problems
        .iter()
        .flat_map(|(kind, _)| headers(kind))
        .collect();
    headers.dedup();
    let response = ResponseBuilder::new().description(description.join("\n\n"));
    with_headers(response, headers.into_iter(), components)
        .content(PROBLEM_JSON, content)
        .build()
}

/// The headers that a problem comes with.
fn headers(kind: &Kind) -> Vec<&'static str> {
    let is = |status| kind.status == status;
    let says_when = is(StatusCode::TOO_MANY_REQUESTS)
        || is(StatusCode::SERVICE_UNAVAILABLE)
        || kind.name == "idempotency-key-in-flight";
    match kind.status {
        StatusCode::UNAUTHORIZED => vec!["WWW-Authenticate"],
        StatusCode::METHOD_NOT_ALLOWED => vec!["Allow"],
        _ if says_when => vec!["Retry-After"],
        _ => Vec::new(),
    }
}

/// `not-found` is `NotFoundProblem`.
fn schema_name(kind: &Kind) -> String {
    let mut name: String = kind
        .name
        .split('-')
        .flat_map(|word| {
            let mut letters = word.chars();
            let first = letters.next().map(|first| first.to_ascii_uppercase());
            first.into_iter().chain(letters)
        })
        .collect();
    name.push_str("Problem");
    name
}

fn schema(kind: &Kind) -> RefOr<Schema> {
    let text = |description: &str| {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some(description))
    };
    let uri = format!("/problems/{}", kind.name);
    let object = ObjectBuilder::new()
        .schema_type(Type::Object)
        .description(Some(format!("{}. {}", kind.title, kind.advice)))
        .property(
            "type",
            text("What kind of problem it is.").enum_values(Some([uri])),
        )
        .property("title", text("The same for every problem of this kind."))
        .property(
            "status",
            ObjectBuilder::new()
                .schema_type(Type::Integer)
                .enum_values(Some([kind.status.as_u16()])),
        )
        .property("detail", text("What it was this time."))
        .required("type")
        .required("title")
        .required("status")
        .required("detail");
    let object = if *kind == INVALID {
        let errors = ArrayBuilder::new()
            .items(FieldError::schema())
            .min_items(Some(1))
            .max_items(Some(ERRORS_MAX))
            .description(Some("Every value that is wrong."));
        object.property("errors", errors).required("errors")
    } else if *kind == RULE_BROKEN {
        let rule = text("The name of the rule.");
        object.property("rule", rule).required("rule")
    } else if *kind == STALE_VERSION {
        let version = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .description(Some("The version there is."));
        object
            .property("current_version", version)
            .required("current_version")
    } else {
        object
    };
    object.into()
}

/// The body that a problem is answered with.
pub fn body(problem: &Problem) -> Value {
    let (_, body) = problem.error_response().into_parts();
    let bytes = body.try_into_bytes().unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// The usual example of a kind.
fn usual(kind: &Kind) -> Value {
    let samples = samples();
    let sample = samples.iter().find(|sample| sample.kind() == kind);
    sample.map(body).unwrap_or_default()
}

fn samples() -> Vec<Problem> {
    vec![
        Problem::unreadable("EOF while parsing an object at line 1 column 14"),
        Problem::invalid_idempotency_key(),
        Problem::invalid_consistency_token(),
        Problem::invalid_cursor(),
        Problem::not_authenticated(),
        Problem::not_allowed("your role does not allow this"),
        Problem::not_found(),
        Problem::method_not_allowed("GET, HEAD".to_owned()),
        Problem::rule_broken(
            "order-step-not-possible",
            "an order cannot go from cancelled to completed",
        ),
        Problem::address_taken(),
        Problem::idempotency_key_in_flight(1),
        Problem::stale_version(2),
        Problem::precondition_required(),
        Problem::too_large(crate::json::BODY_BYTES_MAX),
        Problem::unsupported_media_type(crate::json::JSON),
        Problem::invalid(vec![FieldError {
            pointer: "/limit".to_owned(),
            code: "invalid_value",
            message: "must be a whole number from 1 to 200".to_owned(),
        }]),
        Problem::idempotency_key_reused(),
        Problem::too_many_requests(1),
        Problem::unavailable("the service is starting", 1),
        Problem::outcome_unknown(1),
        Problem::not_yet_consistent(1),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_problem_has_its_example_and_its_name() {
        for kind in Kind::ALL {
            assert_eq!(usual(kind)["type"], format!("/problems/{}", kind.name));
        }
        assert_eq!(samples().len(), Kind::ALL.len());
        assert_eq!(schema_name(&crate::problem::NOT_FOUND), "NotFoundProblem");
    }

    #[test]
    fn problems_of_one_status_are_one_answer() {
        let mut components = Components::new();
        let problems: Vec<Answered> = Kind::ALL.iter().map(|kind| (kind, None)).collect();
        let responses = responses(&problems, &mut components);
        let unavailable = serde_json::to_value(&responses[&503]).unwrap();
        let content = &unavailable["content"][PROBLEM_JSON];
        assert_eq!(content["schema"]["oneOf"].as_array().map(Vec::len), Some(3));
        assert!(unavailable["headers"]["Retry-After"].is_object());
        assert_eq!(
            components.schemas.len(),
            Kind::ALL.len(),
            "a schema for each kind"
        );
    }
}
