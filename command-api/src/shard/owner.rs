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
    collections::HashMap,
    ops::Range,
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
    replay::replay_shard,
    writer::{ShardWriter, WriteError},
};
use events::{Envelope, ids::CommandId};
use runtime::{consistency::ConsistencyToken, health::Component};
use tokio::sync::oneshot;

use super::{
    decide::decide,
    request::{Accepted, IdempotencyRequest, Refused, Request},
    state::ShardState,
};

/// Commands in one transaction at most.
const BATCH_COMMANDS_MAX: usize = 2_000;
/// How often an idle owner looks whether it is to stop.
const STOP_CHECK: Duration = Duration::from_millis(50);
/// The waits between attempts to take a shard up.
const RETRY_WAIT_MIN: Duration = Duration::from_millis(100);
const RETRY_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long a proof of ownership is good for answers that need no transaction. Half of the shortest session
/// that Kafka allows: nobody else can have become the owner within it.
const PROOF_AGE_MAX: Duration = Duration::from_secs(3);

/// What a shard is given to do.
pub enum Task {
    /// A command, and where its answer goes.
    Command {
        /// The command.
        request: Box<Request>,
        /// Names the command in the log.
        id: CommandId,
        /// Set by whoever comes first: the owner that takes it, or the caller that gives it up.
        claimed: Arc<AtomicBool>,
        /// Where the answer goes. Dropped without one, the outcome is unknown.
        reply: oneshot::Sender<Result<Accepted, Refused>>,
    },
    /// A question about what the shard knows.
    Read(Box<dyn FnOnce(Result<&ShardState, Refused>) + Send>),
}

impl Task {
    /// Answers that nothing was done.
    pub fn refuse(self, why: &'static str) {
        match self {
            // Whoever no longer waits for an answer does not miss it.
            Self::Command { reply, .. } => drop(reply.send(Err(Refused::Unavailable(why)))),
            Self::Read(read) => read(Err(Refused::Unavailable(why))),
        }
    }
}

/// The owner of one shard, for as long as the group says so.
pub struct Owner {
    /// The shard.
    pub shard: u16,
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
    /// How the shard is.
    pub health: Component,
}

/// Why an owner cannot go on as it is.
enum StepDown {
    /// The shard was given up.
    Stopped,
    /// The group does not confirm the ownership.
    NotOwner,
    /// Something failed; what the shard knew is no longer to be trusted.
    Failed(String),
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

/// Commands whose transaction ended in an error: the log will say.
type InDoubt = HashMap<CommandId, Pending>;

struct Pending {
    answer: Accepted,
    reply: oneshot::Sender<Result<Accepted, Refused>>,
}

impl Owner {
    /// Owns the shard until it is given up. To be run on a thread of its own.
    pub fn run(self) {
        let mut in_doubt = InDoubt::new();
        let mut wait = RETRY_WAIT_MIN;
        while !self.stopped() {
            match self.term(&mut in_doubt, &mut wait) {
                StepDown::Stopped => break,
                StepDown::NotOwner => {
                    self.health
                        .waiting("the group to confirm that this node owns the shard");
                }
                StepDown::Failed(reason) => {
                    tracing::warn!(
                        shard = self.shard,
                        reason,
                        "stepped down; the shard will be read again"
                    );
                    metrics::counter!("shard_step_downs_total").increment(1);
                    self.health.waiting(reason);
                }
            }
            self.pause(wait);
            wait = (wait * 2).min(RETRY_WAIT_MAX);
        }
        // Whatever is still in doubt is answered as such: its reply is dropped.
        for task in self.tasks.try_iter() {
            task.refuse("the shard moves to another node");
        }
        self.health.remove();
    }

    /// One term of ownership, from confirming it to stepping down.
    fn term(&self, in_doubt: &mut InDoubt, wait: &mut Duration) -> StepDown {
        let (mut writer, mut state) = match self.take_up(in_doubt) {
            Ok(taken) => taken,
            Err(step_down) => return step_down,
        };
        *wait = RETRY_WAIT_MIN;
        self.health.ready();
        match self.serve(&mut writer, &mut state, in_doubt) {
            Ok(()) => StepDown::Stopped,
            Err(step_down) => step_down,
        }
    }

    /// Confirms, fences, reads to the end, and answers what was in doubt.
    fn take_up(&self, in_doubt: &mut InDoubt) -> Result<(ShardWriter, ShardState), StepDown> {
        self.health.waiting("taking the shard up");
        let started = Instant::now();
        self.confirm()?;
        // First the fence, then the reading: nobody can write behind our back any more.
        let writer = ShardWriter::open(&self.kafka, Arc::clone(&self.schemas), self.shard)?;
        let mut state = ShardState::default();
        let mut broken = None;
        let mut settled = Vec::new();
        let events = replay_shard(
            &self.kafka,
            &self.schemas,
            self.shard,
            &|| !self.stopped(),
            |recorded| {
                let (command, place) = (recorded.envelope.metadata.command_id, recorded.place);
                if broken.is_none() {
                    broken = state
                        .apply(recorded.envelope)
                        .err()
                        .map(|error| format!("{place}: {error}"));
                }
                if let Some(mut pending) = in_doubt.remove(&command) {
                    pending
                        .answer
                        .set_token(token(place.topic, place.partition, place.offset));
                    settled.push(pending);
                }
            },
        )?;
        if let Some(broken) = broken {
            return Err(StepDown::Failed(broken));
        }
        for pending in settled {
            drop(pending.reply.send(Ok(pending.answer)));
        }
        for (_, pending) in in_doubt.drain() {
            drop(
                pending
                    .reply
                    .send(Err(Refused::Unavailable("the command was not recorded"))),
            );
        }
        let duration_ms = started.elapsed().as_millis() as u64;
        tracing::info!(shard = self.shard, events, duration_ms, "took the shard up");
        metrics::counter!("shard_take_ups_total").increment(1);
        Ok((writer, state))
    }

    fn confirm(&self) -> Result<(), StepDown> {
        match self.membership.confirm(self.shard)? {
            true => Ok(()),
            false => Err(StepDown::NotOwner),
        }
    }

    fn serve(
        &self,
        writer: &mut ShardWriter,
        state: &mut ShardState,
        in_doubt: &mut InDoubt,
    ) -> Result<(), StepDown> {
        let mut proven = Instant::now();
        while !self.stopped() {
            let first = match self.tasks.recv_timeout(STOP_CHECK) {
                Ok(task) => task,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            state.forget_keys(time::OffsetDateTime::now_utc().into());
            let mut batch = Batch::default();
            let tasks = std::iter::once(first)
                .chain(self.tasks.try_iter())
                .take(BATCH_COMMANDS_MAX);
            for task in tasks {
                batch.take(task, state).map_err(StepDown::Failed)?;
            }
            self.settle(batch, writer, state, in_doubt, &mut proven)?;
        }
        Ok(())
    }

    /// Makes what the batch decided true, and then says so.
    fn settle(
        &self,
        mut batch: Batch,
        writer: &mut ShardWriter,
        state: &ShardState,
        in_doubt: &mut InDoubt,
        proven: &mut Instant,
    ) -> Result<(), StepDown> {
        if batch.events.is_empty() {
            // Answers that need no event rest on nobody else having written since.
            if proven.elapsed() > PROOF_AGE_MAX {
                self.confirm()?;
                *proven = Instant::now();
            }
        } else {
            metrics::histogram!("shard_batch_events").record(batch.events.len() as f64);
            let started = Instant::now();
            let offsets = match writer.append(&batch.events) {
                Ok(offsets) => offsets,
                Err(error) => {
                    batch.put_in_doubt(in_doubt);
                    return Err(error.into());
                }
            };
            metrics::histogram!("shard_commit_seconds").record(started.elapsed().as_secs_f64());
            *proven = Instant::now();
            batch.set_tokens(self.shard, &offsets);
        }
        batch.answer(state);
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

/// What one transaction will hold, and what is to be said after it.
#[derive(Default)]
struct Batch {
    events: Vec<Envelope>,
    replies: Vec<Reply>,
    reads: Vec<Box<dyn FnOnce(Result<&ShardState, Refused>) + Send>>,
}

struct Reply {
    id: CommandId,
    /// Which of the batch's events are this command's.
    events: Range<usize>,
    answer: Result<Accepted, Refused>,
    reply: oneshot::Sender<Result<Accepted, Refused>>,
    key: Option<IdempotencyRequest>,
}

impl Batch {
    /// Decides a command; the error says why the shard cannot be trusted any more.
    fn take(&mut self, task: Task, state: &mut ShardState) -> Result<(), String> {
        let (request, id, reply) = match task {
            Task::Read(read) => {
                self.reads.push(read);
                return Ok(());
            }
            Task::Command {
                request,
                id,
                claimed,
                reply,
            } => {
                if claimed.swap(true, Ordering::AcqRel) {
                    return Ok(()); // Given up by its caller, who said that nothing was done.
                }
                (request, id, reply)
            }
        };
        let key = request.idempotency.clone();
        let replies = &self.replies;
        let in_flight = |wanted: &IdempotencyRequest| {
            replies.iter().any(|reply| {
                !reply.events.is_empty()
                    && reply
                        .key
                        .as_ref()
                        .is_some_and(|key| key.caller == wanted.caller && key.key == wanted.key)
            })
        };
        let decision = decide(state, id, *request, in_flight).map_err(|error| error.to_string())?;
        let first = self.events.len();
        self.events.extend(decision.events);
        let events = first..self.events.len();
        self.replies.push(Reply {
            id,
            events,
            answer: decision.answer,
            reply,
            key,
        });
        Ok(())
    }

    fn set_tokens(&mut self, shard: u16, offsets: &[i64]) {
        for reply in &mut self.replies {
            let last = self
                .events
                .get(reply.events.clone())
                .and_then(<[Envelope]>::last);
            let offset = offsets.get(reply.events.clone()).and_then(<[i64]>::last);
            if let (Some(last), Some(offset), Ok(accepted)) = (last, offset, &mut reply.answer) {
                accepted.set_token(token(last.event.event_type().topic(), shard, *offset));
            }
        }
    }

    fn answer(self, state: &ShardState) {
        for reply in self.replies {
            drop(reply.reply.send(reply.answer));
        }
        for read in self.reads {
            read(Ok(state));
        }
    }

    /// The transaction failed: commands with events wait for what the log says; the others were decided on
    /// a state that is not to be trusted, and can be sent again.
    fn put_in_doubt(self, in_doubt: &mut InDoubt) {
        for reply in self.replies {
            match reply.answer {
                Ok(answer) if !reply.events.is_empty() => {
                    in_doubt.insert(
                        reply.id,
                        Pending {
                            answer,
                            reply: reply.reply,
                        },
                    );
                }
                Ok(_) | Err(_) => drop(
                    reply
                        .reply
                        .send(Err(Refused::Unavailable("the shard is being read again"))),
                ),
            }
        }
        for read in self.reads {
            read(Err(Refused::Unavailable("the shard is being read again")));
        }
    }
}

fn token(topic: events::Topic, partition: u16, offset: i64) -> ConsistencyToken {
    ConsistencyToken {
        topic,
        partition,
        offset,
    }
}
