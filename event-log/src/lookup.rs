//! Single records by their places: for whoever has an index of them. A scan is a feed's or a replay's business.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, TrySendError};
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
};
use tokio::sync::oneshot;

use crate::{
    KafkaSettings, LogError, Recorded, Schemas,
    record::{Place, decode},
    replay::is_passing,
    settings::Isolation,
};

/// Threads that look records up, each with a connection of its own.
const THREADS: usize = 2;
/// Requests that wait for one of them at most; more are refused.
const REQUESTS_QUEUED_MAX: usize = 256;
/// Until the next place that is asked for, so many records are rather read over than asked Kafka for anew.
const READ_OVER_MAX: i64 = 20;
const POLL_WAIT: Duration = Duration::from_millis(100);
/// How long a request may take, the time in the queue included.
const ANSWERED_WITHIN: Duration = Duration::from_secs(4);

/// The way to single records of the log.
#[derive(Clone)]
pub struct Lookup(Sender<Request>);

/// Why records were not found.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// Too many are looked up already.
    #[error("too many records are being looked up")]
    Busy,
    /// Kafka did not answer in time.
    #[error("Kafka did not answer within {} s", ANSWERED_WITHIN.as_secs())]
    Late,
    /// The log has nothing there: the index is of another log, or the record was cut off.
    #[error("the log has no record at {0}")]
    Missing(Place),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
}

struct Request {
    /// Of one partition, in the order of their offsets.
    places: Vec<Place>,
    bytes_max: usize,
    since: Instant,
    reply: oneshot::Sender<Result<Vec<Recorded>, LookupError>>,
}

impl Lookup {
    /// Starts the threads; they end when the last of its clones is gone.
    pub fn start(kafka: &KafkaSettings, schemas: &Arc<Schemas>) -> Result<Self, LogError> {
        let (sender, requests) = crossbeam_channel::bounded(REQUESTS_QUEUED_MAX);
        for number in 0..THREADS {
            let reader = Reader {
                kafka: kafka.clone(),
                schemas: Arc::clone(schemas),
                requests: requests.clone(),
                consumer: None,
            };
            std::thread::Builder::new()
                .name(format!("lookup-{number}"))
                .spawn(move || reader.run())
                .map_err(|error| LogError::Topic(format!("no thread for lookups: {error}")))?;
        }
        Ok(Self(sender))
    }

    /// The records at these places of one partition, which are in the order of their offsets: all of them, or as many of the
    /// first as come to `bytes_max` and can be had in time, and one at least.
    pub async fn records(
        &self,
        places: Vec<Place>,
        bytes_max: usize,
    ) -> Result<Vec<Recorded>, LookupError> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let (reply, answer) = oneshot::channel();
        let request = Request {
            places,
            bytes_max,
            since: Instant::now(),
            reply,
        };
        self.0.try_send(request).map_err(|refused| match refused {
            TrySendError::Full(_) => LookupError::Busy,
            TrySendError::Disconnected(_) => LookupError::Late,
        })?;
        answer.await.unwrap_or(Err(LookupError::Late))
    }
}

struct Reader {
    kafka: KafkaSettings,
    schemas: Arc<Schemas>,
    requests: Receiver<Request>,
    /// Made when it is first needed, and again after it has failed.
    consumer: Option<BaseConsumer>,
}

impl Reader {
    fn run(mut self) {
        while let Ok(request) = self.requests.recv() {
            if request.reply.is_closed() {
                continue;
            }
            let answer = self.read(&request);
            if let (Ok(_), Some(consumer)) = (&answer, &self.consumer) {
                // Nothing is fetched that nobody asked for.
                drop(consumer.unassign());
            } else {
                self.consumer = None;
            }
            drop(request.reply.send(answer));
        }
    }

    fn read(&mut self, request: &Request) -> Result<Vec<Recorded>, LookupError> {
        let consumer = match self.consumer.take() {
            Some(consumer) => consumer,
            None => self
                .kafka
                .reader("orderlog-lookup", Isolation::Committed)
                .set("queued.min.messages", "1")
                .set("fetch.message.max.bytes", "65536")
                .create()
                .map_err(LogError::from)?,
        };
        let consumer = self.consumer.insert(consumer);
        let until = request.since + ANSWERED_WITHIN;
        let (mut found, mut bytes) = (Vec::with_capacity(request.places.len()), 0);
        let mut next = None;
        for place in &request.places {
            let is_near =
                next.is_some_and(|next| (next..=next + READ_OVER_MAX).contains(&place.offset));
            if !is_near {
                turn_to(consumer, *place)?;
            }
            let (recorded, size) = match await_record(consumer, &self.schemas, *place, until) {
                Err(LookupError::Late) if !found.is_empty() => break,
                found => found?,
            };
            if !found.is_empty() && bytes + size > request.bytes_max {
                break;
            }
            bytes += size;
            found.push(recorded);
            next = Some(place.offset + 1);
        }
        Ok(found)
    }
}

fn turn_to(consumer: &BaseConsumer, place: Place) -> Result<(), LogError> {
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(
        place.topic.name(),
        i32::from(place.partition),
        Offset::Offset(place.offset),
    )?;
    Ok(consumer.assign(&assignment)?)
}

/// The record at that place, and its size.
fn await_record(
    consumer: &BaseConsumer,
    schemas: &Schemas,
    place: Place,
    until: Instant,
) -> Result<(Recorded, usize), LookupError> {
    loop {
        let rest = until.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            return Err(LookupError::Late);
        }
        match consumer.poll(rest.min(POLL_WAIT)) {
            Some(Ok(message)) if message.offset() == place.offset => {
                let recorded = decode(&message, place, schemas).map_err(|reason| {
                    let reason = reason.to_string();
                    LogError::Undecodable { at: place, reason }
                })?;
                return Ok((recorded, message.payload_len()));
            }
            Some(Ok(message)) if message.offset() > place.offset => {
                return Err(LookupError::Missing(place));
            }
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => {
                return Err(LookupError::Missing(place));
            }
            Some(Err(error)) if !is_passing(&error) => return Err(LogError::from(error).into()),
            // One that is read over, or Kafka is away for the moment.
            Some(Ok(_) | Err(_)) | None => {}
        }
    }
}
