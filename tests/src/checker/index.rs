//! Calls and facts, so that they find each other.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use events::ids::OrderId;
use uuid::Uuid;

use crate::history::{Call, Caller, Fact, Told};

pub(super) struct Index<'a> {
    /// Every call by its request id.
    pub(super) calls: HashMap<Uuid, &'a Call>,
    /// The calls under each key, in the order they were sent.
    pub(super) keys: HashMap<(Caller, &'a str), Vec<&'a Call>>,
    /// The events of every order that the calls are about, in the order of the log.
    pub(super) facts: BTreeMap<OrderId, Vec<&'a Fact>>,
    /// Which event a call became.
    pub(super) fact_of: HashMap<Uuid, &'a Fact>,
    /// The highest offset of an event in each partition of the orders' topic.
    pub(super) ends: HashMap<u16, i64>,
    /// When which version of an order was told to somebody, in the order of time, with the highest version so far.
    known: HashMap<OrderId, Vec<(Duration, u64)>>,
}

impl<'a> Index<'a> {
    pub(super) fn of(calls: &'a [Call], facts: &'a [Fact]) -> Self {
        let mut keys: HashMap<_, Vec<_>> = HashMap::new();
        for call in calls {
            if let Some(key) = &call.key {
                keys.entry((call.caller, key.as_str()))
                    .or_default()
                    .push(call);
            }
        }
        keys.values_mut()
            .for_each(|repeated| repeated.sort_by_key(|call| call.began));
        let calls_by_id: HashMap<_, _> = calls.iter().map(|call| (call.id, call)).collect();
        let named = calls.iter().filter_map(order_of);
        let created = facts
            .iter()
            .filter(|fact| calls_by_id.contains_key(&fact.call));
        let orders: HashSet<_> = named.chain(created.map(|fact| fact.order)).collect();
        let mut ends = HashMap::new();
        for place in facts.iter().map(|fact| fact.place) {
            let end = ends.entry(place.partition).or_insert(place.offset);
            *end = place.offset.max(*end);
        }
        let mut by_order: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for fact in facts.iter().filter(|fact| orders.contains(&fact.order)) {
            by_order.entry(fact.order).or_default().push(fact);
        }
        Self {
            calls: calls_by_id,
            keys,
            fact_of: by_order
                .values()
                .flatten()
                .map(|fact| (fact.call, *fact))
                .collect(),
            facts: by_order,
            ends,
            known: known(calls),
        }
    }

    /// The highest version of an order that somebody had been told before that time.
    pub(super) fn known_before(&self, order: OrderId, time: Duration) -> u64 {
        let known = self.known.get(&order).map_or(&[][..], Vec::as_slice);
        let before = known.partition_point(|(ended, _)| *ended < time);
        known[..before].last().map_or(0, |(_, version)| *version)
    }

    /// The highest version of an order that may have been there at that time: all calls that led to it had been sent.
    pub(super) fn possible_at(&self, order: OrderId, time: Duration) -> u64 {
        let facts = self.facts.get(&order).map_or(&[][..], Vec::as_slice);
        let was_sent = |fact: &&&Fact| {
            let call = self.calls.get(&fact.call);
            call.is_none_or(|call| call.began < time)
        };
        facts.iter().take_while(was_sent).count() as u64
    }
}

fn order_of(call: &Call) -> Option<OrderId> {
    let shown = call.told.shown().map(|shown| shown.order);
    shown.or_else(|| call.sent.order())
}

fn known(calls: &[Call]) -> HashMap<OrderId, Vec<(Duration, u64)>> {
    let mut known: HashMap<_, Vec<_>> = HashMap::new();
    for call in calls {
        let version = match &call.told {
            Told::Done(shown) => Some(shown.version),
            Told::Stale { current } => Some(*current),
            Told::RuleBroken
            | Told::NotFound
            | Told::KeyReused
            | Told::KeyInFlight
            | Told::Unavailable
            | Told::Unknown => None,
        };
        if let (Some(version), Some(order)) = (version, order_of(call)) {
            known.entry(order).or_default().push((call.ended, version));
        }
    }
    for told in known.values_mut() {
        told.sort_unstable();
        let mut highest = 0;
        for (_, version) in told {
            highest = highest.max(*version);
            *version = highest;
        }
    }
    known
}
