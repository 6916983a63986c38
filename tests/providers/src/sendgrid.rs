//! SendGrid, `POST /v3/mail/send`, as its public API description says.
//!
//! Checked: bearer token, content type, size, JSON, and the fields every mail needs. Fields it
//! does not know (attachments, tracking and so on) are taken without a look, as they change
//! nothing about what is kept.

use std::collections::HashSet;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::Shared;
use crate::faults;
use crate::kept::{Channel, Message, Provider};

/// Most personalizations of one request.
pub const PERSONALIZATIONS_COUNT_MAX: usize = 1_000;
/// Most recipients of one request, to, cc and bcc together.
pub const RECIPIENTS_COUNT_MAX: usize = 1_000;
/// Most bytes of one personalization's custom_args, as JSON.
pub const CUSTOM_ARGS_BYTES_MAX: usize = 10_000;

const HELP: &str = "http://sendgrid.com/docs/API_Reference/Web_API_v3/Mail/errors.html";

/// One entry of an error body.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Error {
    message: String,
    field: Option<String>,
    help: Option<String>,
}

impl Error {
    fn general(message: &str) -> Self {
        Self {
            message: message.to_owned(),
            field: None,
            help: None,
        }
    }

    fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        let field = field.into();
        let anchor: Vec<&str> = field
            .split('.')
            .filter(|part| part.parse::<usize>().is_err())
            .collect();
        let help = format!("{HELP}#message.{}", anchor.join("."));
        Self {
            message: message.into(),
            field: Some(field),
            help: Some(help),
        }
    }
}

/// Adds the routes of this module.
pub fn routes(config: &mut web::ServiceConfig) {
    config.service(
        web::resource("/v3/mail/send")
            .route(web::post().to(send))
            .default_service(web::to(method_not_allowed)),
    );
}

async fn send(
    request: HttpRequest,
    shared: web::Data<Shared>,
    body: Result<web::Bytes, actix_web::Error>,
) -> HttpResponse {
    let fault = shared.faults.meet(Provider::Sendgrid);
    let handle = || accept(&request, &shared, body);
    faults::under(fault, &request, handle, refuse).await
}

fn accept(
    request: &HttpRequest,
    shared: &Shared,
    body: Result<web::Bytes, actix_web::Error>,
) -> HttpResponse {
    if let Err(error) = authorize(request, &shared.credentials.sendgrid_api_key) {
        return errors(StatusCode::UNAUTHORIZED, &[error]);
    }
    let body = match body {
        Ok(body) => body,
        Err(error) => return refuse(error.as_response_error().status_code()),
    };
    if !is_json(request) {
        return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    let Ok(mail) = serde_json::from_slice::<Value>(&body) else {
        return refuse(StatusCode::BAD_REQUEST);
    };
    let found = check(&mail);
    if !found.is_empty() {
        return errors(StatusCode::BAD_REQUEST, &found);
    }
    let id = uuid::Uuid::now_v7().simple().to_string();
    shared.kept.keep(messages(&mail, &id));
    HttpResponse::Accepted()
        .insert_header(("X-Message-Id", id))
        .finish()
}

fn authorize(request: &HttpRequest, key: &str) -> Result<(), Error> {
    let Some(header) = request.headers().get(AUTHORIZATION) else {
        return Err(Error::general("authorization required"));
    };
    let token = header.to_str().ok().and_then(|value| value.split_once(' '));
    match token {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && token == key => Ok(()),
        Some(_) | None => Err(Error::general(
            "the provided authorization grant is invalid, expired, or revoked",
        )),
    }
}

fn is_json(request: &HttpRequest) -> bool {
    let value = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

/// The error body of a status.
fn refuse(status: StatusCode) -> HttpResponse {
    let message = match status.as_u16() {
        400 => "Bad Request",
        401 => "authorization required",
        403 => "access forbidden",
        413 => "content too large",
        415 => "Content-Type should be application/json.",
        429 => "too many requests",
        500.. => "internal server error",
        _ => status.canonical_reason().unwrap_or("error"),
    };
    errors(status, &[Error::general(message)])
}

async fn method_not_allowed() -> HttpResponse {
    let mut answer = refuse(StatusCode::METHOD_NOT_ALLOWED);
    let post = actix_web::http::header::HeaderValue::from_static("POST");
    answer.headers_mut().insert(ALLOW, post);
    answer
}

fn errors(status: StatusCode, errors: &[Error]) -> HttpResponse {
    HttpResponse::build(status).json(json!({ "errors": errors }))
}

/// Everything wrong with a mail; nothing when it can be sent.
fn check(mail: &Value) -> Vec<Error> {
    if !mail.is_object() {
        return vec![Error::general("Bad Request")];
    }
    let mut found = Vec::new();
    check_personalizations(mail, &mut found);
    check_address(mail.get("from"), "from", &mut found);
    if mail.get("reply_to").is_some() {
        check_address(mail.get("reply_to"), "reply_to", &mut found);
    }
    check_subject(mail, &mut found);
    check_content(mail, &mut found);
    found
}

fn check_personalizations(mail: &Value, found: &mut Vec<Error>) {
    let all = personalizations(mail);
    if all.is_empty() {
        let message =
            "The personalizations field is required and must have at least one personalization.";
        found.push(Error::field("personalizations", message));
    }
    if all.len() > PERSONALIZATIONS_COUNT_MAX {
        let message = format!(
            "There may be at most {PERSONALIZATIONS_COUNT_MAX} personalizations per request."
        );
        found.push(Error::field("personalizations", message));
        return;
    }
    let mut recipients_count = 0;
    for (index, personalization) in all.iter().enumerate() {
        let path = format!("personalizations.{index}");
        if list(personalization, "to").is_empty() {
            let message = "The to array is required for all personalization objects, and must have at least one email object with a valid email address.";
            found.push(Error::field(format!("{path}.to"), message));
        }
        let mut seen = HashSet::new();
        for kind in ["to", "cc", "bcc"] {
            for (at, recipient) in list(personalization, kind).iter().enumerate() {
                recipients_count += 1;
                let path = format!("{path}.{kind}.{at}");
                check_address(Some(recipient), &path, found);
                let email = text(recipient, "email")
                    .unwrap_or_default()
                    .to_ascii_lowercase();
                if !email.is_empty() && !seen.insert(email) {
                    let message = "Each email address in the personalization block should be unique between to, cc, and bcc.";
                    found.push(Error::field(path, message));
                }
            }
        }
        check_custom_args(personalization, &path, found);
    }
    if recipients_count > RECIPIENTS_COUNT_MAX {
        let message = format!(
            "There is a limit of {RECIPIENTS_COUNT_MAX} total recipients (to + cc + bcc) per request."
        );
        found.push(Error::field("personalizations", message));
    }
}

fn check_custom_args(personalization: &Value, path: &str, found: &mut Vec<Error>) {
    let Some(args) = personalization.get("custom_args") else {
        return;
    };
    let path = format!("{path}.custom_args");
    let all_text = args
        .as_object()
        .is_some_and(|args| args.values().all(Value::is_string));
    if !all_text {
        found.push(Error::field(
            path.clone(),
            "The custom_args must be an object whose values are strings.",
        ));
    }
    if args.to_string().len() >= CUSTOM_ARGS_BYTES_MAX {
        let message =
            format!("The custom_args must have fewer than {CUSTOM_ARGS_BYTES_MAX} bytes.");
        found.push(Error::field(path, message));
    }
}

fn check_address(address: Option<&Value>, path: &str, found: &mut Vec<Error>) {
    let Some(email) = address.and_then(|address| text(address, "email")) else {
        let message = "The email parameter is required; a name parameter may stand beside it.";
        found.push(Error::field(format!("{path}.email"), message));
        return;
    };
    if !is_email(email) {
        found.push(Error::field(
            format!("{path}.email"),
            "Does not contain a valid address.",
        ));
    }
}

/// One `@` with something before it and a dotted or single-label host behind it; nothing blank.
fn is_email(email: &str) -> bool {
    let Some((local, host)) = email.rsplit_once('@') else {
        return false;
    };
    let host_is_fine = host.split('.').all(|label| !label.is_empty());
    !local.is_empty()
        && !local.contains('@')
        && host_is_fine
        && !email.contains(|c: char| c.is_whitespace() || c.is_control())
}

fn check_subject(mail: &Value, found: &mut Vec<Error>) {
    let own = text(mail, "subject").is_some_and(|subject| !subject.is_empty());
    let all = personalizations(mail);
    let everywhere = !all.is_empty()
        && all
            .iter()
            .all(|p| text(p, "subject").is_some_and(|subject| !subject.is_empty()));
    if !own && !everywhere && mail.get("template_id").is_none() {
        let message = "The subject is required. You can get around this requirement if you use a template with a subject defined or if every personalization has a subject defined.";
        found.push(Error::field("subject", message));
    }
}

fn check_content(mail: &Value, found: &mut Vec<Error>) {
    let contents = list(mail, "content");
    if contents.is_empty() {
        if mail.get("template_id").is_none() {
            let message = "Unless a valid template_id is provided, the content parameter is required. There must be at least one defined content block.";
            found.push(Error::field("content", message));
        }
        return;
    }
    for (index, content) in contents.iter().enumerate() {
        for name in ["type", "value"] {
            if text(content, name).is_none_or(str::is_empty) {
                let message = format!(
                    "The content {name} must be a string at least one character in length."
                );
                found.push(Error::field(format!("content.{index}.{name}"), message));
            }
        }
    }
    let types: Vec<_> = contents
        .iter()
        .filter_map(|content| text(content, "type"))
        .collect();
    let plain = types.iter().position(|t| *t == "text/plain");
    let html = types.iter().position(|t| *t == "text/html");
    if plain.is_some_and(|at| at != 0) || (html.is_some_and(|at| at > 1)) {
        let message = "If present, text/plain must be the first content, followed by text/html, followed by any other type.";
        found.push(Error::field("content", message));
    }
}

/// One message per recipient.
fn messages(mail: &Value, id: &str) -> Vec<Message> {
    let received_at = OffsetDateTime::now_utc();
    let mut messages = Vec::new();
    for personalization in personalizations(mail) {
        let from = personalization.get("from").or_else(|| mail.get("from"));
        let subject = text(personalization, "subject").or_else(|| text(mail, "subject"));
        let event_id = [personalization, mail]
            .iter()
            .find_map(|of| text(of.get("custom_args")?, "event_id"));
        for recipient in ["to", "cc", "bcc"]
            .iter()
            .flat_map(|kind| list(personalization, kind))
        {
            let number = messages.len();
            messages.push(Message {
                id: if number == 0 {
                    id.to_owned()
                } else {
                    format!("{id}.{number}")
                },
                provider: Provider::Sendgrid,
                channel: Channel::Email,
                to: text(recipient, "email").unwrap_or_default().to_owned(),
                from: from
                    .and_then(|from| text(from, "email"))
                    .unwrap_or_default()
                    .to_owned(),
                subject: subject.map(str::to_owned),
                text: content(mail, "text/plain"),
                html: content(mail, "text/html"),
                event_id: event_id.map(str::to_owned),
                received_at,
            });
        }
    }
    messages
}

fn content(mail: &Value, kind: &str) -> Option<String> {
    let of_kind = list(mail, "content")
        .iter()
        .find(|content| text(content, "type") == Some(kind))?;
    text(of_kind, "value").map(str::to_owned)
}

fn personalizations(mail: &Value) -> &[Value] {
    list(mail, "personalizations")
}

fn list<'a>(of: &'a Value, name: &str) -> &'a [Value] {
    of.get(name)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn text<'a>(of: &'a Value, name: &str) -> Option<&'a str> {
    of.get(name)?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail() -> Value {
        json!({
            "personalizations": [{
                "to": [{ "email": "jo@example.com", "name": "Jo" }],
                "custom_args": { "event_id": "e1" },
            }],
            "from": { "email": "shop@example.com" },
            "subject": "Hello",
            "content": [
                { "type": "text/plain", "value": "hi" },
                { "type": "text/html", "value": "<p>hi</p>" },
            ],
        })
    }

    fn fields(mail: &Value) -> Vec<String> {
        check(mail)
            .into_iter()
            .filter_map(|error| error.field)
            .collect()
    }

    #[test]
    fn a_complete_mail_is_fine() {
        assert_eq!(check(&mail()), []);
    }

    #[test]
    fn every_missing_field_is_named_at_once() {
        let expected = ["personalizations", "from.email", "subject", "content"];
        assert_eq!(fields(&json!({})), expected);
        assert_eq!(check(&json!([])).len(), 1);
    }

    #[test]
    fn a_bad_value_is_named_by_its_place() {
        let cases = [
            ("/personalizations/0/to", json!([]), "personalizations.0.to"),
            (
                "/personalizations/0/to/0/email",
                json!("jo"),
                "personalizations.0.to.0.email",
            ),
            (
                "/personalizations/0/to/0/email",
                json!("jo@x y"),
                "personalizations.0.to.0.email",
            ),
            (
                "/personalizations/0/custom_args",
                json!({ "n": 1 }),
                "personalizations.0.custom_args",
            ),
            ("/from", json!({ "name": "Shop" }), "from.email"),
            ("/subject", json!(""), "subject"),
            ("/content/0/value", json!(""), "content.0.value"),
            ("/content/0/type", json!("text/calendar"), ""),
            ("/content/1/type", json!("text/plain"), ""),
        ];
        for (pointer, value, field) in cases {
            let mut mail = mail();
            *mail.pointer_mut(pointer).unwrap() = value.clone();
            let expected: Vec<&str> = Some(field).into_iter().filter(|f| !f.is_empty()).collect();
            assert_eq!(fields(&mail), expected, "{pointer} {value}");
        }
    }

    #[test]
    fn plain_text_must_come_before_html() {
        let mut mail = mail();
        mail.pointer_mut("/content")
            .unwrap()
            .as_array_mut()
            .unwrap()
            .reverse();
        assert_eq!(fields(&mail), ["content"]);
    }

    #[test]
    fn the_same_recipient_twice_is_refused() {
        let mut mail = mail();
        *mail.pointer_mut("/personalizations/0").unwrap() = json!({
            "to": [{ "email": "jo@example.com" }],
            "cc": [{ "email": "Jo@example.com" }],
        });
        assert_eq!(fields(&mail), ["personalizations.0.cc.0"]);
    }

    #[test]
    fn every_recipient_gets_a_message_of_his_own() {
        let mut mail = mail();
        let second = json!({ "to": [{ "email": "b@x.example" }], "subject": "Other" });
        mail.pointer_mut("/personalizations")
            .unwrap()
            .as_array_mut()
            .unwrap()
            .push(second);
        let messages = messages(&mail, "id");
        let told: Vec<_> = messages
            .iter()
            .map(|m| {
                (
                    m.id.as_str(),
                    m.to.as_str(),
                    m.subject.as_deref(),
                    m.event_id.as_deref(),
                )
            })
            .collect();
        let expected = [
            ("id", "jo@example.com", Some("Hello"), Some("e1")),
            ("id.1", "b@x.example", Some("Other"), None),
        ];
        assert_eq!(told, expected);
        assert_eq!(messages[0].html.as_deref(), Some("<p>hi</p>"));
    }
}
