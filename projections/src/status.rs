//! What an operator asks: which generations there are, and how far they are behind the log.

use std::{
    fmt::Write,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use event_log::{KafkaSettings, lag::unread_since, record::Place, topics::end_positions};
use serde::Serialize;

use crate::{
    fold::Halt,
    halts::halts,
    model::{Known, Positions, Stage},
    progress::{Figures, done},
    source::Log,
    store::{ReadModel, StoreError},
};

/// The state of one read model.
#[derive(Debug, Serialize)]
pub struct Status {
    model: &'static str,
    /// Of this program's fold.
    version: u16,
    /// The live generation's number; none before this version's first.
    generation: Option<i32>,
    /// The table or collection that holds it.
    storage: Option<String>,
    generations: Vec<Filled>,
    partitions: Vec<Partition>,
    /// Records that are not applied yet (transaction markers count).
    lag: i64,
    /// Records that were set aside.
    set_aside: usize,
}

/// A generation, and how full it is.
#[derive(Debug, Serialize)]
struct Filled {
    generation: i32,
    version: u16,
    stage: &'static str,
    /// Records up to its checkpoint, of all that the log has.
    records: i64,
    end: i64,
    /// Records a second since it was begun, and how long it still takes at that rate; where it is being filled.
    per_s: Option<f64>,
    left_s: Option<u64>,
    /// For how long it is kept.
    kept_for_s: Option<i64>,
}

#[derive(Debug, Serialize)]
struct Partition {
    partition: u16,
    checkpoint: i64,
    end: i64,
    lag: i64,
    /// For how long the log has held the first record that is not applied; none where all are.
    lag_s: Option<i64>,
    /// Why it does not go on, where the record at the checkpoint cannot be applied.
    stopped: Option<Stopped>,
}

/// A record at which a partition has stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Stopped {
    /// Its place, as `projections skip` takes it.
    place: String,
    reason: String,
}

/// Asks the read model and the log. What records say is looked at where there is a `log` to read them from.
pub async fn status<M: ReadModel>(
    model: &M,
    kafka: &KafkaSettings,
    log: Option<&Log>,
) -> anyhow::Result<Status> {
    let end = end_positions(kafka, M::MODEL.topic()).await?;
    let live = match model.live().await {
        Ok(live) => Some(live),
        Err(StoreError::NotBuilt(..)) => None,
        Err(error) => return Err(error.into()),
    };
    let mut checkpoint = Positions::new();
    let mut generations = Vec::new();
    for known in model.generations().await? {
        match model.checkpoint(known.generation).await {
            Ok(positions) => {
                generations.push(Filled::of(known, &positions, &end));
                if live == Some(known.generation) {
                    checkpoint = positions;
                }
            }
            // Dropped just now, or what a late writer left.
            Err(StoreError::Gone(..)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let behind = end.iter().filter_map(|(partition, end)| {
        let position = checkpoint.get(partition).copied().unwrap_or(0);
        (position < *end).then_some((*partition, position))
    });
    let since = unread_since(kafka, M::MODEL.topic(), behind.collect()).await?;
    let halts = match (log, live) {
        (Some(log), Some(live)) => {
            let found = halts(model, log, live, (&checkpoint, &end), |_| true).await;
            found.unwrap_or_else(|error| {
                eprintln!("projections: why partitions stand is not known: {error:#}");
                Vec::new()
            })
        }
        _ => Vec::new(),
    };
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let now_ms = i64::try_from(now_ms)?;
    let partitions: Vec<Partition> = end
        .into_iter()
        .map(|(partition, end)| {
            let checkpoint = checkpoint.get(&partition).copied().unwrap_or(0);
            Partition {
                partition,
                checkpoint,
                end,
                lag: end.saturating_sub(checkpoint).max(0),
                lag_s: since.get(&partition).map(|at| (now_ms - at).max(0) / 1_000),
                stopped: halts
                    .iter()
                    .find(|halt| halt.partition == partition)
                    .map(Stopped::of::<M>),
            }
        })
        .collect();
    Ok(Status {
        model: M::MODEL.name(),
        version: M::VERSION.0,
        generation: live.map(|live| live.0),
        storage: live.map(|live| live.storage(M::MODEL)),
        generations,
        set_aside: model.all_set_aside().await?.len(),
        lag: partitions.iter().map(|partition| partition.lag).sum(),
        partitions,
    })
}

impl Stopped {
    fn of<M: ReadModel>(halt: &Halt) -> Self {
        let place = Place {
            topic: M::MODEL.topic(),
            partition: halt.partition,
            offset: halt.offset,
        };
        Self {
            place: place.to_string(),
            reason: halt.reason.clone(),
        }
    }
}

impl Filled {
    fn of(known: Known, positions: &Positions, end: &Positions) -> Self {
        let (stage, kept_for_s, begun_ago_s) = match known.stage {
            Stage::Live { .. } => ("live", None, None),
            Stage::Filling { begun_ago_s } => ("filling", None, Some(begun_ago_s)),
            Stage::Kept { rest_s, .. } => ("kept", Some(rest_s.max(0)), None),
        };
        let (records, total) = (done(positions, end), end.values().sum());
        let figures = begun_ago_s.map(|seconds| {
            let elapsed = Duration::from_secs(seconds.max(1).unsigned_abs());
            Figures::of(records, total, 0, elapsed)
        });
        Self {
            generation: known.generation.0,
            version: known.version.0,
            stage,
            records,
            end: total,
            per_s: figures.map(|figures| figures.per_s),
            left_s: figures
                .and_then(|figures| figures.left)
                .map(|left| left.as_secs()),
            kept_for_s,
        }
    }
}

/// The statuses as a table.
pub fn table(statuses: &[Status]) -> String {
    let mut table = String::new();
    // Writing into a string does not fail.
    for status in statuses {
        let (model, version, lag) = (status.model, status.version, status.lag);
        match (status.generation, &status.storage) {
            (Some(live), Some(storage)) => writeln!(
                table,
                "{model}: generation {live} ({storage}), {lag} behind"
            )
            .ok(),
            _ => writeln!(
                table,
                "{model}: none for version v{version} of the fold: projections rebuild {model}"
            )
            .ok(),
        };
        for each in &status.generations {
            let kept = each.kept_for_s.map(|seconds| format!(" for {seconds} s"));
            writeln!(
                table,
                "  g{:<4} v{:<3} {:<8}{} of {} records{}{}",
                each.generation,
                each.version,
                each.stage,
                each.records,
                each.end,
                kept.map(|kept| format!(", kept{kept}")).unwrap_or_default(),
                match (each.per_s, each.left_s) {
                    (Some(per_s), Some(left)) => format!(", {per_s:.0}/s, {left} s left"),
                    _ => String::new(),
                }
            )
            .ok();
        }
        if status.set_aside > 0 {
            writeln!(
                table,
                "  {} records set aside: projections skipped",
                status.set_aside
            )
            .ok();
        }
        for Partition {
            partition,
            checkpoint,
            end,
            lag,
            lag_s,
            stopped,
        } in &status.partitions
        {
            let since = lag_s
                .map(|seconds| format!(" for {seconds} s"))
                .unwrap_or_default();
            writeln!(
                table,
                "  partition {partition:>3}  checkpoint {checkpoint:>10}  end {end:>10}  lag {lag:>8}{since}"
            )
            .ok();
            if let Some(Stopped { place, reason }) = stopped {
                writeln!(table, "                 STOPPED at {place}: {reason}").ok();
            }
        }
    }
    table
}

/// The statuses as JSON, by model.
pub fn json(statuses: &[Status]) -> serde_json::Result<String> {
    let by_model: std::collections::BTreeMap<_, _> = statuses
        .iter()
        .map(|status| (status.model, status))
        .collect();
    serde_json::to_string_pretty(&by_model)
}
