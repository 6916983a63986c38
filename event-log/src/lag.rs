//! How far whoever follows a topic is behind its end: in records, and in time.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use events::Topic;
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::{
    KafkaSettings, LogError,
    replay::is_passing,
    settings::{Isolation, REQUEST_TIMEOUT},
    topics::{blocking, ends_of, partition_count},
};

/// Ends of one partition that are remembered. Once there are so many, later ones are not: a follower that far behind
/// has stopped, and its oldest end tells since when.
const ENDS_MAX: usize = 1_024;

const POLL_WAIT: Duration = Duration::from_millis(100);
/// How often the ends are asked for.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The ends of a topic's partitions, time and again.
#[derive(Debug)]
pub struct Ends {
    topic: Topic,
    kafka: KafkaSettings,
    ticks: Interval,
    /// Once it is known it stays: the count never changes.
    partitions: Option<u16>,
}

impl Ends {
    /// Those of `topic`. Must be called within a tokio runtime.
    pub fn of(topic: Topic, kafka: KafkaSettings) -> Self {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            topic,
            kafka,
            ticks,
            partitions: None,
        }
    }

    /// Waits until it is time again, and for as long as Kafka is away: its absence is told where it matters.
    pub async fn next(&mut self) -> BTreeMap<u16, i64> {
        loop {
            self.ticks.tick().await;
            match self.ask().await {
                Ok(ends) => return ends,
                Err(error) => tracing::debug!(%error, "the lag is not known"),
            }
        }
    }

    async fn ask(&mut self) -> Result<BTreeMap<u16, i64>, LogError> {
        let partitions = match self.partitions {
            Some(partitions) => partitions,
            None => *self.partitions.insert(partition_count(&self.kafka).await?),
        };
        ends_of(&self.kafka, self.topic, partitions).await
    }
}

/// When the first record at or after each of `positions` was written, in milliseconds since 1970, for those partitions that
/// have one: since when a follower who is there has been behind.
pub async fn unread_since(
    kafka: &KafkaSettings,
    topic: Topic,
    positions: BTreeMap<u16, i64>,
) -> Result<BTreeMap<u16, i64>, LogError> {
    let kafka = kafka.clone();
    blocking(move || {
        let consumer: BaseConsumer = kafka
            .reader("orderlog-unread", Isolation::Committed)
            .create()?;
        let mut assignment = TopicPartitionList::new();
        for (partition, position) in &positions {
            let from = Offset::Offset(*position);
            assignment.add_partition_offset(topic.name(), i32::from(*partition), from)?;
        }
        consumer.assign(&assignment)?;
        let (mut found, mut asked) = (BTreeMap::new(), positions);
        let until = Instant::now() + REQUEST_TIMEOUT;
        while !asked.is_empty() && Instant::now() < until {
            match consumer.poll(POLL_WAIT) {
                Some(Ok(message)) => {
                    let partition = u16::try_from(message.partition()).unwrap_or(u16::MAX);
                    if asked.remove(&partition).is_some() {
                        found.extend(message.timestamp().to_millis().map(|at| (partition, at)));
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    asked.remove(&u16::try_from(partition).unwrap_or(u16::MAX));
                }
                Some(Err(error)) if !is_passing(&error) => return Err(error.into()),
                Some(Err(_)) | None => {}
            }
        }
        Ok(found)
    })
    .await
}

/// What is known of a topic's ends, to tell since when a follower has been behind. It learns them by being asked, so a
/// delay is known as exactly as it is asked often, and what was there before the first time counts from then.
#[derive(Debug, Default)]
pub struct LagMeter(BTreeMap<u16, VecDeque<(i64, Instant)>>);

/// How far one partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// Which partition.
    pub partition: u16,
    /// The next offset to read.
    pub position: i64,
    /// Records from there to the end; transaction markers count.
    pub records: i64,
    /// How long the log has been known to hold the first of them.
    pub delay: Duration,
}

impl LagMeter {
    /// How far `positions` are behind `ends`, as of `now`. A partition without a position is at its beginning.
    pub fn measure(
        &mut self,
        ends: &BTreeMap<u16, i64>,
        positions: &BTreeMap<u16, i64>,
        now: Instant,
    ) -> Vec<Lag> {
        ends.iter()
            .map(|(&partition, &end)| {
                let position = positions.get(&partition).copied().unwrap_or(0);
                let known = self.0.entry(partition).or_default();
                let is_new = known.back().is_none_or(|(last, _)| *last < end);
                if is_new && known.len() < ENDS_MAX {
                    known.push_back((end, now));
                }
                while known.front().is_some_and(|(end, _)| *end <= position) {
                    known.pop_front();
                }
                let since = known.front().map(|(_, since)| *since);
                Lag {
                    partition,
                    position,
                    records: end.saturating_sub(position).max(0),
                    delay: since
                        .map_or(Duration::ZERO, |since| now.saturating_duration_since(since)),
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(5);

    /// Measures one partition every 5 s; (end, position) each time, and what comes of it: (records, seconds).
    fn measured(course: &[(i64, i64)]) -> Vec<(i64, u64)> {
        let (mut meter, begun) = (LagMeter::default(), Instant::now());
        let times = (0_u32..).map(|step| begun + EVERY * step);
        course
            .iter()
            .zip(times)
            .map(|(&(end, position), now)| {
                let (ends, positions) =
                    (BTreeMap::from([(7, end)]), BTreeMap::from([(7, position)]));
                let lag = meter.measure(&ends, &positions, now);
                assert_eq!(
                    (lag.len(), lag[0].partition, lag[0].position),
                    (1, 7, position)
                );
                (lag[0].records, lag[0].delay.as_secs())
            })
            .collect()
    }

    #[test]
    fn who_keeps_up_is_not_behind_however_long_nothing_happens() {
        assert_eq!(
            measured(&[(0, 0), (10, 10), (10, 10), (30, 30)]),
            [(0, 0); 4]
        );
    }

    #[test]
    fn who_has_stopped_is_later_and_later() {
        let stopped = [(10, 10), (12, 10), (12, 10), (50, 10), (50, 50)];
        assert_eq!(
            measured(&stopped),
            [(0, 0), (2, 0), (2, 5), (40, 10), (0, 0)]
        );
    }

    #[test]
    fn who_is_slow_is_as_late_as_the_first_record_that_he_has_not_read() {
        let slow = [(10, 0), (20, 0), (30, 10), (40, 20), (40, 35)];
        assert_eq!(
            measured(&slow),
            [(10, 0), (20, 5), (20, 5), (20, 5), (5, 5)]
        );
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_stays() {
        let course: Vec<_> = (1..=3 * ENDS_MAX as i64).map(|end| (end, 0)).collect();
        let last = measured(&course).last().copied();
        let steps = course.len() as u64 - 1;
        assert_eq!(last, Some((course.len() as i64, steps * EVERY.as_secs())));
    }
}
