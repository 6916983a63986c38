//! Rebuilding a read model while it is served: fill a new generation from the beginning of the log, catch up,
//! compare it with the log, swap it in. Until the swap the live generation is not touched; it is kept until
//! the next rebuild.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use event_log::{KafkaSettings, topics::end_positions};
use events::ids::StreamId;
use sqlx::PgPool;

use crate::{
    fold::{Digested, Halt, State},
    follower::Follower,
    lock::RebuildLock,
    model::{Generation, Positions, has_reached},
    source::Log,
    store::ReadModel,
    verify::{self, Report},
};

/// How long a generation must have been live before the one before it is dropped: every service has noticed
/// the swap by then, so no query reads what is dropped.
const SWAP_NOTICED_AFTER_S: i64 = 5;
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Rebuilds `model`; `say` is given lines for people. An error leaves the live generation as it was.
pub async fn rebuild<M: ReadModel>(
    model: &M,
    log: &Log,
    pool: &PgPool,
    mut say: impl FnMut(String) + Send,
) -> anyhow::Result<Report> {
    let begun = Instant::now();
    let lock = RebuildLock::take(pool, M::MODEL).await?;
    model.prepare().await.context("preparing")?;
    let from = await_noticed(model, &mut say).await?;
    // First the new one: from now on no rebuild that was begun before can swap its generation in.
    let to = model.begin_generation().await?;
    for dropped in model.drop_others(to).await? {
        say(format!("dropped generation {dropped}"));
    }
    say(format!(
        "{from} is live and stays so; filling {to} from the beginning of the log"
    ));
    let follower = Follower::open(model, log, to).await?;
    let mut filling = Filling {
        follower,
        lock,
        kafka: &log.kafka,
        say: &mut say,
    };
    let events_per_s = filling.catch_up().await?;
    let indexing = Instant::now();
    model.index(to).await.context("making the indexes")?;
    (filling.say)(format!(
        "indexes made in {:.1} s",
        indexing.elapsed().as_secs_f64()
    ));
    filling.catch_up().await?;
    let report = verify::verify(model, log, to)
        .await
        .context("comparing with the log")?;
    if !report.is_equal() {
        report
            .differences
            .iter()
            .for_each(|line| (filling.say)(format!("  {line}")));
        bail!(
            "{to} differs from the log in {} streams; {from} stays live",
            report.different
        );
    }
    let comparison = compare(model, from, to).await.unwrap_or_else(|error| {
        // What is damaged there is what one rebuilds for.
        format!("not compared with {from}: {error:#}")
    });
    // Comparing took its time: a last step, so that little is left to catch up on after the swap.
    filling.catch_up().await?;
    filling.lock.confirm().await?;
    model.swap(from, to).await.context("swapping")?;
    let events = filling.follower.events;
    say(format!(
        "{to} is live; {from} is kept until the next rebuild"
    ));
    say(format!(
        "{events} events into {} streams in {:.1} s ({events_per_s:.0} events/s while filling); \
         equal to a fold of the log, content {}",
        report.streams,
        begun.elapsed().as_secs_f64(),
        report.content
    ));
    say(comparison);
    Ok(report)
}

/// The live generation, once every service has noticed that it is.
async fn await_noticed<M: ReadModel>(
    model: &M,
    say: &mut impl FnMut(String),
) -> anyhow::Result<Generation> {
    loop {
        let pointer = model.pointer().await?;
        let rest = SWAP_NOTICED_AFTER_S.saturating_sub(pointer.live_for_s);
        if rest <= 0 || pointer.live == Generation::FIRST {
            return Ok(pointer.live);
        }
        say(format!(
            "{} has just gone live, waiting {rest} s until everybody has noticed",
            pointer.live
        ));
        tokio::time::sleep(Duration::from_secs(rest.unsigned_abs())).await;
    }
}

/// A generation that is being filled.
struct Filling<'a, M: ReadModel, S> {
    follower: Follower<M>,
    lock: RebuildLock,
    kafka: &'a KafkaSettings,
    say: &'a mut S,
}

impl<M: ReadModel, S: FnMut(String)> Filling<'_, M, S> {
    /// Applies everything up to the present end of the log; returns the events per second.
    async fn catch_up(&mut self) -> anyhow::Result<f64> {
        let target = end_positions(self.kafka, M::MODEL.topic()).await?;
        let (begun, before) = (Instant::now(), self.follower.events);
        let mut told = begun;
        while !has_reached(self.follower.positions(), &target) {
            let gathered = self.follower.gather().await?;
            self.follower.apply(gathered).await?;
            if let Some(Halt {
                partition,
                offset,
                reason,
            }) = self.follower.halts().values().next()
            {
                let topic = M::MODEL.topic().name();
                bail!(
                    "stopped at {topic}/{partition}@{offset}: {reason}; the live generation stays as it is"
                );
            }
            if told.elapsed() >= PROGRESS_EVERY {
                told = Instant::now();
                self.lock.confirm().await?;
                self.tell(&target, before, begun);
            }
        }
        self.follower.settle().await?;
        if self.follower.events > before {
            self.tell(&target, before, begun);
        }
        Ok(rate(self.follower.events - before, begun))
    }

    fn tell(&mut self, target: &Positions, before: u64, begun: Instant) {
        let follower = &self.follower;
        let reached = |partition, end: &i64| {
            let position = follower.positions().get(partition);
            position.copied().unwrap_or(0).min(*end)
        };
        let done: i64 = target
            .iter()
            .map(|(partition, end)| reached(partition, end))
            .sum();
        let all: i64 = target.values().sum();
        let line = format!(
            "{}: {} events applied, {:.0}/s, {done} of {all} records",
            follower.generation(),
            follower.events,
            rate(follower.events - before, begun)
        );
        (self.say)(line);
    }
}

fn rate(events: u64, begun: Instant) -> f64 {
    events as f64 / begun.elapsed().as_secs_f64().max(0.001)
}

/// How the new generation compares with the live one, in words. Not a condition of the swap: the log decides,
/// and a live generation that is damaged is what one rebuilds for.
async fn compare<M: ReadModel>(
    model: &M,
    from: Generation,
    to: Generation,
) -> anyhow::Result<String> {
    let mut new: HashMap<StreamId, M::Digest> = HashMap::new();
    model
        .scan(to, |state| drop(new.insert(state.stream(), state)))
        .await?;
    let (mut equal, mut different, mut newer, mut only_live) = (0_usize, 0_usize, 0_usize, 0_usize);
    model
        .scan(from, |live| match new.remove(&live.stream()) {
            Some(new) if new.version() != live.version() => newer += 1,
            Some(new) if new.digest() == live.digest() => equal += 1,
            Some(_) => different += 1,
            None => only_live += 1,
        })
        .await?;
    ensure!(from != to, "a generation is not compared with itself");
    let only_new = new.len();
    let mut said = format!("compared with {from}: {equal} streams equal, {different} different");
    for (count, what) in [
        (newer, format!("at another version in {from}")),
        (only_live, format!("only in {from}")),
        (only_new, format!("only in {to}")),
    ] {
        if count > 0 {
            said += &format!(", {count} {what}");
        }
    }
    if newer + only_live > 0 {
        said += " (the log goes on; the new generation follows it from here)";
    }
    Ok(said)
}
