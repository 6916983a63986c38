//! What clients sent, when, and what they were told: the material that the checker (`checker.rs`) weighs against the log.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use event_log::record::Place;
use events::ids::{CommandId, EventId, OrderId, UserId};
use uuid::Uuid;

/// One request and what became of it. A repeated request is a call of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Its `X-Request-Id`: the log names it as correlation id of the events that the call led to.
    pub id: Uuid,
    /// Who sent it.
    pub caller: Caller,
    /// Its `Idempotency-Key`.
    pub key: Option<String>,
    /// Its `If-Match`.
    pub if_match: Option<IfMatch>,
    /// What was asked for.
    pub sent: Sent,
    /// When it was sent, since the history began.
    pub began: Duration,
    /// When it was answered, or given up.
    pub ended: Duration,
    /// What was answered.
    pub told: Told,
}

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Caller {
    /// A user.
    User(UserId),
    /// The admin.
    Admin,
}

/// The versions that a change is based on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfMatch {
    /// `*`
    Any,
    /// This one.
    Version(u64),
}

/// What is asked for. An article is named by one call only, so that contents tell whose they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// An order of this article.
    Create {
        /// The article.
        sku: String,
    },
    /// This article instead.
    Update {
        /// Which order.
        order: OrderId,
        /// The article.
        sku: String,
    },
    /// No order any more.
    Cancel {
        /// Which order.
        order: OrderId,
    },
    /// The next step.
    Status {
        /// Which order.
        order: OrderId,
        /// The step.
        to: Status,
    },
}

impl Sent {
    /// The order that it is about, where there is one already.
    pub fn order(&self) -> Option<OrderId> {
        match self {
            Self::Create { .. } => None,
            Self::Update { order, .. } | Self::Cancel { order } | Self::Status { order, .. } => {
                Some(*order)
            }
        }
    }
}

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// `created`
    Created,
    /// `in_progress`
    InProgress,
    /// `completed`
    Completed,
    /// `cancelled`
    Cancelled,
}

impl Status {
    /// The name in requests and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The status of that name.
    pub fn named(name: &str) -> Option<Self> {
        [
            Self::Created,
            Self::InProgress,
            Self::Completed,
            Self::Cancelled,
        ]
        .into_iter()
        .find(|status| status.name() == name)
    }
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// 201 or 200.
    Done(Shown),
    /// 412: it is at another version.
    Stale {
        /// The version it is at.
        current: u64,
    },
    /// 409: a rule of the order says no.
    RuleBroken,
    /// 404.
    NotFound,
    /// 422: the key was used for something else.
    KeyReused,
    /// 409: a request with this key is being worked on.
    KeyInFlight,
    /// 503: nothing was done.
    Unavailable,
    /// 503 `outcome-unknown`, or no answer at all.
    Unknown,
}

impl Told {
    /// What is shown of the order, where it was done.
    pub fn shown(&self) -> Option<&Shown> {
        match self {
            Self::Done(shown) => Some(shown),
            Self::Stale { .. }
            | Self::RuleBroken
            | Self::NotFound
            | Self::KeyReused
            | Self::KeyInFlight
            | Self::Unavailable
            | Self::Unknown => None,
        }
    }
}

/// An order as it is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Which.
    pub order: OrderId,
    /// At which version.
    pub version: u64,
    /// Whose.
    pub customer: UserId,
    /// Where it stands.
    pub status: Status,
    /// The article.
    pub sku: String,
    /// The `Consistency-Token`.
    pub token: Option<String>,
}

/// An event about an order as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// Where.
    pub place: Place,
    /// The key of the record.
    pub key: String,
    /// Its name.
    pub event: EventId,
    /// Which order.
    pub order: OrderId,
    /// Its version.
    pub version: u64,
    /// The command it came from.
    pub command: CommandId,
    /// The request it came from.
    pub call: Uuid,
    /// The `Idempotency-Key` in its metadata.
    pub idempotency_key: Option<String>,
    /// On whose behalf.
    pub actor: Caller,
    /// What it says.
    pub says: Says,
}

/// What an event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Says {
    /// `order_created`
    Created {
        /// Whose.
        customer: UserId,
        /// The article.
        sku: String,
    },
    /// `order_updated`
    Updated {
        /// The article.
        sku: String,
    },
    /// `order_status_changed`, `order_cancelled`
    Moved {
        /// Where to.
        to: Status,
    },
}

/// Where clients write down what they were told. Clones write into the same one.
#[derive(Clone)]
pub struct History {
    begun: Instant,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Default for History {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            calls: Arc::default(),
        }
    }
}

impl History {
    /// How long ago it began.
    pub fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Adds a call that is over.
    pub fn add(&self, call: Call) {
        self.lock().push(call);
    }

    /// What was added so far.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Call>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
