//! Shards: the single writers of the log, and the way for a command to its writer.
//!
//! Nothing outside this folder knows how a command becomes a fact; nothing in it knows HTTP.

mod decide;
mod ids;
mod owner;
mod request;
mod span;
mod state;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crossbeam_channel::{Sender, TrySendError};
use domain::{order, user};
use event_log::{
    KafkaSettings, LogError, Schemas,
    membership::{Membership, Ownership},
    topics,
};
use events::{
    StreamVersion, Topic,
    ids::{CommandId, EmailHash, OrderId, UserId},
};
use metrics::Gauge;
use owner::{Owner, Task, Work};
use parking_lot::{Mutex, RwLock};
use runtime::health::{Component, Health};
use span::CommandSpan;
use tokio::sync::{Semaphore, oneshot, watch};
use uuid::Uuid;

use crate::measures::{self, Kind, MEASURES, ShardGauges};

pub use request::{Accepted, Answer, Command, IdempotencyRequest, Refused, Request};

/// Commands that wait for one shard at most; more are refused.
const QUEUE_COMMANDS_MAX: usize = 4_096;
/// Bytes of the bodies of all commands under way at most, in the whole process; more commands are refused.
const UNDER_WAY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long a caller waits for the answer to a command.
const COMMAND_DEADLINE: Duration = Duration::from_secs(10);
/// How long giving a shard up waits for the batch under way; the fence covers what takes longer.
const GIVE_UP_WAIT_MAX: Duration = Duration::from_secs(5);
const GIVE_UP_CHECK: Duration = Duration::from_millis(2);

const NO_SHARDS: &str = "the group has given this node no shards";
const QUEUE_FULL: &str = "too many commands are waiting";
const TOO_LATE: &str = "the shard did not get to the command in time";

/// The way to every shard that this process owns.
#[derive(Clone)]
pub struct Shards(Arc<Inner>);

struct Inner {
    count: u16,
    /// The owned shards.
    owned: RwLock<BTreeMap<u16, Way>>,
    /// For spreading new streams over them.
    next: AtomicUsize,
    /// How many processors this process may use.
    cores: usize,
    /// The bytes that commands under way may still add.
    room: Arc<Semaphore>,
    /// How each shard is, for Prometheus.
    gauges: Vec<ShardGauges>,
    under_way: Gauge,
}

/// The way to one owner.
struct Way {
    queue: Sender<Task>,
    /// Whether it handles commands, or is still taking the shard up.
    serving: Arc<AtomicBool>,
}

/// A user as his shard knows him.
#[derive(Debug, Clone)]
pub struct KnownUser {
    /// The user.
    user: Arc<user::User>,
    /// The version of his stream.
    pub version: StreamVersion,
}

impl std::ops::Deref for KnownUser {
    type Target = user::User;
    fn deref(&self) -> &user::User {
        &self.user
    }
}

/// Keeps this process in the group of owners.
pub struct Ownerships {
    membership: Arc<Membership>,
    failure: watch::Receiver<Option<String>>,
}

impl Shards {
    /// Joins the owners of shards as `instance`.
    pub async fn join(
        kafka: KafkaSettings,
        schemas: Arc<Schemas>,
        instance: &str,
        health: Health,
    ) -> Result<(Self, Ownerships), LogError> {
        let count = topics::partition_count(&kafka).await?;
        let shards = Self(Arc::new(Inner {
            count,
            owned: RwLock::default(),
            next: AtomicUsize::new(0),
            cores: std::thread::available_parallelism().map_or(1, NonZero::get),
            room: Arc::new(Semaphore::new(UNDER_WAY_BYTES_MAX)),
            gauges: (0..count).map(ShardGauges::of).collect(),
            under_way: metrics::gauge!("command_api_under_way_bytes"),
        }));
        measures::limits(QUEUE_COMMANDS_MAX, UNDER_WAY_BYTES_MAX);
        let (failed, failure) = watch::channel(None);
        let ownership = health.component("ownership");
        ownership.waiting(NO_SHARDS);
        // The owners need the membership, whose listener makes them: it is handed over once it is there.
        let (hand_over, handed_over) = crossbeam_channel::bounded::<Arc<Membership>>(1);
        let landlord = Landlord {
            shards: shards.clone(),
            kafka: kafka.clone(),
            schemas,
            health,
            ownership,
            failed,
            running: Mutex::default(),
        };
        let membership = Mutex::new(None);
        let listener = move |change| match change {
            Ownership::Assigned(assigned) => {
                let mut slot = membership.lock();
                let Some(member) = slot.take().or_else(|| handed_over.recv().ok()) else {
                    return;
                };
                landlord.assigned(assigned, &member);
                *slot = Some(member);
            }
            Ownership::Revoked(revoked) => landlord.revoked(&revoked),
            Ownership::Failed(reason) => drop(landlord.failed.send(Some(reason))),
        };
        let membership = Arc::new(Membership::join(&kafka, instance, Arc::new(listener))?);
        // The receiver lives in the listener, which lives in the membership.
        drop(hand_over.send(Arc::clone(&membership)));
        Ok((
            shards,
            Ownerships {
                membership,
                failure,
            },
        ))
    }

    /// Tells Prometheus how the shards are.
    pub fn report(&self) {
        let inner = &self.0;
        let owned = inner.owned.read();
        for (shard, gauges) in (0..).zip(&inner.gauges) {
            let way = owned.get(&shard);
            let is_serving = way.is_some_and(|way| way.serving.load(Ordering::Acquire));
            gauges.set(is_serving, way.map(|way| way.queue.len()));
        }
        let under_way = UNDER_WAY_BYTES_MAX.saturating_sub(inner.room.available_permits());
        inner.under_way.set(under_way as f64);
    }

    /// Carries a command out. The answer comes after the commit.
    pub async fn submit(&self, request: Request) -> Result<Accepted, Refused> {
        let kind = Kind::of(&request.command);
        let answer = self.carry_out(request).await;
        MEASURES.answered(kind, &answer);
        answer
    }

    async fn carry_out(&self, mut request: Request) -> Result<Accepted, Refused> {
        let count = self.0.count;
        let (shard, topic) = match &request.command {
            Command::Order { id, .. } => (ids::shard_of(id, count), Topic::Orders),
            Command::User { id, .. } => (ids::shard_of(id, count), Topic::Users),
            Command::Register { email_hash, .. } => {
                (ids::shard_of(email_hash, count), Topic::Users)
            }
        };
        let bytes = u32::try_from(request.bytes).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.0.room).try_acquire_many_owned(bytes);
        let room = room.map_err(|_| Refused::Unavailable(QUEUE_FULL))?;
        let span = CommandSpan::begin(&mut request, topic, shard);
        let work = Work {
            request,
            room,
            span,
        };
        let work = Arc::new(Mutex::new(Some(work)));
        let (reply, answer) = oneshot::channel();
        let task = Task::Command {
            work: Arc::clone(&work),
            id: CommandId(Uuid::now_v7()),
            since: Instant::now(),
            reply,
        };
        self.enqueue(shard, task)?;
        match tokio::time::timeout(COMMAND_DEADLINE, answer).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(_dropped)) => Err(Refused::OutcomeUnknown),
            // Not taken yet, it never will be now, and what it weighed is given back.
            Err(_late) => Err(match work.lock().take() {
                Some(work) => {
                    work.span.given_up();
                    Refused::Unavailable(TOO_LATE)
                }
                None => Refused::OutcomeUnknown,
            }),
        }
    }

    /// An id for a new order: on the shard of (caller, key) where there is a key, else on one of the owned.
    pub fn new_order_id(&self, key: Option<(UserId, &str)>) -> Result<OrderId, Refused> {
        let shard = match key {
            Some((caller, key)) => ids::shard_of_key(caller, key, self.0.count),
            None => self.any_owned().ok_or(Refused::NotOwner)?,
        };
        Ok(ids::draw_order(shard, self.0.count))
    }

    /// An id for the user who claims this address: on the address's shard.
    pub fn new_user_id(&self, email: EmailHash) -> UserId {
        ids::draw_user(ids::shard_of(email, self.0.count), self.0.count)
    }

    /// The user who has claimed this address.
    pub async fn user_of(&self, email: EmailHash) -> Result<Option<KnownUser>, Refused> {
        let shard = ids::shard_of(email, self.0.count);
        let claimed_by = self
            .read(shard, move |state| state.email(email).state.claimed_by())
            .await?;
        match claimed_by {
            Some(id) => self.user(id).await,
            None => Ok(None),
        }
    }

    /// The user of this id, unless erased.
    pub async fn user(&self, id: UserId) -> Result<Option<KnownUser>, Refused> {
        let shard = ids::shard_of(id, self.0.count);
        let known = self.read(shard, move |state| state.user(id)).await?;
        let version = known.version;
        Ok(match known.state {
            user::State::Active(user) => Some(KnownUser { user, version }),
            user::State::NotRegistered | user::State::Erased(_) => None,
        })
    }

    /// Whether there was a user of this id who is erased.
    pub async fn is_erased(&self, id: UserId) -> Result<bool, Refused> {
        let shard = ids::shard_of(id, self.0.count);
        let state = self.read(shard, move |state| state.user(id).state).await?;
        Ok(matches!(state, user::State::Erased(_)))
    }

    /// The order of this id as it is now.
    pub async fn order(&self, id: OrderId) -> Result<order::State, Refused> {
        self.read(ids::shard_of(id, self.0.count), move |state| {
            state.order(id).state
        })
        .await
    }

    async fn read<T: Send + 'static>(
        &self,
        shard: u16,
        read: impl FnOnce(&state::ShardState) -> T + Send + 'static,
    ) -> Result<T, Refused> {
        let (reply, answer) = oneshot::channel();
        let task = Task::Read(Box::new(move |state| drop(reply.send(state.map(read)))));
        self.enqueue(shard, task)?;
        match tokio::time::timeout(COMMAND_DEADLINE, answer).await {
            Ok(Ok(read)) => read,
            Ok(Err(_)) | Err(_) => Err(Refused::Unavailable(TOO_LATE)),
        }
    }

    fn enqueue(&self, shard: u16, task: Task) -> Result<(), Refused> {
        let owned = self.0.owned.read();
        let way = owned.get(&shard).ok_or(Refused::NotOwner)?;
        way.queue.try_send(task).map_err(|refused| match refused {
            TrySendError::Full(_) => Refused::Unavailable(QUEUE_FULL),
            TrySendError::Disconnected(_) => Refused::NotOwner,
        })
    }

    /// A shard for a new stream: one that is being served, if any is. Not every one takes part: each core can keep one
    /// transaction busy, and more shards than that only make the transactions smaller.
    fn any_owned(&self) -> Option<u16> {
        let owned = self.0.owned.read();
        let serving = owned
            .iter()
            .filter(|(_, way)| way.serving.load(Ordering::Acquire));
        let mut shards: Vec<u16> = serving.map(|(shard, _)| *shard).collect();
        if shards.is_empty() {
            shards.extend(owned.keys());
        }
        shards.truncate(self.0.cores);
        let turn = self.0.next.fetch_add(1, Ordering::Relaxed);
        shards.get(turn.checked_rem(shards.len())?).copied()
    }
}

impl Ownerships {
    /// Ends with the reason when the process can no longer own anything.
    pub async fn failed(&mut self) -> String {
        match self.failure.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the listener of the group is gone".to_owned(),
        }
    }

    /// Leaves the group: finishes the batches under way, gives every shard up. Blocks.
    pub fn leave(&self) {
        self.membership.leave();
    }
}

/// Starts an owner for each shard that the group gives to this node, and ends it when the group takes the shard back.
struct Landlord {
    shards: Shards,
    kafka: KafkaSettings,
    schemas: Arc<Schemas>,
    health: Health,
    ownership: Component,
    failed: watch::Sender<Option<String>>,
    running: Mutex<BTreeMap<u16, Running>>,
}

/// The thread of an owner.
struct Running {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Landlord {
    fn assigned(&self, shards: Vec<u16>, membership: &Arc<Membership>) {
        for shard in shards {
            match self.start(shard, membership) {
                Ok(owner) => drop(self.running.lock().insert(shard, owner)),
                Err(error) => {
                    let reason = format!("no thread for shard {shard}: {error}");
                    drop(self.failed.send(Some(reason)));
                }
            }
        }
        self.ownership.ready();
    }

    fn start(&self, shard: u16, membership: &Arc<Membership>) -> std::io::Result<Running> {
        let (queue, tasks) = crossbeam_channel::bounded(QUEUE_COMMANDS_MAX);
        let (stop, serving) = (Arc::default(), Arc::default());
        let owner = Owner {
            shard,
            kafka: self.kafka.clone(),
            schemas: Arc::clone(&self.schemas),
            membership: Arc::clone(membership),
            tasks,
            stop: Arc::clone(&stop),
            serving: Arc::clone(&serving),
            health: self.health.component(format!("shard {shard}")),
        };
        // Not ready from this moment on, so that readiness never flickers.
        owner.health.waiting("taking the shard up");
        let dies = PanicAlarm {
            shard,
            failed: self.failed.clone(),
        };
        let thread = std::thread::Builder::new()
            .name(format!("shard-{shard}"))
            .spawn(move || {
                let _alarm = dies;
                owner.run();
            })?;
        let way = Way { queue, serving };
        self.shards.0.owned.write().insert(shard, way);
        Ok(Running { stop, thread })
    }

    /// Stops owners and waits, bounded, until they have.
    fn revoked(&self, shards: &[u16]) {
        tracing::info!(?shards, "giving shards up");
        let mut running = self.running.lock();
        let mut owned = self.shards.0.owned.write();
        let mut ending = Vec::new();
        for shard in shards {
            owned.remove(shard);
            if let Some(owner) = running.remove(shard) {
                owner.stop.store(true, Ordering::Release);
                ending.push((*shard, owner.thread));
            }
        }
        drop(owned);
        let until = Instant::now() + GIVE_UP_WAIT_MAX;
        for (shard, thread) in ending {
            while !thread.is_finished() && Instant::now() < until {
                std::thread::sleep(GIVE_UP_CHECK);
            }
            if !thread.is_finished() {
                tracing::warn!(
                    shard,
                    "the batch under way takes long; its outcome is the log's to tell"
                );
            }
        }
        if running.is_empty() {
            self.ownership.waiting(NO_SHARDS);
        }
    }
}

/// Says so when the thread that holds it panics.
struct PanicAlarm {
    shard: u16,
    failed: watch::Sender<Option<String>>,
}

impl Drop for PanicAlarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            drop(
                self.failed
                    .send(Some(format!("the owner of shard {} panicked", self.shard))),
            );
        }
    }
}
