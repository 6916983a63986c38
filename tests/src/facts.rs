//! The log as the checker wants it: what happened to orders, in the order it was recorded.

use std::collections::HashMap;

use event_log::{Recorded, topics::partition_count};
use events::{Actor, OrderEvent, StreamEvent, Topic, order::OrderStep, user::Role};

use crate::{
    checker::{Violation, check},
    environment,
    history::{Call, Caller, Fact, Says, Status},
    log::{events_of, raw_topic},
};

/// How many violations are told: the first ones say what is wrong.
const TOLD_MAX: usize = 20;

/// Every event about an order.
pub async fn facts() -> Vec<Fact> {
    let raw = tokio::task::spawn_blocking(|| raw_topic(Topic::Orders));
    let keys: HashMap<(i32, i64), Vec<u8>> = raw
        .await
        .expect("the log was read")
        .into_iter()
        .map(|record| ((record.partition, record.offset), record.key))
        .collect();
    let with_key = |recorded: Recorded| {
        let place = (i32::from(recorded.place.partition), recorded.place.offset);
        // Whatever came in between was not there when the keys were read.
        let key = keys.get(&place)?;
        fact(recorded, String::from_utf8_lossy(key).into_owned())
    };
    let events = events_of(Topic::Orders).await;
    events.into_iter().filter_map(with_key).collect()
}

/// Weighs a history against the whole log; the violations.
pub async fn weigh(calls: &[Call]) -> Vec<Violation> {
    let partitions = partition_count(&environment::kafka()).await;
    let facts = facts().await;
    let violations = check(calls, &facts, partitions.expect("a number"));
    println!(
        "checked: {} calls against a log of {} events about orders, {} violations",
        calls.len(),
        facts.len(),
        violations.len()
    );
    violations
}

/// Fails with what is wrong, if anything is.
#[track_caller]
pub fn nothing_is_wrong(violations: &[Violation]) {
    let told: Vec<String> = violations
        .iter()
        .take(TOLD_MAX)
        .map(Violation::to_string)
        .collect();
    let count = violations.len();
    assert!(count == 0, "{count} violations\n{}", told.join("\n"));
}

fn fact(recorded: Recorded, key: String) -> Option<Fact> {
    let Recorded { place, envelope } = recorded;
    let metadata = envelope.metadata;
    let StreamEvent::OrderEvent(event) = envelope.event.into() else {
        return None;
    };
    let article = |lines: &[events::order::OrderLine]| {
        let first = lines.first().map(|line| line.sku.clone());
        first.unwrap_or_default()
    };
    let (order, says) = match event {
        OrderEvent::Created(fact) => {
            let (customer, sku) = (fact.customer_id, article(&fact.lines));
            (fact.order_id, Says::Created { customer, sku })
        }
        OrderEvent::Updated(fact) => {
            let sku = article(&fact.lines);
            (fact.order_id, Says::Updated { sku })
        }
        OrderEvent::StatusChanged(fact) => {
            let to = match fact.status {
                OrderStep::InProgress => Status::InProgress,
                OrderStep::Completed => Status::Completed,
            };
            (fact.order_id, Says::Moved { to })
        }
        OrderEvent::Cancelled(fact) => {
            let to = Status::Cancelled;
            (fact.order_id, Says::Moved { to })
        }
    };
    let actor = match metadata.actor {
        Actor::User(id, Role::User) => Caller::User(id),
        Actor::User(_, Role::Admin) | Actor::System => Caller::Admin,
    };
    Some(Fact {
        place,
        key,
        event: metadata.event_id,
        order,
        version: metadata.version,
        command: metadata.command_id,
        call: metadata.correlation_id.0,
        idempotency_key: metadata.idempotency.map(|idempotency| idempotency.key),
        actor,
        says,
    })
}
