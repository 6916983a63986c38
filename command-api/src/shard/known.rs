//! What a shard knows, thing by thing: what each is called, what is known of it, and both as bytes.

use domain::{email, order, user};
use events::{
    StreamVersion,
    ids::{EmailHash, OrderId, UserId},
    order::OrderLine,
    timestamp::Timestamp,
};
use serde::{Deserialize, Serialize};

/// A stream's state and version; version 0 is "no such stream".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versioned<State> {
    /// The count of its events.
    pub version: StreamVersion,
    /// What they amount to.
    pub state: State,
}

/// The name of something that a shard knows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Name {
    /// A user.
    User(UserId),
    /// The claim of an address.
    Email(EmailHash),
    /// An order.
    Order(OrderId),
    /// The record of a command that a client named.
    Key(KeyName),
}

/// What is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Known {
    /// Of a user.
    User(Versioned<user::State>),
    /// Of the claim of an address.
    Email(Versioned<email::State>),
    /// Of an order.
    Order(Versioned<order::State>),
    /// Of a command that a client named.
    Key(KeyRecord),
}

/// A client's name for a command, and where it counts: keys of different callers, and keys sent to different resources,
/// never meet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyName {
    /// Who sent it; nobody who registers, since he is nobody yet.
    pub caller: Option<UserId>,
    /// What it was sent to.
    pub resource: Resource,
    /// The key, unquoted.
    pub key: String,
}

/// What a command is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Resource {
    /// All orders, to add one.
    Orders,
    /// One order.
    Order(OrderId),
    /// One user.
    User(UserId),
    /// An address, to register with it.
    Address(EmailHash),
}

/// The record of a command that a client named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// When it was used.
    pub at: Timestamp,
    /// What was asked: SHA-256 of the request as parsed.
    pub fingerprint: [u8; 32],
    /// What became of it.
    pub outcome: Outcome,
}

/// The stream after the last event of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// An order.
    Order(Versioned<order::State>),
    /// A user.
    User(Versioned<user::State>),
}

/// How long an idempotency key is remembered.
pub const KEY_KEPT_MICROS: i64 = 24 * 60 * 60 * 1_000_000;

impl KeyRecord {
    /// Whether it still counts at `now`.
    pub fn counts_at(&self, now: Timestamp) -> bool {
        now.micros().saturating_sub(self.at.micros()) <= KEY_KEPT_MICROS
    }
}

impl Name {
    /// As the store's key: a letter for the kind, then the id. Ids of orders and users are in the order of their making.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::User(id) => [b"u", id.0.as_bytes().as_slice()].concat(),
            Self::Email(hash) => [b"e", hash.0.as_slice()].concat(),
            Self::Order(id) => [b"o", id.0.as_bytes().as_slice()].concat(),
            Self::Key(name) => name.to_bytes(),
        }
    }
}

impl KeyName {
    fn to_bytes(&self) -> Vec<u8> {
        let caller = self.caller.map(|caller| caller.0).unwrap_or_default();
        let (kind, id): (&[u8], &[u8]) = match &self.resource {
            Resource::Orders => (b"s", &[]),
            Resource::Order(id) => (b"o", id.0.as_bytes()),
            Resource::User(id) => (b"u", id.0.as_bytes()),
            Resource::Address(hash) => (b"e", &hash.0),
        };
        [
            b"k",
            caller.as_bytes().as_slice(),
            kind,
            id,
            self.key.as_bytes(),
        ]
        .concat()
    }
}

impl Known {
    /// About how many bytes of memory it takes, shared parts included.
    pub fn weight(&self) -> usize {
        /// Of a state with its name, without what it points to.
        const FIXED: usize = 256;
        FIXED
            + match self {
                Self::User(user) => user_weight(&user.state),
                Self::Email(_) => 0,
                Self::Order(order) => order_weight(&order.state),
                Self::Key(record) => match &record.outcome {
                    Outcome::Order(order) => order_weight(&order.state),
                    Outcome::User(user) => user_weight(&user.state),
                },
            }
    }
}

fn user_weight(state: &user::State) -> usize {
    state.user().map_or(0, |user| {
        let phone = user.profile.phone.as_ref();
        user.email.as_bytes().len()
            + user.profile.name.as_bytes().len()
            + phone.map_or(0, |phone| phone.as_bytes().len())
    })
}

fn order_weight(state: &order::State) -> usize {
    /// Of a line, without its texts.
    const LINE: usize = 96;
    state.order().map_or(0, |order| {
        let contents = &order.contents;
        let sealed = [&contents.shipping_address, &contents.note];
        let sealed: usize = sealed
            .into_iter()
            .flatten()
            .map(|sealed| sealed.as_bytes().len())
            .sum();
        let line = |line: &OrderLine| {
            let name = line.name.as_ref();
            LINE + line.sku.len() + name.map_or(0, String::len)
        };
        let lines: usize = order.lines().iter().map(line).sum();
        lines + contents.attributes.as_str().len() + sealed
    })
}
