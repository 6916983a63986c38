//! Clients that order, change, cancel and retry while something is being broken, each on orders of his own and all on
//! a few that they share, and the judges of what became of it: the checker for the log, the read models, the mails.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use event_log::Recorded;
use events::{
    Event, Topic,
    ids::{OrderId, StreamId},
};
use tokio::task::JoinHandle;

use crate::{
    client::{Client, Intent, is_final},
    environment, eventually,
    facts::{nothing_is_wrong, weigh},
    history::{Call, History, IfMatch, Sent, Shown, Status, Told},
    log::streams_of,
    people::{User, admin, registered_user, unique},
    postbox,
    stack::{BACK_WITHIN, read_models_equal_the_log},
};

/// Between two rounds of a client, so that a test stays short on a small machine.
const BETWEEN_ROUNDS: Duration = Duration::from_millis(10);
/// After a round in which an order could not be made.
const AFTER_FAILED_ROUND: Duration = Duration::from_millis(200);
/// Every so many rounds the client gives up what is only ever `unavailable`.
const GIVES_UP_EVERY: usize = 2;
/// Every so many rounds the order is cancelled, or changed instead.
const CHANGES_EVERY: usize = 3;
/// Every so many rounds it is ordered without a key.
const WITHOUT_KEY_EVERY: usize = 5;
/// Every so many rounds it is ordered twice at once, under one key.
const TWICE_EVERY: usize = 4;
/// Every so many rounds the admin moves a shared order on.
const MOVES_ON_EVERY: usize = 12;
/// How many orders all clients share.
const SHARED_ORDERS: usize = 3;
/// A command has 10 s; the pause before an attempt is 0.5 s at most, and none begins that would end later.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(9);
/// How many orders are asked for one by one, besides the comparison of the whole read model.
const ORDERS_ASKED_FOR: usize = 50;

/// Clients at work.
pub struct Workload {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<(Client, Intent)>>>,
    customers: Vec<User>,
    history: History,
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

impl Workload {
    /// Starts `count` clients of the gateway.
    pub async fn start(count: usize) -> Self {
        Self::of(customers(count).await, vec![environment::url()]).await
    }

    /// Starts a client for each customer. A client turns to the next node when one does not do it.
    pub async fn of(customers: Vec<User>, nodes: Vec<String>) -> Self {
        let (stop, acknowledged, history) = (Arc::default(), Arc::default(), History::default());
        // The last customer's token is what all have that work on the shared orders.
        let shared_by = customers.last().expect("a customer");
        let shared = Arc::new(Shared {
            owner: Client::of(shared_by, &nodes, &history),
            admin: Client::of(&admin().await, &nodes, &history),
            orders: Mutex::default(),
        });
        let clients = customers
            .iter()
            .map(|customer| {
                let worker = Worker {
                    client: Client::of(customer, &nodes, &history),
                    shared: Arc::clone(&shared),
                    stop: Arc::clone(&stop),
                    acknowledged: Arc::clone(&acknowledged),
                    unsettled: Vec::new(),
                };
                tokio::spawn(worker.work())
            })
            .collect();
        Self {
            stop,
            acknowledged,
            clients,
            customers,
            history,
        }
    }

    /// Where the clients write down what they are told: a test may add what it does itself.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// One of the customers.
    pub fn customer(&self) -> &User {
        self.customers.first().expect("a customer")
    }

    /// Waits until `count` more commands are acknowledged, however slow the machine; fails when for
    /// [`BACK_WITHIN`] not one is.
    pub async fn acknowledges(&self, count: usize) {
        let acknowledged = || self.acknowledged.load(Ordering::Relaxed);
        let wanted = acknowledged() + count;
        while acknowledged() < wanted {
            let before = acknowledged();
            eventually(
                "another command to be acknowledged",
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

    /// How long ago the work began.
    pub fn now(&self) -> Duration {
        self.history.now()
    }

    /// Every call that ended since then with 503, or with nothing at all.
    pub fn turned_away_since(&self, since: Duration) -> Vec<Call> {
        let mut calls = self.history.calls();
        calls.retain(|call| {
            call.ended >= since && matches!(call.told, Told::Unavailable | Told::Unknown)
        });
        calls
    }

    /// Ends the clients and repeats what is still unanswered until it is answered.
    pub async fn end(mut self) -> Ended {
        self.stop.store(true, Ordering::Relaxed);
        for worker in std::mem::take(&mut self.clients) {
            let unsettled = worker.await.expect("a client that was told nothing wrong");
            for (client, intent) in unsettled {
                client.settle(&intent).await;
            }
        }
        Ended {
            calls: self.history.calls(),
            customers: std::mem::take(&mut self.customers),
        }
    }
}

/// A test that fails leaves nobody behind who goes on ordering.
impl Drop for Workload {
    fn drop(&mut self) {
        for worker in &self.clients {
            worker.abort();
        }
    }
}

/// A workload that is over: whatever can be repeated was answered.
pub struct Ended {
    calls: Vec<Call>,
    customers: Vec<User>,
}

impl Ended {
    /// The judge: the log holds what was acknowledged, once, and nothing of what was refused; the read models
    /// say the same; who wanted mails got each once.
    pub async fn nothing_is_lost_or_doubled(&self) {
        self.log_holds_what_was_told().await;
        let streams = streams_of(Topic::Orders).await;
        self.queries_say_the_same(&streams).await;
        read_models_equal_the_log().await;
        self.mails_were_sent_once(&streams).await;
    }

    /// The log against what the clients were told.
    pub async fn log_holds_what_was_told(&self) {
        nothing_is_wrong(&weigh(&self.calls).await);
    }

    /// Every call that was answered 503, or not at all, before 9 s, when a command is given up at the earliest.
    pub fn turned_away_early(&self) -> Vec<&Call> {
        let is_early = |call: &&Call| {
            matches!(call.told, Told::Unavailable | Told::Unknown)
                && call.ended - call.began < GIVEN_UP_AFTER
        };
        self.calls.iter().filter(is_early).collect()
    }

    /// Every call that was done only after this time.
    pub fn done_after(&self, time: Duration) -> usize {
        let is_late = |call: &&Call| call.told.shown().is_some() && call.ended - call.began > time;
        self.calls.iter().filter(is_late).count()
    }

    /// What the clients were told.
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }

    async fn queries_say_the_same(&self, streams: &HashMap<StreamId, Vec<Recorded>>) {
        let creates = |call: &&Call| matches!(call.sent, Sent::Create { .. });
        let created = self.calls.iter().rev().filter(creates);
        let created = created.filter_map(|call| call.told.shown());
        for shown in created.take(ORDERS_ASKED_FOR) {
            let customer = shown.customer.to_string();
            let customer = self.customers.iter().find(|each| each.id == customer);
            let customer = customer.expect("a customer of ours");
            let id = shown.order;
            let version = streams.get(&id.into()).map_or(0, Vec::len);
            eventually("the read model", BACK_WITHIN, async || {
                let answer = customer.query(&format!("/orders/{id}")).send().await;
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
        postbox::sent_once(customer, &announced).await;
    }
}

/// The orders that all clients work on.
struct Shared {
    /// Whose they are; all clients have his token.
    owner: Client,
    admin: Client,
    orders: Mutex<[Option<(OrderId, u64)>; SHARED_ORDERS]>,
}

impl Shared {
    /// An order and the version it was last known at.
    fn known(&self, slot: usize) -> Option<(OrderId, u64)> {
        self.lock()[slot % SHARED_ORDERS]
    }

    /// Keeps what an answer says about the order; one that nothing can be done with any more is given up.
    fn learn(&self, slot: usize, order: OrderId, told: &Told) {
        let mut orders = self.lock();
        let known = &mut orders[slot % SHARED_ORDERS];
        if known.is_some_and(|(known, _)| known != order) {
            return;
        }
        match told {
            Told::Done(shown) if shown.status == Status::Created => {
                *known = Some((order, shown.version));
            }
            Told::Done(_) | Told::RuleBroken => *known = None,
            Told::Stale { current } => *known = Some((order, *current)),
            Told::NotFound
            | Told::KeyReused
            | Told::KeyInFlight
            | Told::Unavailable
            | Told::Unknown => {}
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, [Option<(OrderId, u64)>; SHARED_ORDERS]> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Worker {
    client: Client,
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    /// What was never answered for good, and can be repeated.
    unsettled: Vec<(Client, Intent)>,
}

impl Worker {
    async fn work(mut self) -> Vec<(Client, Intent)> {
        let mut round = 0;
        while !self.stopped() {
            let wait = match self.orders(round).await {
                Some(shown) => {
                    self.changes(round, &shown).await;
                    BETWEEN_ROUNDS
                }
                None => AFTER_FAILED_ROUND,
            };
            self.works_on_what_is_shared(round).await;
            tokio::time::sleep(wait).await;
            round += 1;
        }
        self.unsettled
    }

    /// A new order; now and then without a key, now and then twice at once under one.
    async fn orders(&mut self, round: usize) -> Option<Shown> {
        let intent = Intent::create(&unique("sku-"));
        if round % WITHOUT_KEY_EVERY == 1 {
            // Nobody can repeat it without ordering twice.
            return self.acknowledged(self.client.send(&intent).await);
        }
        let intent = intent.key(&unique("key-"));
        if round % TWICE_EVERY == 3 {
            tokio::join!(self.client.send(&intent), self.client.send(&intent));
        }
        let client = self.client.clone();
        self.persist(&client, intent, round.is_multiple_of(GIVES_UP_EVERY))
            .await
    }

    /// The own order is cancelled, or gets other contents; then a change on a version that is gone is tried.
    async fn changes(&mut self, round: usize, shown: &Shown) {
        let (client, order) = (self.client.clone(), shown.order);
        let base = IfMatch::Version(shown.version);
        let change = match round % CHANGES_EVERY {
            0 => Intent::cancel(order),
            1 => Intent::update(order, &unique("sku-"), base).key(&unique("key-")),
            _ => return,
        };
        if self
            .persist(&client, change, round.is_multiple_of(GIVES_UP_EVERY))
            .await
            .is_some()
        {
            let too_late = Intent::update(order, &unique("sku-"), base);
            client.send(&too_late).await;
        }
    }

    /// One of the shared orders is changed, on the version that was known last or on any, or moved on.
    async fn works_on_what_is_shared(&mut self, round: usize) {
        let (owner, admin) = (self.shared.owner.clone(), self.shared.admin.clone());
        let Some((order, version)) = self.shared.known(round) else {
            let intent = Intent::create(&unique("sku-")).key(&unique("key-"));
            if let Some(shown) = self.persist(&owner, intent, false).await {
                let order = shown.order;
                self.shared.learn(round, order, &Told::Done(shown));
            }
            return;
        };
        let sku = unique("sku-");
        let (client, intent) = match round % MOVES_ON_EVERY {
            5 => (admin, Intent::status(order, Status::InProgress)),
            10 => (owner, Intent::cancel(order)),
            11 => (admin, Intent::status(order, Status::Completed)),
            2 | 8 => (owner, Intent::update(order, &sku, IfMatch::Any)),
            _ => {
                let base = IfMatch::Version(version);
                (
                    owner,
                    Intent::update(order, &sku, base).key(&unique("key-")),
                )
            }
        };
        let told = client.send(&intent).await;
        self.shared.learn(round, order, &told);
        if matches!(told, Told::Unknown | Told::KeyInFlight) {
            self.unsettled.push((client, intent));
        }
        self.acknowledged(told);
    }

    /// Sends a command until it is answered for good, or the work is over, or, if it gives up easily, as long as it
    /// was only told that nothing was done.
    async fn persist(&mut self, client: &Client, intent: Intent, gives_up: bool) -> Option<Shown> {
        let mut nothing_done = true;
        let stops = |told: &Told| {
            nothing_done &= *told == Told::Unavailable;
            (gives_up && nothing_done) || self.stopped()
        };
        let told = client.persist(&intent, stops).await;
        if !is_final(&told) && !nothing_done && intent.can_be_repeated() {
            self.unsettled.push((client.clone(), intent));
        }
        self.acknowledged(told)
    }

    fn acknowledged(&self, told: Told) -> Option<Shown> {
        let shown = told.shown().cloned();
        if shown.is_some() {
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        shown
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
