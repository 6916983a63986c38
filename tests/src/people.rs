//! Users of the system, each test with its own.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    environment, eventually,
    http::{Answer, Call, command, query},
    stack::BACK_WITHIN,
};

/// A change of role or password and an erasure take effect everywhere within this time.
pub const CUT_OFF_WITHIN: Duration = Duration::from_secs(5);
/// A password that every rule accepts.
pub const PASSWORD: &str = "correct horse battery staple";

/// A registered user who is logged in.
#[derive(Debug, Clone)]
pub struct User {
    /// The id.
    pub id: String,
    /// The address.
    pub email: String,
    /// The access token.
    pub token: String,
    /// How far a query must be to know the user.
    pub consistency_token: String,
}

impl User {
    /// A command of this user.
    pub fn command(&self, method: Method, path: &str) -> Call {
        command(method, path).token(&self.token)
    }

    /// A question of this user.
    pub fn query(&self, path: &str) -> Call {
        query(path).token(&self.token)
    }

    /// Creates an order.
    pub async fn creates(&self, order: &Value) -> Answer {
        self.command(Method::POST, "/orders")
            .json(order)
            .send()
            .await
            .is(201)
    }

    /// Creates an order and waits until queries know it. The token of a later order does not say that this one is
    /// there: they may lie in different partitions.
    pub async fn creates_visibly(&self, order: &Value) -> Answer {
        let created = self.creates(order).await;
        let path = format!("/orders/{}", created.text("id"));
        let read = self.query(&path).after(&created.consistency_token());
        read.send().await.is(200);
        created
    }

    /// Says which notifications he wants.
    pub async fn prefers(&self, emails: bool, sms: bool) {
        let patch = json!({"preferences": {"order_emails": emails, "order_sms": sms}});
        let path = format!("/users/{}", self.id);
        available(|| self.command(Method::PATCH, &path).json(&patch))
            .await
            .is(200);
    }
}

/// A word that no other test has: lower-case letters and digits.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}{}", Uuid::new_v4().simple())
}

/// An address that no other test has.
pub fn unique_email() -> String {
    format!("{}@example.com", unique("u"))
}

/// A phone number that no other test has.
pub fn unique_phone() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!(
        "+49{:013}",
        (Uuid::new_v4().as_u64_pair().0 % 1_000_000_000) * 1_000 + next % 1_000 + 1_000_000_000_000
    )
}

/// What is sent to register.
pub fn registration(email: &str) -> Value {
    json!({"email": email, "password": PASSWORD, "name": "Ada Lovelace", "locale": "en-GB"})
}

/// Registers and logs in.
pub async fn registered_user() -> User {
    register(&registration(&unique_email())).await
}

/// Registers somebody with a phone and logs in.
pub async fn registered_user_with_phone() -> (User, String) {
    let (email, phone) = (unique_email(), unique_phone());
    let mut body = registration(&email);
    body["phone"] = json!(phone);
    (register(&body).await, phone)
}

/// Registers as `body` says and logs in.
pub async fn register(body: &Value) -> User {
    let answer = available(|| command(Method::POST, "/register").json(body))
        .await
        .is(201);
    let (email, password) = (body["email"].as_str(), body["password"].as_str());
    let (email, password) = (email.unwrap_or_default(), password.unwrap_or_default());
    User {
        id: answer.text("id"),
        email: email.to_owned(),
        token: log_in(email, password).await.text("access_token"),
        consistency_token: answer.consistency_token(),
    }
}

/// Tries to log in, whatever comes of it.
pub async fn try_log_in(email: &str, password: &str) -> Answer {
    let body = json!({"email": email, "password": password});
    available(|| command(Method::POST, "/login").json(&body)).await
}

/// Tries to refresh a session, whatever comes of it.
pub async fn try_refresh(refresh_token: &str) -> Answer {
    let body = json!({"refresh_token": refresh_token});
    available(|| command(Method::POST, "/token/refresh").json(&body)).await
}

/// The answer to a login that succeeds.
pub async fn log_in(email: &str, password: &str) -> Answer {
    try_log_in(email, password).await.is(200)
}

/// The answer, once it is another than that shards are moving between nodes, as they do after a test that had
/// two of them.
async fn available(call: impl Fn() -> Call) -> Answer {
    eventually("the shards to be at home", BACK_WITHIN, async || {
        let answer = call().send().await;
        if answer.problem_name() == "unavailable" {
            Err(format!("{answer:?}"))
        } else {
            Ok(answer)
        }
    })
    .await
}

/// The admin of the stack, with a token that is new: a run of all tests takes longer than a token lives.
pub async fn admin() -> User {
    let email = environment::variable("ORDERLOG_ADMIN_EMAIL");
    let token = log_in(&email, &environment::variable("ORDERLOG_ADMIN_PASSWORD"))
        .await
        .text("access_token");
    User {
        id: String::new(),
        email,
        token,
        consistency_token: String::new(),
    }
}

/// Where what a change of an account cut off must be refused, within [`CUT_OFF_WITHIN`]: at both services, for good.
pub async fn is_cut_off(token: &str) {
    let begun = Instant::now();
    for service in [command_door(token), query_door(token)] {
        eventually("a token to be refused", CUT_OFF_WITHIN, async || {
            let answer = service().send().await;
            if answer.status == 401 {
                answer.problem(401, "not-authenticated");
                Ok(())
            } else {
                Err(format!("{answer:?}"))
            }
        })
        .await;
    }
    assert!(begun.elapsed() < CUT_OFF_WITHIN, "{:?}", begun.elapsed());
}

/// Fails if the token is refused by either service during the time in which cut-offs come into force.
pub async fn stays_good(token: &str) {
    let begun = Instant::now();
    let mut looks = tokio::time::interval(Duration::from_millis(100));
    while begun.elapsed() < CUT_OFF_WITHIN {
        looks.tick().await;
        for service in [command_door(token), query_door(token)] {
            let answer = service().send().await;
            assert_ne!(answer.status, 401, "{answer:?}");
        }
    }
}

/// Asks command-api for something that changes nothing.
fn command_door(token: &str) -> Box<dyn Fn() -> Call> {
    let token = token.to_owned();
    Box::new(move || {
        let nowhere = format!("/orders/{}/cancel", Uuid::nil());
        command(Method::POST, &nowhere).token(&token)
    })
}

fn query_door(token: &str) -> Box<dyn Fn() -> Call> {
    let token = token.to_owned();
    Box::new(move || query("/orders?limit=1").token(&token))
}
