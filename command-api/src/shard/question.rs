//! What a shard is asked about what it knows, and what it tells. Both are plain values, so that they can be carried to a
//! shard on another node.

use domain::{order, user};
use events::ids::{EmailHash, OrderId, UserId};
use serde::{Deserialize, Serialize};

use super::{
    ids,
    known::Versioned,
    state::{ShardState, StateError},
};

/// A question to the shard of what it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// How is the user of this id?
    User(UserId),
    /// Who has claimed this address?
    Claimant(EmailHash),
    /// How is the order of this id?
    Order(OrderId),
}

/// The answer to a [`Question`], by its kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    /// The user, and the version of his stream.
    User(Versioned<user::State>),
    /// Whoever has claimed the address.
    Claimant(Option<UserId>),
    /// The order.
    Order(order::State),
}

impl Question {
    /// Which of the shards knows.
    pub fn shard(self, shards: u16) -> u16 {
        match self {
            Self::User(id) => ids::shard_of(id, shards),
            Self::Claimant(address) => ids::shard_of(address, shards),
            Self::Order(id) => ids::shard_of(id, shards),
        }
    }

    /// What a shard knows about it.
    pub fn answer(self, state: &mut ShardState) -> Result<Told, StateError> {
        Ok(match self {
            Self::User(id) => Told::User(state.user(id)?),
            Self::Claimant(address) => Told::Claimant(state.email(address)?.state.claimed_by()),
            Self::Order(id) => Told::Order(state.order(id)?.state),
        })
    }
}
