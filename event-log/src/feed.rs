//! Following a topic: a poll thread (or several), one bounded channel, batches of events in partition order.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use events::Topic;
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::BorrowedMessage,
};
use tokio::sync::mpsc;

use crate::{
    KafkaSettings, LogError, Recorded, Schemas,
    record::{Place, Unreadable, decode},
    replay::is_passing,
    settings::Isolation,
    topics,
};

/// Events in one batch at most.
pub const BATCH_EVENTS_MAX: usize = 1_000;
/// Bytes of the values in one batch, beyond which nothing is added to it.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Batches that wait for whoever follows; then Kafka is not polled any further.
const BATCHES_QUEUED_MAX: usize = 8;
const POLL_WAIT: Duration = Duration::from_millis(100);
/// After so long without a word from Kafka it is asked whether there is nothing to say.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// How long that question may take.
const ASKED_WITHIN: Duration = Duration::from_secs(2);
/// Questions in a row without an answer, or with the answer that there is more, until the feed ends.
const UNHEARD_MAX: u32 = 2;

/// What a followed topic brings.
#[derive(Debug)]
pub enum FeedItem {
    /// Events of one partition, in order.
    Batch {
        /// The partition.
        partition: u16,
        /// At least one, at most [`BATCH_EVENTS_MAX`].
        records: Vec<Recorded>,
        /// The next offset to read: the checkpoint once the records are applied.
        position: i64,
    },
    /// The committed end of a partition was reached; comes each time anew.
    CaughtUp {
        /// The partition.
        partition: u16,
        /// The next offset to read, past everything that is not handed out (transaction markers).
        position: i64,
    },
    /// A record that cannot be read. This partition brings nothing more; the others go on.
    Undecodable {
        /// Where it stands.
        place: Place,
        /// What it was written under.
        key: Option<Vec<u8>>,
        /// Why.
        reason: Unreadable,
    },
}

/// How a topic is read.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Threads that share the partitions out among them, each with a client of its own: for whoever reads all of a long
    /// topic, since reading takes a processor longer than what it comes from.
    pub threads: u16,
    /// The partitions that are read; all, where none are named.
    pub only: Option<Arc<BTreeSet<u16>>>,
    /// Records, by partition and offset, that are not looked at.
    pub passed_over: Arc<BTreeSet<(u16, i64)>>,
}

impl Default for Reading {
    /// All of it, by one thread.
    fn default() -> Self {
        Self {
            threads: 1,
            only: None,
            passed_over: Arc::default(),
        }
    }
}

/// A topic that is being followed. Dropping it ends the thread behind it.
pub struct Feed {
    items: mpsc::Receiver<Result<FeedItem, LogError>>,
}

impl Feed {
    /// Follows every partition of `topic`, committed events only, each from its position in `from`,
    /// those without one from the beginning.
    pub async fn start(
        kafka: &KafkaSettings,
        schemas: Arc<Schemas>,
        topic: Topic,
        from: BTreeMap<u16, i64>,
    ) -> Result<Self, LogError> {
        Self::start_as(kafka, schemas, topic, from, Reading::default()).await
    }

    /// The same, read as is said.
    pub async fn start_as(
        kafka: &KafkaSettings,
        schemas: Arc<Schemas>,
        topic: Topic,
        from: BTreeMap<u16, i64>,
        reading: Reading,
    ) -> Result<Self, LogError> {
        let partitions = topics::partition_count(kafka).await?;
        let threads = reading.threads.clamp(1, partitions.max(1));
        let (sender, items) = mpsc::channel(BATCHES_QUEUED_MAX);
        for thread in 0..threads {
            let mut assignment = TopicPartitionList::new();
            let is_read = |partition: &u16| {
                reading
                    .only
                    .as_ref()
                    .is_none_or(|only| only.contains(partition))
            };
            for partition in (thread..partitions).step_by(threads.into()).filter(is_read) {
                let offset = from
                    .get(&partition)
                    .map_or(Offset::Beginning, |position| Offset::Offset(*position));
                assignment.add_partition_offset(topic.name(), i32::from(partition), offset)?;
            }
            let consumer: BaseConsumer = kafka
                .reader(
                    &format!("orderlog-feed-{}", topic.name()),
                    Isolation::Committed,
                )
                .create()?;
            consumer.assign(&assignment)?;
            let poller = Poller {
                consumer,
                schemas: Arc::clone(&schemas),
                topic,
                from: from.clone(),
                passed_over: Arc::clone(&reading.passed_over),
                sender: sender.clone(),
                pending: BTreeMap::new(),
                halted: BTreeSet::new(),
                silence: None,
            };
            std::thread::Builder::new()
                .name(format!("feed-{}", topic.name()))
                .spawn(move || poller.run())
                .map_err(|error| LogError::Topic(format!("no thread for the feed: {error}")))?;
        }
        Ok(Self { items })
    }

    /// The next item. After an error there are no more.
    pub async fn next(&mut self) -> Result<FeedItem, LogError> {
        self.items.recv().await.unwrap_or(Err(LogError::FeedEnded))
    }
}

/// Whoever followed the topic is gone.
struct Unfollowed;

/// What a partition has brought since its last batch.
#[derive(Default)]
struct Pending {
    records: Vec<Recorded>,
    bytes: usize,
}

impl Pending {
    fn is_full(&self) -> bool {
        self.records.len() >= BATCH_EVENTS_MAX || self.bytes >= BATCH_BYTES_MAX
    }
}

/// A record as it was taken from the client.
struct Polled {
    place: Place,
    /// Of its value.
    bytes: usize,
    /// Its event, or its key and why it cannot be read; nothing of one that is not looked at.
    read: Option<Result<Recorded, WithKey>>,
}

/// The key of a record, and why it cannot be read.
type WithKey = (Option<Vec<u8>>, Unreadable);

struct Poller {
    consumer: BaseConsumer,
    schemas: Arc<Schemas>,
    topic: Topic,
    from: BTreeMap<u16, i64>,
    passed_over: Arc<BTreeSet<(u16, i64)>>,
    sender: mpsc::Sender<Result<FeedItem, LogError>>,
    pending: BTreeMap<u16, Pending>,
    halted: BTreeSet<u16>,
    /// None while something is heard at each poll.
    silence: Option<Silence>,
}

impl Drop for Poller {
    /// A thread that panics ends the feed for the others as well.
    fn drop(&mut self) {
        if std::thread::panicking() {
            drop(self.sender.blocking_send(Err(LogError::FeedEnded)));
        }
    }
}

/// How long nothing was heard, and how often that was asked about.
struct Silence {
    since: Instant,
    asked: u32,
}

impl Silence {
    fn begin() -> Self {
        Self {
            since: Instant::now(),
            asked: 0,
        }
    }
}

impl Poller {
    fn run(mut self) {
        while !self.sender.is_closed() && self.step().is_ok() {}
    }

    /// A client that was told of a cluster without brokers, as a broker does that is just starting, drops its
    /// connections and never makes new ones, without an error (librdkafka#5301). So silence is believed only when the
    /// cluster confirms it; else the feed ends, and whoever follows begins another with a new client.
    fn doubt_silence(&mut self) -> Result<(), Unfollowed> {
        let silence = self.silence.get_or_insert_with(Silence::begin);
        if silence.since.elapsed() < SILENCE_MAX {
            return Ok(());
        }
        let asked = silence.asked + 1;
        if self.is_at_the_end() {
            self.silence = None;
            return Ok(());
        }
        if asked < UNHEARD_MAX {
            self.silence = Some(Silence {
                asked,
                ..Silence::begin()
            });
            return Ok(());
        }
        let what = format!("following {}", self.topic.name());
        self.send(Err(LogError::Stalled(SILENCE_MAX * UNHEARD_MAX, what)))?;
        Err(Unfollowed)
    }

    /// Whether every partition that goes on was read to its end; no when nobody answers.
    fn is_at_the_end(&self) -> bool {
        let Ok(positions) = self.consumer.position() else {
            return false;
        };
        positions.elements().iter().all(|reached| {
            let partition = u16::try_from(reached.partition()).unwrap_or(u16::MAX);
            if self.halted.contains(&partition) {
                return true;
            }
            let position = if let Offset::Offset(position) = reached.offset() {
                position
            } else {
                self.from.get(&partition).copied().unwrap_or(0)
            };
            let ends = self.consumer.fetch_watermarks(
                self.topic.name(),
                reached.partition(),
                ASKED_WITHIN,
            );
            ends.is_ok_and(|(low, end)| position >= end || low == end)
        })
    }

    /// One poll. While events are pending it does not wait: what is at hand makes a batch, no timer does.
    fn step(&mut self) -> Result<(), Unfollowed> {
        let wait = if self.pending.is_empty() {
            POLL_WAIT
        } else {
            Duration::ZERO
        };
        // The message borrows the consumer, so what it says is taken out before anything else is done.
        let polled = self
            .consumer
            .poll(wait)
            .map(|result| result.map(|message| self.read(&message)));
        if matches!(polled, Some(Ok(_) | Err(KafkaError::PartitionEOF(_)))) {
            self.silence = None;
        }
        match polled {
            None => {
                self.flush_all()?;
                self.doubt_silence()
            }
            Some(Ok(Polled { read: None, .. })) => Ok(()),
            Some(Ok(Polled {
                place,
                bytes,
                read: Some(Ok(recorded)),
            })) => {
                let pending = self.pending.entry(place.partition).or_default();
                pending.records.push(recorded);
                pending.bytes += bytes;
                if pending.is_full() {
                    self.flush(place.partition)
                } else {
                    Ok(())
                }
            }
            Some(Ok(Polled {
                place,
                read: Some(Err((key, reason))),
                ..
            })) => self.halt(place, key, reason),
            Some(Err(KafkaError::PartitionEOF(partition))) => self.caught_up(partition),
            Some(Err(error)) if is_passing(&error) => {
                tracing::debug!(topic = self.topic.name(), %error, "Kafka is away for the moment");
                Ok(())
            }
            Some(Err(error)) => {
                self.flush_all()?;
                self.send(Err(error.into()))?;
                Err(Unfollowed)
            }
        }
    }

    fn read(&self, message: &BorrowedMessage<'_>) -> Polled {
        let partition = u16::try_from(message.partition()).unwrap_or(u16::MAX);
        let place = Place {
            topic: self.topic,
            partition,
            offset: message.offset(),
        };
        let key = || message.key().map(<[u8]>::to_vec);
        let is_read = !self.halted.contains(&partition)
            && !self.passed_over.contains(&(partition, place.offset));
        let read = is_read.then(|| decode(message, place, &self.schemas));
        Polled {
            place,
            bytes: message.payload_len(),
            read: read.map(|read| read.map_err(|reason| (key(), reason))),
        }
    }

    fn caught_up(&mut self, partition: i32) -> Result<(), Unfollowed> {
        let Ok(partition) = u16::try_from(partition) else {
            return Ok(());
        };
        if self.halted.contains(&partition) {
            return Ok(());
        }
        self.flush(partition)?;
        let reached = self.consumer.position().ok().and_then(|all| {
            all.find_partition(self.topic.name(), i32::from(partition))
                .map(|found| found.offset())
        });
        let position = match reached {
            Some(Offset::Offset(position)) => position,
            // Before the first record there is no position: the partition is where it was started.
            _ => self.from.get(&partition).copied().unwrap_or(0),
        };
        self.send(Ok(FeedItem::CaughtUp {
            partition,
            position,
        }))
    }

    fn halt(
        &mut self,
        place: Place,
        key: Option<Vec<u8>>,
        reason: Unreadable,
    ) -> Result<(), Unfollowed> {
        self.flush(place.partition)?;
        self.halted.insert(place.partition);
        let mut halted = TopicPartitionList::new();
        halted.add_partition(self.topic.name(), i32::from(place.partition));
        if let Err(error) = self.consumer.pause(&halted) {
            // Its records are dropped one by one instead.
            tracing::warn!(%place, %error, "the halted partition could not be paused");
        }
        self.send(Ok(FeedItem::Undecodable { place, key, reason }))
    }

    fn flush_all(&mut self) -> Result<(), Unfollowed> {
        let partitions: Vec<u16> = self.pending.keys().copied().collect();
        partitions
            .into_iter()
            .try_for_each(|partition| self.flush(partition))
    }

    fn flush(&mut self, partition: u16) -> Result<(), Unfollowed> {
        let Some(Pending { records, .. }) = self.pending.remove(&partition) else {
            return Ok(());
        };
        let Some(last) = records.last() else {
            return Ok(());
        };
        let position = last.place.offset + 1;
        self.send(Ok(FeedItem::Batch {
            partition,
            records,
            position,
        }))
    }

    fn send(&mut self, item: Result<FeedItem, LogError>) -> Result<(), Unfollowed> {
        let sent = self.sender.blocking_send(item).map_err(|_| Unfollowed);
        // While nobody took it, nothing could be heard.
        self.silence = None;
        sent
    }
}
