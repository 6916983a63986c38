//! Every answer against the log.

use std::collections::HashMap;

use events::ids::OrderId;

use super::{Folded, Found, Index, Kind};
use crate::history::{Call, Fact, IfMatch, Sent, Shown, Told};

type States = HashMap<OrderId, Vec<Option<Folded>>>;

/// What a call was told.
pub(super) fn check(call: &Call, index: &Index<'_>, states: &States, found: &mut Found) {
    match &call.told {
        Told::Done(shown) => done(call, shown, index, states, found),
        Told::Stale { current } => stale(call, *current, index, found),
        Told::RuleBroken => refused(call, index, states, found, |state| {
            state.is_some_and(|state| state.refuses(call))
        }),
        Told::NotFound => refused(call, index, states, found, |state| state.is_none()),
        Told::KeyReused => found.add(
            Kind::Baseless,
            format!("nobody used the key for anything else: {call:?}"),
        ),
        Told::KeyInFlight => in_flight(call, index, found),
        // That nothing was done is checked from the side of the log.
        Told::Unavailable | Told::Unknown => {}
    }
}

fn done(call: &Call, shown: &Shown, index: &Index<'_>, states: &States, found: &mut Found) {
    let facts = index.facts.get(&shown.order).map_or(&[][..], Vec::as_slice);
    let place = usize::try_from(shown.version).unwrap_or(usize::MAX);
    let Some(at) = place.checked_sub(1).and_then(|before| facts.get(before)) else {
        let has = facts.len();
        return found.add(Kind::Lost, format!("the log has {has} events of {call:?}"));
    };
    let state = states
        .get(&shown.order)
        .and_then(|all| all.get(place)?.as_ref());
    let is_shown = state.is_some_and(|state| state.is(shown));
    let (own, first) = (index.fact_of.get(&call.id), replayed(call, index));
    // What was answered first is answered again, whatever has been since.
    let of_it = own.copied().or(first);
    match of_it {
        Some(fact) if fact.order == shown.order && fact.version == shown.version => {
            if !is_shown {
                found.add(
                    Kind::WrongState,
                    format!("{state:?} at that version: {call:?}"),
                );
            }
        }
        Some(fact) => found.add(Kind::WrongState, format!("{call:?} became {fact:?}")),
        None => unchanged(call, shown, state, index, found),
    }
    leads_to_it(call, shown, at, own.is_some(), index, found);
}

/// Done without an event of its own: it was so already, and that was committed. Else its event is lost.
fn unchanged(
    call: &Call,
    shown: &Shown,
    state: Option<&Folded>,
    index: &Index<'_>,
    found: &mut Found,
) {
    let is_so = state.is_some_and(|state| state.is(shown) && state.is_already(&call.sent));
    let matches = match call.if_match {
        Some(IfMatch::Version(base)) => base == shown.version,
        Some(IfMatch::Any) | None => true,
    };
    if !is_so || !matches {
        return found.add(Kind::Lost, format!("{call:?}, and the log says {state:?}"));
    }
    in_window(call, shown.order, shown.version, index, found);
}

/// The token of an answer leads to the event that is shown, or to a later one where that was there before: to an attempt of
/// the call itself, if it has a key, whose outcome was not known.
fn leads_to_it(
    call: &Call,
    shown: &Shown,
    at: &Fact,
    is_own: bool,
    index: &Index<'_>,
    found: &mut Found,
) {
    let event = at.place.offset;
    let last = match !is_own || call.key.is_some() {
        true => index.ends.get(&at.place.partition).copied(),
        false => None,
    };
    let leads = match shown.token.as_deref() {
        Some(token) => {
            let partition = format!("orders-{}-", at.place.partition);
            let offset: Option<i64> = token
                .strip_prefix(&partition)
                .and_then(|offset| offset.parse().ok());
            offset.is_some_and(|offset| (event..=last.unwrap_or(event)).contains(&offset))
        }
        None => !is_own,
    };
    if !leads {
        found.add(Kind::WrongToken, format!("{shown:?} is {at:?}"));
    }
}

fn stale(call: &Call, current: u64, index: &Index<'_>, found: &mut Found) {
    let Some(order) = call.sent.order() else {
        return found.add(
            Kind::Baseless,
            format!("a new order has no version: {call:?}"),
        );
    };
    match call.if_match {
        Some(IfMatch::Version(base)) if base != current => {}
        Some(_) | None => found.add(Kind::Baseless, format!("{call:?}")),
    }
    in_window(call, order, current, index, found);
}

/// A version that was shown was not behind what was known before, and committed.
fn in_window(call: &Call, order: OrderId, version: u64, index: &Index<'_>, found: &mut Found) {
    let known = index.known_before(order, call.began);
    if version < known {
        found.add(
            Kind::Stale,
            format!("version {known} was known before {call:?} was sent"),
        );
    }
    let possible = index.possible_at(order, call.ended);
    if version > possible {
        found.add(
            Kind::Uncommitted,
            format!("the log had at most version {possible} when {call:?} was answered"),
        );
    }
}

/// There must be a state, among those that the call may have met, that calls for the refusal.
fn refused(
    call: &Call,
    index: &Index<'_>,
    states: &States,
    found: &mut Found,
    calls_for_it: impl Fn(Option<&Folded>) -> bool,
) {
    let Some(order) = call.sent.order() else {
        return found.add(Kind::Baseless, format!("{call:?}"));
    };
    let met = index.known_before(order, call.began)..=index.possible_at(order, call.ended);
    let of_order = states.get(&order).map_or(&[][..], Vec::as_slice);
    let is_based = met.clone().any(|version| {
        let state = usize::try_from(version)
            .ok()
            .and_then(|version| of_order.get(version)?.as_ref());
        let matches = match call.if_match {
            Some(IfMatch::Version(base)) => base == version,
            Some(IfMatch::Any) | None => true,
        };
        (matches || state.is_none()) && calls_for_it(state)
    });
    if !is_based {
        found.add(
            Kind::Baseless,
            format!("no state of versions {met:?} calls for it: {call:?}"),
        );
    }
}

/// Another call under the key was under way, or may have been.
fn in_flight(call: &Call, index: &Index<'_>, found: &mut Found) {
    let others = call
        .key
        .as_deref()
        .and_then(|key| index.keys.get(&(call.caller, key)));
    let is_based = others.into_iter().flatten().any(|other| {
        let over = other.told != Told::Unknown && other.ended < call.began;
        other.id != call.id && other.began < call.ended && !over
    });
    if !is_based {
        found.add(Kind::Baseless, format!("nothing under this key: {call:?}"));
    }
}

/// The event under the call's key, where the log names the key with it.
fn replayed<'a>(call: &Call, index: &Index<'a>) -> Option<&'a Fact> {
    let key = call.key.as_deref()?;
    let repeated = index.keys.get(&(call.caller, key))?;
    let fact = repeated
        .iter()
        .find_map(|call| index.fact_of.get(&call.id))?;
    (fact.idempotency_key.as_deref() == Some(key)).then_some(*fact)
}

/// Calls under one key: all that are done show the same; once one is done, none is refused; in the end one is answered.
pub(super) fn repeated(index: &Index<'_>, found: &mut Found) {
    for ((caller, key), calls) in &index.keys {
        let is_done = |call: &&&Call| matches!(call.told, Told::Done(_));
        let Some(first) = calls.iter().filter(is_done).min_by_key(|call| call.ended) else {
            let told = |which: fn(&Told) -> bool| calls.iter().any(|call| which(&call.told));
            let asks_again = told(|told| matches!(told, Told::Unknown | Told::KeyInFlight));
            let is_final = |told: &Told| {
                matches!(told, Told::Stale { .. } | Told::RuleBroken | Told::NotFound)
            };
            if asks_again && !told(is_final) {
                found.add(
                    Kind::Unresolved,
                    format!("the key {key} of {caller:?}: {calls:?}"),
                );
            }
            continue;
        };
        if replayed(first, index).is_none() {
            // The log does not name the key: nothing is promised.
            if matches!(first.sent, Sent::Create { .. }) {
                found.add(
                    Kind::ReplayDiffers,
                    format!("the log does not name the key: {first:?}"),
                );
            }
            continue;
        }
        for call in calls {
            let differs = match (&first.told, &call.told) {
                (Told::Done(first), Told::Done(shown)) => {
                    (first.order, first.version) != (shown.order, shown.version)
                }
                (_, Told::Stale { .. } | Told::RuleBroken | Told::NotFound) => {
                    call.began > first.ended
                }
                (_, _) => false,
            };
            if differs {
                found.add(Kind::ReplayDiffers, format!("{call:?} after {first:?}"));
            }
        }
    }
}
