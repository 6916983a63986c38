//! The log as a read model sees it: its own events, gathered into rounds.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use event_log::{
    Feed, FeedItem, KafkaSettings, LogError, Recorded, Schemas,
    feed::Reading,
    record::{Place, Unreadable},
};
use events::{Event, Topic, ids::StreamId};
use futures_util::FutureExt;

use crate::{
    aside::{Aside, stream_of_key},
    fold::{Fact, Halt, Part, Round},
    model::Positions,
    patience::Patience,
    share::Partitions,
    traced::Traced,
};

/// Events gathered into one round, roughly: gathering stops with the batch that reaches it.
const ROUND_EVENTS_MAX: usize = 4_000;

/// How much of the log there is to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extent {
    /// Its end, as it grows.
    Tail,
    /// The same of these partitions only.
    TailOf(Partitions),
    /// All of it, or much.
    Whole,
    /// The same of these partitions only.
    WholeOf(Partitions),
}

impl Extent {
    /// How many threads read it together.
    const fn threads(&self) -> u16 {
        match self {
            Self::Tail | Self::TailOf(_) => 1,
            Self::Whole | Self::WholeOf(_) => 2,
        }
    }

    fn partitions(&self) -> Option<Partitions> {
        match self {
            Self::TailOf(partitions) | Self::WholeOf(partitions) => Some(Arc::clone(partitions)),
            Self::Tail | Self::Whole => None,
        }
    }
}

/// What is needed to read the log.
#[derive(Clone)]
pub struct Log {
    /// Where it is.
    pub kafka: KafkaSettings,
    /// What its values are written with.
    pub schemas: Arc<Schemas>,
    /// How many partitions each topic has.
    pub partitions: u16,
}

/// The events of one read model, from given positions on.
pub struct Source<E> {
    log: Log,
    topic: Topic,
    extent: Extent,
    feed: Feed,
    aside: Aside,
    reached: Positions,
    failed: Option<LogError>,
    patience: Patience,
    events: std::marker::PhantomData<fn() -> E>,
}

/// What was at hand.
pub struct Gathered<E> {
    /// The events, with the positions before and after them. A part without events is a step over records
    /// that are not this model's business or not handed out at all.
    pub round: Round<E>,
    /// Records that cannot be read; their partitions bring nothing more.
    pub undecodable: Vec<Undecodable>,
    /// How many events of this model there are in it.
    pub events: usize,
    /// Those among them that were traced.
    pub traced: Vec<Traced>,
}

/// A record that cannot be read.
#[derive(Debug)]
pub struct Undecodable {
    /// Where it stands.
    pub place: Place,
    /// The stream that it was written for, where its key is one.
    pub stream: Option<StreamId>,
    /// Why.
    pub reason: Unreadable,
}

impl From<Undecodable> for Halt {
    fn from(record: Undecodable) -> Self {
        Self {
            partition: record.place.partition,
            offset: record.place.offset,
            stream: record.stream,
            version: None,
            reason: record.reason.to_string(),
        }
    }
}

impl<E: TryFrom<Event>> Source<E> {
    /// Reads `topic` on from `from`, all but what is set `aside`.
    pub async fn open(
        log: &Log,
        topic: Topic,
        from: Positions,
        extent: Extent,
        aside: Aside,
    ) -> Result<Self, LogError> {
        let feed = feed(log, topic, &from, &extent, &aside).await?;
        Ok(Self {
            log: log.clone(),
            topic,
            extent,
            feed,
            aside,
            reached: from,
            failed: None,
            patience: Patience::default(),
            events: std::marker::PhantomData,
        })
    }

    /// How far everything gathered reaches.
    pub fn reached(&self) -> &Positions {
        &self.reached
    }

    /// Waits for something, then takes what else is at hand. Nothing is lost when the waiting is given up.
    pub async fn gather(&mut self) -> Result<Gathered<E>, LogError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let mut next = Some(self.feed.next().await?);
        // From here on nothing waits, so nothing taken can be dropped half-way.
        let mut gathered = Gathered {
            round: BTreeMap::new(),
            undecodable: Vec::new(),
            events: 0,
            traced: Vec::new(),
        };
        while let Some(item) = next.take() {
            self.take(item, &mut gathered);
            if gathered.events >= ROUND_EVENTS_MAX {
                break;
            }
            match self.feed.next().now_or_never() {
                Some(Ok(item)) => next = Some(item),
                // What is gathered comes first.
                Some(Err(error)) => self.failed = Some(error),
                None => {}
            }
        }
        Ok(gathered)
    }

    /// The same, also while Kafka is away: then it goes on from where it was. Away counts until a partition goes on.
    pub async fn gather_patiently(&mut self) -> Result<Gathered<E>, LogError> {
        loop {
            let before: i64 = self.reached.values().sum();
            let error = match self.gather().await {
                Ok(gathered) => {
                    if self.reached.values().sum::<i64>() > before {
                        self.patience.end();
                    }
                    return Ok(gathered);
                }
                Err(error) => error,
            };
            self.patience.wait(error).await?;
            match feed(
                &self.log,
                self.topic,
                &self.reached,
                &self.extent,
                &self.aside,
            )
            .await
            {
                Ok(feed) => self.feed = feed,
                Err(error) => self.failed = Some(error),
            }
        }
    }

    fn take(&mut self, item: FeedItem, gathered: &mut Gathered<E>) {
        match item {
            FeedItem::Batch {
                partition,
                records,
                position,
            } => {
                let traced = &mut gathered.traced;
                let facts: Vec<Fact<E>> = records
                    .into_iter()
                    .filter_map(|recorded| {
                        let origin = Traced::of(&recorded);
                        let fact = self.fact(recorded)?;
                        traced.extend(origin);
                        Some(fact)
                    })
                    .collect();
                gathered.events += facts.len();
                self.extend(gathered, partition, facts, position);
            }
            FeedItem::CaughtUp {
                partition,
                position,
            } => self.extend(gathered, partition, Vec::new(), position),
            FeedItem::Undecodable { place, key, reason } => {
                // Everything before it has been handed out.
                self.extend(gathered, place.partition, Vec::new(), place.offset);
                let stream = key.and_then(|key| stream_of_key(self.topic, &key));
                gathered.undecodable.push(Undecodable {
                    place,
                    stream,
                    reason,
                });
            }
        }
    }

    fn extend(
        &mut self,
        gathered: &mut Gathered<E>,
        partition: u16,
        facts: Vec<Fact<E>>,
        position: i64,
    ) {
        let reached = self.reached.entry(partition).or_insert(0);
        match gathered.round.entry(partition) {
            Entry::Vacant(place) => {
                place.insert(Part {
                    from: *reached,
                    to: position,
                    facts,
                });
            }
            Entry::Occupied(mut place) => {
                let part = place.get_mut();
                part.facts.extend(facts);
                part.to = position;
            }
        }
        *reached = position;
    }

    fn fact(&self, recorded: Recorded) -> Option<Fact<E>> {
        let version = recorded.envelope.metadata.version;
        let stream = recorded.envelope.event.stream_id();
        let event = E::try_from(recorded.envelope.event).ok()?;
        Some(Fact {
            offset: recorded.place.offset,
            version,
            follows: self.aside.before(stream, version),
            event,
        })
    }
}

async fn feed(
    log: &Log,
    topic: Topic,
    from: &Positions,
    extent: &Extent,
    aside: &Aside,
) -> Result<Feed, LogError> {
    let reading = Reading {
        threads: extent.threads(),
        only: extent.partitions(),
        passed_over: Arc::clone(aside.places()),
    };
    let schemas = Arc::clone(&log.schemas);
    Feed::start_as(&log.kafka, schemas, topic, from.clone(), reading).await
}
