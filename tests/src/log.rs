//! The log as any downstream team reads it, and what must hold for all of it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use event_log::{Feed, FeedItem, Recorded, Schemas, topics::end_positions};
use events::{
    Event, Topic,
    ids::{OrderId, StreamId},
    partition::partition_of,
};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::Headers,
};
use tokio::sync::OnceCell;

use crate::{environment, eventually};

const READ_WITHIN: Duration = Duration::from_secs(60);

/// Fetched once, so that the registry may be away afterwards.
static SCHEMAS: OnceCell<Arc<Schemas>> = OnceCell::const_new();

async fn load_schemas() -> Arc<Schemas> {
    eventually("the schemas", READ_WITHIN, async || {
        let loaded = Schemas::load(&environment::kafka()).await;
        loaded.map_err(|error| error.to_string())
    })
    .await
}

/// A record as it stands in the log.
#[derive(Debug, Clone)]
pub struct RawRecord {
    /// Its topic.
    pub topic: Topic,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// Its headers, in their order.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl RawRecord {
    /// A header that must be there, once.
    pub fn header(&self, name: &str) -> &str {
        let found: Vec<_> = self
            .headers
            .iter()
            .filter(|(each, _)| each == name)
            .collect();
        match found.as_slice() {
            [(_, value)] => std::str::from_utf8(value).expect("UTF-8"),
            _ => panic!("{} of {name} in {self:?}", found.len()),
        }
    }

    /// A header, if it is there.
    pub fn header_if_there(&self, name: &str) -> Option<&str> {
        let is_there = self.headers.iter().any(|(each, _)| each == name);
        is_there.then(|| self.header(name))
    }
}

/// Every committed record of the log, in the order of each partition.
pub async fn raw_log() -> Vec<RawRecord> {
    tokio::task::spawn_blocking(|| Topic::ALL.into_iter().flat_map(raw_topic).collect())
        .await
        .expect("the log was read")
}

/// Every committed record of a topic, in the order of each partition. Blocks.
pub fn raw_topic(topic: Topic) -> Vec<RawRecord> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set(
            "bootstrap.servers",
            environment::variable("KAFKA_BOOTSTRAP_SERVERS"),
        )
        .set("group.id", "end-to-end-reader")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .create()
        .expect("a consumer");
    let metadata = consumer
        .fetch_metadata(Some(topic.name()), READ_WITHIN)
        .expect("the topic");
    let partitions = metadata
        .topics()
        .first()
        .expect("the topic")
        .partitions()
        .len();
    let mut open: HashSet<i32> = (0..i32::try_from(partitions).expect("few")).collect();
    let mut assignment = TopicPartitionList::new();
    for partition in &open {
        assignment
            .add_partition_offset(topic.name(), *partition, Offset::Beginning)
            .expect("a partition");
    }
    consumer.assign(&assignment).expect("assigned");
    let mut records = Vec::new();
    while !open.is_empty() {
        match consumer.poll(READ_WITHIN) {
            Some(Ok(message)) => records.push(RawRecord {
                topic,
                partition: message.partition(),
                offset: message.offset(),
                key: message.key().unwrap_or_default().to_vec(),
                value: message.payload().unwrap_or_default().to_vec(),
                headers: message.headers().map_or_else(Vec::new, |headers| {
                    let owned = |header: rdkafka::message::Header<'_, &[u8]>| {
                        (
                            header.key.to_owned(),
                            header.value.unwrap_or_default().to_vec(),
                        )
                    };
                    headers.iter().map(owned).collect()
                }),
            }),
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(open.remove(&partition)),
            Some(Err(error)) => panic!("{}: {error}", topic.name()),
            None => panic!(
                "{}: nothing for {READ_WITHIN:?}, {open:?} not read",
                topic.name()
            ),
        }
    }
    records
}

/// The events of a topic, in the order of each partition, up to where it ends now.
pub async fn events_of(topic: Topic) -> Vec<Recorded> {
    let kafka = environment::kafka();
    let schemas = SCHEMAS.get_or_init(load_schemas).await;
    let ends = end_positions(&kafka, topic).await.expect("the ends");
    let mut open: HashSet<u16> = ends.keys().copied().collect();
    let mut feed = Feed::start(&kafka, Arc::clone(schemas), topic, BTreeMap::new())
        .await
        .expect("a feed");
    let mut events = Vec::new();
    while !open.is_empty() {
        let item = tokio::time::timeout(READ_WITHIN, feed.next()).await;
        match item
            .expect("the log to be read in time")
            .expect("a feed that goes on")
        {
            FeedItem::Batch { records, .. } => events.extend(records),
            FeedItem::CaughtUp {
                partition,
                position,
            } => {
                if ends.get(&partition).is_none_or(|end| position >= *end) {
                    open.remove(&partition);
                }
            }
            FeedItem::Undecodable { place, reason, .. } => panic!("{place}: {reason}"),
        }
    }
    events
}

/// Every stream of a topic with its events in the order of the log. Fails unless versions count up from 1
/// without a gap in offset order, the stream is in its partition, and no event id comes twice.
pub async fn streams_of(topic: Topic) -> HashMap<StreamId, Vec<Recorded>> {
    let events = events_of(topic).await;
    let partitions = end_positions(&environment::kafka(), topic)
        .await
        .expect("the ends")
        .len();
    let partitions = u16::try_from(partitions).expect("few");
    let mut streams: HashMap<StreamId, Vec<Recorded>> = HashMap::new();
    let mut event_ids = HashSet::new();
    for recorded in events {
        let id = recorded.envelope.event.stream_id();
        let metadata = &recorded.envelope.metadata;
        assert!(
            event_ids.insert(metadata.event_id),
            "event id twice: {recorded:?}"
        );
        assert_eq!(
            recorded.place.partition,
            partition_of(id.to_string().as_bytes(), partitions),
            "in the wrong partition: {recorded:?}"
        );
        let stream = streams.entry(id).or_default();
        assert_eq!(
            metadata.version,
            stream.len() as u64 + 1,
            "version out of sequence at {}: {recorded:?} after {:?}",
            recorded.place,
            stream.last()
        );
        stream.push(recorded);
    }
    streams
}

/// The events of one order.
pub async fn events_of_order(id: &str) -> Vec<Recorded> {
    let id: OrderId = id.parse().expect("an order's id");
    streams_of(Topic::Orders)
        .await
        .remove(&id.into())
        .unwrap_or_default()
}

/// The names of events, in order.
pub fn names(events: &[Recorded]) -> Vec<&'static str> {
    events
        .iter()
        .map(|recorded| name(&recorded.envelope.event))
        .collect()
}

/// The name of an event.
pub fn name(event: &Event) -> &'static str {
    event.event_type().name()
}
