//! SendGrid, `POST /v3/mail/send`.

use events::ids::EventId;
use reqwest::Url;
use serde::{Deserialize, Serialize};

use super::{Answer, Bounds, DETAIL_CHARS_MAX, Verdict, call, meaning};
use crate::{settings::ProviderUrl, texts::Mail};

/// Its name, as in the settings, the ledger, the metrics and the spans.
pub const NAME: &str = "sendgrid";
/// Most fields of an error body that are named.
const FIELDS_COUNT_MAX: usize = 5;

/// SendGrid's API.
#[derive(Clone)]
pub struct SendGrid {
    client: reqwest::Client,
    bounds: Bounds,
    url: Url,
    api_key: String,
    from: String,
}

#[derive(Serialize)]
struct Request<'a> {
    personalizations: [Personalization<'a>; 1],
    from: Address<'a>,
    subject: &'a str,
    content: [Content<'a>; 2],
}

#[derive(Serialize)]
struct Personalization<'a> {
    to: [Address<'a>; 1],
    custom_args: CustomArgs,
}

#[derive(Serialize)]
struct Address<'a> {
    email: &'a str,
}

#[derive(Serialize)]
struct CustomArgs {
    event_id: EventId,
}

#[derive(Serialize)]
struct Content<'a> {
    r#type: &'static str,
    value: &'a str,
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<FieldError>,
}

#[derive(Deserialize)]
struct FieldError {
    field: Option<String>,
}

impl SendGrid {
    /// The API below `base`, called with `api_key`; mails come from the address `from`.
    pub fn new(
        client: reqwest::Client,
        bounds: Bounds,
        base: &ProviderUrl,
        api_key: String,
        from: String,
    ) -> Self {
        Self {
            client,
            bounds,
            url: base.join(&["v3", "mail", "send"]),
            api_key,
            from,
        }
    }

    /// Sends one mail to the address `to`, which names the event it is about.
    pub async fn send(&self, to: &str, mail: &Mail, event_id: EventId) -> Verdict {
        let body = Request {
            personalizations: [Personalization {
                to: [Address { email: to }],
                custom_args: CustomArgs { event_id },
            }],
            from: Address { email: &self.from },
            subject: &mail.subject,
            content: [
                Content {
                    r#type: "text/plain",
                    value: &mail.text,
                },
                Content {
                    r#type: "text/html",
                    value: &mail.html,
                },
            ],
        };
        let request = self
            .client
            .post(self.url.clone())
            .bearer_auth(&self.api_key)
            .json(&body);
        match call(NAME, request, self.bounds).await {
            Ok(answer) => meaning(&answer, answer.message_id.clone(), fields(&answer)),
            Err(verdict) => verdict,
        }
    }
}

/// The names of the fields that are wrong. The provider's sentences stay out: they may repeat the address.
fn fields(answer: &Answer) -> Option<String> {
    let found: Errors = serde_json::from_slice(&answer.body).ok()?;
    let is_name = |field: &String| {
        !field.is_empty()
            && field
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_'))
    };
    let names = found
        .errors
        .into_iter()
        .filter_map(|error| error.field)
        .filter(is_name);
    let names: Vec<_> = names.take(FIELDS_COUNT_MAX).collect();
    (!names.is_empty()).then(|| names.join(", ").chars().take(DETAIL_CHARS_MAX).collect())
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;

    fn fields_of(body: &str) -> Option<String> {
        let status = StatusCode::BAD_REQUEST;
        fields(&Answer {
            status,
            message_id: None,
            retry_after: None,
            body: body.as_bytes().to_vec(),
        })
    }

    #[test]
    fn a_refusal_names_fields_and_no_personal_data() {
        let body = r#"{"errors":[{"message":"ada@example.com is bad","field":"personalizations.0.to.0.email","help":null},
            {"message":"x","field":"ada@example.com"},{"message":"no field"}]}"#;
        assert_eq!(
            fields_of(body),
            Some("personalizations.0.to.0.email".to_owned())
        );
        for body in [
            "",
            "<html>",
            "[]",
            r#"{"errors":[]}"#,
            r#"{"errors":[{"field":7}]}"#,
        ] {
            assert_eq!(fields_of(body), None, "{body}");
        }
    }
}
