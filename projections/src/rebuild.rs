//! Rebuilding a read model while it is served: fill a new generation from the beginning of the log, catch up,
//! compare it with the log, swap it in. Until the swap the live generation is not touched; afterwards it is kept for a
//! while, so that one can go back to it.
//!
//! ```text
//!  begin ──► filling ──► indexes ──► caught up ──► equal to the log ──► live ──► kept ──► dropped
//!                ▲ │                                                      ▲         │
//!      killed:   └─┘ the next rebuild goes on                             └─────────┘ rollback
//! ```

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use event_log::{KafkaSettings, topics::end_positions};
use sqlx::PgPool;

use crate::{
    fold::Halt,
    follower::{FollowError, Follower},
    lock::RebuildLock,
    model::{Generation, Known, Stage, has_reached, kept_last, outdated, unfinished},
    patience::{Patience, ask},
    progress::Progress,
    source::{Extent, Log},
    store::{ReadModel, StoreError},
    verify::{self, Report},
};

/// How often the lock is confirmed while a generation is filled.
const CONFIRM_EVERY: Duration = Duration::from_secs(1);
/// For so long a swap is tried that readers are in the way of,
const SWAP_TRIED_FOR: Duration = Duration::from_mins(5);
/// and this is the pause before the next try, in which other readers get through.
const SWAP_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// How a rebuild is done.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How long the generation that was live is kept.
    pub keep: Duration,
    /// Whether one that was begun and not finished is dropped, and not gone on with.
    pub anew: bool,
}

/// Rebuilds `model`; `say` is given lines for people. An error leaves the live generation as it was.
pub async fn rebuild<M: ReadModel>(
    model: &M,
    log: &Log,
    pool: &PgPool,
    plan: Plan,
    say: &mut (impl FnMut(String) + Send),
) -> anyhow::Result<Report> {
    let begun = Instant::now();
    let lock = RebuildLock::take(pool, M::MODEL).await?;
    model.prepare().await.context("preparing")?;
    let from = live(model).await?;
    let to = begin(model, plan, say).await?;
    match from {
        Some(from) => say(format!("{from} is live and stays so; filling {to}")),
        None => say(format!(
            "filling {to}, the first of this version of the fold ({})",
            M::VERSION
        )),
    }
    let mut filling = Filling::open(model, log, to, lock).await?;
    let events_per_s = filling.catch_up().await?;
    let indexing = Instant::now();
    model.index(to).await.context("making the indexes")?;
    say(format!(
        "indexes made in {:.1} s",
        indexing.elapsed().as_secs_f64()
    ));
    filling.catch_up().await?;
    let comparing = Instant::now();
    let report = verify::verify(model, log, to)
        .await
        .context("comparing with the log")?;
    say(format!(
        "compared with the log in {:.1} s",
        comparing.elapsed().as_secs_f64()
    ));
    if !report.is_equal() {
        report
            .differences
            .iter()
            .for_each(|line| say(format!("  {line}")));
        bail!("{to} {report}, and is not made live; begin anew with --anew");
    }
    filling.swap(model, from, plan.keep, say).await?;
    say(format!("{to} is live{}", kept(from, plan.keep)));
    say(format!(
        "{} events into {} streams in {:.1} s ({events_per_s:.0} events/s while filling); \
         equal to a fold of the log, content {}",
        filling.follower.events,
        report.streams,
        begun.elapsed().as_secs_f64(),
        report.content
    ));
    drop_outdated(model, say).await?;
    Ok(report)
}

/// Goes back to `to`, or to the generation that was live before, as soon as it has caught up with the log.
pub async fn rollback<M: ReadModel>(
    model: &M,
    log: &Log,
    pool: &PgPool,
    to: Option<Generation>,
    keep: Duration,
    say: &mut (impl FnMut(String) + Send),
) -> anyhow::Result<Generation> {
    let lock = RebuildLock::take(pool, M::MODEL).await?;
    let from = model.live().await?;
    let known = model.generations().await?;
    let is_kept =
        |each: &&Known| matches!(each.stage, Stage::Kept { .. }) && each.version == M::VERSION;
    let kept = known.iter().filter(is_kept).map(|each| each.generation);
    let found = match to {
        Some(to) => kept.clone().find(|each| *each == to),
        None => kept_last(&known, M::VERSION),
    };
    let Some(to) = found else {
        let kept: Vec<String> = kept.map(|each| each.to_string()).collect();
        match kept.as_slice() {
            [] => bail!(
                "no generation of {} is kept that one could go back to",
                M::MODEL
            ),
            kept => bail!("kept are: {}", kept.join(", ")),
        }
    };
    say(format!("{from} is live; catching up with {to}"));
    let mut filling = Filling::open(model, log, to, lock).await?;
    // What was declared since it was filled.
    model.index(to).await.context("making the indexes")?;
    filling.swap(model, Some(from), keep, say).await?;
    say(format!(
        "{to} is live again{}",
        self::kept(Some(from), keep)
    ));
    Ok(to)
}

/// Drops what was begun and not finished. Whoever still fills it ends with an error that says so.
pub async fn cancel<M: ReadModel>(
    model: &M,
    say: &mut (impl FnMut(String) + Send),
) -> anyhow::Result<Vec<Generation>> {
    let begun: Vec<Generation> = unfinished(&model.generations().await?, M::VERSION).collect();
    for generation in &begun {
        model.drop_generation(*generation).await?;
        say(format!(
            "dropped generation {generation}, which was not finished"
        ));
    }
    Ok(begun)
}

/// Drops the generations that nobody needs any more.
pub async fn drop_outdated<M: ReadModel>(
    model: &M,
    say: &mut (impl FnMut(String) + Send),
) -> Result<(), StoreError> {
    for generation in outdated(&model.generations().await?, M::VERSION) {
        match model.drop_generation(generation).await {
            Ok(()) => say(format!("dropped generation {generation}")),
            // It has just been gone back to.
            Err(StoreError::IsLive(..)) => {}
            Err(StoreError::InUse(..)) => say(format!(
                "generation {generation} is being read by others, and dropped when it is not"
            )),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The live generation of this version, where there is one.
async fn live<M: ReadModel>(model: &M) -> Result<Option<Generation>, StoreError> {
    match model.live().await {
        Ok(live) => Ok(Some(live)),
        Err(StoreError::NotBuilt(..)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The generation to fill: the one that was begun last and not finished, else a new one.
async fn begin<M: ReadModel>(
    model: &M,
    plan: Plan,
    say: &mut (impl FnMut(String) + Send),
) -> anyhow::Result<Generation> {
    if plan.anew {
        cancel(model, say).await?;
    }
    match unfinished(&model.generations().await?, M::VERSION).next_back() {
        Some(begun) => {
            say(format!(
                "{begun} was begun and not finished: going on with it (--anew begins another)"
            ));
            model.mend_generation(begun).await?;
            Ok(begun)
        }
        None => Ok(model.begin_generation().await?),
    }
}

fn kept(from: Option<Generation>, keep: Duration) -> String {
    let kept = from.map(|from| format!("; {from} is kept for {} s", keep.as_secs()));
    kept.unwrap_or_default()
}

/// A generation that is being filled.
struct Filling<'a, M: ReadModel> {
    follower: Follower<M>,
    lock: RebuildLock,
    kafka: &'a KafkaSettings,
}

impl<'a, M: ReadModel> Filling<'a, M> {
    async fn open(
        model: &M,
        log: &'a Log,
        generation: Generation,
        lock: RebuildLock,
    ) -> anyhow::Result<Self> {
        let mut patience = Patience::default();
        let follower = loop {
            match Follower::open(model, log, generation, Extent::Whole).await {
                Err(FollowError::Log(error)) => patience.wait(error).await?,
                opened => break opened?,
            }
        };
        Ok(Self {
            follower,
            lock,
            kafka: &log.kafka,
        })
    }

    /// Makes it live in the place of `from` once it has caught up. Readers who are in the way are waited for.
    async fn swap(
        &mut self,
        model: &M,
        from: Option<Generation>,
        keep: Duration,
        say: &mut (impl FnMut(String) + Send),
    ) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            self.catch_up().await?;
            self.lock.confirm().await?;
            match model.swap(from, self.follower.generation(), keep).await {
                Err(error @ StoreError::InUse(_)) if begun.elapsed() < SWAP_TRIED_FOR => {
                    say(format!("{error}; trying again"));
                    tokio::time::sleep(SWAP_AGAIN_AFTER).await;
                }
                swapped => return swapped.context("swapping"),
            }
        }
    }

    /// Applies everything up to the present end of the log; returns the events per second.
    async fn catch_up(&mut self) -> anyhow::Result<f64> {
        let end = ask(|| end_positions(self.kafka, M::MODEL.topic())).await?;
        let (begun, before) = (Instant::now(), self.follower.events);
        let mut confirmed = begun;
        let generation = self.follower.generation();
        let mut progress = Progress::begin(
            format!("{} {generation}", M::MODEL),
            self.follower.positions(),
            &end,
        );
        while !has_reached(self.follower.positions(), &end) {
            let gathered = self.follower.gather_patiently().await?;
            match self.follower.apply(gathered).await {
                Err(StoreError::Gone(..) | StoreError::Moved(_)) => bail!(
                    "{generation} was cancelled, or is filled by another process; the live generation stays as it is"
                ),
                applied => applied?,
            }
            if let Some(Halt {
                partition,
                offset,
                reason,
                ..
            }) = self.follower.halts().values().next()
            {
                let topic = M::MODEL.topic().name();
                bail!(
                    "stopped at {topic}/{partition}@{offset}: {reason}; the live generation stays as it is"
                );
            }
            progress.show(self.follower.positions(), &end);
            if confirmed.elapsed() >= CONFIRM_EVERY {
                confirmed = Instant::now();
                self.lock.confirm().await?;
            }
        }
        self.follower.settle().await?;
        let events = self.follower.events - before;
        Ok(events as f64 / begun.elapsed().as_secs_f64().max(0.001))
    }
}
