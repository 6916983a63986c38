//! Calls to the HTTP API: the admin's token, bounded retries, problems.
//!
//! Every call made here may be repeated: reads, logins, orders (they carry an Idempotency-Key), and
//! registrations (a repeated one is refused because the address is taken, which the caller knows
//! how to resolve).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use parking_lot::Mutex;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Certificate, Client, Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use crate::stop::{Reason, Stop};

/// How often one call is tried. With the waits between them this outlasts a restart of 30 s.
pub const ATTEMPTS_COUNT_MAX: u32 = 16;
/// How often the admin logs in again for one call.
const LOGINS_COUNT_MAX: u32 = 2;
/// After so many failed attempts of one call people are told.
const ATTEMPTS_BEFORE_NOTICE_COUNT: u32 = 4;
const NOTICE_EVERY: Duration = Duration::from_secs(5);
const BACKOFF_MS_MIN: u64 = 100;
const BACKOFF_MS_MAX: u64 = 5_000;
/// Longest `Retry-After` that is obeyed; a longer one is cut to this.
const RETRY_AFTER_SECONDS_MAX: u64 = 30;
const CONNECT_SECONDS_MAX: u64 = 5;
const REQUEST_SECONDS_MAX: u64 = 60;
/// Largest answer read.
const ANSWER_BYTES_MAX: usize = 128 * 1024 * 1024;

/// One call, described.
pub struct Call {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// JSON, if any.
    pub body: Option<Vec<u8>>,
    /// Whether the admin's token goes along.
    pub as_admin: bool,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
}

/// What was answered in the end.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// An RFC 9457 body, as far as it is used here.
#[derive(Debug, Default, Deserialize)]
pub struct Problem {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    errors: Vec<FieldProblem>,
}

#[derive(Debug, Default, Deserialize)]
struct FieldProblem {
    #[serde(default)]
    pointer: String,
    #[serde(default)]
    code: String,
}

impl Problem {
    /// The last part of the type, such as `address-taken`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.kind.rsplit('/').next().unwrap_or_default()
    }

    /// The problem in one line that is the same for all problems of its kind: name, and the first
    /// wrong field with positions left out.
    #[must_use]
    pub fn in_short(&self) -> String {
        let Some(first) = self.errors.first() else {
            return self.name().to_owned();
        };
        let parts = first.pointer.split('/');
        let general: Vec<&str> = parts
            .map(|part| {
                if part.parse::<u64>().is_ok() {
                    "*"
                } else {
                    part
                }
            })
            .collect();
        format!("{} {} {}", self.name(), general.join("/"), first.code)
    }
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    /// When it is something else.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> anyhow::Result<T> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("the body of an answer {} cannot be read", self.status))
    }

    /// The body as a problem; an empty one if it is none.
    #[must_use]
    pub fn problem(&self) -> Problem {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Status and problem for people.
    #[must_use]
    pub fn in_words(&self) -> String {
        let problem = self.problem();
        format!(
            "{} {} {}",
            self.status.as_u16(),
            problem.in_short(),
            problem.detail
        )
        .trim()
        .to_owned()
    }

    /// The position in the log that a query can be asked to wait for.
    #[must_use]
    pub fn consistency_token(&self) -> Option<&str> {
        self.header("Consistency-Token")
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn is_passing(&self) -> bool {
        let in_flight = self.status == StatusCode::CONFLICT
            && self.problem().name() == "idempotency-key-in-flight";
        in_flight || self.status == StatusCode::TOO_MANY_REQUESTS || self.status.is_server_error()
    }
}

/// No usable answer; the run stops.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// The run was already told to stop.
    #[error("stopped before it was answered")]
    Stopped,
    /// All attempts failed.
    #[error("no usable answer in {ATTEMPTS_COUNT_MAX} attempts; the last: {0}")]
    GaveUp(String),
}

/// Where to call and as whom.
pub struct Access {
    /// Base URL of the gateway.
    pub url: String,
    /// Certificates (PEM) of the authorities to trust; empty: the system's.
    pub authorities: Vec<u8>,
    /// The admin's address.
    pub admin_email: String,
    /// The admin's password.
    pub admin_password: String,
}

/// The HTTP API as one caller sees it.
pub struct Api {
    client: Client,
    access: Access,
    token: tokio::sync::Mutex<Token>,
    /// How many attempts failed and were repeated.
    pub retries_count: AtomicU64,
    next_notice: Mutex<Option<Instant>>,
    stop: Stop,
}

#[derive(Default, Clone)]
struct Token {
    value: Arc<str>,
    logins_count: u64,
}

#[derive(Deserialize)]
struct LoggedIn {
    access_token: String,
}

impl Api {
    /// Nothing is called yet.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up, or the authorities are no certificates.
    pub fn new(access: Access, concurrency: usize, stop: Stop) -> anyhow::Result<Self> {
        let mut client = Client::builder()
            .connect_timeout(Duration::from_secs(CONNECT_SECONDS_MAX))
            .timeout(Duration::from_secs(REQUEST_SECONDS_MAX))
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(concurrency)
            .tcp_nodelay(true);
        if !access.authorities.is_empty() {
            let authorities = Certificate::from_pem_bundle(&access.authorities)
                .context("the file of authorities cannot be read")?;
            client = client.tls_certs_only(authorities);
        }
        let client = client.build().context("the HTTP client cannot be set up")?;
        Ok(Self {
            client,
            access,
            token: tokio::sync::Mutex::default(),
            retries_count: AtomicU64::new(0),
            next_notice: Mutex::default(),
            stop,
        })
    }

    /// Logs the admin in.
    ///
    /// # Errors
    /// When that is refused or not answered.
    pub async fn log_in_admin(&self) -> anyhow::Result<()> {
        self.renew_token(0).await
    }

    /// Calls until there is an answer that would not change by itself. A stop is ordered when
    /// there is none in spite of all attempts.
    ///
    /// # Errors
    /// [`NoAnswer`] when all attempts fail or the run stops between them.
    pub async fn call(&self, call: &Call) -> Result<Answer, NoAnswer> {
        let mut last = String::new();
        let mut logins_count = 0;
        for attempt in 0..ATTEMPTS_COUNT_MAX {
            if attempt > 0 {
                self.retries_count.fetch_add(1, Ordering::Relaxed);
            }
            // Not for a login: whoever renews the token holds it meanwhile.
            let token = match call.as_admin {
                true => self.token.lock().await.clone(),
                false => Token::default(),
            };
            let wait = match self.attempt(call, &token.value).await {
                Ok(answer) if answer.status == StatusCode::UNAUTHORIZED && call.as_admin => {
                    logins_count += 1;
                    last = answer.in_words();
                    if logins_count > LOGINS_COUNT_MAX {
                        return Ok(answer);
                    }
                    if let Err(error) = Box::pin(self.renew_token(token.logins_count)).await {
                        last = format!("{error:#}");
                    }
                    Duration::ZERO
                }
                Ok(answer) if answer.is_passing() => {
                    last = answer.in_words();
                    wait_before_retry(attempt, answer.header(RETRY_AFTER.as_str()))
                }
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    last = format!("{error:#}");
                    wait_before_retry(attempt, None)
                }
            };
            if attempt + 1 == ATTEMPTS_COUNT_MAX {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.stop.ordered() => return Err(NoAnswer::Stopped),
            }
            if attempt + 1 >= ATTEMPTS_BEFORE_NOTICE_COUNT {
                self.notice(call, &last);
            }
        }
        let gave_up = NoAnswer::GaveUp(format!("{} {}: {last}", call.method, call.path));
        self.stop.order(Reason::NoAnswer(gave_up.to_string()));
        Err(gave_up)
    }

    /// Says that something is not answered, but not for every call of many.
    fn notice(&self, call: &Call, last: &str) {
        let mut next = self.next_notice.lock();
        let now = Instant::now();
        if next.is_none_or(|next| now >= next) {
            *next = Some(now + NOTICE_EVERY);
            eprintln!("trying again: {} {}: {last}", call.method, call.path);
        }
    }

    async fn attempt(&self, call: &Call, token: &str) -> anyhow::Result<Answer> {
        let url = format!("{}{}", self.access.url, call.path);
        let mut request = self.client.request(call.method.clone(), url);
        if let Some(body) = &call.body {
            request = request
                .header(CONTENT_TYPE, "application/json")
                .body(body.clone());
        }
        if call.as_admin {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        let mut response = request.send().await?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                bail!("the answer is larger than {ANSWER_BYTES_MAX} bytes");
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer {
            status: response.status(),
            headers: response.headers().clone(),
            body,
        })
    }

    /// Logs the admin in unless somebody did since the given count of logins.
    async fn renew_token(&self, seen_logins_count: u64) -> anyhow::Result<()> {
        let mut token = self.token.lock().await;
        if token.logins_count > seen_logins_count {
            return Ok(());
        }
        let answer = self
            .log_in(&self.access.admin_email, &self.access.admin_password)
            .await?;
        if answer.status != StatusCode::OK {
            bail!("the admin could not log in: {}", answer.in_words());
        }
        let logged_in: LoggedIn = answer.json()?;
        token.value = Arc::from(logged_in.access_token);
        token.logins_count += 1;
        Ok(())
    }

    /// Logs somebody in and answers whatever the server says.
    ///
    /// # Errors
    /// [`NoAnswer`] as [`Api::call`].
    pub async fn log_in(&self, email: &str, password: &str) -> Result<Answer, NoAnswer> {
        let body = json!({ "email": email, "password": password });
        let call = Call {
            method: Method::POST,
            path: "/login".to_owned(),
            body: Some(body.to_string().into_bytes()),
            as_admin: false,
            headers: Vec::new(),
        };
        self.call(&call).await
    }
}

/// Doubling from [`BACKOFF_MS_MIN`] to [`BACKOFF_MS_MAX`], between half and whole by chance, and
/// not less than the server asks for.
fn wait_before_retry(attempt: u32, retry_after: Option<&str>) -> Duration {
    let whole = BACKOFF_MS_MIN
        .saturating_mul(1 << attempt.min(16))
        .min(BACKOFF_MS_MAX);
    let chosen = Duration::from_millis(rand::random_range(whole / 2..=whole));
    let asked: Option<u64> = retry_after.and_then(|text| text.trim().parse().ok());
    let asked = Duration::from_secs(asked.unwrap_or(0).min(RETRY_AFTER_SECONDS_MAX));
    chosen.max(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_grows_and_obeys_the_server_within_bounds() {
        let (min, max) = (BACKOFF_MS_MIN / 2, BACKOFF_MS_MAX);
        for attempt in 0..ATTEMPTS_COUNT_MAX {
            let wait = wait_before_retry(attempt, None).as_millis();
            assert!(
                (u128::from(min)..=u128::from(max)).contains(&wait),
                "{attempt}: {wait}"
            );
        }
        assert_eq!(wait_before_retry(0, Some("2")), Duration::from_secs(2));
        assert_eq!(
            wait_before_retry(0, Some("9999")),
            Duration::from_secs(RETRY_AFTER_SECONDS_MAX)
        );
        assert!(wait_before_retry(0, Some("soon")) < Duration::from_secs(1));
    }

    #[test]
    fn problems_of_one_kind_read_the_same() {
        let body = r#"{"type":"/problems/invalid","title":"t","status":422,"errors":
            [{"pointer":"/lines/17/quantity","code":"too-large","message":"m"}]}"#;
        let problem: Problem = serde_json::from_str(body).unwrap();
        assert_eq!(problem.in_short(), "invalid /lines/*/quantity too-large");
        let plain: Problem = serde_json::from_str(r#"{"type":"/problems/not-found"}"#).unwrap();
        assert_eq!(
            (plain.name(), plain.in_short().as_str()),
            ("not-found", "not-found")
        );
    }
}
