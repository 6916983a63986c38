//! Given, when, then: a test of a decider is one sentence.

use std::fmt::Debug;

use crate::{Decider, Refusal};

/// A stream with a past.
pub(crate) struct Given<D: Decider> {
    pub(crate) state: D::State,
}

/// What a command led to.
pub(crate) struct Outcome<D: Decider> {
    state: D::State,
    result: Result<Vec<D::Event>, No<D::Rejection>>,
}

/// A refusal or a rejection.
#[derive(Debug, PartialEq)]
pub(crate) enum No<Rejection> {
    Refused(Refusal),
    Rejected(Rejection),
}

/// A stream in which `past` happened.
pub(crate) fn given<D: Decider>(past: impl IntoIterator<Item = D::Event>) -> Given<D> {
    let state = past
        .into_iter()
        .fold(D::initial(), |state, event| D::evolve(state, &event));
    Given { state }
}

impl<D: Decider> Given<D> {
    /// Asks for permission, then for a decision, and applies it.
    pub(crate) fn when(self, command: D::Command) -> Outcome<D> {
        let result = D::permit(&self.state, &command)
            .map_err(No::Refused)
            .and_then(|()| D::decide(&self.state, command).map_err(No::Rejected));
        let events = result.as_deref().unwrap_or(&[]);
        let state = events.iter().fold(self.state, D::evolve);
        Outcome { state, result }
    }
}

impl<D: Decider> Outcome<D>
where
    D::Event: Debug + PartialEq,
    D::Rejection: Debug + PartialEq,
{
    /// Exactly these events; goes on with the state after them.
    #[track_caller]
    pub(crate) fn then(self, events: impl IntoIterator<Item = D::Event>) -> Given<D> {
        assert_eq!(self.result, Ok(events.into_iter().collect()));
        Given { state: self.state }
    }

    /// Already so.
    #[track_caller]
    pub(crate) fn then_nothing(self) -> Given<D> {
        self.then([])
    }

    /// A rule was broken.
    #[track_caller]
    pub(crate) fn then_rejected(self, rejection: D::Rejection) {
        assert_eq!(self.result, Err(No::Rejected(rejection)));
    }

    /// Not found or not allowed.
    #[track_caller]
    pub(crate) fn then_refused(self, refusal: Refusal) {
        assert_eq!(self.result, Err(No::Refused(refusal)));
    }
}

/// What a cell of a table of (phase × action × actor) says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cell {
    /// One event.
    Event,
    /// Already so.
    Nothing,
    /// 404.
    NotFound,
    /// 403.
    NotAllowed,
    /// 409.
    Broken,
}

impl<D: Decider> Outcome<D> {
    /// Which cell this is.
    pub(crate) fn cell(&self) -> Cell {
        match &self.result {
            Ok(events) if events.is_empty() => Cell::Nothing,
            Ok(_) => Cell::Event,
            Err(No::Refused(Refusal::NotFound)) => Cell::NotFound,
            Err(No::Refused(Refusal::NotAllowed)) => Cell::NotAllowed,
            Err(No::Rejected(_)) => Cell::Broken,
        }
    }

    /// The state afterwards.
    pub(crate) fn into_state(self) -> D::State {
        self.state
    }
}

/// The events of a command, permitted or not, and the state after them; checks what holds for every
/// decider: a command without events changes nothing, and the same command again is already so or against
/// the rules, however often it is repeated.
pub(crate) fn step<D: Decider>(state: D::State, command: D::Command) -> (Vec<D::Event>, D::State)
where
    D::State: Clone + Debug + PartialEq,
    D::Command: Clone,
    D::Event: Debug + PartialEq,
    D::Rejection: Debug + PartialEq,
{
    let first = D::decide(&state, command.clone());
    assert_eq!(
        first,
        D::decide(&state, command.clone()),
        "the same question has the same answer"
    );
    let events = first.unwrap_or_default();
    let after = events.iter().fold(state.clone(), D::evolve);
    if events.is_empty() {
        assert_eq!(after, state);
    }
    let again = D::decide(&after, command);
    assert!(
        again.as_ref().map_or(true, Vec::is_empty),
        "twice is once, but got {again:?}"
    );
    (events, after)
}

/// Ids, keys and times for tests.
pub(crate) mod sample {
    use events::{
        Actor,
        ids::{CredentialId, EmailHash, OrderId, UserId},
        sealed::Sealed,
        timestamp::Timestamp,
        user::Role,
    };
    use uuid::Uuid;

    pub(crate) const ADA: UserId = UserId(Uuid::from_u128(1));
    pub(crate) const BOB: UserId = UserId(Uuid::from_u128(2));
    pub(crate) const ROOT: UserId = UserId(Uuid::from_u128(3));
    pub(crate) const ORDER: OrderId = OrderId(Uuid::from_u128(4));

    /// The user whom the tests are about.
    pub(crate) const OWNER: Actor = Actor::User(ADA, Role::User);
    pub(crate) const STRANGER: Actor = Actor::User(BOB, Role::User);
    pub(crate) const ADMIN: Actor = Actor::User(ROOT, Role::Admin);
    /// The user whom the tests are about, as an admin.
    pub(crate) const OWNER_ADMIN: Actor = Actor::User(ADA, Role::Admin);
    pub(crate) const SYSTEM: Actor = Actor::System;

    pub(crate) fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    pub(crate) fn sealed(text: &str) -> Sealed {
        Sealed::from_bytes(text.as_bytes().to_vec())
    }

    pub(crate) fn email_hash(n: u8) -> EmailHash {
        EmailHash([n; 32])
    }

    pub(crate) fn credential(n: u8) -> CredentialId {
        CredentialId(Uuid::from_u128(u128::from(n)))
    }
}
