//! The vital task that tells Prometheus how far the notifier is behind a topic.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use event_log::{KafkaSettings, lag::LagMeter, topics::end_positions};
use events::Topic;
use tokio::{sync::watch, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::measures;

const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Tells it until `shutdown` is cancelled; `reached` is where the topic's worker is, empty before it has begun.
pub async fn report(
    topic: Topic,
    kafka: KafkaSettings,
    reached: watch::Receiver<BTreeMap<u16, i64>>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut meter = LagMeter::default();
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        match end_positions(&kafka, topic).await {
            Ok(ends) => {
                let lags = meter.measure(&ends, &reached.borrow(), Instant::now());
                lags.into_iter().for_each(|lag| measures::lag(topic, lag));
            }
            // Kafka's absence is told where it matters.
            Err(error) => tracing::debug!(%error, "the lag is not known"),
        }
    }
}
