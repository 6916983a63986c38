//! Reading a shard to its end, as a new owner must before it serves.
//!
//! The bound is the high watermark taken after the writer was opened (so nothing can follow that is not ours),
//! and the last stable offset must have reached it: otherwise a hung transaction of somebody else hides
//! committed events behind it. Control records are not handed out but count: "at the end" is a position.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use events::Topic;
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
};

use crate::{
    KafkaSettings, LogError, Recorded, Schemas,
    record::{Place, decode},
    settings::{Isolation, REQUEST_TIMEOUT},
};

/// How long a replay may stand still before it is given up.
const NO_PROGRESS_MAX: Duration = Duration::from_secs(30);
const POLL_WAIT: Duration = Duration::from_millis(100);
const STABLE_RECHECK: Duration = Duration::from_millis(20);

/// How far a replay is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Places of the log that are behind it, those of control records among them.
    pub done: i64,
    /// All that it has to go through.
    pub total: i64,
}

/// The part of a topic that a replay reads.
struct Span {
    from: i64,
    end: i64,
}

/// Reads shard `partition` of every topic to its end and hands each event to `apply`: from the place in `from`, itself
/// included, or from the beginning. A topic that does not hold that place (any more) is not read at all, which `apply`
/// notices by not being given it. Blocks. `watch` is told how far it is now and then; where it says no, or `apply` fails,
/// the replay ends.
pub fn replay_shard<E: From<LogError>>(
    kafka: &KafkaSettings,
    schemas: &Arc<Schemas>,
    partition: u16,
    from: &BTreeMap<Topic, i64>,
    watch: &mut dyn FnMut(Progress) -> bool,
    mut apply: impl FnMut(Recorded) -> Result<(), E>,
) -> Result<u64, E> {
    let spans = stable_spans(kafka, partition, from, watch)?;
    let consumer: BaseConsumer = kafka
        .reader("command-api-replay", Isolation::Committed)
        .create()
        .map_err(LogError::from)?;
    let mut assignment = TopicPartitionList::new();
    for (topic, span) in &spans {
        let from = Offset::Offset(span.from);
        assignment
            .add_partition_offset(topic.name(), i32::from(partition), from)
            .map_err(LogError::from)?;
    }
    consumer.assign(&assignment).map_err(LogError::from)?;
    let total = spans.values().map(|span| span.end - span.from).sum();
    let mut count = 0;
    let mut last_progress = (Instant::now(), Progress::default());
    while !spans.is_empty() {
        match consumer.poll(POLL_WAIT) {
            Some(Ok(message)) => {
                if let Some(topic) = topic_named(message.topic()) {
                    let place = Place {
                        topic,
                        partition,
                        offset: message.offset(),
                    };
                    let recorded = decode(&message, place, schemas).map_err(|reason| {
                        let reason = reason.to_string();
                        LogError::Undecodable { at: place, reason }
                    })?;
                    apply(recorded)?;
                    count += 1;
                }
                // Asking for the position at each record would cost more than reading it.
                if count % 1_000 != 0 {
                    continue;
                }
            }
            Some(Err(error)) if is_passing(&error) => {}
            Some(Err(error)) => return Err(LogError::from(error).into()),
            None => {}
        }
        let reached = positions(&consumer)?;
        let is_at_end = |(topic, span): (&Topic, &Span)| {
            reached
                .get(topic)
                .is_some_and(|position| *position >= span.end)
        };
        if spans.iter().all(is_at_end) {
            return Ok(count);
        }
        let done = spans.iter().map(|(topic, span)| {
            let position = reached.get(topic).copied().unwrap_or(span.from);
            position.clamp(span.from, span.end) - span.from
        });
        let progress = Progress {
            done: done.sum(),
            total,
        };
        if progress.done > last_progress.1.done {
            last_progress = (Instant::now(), progress);
        }
        if last_progress.0.elapsed() > NO_PROGRESS_MAX || !watch(progress) {
            let what = format!("replaying shard {partition}");
            return Err(LogError::Stalled(NO_PROGRESS_MAX, what).into());
        }
    }
    Ok(count)
}

/// What is to be read of each topic, once the last stable offset has reached the high watermark.
fn stable_spans(
    kafka: &KafkaSettings,
    partition: u16,
    from: &BTreeMap<Topic, i64>,
    watch: &mut dyn FnMut(Progress) -> bool,
) -> Result<BTreeMap<Topic, Span>, LogError> {
    let uncommitted: BaseConsumer = kafka
        .reader("command-api-ends", Isolation::Uncommitted)
        .create()?;
    let committed: BaseConsumer = kafka
        .reader("command-api-ends", Isolation::Committed)
        .create()?;
    let started = Instant::now();
    let mut spans = BTreeMap::new();
    for topic in Topic::ALL {
        let (low, end) =
            uncommitted.fetch_watermarks(topic.name(), i32::from(partition), REQUEST_TIMEOUT)?;
        let from = from.get(&topic).copied().unwrap_or(low);
        if from < low || from >= end {
            continue; // Nothing to read, and so never a position to compare with.
        }
        loop {
            let (_, stable) =
                committed.fetch_watermarks(topic.name(), i32::from(partition), REQUEST_TIMEOUT)?;
            if stable >= end {
                break;
            }
            if started.elapsed() > NO_PROGRESS_MAX || !watch(Progress::default()) {
                let what = format!(
                    "waiting for an open transaction in {}/{partition} to end",
                    topic.name()
                );
                return Err(LogError::Stalled(NO_PROGRESS_MAX, what));
            }
            std::thread::sleep(STABLE_RECHECK);
        }
        spans.insert(topic, Span { from, end });
    }
    Ok(spans)
}

fn positions(consumer: &BaseConsumer) -> Result<BTreeMap<Topic, i64>, LogError> {
    let mut reached = BTreeMap::new();
    for element in consumer.position()?.elements() {
        if let (Some(topic), Offset::Offset(position)) =
            (topic_named(element.topic()), element.offset())
        {
            reached.insert(topic, position);
        }
    }
    Ok(reached)
}

pub(crate) fn topic_named(name: &str) -> Option<Topic> {
    Topic::ALL.into_iter().find(|topic| topic.name() == name)
}

/// Whether the client mends it by itself, or it is no error at all.
pub(crate) fn is_passing(error: &KafkaError) -> bool {
    if matches!(error, KafkaError::PartitionEOF(_)) {
        return true;
    }
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::Resolve
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::RequestTimedOut
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::CoordinatorLoadInProgress
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::NotCoordinator
                | RDKafkaErrorCode::WaitingForCoordinator
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::OffsetNotAvailable
        )
    )
}
