//! Decisions: which commands users and orders accept, and what follows. Pure: no clock, no randomness,
//! no environment, no I/O (`clippy.toml` bans them); time and ids arrive in the command.
//!
//! One file per kind of stream, each in the same order: actions, state, rejections, `permit`, `decide`,
//! `evolve`, tests. [`money`] and [`values`] hold the plain values that commands are made of.

pub mod email;
#[cfg(test)]
mod given;
pub mod money;
pub mod order;
pub mod user;
pub mod values;

use events::{Actor, ids::UserId, timestamp::Timestamp, user::Role};

/// The rules of one kind of stream, as pure and total functions.
pub trait Decider {
    /// What may be asked for.
    type Command;
    /// What may have happened.
    type Event;
    /// What the events so far amount to: an enum of phases.
    type State;
    /// Why a command broke a rule.
    type Rejection;

    /// The state of a stream without events.
    fn initial() -> Self::State;

    /// Whether who commands may see this stream, and do this to it at all (404 and 403). Asked before
    /// the expected version is compared, which comes before [`Decider::decide`].
    fn permit(state: &Self::State, command: &Self::Command) -> Result<(), Refusal>;

    /// The events that carry out `command`: none when things already are as asked for.
    fn decide(
        state: &Self::State,
        command: Self::Command,
    ) -> Result<Vec<Self::Event>, Self::Rejection>;

    /// The state after `event`. Facts are believed, not judged: one about something that was never
    /// created changes nothing.
    fn evolve(state: Self::State, event: &Self::Event) -> Self::State;
}

/// A command: who asks for which action, and when.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Command<Action> {
    /// On whose behalf. The rules depend on it: an admin may still cancel what its owner no longer may.
    pub actor: Actor,
    /// When it was received; becomes the time of its events.
    pub at: Timestamp,
    /// What is asked for.
    pub action: Action,
}

/// Why a command is not even considered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Unknown, or somebody else's: whoever asks cannot tell which (404).
    #[error("there is no such thing here")]
    NotFound,
    /// Known, but not for the role of who asks (403).
    #[error("your role does not allow this")]
    NotAllowed,
}

/// Admins may do everything, and so may Orderlog itself.
const fn may_do_everything(actor: Actor) -> bool {
    match actor {
        Actor::User(_, Role::Admin) | Actor::System => true,
        Actor::User(_, Role::User) => false,
    }
}

/// Whether `user` himself acts.
fn is_oneself(actor: Actor, user: UserId) -> bool {
    match actor {
        Actor::User(id, Role::User | Role::Admin) => id == user,
        Actor::System => false,
    }
}
