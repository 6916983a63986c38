//! Reading the whole topic of orders: as every service reads it, and with a consumer that only counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use event_log::{Feed, FeedItem, KafkaSettings, Schemas, feed::Reading, topics::end_positions};
use events::Topic;
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::Headers,
};

const POLL_WAIT: Duration = Duration::from_millis(100);
const NO_PROGRESS_MAX: Duration = Duration::from_secs(30);

/// What was read.
#[derive(Debug, Clone, Copy)]
pub struct Read {
    /// Events.
    pub events: u64,
    /// Bytes of keys, values and headers; zero where they are not counted.
    pub bytes: u64,
    /// From asking for the first to having the last.
    pub took: Duration,
}

impl Read {
    /// Events per second.
    pub fn rate(&self) -> f64 {
        self.events as f64 / self.took.as_secs_f64()
    }
}

/// With everything decoded, as the read models get it, by so many threads.
pub async fn feed(
    kafka: &KafkaSettings,
    schemas: &Arc<Schemas>,
    threads: u16,
) -> anyhow::Result<Read> {
    let ends = end_positions(kafka, Topic::Orders).await?;
    let mut open: BTreeSet<u16> = ends.keys().copied().collect();
    let begun = Instant::now();
    let (schemas, from) = (Arc::clone(schemas), BTreeMap::new());
    let reading = Reading {
        threads,
        ..Reading::default()
    };
    let mut feed = Feed::start_as(kafka, schemas, Topic::Orders, from, reading).await?;
    let mut events = 0;
    while !open.is_empty() {
        let (partition, position) = match feed.next().await? {
            FeedItem::Batch {
                partition,
                records,
                position,
            } => {
                events += records.len() as u64;
                (partition, position)
            }
            FeedItem::CaughtUp {
                partition,
                position,
            } => (partition, position),
            FeedItem::Undecodable { place, reason, .. } => bail!("{place}: {reason}"),
        };
        if ends.get(&partition).is_none_or(|end| position >= *end) {
            open.remove(&partition);
        }
    }
    Ok(Read {
        events,
        bytes: 0,
        took: begun.elapsed(),
    })
}

/// With nothing but a counter, in librdkafka's own settings. Blocks.
pub fn count_only(kafka: &KafkaSettings, partitions: u16) -> anyhow::Result<Read> {
    read(kafka, partitions, |_| 0)
}

/// With the size of everything. Blocks.
pub fn count_bytes(kafka: &KafkaSettings, partitions: u16) -> anyhow::Result<Read> {
    read(kafka, partitions, |message| {
        let headers = message.headers().map_or(0, |headers| {
            let size = |header: rdkafka::message::Header<'_, &[u8]>| {
                header.key.len() + header.value.map_or(0, <[u8]>::len)
            };
            headers.iter().map(size).sum()
        });
        headers + message.payload_len() + message.key().map_or(0, <[u8]>::len)
    })
}

fn read(
    kafka: &KafkaSettings,
    partitions: u16,
    size: impl Fn(&rdkafka::message::BorrowedMessage<'_>) -> usize,
) -> anyhow::Result<Read> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &kafka.kafka_bootstrap_servers)
        .set("group.id", "benchmarks")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .create()?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        let name = Topic::Orders.name();
        assignment.add_partition_offset(name, partition.into(), Offset::Beginning)?;
    }
    let begun = Instant::now();
    consumer.assign(&assignment)?;
    let mut open: BTreeSet<i32> = (0..i32::from(partitions)).collect();
    let (mut events, mut bytes, mut last) = (0, 0, (0, begun));
    while !open.is_empty() {
        match consumer.poll(POLL_WAIT) {
            Some(Ok(message)) => {
                events += 1;
                bytes += size(&message) as u64;
                continue;
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(open.remove(&partition)),
            Some(Err(error)) => bail!("reading the log: {error}"),
            None => {
                let (known, since) = last;
                if events == known {
                    ensure!(since.elapsed() < NO_PROGRESS_MAX, "nothing more comes");
                    continue;
                }
            }
        }
        last = (events, Instant::now());
    }
    Ok(Read {
        events,
        bytes,
        took: begun.elapsed(),
    })
}
