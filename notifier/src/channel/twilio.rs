//! Twilio, `POST /2010-04-01/Accounts/{sid}/Messages.json`.

use events::ids::EventId;
use reqwest::Url;
use serde::{Deserialize, Serialize};

use super::{Answer, Bounds, Verdict, call, meaning, reference};
use crate::settings::ProviderUrl;

/// Its name, as in the settings, the ledger, the metrics and the spans.
pub const NAME: &str = "twilio";
const API_VERSION: &str = "2010-04-01";

/// Twilio's API.
#[derive(Clone)]
pub struct Twilio {
    client: reqwest::Client,
    bounds: Bounds,
    url: Url,
    account: Account,
    from: String,
    status_callback: Url,
}

/// An account of Twilio's API.
#[derive(Clone)]
pub struct Account {
    /// Its id, also the user name.
    pub sid: String,
    /// Its password.
    pub auth_token: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Form<'a> {
    to: &'a str,
    from: &'a str,
    body: &'a str,
    status_callback: &'a str,
}

#[derive(Deserialize)]
struct Message {
    sid: String,
}

#[derive(Deserialize)]
struct Error {
    code: u32,
}

impl Twilio {
    /// The API below `base`, called as `account`; texts come from the number or name `from`. Twilio is asked to
    /// report at `public_url`, where the query names the event.
    pub fn new(
        client: reqwest::Client,
        bounds: Bounds,
        base: &ProviderUrl,
        account: Account,
        from: String,
        public_url: &ProviderUrl,
    ) -> Self {
        let url = base.join(&[API_VERSION, "Accounts", &account.sid, "Messages.json"]);
        let status_callback = public_url.join(&["notifications", "sms-status"]);
        Self {
            client,
            bounds,
            url,
            account,
            from,
            status_callback,
        }
    }

    /// Sends one text to the number `to`.
    pub async fn send(&self, to: &str, text: &str, event_id: EventId) -> Verdict {
        let mut callback = self.status_callback.clone();
        callback
            .query_pairs_mut()
            .append_pair("event_id", &event_id.to_string());
        let form = Form {
            to,
            from: &self.from,
            body: text,
            status_callback: callback.as_str(),
        };
        let request = self
            .client
            .post(self.url.clone())
            .basic_auth(&self.account.sid, Some(&self.account.auth_token))
            .form(&form);
        match call(NAME, request, self.bounds).await {
            Ok(answer) => meaning(&answer, sid(&answer), code(&answer)),
            Err(verdict) => verdict,
        }
    }
}

fn sid(answer: &Answer) -> Option<String> {
    let message: Message = serde_json::from_slice(&answer.body).ok()?;
    reference(&message.sid)
}

/// The number of the error. Twilio's sentences stay out: they may repeat the phone number.
fn code(answer: &Answer) -> Option<String> {
    let error: Error = serde_json::from_slice(&answer.body).ok()?;
    Some(format!("code {}", error.code))
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;

    fn answer(body: &str) -> Answer {
        let status = StatusCode::BAD_REQUEST;
        Answer {
            status,
            message_id: None,
            retry_after: None,
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn a_refusal_names_its_code_and_no_personal_data() {
        let body =
            r#"{"code":21211,"message":"The 'To' number +447700900123 is not valid","status":400}"#;
        assert_eq!(code(&answer(body)), Some("code 21211".to_owned()));
        assert_eq!(code(&answer("<html>")), None);
    }

    #[test]
    fn an_answer_without_a_sid_has_no_reference() {
        assert_eq!(sid(&answer(r#"{"sid":"SM1"}"#)), Some("SM1".to_owned()));
        for body in ["", "{}", r#"{"sid":7}"#, r#"{"sid":"a b"}"#] {
            assert_eq!(sid(&answer(body)), None, "{body}");
        }
    }
}
