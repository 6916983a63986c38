//! Clients that order, cancel and retry while something is being broken, and the judge of what became of it.
//!
//! A client does what a client should: it names each intent with an Idempotency-Key and repeats it until it is
//! answered. Now and then it gives up at the first `unavailable`, which promises that nothing was done. The judge
//! reads the whole log and holds every answer against it.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use event_log::Recorded;
use events::{Event, Topic, ids::StreamId};
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::{
    environment, eventually,
    http::{Answer, Call, call},
    log::{names, streams_of},
    orders::{contents_of, order_of},
    people::{User, registered_user, unique},
    postbox,
    stack::{BACK_WITHIN, read_models_equal_the_log},
};

/// Between two intents of a client, so that a test stays short on a small machine.
const BETWEEN_INTENTS: Duration = Duration::from_millis(10);
const BEFORE_RETRY: Duration = Duration::from_millis(50);
/// Every so many intents the order is cancelled, too.
const CANCEL_EVERY: usize = 3;
/// Every so many intents the client gives up at the first `unavailable`.
const GIVES_UP_EVERY: usize = 2;
/// How many orders are asked for one by one, besides the comparison of the whole read model.
const ORDERS_ASKED_FOR: usize = 50;

/// Clients at work.
pub struct Workload {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<Intent>>>,
    customers: Vec<User>,
    urls: Vec<String>,
}

/// Customers for a workload. The first wants mails about his orders.
pub async fn customers(count: usize) -> Vec<User> {
    let mut customers = Vec::new();
    for number in 0..count {
        let customer = registered_user().await;
        customer.prefers(number == 0, false).await;
        customers.push(customer);
    }
    customers
}

/// What a client wanted, and what it was told.
#[derive(Debug)]
struct Intent {
    customer: User,
    key: String,
    sku: String,
    created: Told,
    cancelled: Option<Told>,
}

/// What a client was told about a command.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    /// It was done; the order's id.
    Done(String),
    /// It was not done and never will be.
    NotDone,
    /// Nothing that could be relied on.
    Nothing,
}

impl Workload {
    /// Starts `count` clients of the gateway.
    pub async fn start(count: usize) -> Self {
        Self::of(customers(count).await, vec![environment::url()])
    }

    /// Starts a client for each customer. A client turns to the next node when one does not do it.
    pub fn of(customers: Vec<User>, urls: Vec<String>) -> Self {
        let (stop, acknowledged) = (Arc::default(), Arc::default());
        let clients = customers
            .iter()
            .map(|customer| {
                let client = Client {
                    customer: customer.clone(),
                    urls: urls.clone(),
                    turn: AtomicUsize::new(0),
                    stop: Arc::clone(&stop),
                    acknowledged: Arc::clone(&acknowledged),
                };
                tokio::spawn(client.work())
            })
            .collect();
        Self {
            stop,
            acknowledged,
            clients,
            customers,
            urls,
        }
    }

    /// Waits until `count` more orders are acknowledged, however slow the machine; fails when for
    /// [`BACK_WITHIN`] not one is.
    pub async fn acknowledges(&self, count: usize) {
        let acknowledged = || self.acknowledged.load(Ordering::Relaxed);
        let wanted = acknowledged() + count;
        while acknowledged() < wanted {
            let before = acknowledged();
            eventually(
                "another order to be acknowledged",
                BACK_WITHIN,
                async || {
                    if acknowledged() > before {
                        Ok(())
                    } else {
                        Err(format!("still {before}, {wanted} wanted"))
                    }
                },
            )
            .await;
        }
    }

    /// Ends the clients and repeats what is still unanswered until it is answered.
    pub async fn end(self) -> Ended {
        self.stop.store(true, Ordering::Relaxed);
        let mut intents = Vec::new();
        for client in self.clients {
            intents.extend(client.await.expect("a client that was told nothing wrong"));
        }
        let turn = AtomicUsize::new(0);
        for intent in &mut intents {
            if intent.created == Told::Nothing {
                intent.created = order(intent).send_until_done(&self.urls, &turn).await;
            }
            if let (Told::Done(id), Some(Told::Nothing)) = (&intent.created, &intent.cancelled) {
                intent.cancelled =
                    Some(cancel(intent, id).send_until_done(&self.urls, &turn).await);
            }
        }
        Ended {
            intents,
            customers: self.customers,
        }
    }
}

/// A workload that is over: every intent was answered.
pub struct Ended {
    intents: Vec<Intent>,
    customers: Vec<User>,
}

impl Ended {
    /// The judge: the log holds what was acknowledged, once, and nothing of what was refused; the read models
    /// say the same; who wanted mails got each once.
    pub async fn nothing_is_lost_or_doubled(&self) {
        let streams = self.log_holds_what_was_told().await;
        self.queries_say_the_same(&streams).await;
        read_models_equal_the_log().await;
        self.mails_were_sent_once(&streams).await;
    }

    /// The log against what the clients were told.
    pub async fn log_holds_what_was_told(&self) -> HashMap<StreamId, Vec<Recorded>> {
        let streams = streams_of(Topic::Orders).await;
        let mut by_key: HashMap<&str, Vec<&Vec<Recorded>>> = HashMap::new();
        for stream in streams.values() {
            let first = stream.first().expect("an event");
            if let Some(idempotency) = &first.envelope.metadata.idempotency {
                by_key.entry(&idempotency.key).or_default().push(stream);
            }
        }
        for intent in &self.intents {
            let found = by_key
                .get(intent.key.as_str())
                .map_or(&[][..], Vec::as_slice);
            match (&intent.created, found) {
                (Told::Done(id), [stream]) => judge(intent, id, stream),
                (Told::NotDone, []) => {}
                (_, found) => panic!("{} orders under the key of {intent:?}", found.len()),
            }
        }
        streams
    }

    async fn queries_say_the_same(&self, streams: &HashMap<StreamId, Vec<Recorded>>) {
        let done = self
            .intents
            .iter()
            .rev()
            .filter_map(|intent| match &intent.created {
                Told::Done(id) => Some((intent, id)),
                Told::NotDone | Told::Nothing => None,
            });
        for (intent, id) in done.take(ORDERS_ASKED_FOR) {
            let stream = events::ids::OrderId(id.parse().expect("an id"));
            let version = streams.get(&stream.into()).map_or(0, Vec::len);
            eventually("the read model", BACK_WITHIN, async || {
                let answer = intent.customer.query(&format!("/orders/{id}")).send().await;
                if answer.status == 200 && answer.json()["version"] == version {
                    Ok(())
                } else {
                    Err(format!("version {version} wanted: {answer:?}"))
                }
            })
            .await;
        }
    }

    async fn mails_were_sent_once(&self, streams: &HashMap<StreamId, Vec<Recorded>>) {
        let customer = self.customers.first().expect("a customer");
        let mut announced = Vec::new();
        for recorded in streams.values().flatten() {
            let of = if let Event::OrderCreated(fact) = &recorded.envelope.event {
                fact.customer_id
            } else if let Event::OrderCancelled(fact) = &recorded.envelope.event {
                fact.customer_id
            } else {
                continue;
            };
            if of.to_string() == customer.id {
                announced.push(recorded.envelope.metadata.event_id.0);
            }
        }
        assert!(!announced.is_empty(), "the first client ordered nothing");
        sent_once(customer, &announced).await;
    }
}

/// Fails unless each event was told the customer by mail: once, or once more for each outcome that the ledger
/// says was unknown (the policy `resend`).
pub async fn sent_once(customer: &User, announced: &[uuid::Uuid]) {
    let rows = postbox::settled(&customer.id, announced, BACK_WITHIN * 2).await;
    let mut counts: HashMap<String, i32> = HashMap::new();
    for message in postbox::sent_to(&customer.email).await {
        *counts
            .entry(message.event_id.unwrap_or_default())
            .or_default() += 1;
    }
    let announced: HashSet<_> = announced.iter().collect();
    for row in rows
        .iter()
        .filter(|row| row.channel == "email" && announced.contains(&row.event_id))
    {
        let count = counts
            .get(&row.event_id.to_string())
            .copied()
            .unwrap_or_default();
        assert_eq!(row.status, "sent", "{row:?}");
        assert!(
            (1..=1 + row.unknown_outcomes).contains(&count),
            "{count} mails for {row:?}"
        );
    }
}

fn judge(intent: &Intent, id: &str, stream: &[Recorded]) {
    let expected: &[&str] = match &intent.cancelled {
        Some(Told::Done(_)) => &["order_created", "order_cancelled"],
        None | Some(Told::NotDone) => &["order_created"],
        Some(Told::Nothing) => panic!("not settled: {intent:?}"),
    };
    assert_eq!(names(stream), expected, "{intent:?}: {stream:?}");
    let first = stream.first().map(|recorded| &recorded.envelope.event);
    let Some(Event::OrderCreated(fact)) = first else {
        panic!("{intent:?}: {stream:?}")
    };
    assert_eq!(fact.order_id.to_string(), id, "{intent:?}");
    assert_eq!(
        fact.customer_id.to_string(),
        intent.customer.id,
        "{intent:?}"
    );
    assert_eq!(fact.lines[0].sku, intent.sku, "{intent:?}");
}

struct Client {
    customer: User,
    urls: Vec<String>,
    turn: AtomicUsize,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
}

impl Client {
    async fn work(self) -> Vec<Intent> {
        let mut intents = Vec::new();
        while !self.stopped() {
            let mut intent = Intent {
                customer: self.customer.clone(),
                key: unique("key-"),
                sku: unique("sku-"),
                created: Told::Nothing,
                cancelled: None,
            };
            let gives_up = intents.len() % GIVES_UP_EVERY == 0;
            intent.created = self.persist(&order(&intent), gives_up).await;
            if let Told::Done(id) = &intent.created {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
                if intents.len() % CANCEL_EVERY == 0 {
                    let told = self.persist(&cancel(&intent, id), gives_up).await;
                    self.tries_to_change(id, &told).await;
                    intent.cancelled = Some(told);
                }
            }
            intents.push(intent);
            tokio::time::sleep(BETWEEN_INTENTS).await;
        }
        intents
    }

    /// Sends a command until it is answered, or the work is over, or, if it gives up easily, at the first
    /// answer that nothing was done.
    async fn persist(&self, command: &Command, gives_up: bool) -> Told {
        let mut told = command.send_to(&self.urls, &self.turn).await;
        if gives_up && told == Told::NotDone {
            return Told::NotDone;
        }
        while !matches!(told, Told::Done(_)) {
            if self.stopped() {
                return Told::Nothing;
            }
            tokio::time::sleep(BEFORE_RETRY).await;
            told = command.send_to(&self.urls, &self.turn).await;
        }
        told
    }

    /// Contents based on a version that is gone: refused, whatever happens around it.
    async fn tries_to_change(&self, id: &str, cancelled: &Told) {
        let Told::Done(_) = cancelled else { return };
        let url = &self.urls[self.turn.load(Ordering::Relaxed) % self.urls.len()];
        let sent = call(Method::PUT, url, &format!("/orders/{id}"))
            .token(&self.customer.token)
            .if_match("\"1\"")
            .json(&contents_of("CHANGED"))
            .try_send()
            .await;
        if let Ok(answer) = sent
            && answer.status != 503
        {
            answer.problem(412, "stale-version");
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// A command that can be sent again and again, and again to another node.
struct Command {
    token: String,
    path: String,
    key: Option<String>,
    body: serde_json::Value,
    done: u16,
}

fn order(intent: &Intent) -> Command {
    Command {
        token: intent.customer.token.clone(),
        path: "/orders".to_owned(),
        key: Some(intent.key.clone()),
        body: order_of(&intent.sku),
        done: 201,
    }
}

fn cancel(intent: &Intent, id: &str) -> Command {
    Command {
        token: intent.customer.token.clone(),
        path: format!("/orders/{id}/cancel"),
        key: None,
        body: json!({"reason": "changed my mind"}),
        done: 200,
    }
}

impl Command {
    fn to(&self, url: &str) -> Call {
        let call = call(Method::POST, url, &self.path)
            .token(&self.token)
            .json(&self.body);
        match &self.key {
            Some(key) => call.key(key),
            None => call,
        }
    }

    /// Sends it to the node whose turn it is. Who did not do it passes the turn on.
    async fn send_to(&self, urls: &[String], turn: &AtomicUsize) -> Told {
        let node = turn.load(Ordering::Relaxed);
        let told = match self.to(&urls[node % urls.len()]).try_send().await {
            Ok(answer) => self.told(&answer),
            Err(_) => Told::Nothing,
        };
        if !matches!(told, Told::Done(_)) {
            turn.store(node + 1, Ordering::Relaxed);
        }
        told
    }

    async fn send_until_done(&self, urls: &[String], turn: &AtomicUsize) -> Told {
        let what = format!("the repeated {}", self.path);
        eventually(&what, BACK_WITHIN, async || {
            match self.send_to(urls, turn).await {
                told @ Told::Done(_) => Ok(told),
                told @ (Told::NotDone | Told::Nothing) => Err(format!("{told:?}")),
            }
        })
        .await
    }

    fn told(&self, answer: &Answer) -> Told {
        if answer.status == self.done {
            return Told::Done(answer.text("id"));
        }
        match answer.problem_name().as_str() {
            "unavailable" => {
                answer.problem(503, "unavailable");
                Told::NotDone
            }
            "outcome-unknown" => {
                answer.problem(503, "outcome-unknown");
                Told::Nothing
            }
            "idempotency-key-in-flight" => {
                answer.problem(409, "idempotency-key-in-flight");
                Told::Nothing
            }
            _ => panic!("{answer:?}"),
        }
    }
}
