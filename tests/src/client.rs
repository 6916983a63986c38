//! A client of the command side that does what a client should, and writes down what it was told.
//!
//! It repeats what it was not told the end of, under the same key where there is one, at the next node. It believes
//! what it is told: `unavailable` is "nothing was done", a refusal is the end of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use events::ids::OrderId;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    eventually,
    history::{Call, Caller, History, IfMatch, Sent, Shown, Status, Told},
    http::{self, Answer},
    orders::{contents_of, order_of},
    people::User,
    stack::BACK_WITHIN,
};

/// Before a request is repeated: doubled each time, so that what is coming back is not kept busy with refusing.
const BEFORE_RETRY_MIN: Duration = Duration::from_millis(50);
const BEFORE_RETRY_MAX: Duration = Duration::from_millis(400);

/// Somebody who sends commands, to some nodes.
#[derive(Clone)]
pub struct Client {
    who: Caller,
    token: String,
    nodes: Arc<[String]>,
    turn: Arc<AtomicUsize>,
    history: History,
}

/// What a client wants: a request that can be repeated.
#[derive(Debug, Clone)]
pub struct Intent {
    /// What is asked for.
    pub sent: Sent,
    /// The `Idempotency-Key`.
    pub key: Option<String>,
    /// The `If-Match`.
    pub if_match: Option<IfMatch>,
}

impl Intent {
    /// An order of this article.
    pub fn create(sku: &str) -> Self {
        let sku = sku.to_owned();
        Self::of(Sent::Create { sku })
    }

    /// This article instead, based on a version.
    pub fn update(order: OrderId, sku: &str, if_match: IfMatch) -> Self {
        let sku = sku.to_owned();
        Self {
            if_match: Some(if_match),
            ..Self::of(Sent::Update { order, sku })
        }
    }

    /// No order any more.
    pub fn cancel(order: OrderId) -> Self {
        Self::of(Sent::Cancel { order })
    }

    /// The next step.
    pub fn status(order: OrderId, to: Status) -> Self {
        Self::of(Sent::Status { order, to })
    }

    /// Under a key.
    pub fn key(self, key: &str) -> Self {
        Self {
            key: Some(key.to_owned()),
            ..self
        }
    }

    fn of(sent: Sent) -> Self {
        Self {
            sent,
            key: None,
            if_match: None,
        }
    }

    /// Whether repeating it does no harm: an order without a key would be ordered twice.
    pub fn can_be_repeated(&self) -> bool {
        self.key.is_some() || self.sent.order().is_some()
    }
}

impl Client {
    /// A user as client of these nodes, or of the gateway.
    pub fn of(user: &User, nodes: &[String], history: &History) -> Self {
        let who = match user.id.parse() {
            Ok(id) => Caller::User(id),
            // The admin's id is not known to tests.
            Err(_) => Caller::Admin,
        };
        Self {
            who,
            token: user.token.clone(),
            nodes: nodes.into(),
            turn: Arc::default(),
            history: history.clone(),
        }
    }

    /// The same client, of one node only.
    pub fn at(&self, node: &str) -> Self {
        Self {
            nodes: [node.to_owned()].into(),
            turn: Arc::default(),
            ..self.clone()
        }
    }

    /// Sends it once, to the node whose turn it is. Who did not do it passes the turn on.
    pub async fn send(&self, intent: &Intent) -> Told {
        let turn = self.turn.load(Ordering::Relaxed);
        let node = &self.nodes[turn % self.nodes.len()];
        let id = Uuid::new_v4();
        let began = self.history.now();
        let told = match self.request(intent, node, id).try_send().await {
            Ok(answer) => told(&answer),
            Err(_) => Told::Unknown,
        };
        self.history.add(Call {
            id,
            caller: self.who,
            key: intent.key.clone(),
            if_match: intent.if_match,
            sent: intent.sent.clone(),
            began,
            ended: self.history.now(),
            told: told.clone(),
        });
        if !is_final(&told) {
            let next = turn.wrapping_add(1);
            self.turn.store(next, Ordering::Relaxed);
        }
        told
    }

    /// Repeats it until it is answered for good, or until `gives_up` says so of an answer that is not final.
    pub async fn persist(&self, intent: &Intent, mut gives_up: impl FnMut(&Told) -> bool) -> Told {
        let mut told = self.send(intent).await;
        let mut wait = BEFORE_RETRY_MIN;
        while !is_final(&told) && !gives_up(&told) {
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(BEFORE_RETRY_MAX);
            told = self.send(intent).await;
        }
        told
    }

    /// Repeats it until it is answered for good; fails when that takes longer than service may be away.
    pub async fn settle(&self, intent: &Intent) -> Told {
        eventually("an answer for good", BACK_WITHIN, async || {
            match self.send(intent).await {
                told if is_final(&told) => Ok(told),
                told => Err(format!("{told:?} to {intent:?}")),
            }
        })
        .await
    }

    /// Repeats it until it is done; fails when it is refused, or takes too long.
    pub async fn does(&self, intent: &Intent) -> Shown {
        let told = self.settle(intent).await;
        let Told::Done(shown) = told else {
            panic!("{told:?} to {intent:?}")
        };
        shown
    }

    fn request(&self, intent: &Intent, node: &str, id: Uuid) -> http::Call {
        let (method, path, body) = match &intent.sent {
            Sent::Create { sku } => (Method::POST, "/orders".to_owned(), order_of(sku)),
            Sent::Update { order, sku } => {
                (Method::PUT, format!("/orders/{order}"), contents_of(sku))
            }
            Sent::Cancel { order } => {
                let body = json!({"reason": "changed my mind"});
                (Method::POST, format!("/orders/{order}/cancel"), body)
            }
            Sent::Status { order, to } => {
                let body = json!({"status": to.name()});
                (Method::PUT, format!("/orders/{order}/status"), body)
            }
        };
        let mut call = http::call(method, node, &path)
            .token(&self.token)
            .header("x-request-id", &id.to_string())
            .json(&body);
        if let Some(key) = &intent.key {
            call = call.key(key);
        }
        match intent.if_match {
            Some(IfMatch::Any) => call.if_match("*"),
            Some(IfMatch::Version(version)) => call.if_match(&format!("\"{version}\"")),
            None => call,
        }
    }
}

/// Whether the same request will not be answered otherwise by repeating it.
pub fn is_final(told: &Told) -> bool {
    match told {
        Told::Done(_)
        | Told::Stale { .. }
        | Told::RuleBroken
        | Told::NotFound
        | Told::KeyReused => true,
        Told::KeyInFlight | Told::Unavailable | Told::Unknown => false,
    }
}

fn told(answer: &Answer) -> Told {
    match (answer.status, answer.problem_name().as_str()) {
        (200 | 201, _) => Told::Done(shown(answer)),
        (412, "stale-version") => {
            match answer.problem(412, "stale-version")["current_version"].as_u64() {
                Some(current) => Told::Stale { current },
                None => panic!("no current_version: {answer:?}"),
            }
        }
        (409, "rule-broken") => {
            answer.problem(409, "rule-broken");
            Told::RuleBroken
        }
        (409, "idempotency-key-in-flight") => {
            answer.problem(409, "idempotency-key-in-flight");
            Told::KeyInFlight
        }
        (404, "not-found") => Told::NotFound,
        (422, "idempotency-key-reused") => Told::KeyReused,
        // The request was not even read.
        (408, _) => Told::Unavailable,
        (503, "unavailable") => {
            answer.problem(503, "unavailable");
            Told::Unavailable
        }
        (503, "outcome-unknown") => {
            answer.problem(503, "outcome-unknown");
            Told::Unknown
        }
        _ => panic!("no client expects {answer:?}"),
    }
}

fn shown(answer: &Answer) -> Shown {
    let body = answer.json();
    let version = body["version"].as_u64().expect("a version");
    assert_eq!(answer.etag(), format!("\"{version}\""), "{answer:?}");
    let text = |value: &Value| match value.as_str() {
        Some(text) => text.to_owned(),
        None => panic!("not the text of an order: {answer:?}"),
    };
    Shown {
        order: text(&body["id"]).parse().expect("an order's id"),
        version,
        customer: text(&body["customer_id"]).parse().expect("a user's id"),
        status: Status::named(&text(&body["status"])).expect("a status"),
        sku: text(&body["lines"][0]["sku"]),
        token: answer
            .header_if_there("consistency-token")
            .map(str::to_owned),
    }
}
