//! What an order was, and what has happened to it: read from the log, at the places that the read model's index of the order
//! names.

use std::time::Instant;

use event_log::{
    lookup::{Lookup, LookupError},
    record::Place,
};
use events::{
    Envelope, EventType, Metadata, OrderEvent, StreamVersion, Topic, ids::StreamId,
    partition::partition_of, timestamp::Timestamp,
};

use super::{
    fold::{Order, SETS_CONTENTS, SETS_STATUS, contents_after, status_after},
    steps::Step,
    store::OrderStore,
};
use crate::{measures, model::Generation, store::StoreError};

/// A page that has come to so many bytes of events ends there.
const PAGE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Which state of an order is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    /// After its event of this number.
    Version(StreamVersion),
    /// After all that had happened by then.
    Time(Timestamp),
}

impl std::str::FromStr for AsOf {
    type Err = events::timestamp::InvalidTimestamp;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            // More versions than there are numbers for is more than any order has.
            return Ok(Self::Version(text.parse().unwrap_or(StreamVersion::MAX)));
        }
        text.parse().map(Self::Time)
    }
}

/// One event of an order, with what it was before and after.
#[derive(Debug)]
pub struct Change {
    /// What is known about the event.
    pub metadata: Metadata,
    /// The event.
    pub event: OrderEvent,
    /// Before; `None` before it was created.
    pub before: Option<Order>,
    /// After.
    pub after: Order,
}

/// Why an order's past cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum PastError {
    /// The index in the read model.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log.
    #[error(transparent)]
    Lookup(#[from] LookupError),
}

/// Where an order's past is read.
pub struct Archive<'a> {
    /// The index.
    pub store: &'a OrderStore,
    /// The generation that the order was found in.
    pub generation: Generation,
    /// The way to single records.
    pub lookup: &'a Lookup,
    /// How many partitions there are.
    pub partitions: u16,
}

impl Archive<'_> {
    /// The order as it was, if it was there.
    pub async fn order_as_of(
        &self,
        order: &Order,
        as_of: AsOf,
    ) -> Result<Option<Order>, PastError> {
        let version = match as_of {
            AsOf::Version(version) => (1..=order.version).contains(&version).then_some(version),
            AsOf::Time(time) => {
                let (id, upto) = (order.id, order.version);
                let step = self.store.step_at(self.generation, id, upto, time).await?;
                step.map(|step| step.version)
            }
        };
        match version {
            Some(version) => self.order_at(order, version).await,
            None => Ok(None),
        }
    }

    /// The order as it was at a version, if it has had that: one that was set aside it has not. The last event that says what
    /// is ordered, and the last that says where it stands, are enough.
    async fn order_at(
        &self,
        order: &Order,
        version: StreamVersion,
    ) -> Result<Option<Order>, PastError> {
        if version == order.version {
            return Ok(Some(order.clone()));
        }
        let last = self.last(order, version, EventType::ALL).await?;
        if last.version != version {
            return Ok(None);
        }
        let mut wanted = vec![
            self.last(order, version, &SETS_CONTENTS).await?,
            self.last(order, version, &SETS_STATUS).await?,
        ];
        wanted.sort_unstable_by_key(|step| step.version);
        wanted.dedup();
        let mut state = order.clone();
        for (_, event) in self.events(order, &wanted, usize::MAX).await? {
            after(&mut state, &event);
        }
        (state.version, state.updated_at) = (version, last.at);
        Ok(Some(state))
    }

    async fn last(
        &self,
        order: &Order,
        upto: StreamVersion,
        types: &[EventType],
    ) -> Result<Step, StoreError> {
        self.store
            .last_step(self.generation, order.id, upto, types)
            .await
    }

    /// The changes after `from` versions, at most `limit`; fewer when they are large, or far from each other.
    pub async fn changes(
        &self,
        order: &Order,
        from: StreamVersion,
        limit: u16,
    ) -> Result<Vec<Change>, PastError> {
        if from >= order.version {
            return Ok(Vec::new());
        }
        let mut before = match from {
            0 => None,
            known => self.order_at(order, known).await?,
        };
        let versions = from + 1..=order.version;
        let wanted = self
            .store
            .steps(self.generation, order.id, versions, limit)
            .await?;
        let events = self.events(order, &wanted, PAGE_BYTES_MAX).await?;
        let mut changes = Vec::with_capacity(events.len());
        for (metadata, event) in events {
            let mut state = before.clone().unwrap_or_else(|| order.clone());
            after(&mut state, &event);
            state.version = metadata.version;
            changes.push(Change {
                metadata,
                event,
                before: before.replace(state.clone()),
                after: state,
            });
        }
        Ok(changes)
    }

    /// The events of these steps, which are in order.
    async fn events(
        &self,
        order: &Order,
        steps: &[Step],
        bytes_max: usize,
    ) -> Result<Vec<(Metadata, OrderEvent)>, PastError> {
        let partition = partition_of(order.id.to_string().as_bytes(), self.partitions);
        let places = steps.iter().map(|step| Place {
            topic: Topic::Orders,
            partition,
            offset: step.offset,
        });
        let begun = Instant::now();
        let records = self.lookup.records(places.collect(), bytes_max).await;
        measures::looked_up(records.is_ok(), begun.elapsed());
        let events = records?.into_iter().zip(steps).map(|(recorded, step)| {
            let Envelope { metadata, event } = recorded.envelope;
            match OrderEvent::try_from(event) {
                Ok(event)
                    if event.stream_id() == StreamId::Order(order.id)
                        && metadata.version == step.version =>
                {
                    Ok((metadata, event))
                }
                // The index was made from another log.
                Ok(_) | Err(_) => Err(LookupError::Missing(recorded.place).into()),
            }
        });
        events.collect()
    }
}

/// Takes over what an event says.
fn after(order: &mut Order, event: &OrderEvent) {
    if let Some(contents) = contents_after(event) {
        order.contents = contents;
    }
    if let Some(status) = status_after(event) {
        order.status = status;
    }
}

/// The reason that an event gives, where it can give one.
pub fn reason(event: &OrderEvent) -> Option<&str> {
    match event {
        OrderEvent::StatusChanged(fact) => fact.reason.as_deref(),
        OrderEvent::Cancelled(fact) => fact.reason.as_deref(),
        OrderEvent::Created(_) | OrderEvent::Updated(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::at;

    #[test]
    fn a_time_or_a_version_names_a_state() {
        for (text, expected) in [
            ("1", AsOf::Version(1)),
            ("0", AsOf::Version(0)),
            ("99999999999999999999999", AsOf::Version(StreamVersion::MAX)),
            (&at(4).to_string(), AsOf::Time(at(4))),
        ] {
            assert_eq!(text.parse::<AsOf>(), Ok(expected), "{text}");
        }
        for text in [
            "",
            "-1",
            "1.0",
            "yesterday",
            "2026-11-22",
            "0000-01-01T00:00:00Z",
        ] {
            assert!(text.parse::<AsOf>().is_err(), "{text}");
        }
    }
}
