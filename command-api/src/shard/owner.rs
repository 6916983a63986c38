//! The owner of one shard: a thread that confirms its ownership, fences its predecessor, reads the shard to its
//! end, and then handles commands in batches, each one Kafka transaction, until it has to step down.
//!
//! ```text
//!            assigned                confirmed, fenced            read to the end
//! (no owner) ───────► confirming ────────────────────► replaying ────────────────► serving ──┐
//!     ▲                 ▲    │ not confirmed: wait for the group                     │        │ batch
//!     └──── revoked ────┼────┴───────────────────────────────────────────────────────┘ ◄──────┘
//!                       └────────────── any error: state and writer dropped ◄────────┘
//! ```
//!
//! What must hold: nothing is answered that rests on events which are not committed; after any error nothing
//! of what the shard knew is used again; no writer is opened unless the group has just confirmed the ownership.

use std::{
    cell::Cell,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use event_log::{
    KafkaSettings, LogError, Schemas,
    membership::Membership,
    record::Place,
    replay::{Progress, replay_shard},
    writer::{ShardWriter, WriteError},
};
use runtime::health::Component;

use crate::measures::MEASURES;

use super::{
    batch::{Batch, InDoubt, Task},
    ids,
    request::Why,
    state::{ShardState, StateError},
    store::{self, LastEvent, Opening, Reflected},
};

/// How often an idle owner looks whether it is to stop.
const STOP_CHECK: Duration = Duration::from_millis(50);
/// The waits between attempts to take a shard up.
const RETRY_WAIT_MIN: Duration = Duration::from_millis(100);
const RETRY_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long the group's word is good for answers that need no transaction: half of the shortest session that
/// Kafka allows, counted from before it was asked. Nobody else can have become the owner within it.
const CONFIRMATION_AGE_MAX: Duration = Duration::from_secs(3);
/// Events between two hand-overs to the store while a shard is read.
const READ_TOGETHER: u64 = 1_000;
/// How often an owner that reads says how far it is: in its health, and in the log.
const SHOW_PROGRESS_EVERY: Duration = Duration::from_millis(500);
const LOG_PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// The owner of one shard, for as long as the group says so.
pub struct Owner {
    /// The shard.
    pub shard: u16,
    /// How many there are.
    pub shards: u16,
    /// Where its state is kept, and how much of it in memory.
    pub state: StateSettings,
    /// Where the log is.
    pub kafka: KafkaSettings,
    /// The schemas.
    pub schemas: Arc<Schemas>,
    /// The group that says who owns what.
    pub membership: Arc<Membership>,
    /// What is to be done.
    pub tasks: Receiver<Task>,
    /// Set when the shard is given up.
    pub stop: Arc<AtomicBool>,
    /// Set while commands are handled.
    pub serving: Arc<AtomicBool>,
    /// How the shard is.
    pub health: Component,
    /// How the file of its state is opened next.
    pub opening: Cell<Opening>,
}

/// Where the states of shards are kept.
#[derive(Debug, Clone)]
pub struct StateSettings {
    /// The directory of their files.
    pub dir: PathBuf,
    /// Memory for what is known of things, for one shard.
    pub cache_bytes: usize,
}

/// Why an owner cannot go on as it is.
enum StepDown {
    /// The shard was given up.
    Stopped,
    /// The group does not confirm the ownership.
    NotOwner,
    /// The group could not be asked.
    Unconfirmed(LogError),
    /// Something failed; what the shard knew is no longer to be trusted.
    Failed(String),
    /// Nor is what is in its store.
    Distrusted(String),
}

impl From<StateError> for StepDown {
    fn from(error: StateError) -> Self {
        if error.is_damage() {
            Self::Distrusted(error.to_string())
        } else {
            Self::Failed(error.to_string())
        }
    }
}

impl From<LogError> for StepDown {
    fn from(error: LogError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<WriteError> for StepDown {
    fn from(error: WriteError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// What an owner holds from taking a shard up until stepping down.
struct Term {
    writer: ShardWriter,
    state: ShardState,
    /// The last event in each topic of the shard: a read model that has it shows all that the shard knows.
    reached: Reflected,
    /// When the group was last asked, and said, that the shard is ours.
    confirmed: Instant,
}

impl Owner {
    /// Owns the shard until it is given up. To be run on a thread of its own.
    pub fn run(self) {
        let mut in_doubt = InDoubt::default();
        let mut wait = RETRY_WAIT_MIN;
        while !self.stopped() {
            match self.term(&mut in_doubt, &mut wait) {
                StepDown::Stopped => break,
                StepDown::NotOwner => {
                    self.health
                        .waiting("the group to confirm that this node owns the shard");
                }
                StepDown::Unconfirmed(error) => {
                    self.health
                        .waiting(format!("the group to say who owns the shard: {error}"));
                }
                StepDown::Failed(reason) => self.stepped_down(reason),
                StepDown::Distrusted(reason) => {
                    if let Err(error) = store::throw_away(&self.state.dir, self.shard, &reason) {
                        tracing::error!(shard = self.shard, %error, "the state store cannot be removed");
                    }
                    self.stepped_down(reason);
                }
            }
            self.pause(wait);
            wait = (wait * 2).min(RETRY_WAIT_MAX);
        }
        // Whatever is still in doubt is answered as such: its reply is dropped.
        for task in self.tasks.try_iter() {
            task.refuse(Why::Moves);
        }
        self.health.remove();
    }

    fn stepped_down(&self, reason: String) {
        tracing::warn!(
            shard = self.shard,
            reason,
            "stepped down; the shard will be read again"
        );
        MEASURES.step_downs.increment(1);
        self.health.waiting(reason);
    }

    /// One term of ownership, from confirming it to stepping down.
    fn term(&self, in_doubt: &mut InDoubt, wait: &mut Duration) -> StepDown {
        let mut term = match self.take_up(in_doubt) {
            Ok(term) => term,
            // Whatever failed, the shard is somebody else's by now.
            Err(_) if self.stopped() => return StepDown::Stopped,
            Err(step_down) => return step_down,
        };
        *wait = RETRY_WAIT_MIN;
        self.health.ready();
        self.serving.store(true, Ordering::Release);
        let ended = self.serve(&mut term, in_doubt);
        self.serving.store(false, Ordering::Release);
        match ended {
            Ok(()) => StepDown::Stopped,
            Err(step_down) => step_down,
        }
    }

    /// Confirms, fences, reads to the end, and answers what was in doubt.
    fn take_up(&self, in_doubt: &mut InDoubt) -> Result<Term, StepDown> {
        self.health.waiting("taking the shard up");
        let confirmed = self.confirm()?;
        if self.stopped() {
            return Err(StepDown::Stopped);
        }
        // First the fence, then the reading: nobody can write behind our back any more.
        let writer = ShardWriter::open(&self.kafka, Arc::clone(&self.schemas), self.shard)?;
        let cache_bytes = self.state.cache_bytes;
        let (dir, opening) = (&self.state.dir, self.opening.get());
        let mut state = ShardState::open(dir, self.shard, self.shards, opening, cache_bytes)?;
        self.opening.set(Opening::AsLeft);
        let (reached, events) = self.read_on(&mut state, in_doubt)?;
        in_doubt.answer();
        let took = confirmed.elapsed();
        let duration_ms = took.as_millis() as u64;
        tracing::info!(shard = self.shard, events, duration_ms, "took the shard up");
        MEASURES.take_up.record(took);
        MEASURES.replayed.increment(events);
        Ok(Term {
            writer,
            state,
            reached,
            confirmed,
        })
    }

    /// Reads from where the store ends to the end of the log; says how far that is, and how many events it took.
    fn read_on(
        &self,
        state: &mut ShardState,
        in_doubt: &mut InDoubt,
    ) -> Result<(Reflected, u64), StepDown> {
        let mut reached = state.reflected().clone();
        let is_new = reached.is_empty();
        // The log must hold what the store has seen of it last.
        let mut expected = reached.clone();
        let from = expected
            .iter()
            .map(|(topic, last)| (*topic, last.offset))
            .collect();
        let mut applied = 0;
        let mut shown = Shown::new(self);
        let events = replay_shard(
            &self.kafka,
            &self.schemas,
            self.shard,
            &from,
            &mut |progress| shown.go_on(progress),
            |recorded| {
                let (place, metadata) = (recorded.place, &recorded.envelope.metadata);
                let last = LastEvent {
                    offset: place.offset,
                    id: metadata.event_id,
                };
                // Before all else: the store may have it already.
                in_doubt.found(metadata.command_id, place);
                if let Some(seen) = expected.remove(&place.topic) {
                    return if seen == last {
                        Ok(())
                    } else {
                        Err(other_log())
                    };
                }
                if ids::shard_of(recorded.envelope.event.stream_id(), self.shards) != self.shard {
                    return Err(StepDown::Failed(other_count(place, self.shards)));
                }
                let applying = state.apply(recorded.envelope);
                applying.map_err(|error| {
                    // Read from its beginning, it is the log that is wrong.
                    let why = match is_new && matches!(error, StateError::Broken(_)) {
                        true => StepDown::Failed(error.to_string()),
                        false => StepDown::from(error),
                    };
                    why.at(place)
                })?;
                reached.insert(place.topic, last);
                applied += 1;
                if applied % READ_TOGETHER == 0 {
                    state.committed(reached.clone())?;
                }
                Ok(())
            },
        )?;
        if !expected.is_empty() {
            return Err(other_log());
        }
        state.committed(reached.clone())?;
        Ok((reached, events))
    }

    /// Asks the group, and says when: the answer holds from then on for as long as a session lasts.
    fn confirm(&self) -> Result<Instant, StepDown> {
        let asked = Instant::now();
        match self.membership.confirm(self.shard) {
            Ok(true) => Ok(asked),
            Ok(false) => Err(StepDown::NotOwner),
            Err(error) => Err(StepDown::Unconfirmed(error)),
        }
    }

    fn serve(&self, term: &mut Term, in_doubt: &mut InDoubt) -> Result<(), StepDown> {
        while !self.stopped() {
            let first = match self.tasks.recv_timeout(STOP_CHECK) {
                Ok(task) => task,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            // While the markers of the last transaction are written, the next one gathers.
            std::thread::sleep(term.writer.rest());
            if let Task::Command { since, .. } = &first {
                MEASURES.queue_wait.record(since.elapsed());
            }
            let mut batch = Batch::default();
            let mut next = Some(first);
            while let Some(task) = next {
                if let Err(error) = batch.take(task, &mut term.state) {
                    batch.refuse(Why::ReadAgain);
                    return Err(error.into());
                }
                next = match batch.is_full() {
                    true => None,
                    false => self.tasks.try_recv().ok(),
                };
            }
            self.settle(batch, term, in_doubt)?;
        }
        Ok(())
    }

    /// Makes what the batch decided true, and then says so.
    fn settle(
        &self,
        mut batch: Batch,
        term: &mut Term,
        in_doubt: &mut InDoubt,
    ) -> Result<(), StepDown> {
        if batch.events.is_empty() {
            // What was decided rests on nobody else having written. A commit would prove it; without one
            // the group must have said so, and recently.
            if term.confirmed.elapsed() > CONFIRMATION_AGE_MAX {
                match self.confirm() {
                    Ok(confirmed) => term.confirmed = confirmed,
                    // No reason to give up a writer that nobody has fenced.
                    Err(StepDown::Unconfirmed(error)) => {
                        tracing::debug!(shard = self.shard, %error, "not confirmed");
                        batch.refuse(Why::NotConfirmed);
                        return Ok(());
                    }
                    Err(step_down) => {
                        batch.refuse(Why::ReadAgain);
                        return Err(step_down);
                    }
                }
            }
        } else {
            MEASURES.batch_events.record(batch.events.len() as f64);
            let started = Instant::now();
            let offsets = match term.writer.append(&batch.events) {
                Ok(offsets) => offsets,
                Err(error) => {
                    batch.put_in_doubt(in_doubt);
                    return Err(error.into());
                }
            };
            MEASURES.commit.record(started.elapsed());
            for (envelope, offset) in batch.events.iter().zip(&offsets) {
                let last = LastEvent {
                    offset: *offset,
                    id: envelope.metadata.event_id,
                };
                let topic = envelope.event.event_type().topic();
                term.reached.insert(topic, last);
            }
            batch.set_tokens(self.shard, &offsets);
        }
        let wrote = !batch.events.is_empty();
        batch.set_other_tokens(self.shard, &term.reached);
        batch.answer(&mut term.state)?;
        if wrote {
            term.state.committed(term.reached.clone())?;
        }
        if wrote && term.writer.lost_a_connection() {
            return Err(StepDown::Failed("a connection to Kafka broke".to_owned()));
        }
        Ok(())
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Waits, unless the shard is given up meanwhile.
    fn pause(&self, wait: Duration) {
        let until = Instant::now() + wait;
        while !self.stopped() && Instant::now() < until {
            std::thread::sleep(STOP_CHECK.min(wait));
        }
    }
}

impl StepDown {
    /// The same, with the place in the log where it was met.
    fn at(self, place: Place) -> Self {
        match self {
            Self::Failed(reason) => Self::Failed(format!("{place}: {reason}")),
            Self::Distrusted(reason) => Self::Distrusted(format!("{place}: {reason}")),
            other @ (Self::Stopped | Self::NotOwner | Self::Unconfirmed(_)) => other,
        }
    }
}

/// The store was made from another log, or this one was cut off.
fn other_log() -> StepDown {
    let reason = "the log does not hold what the state store has seen of it last";
    StepDown::Distrusted(reason.to_owned())
}

/// The topics were given another number of partitions after they had been written to.
fn other_count(place: Place, shards: u16) -> String {
    format!(
        "the stream of {place} does not belong into that partition where there are {shards}: the number of partitions was \
         changed, which it can never be; make the topics anew with the former one and copy their records"
    )
}

/// Says how far the reading of a shard is.
struct Shown<'a> {
    owner: &'a Owner,
    shown: Instant,
    logged: Instant,
}

impl<'a> Shown<'a> {
    fn new(owner: &'a Owner) -> Self {
        let now = Instant::now();
        Self {
            owner,
            shown: now,
            logged: now,
        }
    }

    /// Whether to go on.
    fn go_on(&mut self, progress: Progress) -> bool {
        let Progress { done, total } = progress;
        if total > 0 && self.shown.elapsed() >= SHOW_PROGRESS_EVERY {
            self.shown = Instant::now();
            let percent = done * 100 / total;
            let text = format!("reading the shard: {percent} % of {total} records");
            self.owner.health.waiting(text);
        }
        if total > 0 && self.logged.elapsed() >= LOG_PROGRESS_EVERY {
            self.logged = Instant::now();
            tracing::info!(shard = self.owner.shard, done, total, "reading the shard");
        }
        !self.owner.stopped()
    }
}
