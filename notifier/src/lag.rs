//! The vital task that tells Prometheus how far the notifier is behind a topic.

use std::{collections::BTreeMap, time::Instant};

use event_log::{
    KafkaSettings,
    lag::{Ends, LagMeter},
};
use events::Topic;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::measures;

/// Tells it until `shutdown` is cancelled; `reached` is where the topic's worker is, empty before it has begun.
pub async fn report(
    topic: Topic,
    kafka: KafkaSettings,
    reached: watch::Receiver<BTreeMap<u16, i64>>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let (mut ends, mut meter) = (Ends::of(topic, kafka), LagMeter::default());
    while let Some(ends) = shutdown.run_until_cancelled(ends.next()).await {
        let lags = meter.measure(&ends, &reached.borrow(), Instant::now());
        lags.into_iter().for_each(|lag| measures::lag(topic, lag));
    }
    Ok(())
}
