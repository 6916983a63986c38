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

/// Reads shard `partition` of every topic from the beginning to its end and hands each event to `apply`.
/// Blocks. `go_on` is asked now and then; where it says no, the replay ends with [`LogError::Stalled`].
pub fn replay_shard(
    kafka: &KafkaSettings,
    schemas: &Arc<Schemas>,
    partition: u16,
    go_on: &dyn Fn() -> bool,
    mut apply: impl FnMut(Recorded),
) -> Result<u64, LogError> {
    let ends = stable_ends(kafka, partition, go_on)?;
    let consumer: BaseConsumer = kafka
        .reader("command-api-replay", Isolation::Committed)
        .create()?;
    let mut assignment = TopicPartitionList::new();
    for topic in Topic::ALL {
        assignment.add_partition_offset(topic.name(), i32::from(partition), Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let mut count = 0;
    let mut last_progress = (Instant::now(), 0);
    loop {
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
                    apply(recorded);
                    count += 1;
                }
                // Asking for the position at each record would cost more than reading it.
                if count % 1_000 != 0 {
                    continue;
                }
            }
            Some(Err(error)) if is_passing(&error) => {}
            Some(Err(error)) => return Err(error.into()),
            None => {}
        }
        let reached = positions(&consumer)?;
        if ends
            .iter()
            .all(|(topic, end)| reached.get(topic).is_some_and(|position| position >= end))
        {
            return Ok(count);
        }
        let sum: i64 = reached.values().sum();
        if sum > last_progress.1 {
            last_progress = (Instant::now(), sum);
        }
        if last_progress.0.elapsed() > NO_PROGRESS_MAX || !go_on() {
            return Err(LogError::Stalled(
                NO_PROGRESS_MAX,
                format!("replaying shard {partition}"),
            ));
        }
    }
}

/// The high watermark of each topic that has records, once the last stable offset has reached it.
fn stable_ends(
    kafka: &KafkaSettings,
    partition: u16,
    go_on: &dyn Fn() -> bool,
) -> Result<BTreeMap<Topic, i64>, LogError> {
    let uncommitted: BaseConsumer = kafka
        .reader("command-api-ends", Isolation::Uncommitted)
        .create()?;
    let committed: BaseConsumer = kafka
        .reader("command-api-ends", Isolation::Committed)
        .create()?;
    let started = Instant::now();
    let mut ends = BTreeMap::new();
    for topic in Topic::ALL {
        let (low, end) =
            uncommitted.fetch_watermarks(topic.name(), i32::from(partition), REQUEST_TIMEOUT)?;
        if low == end {
            continue; // Nothing to read, and so never a position to compare with.
        }
        loop {
            let (_, stable) =
                committed.fetch_watermarks(topic.name(), i32::from(partition), REQUEST_TIMEOUT)?;
            if stable >= end {
                break;
            }
            if started.elapsed() > NO_PROGRESS_MAX || !go_on() {
                let what = format!(
                    "waiting for an open transaction in {}/{partition} to end",
                    topic.name()
                );
                return Err(LogError::Stalled(NO_PROGRESS_MAX, what));
            }
            std::thread::sleep(STABLE_RECHECK);
        }
        ends.insert(topic, end);
    }
    Ok(ends)
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
