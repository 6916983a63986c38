//! One command against what the shard knows: the events to record and the answer to give after the commit.
//! Pure: it changes the state it is given and nothing else; if the commit fails, that state is dropped.

use domain::{
    Decider, Refusal,
    email::{self, EmailStream},
    order::OrderStream,
    user::{self, UserStream},
};
use events::{
    EmailEvent, Envelope, Event, Idempotency, Metadata, StreamVersion,
    ids::{CommandId, EventId, UserId},
    timestamp::Timestamp,
};

use super::{
    known::{Outcome, Versioned},
    request::{Accepted, Answer, Command, IdempotencyRequest, Refused, Request},
    state::{ShardState, StateError},
};

/// Names this program in `ce_source`.
const SOURCE: &str = "/orderlog/command-api";

/// What a command comes to.
#[derive(Debug)]
pub struct Decision {
    /// To be recorded, in this order and together; none when things already are as asked for.
    pub events: Vec<Envelope>,
    /// To be answered after that, and not before.
    pub answer: Result<Accepted, Refused>,
}

impl Decision {
    fn without_events(answer: Result<Accepted, Refused>) -> Self {
        Self {
            events: Vec::new(),
            answer,
        }
    }
}

/// Decides `request` as `command_id`. The state is as after the events when this returns.
pub fn decide(
    state: &mut ShardState,
    command_id: CommandId,
    request: Request,
) -> Result<Decision, StateError> {
    if let Some(key) = &request.idempotency
        && let Some(answer) = replay(state, key, request.command.at())?
    {
        return Ok(Decision::without_events(answer));
    }
    let mut recorder = Recorder::new(command_id, &request);
    let expected = request.expected.as_ref();
    let matches = |version| expected.is_none_or(|condition| condition.matches(version));
    let answer = match request.command {
        Command::Order { id, command } => {
            let before = state.order(id)?;
            match weigh::<OrderStream>(&before, command, matches, Refused::Order) {
                Ok(events) => {
                    let apply = |event: &_, metadata: &_| state.apply_order(event, metadata);
                    record(events, before.version, &mut recorder, apply)?;
                    Ok(Accepted::Order(answer(state.order(id)?)))
                }
                Err(refused) => Err(refused),
            }
        }
        Command::User { id, command } => {
            let before = state.user(id)?;
            // Weighed before anything is recorded: they are one decision.
            let released = release(state, id, &before.state, &command)?;
            match weigh::<UserStream>(&before, command, matches, Refused::User) {
                Ok(events) => {
                    let apply = |event: &_, metadata: &_| state.apply_user(event, metadata);
                    record(events, before.version, &mut recorder, apply)?;
                    if let Some((claim, events)) = released {
                        let apply = |event: &_, metadata: &_| state.apply_email(event, metadata);
                        record(events, claim, &mut recorder, apply)?;
                    }
                    Ok(Accepted::User(answer(state.user(id)?)))
                }
                Err(refused) => Err(refused),
            }
        }
        Command::Register {
            email_hash,
            id,
            command,
        } => {
            let (claim, before) = (state.email(email_hash)?, state.user(id)?);
            let claiming = email::Command {
                actor: command.actor,
                at: command.at,
                action: email::Action::Claim {
                    email_hash,
                    user_id: id,
                },
            };
            // Both are weighed before either is recorded: they are one decision.
            let claimed =
                weigh::<EmailStream>(&claim, claiming, |_| true, |_| Refused::AddressTaken);
            let registered = weigh::<UserStream>(&before, command, matches, Refused::User);
            match (claimed, registered) {
                (Ok(claimed), Ok(registered)) => {
                    let apply = |event: &_, metadata: &_| state.apply_email(event, metadata);
                    record(claimed, claim.version, &mut recorder, apply)?;
                    let apply = |event: &_, metadata: &_| state.apply_user(event, metadata);
                    record(registered, before.version, &mut recorder, apply)?;
                    Ok(Accepted::User(answer(state.user(id)?)))
                }
                (Err(refused), _) | (_, Err(refused)) => Err(refused),
            }
        }
    };
    Ok(Decision {
        events: recorder.events,
        answer,
    })
}

/// What gives the address of a user who is to be erased back, and the version of the claim's stream; nothing when
/// he is not to be erased, or has no claim here. A claim lies on its user's shard, as both were registered together.
fn release(
    state: &mut ShardState,
    user_id: UserId,
    before: &user::State,
    command: &user::Command,
) -> Result<Option<(StreamVersion, Vec<EmailEvent>)>, StateError> {
    let email_hash = match (&command.action, before) {
        (user::Action::Erase, user::State::Active(user)) => user.email_hash,
        (user::Action::Erase, user::State::Erased(user)) => user.email_hash,
        (
            user::Action::Erase
            | user::Action::Register(_)
            | user::Action::UpdateProfile(_)
            | user::Action::ChangePassword { .. }
            | user::Action::ChangeEmail { .. }
            | user::Action::ChangeRole { .. },
            _,
        ) => return Ok(None),
    };
    let claim = state.email(email_hash)?;
    let releasing = email::Command {
        actor: command.actor,
        at: command.at,
        action: email::Action::Release {
            email_hash,
            user_id,
        },
    };
    // The claim of somebody else, who has registered the address since, is his.
    let events = weigh::<EmailStream>(&claim, releasing, |_| true, |_| Refused::AddressTaken);
    Ok(events.ok().map(|events| (claim.version, events)))
}

/// What the log says about the key, if it has seen it.
fn replay(
    state: &mut ShardState,
    request: &IdempotencyRequest,
    now: Timestamp,
) -> Result<Option<Result<Accepted, Refused>>, StateError> {
    let Some(record) = state.key(&request.name, now)? else {
        return Ok(None);
    };
    Ok(Some(if record.fingerprint != request.fingerprint {
        Err(Refused::KeyReused)
    } else if state.is_in_flight(&request.name) {
        Err(Refused::KeyInFlight)
    } else {
        Ok(match record.outcome {
            Outcome::Order(order) => Accepted::Order(answer(order)),
            Outcome::User(user) => Accepted::User(answer(user)),
        })
    }))
}

/// The order of checks of the HTTP contract: may he (404, 403), is it the expected version (412), do the rules allow it (409).
fn weigh<D: Decider>(
    before: &Versioned<D::State>,
    command: D::Command,
    matches: impl Fn(StreamVersion) -> bool,
    refused: impl Fn(D::Rejection) -> Refused,
) -> Result<Vec<D::Event>, Refused> {
    D::permit(&before.state, &command).map_err(|refusal| match refusal {
        Refusal::NotFound => Refused::NotFound,
        Refusal::NotAllowed => Refused::NotAllowed,
    })?;
    if !matches(before.version) {
        return Err(Refused::Stale {
            current: before.version,
        });
    }
    D::decide(&before.state, command).map_err(refused)
}

/// Gives the decided events their place in the stream, and takes them into the state.
fn record<E: Into<Event>>(
    events: Vec<E>,
    mut version: StreamVersion,
    recorder: &mut Recorder,
    mut apply: impl FnMut(&E, &Metadata) -> Result<(), StateError>,
) -> Result<(), StateError> {
    for event in events {
        version += 1;
        let metadata = recorder.metadata(version);
        apply(&event, &metadata)?;
        recorder.events.push(Envelope {
            metadata,
            event: event.into(),
        });
    }
    Ok(())
}

fn answer<State>(after: Versioned<State>) -> Answer<State> {
    Answer {
        state: after.state,
        version: after.version,
        token: None,
    }
}

/// Writes the metadata of one command's events.
struct Recorder {
    template: Metadata,
    events: Vec<Envelope>,
}

impl Recorder {
    fn new(command_id: CommandId, request: &Request) -> Self {
        let (actor, time) = (request.command.actor(), request.command.at());
        let idempotency = request.idempotency.as_ref().map(|request| Idempotency {
            key: request.name.key.clone(),
            fingerprint: request.fingerprint,
        });
        let template = Metadata {
            event_id: EventId::derived(command_id, 0),
            source: SOURCE.to_owned(),
            time,
            version: 0,
            command_id,
            correlation_id: request.correlation_id,
            causation_id: command_id.0,
            actor,
            idempotency,
            traceparent: request.traceparent,
        };
        Self {
            template,
            events: Vec::new(),
        }
    }

    fn metadata(&self, version: StreamVersion) -> Metadata {
        let event_id = EventId::derived(self.template.command_id, self.events.len());
        Metadata {
            event_id,
            version,
            ..self.template.clone()
        }
    }
}
