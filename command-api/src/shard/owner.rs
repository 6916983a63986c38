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
    collections::{BTreeMap, HashMap},
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
    record::Place,
    replay::replay_shard,
    writer::{ShardWriter, WriteError},
};
use events::{Envelope, Topic, ids::CommandId};
use parking_lot::Mutex;
use runtime::{consistency::ConsistencyToken, health::Component};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::measures::MEASURES;

use super::{
    decide::decide,
    request::{Accepted, IdempotencyRequest, Refused, Request},
    span::{CommandSpan, Transaction},
    state::ShardState,
};

/// Commands in one transaction at most.
const BATCH_COMMANDS_MAX: usize = 2_000;
/// Bytes of the bodies of the commands in one transaction, beyond which no further command is added to it: so many are
/// delivered well within the time that a transaction has.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How often an idle owner looks whether it is to stop.
const STOP_CHECK: Duration = Duration::from_millis(50);
/// The waits between attempts to take a shard up.
const RETRY_WAIT_MIN: Duration = Duration::from_millis(100);
const RETRY_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long the group's word is good for answers that need no transaction: half of the shortest session that
/// Kafka allows, counted from before it was asked. Nobody else can have become the owner within it.
const CONFIRMATION_AGE_MAX: Duration = Duration::from_secs(3);
/// Why a command that was not recorded is to be sent again.
const READ_AGAIN: &str = "the shard is being read again";
/// Why something that needs no event is to be asked again.
const NOT_CONFIRMED: &str = "it cannot be confirmed now that this node owns the shard";

/// Is given what the shard knows, or why it does not say.
pub type Question = Box<dyn FnOnce(Result<&ShardState, Refused>) + Send>;

/// A command on its way.
pub struct Work {
    /// What to do.
    pub request: Request,
    /// What it weighs of all that may be under way.
    pub room: OwnedSemaphorePermit,
    /// Ends with its answer.
    pub span: CommandSpan,
}

/// What a shard is given to do.
pub enum Task {
    /// A command, and where its answer goes.
    Command {
        /// What to do, taken by whoever comes first: the owner that does it, or the caller that gives it up.
        work: Arc<Mutex<Option<Work>>>,
        /// Names the command in the log.
        id: CommandId,
        /// When it was put into the queue.
        since: Instant,
        /// Where the answer goes. Dropped without one, the outcome is unknown.
        reply: oneshot::Sender<Result<Accepted, Refused>>,
    },
    /// A question about what the shard knows.
    Read(Question),
}

impl Task {
    /// Answers that nothing was done.
    pub fn refuse(self, why: &'static str) {
        match self {
            Self::Command { work, reply, .. } => {
                if let Some(work) = work.lock().take() {
                    work.span.given_up();
                }
                // Whoever no longer waits for an answer does not miss it.
                drop(reply.send(Err(Refused::Unavailable(why))));
            }
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
    /// Set while commands are handled.
    pub serving: Arc<AtomicBool>,
    /// How the shard is.
    pub health: Component,
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

/// The last event in each topic of the shard: a read model that has it shows all that the shard knows.
type Reached = BTreeMap<Topic, i64>;

/// What an owner holds from taking a shard up until stepping down.
struct Term {
    writer: ShardWriter,
    state: ShardState,
    reached: Reached,
    /// When the group was last asked, and said, that the shard is ours.
    confirmed: Instant,
}

/// Commands whose transaction ended in an error: the log will say.
type InDoubt = HashMap<CommandId, Pending>;

struct Pending {
    answer: Accepted,
    reply: oneshot::Sender<Result<Accepted, Refused>>,
    span: CommandSpan,
    /// How many events it has.
    events: usize,
    /// Where the log holds them, as far as it was read.
    recorded: Vec<Place>,
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
                StepDown::Unconfirmed(error) => {
                    self.health
                        .waiting(format!("the group to say who owns the shard: {error}"));
                }
                StepDown::Failed(reason) => {
                    tracing::warn!(
                        shard = self.shard,
                        reason,
                        "stepped down; the shard will be read again"
                    );
                    MEASURES.step_downs.increment(1);
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
        // What an earlier attempt had read is read again.
        in_doubt
            .values_mut()
            .for_each(|pending| pending.recorded.clear());
        let mut state = ShardState::default();
        let mut reached = Reached::new();
        let mut broken = None;
        let events = replay_shard(
            &self.kafka,
            &self.schemas,
            self.shard,
            &|| !self.stopped(),
            |recorded| {
                let (command, place) = (recorded.envelope.metadata.command_id, recorded.place);
                reached.insert(place.topic, place.offset);
                if broken.is_none() {
                    broken = state
                        .apply(recorded.envelope)
                        .err()
                        .map(|error| format!("{place}: {error}"));
                }
                if let Some(pending) = in_doubt.get_mut(&command) {
                    pending.recorded.push(place);
                }
            },
        )?;
        if let Some(broken) = broken {
            return Err(StepDown::Failed(broken));
        }
        for (_, pending) in in_doubt.drain() {
            pending.answer();
        }
        let took = confirmed.elapsed();
        let duration_ms = took.as_millis() as u64;
        tracing::info!(shard = self.shard, events, duration_ms, "took the shard up");
        MEASURES.take_up.record(took);
        Ok(Term {
            writer,
            state,
            reached,
            confirmed,
        })
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
            term.state
                .forget_keys(time::OffsetDateTime::now_utc().into());
            if let Task::Command { since, .. } = &first {
                MEASURES.queue_wait.record(since.elapsed());
            }
            let mut batch = Batch::default();
            let mut next = Some(first);
            while let Some(task) = next {
                if let Err(broken) = batch.take(task, &mut term.state) {
                    batch.refuse(READ_AGAIN);
                    return Err(StepDown::Failed(broken));
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
                        batch.refuse(NOT_CONFIRMED);
                        return Ok(());
                    }
                    Err(step_down) => {
                        batch.refuse(READ_AGAIN);
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
                term.reached
                    .insert(envelope.event.event_type().topic(), *offset);
            }
            batch.set_tokens(self.shard, &offsets);
        }
        let wrote = !batch.events.is_empty();
        batch.set_other_tokens(self.shard, &term.reached);
        batch.answer(&term.state);
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

/// What one transaction will hold, and what is to be said after it.
#[derive(Default)]
struct Batch {
    events: Vec<Envelope>,
    replies: Vec<Reply>,
    reads: Vec<Question>,
    bytes: usize,
}

struct Reply {
    id: CommandId,
    /// Which of the batch's events are this command's.
    events: Range<usize>,
    answer: Result<Accepted, Refused>,
    reply: oneshot::Sender<Result<Accepted, Refused>>,
    key: Option<IdempotencyRequest>,
    span: CommandSpan,
    /// Given back with the answer.
    _room: OwnedSemaphorePermit,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.replies.len() + self.reads.len() >= BATCH_COMMANDS_MAX || self.bytes >= BATCH_BYTES_MAX
    }

    /// Decides a command; the error says why the shard cannot be trusted any more.
    fn take(&mut self, task: Task, state: &mut ShardState) -> Result<(), String> {
        let (work, id, reply) = match task {
            Task::Read(read) => {
                self.reads.push(read);
                return Ok(());
            }
            Task::Command {
                work, id, reply, ..
            } => match work.lock().take() {
                Some(work) => (work, id, reply),
                None => return Ok(()), // Given up by its caller, who said that nothing was done.
            },
        };
        let Work {
            request,
            room,
            mut span,
        } = work;
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
        let decision = match decide(state, id, request, in_flight) {
            Ok(decision) => decision,
            Err(broken) => {
                drop(reply.send(Err(Refused::Unavailable(READ_AGAIN))));
                return Err(broken.to_string());
            }
        };
        span.decided();
        self.bytes += room.num_permits();
        let first = self.events.len();
        self.events.extend(decision.events);
        let events = first..self.events.len();
        self.replies.push(Reply {
            id,
            events,
            answer: decision.answer,
            reply,
            key,
            span,
            _room: room,
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

    /// Answers without events of their own, replayed ones among them, rest on events that are there already.
    fn set_other_tokens(&mut self, shard: u16, reached: &Reached) {
        for reply in self
            .replies
            .iter_mut()
            .filter(|reply| reply.events.is_empty())
        {
            if let Ok(accepted) = &mut reply.answer
                && let Some(offset) = reached.get(&accepted.topic())
            {
                accepted.set_token(token(accepted.topic(), shard, *offset));
            }
        }
    }

    fn answer(self, state: &ShardState) {
        let transaction = Transaction {
            events: self.events.len(),
            commands: self.replies.len(),
        };
        for reply in self.replies {
            reply.span.answered(&reply.answer, Some(transaction));
            drop(reply.reply.send(reply.answer));
        }
        for read in self.reads {
            read(Ok(state));
        }
    }

    /// Nothing of the batch was sent to the log, so nothing was done.
    fn refuse(self, why: &'static str) {
        for reply in self.replies {
            let refused = Err(Refused::Unavailable(why));
            reply.span.answered(&refused, None);
            drop(reply.reply.send(refused));
        }
        for read in self.reads {
            read(Err(Refused::Unavailable(why)));
        }
    }

    /// The transaction failed: commands with events wait for what the log says; the others were decided on
    /// a state that is not to be trusted, and can be sent again.
    fn put_in_doubt(mut self, in_doubt: &mut InDoubt) {
        let (written, others) = std::mem::take(&mut self.replies)
            .into_iter()
            .partition(|reply| reply.answer.is_ok() && !reply.events.is_empty());
        self.replies = others;
        self.refuse(READ_AGAIN);
        let written: Vec<Reply> = written;
        for Reply {
            id,
            events,
            answer,
            reply,
            span,
            ..
        } in written
        {
            if let Ok(answer) = answer {
                let pending = Pending {
                    answer,
                    reply,
                    span,
                    events: events.len(),
                    recorded: Vec::new(),
                };
                in_doubt.insert(id, pending);
            }
        }
    }
}

impl Pending {
    /// Says what the log says, once the shard was read to its end.
    fn answer(mut self) {
        let answer = match self.recorded.last() {
            Some(last) if self.recorded.len() == self.events => {
                let token = token(last.topic, last.partition, last.offset);
                self.answer.set_token(token);
                Ok(self.answer)
            }
            Some(last) => {
                tracing::error!(at = %last, "the log holds a part of a command");
                Err(Refused::OutcomeUnknown)
            }
            None => Err(Refused::Unavailable("the command was not recorded")),
        };
        self.span.answered(&answer, None);
        drop(self.reply.send(answer));
    }
}

fn token(topic: Topic, partition: u16, offset: i64) -> ConsistencyToken {
    ConsistencyToken {
        topic,
        partition,
        offset,
    }
}
