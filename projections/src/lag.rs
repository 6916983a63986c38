//! The vital task that tells Prometheus how far a read model is: behind the log, and with a rebuild.

use std::time::Instant;

use event_log::{
    KafkaSettings,
    lag::{Ends, LagMeter},
};
use tokio_util::sync::CancellationToken;

use crate::{
    live::Served,
    measures,
    model::{Generation, Positions, unfinished},
    progress::done,
    store::{ReadModel, StoreError, within},
};

/// How long a small question to a database may take.
const QUESTION_TIMEOUT_S: u64 = 5;

/// Tells it until `shutdown` is cancelled, as far as it can be known: the lag also while the database is away.
pub async fn report<M: ReadModel>(
    model: M,
    kafka: KafkaSettings,
    served: Served,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let (mut ends, mut meter) = (Ends::of(M::MODEL.topic(), kafka), LagMeter::default());
    while let Some(ends) = shutdown.run_until_cancelled(ends.next()).await {
        let Some(view) = served.view() else { continue };
        for lag in meter.measure(&ends, &view.positions, Instant::now()) {
            measures::lag(M::MODEL, lag);
        }
        if let Err(error) = report_generations(&model, view.generation, &ends).await {
            tracing::debug!(%error, "the generations are not known");
        }
    }
    Ok(())
}

async fn report_generations<M: ReadModel>(
    model: &M,
    served: Generation,
    ends: &Positions,
) -> Result<(), StoreError> {
    let known = within(QUESTION_TIMEOUT_S, model.generations()).await?;
    let filling = unfinished(&known, M::VERSION).next_back();
    let positions = match filling {
        Some(filling) => Some(within(QUESTION_TIMEOUT_S, model.checkpoint(filling)).await?),
        None => None,
    };
    let (records, ratio) = match positions {
        Some(positions) => (done(&positions, ends), progress(&positions, ends)),
        None => (0, 1.0),
    };
    measures::generations(M::MODEL, served, filling);
    measures::rebuild(M::MODEL, records, ratio);
    Ok(())
}

/// How much of the log up to `ends` lies before `positions`, from 0 to 1.
fn progress(positions: &Positions, ends: &Positions) -> f64 {
    match ends.values().sum::<i64>() {
        0 => 1.0,
        all => done(positions, ends) as f64 / all as f64,
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
