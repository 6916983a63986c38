//! What a shard is asked, and what it answers.

use domain::{order, user};
use events::{
    Actor, StreamVersion, Topic, TraceContext,
    ids::{CorrelationId, EmailHash, OrderId, UserId},
    timestamp::Timestamp,
};
use runtime::{consistency::ConsistencyToken, etag::IfMatch};
use serde::{Deserialize, Serialize};

use super::known::KeyName;

/// A command, and the conditions under which it was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// What to do.
    pub command: Command,
    /// The versions that the stream must be at.
    pub expected: Option<IfMatch>,
    /// The client's name for this intent.
    pub idempotency: Option<IdempotencyRequest>,
    /// The intent across all that it causes.
    pub correlation_id: CorrelationId,
    /// What the events are to name as their origin in a trace.
    pub traceparent: Option<TraceContext>,
    /// How long its body was: what it weighs while it is under way.
    pub bytes: usize,
}

/// What to do, and with which stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Something with an order.
    Order {
        /// Which one.
        id: OrderId,
        /// What.
        command: order::Command,
    },
    /// Something with a user.
    User {
        /// Which one.
        id: UserId,
        /// What.
        command: user::Command,
    },
    /// Claim the address and register the user, in one transaction; both live on the same shard.
    Register {
        /// The address.
        email_hash: EmailHash,
        /// Whom, drawn onto the address's shard.
        id: UserId,
        /// A `user::Action::Register`.
        command: user::Command,
    },
}

impl Command {
    /// On whose behalf.
    pub fn actor(&self) -> Actor {
        match self {
            Self::Order { command, .. } => command.actor,
            Self::User { command, .. } | Self::Register { command, .. } => command.actor,
        }
    }

    /// When it was received.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Order { command, .. } => command.at,
            Self::User { command, .. } | Self::Register { command, .. } => command.at,
        }
    }
}

/// An idempotency key as a request carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyRequest {
    /// The client's name for the command, and where it counts.
    pub name: KeyName,
    /// SHA-256 of the parsed request.
    pub fingerprint: [u8; 32],
}

/// What became of a command that was not refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer<State> {
    /// The stream's state after the command.
    pub state: State,
    /// Its version.
    pub version: StreamVersion,
    /// How far a read model must be to show it; set before it is answered.
    pub token: Option<ConsistencyToken>,
}

/// What became of a command that was not refused, by kind of stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Accepted {
    /// The order after the command.
    Order(Answer<order::State>),
    /// The user after the command.
    User(Answer<user::State>),
}

impl Accepted {
    /// The topic that the stream is in.
    pub(super) fn topic(&self) -> Topic {
        match self {
            Self::Order(_) => Topic::Orders,
            Self::User(_) => Topic::Users,
        }
    }

    /// How far a read model must be to show it, once that is known.
    pub(super) fn token(&self) -> Option<ConsistencyToken> {
        match self {
            Self::Order(answer) => answer.token,
            Self::User(answer) => answer.token,
        }
    }

    pub(super) fn set_token(&mut self, token: ConsistencyToken) {
        match self {
            Self::Order(answer) => answer.token = Some(token),
            Self::User(answer) => answer.token = Some(token),
        }
    }
}

/// Why a command was not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refused {
    /// Unknown, or somebody else's.
    #[error("not found")]
    NotFound,
    /// Not for this role.
    #[error("not allowed")]
    NotAllowed,
    /// `If-Match` names other versions.
    #[error("stale: the version is {current}")]
    Stale {
        /// The stream's version.
        current: StreamVersion,
    },
    /// An order's rule was broken.
    #[error(transparent)]
    Order(order::Rejection),
    /// A user's rule was broken.
    #[error(transparent)]
    User(user::Rejection),
    /// Another user has claimed the address.
    #[error("address taken")]
    AddressTaken,
    /// The key was used for another request.
    #[error("idempotency key reused")]
    KeyReused,
    /// The request with this key is still being worked on.
    #[error("idempotency key in flight")]
    KeyInFlight,
    /// Nothing was done; it may be sent again.
    #[error("unavailable: {0}")]
    Unavailable(Why),
    /// Nothing was done, because the shard is a node's to which this one cannot forward; sent to that one, it may be.
    #[error("this node does not own the shard")]
    NotOwner,
    /// Whether it was done is not known.
    #[error("outcome unknown")]
    OutcomeUnknown,
}

/// Why nothing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Why {
    /// The queue, or the room for commands under way, is full.
    #[error("too many commands are waiting")]
    QueueFull,
    /// Nobody took it from the queue in time.
    #[error("the shard did not get to the command in time")]
    TooLate,
    /// An error, after which nothing that the shard knew is used again.
    #[error("the shard is being read again")]
    ReadAgain,
    /// What needs no event needs the group's word.
    #[error("it cannot be confirmed now that this node owns the shard")]
    NotConfirmed,
    /// The group takes the shard from this node.
    #[error("the shard moves to another node")]
    Moves,
    /// Its transaction failed, and the log does not have it.
    #[error("the command was not recorded")]
    NotRecorded,
    /// The shard is another node's, and until the deadline none was found that serves it.
    #[error("the shard is changing hands")]
    NoOwner,
}

#[cfg(test)]
mod tests;
