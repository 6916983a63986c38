//! The vital task that tells Prometheus how far a read model is: behind the log, and with a rebuild.

use std::time::{Duration, Instant};

use event_log::{KafkaSettings, lag::LagMeter, topics::end_positions};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::{
    live::Served,
    measures,
    model::Positions,
    store::{ReadModel, StoreError, within},
};

const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long a small question to a database may take.
const QUESTION_TIMEOUT_S: u64 = 5;

/// Tells it until `shutdown` is cancelled, as far as it can be known: the lag also while the database is away.
pub async fn report<M: ReadModel>(
    model: M,
    kafka: KafkaSettings,
    served: Served,
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
        let Some(view) = served.view() else { continue };
        let ends = match end_positions(&kafka, M::MODEL.topic()).await {
            Ok(ends) => ends,
            Err(error) => {
                // Kafka's absence is told where it matters.
                tracing::debug!(%error, "the lag is not known");
                continue;
            }
        };
        for lag in meter.measure(&ends, &view.positions, Instant::now()) {
            measures::lag(M::MODEL, lag);
        }
        if let Err(error) = report_generations(&model, &ends).await {
            tracing::debug!(%error, "the generations are not known");
        }
    }
}

async fn report_generations<M: ReadModel>(model: &M, ends: &Positions) -> Result<(), StoreError> {
    let pointer = within(QUESTION_TIMEOUT_S, model.pointer()).await?;
    let progress = if pointer.last == pointer.live {
        1.0
    } else {
        progress(
            &within(QUESTION_TIMEOUT_S, model.checkpoint(pointer.last)).await?,
            ends,
        )
    };
    measures::generations(M::MODEL, pointer, progress);
    Ok(())
}

/// How much of the log up to `ends` lies before `positions`, from 0 to 1.
fn progress(positions: &Positions, ends: &Positions) -> f64 {
    let all: i64 = ends.values().sum();
    let done = ends.iter().map(|(partition, end)| {
        let position = positions.get(partition).copied().unwrap_or(0);
        position.clamp(0, *end)
    });
    if all == 0 {
        1.0
    } else {
        done.sum::<i64>() as f64 / all as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_goes_from_nothing_to_all_and_not_further() {
        let ends = Positions::from([(0, 60), (1, 40), (2, 0)]);
        for (positions, expected) in [
            (Positions::new(), 0.0),
            (Positions::from([(0, 30)]), 0.3),
            (Positions::from([(0, 60), (1, 40)]), 1.0),
            (Positions::from([(0, 90), (1, 40)]), 1.0),
        ] {
            assert_eq!(progress(&positions, &ends), expected, "{positions:?}");
        }
        assert_eq!(
            progress(&Positions::new(), &Positions::new()),
            1.0,
            "an empty log"
        );
    }
}
