//! What a shard knows: the fold of its two partitions. Nothing but the log changes it.

use std::collections::{HashMap, VecDeque, hash_map::Entry};

use domain::{
    Decider,
    email::{self, EmailStream},
    order::{self, OrderStream},
    user::{self, UserStream},
};
use events::{
    Actor, EmailEvent, Envelope, Metadata, OrderEvent, StreamEvent, StreamVersion, UserEvent,
    ids::{EmailHash, OrderId, StreamId, UserId},
    timestamp::Timestamp,
};

/// How long an idempotency key is remembered.
const KEY_KEPT_MICROS: i64 = 24 * 60 * 60 * 1_000_000;

/// A stream's state and version; version 0 is "no such stream".
#[derive(Debug, Clone)]
pub struct Versioned<State> {
    /// The count of its events.
    pub version: StreamVersion,
    /// What they amount to.
    pub state: State,
}

/// The record of a command that a client named.
#[derive(Debug, Clone)]
pub struct KeyRecord {
    /// When it was used.
    pub at: Timestamp,
    /// What was asked.
    pub fingerprint: [u8; 32],
    /// What was answered.
    pub order: Versioned<order::State>,
}

/// Who sent a key, and the key.
pub type CallerKey = (UserId, String);

/// An event that does not follow on what the log said before; the shard must not serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("version {found} of stream {stream} follows on version {known}")]
pub struct BrokenSequence {
    stream: StreamId,
    known: StreamVersion,
    found: StreamVersion,
}

/// The fold of a shard's partitions.
#[derive(Debug, Default)]
pub struct ShardState {
    users: HashMap<UserId, Versioned<user::State>>,
    emails: HashMap<EmailHash, Versioned<email::State>>,
    orders: HashMap<OrderId, Versioned<order::State>>,
    keys: HashMap<CallerKey, KeyRecord>,
    /// The same keys in the order they came, for forgetting.
    key_times: VecDeque<(Timestamp, CallerKey)>,
}

impl ShardState {
    /// The user of that id.
    pub fn user(&self, id: UserId) -> Versioned<user::State> {
        self.users
            .get(&id)
            .cloned()
            .unwrap_or_else(absent::<UserStream>)
    }

    /// The claim of that address.
    pub fn email(&self, hash: EmailHash) -> Versioned<email::State> {
        self.emails
            .get(&hash)
            .cloned()
            .unwrap_or_else(absent::<EmailStream>)
    }

    /// The order of that id.
    pub fn order(&self, id: OrderId) -> Versioned<order::State> {
        self.orders
            .get(&id)
            .cloned()
            .unwrap_or_else(absent::<OrderStream>)
    }

    /// What was answered to a command under this key, unless it is longer ago than keys are kept.
    pub fn key(&self, key: &CallerKey) -> Option<&KeyRecord> {
        self.keys.get(key)
    }

    /// Forgets keys that are older than they are kept, counted back from `now`.
    pub fn forget_keys(&mut self, now: Timestamp) {
        while let Some((at, _)) = self.key_times.front() {
            if now.micros() - at.micros() <= KEY_KEPT_MICROS {
                return;
            }
            let Some((at, key)) = self.key_times.pop_front() else {
                return;
            };
            // A key that was used anew after it had been forgotten stands in the log twice.
            if self.keys.get(&key).is_some_and(|record| record.at == at) {
                self.keys.remove(&key);
            }
        }
    }

    /// Takes in what the log says. Versions must follow on each other without a gap.
    pub fn apply(&mut self, envelope: Envelope) -> Result<(), BrokenSequence> {
        let metadata = &envelope.metadata;
        match envelope.event.into() {
            StreamEvent::UserEvent(event) => self.apply_user(&event, metadata),
            StreamEvent::EmailEvent(event) => self.apply_email(&event, metadata),
            StreamEvent::OrderEvent(event) => self.apply_order(&event, metadata),
        }
    }

    /// Takes in a fact about a user.
    pub fn apply_user(
        &mut self,
        event: &UserEvent,
        metadata: &Metadata,
    ) -> Result<(), BrokenSequence> {
        let StreamId::User(id) = event.stream_id() else {
            return Ok(());
        };
        evolve::<UserStream, _>(self.users.entry(id), event, metadata, event.stream_id())
    }

    /// Takes in a fact about the claim of an address.
    pub fn apply_email(
        &mut self,
        event: &EmailEvent,
        metadata: &Metadata,
    ) -> Result<(), BrokenSequence> {
        let StreamId::Email(hash) = event.stream_id() else {
            return Ok(());
        };
        evolve::<EmailStream, _>(self.emails.entry(hash), event, metadata, event.stream_id())
    }

    /// Takes in a fact about an order, and with it the record of the key under which it was created.
    pub fn apply_order(
        &mut self,
        event: &OrderEvent,
        metadata: &Metadata,
    ) -> Result<(), BrokenSequence> {
        let StreamId::Order(id) = event.stream_id() else {
            return Ok(());
        };
        evolve::<OrderStream, _>(self.orders.entry(id), event, metadata, event.stream_id())?;
        if let (OrderEvent::Created(_), Some(idempotency), Actor::User(caller, _)) =
            (event, &metadata.idempotency, metadata.actor)
        {
            let key = (caller, idempotency.key.clone());
            let record = KeyRecord {
                at: metadata.time,
                fingerprint: idempotency.fingerprint,
                order: self.order(id),
            };
            self.key_times.push_back((metadata.time, key.clone()));
            self.keys.insert(key, record);
        }
        Ok(())
    }
}

fn absent<D: Decider>() -> Versioned<D::State> {
    Versioned {
        version: 0,
        state: D::initial(),
    }
}

fn evolve<D: Decider, Id>(
    stream: Entry<'_, Id, Versioned<D::State>>,
    event: &D::Event,
    metadata: &Metadata,
    id: StreamId,
) -> Result<(), BrokenSequence> {
    let known = stream.or_insert_with(absent::<D>);
    if metadata.version != known.version + 1 {
        return Err(BrokenSequence {
            stream: id,
            known: known.version,
            found: metadata.version,
        });
    }
    known.version = metadata.version;
    known.state = D::evolve(std::mem::replace(&mut known.state, D::initial()), event);
    Ok(())
}
