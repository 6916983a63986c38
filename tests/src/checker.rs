//! Weighs what clients were told against the log. Pure: a history and the facts go in, violations come out.
//!
//! It knows the rules of orders by itself, without the crate `domain`: what judges must not be what is judged.
//! A call is tied to its events by its request id, which the log keeps as correlation id. What a call may have seen of
//! an order lies in a window: at least what somebody had been told before it was sent, and nothing that was sent
//! only after it was answered.

mod fold;
mod index;
mod told;

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use events::partition::partition_of;

use crate::history::{Call, Caller, Fact, IfMatch, Says, Sent, Status, Told};
use fold::Folded;
use index::Index;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It was acknowledged, and the log does not hold it.
    Lost,
    /// One intent was carried out more than once.
    Doubled,
    /// It was refused, and the log holds it.
    RefusedYetRecorded,
    /// The log holds an event that nobody asked for.
    NobodysEvent,
    /// The event says other than what was asked for.
    NotAsSent,
    /// The versions of an order do not count up by one in the order of the log.
    Gap,
    /// An event is not under its order's key, or not in its partition.
    Misplaced,
    /// The log holds a step that the order's state did not allow.
    AgainstTheRules,
    /// A change was made on another version than the one that it was based on.
    LostUpdate,
    /// What was answered is not what the log says of that version.
    WrongState,
    /// It was answered, or recorded, as if something that had been acknowledged before had not been.
    Stale,
    /// The answer rests on something that was not committed when it was given.
    Uncommitted,
    /// It was refused, and no state that it may have met calls for that.
    Baseless,
    /// A repeated request was not answered as the first one.
    ReplayDiffers,
    /// A repeated request was never answered.
    Unresolved,
    /// The `Consistency-Token` does not lead to what was answered.
    WrongToken,
}

/// Something that must not be, and where it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// What is wrong.
    pub kind: Kind,
    /// The shortest history that shows it.
    pub seen: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "violation: {:?}: {}", self.kind, self.seen)
    }
}

/// What was found.
#[derive(Default)]
struct Found(Vec<Violation>);

impl Found {
    fn add(&mut self, kind: Kind, seen: impl fmt::Display) {
        let seen = seen.to_string();
        self.0.push(Violation { kind, seen });
    }
}

/// Weighs `calls` against `facts`, the events about orders in the order of the log, which has that many `partitions`.
/// Only orders that these calls created, or that they name, are looked at.
pub fn check(calls: &[Call], facts: &[Fact], partitions: u16) -> Vec<Violation> {
    let index = Index::of(calls, facts);
    let mut found = Found::default();
    let mut states = HashMap::new();
    for (order, facts) in &index.facts {
        sequence(facts, partitions, &mut found);
        states.insert(*order, fold::states(facts, &mut found));
    }
    for fact in index.facts.values().flatten() {
        match index.calls.get(&fact.call) {
            Some(call) => as_sent(call, fact, &index, &mut found),
            None => found.add(Kind::NobodysEvent, format!("{fact:?}")),
        }
    }
    once(&index, &mut found);
    for call in calls {
        told::check(call, &index, &states, &mut found);
    }
    told::repeated(&index, &mut found);
    found.0
}

/// Versions count up by one; each event is where its order's events are.
fn sequence(facts: &[&Fact], partitions: u16, found: &mut Found) {
    for (fact, version) in facts.iter().zip(1..) {
        if fact.version != version {
            found.add(Kind::Gap, format!("version {version} wanted: {fact:?}"));
            // One gap moves everything after it; telling it once is enough.
            break;
        }
    }
    for fact in facts {
        let id = fact.order.to_string();
        if fact.key != id || fact.place.partition != partition_of(id.as_bytes(), partitions) {
            found.add(Kind::Misplaced, format!("{fact:?}"));
        }
    }
}

/// The event against the call that it came from.
fn as_sent(call: &Call, fact: &Fact, index: &Index<'_>, found: &mut Found) {
    let as_sent = match (&call.sent, &fact.says) {
        (Sent::Create { sku }, Says::Created { customer, sku: it }) => {
            sku == it && call.caller == Caller::User(*customer)
        }
        (Sent::Update { sku, .. }, Says::Updated { sku: it }) => sku == it,
        (Sent::Cancel { .. }, Says::Moved { to }) => *to == Status::Cancelled,
        (Sent::Status { to, .. }, Says::Moved { to: it }) => to == it,
        (
            Sent::Create { .. } | Sent::Update { .. } | Sent::Cancel { .. } | Sent::Status { .. },
            Says::Created { .. } | Says::Updated { .. } | Says::Moved { .. },
        ) => false,
    };
    let same_order = call.sent.order().is_none_or(|order| order == fact.order);
    if !as_sent || !same_order || call.caller != fact.actor {
        found.add(Kind::NotAsSent, format!("{call:?} became {fact:?}"));
    }
    if let Some(IfMatch::Version(base)) = call.if_match
        && fact.version != base + 1
    {
        found.add(
            Kind::LostUpdate,
            format!("based on version {base}: {call:?} became {fact:?}"),
        );
    }
    let known = index.known_before(fact.order, call.began);
    if fact.version <= known {
        found.add(
            Kind::Stale,
            format!("version {known} was known before {call:?} was sent, which became {fact:?}"),
        );
    }
    match call.told {
        Told::Done(_) | Told::Unknown => {}
        Told::Stale { .. }
        | Told::RuleBroken
        | Told::NotFound
        | Told::KeyReused
        | Told::KeyInFlight
        | Told::Unavailable => found.add(
            Kind::RefusedYetRecorded,
            format!("{call:?} became {fact:?}"),
        ),
    }
}

/// A call has at most one event, so have all calls under one key, and names of events and commands come once.
fn once(index: &Index<'_>, found: &mut Found) {
    let (mut events, mut commands, mut calls) = (HashSet::new(), HashSet::new(), HashMap::new());
    for fact in index.facts.values().flatten() {
        let first = calls.insert(fact.call, fact);
        let is_new = events.insert(fact.event) && commands.insert(fact.command);
        if !is_new || first.is_some() {
            found.add(Kind::Doubled, format!("{fact:?} after {first:?}"));
        }
    }
    for ((caller, key), repeated) in &index.keys {
        let facts: Vec<_> = repeated
            .iter()
            .filter_map(|call| calls.get(&call.id))
            .collect();
        if facts.len() > 1 {
            found.add(
                Kind::Doubled,
                format!("under the key {key} of {caller:?}: {facts:?}"),
            );
        }
    }
}
