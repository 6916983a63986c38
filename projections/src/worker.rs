//! The vital task of a read model: follows the log into the live generation, goes over to a new one when a
//! rebuild has swapped it in, and comes back by itself from whatever goes away.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use event_log::LogError;
use runtime::{
    health::{Component, Health},
    retry::{self, Backoff},
};
use tokio::{sync::OnceCell, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{
    fold::Halt,
    follower::{FollowError, Follower},
    live::Live,
    measures,
    model::{Generation, Positions, reach},
    news::Colleagues,
    settings::Places,
    share::{Partitions, Share},
    source::{Extent, Gathered, Log},
    store::{EventOf, ReadModel, StoreError, within},
};

/// How often the pointer to the live generation is looked at, busy or not.
const POINTER_CHECK_EVERY: Duration = Duration::from_millis(500);
/// How often a worker says that it follows the live generation, so that it is kept.
const FOLLOWED_EVERY: Duration = Duration::from_secs(10);
/// How long a small question to a database may take.
const QUESTION_TIMEOUT_S: u64 = 5;
/// How long making what is missing may take.
const PREPARE_TIMEOUT_S: u64 = 30;
/// After this long a halted partition is tried again: what made it undecodable may be mended.
const HALT_RETRY_AFTER: Duration = Duration::from_secs(30);
/// For so long a process keeps its share of the partitions that fails to follow them.
const SHARE_KEPT_FOR: Duration = Duration::from_secs(5);
/// Pause after another writer was met, so that two do not chase each other.
const OTHER_WRITER_PAUSE: Duration = Duration::from_millis(500);

/// Opens the log once for all workers.
#[derive(Clone)]
pub struct LogOpener {
    /// Where the log is.
    pub places: Arc<Places>,
    /// Kafka, for readiness.
    pub kafka: Component,
    /// The schema registry, for readiness.
    pub registry: Component,
    /// The log, once it is open.
    pub log: Arc<OnceCell<Log>>,
}

impl LogOpener {
    /// The log; waits for Kafka and the registry. `None` when `shutdown` is cancelled before.
    async fn open(&self, shutdown: &CancellationToken) -> Option<Log> {
        const KAFKA_HINT: &str = "scripts/stack start kafka; new topics: command-api prepare";
        const REGISTRY_HINT: &str =
            "scripts/stack start registry; new schemas: command-api prepare";
        let kafka = self.places.kafka.clone();
        let open = || async {
            let there = || event_log::topics::partition_count(&kafka);
            let partitions = retry::until_ready(&self.kafka, KAFKA_HINT, shutdown, there)
                .await
                .ok_or(())?;
            let load = || event_log::Schemas::load(&kafka);
            let schemas = retry::until_ready(&self.registry, REGISTRY_HINT, shutdown, load)
                .await
                .ok_or(())?;
            Ok::<_, ()>(Log {
                kafka: kafka.clone(),
                schemas,
                partitions,
            })
        };
        self.log.get_or_try_init(open).await.ok().cloned()
    }
}

/// What the worker of a read model needs.
pub struct Worker<M> {
    /// The read model.
    pub model: M,
    /// The log.
    pub log: LogOpener,
    /// The other processes that share the partitions.
    pub colleagues: Colleagues,
    /// Where queries learn how far it is.
    pub live: Live,
    /// All components, for those of halted partitions.
    pub health: Health,
    /// The read model's own component.
    pub component: Component,
    /// That of its share of the partitions.
    pub share: Component,
    /// How its database is started.
    pub start_hint: &'static str,
}

impl<M: ReadModel> Worker<M> {
    /// Works until `shutdown` is cancelled.
    pub async fn run(mut self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let prepare = || within(PREPARE_TIMEOUT_S, self.prepare());
        if retry::until_ready(&self.component, self.start_hint, &shutdown, prepare)
            .await
            .is_none()
        {
            return Ok(());
        }
        let Some(log) = self.log.open(&shutdown).await else {
            return Ok(());
        };
        let mut share = None;
        let worked = self.work(&log, &mut share, &shutdown).await;
        if let Some(share) = share {
            share.leave().await;
        }
        worked
    }

    /// Follows the log in its share of the partitions, again and again. The share is given up when that fails for long: others
    /// may be able to do what this process is not.
    async fn work(
        &mut self,
        log: &Log,
        share: &mut Option<Share>,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<()> {
        let mut backoff = Backoff::default();
        let mut well = Instant::now();
        while !shutdown.is_cancelled() {
            let begun = Instant::now();
            let pause = match self.follow(log, share, &mut well, shutdown).await {
                Ok(()) => continue,
                Err(error @ FollowError::Group(_)) => return Err(error.into()),
                Err(FollowError::Store(StoreError::Moved(_))) => {
                    tracing::info!(
                        model = M::MODEL.name(),
                        "another writer is at work, going on from its checkpoint"
                    );
                    OTHER_WRITER_PAUSE
                }
                Err(error) => {
                    if begun.elapsed() > HALT_RETRY_AFTER {
                        backoff = Backoff::default();
                    }
                    if well.elapsed() > SHARE_KEPT_FOR
                        && let Some(share) = share.take()
                    {
                        share.leave().await;
                        self.has_share(None);
                        well = Instant::now();
                    }
                    let pause = backoff.next_pause();
                    tracing::warn!(model = M::MODEL.name(), %error, hint = self.start_hint, "trying again in {} ms", pause.as_millis());
                    self.component.waiting(error.to_string());
                    pause
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        Ok(())
    }

    /// Makes what is missing and lets queries begin, also while Kafka is away.
    async fn prepare(&self) -> Result<(), StoreError> {
        self.model.prepare().await?;
        let generation = self.model.live().await?;
        self.live
            .tell(generation, &self.model.checkpoint(generation).await?);
        Ok(())
    }

    /// Follows the log into the live generation. Returns when there is another live generation, this process' share is
    /// another, a halted partition is to be tried again, or `shutdown` is cancelled.
    async fn follow(
        &mut self,
        log: &Log,
        share: &mut Option<Share>,
        well: &mut Instant,
        shutdown: &CancellationToken,
    ) -> Result<(), FollowError> {
        let generation = within(QUESTION_TIMEOUT_S, self.model.live()).await?;
        within(QUESTION_TIMEOUT_S, self.model.mend_view()).await?;
        let share = match share {
            Some(share) => share,
            None => share.insert(Share::join::<M>(log)?),
        };
        // None until the group has shared them out; what the others do is shown all the same.
        let own = share.own();
        let extent = Extent::TailOf(own.clone().unwrap_or_default());
        let mut follower = Follower::open(&self.model, log, generation, extent).await?;
        // How far the generation is, whoever has brought it there.
        let mut reached = follower.positions().clone();
        reach(
            &mut reached,
            &self.live.known(generation).unwrap_or_default(),
        );
        self.has_share(own.as_ref());
        self.live.tell(generation, &reached);
        tracing::info!(model = M::MODEL.name(), generation = generation.0, partitions = ?own, positions = ?reached, "following the log");
        self.component.ready();
        measures::halted(M::MODEL, 0);
        let follows = own.as_ref().map_or(0, |own| own.len());
        let mut halts = Halts {
            health: &self.health,
            model: M::MODEL.name(),
            shown: Vec::new(),
            since: None,
        };
        let (mut said, mut has_worked) = (None, false);
        let mut ticks = tokio::time::interval(POINTER_CHECK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {
                    follower.settle().await?;
                    return Ok(());
                }
                _ = ticks.tick() => {
                    let live = within(QUESTION_TIMEOUT_S, self.model.live()).await?;
                    if live != generation {
                        tracing::info!(model = M::MODEL.name(), from = generation.0, to = live.0, "a new generation is live");
                        return Ok(());
                    }
                    if follower.settle().await? {
                        self.colleagues.tell();
                    }
                    if follows < usize::from(log.partitions) {
                        self.look(generation, &mut reached).await?;
                    }
                    if said.is_none_or(|said: Instant| said.elapsed() >= FOLLOWED_EVERY) {
                        within(QUESTION_TIMEOUT_S, self.model.followed()).await?;
                        let aside = within(QUESTION_TIMEOUT_S, self.model.all_set_aside()).await?;
                        measures::set_aside(M::MODEL, aside.len());
                        said = Some(Instant::now());
                    }
                    if halts.since.is_some_and(|since| since.elapsed() > HALT_RETRY_AFTER)
                        || self.is_any_set_aside(&follower).await?
                    {
                        return Ok(());
                    }
                    // That the database answers small questions is not all.
                    if has_worked || follows == 0 {
                        *well = Instant::now();
                    }
                    // Else a database that is slow would leave no time for anything but this.
                    ticks.reset();
                }
                other = share.other_than(own.as_ref()) => {
                    other.map_err(FollowError::Group)?;
                    follower.settle().await?;
                    return Ok(());
                }
                next = next(&self.colleagues, &mut follower) => {
                    let Some(gathered) = next else {
                        self.look(generation, &mut reached).await?;
                        continue;
                    };
                    let before = follower.events;
                    follower.apply(gathered?).await?;
                    reach(&mut reached, follower.positions());
                    self.live.tell(generation, &reached);
                    if follower.events > before {
                        self.colleagues.tell();
                    }
                    has_worked = true;
                    halts.show(&follower);
                }
            }
        }
    }

    /// Shows which partitions are this process' own, as far as that is known.
    fn has_share(&self, own: Option<&Partitions>) {
        match own {
            Some(_) => self.share.ready(),
            None => self.share.waiting("the group has not shared them out yet"),
        }
        measures::own(M::MODEL, own.map_or(0, |own| own.len()));
    }

    /// Looks how far the others are.
    async fn look(
        &self,
        generation: Generation,
        reached: &mut Positions,
    ) -> Result<(), StoreError> {
        let checkpoint = self.model.checkpoint(generation);
        reach(reached, &within(QUESTION_TIMEOUT_S, checkpoint).await?);
        self.live.tell(generation, reached);
        Ok(())
    }

    /// Whether an operator has set a record aside at which a partition has stopped.
    async fn is_any_set_aside(&self, follower: &Follower<M>) -> Result<bool, StoreError> {
        if follower.halts().is_empty() {
            return Ok(false);
        }
        let aside = within(QUESTION_TIMEOUT_S, self.model.all_set_aside()).await?;
        let is_aside = |halt: &Halt| {
            let mut aside = aside.iter();
            aside.any(|record| record.is_at(halt.partition, halt.offset))
        };
        Ok(follower.halts().values().any(is_aside))
    }
}

/// What comes first, neither of them before the other for long: records of this process' own partitions, or nothing but a word of the
/// others that there is more.
async fn next<M: ReadModel>(
    colleagues: &Colleagues,
    follower: &mut Follower<M>,
) -> Option<Result<Gathered<EventOf<M>>, LogError>> {
    tokio::select! {
        () = colleagues.hear() => None,
        gathered = follower.gather() => Some(gathered),
    }
}

/// The halted partitions as components that wait; they go with this.
struct Halts<'a> {
    health: &'a Health,
    model: &'static str,
    shown: Vec<Component>,
    since: Option<Instant>,
}

impl Halts<'_> {
    fn show<M: ReadModel>(&mut self, follower: &Follower<M>) {
        if self.shown.len() == follower.halts().len() {
            return;
        }
        // Halts are only ever added; entering one again changes nothing.
        self.shown.clear();
        for Halt {
            partition,
            offset,
            reason,
            ..
        } in follower.halts().values()
        {
            let component = self.health.component(format!("{}/{partition}", self.model));
            component.waiting(format!("stopped at offset {offset}: {reason}"));
            self.shown.push(component);
        }
        self.since.get_or_insert_with(Instant::now);
    }
}

impl Drop for Halts<'_> {
    fn drop(&mut self) {
        self.shown.iter().for_each(Component::remove);
    }
}
