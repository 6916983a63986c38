//! The transactional writer of one shard.
//!
//! One writer has one `transactional.id`; opening it fences whoever had it before. A batch is one Kafka
//! transaction. After any error the outcome is unknown and the writer is of no use: drop it, open another,
//! read the shard, and let the log say what happened.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use events::{Envelope, codec, metadata};
use parking_lot::{Condvar, Mutex};
use rdkafka::{
    ClientContext, Message,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer},
};

use crate::{KafkaSettings, Schemas};

/// After this long without an end the broker aborts a transaction.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(8);
/// How long [`ShardWriter::open`] waits for the coordinator to settle what the predecessor left open.
const INIT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the deliveries and the commit of one batch may take together, at most twice this.
const BATCH_TIMEOUT: Duration = Duration::from_secs(6);
/// How large an event may be with its key and headers. What a request may hold (1 MiB) stays far below it.
const EVENT_BYTES_MAX: usize = 2_000_000;
/// How long after a commit the next transaction is begun at the earliest. A commit is answered when it is decided; the
/// broker then writes its markers, and a transaction that meets it at that is put off by the client for 20 ms.
const MARKERS_WRITTEN_WITHIN: Duration = Duration::from_micros(500);
/// Events in one transaction at most; the producer's queue holds as many.
pub const BATCH_EVENTS_MAX: usize = 10_000;

/// Why a batch may not be in the log.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Another writer of this shard was opened later: this process is no longer the owner.
    #[error("fenced by a later writer: {0}")]
    Fenced(KafkaError),
    /// Whether the batch is in the log is not known; the log says it after the next writer was opened.
    #[error("outcome unknown: {0}")]
    Unknown(KafkaError),
    /// The batch cannot be written at all; nothing was sent.
    #[error("cannot be written: {0}")]
    Invalid(String),
}

impl From<KafkaError> for WriteError {
    fn from(error: KafkaError) -> Self {
        let fenced = matches!(
            error.rdkafka_error_code(),
            Some(
                RDKafkaErrorCode::Fenced
                    | RDKafkaErrorCode::ProducerFenced
                    | RDKafkaErrorCode::InvalidProducerEpoch
                    | RDKafkaErrorCode::InvalidProducerIdMapping
            )
        );
        if fenced {
            Self::Fenced(error)
        } else {
            Self::Unknown(error)
        }
    }
}

/// The one writer of a shard, for as long as nobody opened another.
pub struct ShardWriter {
    producer: ThreadedProducer<Deliveries>,
    schemas: Arc<Schemas>,
    partition: u16,
    committed: Option<Instant>,
}

impl ShardWriter {
    /// Opens the writer of shard `partition`: fences every earlier one and waits until what it left open is
    /// settled. Only the owner of the shard may call it. Blocks up to [`INIT_TIMEOUT`].
    pub fn open(
        kafka: &KafkaSettings,
        schemas: Arc<Schemas>,
        partition: u16,
    ) -> Result<Self, WriteError> {
        let mut settings = kafka.client(&format!("command-api.shard-{partition}"));
        settings
            .set("transactional.id", format!("command-api.shard-{partition}"))
            .set(
                "transaction.timeout.ms",
                TRANSACTION_TIMEOUT.as_millis().to_string(),
            )
            // librdkafka wants requests to end before the transaction can.
            .set("socket.timeout.ms", BATCH_TIMEOUT.as_millis().to_string())
            .set("delivery.timeout.ms", BATCH_TIMEOUT.as_millis().to_string())
            .set("acks", "all")
            .set("message.max.bytes", EVENT_BYTES_MAX.to_string())
            .set("linger.ms", "0")
            .set("queue.buffering.max.messages", BATCH_EVENTS_MAX.to_string())
            .set("batch.num.messages", BATCH_EVENTS_MAX.to_string())
            // At which broken connections are told.
            .set_log_level(RDKafkaLogLevel::Info);
        let producer: ThreadedProducer<Deliveries> =
            settings.create_with_context(Deliveries::default())?;
        producer.init_transactions(INIT_TIMEOUT)?;
        Ok(Self {
            producer,
            schemas,
            partition,
            committed: None,
        })
    }

    /// Appends `batch` (1 to [`BATCH_EVENTS_MAX`] events of this shard) in one transaction and returns the
    /// offsets, in order, after the commit. After an error other than [`WriteError::Invalid`] drop the writer.
    pub fn append(&mut self, batch: &[Envelope]) -> Result<Vec<i64>, WriteError> {
        let appended = self.transaction(batch);
        self.committed = Some(Instant::now());
        appended.map_err(|error| match self.producer.client().fatal_error() {
            // A fenced producer purges its queue: the deliveries tell only of that.
            Some((RDKafkaErrorCode::Fenced, _)) => {
                WriteError::Fenced(KafkaError::MessageProduction(RDKafkaErrorCode::Fenced))
            }
            Some(_) | None => error,
        })
    }

    /// How long to wait, and gather, before the next [`append`](Self::append); zero unless the last one has just ended.
    pub fn rest(&self) -> Duration {
        let since = self.committed.map(|committed| committed.elapsed());
        MARKERS_WRITTEN_WITHIN.saturating_sub(since.unwrap_or(MARKERS_WRITTEN_WITHIN))
    }

    /// Whether a connection broke since the writer was opened. The client then sends again what it had sent, and the
    /// first copy may still arrive and meet a later transaction of the same epoch (librdkafka#5423): such a writer must
    /// not write again, also after a commit that succeeded.
    pub fn lost_a_connection(&self) -> bool {
        let deliveries = self.producer.client().context();
        deliveries.disconnected.load(Ordering::Acquire)
    }

    fn transaction(&self, batch: &[Envelope]) -> Result<Vec<i64>, WriteError> {
        let values = batch
            .iter()
            .map(|envelope| self.encode(envelope))
            .collect::<Result<Vec<_>, _>>()?;
        self.producer.begin_transaction()?;
        self.producer
            .client()
            .context()
            .expect_deliveries(batch.len());
        for (index, (envelope, value)) in batch.iter().zip(&values).enumerate() {
            self.send(index, envelope, value)?;
        }
        let offsets = self.producer.client().context().delivered(BATCH_TIMEOUT)?;
        commit::commit(&self.producer, BATCH_TIMEOUT)?;
        Ok(offsets)
    }

    fn encode(&self, envelope: &Envelope) -> Result<Vec<u8>, WriteError> {
        /// Enough for most events, so that the buffer seldom grows.
        const VALUE_BYTES_USUAL: usize = 512;
        let event_type = envelope.event.event_type();
        let id = self.schemas.own(event_type).ok_or_else(|| {
            WriteError::Invalid(format!("{} has no registered schema", event_type.name()))
        })?;
        codec::encode(&envelope.event, id, Vec::with_capacity(VALUE_BYTES_USUAL))
            .map_err(|error| WriteError::Invalid(error.to_string()))
    }

    fn send(&self, index: usize, envelope: &Envelope, value: &[u8]) -> Result<(), WriteError> {
        const HEADERS_USUAL: usize = 15;
        let stream = envelope.event.stream_id();
        let event_type = envelope.event.event_type();
        let mut headers = Some(OwnedHeaders::new_with_capacity(HEADERS_USUAL));
        metadata::write_headers(&envelope.metadata, event_type, stream, |key, value| {
            headers = headers.take().map(|all| {
                all.insert(Header {
                    key,
                    value: Some(value),
                })
            });
        });
        let key = stream.to_string();
        let mut record = BaseRecord::with_opaque_to(event_type.topic().name(), index)
            .partition(i32::from(self.partition))
            .key(&key)
            .payload(value);
        if let Some(headers) = headers {
            record = record.headers(headers);
        }
        self.producer
            .send(record)
            .map_err(|(error, _)| error.into())
    }
}

/// Counts deliveries down, on the producer's poll thread, for the writer that waits.
#[derive(Default)]
struct Deliveries {
    batch: Mutex<Batch>,
    settled: Condvar,
    disconnected: AtomicBool,
}

#[derive(Default)]
struct Batch {
    outstanding: usize,
    offsets: Vec<i64>,
    error: Option<KafkaError>,
}

impl Deliveries {
    fn expect_deliveries(&self, count: usize) {
        *self.batch.lock() = Batch {
            outstanding: count,
            offsets: vec![0; count],
            error: None,
        };
    }

    fn delivered(&self, timeout: Duration) -> Result<Vec<i64>, KafkaError> {
        let mut batch = self.batch.lock();
        let in_time = !self
            .settled
            .wait_while_for(
                &mut batch,
                |batch| batch.outstanding > 0 && batch.error.is_none(),
                timeout,
            )
            .timed_out();
        match batch.error.take() {
            Some(error) => Err(error),
            None if in_time || batch.outstanding == 0 => Ok(std::mem::take(&mut batch.offsets)),
            None => Err(KafkaError::MessageProduction(
                RDKafkaErrorCode::MessageTimedOut,
            )),
        }
    }
}

impl ClientContext for Deliveries {
    /// A connection that was established and broke is told in the log only, and the same words not again within 30 s.
    /// One that was idle for a minute and is closed by the broker is not told at all at this level.
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        if facility == "FAIL" && text.contains("in state UP") {
            self.disconnected.store(true, Ordering::Release);
        }
        tracing::info!(?level, facility, text, "a shard's writer");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "a shard's writer");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        let mut batch = self.batch.lock();
        batch.outstanding = batch.outstanding.saturating_sub(1);
        match result {
            Ok(message) => {
                if let Some(offset) = batch.offsets.get_mut(index) {
                    *offset = message.offset();
                }
            }
            Err((error, _)) => batch.error = Some(error.clone()),
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

    use rdkafka::{
        error::KafkaError,
        producer::{Producer, ThreadedProducer},
    };

    /// Commits the open transaction. Everything produced must have been delivered: with messages under way
    /// the native call would wait for a poll that the producer's own thread does, so this stays correct, only slower.
    pub(super) fn commit(
        producer: &ThreadedProducer<super::Deliveries>,
        timeout: Duration,
    ) -> Result<(), KafkaError> {
        let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the client outlives the call, and the returned error, if any, is owned by us and freed once.
        unsafe {
            let error =
                rdkafka_sys::rd_kafka_commit_transaction(producer.client().native_ptr(), millis);
            if error.is_null() {
                return Ok(());
            }
            let code = rdkafka_sys::rd_kafka_error_code(error);
            let text = CStr::from_ptr(rdkafka_sys::rd_kafka_error_string(error))
                .to_string_lossy()
                .into_owned();
            rdkafka_sys::rd_kafka_error_destroy(error);
            tracing::warn!(code = ?code, text, "commit failed");
            Err(KafkaError::MessageProduction(code.into()))
        }
    }
}
