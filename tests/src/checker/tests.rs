//! Made-up histories, each with one thing wrong, and what the checker makes of them.

use std::time::Duration;

use event_log::record::Place;
use events::{
    Topic,
    ids::{CommandId, EventId, OrderId, UserId},
};
use uuid::Uuid;

use super::*;
use crate::history::Shown;

const PARTITIONS: u16 = 6;
const CUSTOMER: UserId = UserId(Uuid::from_u128(7));

fn ada() -> Caller {
    Caller::User(CUSTOMER)
}

/// What happened, and what was told of it.
#[derive(Default)]
struct Story {
    calls: Vec<Call>,
    facts: Vec<Fact>,
    time: u64,
}

fn order(number: u128) -> OrderId {
    OrderId(Uuid::from_u128(number))
}

fn created(sku: &str) -> Says {
    let (customer, sku) = (CUSTOMER, sku.to_owned());
    Says::Created { customer, sku }
}

fn updated(sku: &str) -> Says {
    let sku = sku.to_owned();
    Says::Updated { sku }
}

fn create(sku: &str) -> Sent {
    let sku = sku.to_owned();
    Sent::Create { sku }
}

fn update(order: OrderId, sku: &str) -> Sent {
    let sku = sku.to_owned();
    Sent::Update { order, sku }
}

impl Story {
    /// Adds a call that begins after all before it have ended.
    fn call(&mut self, sent: Sent, told: Told) -> &mut Call {
        self.time += 10;
        self.calls.push(Call {
            id: Uuid::from_u128(u128::from(1_000 + self.time)),
            caller: ada(),
            key: None,
            if_match: None,
            sent,
            began: Duration::from_millis(self.time),
            ended: Duration::from_millis(self.time + 5),
            told,
        });
        self.calls.last_mut().expect("it")
    }

    /// Records an event of the last call.
    fn records(&mut self, order: OrderId, version: u64, says: Says) -> &mut Fact {
        let call = self.calls.last().expect("a call");
        let key = order.to_string();
        self.facts.push(Fact {
            place: Place {
                topic: Topic::Orders,
                partition: partition_of(key.as_bytes(), PARTITIONS),
                offset: 100 + i64::try_from(self.facts.len()).expect("few"),
            },
            key,
            event: EventId(Uuid::from_u128(u128::from(2_000 + self.time))),
            order,
            version,
            command: CommandId(Uuid::from_u128(u128::from(3_000 + self.time))),
            call: call.id,
            idempotency_key: call.key.clone(),
            actor: call.caller,
            says,
        });
        self.facts.last_mut().expect("it")
    }

    /// What is answered when the last recorded event is shown.
    fn shown(&self, status: Status, sku: &str) -> Shown {
        let fact = self.facts.last().expect("an event");
        Shown {
            order: fact.order,
            version: fact.version,
            customer: CUSTOMER,
            status,
            sku: sku.to_owned(),
            token: Some(format!(
                "orders-{}-{}",
                fact.place.partition, fact.place.offset
            )),
        }
    }

    /// Tells the last call that it is done, and what the last event made of it.
    fn tells(&mut self, status: Status, sku: &str) {
        let shown = self.shown(status, sku);
        self.calls.last_mut().expect("a call").told = Told::Done(shown);
    }

    /// An order that was created and acknowledged, under a key.
    fn an_order() -> Self {
        let mut story = Self::default();
        story.call(create("a"), Told::Unknown).key = Some("k".to_owned());
        story.records(order(1), 1, created("a"));
        story.tells(Status::Created, "a");
        story
    }

    /// The same, updated to version 2.
    fn an_updated_order() -> Self {
        let mut story = Self::an_order();
        story.call(update(order(1), "b"), Told::Unknown).if_match = Some(IfMatch::Version(1));
        story.records(order(1), 2, updated("b"));
        story.tells(Status::Created, "b");
        story
    }

    #[track_caller]
    fn is(&self, kinds: &[Kind]) {
        let found = check(&self.calls, &self.facts, PARTITIONS);
        let found_kinds: Vec<Kind> = found.iter().map(|violation| violation.kind).collect();
        assert_eq!(found_kinds, kinds, "{found:#?}");
    }

    #[track_caller]
    fn shows(&self, kind: Kind) {
        let found = check(&self.calls, &self.facts, PARTITIONS);
        let is_shown = found.iter().any(|violation| violation.kind == kind);
        assert!(is_shown, "{kind:?} wanted: {found:#?}");
    }
}

#[test]
fn what_is_as_it_should_be_is_left_alone() {
    let mut story = Story::an_updated_order();
    let second = story.shown(Status::Created, "b");
    // Refusals, what is so already, and a replay.
    let stale = story.call(update(order(1), "c"), Told::Stale { current: 2 });
    stale.if_match = Some(IfMatch::Version(1));
    story
        .call(update(order(1), "b"), Told::Done(second))
        .if_match = Some(IfMatch::Any);
    let Told::Done(first) = story.calls[0].told.clone() else {
        panic!("an order")
    };
    story.call(create("a"), Told::Done(first)).key = Some("k".to_owned());
    // Not done, and whether it was done was never told.
    story
        .call(update(order(1), "d"), Told::Unavailable)
        .if_match = Some(IfMatch::Any);
    let sent = Sent::Cancel { order: order(1) };
    story.call(sent, Told::Unknown);
    let to = Status::Cancelled;
    story.records(order(1), 3, Says::Moved { to });
    let sent = update(order(1), "e");
    story.call(sent, Told::RuleBroken).if_match = Some(IfMatch::Any);
    story.is(&[]);
}

#[test]
fn an_acknowledged_order_that_the_log_does_not_hold_is_lost() {
    let mut story = Story::an_order();
    story.facts.clear();
    story.is(&[Kind::Lost, Kind::ReplayDiffers]);
}

#[test]
fn an_acknowledged_change_whose_version_is_somebody_elses_is_lost() {
    let mut story = Story::an_updated_order();
    let mut other = story.calls[1].clone();
    other.id = Uuid::from_u128(1);
    other.sent = update(order(1), "other");
    other.told = Told::Unknown;
    story.facts[1].call = other.id;
    story.facts[1].says = updated("other");
    story.calls.push(other);
    story.is(&[Kind::Lost]);
}

#[test]
fn one_key_with_two_orders_is_doubled() {
    let mut story = Story::an_order();
    story.call(create("a"), Told::Unknown).key = Some("k".to_owned());
    story.records(order(2), 1, created("a"));
    story.is(&[Kind::Doubled]);
    story.tells(Status::Created, "a");
    story.shows(Kind::ReplayDiffers);
}

#[test]
fn one_call_with_two_events_is_doubled() {
    let mut story = Story::an_order();
    story.records(order(2), 1, created("a"));
    story.shows(Kind::Doubled);
}

#[test]
fn a_refused_call_has_no_event() {
    for told in [
        Told::Unavailable,
        Told::Stale { current: 1 },
        Told::RuleBroken,
    ] {
        let mut story = Story::an_order();
        story.call(update(order(1), "b"), told).if_match = Some(IfMatch::Version(1));
        story.records(order(1), 2, updated("b"));
        story.shows(Kind::RefusedYetRecorded);
    }
}

#[test]
fn an_event_that_nobody_asked_for_is_seen() {
    let mut story = Story::an_updated_order();
    story.facts[1].call = Uuid::from_u128(1);
    story.shows(Kind::NobodysEvent);
}

#[test]
fn an_event_that_says_something_else_is_seen() {
    let mut story = Story::an_order();
    story.facts[0].says = created("z");
    story.is(&[Kind::NotAsSent, Kind::WrongState]);
    let mut story = Story::an_order();
    story.facts[0].actor = Caller::Admin;
    story.is(&[Kind::NotAsSent]);
}

#[test]
fn versions_count_up_in_the_order_of_the_log() {
    for version in [1, 3] {
        let mut story = Story::an_order();
        story.call(update(order(1), "b"), Told::Unknown).if_match = Some(IfMatch::Any);
        story.records(order(1), version, updated("b"));
        story.shows(Kind::Gap);
    }
    let mut story = Story::an_updated_order();
    story.facts.swap(0, 1);
    story.shows(Kind::Gap);
}

#[test]
fn an_event_is_under_the_key_of_its_order_and_in_its_partition() {
    let mut story = Story::an_order();
    story.facts[0].key = order(2).to_string();
    story.is(&[Kind::Misplaced]);
    let mut story = Story::an_order();
    story.facts[0].place.partition = (story.facts[0].place.partition + 1) % PARTITIONS;
    story.is(&[Kind::Misplaced, Kind::WrongToken]);
}

#[test]
fn a_step_against_the_rules_is_seen() {
    let mut story = Story::an_order();
    story.call(Sent::Cancel { order: order(1) }, Told::Unknown);
    let to = Status::Cancelled;
    story.records(order(1), 2, Says::Moved { to });
    story.call(update(order(1), "b"), Told::Unknown).if_match = Some(IfMatch::Any);
    story.records(order(1), 3, updated("b"));
    story.is(&[Kind::AgainstTheRules]);
}

#[test]
fn a_change_on_another_version_than_its_base_is_a_lost_update() {
    let mut story = Story::an_updated_order();
    story.call(update(order(1), "c"), Told::Unknown).if_match = Some(IfMatch::Version(1));
    story.records(order(1), 3, updated("c"));
    story.is(&[Kind::LostUpdate]);
}

#[test]
fn an_answer_shows_what_the_log_says() {
    let mut story = Story::an_updated_order();
    let shown = story.shown(Status::Created, "a");
    story.calls[1].told = Told::Done(shown);
    story.is(&[Kind::WrongState]);
}

#[test]
fn what_was_acknowledged_is_known_from_then_on() {
    // A refusal from before the update.
    let mut story = Story::an_updated_order();
    let stale = story.call(update(order(1), "c"), Told::Stale { current: 1 });
    stale.if_match = Some(IfMatch::Version(7));
    story.is(&[Kind::Stale]);
    // An answer from before it.
    let mut story = Story::an_order();
    let first = story.shown(Status::Created, "a");
    story.call(update(order(1), "b"), Told::Unknown).if_match = Some(IfMatch::Version(1));
    story.records(order(1), 2, updated("b"));
    story.tells(Status::Created, "b");
    let again = story.call(update(order(1), "a"), Told::Done(first));
    again.if_match = Some(IfMatch::Version(1));
    story.is(&[Kind::Stale]);
    // An event from before it.
    let mut story = Story::an_updated_order();
    story.facts.swap(0, 1);
    story.facts[0].version = 1;
    story.facts[1].version = 2;
    story.shows(Kind::Stale);
}

#[test]
fn a_refusal_that_rests_on_what_was_not_committed_is_seen() {
    // It never came to be.
    let mut story = Story::an_order();
    let stale = story.call(update(order(1), "c"), Told::Stale { current: 2 });
    stale.if_match = Some(IfMatch::Version(1));
    story.is(&[Kind::Uncommitted]);
    // What is there now was sent only afterwards.
    story.call(update(order(1), "b"), Told::Unknown).if_match = Some(IfMatch::Version(1));
    story.records(order(1), 2, updated("b"));
    story.shows(Kind::Uncommitted);
}

#[test]
fn an_unchanged_order_that_was_not_committed_is_lost() {
    let mut story = Story::an_order();
    let mut shown = story.shown(Status::Cancelled, "a");
    shown.version = 2;
    let sent = Sent::Cancel { order: order(1) };
    story.call(sent, Told::Done(shown));
    story.is(&[Kind::Lost]);
}

#[test]
fn a_refusal_has_a_state_that_calls_for_it() {
    let mut story = Story::an_order();
    let sent = update(order(1), "b");
    story.call(sent, Told::RuleBroken).if_match = Some(IfMatch::Version(1));
    story.is(&[Kind::Baseless]);
    for told in [Told::NotFound, Told::KeyReused, Told::KeyInFlight] {
        let mut story = Story::an_order();
        let call = story.call(update(order(1), "b"), told);
        (call.if_match, call.key) = (Some(IfMatch::Any), Some("l".to_owned()));
        story.shows(Kind::Baseless);
    }
    // It may have met the cancellation that was under way, or not.
    let mut story = Story::an_order();
    story.call(Sent::Cancel { order: order(1) }, Told::Unknown);
    let to = Status::Cancelled;
    story.records(order(1), 2, Says::Moved { to });
    let sent = update(order(1), "b");
    story.call(sent, Told::RuleBroken).if_match = Some(IfMatch::Any);
    story.is(&[]);
    let sent = update(order(1), "b");
    story.call(sent, Told::Stale { current: 2 }).if_match = Some(IfMatch::Version(1));
    story.is(&[]);
}

#[test]
fn a_repeated_request_is_answered_in_the_end_and_as_the_first() {
    let mut story = Story::an_order();
    let keyed = story.call(create("b"), Told::Unknown);
    keyed.key = Some("l".to_owned());
    story.is(&[Kind::Unresolved]);
    // One was done; a later one under the same key was refused.
    let mut story = Story::an_order();
    let keyed = story.call(update(order(1), "b"), Told::Unknown);
    (keyed.key, keyed.if_match) = (Some("l".to_owned()), Some(IfMatch::Version(1)));
    story.records(order(1), 2, updated("b"));
    story.tells(Status::Created, "b");
    let again = story.call(update(order(1), "b"), Told::Stale { current: 2 });
    (again.key, again.if_match) = (Some("l".to_owned()), Some(IfMatch::Version(1)));
    story.is(&[Kind::ReplayDiffers]);
    // That is promised only where the log names the key.
    story.facts[1].idempotency_key = None;
    story.is(&[]);
    story.facts[0].idempotency_key = None;
    story.is(&[Kind::ReplayDiffers]);
}

#[test]
fn a_token_leads_to_what_was_answered() {
    let mut story = Story::an_updated_order();
    let Place {
        partition, offset, ..
    } = story.facts[0].place;
    let Told::Done(right) = story.calls[0].told.clone() else {
        panic!("an order")
    };
    for token in [
        None,
        Some(format!("orders-9-{offset}")),
        Some(format!("users-{partition}-{offset}")),
        Some(format!("orders-{partition}-{}", offset - 1)),
        // No event is there.
        Some(format!("orders-{partition}-{}", offset + 2)),
    ] {
        let mut shown = right.clone();
        shown.token = token;
        story.calls[0].told = Told::Done(shown);
        story.is(&[Kind::WrongToken]);
    }
    // Further than the event: it may have been answered anew where it has a key, never where it has none.
    let mut shown = right;
    shown.token = Some(format!("orders-{partition}-{}", offset + 1));
    story.calls[0].told = Told::Done(shown);
    story.is(&[]);
    story.calls[0].key = None;
    story.facts[0].idempotency_key = None;
    story.is(&[Kind::WrongToken]);
}
