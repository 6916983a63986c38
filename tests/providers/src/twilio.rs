//! Twilio, `POST /2010-04-01/Accounts/{Sid}/Messages.json`, as its public API description says.

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use crate::kept::{Channel, Message, Provider};
use crate::{Credentials, Shared};
use crate::{basic, faults};

/// Longest text of a message, in characters.
pub const BODY_CHARS_MAX: usize = 1_600;
const API_VERSION: &str = "2010-04-01";

/// An error of Twilio's own numbering.
#[derive(Debug, PartialEq, Eq)]
struct Error {
    status: u16,
    code: u32,
    message: String,
}

impl Error {
    fn new(status: u16, code: u32, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
        }
    }

    fn answer(&self) -> HttpResponse {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST);
        HttpResponse::build(status).json(json!({
            "code": self.code,
            "message": self.message,
            "more_info": format!("https://www.twilio.com/docs/errors/{}", self.code),
            "status": self.status,
        }))
    }
}

/// Adds the routes of this module.
pub fn routes(config: &mut web::ServiceConfig) {
    config.service(
        web::resource("/2010-04-01/Accounts/{sid}/Messages.json")
            .route(web::post().to(send))
            .default_service(web::to(method_not_allowed)),
    );
}

async fn send(
    request: HttpRequest,
    account: web::Path<String>,
    shared: web::Data<Shared>,
    body: Result<web::Bytes, actix_web::Error>,
) -> HttpResponse {
    let fault = shared.faults.meet(Provider::Twilio);
    let handle = || accept(&request, &account, &shared, body);
    faults::under(fault, &request, handle, refuse).await
}

fn accept(
    request: &HttpRequest,
    account: &str,
    shared: &Shared,
    body: Result<web::Bytes, actix_web::Error>,
) -> HttpResponse {
    let Credentials {
        twilio_account_sid: sid,
        twilio_auth_token: token,
        ..
    } = &shared.credentials;
    if !basic::is_from(request, sid, token) {
        let mut answer = refuse(StatusCode::UNAUTHORIZED);
        let realm = HeaderValue::from_static("Basic realm=\"Twilio API\"");
        answer
            .headers_mut()
            .insert(actix_web::http::header::WWW_AUTHENTICATE, realm);
        return answer;
    }
    if account != sid {
        let message = format!("The requested resource {} was not found", request.path());
        return Error::new(404, 20404, message).answer();
    }
    let body = match body {
        Ok(body) => body,
        Err(error) => return refuse(error.as_response_error().status_code()),
    };
    let form = Form::parse(&body);
    match form.order() {
        Ok(order) => created(account, &order, shared),
        Err(error) => error.answer(),
    }
}

/// The error body of a status.
fn refuse(status: StatusCode) -> HttpResponse {
    let (code, message) = match status.as_u16() {
        401 => (20003, "Authenticate"),
        403 => (20006, "Access Denied"),
        404 => (20404, "The requested resource was not found"),
        405 => (20004, "Method not allowed"),
        429 => (20429, "Too Many Requests"),
        503 => (20503, "Service Unavailable"),
        500.. => (20500, "Internal Server Error"),
        _ => (20001, "Bad Request"),
    };
    Error::new(status.as_u16(), code, message).answer()
}

async fn method_not_allowed() -> HttpResponse {
    let mut answer = refuse(StatusCode::METHOD_NOT_ALLOWED);
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("POST"));
    answer
}

/// The parameters as sent, form-encoded.
struct Form(Vec<(String, String)>);

/// A message that can be sent.
#[derive(Debug, PartialEq, Eq)]
struct Order {
    to: String,
    from: String,
    body: String,
    event_id: Option<String>,
}

impl Form {
    /// What cannot be read as a form has no parameters, so the first required one is missing.
    fn parse(body: &[u8]) -> Self {
        Self(std::str::from_utf8(body).map(pairs).unwrap_or_default())
    }

    fn get(&self, name: &str) -> Option<&str> {
        let given = self
            .0
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.trim());
        given.filter(|value| !value.is_empty())
    }

    fn order(&self) -> Result<Order, Error> {
        let to = self
            .get("To")
            .ok_or_else(|| Error::new(400, 21604, "A 'To' phone number is required."))?;
        let from = self
            .get("From")
            .or_else(|| self.get("MessagingServiceSid"))
            .ok_or_else(|| Error::new(400, 21603, "A 'From' phone number is required."))?;
        let body = self
            .get("Body")
            .ok_or_else(|| Error::new(400, 21602, "Message body is required."))?;
        if !is_e164(to) {
            return Err(Error::new(
                400,
                21211,
                format!("Invalid 'To' Phone Number: {}", masked(to)),
            ));
        }
        if !is_sender(from) {
            return Err(Error::new(
                400,
                21212,
                format!("Invalid From Number (caller ID): {from}"),
            ));
        }
        if body.chars().count() > BODY_CHARS_MAX {
            let message = format!(
                "The concatenated message body exceeds the {BODY_CHARS_MAX} character limit"
            );
            return Err(Error::new(400, 21617, message));
        }
        let callback = self.get("StatusCallback");
        if callback.is_some_and(|url| !is_http_url(url)) {
            return Err(Error::new(
                400,
                21609,
                "The 'StatusCallback' URL is not a valid URL.",
            ));
        }
        Ok(Order {
            to: to.to_owned(),
            from: from.to_owned(),
            body: body.to_owned(),
            event_id: callback.and_then(event_id),
        })
    }
}

fn pairs(encoded: &str) -> Vec<(String, String)> {
    web::Query::<Vec<(String, String)>>::from_query(encoded)
        .map(web::Query::into_inner)
        .unwrap_or_default()
}

fn is_e164(number: &str) -> bool {
    let digits = number.strip_prefix('+').unwrap_or_default();
    (7..=15).contains(&digits.len())
        && digits.bytes().all(|b| b.is_ascii_digit())
        && !digits.starts_with('0')
}

/// A number, a short code, an alphanumeric sender id, or a messaging service.
fn is_sender(sender: &str) -> bool {
    let short_code = (3..=8).contains(&sender.len()) && sender.bytes().all(|b| b.is_ascii_digit());
    let named = (1..=11).contains(&sender.len())
        && sender
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b' ')
        && sender.bytes().any(|b| b.is_ascii_alphabetic());
    let service = sender.len() == 34
        && sender.starts_with("MG")
        && sender.bytes().all(|b| b.is_ascii_alphanumeric());
    is_e164(sender) || short_code || named || service
}

/// The first characters only, as Twilio's own message does with numbers it cannot read.
fn masked(number: &str) -> String {
    number.chars().take(5).chain("XXXX".chars()).collect()
}

fn is_http_url(url: &str) -> bool {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
    host.is_some_and(|host| !host.is_empty() && !host.contains(char::is_whitespace))
}

fn event_id(callback: &str) -> Option<String> {
    let (_, query) = callback.split('#').next()?.split_once('?')?;
    pairs(query)
        .into_iter()
        .find(|(name, _)| name == "event_id")
        .map(|(_, value)| value)
}

fn created(account: &str, order: &Order, shared: &Shared) -> HttpResponse {
    let now = OffsetDateTime::now_utc();
    let sid = format!("SM{}", uuid::Uuid::now_v7().simple());
    let answer = resource(account, order, &sid, now);
    shared.kept.keep(vec![Message {
        id: sid,
        provider: Provider::Twilio,
        channel: Channel::Sms,
        to: order.to.clone(),
        from: order.from.clone(),
        subject: None,
        text: Some(order.body.clone()),
        html: None,
        event_id: order.event_id.clone(),
        received_at: now,
    }]);
    HttpResponse::Created().json(answer)
}

/// The message resource as Twilio answers it at once: queued, neither sent nor priced yet.
fn resource(account: &str, order: &Order, sid: &str, now: OffsetDateTime) -> Value {
    let at = now.format(&Rfc2822).unwrap_or_default();
    let uri = format!("/{API_VERSION}/Accounts/{account}/Messages/{sid}");
    json!({
        "account_sid": account,
        "api_version": API_VERSION,
        "body": order.body,
        "date_created": at,
        "date_sent": null,
        "date_updated": at,
        "direction": "outbound-api",
        "error_code": null,
        "error_message": null,
        "from": order.from,
        "messaging_service_sid": null,
        "num_media": "0",
        "num_segments": segments_count(&order.body).to_string(),
        "price": null,
        "price_unit": "USD",
        "sid": sid,
        "status": "queued",
        "subresource_uris": { "media": format!("{uri}/Media.json") },
        "tags": null,
        "to": order.to,
        "uri": format!("{uri}.json"),
    })
}

/// Counted as 7-bit text when it is ASCII and as UCS-2 otherwise, which is a little more than
/// Twilio counts for texts with the few accented letters that fit in 7 bits.
fn segments_count(body: &str) -> usize {
    let units = body.encode_utf16().count();
    let (alone_max, joined_max) = if body.is_ascii() {
        (160, 153)
    } else {
        (70, 67)
    };
    if units <= alone_max {
        1
    } else {
        units.div_ceil(joined_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "To=%2B447700900123&From=%2B15005550006&Body=Hello+there&StatusCallback=http%3A%2F%2F127.0.0.1%2Fsms%3Fevent_id%3De%252D1%26x%3Dy";

    fn order(form: &str) -> Result<Order, u32> {
        Form::parse(form.as_bytes())
            .order()
            .map_err(|error| error.code)
    }

    #[test]
    fn a_complete_form_is_an_order() {
        let expected = Order {
            to: "+447700900123".to_owned(),
            from: "+15005550006".to_owned(),
            body: "Hello there".to_owned(),
            event_id: Some("e-1".to_owned()),
        };
        assert_eq!(order(GOOD), Ok(expected));
    }

    #[test]
    fn what_is_missing_or_wrong_has_twilios_code() {
        let long = "x".repeat(BODY_CHARS_MAX + 1);
        let cases = [
            ("", 21604),
            ("not a form \u{0}", 21604),
            ("From=%2B15005550006&Body=b", 21604),
            ("To=%2B447700900123&Body=b", 21603),
            ("To=%2B447700900123&From=%2B15005550006", 21602),
            ("To=07700900123&From=%2B15005550006&Body=b", 21211),
            ("To=%2B447700900123&From=!&Body=b", 21212),
            (
                "To=%2B447700900123&From=Shop&Body=b&StatusCallback=nowhere",
                21609,
            ),
            (&format!("To=%2B447700900123&From=12345&Body={long}"), 21617),
        ];
        for (form, code) in cases {
            assert_eq!(order(form), Err(code), "{form:.60}");
        }
    }

    #[test]
    fn a_callback_names_no_event_unless_it_does() {
        assert_eq!(event_id("http://x/"), None);
        assert_eq!(event_id("http://x/?a=b#?event_id=1"), None);
        assert_eq!(event_id("http://x/?a=b&event_id=1#f"), Some("1".to_owned()));
    }

    #[test]
    fn segments_are_counted_by_alphabet() {
        assert_eq!(segments_count(&"a".repeat(160)), 1);
        assert_eq!(segments_count(&"a".repeat(161)), 2);
        assert_eq!(segments_count(&"é".repeat(71)), 2);
    }
}
