//! What commands are measured against: a transactional producer and nothing else. Batches as large as the number of
//! clients, one transaction each, the next one when the last is committed; the way of producing and committing is the
//! same as in the event log's writer.

use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use event_log::KafkaSettings;
use parking_lot::{Condvar, Mutex};
use rdkafka::{
    ClientConfig, ClientContext,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    message::DeliveryResult,
    producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer},
};

use crate::statistics::Latencies;

/// As large as an order's event without its headers.
pub const VALUE_BYTES: usize = 300;
const KEY: &str = "00000000-0000-7000-8000-000000000000";
const BATCH_TIMEOUT: Duration = Duration::from_secs(6);
const INIT_TIMEOUT: Duration = Duration::from_secs(15);
const TOPIC_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a producer may take to find out about a topic that was just made.
const WARM_UP_BATCHES: usize = 20;

/// A topic of the benchmark's own, deleted by [`Scratch::delete`].
pub struct Scratch {
    admin: AdminClient<DefaultClientContext>,
    servers: String,
    /// Its name.
    pub topic: String,
}

/// What came of it.
#[derive(Debug)]
pub struct Produced {
    /// Messages committed while it was measured.
    pub messages: u64,
    /// How long it was measured.
    pub took: Duration,
    /// How long each transaction took.
    pub latencies: Latencies,
}

impl Produced {
    /// Messages per second.
    pub fn rate(&self) -> f64 {
        self.messages as f64 / self.took.as_secs_f64()
    }
}

impl Scratch {
    /// Makes the topic.
    pub async fn make(kafka: &KafkaSettings, partitions: u16) -> anyhow::Result<Self> {
        let servers = kafka.kafka_bootstrap_servers.clone();
        let admin: AdminClient<_> = ClientConfig::new()
            .set("bootstrap.servers", &servers)
            .create()?;
        let topic = format!("benchmark-{}", uuid::Uuid::now_v7().simple());
        let new = NewTopic::new(&topic, partitions.into(), TopicReplication::Fixed(1));
        for made in admin.create_topics([&new], &options()).await? {
            if let Err((name, code)) = made {
                bail!("topic {name} could not be made: {code}");
            }
        }
        Ok(Self {
            admin,
            servers,
            topic,
        })
    }

    /// Deletes the topic.
    pub async fn delete(self) -> anyhow::Result<()> {
        self.admin.delete_topics(&[&self.topic], &options()).await?;
        Ok(())
    }

    /// Lets one writer for each of the first `writers` partitions produce batches of `batch` messages with values of
    /// `value_bytes`. Blocks.
    pub fn produce(
        &self,
        writers: u16,
        batch: usize,
        value_bytes: usize,
        measured_for: Duration,
    ) -> anyhow::Result<Produced> {
        let value = vec![b'x'; value_bytes];
        let records = || std::iter::repeat_n((KEY.as_bytes(), value.as_slice()), batch);
        let (ready, over) = (
            Barrier::new(usize::from(writers) + 1),
            Arc::new(AtomicBool::new(false)),
        );
        let (all, took) = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..writers)
                .map(|number| {
                    let (ready, over, records) = (&ready, &over, &records);
                    scope.spawn(move || {
                        let writer = Writer::open(&self.servers, &self.topic, number);
                        let warm = writer.and_then(|writer| {
                            (0..WARM_UP_BATCHES).try_for_each(|_| writer.write(records()))?;
                            Ok(writer)
                        });
                        ready.wait();
                        let writer = warm?;
                        let mut micros = Vec::new();
                        while !over.load(Ordering::Relaxed) {
                            let begun = Instant::now();
                            writer.write(records())?;
                            micros.push(u32::try_from(begun.elapsed().as_micros())?);
                        }
                        anyhow::Ok(micros)
                    })
                })
                .collect();
            ready.wait();
            let begun = Instant::now();
            std::thread::sleep(measured_for);
            over.store(true, Ordering::Relaxed);
            let took = begun.elapsed();
            let all: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
            (all, took)
        });
        let mut micros = Vec::new();
        for one in all {
            micros.extend(one.ok().context("a writer broke")??);
        }
        ensure!(!micros.is_empty(), "nothing was produced");
        Ok(Produced {
            messages: (micros.len() * batch) as u64,
            took,
            latencies: Latencies::of(micros),
        })
    }
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .operation_timeout(Some(TOPIC_TIMEOUT))
        .request_timeout(Some(TOPIC_TIMEOUT))
}

/// A transactional producer for one partition, which fences its predecessor.
pub struct Writer {
    producer: ThreadedProducer<Deliveries>,
    topic: String,
    partition: i32,
}

impl Writer {
    /// Opens it. Blocks.
    pub fn open(servers: &str, topic: &str, partition: u16) -> anyhow::Result<Self> {
        let producer: ThreadedProducer<Deliveries> = ClientConfig::new()
            .set("bootstrap.servers", servers)
            .set("transactional.id", format!("{topic}.{partition}"))
            .set("transaction.timeout.ms", "8000")
            .set("socket.timeout.ms", "6000")
            .set("delivery.timeout.ms", "6000")
            .set("socket.nagle.disable", "true")
            .set("acks", "all")
            .set("linger.ms", "0")
            .set("batch.num.messages", "10000")
            .create_with_context(Deliveries::default())?;
        producer.init_transactions(INIT_TIMEOUT)?;
        Ok(Self {
            producer,
            topic: topic.to_owned(),
            partition: partition.into(),
        })
    }

    /// Writes records, each a key and a value, in one transaction. After an error the writer is of no use. Blocks.
    pub fn write<'a>(
        &self,
        records: impl ExactSizeIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> anyhow::Result<()> {
        self.producer.begin_transaction()?;
        let deliveries = self.producer.client().context();
        deliveries.batch.lock().outstanding = records.len();
        for (key, value) in records {
            let record = BaseRecord::to(&self.topic)
                .partition(self.partition)
                .key(key)
                .payload(value);
            self.producer.send(record).map_err(|(error, _)| error)?;
        }
        deliveries.wait()?;
        commit::commit(&self.producer, BATCH_TIMEOUT)
    }
}

#[derive(Default)]
struct Deliveries {
    batch: Mutex<Batch>,
    settled: Condvar,
}

#[derive(Default)]
struct Batch {
    outstanding: usize,
    error: Option<String>,
}

impl Deliveries {
    fn wait(&self) -> anyhow::Result<()> {
        let mut batch = self.batch.lock();
        let waiting = |batch: &mut Batch| batch.outstanding > 0 && batch.error.is_none();
        let waited = self
            .settled
            .wait_while_for(&mut batch, waiting, BATCH_TIMEOUT);
        match batch.error.take() {
            Some(error) => bail!("not delivered: {error}"),
            None => ensure!(
                !waited.timed_out(),
                "not delivered within {BATCH_TIMEOUT:?}"
            ),
        }
        Ok(())
    }
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let mut batch = self.batch.lock();
        batch.outstanding = batch.outstanding.saturating_sub(1);
        if let Err((error, _)) = result {
            batch.error = Some(error.to_string());
        }
        if batch.outstanding == 0 || batch.error.is_some() {
            self.settled.notify_one();
        }
    }
}

mod commit {
    #![expect(
        unsafe_code,
        reason = "the crate's commit flushes in 100 ms steps; the native call does not wait"
    )]
    use std::{ffi::CStr, time::Duration};

    use rdkafka::producer::{Producer, ThreadedProducer};

    /// Commits the open transaction, of which every message was delivered.
    pub(super) fn commit(
        producer: &ThreadedProducer<super::Deliveries>,
        timeout: Duration,
    ) -> anyhow::Result<()> {
        let millis = i32::try_from(timeout.as_millis())?;
        // SAFETY: the client outlives the call, and the returned error, if any, is owned by us and freed once.
        unsafe {
            let error =
                rdkafka_sys::rd_kafka_commit_transaction(producer.client().native_ptr(), millis);
            if error.is_null() {
                return Ok(());
            }
            let text = CStr::from_ptr(rdkafka_sys::rd_kafka_error_string(error))
                .to_string_lossy()
                .into_owned();
            rdkafka_sys::rd_kafka_error_destroy(error);
            anyhow::bail!("not committed: {text}")
        }
    }
}
