//! What an owner does together: takes commands and questions from the queue, decides the commands, and has one answer for
//! each, which leaves after the commit. After a commit that failed they are in doubt, until the log was read.

use std::{collections::HashMap, ops::Range, sync::Arc, time::Instant};

use event_log::record::Place;
use events::{Envelope, Topic, ids::CommandId};
use parking_lot::Mutex;
use runtime::consistency::ConsistencyToken;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{
    COMMAND_DEADLINE,
    decide::decide,
    question::{Question, Told},
    request::{Accepted, Refused, Request, Why},
    span::{CommandSpan, Transaction},
    state::{ShardState, StateError},
    store::Reflected,
};

/// Commands in one transaction at most.
const BATCH_COMMANDS_MAX: usize = 2_000;
/// Bytes of the bodies of the commands in one transaction, beyond which no further command is added to it: so many are
/// delivered well within the time that a transaction has.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Where the answer to a question goes.
pub type Asking = oneshot::Sender<Result<Told, Refused>>;

/// A command on its way.
pub struct Work {
    /// What to do.
    pub request: Request,
    /// What it weighs of all that may be under way.
    pub room: Arc<OwnedSemaphorePermit>,
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
    /// A question about what the shard knows, and where its answer goes.
    Read {
        /// What is asked.
        question: Question,
        /// Where the answer goes. Dropped without one, it may be asked again.
        reply: Asking,
    },
}

impl Task {
    /// Answers that nothing was done, and never will be.
    pub fn refuse(self, why: Why) {
        match self {
            // The work stays where its caller takes it back, so that no other owner finds it. Whoever no longer waits for an
            // answer does not miss it.
            Self::Command { reply, .. } => drop(reply.send(Err(Refused::Unavailable(why)))),
            Self::Read { reply, .. } => drop(reply.send(Err(Refused::Unavailable(why)))),
        }
    }
}

/// What one transaction will hold, and what is to be said after it.
#[derive(Default)]
pub struct Batch {
    /// The events of all its commands, in the order in which these were decided.
    pub events: Vec<Envelope>,
    replies: Vec<Reply>,
    reads: Vec<(Question, Asking)>,
    bytes: usize,
}

struct Reply {
    id: CommandId,
    /// Which of the batch's events are this command's.
    events: Range<usize>,
    answer: Result<Accepted, Refused>,
    reply: oneshot::Sender<Result<Accepted, Refused>>,
    span: CommandSpan,
    /// Given back when the caller, too, is done with it.
    _room: Arc<OwnedSemaphorePermit>,
}

impl Batch {
    /// Whether no further command is to be added.
    pub fn is_full(&self) -> bool {
        self.replies.len() + self.reads.len() >= BATCH_COMMANDS_MAX || self.bytes >= BATCH_BYTES_MAX
    }

    /// Decides a command; the error says why the shard cannot be trusted any more.
    pub fn take(&mut self, task: Task, state: &mut ShardState) -> Result<(), StateError> {
        let (work, id, reply) = match task {
            Task::Read { question, reply } => {
                if !reply.is_closed() {
                    self.reads.push((question, reply));
                }
                return Ok(());
            }
            Task::Command {
                work,
                id,
                since,
                reply,
            } => match work.lock().take() {
                // Nobody waits for it any more: whoever sent it may have sent it again since.
                Some(work) if reply.is_closed() || since.elapsed() >= COMMAND_DEADLINE => {
                    work.span.given_up();
                    drop(reply.send(Err(Refused::Unavailable(Why::TooLate))));
                    return Ok(());
                }
                Some(work) => (work, id, reply),
                None => return Ok(()), // Given up by its caller, who said that nothing was done.
            },
        };
        let Work {
            request,
            room,
            mut span,
        } = work;
        let decision = match decide(state, id, request) {
            Ok(decision) => decision,
            Err(error) => {
                drop(reply.send(Err(Refused::Unavailable(Why::ReadAgain))));
                return Err(error);
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
            span,
            _room: room,
        });
        Ok(())
    }

    /// The events of the batch are in `shard`, at these offsets.
    pub fn set_tokens(&mut self, shard: u16, offsets: &[i64]) {
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
    pub fn set_other_tokens(&mut self, shard: u16, reached: &Reflected) {
        for reply in self
            .replies
            .iter_mut()
            .filter(|reply| reply.events.is_empty())
        {
            if let Ok(accepted) = &mut reply.answer
                && let Some(last) = reached.get(&accepted.topic())
            {
                accepted.set_token(token(accepted.topic(), shard, last.offset));
            }
        }
    }

    /// Says what was decided, and answers the questions. To be called when all of it is true.
    pub fn answer(self, state: &mut ShardState) -> Result<(), StateError> {
        let transaction = Transaction {
            events: self.events.len(),
            commands: self.replies.len(),
        };
        for reply in self.replies {
            reply.span.answered(&reply.answer, Some(transaction));
            drop(reply.reply.send(reply.answer));
        }
        for (question, reply) in self.reads {
            match question.answer(state) {
                Ok(told) => drop(reply.send(Ok(told))),
                Err(error) => {
                    drop(reply.send(Err(Refused::Unavailable(Why::ReadAgain))));
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Nothing of the batch was sent to the log, so nothing was done.
    pub fn refuse(self, why: Why) {
        for reply in self.replies {
            let refused = Err(Refused::Unavailable(why));
            reply.span.answered(&refused, None);
            drop(reply.reply.send(refused));
        }
        for (_, reply) in self.reads {
            drop(reply.send(Err(Refused::Unavailable(why))));
        }
    }

    /// The transaction failed: commands with events wait for what the log says; the others were decided on
    /// a state that is not to be trusted, and can be sent again.
    pub fn put_in_doubt(mut self, in_doubt: &mut InDoubt) {
        let (written, others) = std::mem::take(&mut self.replies)
            .into_iter()
            .partition(|reply| reply.answer.is_ok() && !reply.events.is_empty());
        self.replies = others;
        self.refuse(Why::ReadAgain);
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
                in_doubt.0.insert(id, pending);
            }
        }
    }
}

/// Commands whose transaction ended in an error: the log will say.
#[derive(Default)]
pub struct InDoubt(HashMap<CommandId, Pending>);

struct Pending {
    answer: Accepted,
    reply: oneshot::Sender<Result<Accepted, Refused>>,
    span: CommandSpan,
    /// How many events it has.
    events: usize,
    /// Where the log holds them, as far as it was read.
    recorded: Vec<Place>,
}

impl InDoubt {
    /// The log has an event of this command there. It counts once: an attempt to read that failed may have come by before.
    pub fn found(&mut self, command: CommandId, place: Place) {
        if let Some(pending) = self.0.get_mut(&command)
            && !pending.recorded.contains(&place)
        {
            pending.recorded.push(place);
        }
    }

    /// Tells each what the log says. To be called when the shard was read to its end.
    pub fn answer(&mut self) {
        for (_, pending) in self.0.drain() {
            pending.answer();
        }
    }
}

impl Pending {
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
            None => Err(Refused::Unavailable(Why::NotRecorded)),
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

#[cfg(test)]
mod tests;
