//! What has happened to each order, and where the log has it: the index that its history is read by. One small document for
//! each event, so that an order may have any number of them.

use std::{collections::BTreeSet, fmt, ops::RangeInclusive};

use events::{
    EventType, OrderEvent, StreamVersion,
    ids::{OrderId, StreamId},
    timestamp::Timestamp,
};
use futures_util::TryStreamExt;
use mongodb::{
    Collection,
    bson::{Document, RawDocument, RawDocumentBuf, doc, rawdoc},
};

use super::store::{OrderStore, QUERY_TIME_MAX};
use crate::{
    digest::Hasher,
    fold::{Advance, Fact, Round},
    model::Generation,
    store::{ReadModel, StoreError},
    verify::entry::Entry,
};

/// One event of an order, and where in its partition the log has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The version that the order had then.
    pub version: StreamVersion,
    /// What happened.
    pub event: EventType,
    /// When.
    pub at: Timestamp,
    /// Where.
    pub offset: i64,
}

impl Step {
    pub(super) fn of(fact: &Fact<OrderEvent>) -> Self {
        Self {
            version: fact.version,
            event: fact.event.event_type(),
            at: fact.event.occurred_at(),
            offset: fact.offset,
        }
    }
}

/// The collection of a generation.
pub(super) fn storage(generation: Generation) -> String {
    format!("order_events_{generation}")
}

/// The steps that a round adds, as far as each partition comes.
pub(super) fn of_round(round: &Round<OrderEvent>, advances: &[Advance]) -> Vec<RawDocumentBuf> {
    let mut steps = Vec::new();
    for (partition, part) in round {
        let advance = advances.iter().find(|each| each.partition == *partition);
        let to = advance.map_or(part.from, |advance| advance.to);
        let facts = part.facts.iter().filter(|fact| fact.offset < to);
        steps.extend(facts.map(|fact| encode(fact.event.stream_id(), &Step::of(fact))));
    }
    steps
}

fn encode(order: StreamId, step: &Step) -> RawDocumentBuf {
    rawdoc! {
        "_id": { "order": order.to_string(), "version": stored(step.version) },
        "event": step.event.name(),
        "at_micros": step.at.micros(),
        "offset": step.offset,
    }
}

/// What is kept of a step.
pub(super) fn entry(order: StreamId, step: &Step) -> Entry {
    Entry {
        stream: order,
        offset: step.offset,
        digest: Hasher::default()
            .bytes(encode(order, step).as_bytes())
            .finish(),
    }
}

/// The same of a stored document.
pub(super) fn entry_as_stored(document: &RawDocument) -> Result<Entry, StoreError> {
    let read = || {
        let order: OrderId = document
            .get_document("_id")
            .ok()?
            .get_str("order")
            .ok()?
            .parse()
            .ok()?;
        Some(Entry {
            stream: order.into(),
            offset: document.get_i64("offset").ok()?,
            digest: Hasher::default().bytes(document.as_bytes()).finish(),
        })
    };
    read().ok_or_else(|| damaged(document))
}

fn stored(version: StreamVersion) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

impl OrderStore {
    pub(super) fn step_collection<T: Send + Sync>(&self, generation: Generation) -> Collection<T> {
        self.database.collection(&storage(generation))
    }

    /// The first `limit` steps to these versions of an order, in order. One that is missing is damage, unless it was set aside.
    pub async fn steps(
        &self,
        generation: Generation,
        order: OrderId,
        versions: RangeInclusive<StreamVersion>,
        limit: u16,
    ) -> Result<Vec<Step>, StoreError> {
        let wanted = between(order, *versions.start(), *versions.end());
        let found = self
            .step_collection::<Document>(generation)
            .find(wanted)
            .sort(doc! { "_id": 1 })
            .limit(limit.into())
            .max_time(QUERY_TIME_MAX)
            .await?;
        let found: Vec<Document> = found.try_collect().await?;
        let steps: Vec<Step> = found.iter().map(parse).collect::<Result<_, _>>()?;
        let last = match steps.last() {
            Some(last) if steps.len() == usize::from(limit) => last.version,
            Some(_) | None => *versions.end(),
        };
        let mut missing: BTreeSet<StreamVersion> = (*versions.start()..=last).collect();
        for step in &steps {
            missing.remove(&step.version);
        }
        if !missing.is_empty() {
            let aside = self.all_set_aside().await?;
            let gaps = aside.iter().filter_map(|record| record.gap);
            for gap in gaps.filter(|gap| gap.stream == order.0) {
                missing.retain(|version| !(gap.after + 1..=gap.version).contains(version));
            }
        }
        match missing.is_empty() {
            true => Ok(steps),
            false => Err(StoreError::Damaged(format!("the history of order {order}"))),
        }
    }

    /// The last step of an order up to a version that is of one of these types.
    pub async fn last_step(
        &self,
        generation: Generation,
        order: OrderId,
        upto: StreamVersion,
        types: &[EventType],
    ) -> Result<Step, StoreError> {
        let mut wanted = between(order, 1, upto);
        let names: Vec<&str> = types.iter().map(|each| each.name()).collect();
        wanted.insert("event", doc! { "$in": names });
        let last = self.last_of(generation, wanted).await?;
        last.ok_or_else(|| StoreError::Damaged(format!("the history of order {order}")))
    }

    /// The last step of an order up to a time, if it was there.
    pub async fn step_at(
        &self,
        generation: Generation,
        order: OrderId,
        upto: StreamVersion,
        time: Timestamp,
    ) -> Result<Option<Step>, StoreError> {
        let mut wanted = between(order, 1, upto);
        wanted.insert("at_micros", doc! { "$lte": time.micros() });
        self.last_of(generation, wanted).await
    }

    async fn last_of(
        &self,
        generation: Generation,
        wanted: Document,
    ) -> Result<Option<Step>, StoreError> {
        let found = self
            .step_collection::<Document>(generation)
            .find_one(wanted)
            .sort(doc! { "_id": -1 })
            .max_time(QUERY_TIME_MAX)
            .await?;
        found.as_ref().map(parse).transpose()
    }
}

/// The steps of an order between two versions, these included: a range of the index of `_id`.
fn between(order: OrderId, from: StreamVersion, to: StreamVersion) -> Document {
    let id = |version| doc! { "order": order.to_string(), "version": stored(version) };
    doc! { "_id": { "$gte": id(from), "$lte": id(to) } }
}

fn parse(document: &Document) -> Result<Step, StoreError> {
    let read = || {
        let id = document.get_document("_id").ok()?;
        Some(Step {
            version: id.get_i64("version").ok()?.try_into().ok()?,
            event: document.get_str("event").ok()?.parse().ok()?,
            at: Timestamp::from_micros(document.get_i64("at_micros").ok()?),
            offset: document.get_i64("offset").ok()?,
        })
    };
    read().ok_or_else(|| damaged(document))
}

fn damaged(document: impl fmt::Debug) -> StoreError {
    StoreError::Damaged(format!("a step of an order: {document:?}"))
}
