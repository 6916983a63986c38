//! The whole document: parts that each service makes of its endpoints, put together in one committed file.

use std::collections::BTreeSet;

use anyhow::{Context, bail};
use serde_json::{Map, Value};
use utoipa::openapi::{
    Components, HttpMethod, InfoBuilder, License, OpenApi, OpenApiBuilder, Paths, Server,
    security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    tag::TagBuilder,
};

use super::{Endpoint, Tag};
use crate::http;

/// The name of the security scheme.
pub const BEARER: &str = "bearer";
/// Says in the document which service answers an operation.
pub const SERVICE: &str = "x-service";
/// Stands for the service where all of them answer.
pub const EVERY_SERVICE: &str = "every";

const TITLE: &str = "Orderlog";
const VERSION: &str = env!("CARGO_PKG_VERSION");
const TEXT: &str = "Users, orders and notifications on an event log.

Commands are answered after their events are committed. `ETag` is the version of what is answered; send it in \
`If-Match` to change only what you have seen. `Consistency-Token` names the point in the log that a command has \
reached; a query that sends it back is answered no earlier than it can show that command. An `Idempotency-Key` makes a \
request safe to repeat.

Texts are trimmed, and their lengths are those after trimming, in characters. Fields that are not known are refused. \
Money is a decimal string. A request body has at most 1 MiB.

Errors are problem details (RFC 9457). `type` is stable; each type is a page that says what to do. Of two things that \
are wrong with a request the earlier one is answered: 401, then 415, 413, 400, then 422, then 428, then 404, then 403, \
then 412, then 409.

What answers GET answers HEAD as well. A method that a path does not know is answered 405 `method-not-allowed` with an \
`Allow` header, an unknown path 404 `not-found`. Through the gateway every answer also has `Strict-Transport-Security` and \
`Vary: Origin`, and for pages of allowed origins the headers of CORS.";

/// The part of the document that `service` answers: a document in itself.
pub fn part(service: &str, endpoints: &[Endpoint]) -> OpenApi {
    let mut components = Components::new();
    components.add_security_scheme(
        BEARER,
        SecurityScheme::Http(
            HttpBuilder::new()
                .scheme(HttpAuthScheme::Bearer)
                .bearer_format("JWT")
                .description(Some(
                    "An access token as `POST /login` and `POST /token/refresh` answer it, valid for 15 minutes.",
                ))
                .build(),
        ),
    );
    let mut paths = Paths::new();
    let common = http::endpoints();
    let own = endpoints.iter().map(|endpoint| (service, endpoint));
    let common = common.iter().map(|endpoint| (EVERY_SERVICE, endpoint));
    for (service, endpoint) in own.chain(common) {
        let operation = endpoint.description().build(service, &mut components);
        if let Some(method) = method(endpoint) {
            paths.add_path_operation(endpoint.path, vec![method], operation);
        }
    }
    let license = License::builder()
        .name("Apache-2.0")
        .identifier(Some("Apache-2.0"));
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title(TITLE)
                .version(VERSION)
                .description(Some(TEXT))
                .license(Some(license.build())),
        )
        .servers(Some([Server::new("/")]))
        .tags(Some(Tag::ALL.map(|tag| {
            TagBuilder::new()
                .name(tag.name())
                .description(Some(tag.text()))
                .build()
        })))
        .paths(paths)
        .components(Some(components))
        .build()
}

fn method(endpoint: &Endpoint) -> Option<HttpMethod> {
    match endpoint.method.as_str() {
        "GET" => Some(HttpMethod::Get),
        "POST" => Some(HttpMethod::Post),
        "PUT" => Some(HttpMethod::Put),
        "PATCH" => Some(HttpMethod::Patch),
        "DELETE" => Some(HttpMethod::Delete),
        _ => None,
    }
}

/// What the whole document must be, given what it was and what `service` says now: its operations are exchanged for
/// those of `part`, and what nothing refers to any more is left out. A document that is right stays as it is.
pub fn with_part(mut document: Value, service: &str, part: Value) -> Value {
    if let Some(paths) = document.get_mut("paths").and_then(Value::as_object_mut) {
        for item in paths.values_mut().filter_map(Value::as_object_mut) {
            item.retain(|_, operation| {
                operation[SERVICE] != service && operation[SERVICE] != EVERY_SERVICE
            });
        }
        paths.retain(|_, item| item.as_object().is_some_and(|item| !item.is_empty()));
    }
    merge(&mut document, part);
    keep_what_is_referred_to(&mut document);
    document
}

/// Enters the part into the whole: operations and components one by one, everything else in place of what was there.
fn merge(whole: &mut Value, part: Value) {
    let (Some(whole), Value::Object(part)) = (whole.as_object_mut(), part) else {
        return;
    };
    for (name, value) in part {
        let levels = match name.as_str() {
            "paths" | "components" => 2,
            _ => 0,
        };
        enter(whole, name, value, levels);
    }
}

fn enter(old: &mut Map<String, Value>, name: String, new: Value, levels: u8) {
    match (old.get_mut(&name), new) {
        (Some(Value::Object(old)), Value::Object(new)) if levels > 0 => {
            for (name, value) in new {
                enter(old, name, value, levels - 1);
            }
        }
        (_, new) => {
            old.insert(name, new);
        }
    }
}

fn keep_what_is_referred_to(document: &mut Value) {
    loop {
        let mut referred = BTreeSet::new();
        references(document, &mut referred);
        let Some(components) = document
            .get_mut("components")
            .and_then(Value::as_object_mut)
        else {
            return;
        };
        let mut removed = false;
        for (kind, items) in components
            .iter_mut()
            .filter(|(kind, _)| *kind != "securitySchemes")
        {
            if let Some(items) = items.as_object_mut() {
                let before = items.len();
                items.retain(|name, _| referred.contains(&format!("#/components/{kind}/{name}")));
                removed |= items.len() < before;
            }
        }
        if !removed {
            return;
        }
    }
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get("$ref") {
                found.insert(reference.clone());
            }
            members
                .values()
                .for_each(|member| references(member, found));
        }
    }
}

/// Compares the document in the file `path` with what `service` says now. With `WRITE_GOLDEN=1` in the environment
/// the file is written anew instead; else a difference is an error that names the first one. For tests.
pub fn keep(path: &str, service: &str, endpoints: &[Endpoint]) -> anyhow::Result<()> {
    let kept = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).context(path.to_owned()),
    };
    let document = serde_json::from_str(&kept).unwrap_or_else(|_| Value::Object(Map::new()));
    let part = serde_json::to_value(part(service, endpoints))?;
    let mut wanted = serde_json::to_string_pretty(&with_part(document, service, part))?;
    wanted.push('\n');
    if wanted == kept {
        return Ok(());
    }
    if std::env::var_os("WRITE_GOLDEN").is_some() {
        return std::fs::write(path, wanted).context(path.to_owned());
    }
    let mut lines = wanted.lines().zip(kept.lines()).zip(1..);
    let first = lines.find(|((wanted, kept), _)| wanted != kept);
    let ((wanted, kept), line) = first.unwrap_or((("", ""), 0));
    bail!(
        "{path} does not say what {service} answers, first in line {line}: {kept:?} should be {wanted:?}. \
         Run the same with WRITE_GOLDEN=1, look at the difference, and commit it."
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn operation(service: &str, schema: &str) -> Value {
        json!({SERVICE: service, "schema": {"$ref": format!("#/components/schemas/{schema}")}})
    }

    #[test]
    fn a_part_is_exchanged_whole_and_nothing_is_left_over() {
        let whole = json!({
            "paths": {
                "/a": {"get": operation("one", "A"), "put": operation("two", "B")},
                "/b": {"get": operation("one", "Gone")},
                "/healthz": {"get": operation(EVERY_SERVICE, "A")},
            },
            "components": {"schemas": {"A": 1, "B": 2, "Gone": {"$ref": "#/components/schemas/Below"}, "Below": 3}},
        });
        let part = json!({
            "paths": {"/a": {"get": operation("one", "A")}, "/c": {"post": operation("one", "New")}},
            "components": {"schemas": {"A": 10, "New": 20, "Unused": 30}},
        });
        let after = with_part(whole, "one", part.clone());
        assert_eq!(
            after,
            json!({
                "paths": {
                    "/a": {"get": operation("one", "A"), "put": operation("two", "B")},
                    "/c": {"post": operation("one", "New")},
                },
                "components": {"schemas": {"A": 10, "B": 2, "New": 20}},
            })
        );
        assert_eq!(with_part(after.clone(), "one", part), after);
    }
}
