//! Commands and questions for the shards that this node owns: into the queue of their owner, and out of it again when nobody
//! waits for them any more.

use std::sync::{Arc, atomic::Ordering};

use crossbeam_channel::TrySendError;
use events::{Topic, ids::CommandId};
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, SemaphorePermit, oneshot},
    time::{Instant, timeout_at},
};
use uuid::Uuid;

use super::{
    Shards,
    batch::{Task, Work},
    question::{Question, Told},
    request::{Accepted, Refused, Request, Why},
    routing::Elsewhere,
    span::CommandSpan,
};

/// A command, and the room that it takes up in this process.
pub struct Load {
    /// What to do.
    pub request: Request,
    /// Given back when whoever waits for the answer, and the owner, are both done with it.
    pub room: Arc<OwnedSemaphorePermit>,
}

/// What became of what was tried here.
pub enum Here<T> {
    /// The owner, or the way to him, has answered.
    Answered(Result<T, Refused>),
    /// The shard is not this node's, or not any more. Nothing was done.
    NotHere,
}

/// Why a task is not in a queue.
enum NotQueued {
    Full,
    NotHere,
}

impl Shards {
    /// How many shards there are, on all nodes together.
    pub(super) fn count(&self) -> u16 {
        self.0.count
    }

    /// The way to other nodes; none before this one is a member of the group.
    pub(super) fn elsewhere(&self) -> Option<&Elsewhere> {
        self.0.elsewhere.get()
    }

    /// Room for one more command or question that waits until the owner, who is here, can be asked again.
    pub(super) fn room_to_wait(&self, shard: u16) -> Option<SemaphorePermit<'_>> {
        let room = self.0.room_to_wait.get(usize::from(shard))?;
        room.try_acquire().ok()
    }

    /// Room for one more command or question that goes to a shard elsewhere.
    pub(super) fn room_elsewhere(&self, shard: u16) -> Option<SemaphorePermit<'_>> {
        let room = self.0.room_elsewhere.get(usize::from(shard))?;
        room.try_acquire().ok()
    }

    /// Gives a command the room that it takes up.
    pub(super) fn load(&self, request: Request) -> Result<Load, Refused> {
        let bytes = u32::try_from(request.bytes).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.0.room).try_acquire_many_owned(bytes);
        let room = room.map_err(|_| Refused::Unavailable(Why::QueueFull))?;
        Ok(Load {
            request,
            room: Arc::new(room),
        })
    }

    /// Has the shard's owner carry a command out, if he is here.
    pub(super) async fn try_here(
        &self,
        shard: u16,
        topic: Topic,
        load: &Load,
        until: Instant,
    ) -> Here<Accepted> {
        if !self.0.owned.read().contains_key(&shard) {
            return Here::NotHere;
        }
        // The caller keeps his own, for the case that this owner cannot do it and another can.
        let mut request = load.request.clone();
        let span = CommandSpan::begin(&mut request, topic, shard);
        let work = Work {
            request,
            room: Arc::clone(&load.room),
            span,
        };
        let work = Arc::new(Mutex::new(Some(work)));
        // Whether it was not taken yet, and so never will be.
        let take_back = || match work.lock().take() {
            Some(Work { span, .. }) => {
                span.given_up();
                true
            }
            None => false,
        };
        let (reply, answer) = oneshot::channel();
        let task = Task::Command {
            work: Arc::clone(&work),
            id: CommandId(Uuid::now_v7()),
            since: std::time::Instant::now(),
            reply,
        };
        let answered = match self.enqueue(shard, task) {
            Ok(()) => timeout_at(until, answer).await,
            Err(NotQueued::Full) => {
                take_back();
                return Here::Answered(Err(Refused::Unavailable(Why::QueueFull)));
            }
            Err(NotQueued::NotHere) => {
                take_back();
                return Here::NotHere;
            }
        };
        match answered {
            // Said of what is still in the queue, never of what was taken from it.
            Ok(Ok(Err(Refused::Unavailable(Why::Moves)))) => {
                take_back();
                Here::NotHere
            }
            Ok(Ok(answer)) => Here::Answered(answer),
            // The owner is gone without an answer.
            Ok(Err(_)) if take_back() => Here::NotHere,
            Err(_late) if take_back() => Here::Answered(Err(Refused::Unavailable(Why::TooLate))),
            Ok(Err(_)) | Err(_) => Here::Answered(Err(Refused::OutcomeUnknown)),
        }
    }

    /// Asks the shard's owner, if he is here.
    pub(super) async fn try_asking_here(
        &self,
        shard: u16,
        question: Question,
        until: Instant,
    ) -> Here<Told> {
        let (reply, answer) = oneshot::channel();
        match self.enqueue(shard, Task::Read { question, reply }) {
            Ok(()) => {}
            Err(NotQueued::Full) => {
                return Here::Answered(Err(Refused::Unavailable(Why::QueueFull)));
            }
            Err(NotQueued::NotHere) => return Here::NotHere,
        }
        match timeout_at(until, answer).await {
            Ok(Ok(Err(Refused::Unavailable(Why::Moves))) | Err(_)) => Here::NotHere,
            Ok(Ok(told)) => Here::Answered(told),
            Err(_late) => Here::Answered(Err(Refused::Unavailable(Why::TooLate))),
        }
    }

    fn enqueue(&self, shard: u16, task: Task) -> Result<(), NotQueued> {
        let owned = self.0.owned.read();
        let way = owned.get(&shard).ok_or(NotQueued::NotHere)?;
        way.queue.try_send(task).map_err(|refused| match refused {
            TrySendError::Full(_) => NotQueued::Full,
            TrySendError::Disconnected(_) => NotQueued::NotHere,
        })
    }

    /// A shard for a new stream: one that this node serves, if there is any. Not every one takes part: each core can keep
    /// one transaction busy, and more shards than that only make the transactions smaller.
    pub(super) fn any(&self) -> u16 {
        let turn = self.0.next.fetch_add(1, Ordering::Relaxed);
        let owned = self.0.owned.read();
        let serving = owned
            .iter()
            .filter(|(_, way)| way.serving.load(Ordering::Acquire));
        let mut shards: Vec<u16> = serving.map(|(shard, _)| *shard).collect();
        if shards.is_empty() {
            shards.extend(owned.keys());
        }
        shards.truncate(self.0.cores);
        if shards.is_empty() {
            shards.extend(0..self.count());
        }
        let one = turn.checked_rem(shards.len()).and_then(|at| shards.get(at));
        one.copied().unwrap_or_default()
    }
}
