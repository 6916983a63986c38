//! Everything about one stream, for an operator: each of its events as the log has it, and what the read model makes of them.
//! Read from the log itself and not by the read model's index, so that what the read model lacks is shown as well.

use std::{fmt::Write, sync::Arc};

use event_log::{Feed, FeedItem, Recorded, feed::Reading, topics::end_positions};
use events::{Event, ids::StreamId, partition::partition_of};
use serde::Serialize;
use serde_json::Value;

use crate::{
    aside::{Aside, SetAside, id_of},
    model::{Positions, has_reached},
    progress::Progress,
    skip,
    source::Log,
    store::ReadModel,
};

/// What the events hold sealed; shown by its length.
const SEALED: [&str; 5] = ["email", "name", "phone", "shipping_address", "note"];

/// All that is known of a stream.
#[derive(Debug, Serialize)]
pub struct Inspection {
    stream: String,
    topic: &'static str,
    partition: u16,
    events: Vec<Inspected>,
    /// A record of that partition that cannot be read; nothing behind it is shown.
    unreadable: Option<String>,
    /// What of the stream was set aside. It is not among the events.
    set_aside: Vec<SetAside>,
    generation: i32,
    /// How far the read model is in that partition.
    checkpoint: i64,
    /// What the read model has stored; none where it has nothing.
    stored: Option<Value>,
}

/// An event of the stream.
#[derive(Debug, Serialize)]
struct Inspected {
    offset: i64,
    version: u64,
    event: &'static str,
    time: String,
    actor: String,
    command_id: String,
    correlation_id: String,
    idempotency_key: Option<String>,
    contents: Value,
}

/// Looks at the stream of this id. Reads its partition from the beginning.
pub async fn inspect<M: ReadModel>(
    model: &M,
    log: &Log,
    stream: StreamId,
) -> anyhow::Result<Inspection> {
    let topic = M::MODEL.topic();
    let partition = partition_of(stream.to_string().as_bytes(), log.partitions);
    let ends = end_positions(&log.kafka, topic).await?;
    let generation = model.live().await?;
    let all_aside = model.all_set_aside().await?;
    let aside = Aside::of(topic, &all_aside);
    let is_ours = |record: &SetAside| {
        record
            .gap
            .is_some_and(|gap| Some(gap.stream) == id_of(stream))
    };
    let checkpoint = model.checkpoint(generation).await?;
    let mut inspection = Inspection {
        stream: stream.to_string(),
        topic: topic.name(),
        partition,
        events: Vec::new(),
        unreadable: None,
        set_aside: all_aside.into_iter().filter(is_ours).collect(),
        generation: generation.0,
        checkpoint: checkpoint.get(&partition).copied().unwrap_or(0),
        stored: model.stored_as(generation, stream).await?,
    };
    let end = ends.get(&partition).copied().unwrap_or(0);
    let only = Positions::from([(partition, end)]);
    // The other partitions begin at their ends.
    let mut from = ends;
    from.remove(&partition);
    let reading = Reading {
        passed_over: Arc::clone(aside.places()),
        ..Reading::default()
    };
    let schemas = Arc::clone(&log.schemas);
    let mut feed = Feed::start_as(&log.kafka, schemas, topic, from, reading).await?;
    let mut progress = Progress::begin(
        format!("{} {generation}", M::MODEL),
        &Positions::new(),
        &only,
    );
    let mut reached = Positions::new();
    while !has_reached(&reached, &only) {
        match feed.next().await? {
            FeedItem::Batch {
                partition: at,
                records,
                position,
            } if at == partition => {
                let ours = records
                    .into_iter()
                    .filter(|it| it.envelope.event.stream_id() == stream);
                inspection.events.extend(ours.map(Inspected::from));
                reached.insert(partition, position);
            }
            FeedItem::CaughtUp {
                partition: at,
                position,
            } if at == partition => drop(reached.insert(partition, position)),
            FeedItem::Undecodable { place, reason, .. } if place.partition == partition => {
                inspection.unreadable = Some(format!("{place}: {reason}"));
                break;
            }
            FeedItem::Batch { .. } | FeedItem::CaughtUp { .. } | FeedItem::Undecodable { .. } => {}
        }
        progress.show(&reached, &only);
    }
    Ok(inspection)
}

impl From<Recorded> for Inspected {
    fn from(recorded: Recorded) -> Self {
        let Recorded { place, envelope } = recorded;
        let metadata = envelope.metadata;
        Self {
            offset: place.offset,
            version: metadata.version,
            event: envelope.event.event_type().name(),
            time: metadata.time.to_string(),
            actor: metadata.actor.to_string(),
            command_id: metadata.command_id.0.to_string(),
            correlation_id: metadata.correlation_id.0.to_string(),
            idempotency_key: metadata.idempotency.map(|it| it.key),
            contents: contents(&envelope.event),
        }
    }
}

/// What an event says, what is sealed by its length only.
fn contents(event: &Event) -> Value {
    let mut contents = match event {
        Event::UserRegistered(fact) => serde_json::to_value(fact),
        Event::UserProfileUpdated(fact) => serde_json::to_value(fact),
        Event::UserPasswordChanged(fact) => serde_json::to_value(fact),
        Event::UserEmailChanged(fact) => serde_json::to_value(fact),
        Event::UserRoleChanged(fact) => serde_json::to_value(fact),
        Event::UserErased(fact) => serde_json::to_value(fact),
        Event::UserEmailClaimed(fact) => serde_json::to_value(fact),
        Event::UserEmailReleased(fact) => serde_json::to_value(fact),
        Event::OrderCreated(fact) => serde_json::to_value(fact),
        Event::OrderUpdated(fact) => serde_json::to_value(fact),
        Event::OrderStatusChanged(fact) => serde_json::to_value(fact),
        Event::OrderCancelled(fact) => serde_json::to_value(fact),
    }
    .unwrap_or_default();
    for name in SEALED {
        if let Some(Value::Array(bytes)) = contents.get(name) {
            let shown = format!("sealed({} bytes)", bytes.len());
            if let Some(sealed) = contents.get_mut(name) {
                *sealed = shown.into();
            }
        }
    }
    contents
}

impl Inspection {
    /// As text for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a string does not fail.
        let (stream, topic, partition) = (&self.stream, self.topic, self.partition);
        writeln!(
            text,
            "{stream}: {} events in {topic}/{partition}",
            self.events.len()
        )
        .ok();
        for each in &self.events {
            writeln!(
                text,
                "  v{:<4} @{:<10} {:<22} {}  {}",
                each.version, each.offset, each.event, each.time, each.actor
            )
            .ok();
            let key = each
                .idempotency_key
                .as_ref()
                .map(|key| format!(", key {key}"));
            writeln!(
                text,
                "        command {}, correlation {}{}",
                each.command_id,
                each.correlation_id,
                key.unwrap_or_default()
            )
            .ok();
            writeln!(text, "        {}", each.contents).ok();
        }
        for record in &self.set_aside {
            writeln!(text, "  set aside: {}", skip::text(topic, record)).ok();
        }
        if let Some(unreadable) = &self.unreadable {
            writeln!(text, "  nothing behind {unreadable}").ok();
        }
        let (generation, checkpoint) = (self.generation, self.checkpoint);
        match &self.stored {
            Some(stored) => writeln!(
                text,
                "stored in g{generation}, checkpoint {checkpoint}: {stored:#}"
            )
            .ok(),
            None => writeln!(text, "not stored in g{generation}, checkpoint {checkpoint}").ok(),
        };
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{registered, user};

    #[test]
    fn what_is_sealed_is_shown_by_its_length() {
        let shown = contents(&registered(user(1), 0).into());
        assert_eq!(shown["email"], "sealed(7 bytes)");
        assert_eq!(shown["phone"], "sealed(7 bytes)");
        assert_eq!(shown["locale"], "en");
    }
}
