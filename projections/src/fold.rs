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

/// Why a partition stopped, and where (D11).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halt {
    /// The partition.
    pub partition: u16,
    /// The offset of the record that cannot be applied.
    pub offset: i64,
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
    if fact.version != known + 1 {
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
