//! Calls to the HTTP APIs, and answers that can be questioned. Whatever is answered must be described.

use std::{fmt, sync::LazyLock, time::Duration};

use reqwest::{
    Method,
    header::{HeaderMap, HeaderValue},
};
use serde_json::Value;

use crate::{described, environment};

/// Longer than the services wait for anything unless asked to wait longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
const CONNECTED_WITHIN: Duration = Duration::from_secs(2);

/// The media type of every failed answer.
const PROBLEM_JSON: &str = "application/problem+json";

static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(|| {
    reqwest::Client::builder()
        .connect_timeout(CONNECTED_WITHIN)
        .timeout(ANSWER_WITHIN)
        .redirect(reqwest::redirect::Policy::none())
        .tls_certs_only(environment::authorities())
        .build()
        .expect("an HTTP client")
});

/// A request that is being put together.
pub struct Call {
    name: String,
    request: reqwest::RequestBuilder,
    /// Method and path, where the API description speaks of the service.
    described: Option<(Method, String)>,
}

/// A command, through the gateway.
pub fn command(method: Method, path: &str) -> Call {
    call(method, &environment::url(), path)
}

/// A question, through the gateway.
pub fn query(path: &str) -> Call {
    call(Method::GET, &environment::url(), path)
}

/// A call to one certain service, past the gateway.
pub fn call(method: Method, base: &str, path: &str) -> Call {
    Call {
        name: format!("{method} {path}"),
        described: described::speaks_of(base).then(|| (method.clone(), path.to_owned())),
        request: CLIENT.request(method, format!("{base}{path}")),
    }
}

impl Call {
    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self.name = format!("{} [{name}: {value}]", self.name);
        self
    }

    /// Signs the request with an access token.
    pub fn token(mut self, token: &str) -> Self {
        self.request = self.request.bearer_auth(token);
        self
    }

    /// Sends a JSON body.
    pub fn json(mut self, body: &Value) -> Self {
        self.request = self.request.json(body);
        self
    }

    /// Sends any body.
    pub fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.request = self
            .request
            .header("content-type", content_type)
            .body(body.into());
        self
    }

    /// On condition that the version is this one.
    pub fn if_match(self, etag: &str) -> Self {
        self.header("if-match", etag)
    }

    /// Under an idempotency key.
    pub fn key(self, key: &str) -> Self {
        self.header("idempotency-key", key)
    }

    /// Not before the read model has reached this point.
    pub fn after(self, token: &str) -> Self {
        self.header("consistency-token", token)
    }

    /// Waits twice as long for the answer as usual.
    pub fn patient(mut self) -> Self {
        self.request = self.request.timeout(2 * ANSWER_WITHIN);
        self
    }

    /// The answer; no answer fails the test.
    pub async fn send(self) -> Answer {
        let name = self.name.clone();
        match self.try_send().await {
            Ok(answer) => answer,
            Err(error) => panic!("{name}: no answer: {error:?}"),
        }
    }

    /// The answer, or why there is none.
    pub async fn try_send(self) -> Result<Answer, reqwest::Error> {
        let response = self.request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await?.to_vec();
        let answer = Answer {
            call: self.name,
            status,
            headers,
            body,
        };
        if let Some((method, path)) = &self.described {
            described::check(method, path, &answer);
        }
        Ok(answer)
    }
}

/// What was answered.
#[derive(Clone)]
pub struct Answer {
    call: String,
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body: String = String::from_utf8_lossy(&self.body)
            .chars()
            .take(2_000)
            .collect();
        write!(
            f,
            "{} -> {} {:?} {body}",
            self.call, self.status, self.headers
        )
    }
}

impl Answer {
    /// Fails unless the status is this one.
    #[track_caller]
    pub fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// The body.
    #[track_caller]
    pub fn json(&self) -> Value {
        match serde_json::from_slice(&self.body) {
            Ok(body) => body,
            Err(error) => panic!("no JSON ({error}): {self:?}"),
        }
    }

    /// A header, if it is there.
    pub fn header_if_there(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(HeaderValue::to_str)?.ok()
    }

    /// A header that must be there.
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        match self.header_if_there(name) {
            Some(value) => value,
            None => panic!("no {name}: {self:?}"),
        }
    }

    /// The entity tag.
    #[track_caller]
    pub fn etag(&self) -> String {
        self.header("etag").to_owned()
    }

    /// The consistency token.
    #[track_caller]
    pub fn consistency_token(&self) -> String {
        self.header("consistency-token").to_owned()
    }

    /// A member of the body that is a text.
    #[track_caller]
    pub fn text(&self, member: &str) -> String {
        match self.json().get(member).and_then(Value::as_str) {
            Some(text) => text.to_owned(),
            None => panic!("no text {member}: {self:?}"),
        }
    }

    /// The name of the problem, whatever else is wrong with the answer.
    pub fn problem_name(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let kind = body.get("type").and_then(Value::as_str).unwrap_or_default();
        kind.rsplit('/').next().unwrap_or_default().to_owned()
    }

    /// The body of a problem of this status and type, with all that every problem has.
    #[track_caller]
    pub fn problem(&self, status: u16, name: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), PROBLEM_JSON, "{self:?}");
        let body = self.json();
        assert_eq!(body["type"], format!("/problems/{name}"), "{self:?}");
        assert_eq!(body["status"], status, "{self:?}");
        for member in ["title", "detail"] {
            assert!(
                body[member].as_str().is_some_and(|text| !text.is_empty()),
                "no {member}: {self:?}"
            );
        }
        if status == 503 || status == 429 || name == "idempotency-key-in-flight" {
            let seconds: u32 = self.header("retry-after").parse().expect("seconds");
            assert!(seconds >= 1, "{self:?}");
        }
        if status == 401 {
            assert!(
                self.header("www-authenticate").starts_with("Bearer"),
                "{self:?}"
            );
        }
        body
    }

    /// Pointer and code of every error of a 422 `invalid`, sorted.
    #[track_caller]
    pub fn errors(&self) -> Vec<(String, String)> {
        let body = self.problem(422, "invalid");
        let text = |error: &Value, member: &str| match error[member].as_str() {
            Some(text) => text.to_owned(),
            None => panic!("no {member}: {self:?}"),
        };
        let mut errors: Vec<_> = body["errors"]
            .as_array()
            .expect("errors")
            .iter()
            .map(|error| {
                assert!(!text(error, "message").is_empty(), "{self:?}");
                (text(error, "pointer"), text(error, "code"))
            })
            .collect();
        errors.sort();
        errors
    }

    /// Fails unless it is a 422 `invalid` with exactly these pointers.
    #[track_caller]
    pub fn points_at(&self, pointers: &[&str]) {
        let mut wanted = pointers.to_vec();
        wanted.sort_unstable();
        let errors = self.errors();
        let found: Vec<&str> = errors.iter().map(|(pointer, _)| pointer.as_str()).collect();
        assert_eq!(found, wanted, "{self:?}");
    }
}
