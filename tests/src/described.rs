//! What any test is answered is something that the API description knows: operation, status, problem, headers.

use std::sync::LazyLock;

use reqwest::Method;
use serde_json::Value;

use crate::{environment, http::Answer};

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../docs/openapi.json")).expect("a description")
});

/// Headers of the transport, and those that the gateway adds to everything; of which the description speaks once.
const OF_THE_TRANSPORT: [&str; 7] = [
    "connection",
    "content-length",
    "content-type",
    "date",
    "strict-transport-security",
    "transfer-encoding",
    "vary",
];
/// What the gateway lets pages of other origins see.
const OF_CORS: &str = "access-control-";
/// Is meant for the gateway, which takes it off.
const NOT_OWNER: &str = "x-orderlog-not-owner";
/// A command that changed nothing may have nothing to wait for.
const MAY_BE_MISSING: &str = "Consistency-Token";

/// Whether the description speaks of the service at `base`.
pub fn speaks_of(base: &str) -> bool {
    let nodes = environment::variable("ORDERLOG_COMMAND_URLS");
    base == environment::url()
        || base == environment::query_url()
        || nodes.split(',').any(|node| node == base)
}

/// Fails when the description does not know this answer.
pub fn check(method: &Method, path: &str, answer: &Answer) {
    // A service past the gateway knows only its own methods of a path; the description says so once, of all paths.
    if answer.status == 405 {
        return;
    }
    // The server's own answer to a request head that took longer than its 10 s, before anything reads the request: also
    // when the process stood still meanwhile.
    if answer.status == 408 && answer.body.is_empty() {
        return;
    }
    let Some(operation) = operation(method, path) else {
        let is_preflight = *method == Method::OPTIONS;
        assert!(
            answer.status >= 400 || is_preflight,
            "undescribed: {answer:?}"
        );
        return;
    };
    let response = resolved(&operation["responses"][answer.status.to_string()]);
    assert!(response.is_object(), "undescribed status: {answer:?}");
    let media_type = answer.header_if_there("content-type").unwrap_or_default();
    if media_type == "application/problem+json" && *method != Method::HEAD {
        let examples = &response["content"][media_type]["examples"];
        let name = answer.problem_name();
        assert!(
            examples[&name].is_object(),
            "undescribed problem: {answer:?}"
        );
    }
    let described = response["headers"].as_object().expect("headers");
    for name in answer.headers.keys().map(|name| name.as_str()) {
        let is_described = described
            .keys()
            .any(|known| known.eq_ignore_ascii_case(name))
            || OF_THE_TRANSPORT.contains(&name)
            || name.starts_with(OF_CORS)
            || name == NOT_OWNER;
        assert!(is_described, "undescribed header {name}: {answer:?}");
    }
    for name in described.keys().filter(|name| *name != MAY_BE_MISSING) {
        let is_there = answer.headers.contains_key(name);
        assert!(is_there || answer.status >= 300, "no {name}: {answer:?}");
    }
}

fn operation(method: &Method, path: &str) -> Option<&'static Value> {
    // The gateway takes two slashes for one.
    let path = path
        .split('?')
        .next()
        .unwrap_or_default()
        .replace("//", "/");
    let method = match *method {
        Method::HEAD => "get".to_owned(),
        _ => method.as_str().to_lowercase(),
    };
    let paths = DOCUMENT["paths"].as_object().expect("paths");
    let known = paths
        .iter()
        .filter(|(template, item)| matches(template, &path) && item.get(&method).is_some());
    // A name stands for itself before it stands for an id.
    let best = known.min_by_key(|(template, _)| template.matches('{').count());
    best.map(|(_, item)| &item[&method])
}

fn matches(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) =
        (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len()
        && template.iter().zip(&path).all(|(wanted, found)| {
            (wanted.starts_with('{') && !found.is_empty()) || wanted == found
        })
}

fn resolved(value: &'static Value) -> &'static Value {
    let reference = value["$ref"]
        .as_str()
        .and_then(|place| DOCUMENT.pointer(&place[1..]));
    reference.unwrap_or(value)
}
