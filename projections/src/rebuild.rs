//! Rebuilding a read model while it is served: fill a new generation from the beginning of the log, catch up,
//! compare it with the log, swap it in. Until the swap the live generation is not touched; it is kept until
//! the next rebuild.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use event_log::topics::end_positions;
use events::ids::StreamId;
use sqlx::PgPool;

use crate::{
    fold::{Digested, State},
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
    let mut lock = RebuildLock::take(pool, M::MODEL).await?;
    model.prepare().await.context("preparing")?;
    let from = await_noticed(model, &mut say).await?;
    for dropped in model.drop_others().await? {
        say(format!("dropped generation {dropped}"));
    }
    let to = model.begin_generation().await?;
    say(format!(
        "generation {from} is live and stays so; filling {to} from the beginning of the log"
    ));
    let mut follower = Follower::open(model, log, to).await?;
    let filled = catch_up(
        &mut follower,
        &end_positions(&log.kafka, M::MODEL.topic()).await?,
        &mut lock,
        &mut say,
    )
    .await?;
    let indexing = Instant::now();
    model.index(to).await.context("making the indexes")?;
    say(format!(
        "indexes made in {:.1} s",
        indexing.elapsed().as_secs_f64()
    ));
    catch_up(
        &mut follower,
        &end_positions(&log.kafka, M::MODEL.topic()).await?,
        &mut lock,
        &mut say,
    )
    .await?;
    follower.settle().await?;
    let report = verify::verify(model, log, to)
        .await
        .context("comparing with the log")?;
    if !report.is_equal() {
        report
            .differences
            .iter()
            .for_each(|line| say(format!("  {line}")));
        bail!(
            "{to} differs from the log in {} streams; {from} stays live",
            report.different
        );
    }
    let comparison = compare(model, from, to).await?;
    lock.confirm().await?;
    model.swap(from, to).await.context("swapping")?;
    say(format!(
        "{to} is live; {from} is kept until the next rebuild"
    ));
    say(format!(
        "{} events into {} streams in {:.1} s ({:.0} events/s while filling); equal to a fold of the log, content {}",
        follower.events,
        report.streams,
        begun.elapsed().as_secs_f64(),
        filled,
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

/// Applies everything up to `target`; returns the events per second.
async fn catch_up<M: ReadModel>(
    follower: &mut Follower<M>,
    target: &Positions,
    lock: &mut RebuildLock,
    say: &mut impl FnMut(String),
) -> anyhow::Result<f64> {
    let (begun, before) = (Instant::now(), follower.events);
    let mut told = begun;
    while !has_reached(follower.positions(), target) {
        let gathered = follower.gather().await?;
        follower.apply(gathered).await?;
        if let Some(halt) = follower.halts().values().next() {
            bail!(
                "stopped at {}/{}@{}: {}; the live generation stays as it is",
                M::MODEL.topic().name(),
                halt.partition,
                halt.offset,
                halt.reason
            );
        }
        if told.elapsed() >= PROGRESS_EVERY {
            told = Instant::now();
            lock.confirm().await?;
            say(progress(follower, target, before, begun));
        }
    }
    say(progress(follower, target, before, begun));
    Ok(rate(follower.events - before, begun))
}

fn progress<M: ReadModel>(
    follower: &Follower<M>,
    target: &Positions,
    before: u64,
    begun: Instant,
) -> String {
    let done: i64 = target
        .iter()
        .map(|(partition, end)| {
            follower
                .positions()
                .get(partition)
                .copied()
                .unwrap_or(0)
                .min(*end)
        })
        .sum();
    let all: i64 = target.values().sum();
    format!(
        "{}: {} events applied, {:.0}/s, {done} of {all} records",
        follower.generation(),
        follower.events,
        rate(follower.events - before, begun)
    )
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
    Ok(format!(
        "compared with {from}: {equal} streams equal, {different} different, {newer} at another version, \
         {} only in {to}, {only_live} only in {from}",
        new.len()
    ))
}
