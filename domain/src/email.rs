//! Claims of e-mail addresses: an address belongs to one user at a time. The stream's id is a keyed
//! hash of the address; the address itself is not known here.

use events::{
    EmailEvent,
    ids::{EmailHash, UserId},
    user::{UserEmailClaimed, UserEmailReleased},
};
use serde::{Deserialize, Serialize};

use crate::{Decider, Refusal, is_oneself, may_do_everything};

/// What may be done to an address, by whom and when.
pub type Command = crate::Command<Action>;

/// What may be done to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Claim it.
    Claim {
        /// The address.
        email_hash: EmailHash,
        /// For whom.
        user_id: UserId,
    },
    /// Give it back.
    Release {
        /// The address.
        email_hash: EmailHash,
        /// By whom.
        user_id: UserId,
    },
}

/// The phases of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Nobody's.
    Free,
    /// This user's.
    Claimed(UserId),
}

impl State {
    /// Whose address it is.
    pub const fn claimed_by(self) -> Option<UserId> {
        match self {
            Self::Free => None,
            Self::Claimed(user_id) => Some(user_id),
        }
    }
}

/// Why a command broke a rule. Whose the address is stays unsaid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Somebody else has claimed it.
    #[error("this e-mail address belongs to another user")]
    Taken,
    /// Only who claimed it can give it back.
    #[error("this e-mail address was claimed by another user, who alone can release it")]
    ClaimedByAnother,
}

impl Rejection {
    /// The stable name of the broken rule.
    pub const fn rule(self) -> &'static str {
        match self {
            Self::Taken => "email-taken",
            Self::ClaimedByAnother => "email-claimed-by-another",
        }
    }
}

/// The streams of e-mail addresses.
#[derive(Debug, Clone, Copy)]
pub enum EmailStream {}

impl Decider for EmailStream {
    type Command = Command;
    type Event = EmailEvent;
    type State = State;
    type Rejection = Rejection;

    fn initial() -> State {
        State::Free
    }

    /// Everyone claims and releases for himself; admins and the system for anyone.
    fn permit(_: &State, command: &Command) -> Result<(), Refusal> {
        let (Action::Claim { user_id, .. } | Action::Release { user_id, .. }) = command.action;
        let may = is_oneself(command.actor, user_id) || may_do_everything(command.actor);
        if may {
            Ok(())
        } else {
            Err(Refusal::NotAllowed)
        }
    }

    fn decide(state: &State, command: Command) -> Result<Vec<EmailEvent>, Rejection> {
        let occurred_at = command.at;
        match (state, command.action) {
            (
                State::Free,
                Action::Claim {
                    email_hash,
                    user_id,
                },
            ) => {
                let fact = UserEmailClaimed {
                    email_hash,
                    user_id,
                    occurred_at,
                };
                Ok(vec![EmailEvent::Claimed(fact)])
            }
            (State::Claimed(owner), Action::Claim { user_id, .. }) if *owner == user_id => {
                Ok(vec![])
            }
            (State::Claimed(_), Action::Claim { .. }) => Err(Rejection::Taken),
            (State::Free, Action::Release { .. }) => Ok(vec![]),
            (
                State::Claimed(owner),
                Action::Release {
                    email_hash,
                    user_id,
                },
            ) if *owner == user_id => {
                let fact = UserEmailReleased {
                    email_hash,
                    user_id,
                    occurred_at,
                };
                Ok(vec![EmailEvent::Released(fact)])
            }
            (State::Claimed(_), Action::Release { .. }) => Err(Rejection::ClaimedByAnother),
        }
    }

    fn evolve(_: State, event: &EmailEvent) -> State {
        match event {
            EmailEvent::Claimed(fact) => State::Claimed(fact.user_id),
            EmailEvent::Released(_) => State::Free,
        }
    }
}

#[cfg(test)]
mod tests;
