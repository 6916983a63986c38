//! What the page shows of the description: every reference followed, every schema in words.

use minijinja::{HtmlEscape, Value as Shown};
use serde::Serialize;
use serde_json::Value;

/// The whole page.
#[derive(Serialize)]
pub struct Page<'d> {
    title: &'d str,
    version: &'d str,
    openapi: &'d str,
    text: Shown,
    style: Shown,
    tags: Vec<Tag<'d>>,
    schemas: Vec<Schema<'d>>,
}

#[derive(Serialize)]
struct Tag<'d> {
    name: &'d str,
    text: Shown,
    operations: Vec<Operation<'d>>,
}

#[derive(Serialize)]
struct Operation<'d> {
    id: &'d str,
    method: String,
    path: &'d str,
    summary: &'d str,
    text: Shown,
    service: String,
    signed_in: bool,
    curl: String,
    parameters: Vec<Row<'d>>,
    body: Option<Body<'d>>,
    answers: Vec<Answer<'d>>,
}

#[derive(Serialize)]
struct Row<'d> {
    name: &'d str,
    place: &'d str,
    required: bool,
    value: Shown,
    text: Shown,
}

#[derive(Serialize)]
struct Body<'d> {
    media_types: String,
    schema: &'d str,
    required: bool,
    examples: Vec<Example<'d>>,
}

#[derive(Serialize)]
struct Answer<'d> {
    status: &'d str,
    names: String,
    text: Shown,
    schema: &'d str,
    headers: Vec<&'d str>,
    examples: Vec<Example<'d>>,
}

#[derive(Serialize)]
struct Example<'d> {
    summary: &'d str,
    value: String,
}

#[derive(Serialize)]
struct Schema<'d> {
    name: &'d str,
    text: Shown,
    value: Shown,
    fields: Vec<Row<'d>>,
}

/// The page of a whole description.
pub fn page<'d>(document: &'d Value, style: &str) -> Page<'d> {
    let info = &document["info"];
    Page {
        title: text(&info["title"]),
        version: text(&info["version"]),
        openapi: text(&document["openapi"]),
        text: prose(text(&info["description"])),
        style: Shown::from_safe_string(style.to_owned()),
        tags: items(&document["tags"])
            .map(|tag| Tag {
                name: text(&tag["name"]),
                text: prose(text(&tag["description"])),
                operations: operations(document, text(&tag["name"])),
            })
            .collect(),
        schemas: members(&document["components"]["schemas"])
            .map(|(name, schema)| Schema {
                name,
                text: prose(text(&schema["description"])),
                value: value(schema),
                fields: fields(schema),
            })
            .collect(),
    }
}

fn operations<'d>(document: &'d Value, tag: &str) -> Vec<Operation<'d>> {
    members(&document["paths"])
        .flat_map(|(path, item)| members(item).map(move |(method, found)| (path, method, found)))
        .filter(|(_, _, found)| items(&found["tags"]).any(|each| each == tag))
        .map(|(path, method, found)| operation(document, path, method, found))
        .collect()
}

fn operation<'d>(
    document: &'d Value,
    path: &'d str,
    method: &str,
    found: &'d Value,
) -> Operation<'d> {
    let parameters: Vec<&Value> = items(&found["parameters"])
        .map(|parameter| followed(document, parameter))
        .collect();
    let signed_in = items(&found["security"]).next().is_some();
    let body = &found["requestBody"];
    Operation {
        id: text(&found["operationId"]),
        method: method.to_uppercase(),
        path,
        summary: text(&found["summary"]),
        text: prose(text(&found["description"])),
        service: match text(&found["x-service"]) {
            "every" => "each service".to_owned(),
            service => service.to_owned(),
        },
        signed_in,
        curl: curl(path, method, signed_in, &parameters, body),
        parameters: parameters
            .iter()
            .map(|parameter| Row {
                name: text(&parameter["name"]),
                place: text(&parameter["in"]),
                required: parameter["required"] == true,
                value: value(&parameter["schema"]),
                text: prose(text(&parameter["description"])),
            })
            .collect(),
        body: members(&body["content"]).next().map(|(_, content)| Body {
            media_types: names(members(&body["content"]).map(|(name, _)| name)),
            schema: reference(&content["schema"]),
            required: body["required"] == true,
            examples: examples(document, content),
        }),
        answers: members(&found["responses"])
            .map(|(status, answer)| Answer {
                status,
                names: names(
                    members(&answer["content"])
                        .flat_map(|(_, content)| members(&content["examples"]))
                        .map(|(name, _)| name)
                        .filter(|name| *name != "accepted"),
                ),
                text: prose(text(&answer["description"])),
                schema: members(&answer["content"])
                    .next()
                    .map_or("", |(_, content)| reference(&content["schema"])),
                headers: members(&answer["headers"]).map(|(name, _)| name).collect(),
                examples: members(&answer["content"])
                    .flat_map(|(_, content)| examples(document, content))
                    .collect(),
            })
            .collect(),
    }
}

fn examples<'d>(document: &'d Value, content: &'d Value) -> Vec<Example<'d>> {
    members(&content["examples"])
        .map(|(_, example)| {
            let example = followed(document, example);
            Example {
                summary: text(&example["summary"]),
                value: match example["value"].as_str() {
                    Some(text) => text.to_owned(),
                    None => format!("{:#}", example["value"]),
                },
            }
        })
        .collect()
}

/// The call of the example, for a shell.
fn curl(path: &str, method: &str, signed_in: bool, parameters: &[&Value], body: &Value) -> String {
    let mut url = path.to_owned();
    let mut query = Vec::new();
    let mut headers = Vec::new();
    for parameter in parameters {
        let (name, example) = (text(&parameter["name"]), plain(&parameter["example"]));
        match text(&parameter["in"]) {
            "path" => url = url.replace(&format!("{{{name}}}"), &example),
            "query" if !example.is_empty() => query.push(format!("{name}={example}")),
            "header" if parameter["required"] == true || name == "Idempotency-Key" => {
                headers.push(format!("{name}: {example}"));
            }
            _ => {}
        }
    }
    if !query.is_empty() {
        url = format!("{url}?{}", query.join("&"));
    }
    let mut call = match method {
        "get" => format!("curl -i \"$ORDERLOG_URL{url}\""),
        other => format!("curl -i -X {} \"$ORDERLOG_URL{url}\"", other.to_uppercase()),
    };
    if signed_in {
        call.push_str(" \\\n  -H \"Authorization: Bearer $TOKEN\"");
    }
    for header in headers {
        call.push_str(&format!(" \\\n  -H {}", quoted(&header)));
    }
    if let Some((media_type, content)) = members(&body["content"]).next() {
        let example = &content["examples"]["accepted"]["value"];
        let header = quoted(&format!("Content-Type: {media_type}"));
        let data = quoted(&example.to_string());
        call.push_str(&format!(" \\\n  -H {header} \\\n  -d {data}"));
    }
    call
}

/// A text as one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn fields(schema: &Value) -> Vec<Row<'_>> {
    members(&schema["properties"])
        .map(|(name, property)| Row {
            name,
            place: "",
            required: items(&schema["required"]).any(|each| each == name),
            value: value(property),
            text: prose(text(&property["description"])),
        })
        .collect()
}

/// What a value may be, in words; references as links.
fn value(schema: &Value) -> Shown {
    Shown::from_safe_string(words(schema))
}

fn words(schema: &Value) -> String {
    let name = reference(schema);
    if !name.is_empty() {
        let name = HtmlEscape(name);
        return format!("<a href=\"#body-{name}\">{name}</a>");
    }
    for (how, between) in [("oneOf", " or "), ("anyOf", " or "), ("allOf", " and ")] {
        let parts: Vec<String> = items(&schema[how]).map(words).collect();
        if !parts.is_empty() {
            return parts.join(between);
        }
    }
    let allowed: Vec<String> = items(&schema["enum"])
        .map(|word| format!("<code>{}</code>", HtmlEscape(&plain(word))))
        .collect();
    if !allowed.is_empty() {
        return allowed.join(" or ");
    }
    let mut words = match schema["type"].as_array() {
        Some(types) => names(types.iter().map(text)).replace(", ", " or "),
        None => text(&schema["type"]).to_owned(),
    };
    if schema["items"].is_object() {
        words = format!("array of {}", self::words(&schema["items"]));
    }
    for (limit, before) in [
        ("format", ""),
        ("minLength", "at least this many characters: "),
        ("maxLength", "at most this many characters: "),
        ("minItems", "at least this many: "),
        ("maxItems", "at most this many: "),
        ("minimum", "from "),
        ("maximum", "to "),
        ("default", "else "),
    ] {
        if !schema[limit].is_null() {
            words.push_str(&format!(", {before}{}", HtmlEscape(&plain(&schema[limit]))));
        }
    }
    if let Some(pattern) = schema["pattern"].as_str() {
        words.push_str(&format!(", like <code>{}</code>", HtmlEscape(pattern)));
    }
    words
}

/// A text with paragraphs and `code`.
fn prose(text: &str) -> Shown {
    let mut html = String::new();
    for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.is_empty()) {
        html.push_str("<p>");
        for (index, part) in paragraph.split('`').enumerate() {
            let part = HtmlEscape(part);
            html.push_str(&match index % 2 {
                0 => part.to_string(),
                _ => format!("<code>{part}</code>"),
            });
        }
        html.push_str("</p>\n");
    }
    Shown::from_safe_string(html)
}

fn followed<'d>(document: &'d Value, value: &'d Value) -> &'d Value {
    let place = value["$ref"]
        .as_str()
        .and_then(|place| place.strip_prefix('#'));
    place
        .and_then(|place| document.pointer(place))
        .unwrap_or(value)
}

fn reference(schema: &Value) -> &str {
    let place = text(&schema["$ref"]);
    place.rsplit('/').next().unwrap_or_default()
}

fn plain(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None if value.is_null() => String::new(),
        None => value.to_string(),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn members(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, member)| (name.as_str(), member))
}

fn names<'n>(names: impl Iterator<Item = &'n str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}
