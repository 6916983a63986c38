//! Mailgun, `POST /v3/{domain}/messages`, as its public API description says.
//!
//! Checked: Basic authentication, domain, size, and the fields every mail needs, sent as
//! `multipart/form-data` or `application/x-www-form-urlencoded`. Options (`o:`), headers (`h:`) and
//! attachments are taken without a look; of the variables (`v:`) the event is kept.

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;
use time::OffsetDateTime;

use crate::kept::{Channel, Message, Provider};
use crate::{Shared, basic, faults, mime};

/// Most recipients of one request, to, cc and bcc together.
pub const RECIPIENTS_COUNT_MAX: usize = 1_000;
/// Largest request taken.
pub const REQUEST_BYTES_MAX: usize = 25 * 1024 * 1024;
/// The user name of every account.
const USER: &str = "api";

/// Adds the routes of this module.
pub fn routes(config: &mut web::ServiceConfig) {
    config.service(
        web::resource("/v3/{domain}/messages")
            .route(web::post().to(send))
            .default_service(web::to(method_not_allowed)),
    );
}

async fn send(
    request: HttpRequest,
    domain: web::Path<String>,
    shared: web::Data<Shared>,
    body: Result<web::Bytes, actix_web::Error>,
) -> HttpResponse {
    let fault = shared.faults.meet(Provider::Mailgun);
    let handle = || accept(&request, &domain, &shared, body);
    faults::under(fault, &request, handle, refuse).await
}

fn accept(
    request: &HttpRequest,
    domain: &str,
    shared: &Shared,
    body: Result<web::Bytes, actix_web::Error>,
) -> HttpResponse {
    if !basic::is_from(request, USER, &shared.credentials.mailgun_api_key) {
        return refuse(StatusCode::UNAUTHORIZED);
    }
    if domain != shared.credentials.mailgun_domain {
        return error(
            StatusCode::NOT_FOUND,
            &format!("Domain not found: {domain}"),
        );
    }
    let body = match body {
        Ok(body) if body.len() <= REQUEST_BYTES_MAX => body,
        Ok(_) => return refuse(StatusCode::PAYLOAD_TOO_LARGE),
        Err(error) => return refuse(error.as_response_error().status_code()),
    };
    let Some(form) = Form::read(request, &body) else {
        return refuse(StatusCode::BAD_REQUEST);
    };
    match form.order() {
        Ok(order) => queue(&order, domain, shared),
        Err(message) => error(StatusCode::BAD_REQUEST, &message),
    }
}

/// The error body of a status. Mailgun's 401 is the one that is no JSON.
fn refuse(status: StatusCode) -> HttpResponse {
    let message = match status.as_u16() {
        401 => {
            let realm = HeaderValue::from_static("Basic realm=\"MG API\"");
            return HttpResponse::Unauthorized()
                .insert_header((WWW_AUTHENTICATE, realm))
                .content_type("text/plain; charset=utf-8")
                .body("Forbidden");
        }
        413 => "Request Entity Too Large",
        429 => "Too Many Requests",
        500.. => "Internal Server Error",
        _ => status.canonical_reason().unwrap_or("error"),
    };
    error(status, message)
}

fn error(status: StatusCode, message: &str) -> HttpResponse {
    HttpResponse::build(status).json(json!({ "message": message }))
}

async fn method_not_allowed() -> HttpResponse {
    let mut answer = refuse(StatusCode::METHOD_NOT_ALLOWED);
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("POST"));
    answer
}

/// The fields as sent.
struct Form(Vec<(String, String)>);

/// A mail that can be sent.
#[derive(Debug, PartialEq, Eq)]
struct Order {
    from: String,
    to: Vec<String>,
    subject: Option<String>,
    text: Option<String>,
    html: Option<String>,
    event_id: Option<String>,
}

impl Form {
    fn read(request: &HttpRequest, body: &[u8]) -> Option<Self> {
        let content_type = request.headers().get(CONTENT_TYPE)?.to_str().ok()?;
        let essence = content_type.split(';').next()?.trim().to_ascii_lowercase();
        match essence.as_str() {
            "multipart/form-data" => mime::form_fields(content_type, body).ok().map(Self),
            "application/x-www-form-urlencoded" => {
                let encoded = std::str::from_utf8(body).ok()?;
                let pairs = web::Query::<Vec<(String, String)>>::from_query(encoded).ok()?;
                Some(Self(pairs.into_inner()))
            }
            _ => None,
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        let given = self.0.iter().find(|(n, _)| n == name);
        given
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.trim().is_empty())
    }

    /// The addresses of a field, which may be repeated and hold several.
    fn addresses(&self, name: &str) -> Vec<String> {
        let of_name = self.0.iter().filter(|(n, _)| n == name);
        of_name
            .flat_map(|(_, value)| value.split(','))
            .map(|one| address(one).to_owned())
            .filter(|one| !one.is_empty())
            .collect()
    }

    fn order(&self) -> Result<Order, String> {
        let not_valid = |name: &str| {
            format!("{name} parameter is not a valid address. please check documentation")
        };
        let from = self.get("from").ok_or("from parameter is missing")?;
        let to = self.addresses("to");
        if to.is_empty() {
            return Err("to parameter is missing".to_owned());
        }
        if !is_email(address(from)) {
            return Err(not_valid("from"));
        }
        let mut recipients = Vec::new();
        for (name, addresses) in [
            ("to", to),
            ("cc", self.addresses("cc")),
            ("bcc", self.addresses("bcc")),
        ] {
            if !addresses.iter().all(|one| is_email(one)) {
                return Err(not_valid(name));
            }
            recipients.extend(addresses);
        }
        if recipients.len() > RECIPIENTS_COUNT_MAX {
            return Err(format!(
                "at most {RECIPIENTS_COUNT_MAX} recipients are allowed"
            ));
        }
        if !["text", "html", "amp-html", "template"]
            .iter()
            .any(|name| self.get(name).is_some())
        {
            return Err(
                "Need at least one of 'text', 'html', 'amp-html' or 'template' parameters specified"
                    .to_owned(),
            );
        }
        let text = |name: &str| self.get(name).map(str::to_owned);
        Ok(Order {
            from: address(from).to_owned(),
            to: recipients,
            subject: text("subject"),
            text: text("text"),
            html: text("html"),
            event_id: text("v:event_id"),
        })
    }
}

/// The address alone of `Name <address>`.
fn address(given: &str) -> &str {
    let given = given.trim();
    let within = given
        .rsplit_once('<')
        .and_then(|(_, rest)| rest.strip_suffix('>'));
    within.unwrap_or(given)
}

fn is_email(email: &str) -> bool {
    let Some((local, host)) = email.rsplit_once('@') else {
        return false;
    };
    !local.is_empty()
        && !local.contains('@')
        && host.contains('.')
        && host.split('.').all(|label| !label.is_empty())
        && !email.contains(|c: char| c.is_whitespace() || c.is_control())
}

fn queue(order: &Order, domain: &str, shared: &Shared) -> HttpResponse {
    let received_at = OffsetDateTime::now_utc();
    let id = format!("<{}@{domain}>", uuid::Uuid::now_v7().simple());
    let message = |(number, to): (usize, &String)| Message {
        id: if number == 0 {
            id.clone()
        } else {
            format!("{id}.{number}")
        },
        provider: Provider::Mailgun,
        channel: Channel::Email,
        to: to.clone(),
        from: order.from.clone(),
        subject: order.subject.clone(),
        text: order.text.clone(),
        html: order.html.clone(),
        event_id: order.event_id.clone(),
        received_at,
    };
    let messages = order.to.iter().enumerate().map(message).collect();
    shared.kept.keep(messages);
    HttpResponse::Ok().json(json!({ "id": id, "message": "Queued. Thank you." }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [(&str, &str); 5] = [
        ("from", "Shop <shop@example.com>"),
        ("to", "jo@example.com, Bo <bo@example.com>"),
        ("subject", "Hello"),
        ("text", "hi"),
        ("v:event_id", "e1"),
    ];

    fn order(fields: &[(&str, &str)]) -> Result<Order, String> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Form(fields.iter().map(owned).collect()).order()
    }

    #[test]
    fn a_complete_form_is_an_order() {
        let expected = Order {
            from: "shop@example.com".to_owned(),
            to: vec!["jo@example.com".to_owned(), "bo@example.com".to_owned()],
            subject: Some("Hello".to_owned()),
            text: Some("hi".to_owned()),
            html: None,
            event_id: Some("e1".to_owned()),
        };
        assert_eq!(order(&GOOD), Ok(expected));
    }

    #[test]
    fn what_is_missing_or_wrong_is_said_as_mailgun_says_it() {
        for (name, value, message) in [
            ("from", None, "from parameter is missing"),
            ("to", None, "to parameter is missing"),
            (
                "text",
                None,
                "Need at least one of 'text', 'html', 'amp-html' or 'template' parameters specified",
            ),
            (
                "from",
                Some("shop"),
                "from parameter is not a valid address. please check documentation",
            ),
            (
                "to",
                Some("jo@x y.example"),
                "to parameter is not a valid address. please check documentation",
            ),
        ] {
            let mut fields: Vec<_> = GOOD.iter().copied().filter(|(n, _)| *n != name).collect();
            fields.extend(value.map(|value| (name, value)));
            assert_eq!(order(&fields), Err(message.to_owned()));
        }
    }
}
