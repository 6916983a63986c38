//! Folding events into states, whatever the read model: order, duplicates and gaps. Pure.

use std::collections::HashMap;

use events::{Event, StreamVersion, ids::StreamId};

use crate::digest::Digest;

/// The state of one stream as a read model keeps it.
pub trait State: Clone + Send + Sync + 'static {
    /// The events that it is folded from; those of other streams are not this model's business.
    type Event: TryFrom<Event, Error = Event> + Send + Sync + 'static;

    /// The stream that `event` belongs to.
    fn stream_of(event: &Self::Event) -> StreamId;
    /// The stream whose state this is.
    fn stream(&self) -> StreamId;
    /// The version of the last event folded into it.
    fn version(&self) -> StreamVersion;
    /// The state after `event`, which has `version`. An error when the event makes no sense there.
    fn evolve(
        state: Option<Self>,
        version: StreamVersion,
        event: &Self::Event,
    ) -> Result<Self, Misfit>;
}

/// A state that holds hashes instead of contents, so that those of all streams fit into memory.
pub trait Digested: State {
    /// Hash of everything the state says.
    fn digest(&self) -> Digest;
    /// The names of the fields in which two states differ.
    fn differing_fields(&self, other: &Self) -> Vec<&'static str>;
}

/// An event that does not fit the state of its stream; says why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Misfit(pub String);

impl Misfit {
    /// The event needs a stream that has begun.
    pub fn not_begun(event: &str) -> Self {
        Self(format!("{event} in a stream that has not begun"))
    }

    /// The event can only be the first.
    pub fn begun_already(event: &str) -> Self {
        Self(format!("{event} in a stream that has begun already"))
    }
}

/// An event of a read model and its place.
#[derive(Debug, Clone)]
pub struct Fact<E> {
    /// Its offset in the partition.
    pub offset: i64,
    /// Its version in the stream.
    pub version: StreamVersion,
    /// The version that its stream must have before: the one below, or an earlier one where records were set aside.
    pub follows: StreamVersion,
    /// What happened.
    pub event: E,
}

/// Consecutive events of one partition.
#[derive(Debug, Clone)]
pub struct Part<E> {
    /// The checkpoint it continues.
    pub from: i64,
    /// The checkpoint once it is applied.
    pub to: i64,
    /// In the order of the log.
    pub facts: Vec<Fact<E>>,
}

/// What is applied together: at most one part of each partition.
pub type Round<E> = std::collections::BTreeMap<u16, Part<E>>;

/// A checkpoint's step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advance {
    /// The partition.
    pub partition: u16,
    /// Where the checkpoint stands, if nobody else moved it.
    pub from: i64,
    /// Where it goes.
    pub to: i64,
}

/// Why a partition stopped, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halt {
    /// The partition.
    pub partition: u16,
    /// The offset of the record that cannot be applied.
    pub offset: i64,
    /// The stream that it is of, as far as that is known,
    pub stream: Option<StreamId>,
    /// and its version there.
    pub version: Option<StreamVersion>,
    /// What is wrong with it.
    pub reason: String,
}

/// The outcome of a round.
#[derive(Debug, Clone)]
pub struct Folded<S> {
    /// The last state of every stream that changed.
    pub states: Vec<S>,
    /// How far each partition came.
    pub advances: Vec<Advance>,
    /// The partitions that stop before their part's end.
    pub halts: Vec<Halt>,
}

/// The streams of a round that continue something stored: those whose first event here is not their first.
pub fn continued<S: State>(round: &Round<S::Event>) -> Vec<StreamId> {
    let mut first_versions = HashMap::new();
    for fact in round.values().flat_map(|part| &part.facts) {
        first_versions
            .entry(S::stream_of(&fact.event))
            .or_insert(fact.version);
    }
    first_versions
        .into_iter()
        .filter_map(|(stream, version)| (version > 1).then_some(stream))
        .collect()
}

/// Folds a round onto the `stored` states of its [`continued`] streams. Events that a state already reflects
/// change nothing. At a gap in the versions, or an event that makes no sense, the partition stops.
pub fn fold<S: State>(stored: HashMap<StreamId, S>, round: &Round<S::Event>) -> Folded<S> {
    let before: HashMap<StreamId, StreamVersion> = stored
        .iter()
        .map(|(stream, state)| (*stream, state.version()))
        .collect();
    let mut states = stored;
    let mut advances = Vec::with_capacity(round.len());
    let mut halts = Vec::new();
    for (&partition, part) in round {
        let mut to = part.to;
        for fact in &part.facts {
            if let Err(Misfit(reason)) = step(&mut states, fact) {
                to = fact.offset;
                halts.push(Halt {
                    partition,
                    offset: fact.offset,
                    stream: Some(S::stream_of(&fact.event)),
                    version: Some(fact.version),
                    reason,
                });
                break;
            }
        }
        advances.push(Advance {
            partition,
            from: part.from,
            to,
        });
    }
    let changed = |state: &S| {
        before
            .get(&state.stream())
            .is_none_or(|version| *version < state.version())
    };
    Folded {
        states: states.into_values().filter(changed).collect(),
        advances,
        halts,
    }
}

/// Folds one event into the state of its stream. Leaves the state alone when it reflects the event already.
pub fn step<S: State>(
    states: &mut HashMap<StreamId, S>,
    fact: &Fact<S::Event>,
) -> Result<(), Misfit> {
    let stream = S::stream_of(&fact.event);
    let known = states.get(&stream).map_or(0, State::version);
    if fact.version <= known {
        return Ok(());
    }
    if known < fact.follows {
        return Err(Misfit(format!(
            "version {} of stream {stream} follows version {known}",
            fact.version
        )));
    }
    // The state stays where it is until its successor is there: a misfit leaves it as it was.
    let next = S::evolve(states.get(&stream).cloned(), fact.version, &fact.event)
        .map_err(|Misfit(reason)| Misfit(format!("stream {stream}: {reason}")))?;
    states.insert(stream, next);
    Ok(())
}

#[cfg(test)]
mod tests {
    use events::{OrderEvent, UserEvent, order::OrderStep, user::Role};
    use runtime::representation::{OrderStatus, UserStatus};

    use super::*;
    use crate::{
        orders::fold::Order,
        samples::{
            at, cancelled, created, email_changed, erased, order, password_changed,
            profile_updated, progressed, registered, role_changed, round, sealed, updated, user,
        },
        users::fold::User,
    };

    fn fold_users(events: Vec<(u64, UserEvent)>) -> Folded<User> {
        fold(HashMap::new(), &round(0, 0, events))
    }

    fn fold_orders(events: Vec<(u64, OrderEvent)>) -> Folded<Order> {
        fold(HashMap::new(), &round(0, 0, events))
    }

    #[test]
    fn a_users_life() {
        let mut events = vec![(1, registered(user(1), 0))];
        let registered = fold_users(events.clone()).states.remove(0);
        assert_eq!(
            (
                registered.version,
                registered.role,
                registered.email_verified
            ),
            (1, Role::User, false)
        );
        assert_eq!(
            (&registered.email, &registered.phone),
            (&Some(sealed("email 1")), &Some(sealed("phone 1")))
        );
        assert!(registered.preferences.order_emails && registered.preferences.order_sms);
        events.extend([
            (2, profile_updated(user(1), 1)),
            (3, password_changed(user(1), 2)),
            (4, email_changed(user(1), 3)),
            (5, role_changed(user(1), 4)),
        ]);
        let changed = fold_users(events.clone()).states.remove(0);
        assert_eq!(
            (&changed.name, &changed.phone, changed.locale.as_str()),
            (&Some(sealed("name 2")), &None, "de-AT")
        );
        assert_eq!(
            (&changed.email, changed.email_verified),
            (&Some(sealed("email 2")), true)
        );
        assert_eq!(
            (changed.role, changed.preferences.order_sms),
            (Role::Admin, false)
        );
        assert_eq!(
            (changed.version, changed.created_at, changed.updated_at),
            (5, at(0), at(4))
        );
        events.push((6, erased(user(1), 9)));
        let erased = fold_users(events).states.remove(0);
        assert_eq!(
            (erased.email, erased.name, erased.phone),
            (None, None, None)
        );
        assert_eq!(
            (erased.status, erased.version, erased.updated_at),
            (UserStatus::Erased, 6, at(9))
        );
    }

    #[test]
    fn an_orders_life() {
        let mut events = vec![(1, created(order(1), user(1), 0))];
        let created = fold_orders(events.clone()).states.remove(0);
        assert_eq!(
            (
                created.status,
                created.version,
                created.contents.total_minor
            ),
            (OrderStatus::Created, 1, 750)
        );
        events.push((2, updated(order(1), user(1), 1, r#"{"a":1}"#)));
        let updated = fold_orders(events.clone()).states.remove(0);
        assert_eq!(
            (updated.contents.total_minor, updated.contents.lines.len()),
            (1_250, 1)
        );
        assert_eq!(updated.contents.note, Some(sealed("note")));
        events.push((3, progressed(order(1), user(1), 2, OrderStep::InProgress)));
        let in_progress = fold_orders(events.clone()).states.remove(0);
        assert_eq!(
            (in_progress.status, &in_progress.contents),
            (OrderStatus::InProgress, &updated.contents)
        );
        let mut other = events.clone();
        other.push((4, cancelled(order(1), user(1), 3)));
        assert_eq!(fold_orders(other).states[0].status, OrderStatus::Cancelled);
        events.push((4, progressed(order(1), user(1), 3, OrderStep::Completed)));
        let completed = fold_orders(events).states.remove(0);
        assert_eq!(
            (completed.status, completed.version),
            (OrderStatus::Completed, 4)
        );
        assert_eq!((completed.created_at, completed.updated_at), (at(0), at(3)));
    }

    #[test]
    fn what_was_set_aside_leaves_a_gap_and_only_there() {
        let events = vec![
            (1, created(order(1), user(1), 0)),
            (4, cancelled(order(1), user(1), 1)),
        ];
        let mut round = round(0, 0, events);
        let halted: Folded<Order> = fold(HashMap::new(), &round);
        let [halt] = halted.halts.as_slice() else {
            panic!("{halted:?}")
        };
        assert_eq!(
            (halt.offset, halt.stream, halt.version),
            (1, Some(order(1).into()), Some(4))
        );
        for (follows, version) in [(3, 1), (2, 1), (1, 4), (0, 4)] {
            if let Some(part) = round.get_mut(&0) {
                part.facts[1].follows = follows;
            }
            let folded: Folded<Order> = fold(HashMap::new(), &round);
            assert_eq!(folded.states[0].version, version, "{follows}");
            assert_eq!(folded.halts.is_empty(), version == 4);
        }
    }

    #[test]
    fn what_a_state_reflects_already_changes_nothing() {
        let events = vec![
            (1, created(order(1), user(1), 0)),
            (2, cancelled(order(1), user(1), 1)),
        ];
        let mut doubled = events.clone();
        doubled.extend(events.clone());
        let (once, twice) = (fold_orders(events.clone()), fold_orders(doubled));
        assert_eq!(once.states, twice.states);
        let stored: HashMap<_, _> = once
            .states
            .into_iter()
            .map(|state| (state.stream(), state))
            .collect();
        let again = fold(stored, &round(0, 0, events));
        assert!(again.states.is_empty() && again.halts.is_empty());
        assert_eq!(
            again.advances,
            [Advance {
                partition: 0,
                from: 0,
                to: 3
            }]
        );
    }

    #[test]
    fn folding_in_parts_is_folding_at_once() {
        let events = vec![
            (1, created(order(1), user(1), 0)),
            (2, updated(order(1), user(1), 1, "{}")),
            (3, progressed(order(1), user(1), 2, OrderStep::InProgress)),
            (4, cancelled(order(1), user(1), 3)),
        ];
        let whole = fold_orders(events.clone()).states;
        for cut in 1..events.len() {
            let (first, rest) = events.split_at(cut);
            let first = fold_orders(first.to_vec()).states;
            let stored = first
                .into_iter()
                .map(|state: Order| (state.stream(), state))
                .collect();
            assert_eq!(
                fold(stored, &round(0, cut as i64, rest.to_vec())).states,
                whole
            );
        }
    }

    #[test]
    fn a_gap_stops_the_partition_at_the_event_after_it() {
        let events = vec![
            (1, created(order(1), user(1), 0)),
            (3, cancelled(order(1), user(1), 1)),
            (1, created(order(2), user(1), 2)),
        ];
        let folded = fold_orders(events);
        assert_eq!(folded.states.len(), 1);
        assert_eq!(
            folded.advances,
            [Advance {
                partition: 0,
                from: 0,
                to: 1
            }]
        );
        assert_eq!((folded.halts[0].offset, folded.states[0].version), (1, 1));
        assert_eq!(
            folded.halts[0].reason,
            format!("version 3 of stream {} follows version 1", order(1))
        );
    }

    #[test]
    fn an_event_that_makes_no_sense_there_stops_the_partition() {
        for events in [
            vec![(1, cancelled(order(1), user(1), 0))],
            vec![
                (1, created(order(1), user(1), 0)),
                (2, created(order(1), user(1), 0)),
            ],
            vec![(1, created(order(1), user(1), i64::MAX / 2_000_000))],
        ] {
            let folded = fold_orders(events);
            assert_eq!(folded.halts.len(), 1);
        }
        assert_eq!(fold_users(vec![(1, erased(user(1), 0))]).halts.len(), 1);
    }

    #[test]
    fn only_streams_that_began_before_the_round_are_read() {
        let events = vec![
            (1, created(order(1), user(1), 0)),
            (2, cancelled(order(1), user(1), 1)),
            (4, cancelled(order(2), user(1), 2)),
            (5, cancelled(order(2), user(1), 2)),
        ];
        assert_eq!(
            continued::<Order>(&round(0, 0, events)),
            [StreamId::from(order(2))]
        );
    }

    #[test]
    fn hashes_follow_the_contents() {
        let events = vec![
            (1, created(order(1), user(1), 0)),
            (2, updated(order(1), user(1), 1, r#"{"a":1}"#)),
        ];
        let digested: Folded<Order<Digest>> = fold(HashMap::new(), &round(0, 0, events.clone()));
        assert_eq!(
            digested.states[0],
            fold_orders(events).states.remove(0).digested()
        );
        let other = vec![
            (1, created(order(1), user(1), 0)),
            (2, updated(order(1), user(1), 1, r#"{"a":2}"#)),
        ];
        let other = fold_orders(other).states.remove(0).digested();
        assert_eq!(digested.states[0].differing_fields(&other), ["contents"]);
        assert_ne!(digested.states[0].digest(), other.digest());
    }
}
