//! What the API description says of the pages that every service has.

use utoipa::openapi::path::{ParameterBuilder, ParameterIn};

use super::METRICS_TEXT;
use crate::{
    openapi::{Answer, Description, Tag, schema},
    problem::{Kind, NOT_FOUND},
};

/// The part of the page that is the same for every problem.
const PROBLEM_EXAMPLE: &str = "not-found\n\nThere is no such thing (status 404).\n\nWhat to do: Check the path and the \
    id. What belongs to somebody else is answered the same way.\n";

pub fn metrics() -> Description {
    Description::new(
        "getMetrics",
        Tag::Service,
        "Metrics, as Prometheus reads them",
    )
    .text("Answered by each service at its own address only; the gateway knows no such page.")
    .not_public()
    .answer(Answer::text(
        METRICS_TEXT,
        "One line per series.",
        "# TYPE process_threads gauge\nprocess_threads 12\n",
    ))
    .problems(&[&NOT_FOUND])
}

pub fn problem_page() -> Description {
    let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name).collect();
    let name = ParameterBuilder::new()
        .name("name")
        .parameter_in(ParameterIn::Path)
        .required(utoipa::openapi::Required::True)
        .description(Some("The last part of a problem's `type`."))
        .schema(Some(schema::one_of(&names, "The name of a problem.")))
        .example(Some(NOT_FOUND.name.into()));
    Description::new(
        "getProblemPage",
        Tag::Service,
        "Says what a problem is and what to do",
    )
    .parameter("ProblemName", name)
    .answer(Answer::text("text/plain", "The page.", PROBLEM_EXAMPLE))
    .problems(&[&NOT_FOUND])
}
