//! Mailgun, `POST /v3/{domain}/messages`.

use events::ids::EventId;
use reqwest::Url;
use serde::{Deserialize, Serialize};

use super::{Answer, Bounds, Verdict, call, meaning, reference};
use crate::{settings::ProviderUrl, texts::Mail};

/// Its name, as in the settings, the ledger, the metrics and the spans.
pub const NAME: &str = "mailgun";
/// The user name of every account; the password is the key.
const USER: &str = "api";

/// Mailgun's API.
#[derive(Clone)]
pub struct Mailgun {
    client: reqwest::Client,
    bounds: Bounds,
    url: Url,
    api_key: String,
    from: String,
}

#[derive(Serialize)]
struct Form<'a> {
    from: &'a str,
    to: &'a str,
    subject: &'a str,
    text: &'a str,
    html: &'a str,
    #[serde(rename = "v:event_id")]
    event_id: EventId,
}

#[derive(Deserialize)]
struct Queued {
    id: String,
}

impl Mailgun {
    /// The API below `base`, called with `api_key`; mails come from the address `from` through the sending `domain`.
    pub fn new(
        client: reqwest::Client,
        bounds: Bounds,
        base: &ProviderUrl,
        domain: &str,
        api_key: String,
        from: String,
    ) -> Self {
        Self {
            client,
            bounds,
            url: base.join(&["v3", domain, "messages"]),
            api_key,
            from,
        }
    }

    /// Sends one mail to the address `to`, which names the event it is about.
    pub async fn send(&self, to: &str, mail: &Mail, event_id: EventId) -> Verdict {
        let form = Form {
            from: &self.from,
            to,
            subject: &mail.subject,
            text: &mail.text,
            html: &mail.html,
            event_id,
        };
        let request = self
            .client
            .post(self.url.clone())
            .basic_auth(USER, Some(&self.api_key))
            .form(&form);
        // Its error bodies hold one sentence, which may repeat the address: it stays out.
        match call(NAME, request, self.bounds).await {
            Ok(answer) => meaning(&answer, id(&answer), None),
            Err(verdict) => verdict,
        }
    }
}

fn id(answer: &Answer) -> Option<String> {
    let queued: Queued = serde_json::from_slice(&answer.body).ok()?;
    reference(&queued.id)
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;

    #[test]
    fn the_id_is_taken_where_there_is_one() {
        let answer = |body: &str| Answer {
            status: StatusCode::OK,
            message_id: None,
            retry_after: None,
            body: body.as_bytes().to_vec(),
        };
        let queued = r#"{"id":"<1.2@mg.example.com>","message":"Queued. Thank you."}"#;
        assert_eq!(id(&answer(queued)), Some("<1.2@mg.example.com>".to_owned()));
        for body in ["", "{}", "Forbidden", r#"{"id":7}"#] {
            assert_eq!(id(&answer(body)), None, "{body}");
        }
    }
}
