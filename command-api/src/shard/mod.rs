//! Shards: the single writers of the log, and the way for a command to its writer.
//!
//! Nothing outside this folder knows how a command becomes a fact; nothing in it knows HTTP, and only `peers.rs` knows how
//! another node is reached.

mod attempts;
mod batch;
mod decide;
mod directory;
mod here;
mod ids;
mod known;
mod owner;
mod peers;
mod question;
mod request;
mod routing;
mod saver;
mod span;
mod state;
mod store;
mod verify;
pub mod wire;

#[cfg(test)]
mod tests;

use std::{
    cell::Cell,
    collections::BTreeMap,
    num::NonZero,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use batch::Task;
use crossbeam_channel::Sender;
use directory::Directory;
use domain::user;
use event_log::{
    KafkaSettings, LogError, Schemas,
    membership::{Group, Membership, Ownership},
    topics,
};
use events::StreamVersion;
use metrics::Gauge;
use owner::Owner;
use parking_lot::{Mutex, RwLock};
use peers::Peers;
use routing::{Elsewhere, FORWARDED_MAX};
use runtime::health::{Component, Health};
use store::Opening;
use tokio::sync::{Semaphore, watch};

use crate::{
    identity::node_tokens::NodeSigner,
    measures::{self, ShardGauges},
};

pub use known::{KeyName, Resource};
pub use owner::StateSettings;
pub use peers::{Errand, FORWARDED_BYTES_MAX};
pub use question::{Question, Told};
#[cfg(test)]
pub use request::Why;
pub use request::{Accepted, Answer, Command, IdempotencyRequest, Refused, Request};
pub use verify::verify;

/// Commands that wait for one shard at most; more are refused.
const QUEUE_COMMANDS_MAX: usize = 4_096;
/// Commands and questions for one shard at most that pause before they are put into its queue once more; more are refused.
const PAUSED_MAX: usize = 4_096;
/// Bytes of the bodies of all commands under way at most, in the whole process; more commands are refused. Each may be in
/// memory three times: as its caller keeps it for another attempt, as the owner has it, and as it goes to another node.
const UNDER_WAY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long a caller waits for the answer to a command.
const COMMAND_DEADLINE: Duration = Duration::from_secs(10);
/// How long giving a shard up waits for the batch under way; the fence covers what takes longer.
const GIVE_UP_WAIT_MAX: Duration = Duration::from_secs(5);
const GIVE_UP_CHECK: Duration = Duration::from_millis(2);

/// What a node waits for until shards are its own.
pub const OWNERSHIP: &str = "ownership";
const NO_SHARDS: &str = "the group has given this node no shards";

/// Where a node keeps the states of its shards.
#[derive(Debug, Clone, clap::Args)]
pub struct StateDirectory {
    /// The directory for the states of shards, of this node alone. It is a cache of the log: without it, or with one that
    /// is damaged, the shards are read from the beginning of the log.
    #[arg(long, env = "COMMAND_API_STATE_DIR")]
    pub command_api_state_dir: PathBuf,
    /// How much of the states is held in memory, in MiB, all shards together.
    #[arg(long, env = "COMMAND_API_STATE_CACHE_MIB", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    pub command_api_state_cache_mib: u16,
}

impl StateDirectory {
    fn of_each(&self, shards: u16) -> StateSettings {
        let cache_bytes = usize::from(self.command_api_state_cache_mib) * 1024 * 1024;
        StateSettings {
            dir: self.command_api_state_dir.clone(),
            cache_bytes: cache_bytes / usize::from(shards.max(1)),
        }
    }
}

/// The way to every shard: those that this process owns, and those of other nodes.
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
    /// How many may pause before they are put into the queue of each shard once more.
    room_to_wait: Vec<Semaphore>,
    /// How many may be on their way to each shard of another node.
    room_elsewhere: Vec<Semaphore>,
    /// The way to other nodes; there from the moment this node is one of them.
    elsewhere: OnceLock<Elsewhere>,
}

/// This node, as others know it.
pub struct Node {
    /// Its name.
    pub instance: String,
    /// Where others reach it: host:port.
    pub address: String,
    /// What it proves with that it is one.
    pub signer: NodeSigner,
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
    /// Joins the owners of shards as `node`. To be called within the runtime that outlives every request.
    pub async fn join(
        kafka: KafkaSettings,
        schemas: Arc<Schemas>,
        node: Node,
        state: &StateDirectory,
        health: Health,
    ) -> Result<(Self, Ownerships), LogError> {
        let count = topics::check(&kafka).await?;
        let one_each = |room| (0..count).map(|_| Semaphore::new(room)).collect();
        let shards = Self(Arc::new(Inner {
            count,
            owned: RwLock::default(),
            next: AtomicUsize::new(0),
            cores: std::thread::available_parallelism().map_or(1, NonZero::get),
            room: Arc::new(Semaphore::new(UNDER_WAY_BYTES_MAX)),
            gauges: (0..count).map(ShardGauges::of).collect(),
            under_way: metrics::gauge!("command_api_under_way_bytes"),
            room_to_wait: one_each(PAUSED_MAX),
            room_elsewhere: one_each(FORWARDED_MAX),
            elsewhere: OnceLock::new(),
        }));
        measures::limits(QUEUE_COMMANDS_MAX, UNDER_WAY_BYTES_MAX);
        let (failed, failure) = watch::channel(None);
        let ownership = health.component(OWNERSHIP);
        ownership.waiting(NO_SHARDS);
        // The owners need the membership, whose listener makes them: it is handed over once it is there.
        let (hand_over, handed_over) = crossbeam_channel::bounded::<Arc<Membership>>(1);
        let landlord = Landlord {
            shards: shards.clone(),
            kafka: kafka.clone(),
            schemas,
            state: state.of_each(count),
            health,
            ownership,
            failed,
            running: Mutex::default(),
        };
        let membership = Mutex::new(None);
        let listener = move |change| match change {
            Ownership::Assigned(none) if none.is_empty() => {}
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
        let membership = Membership::join(
            &kafka,
            Group::of_command_nodes(&kafka, count),
            &node.instance,
            &node.address,
            Arc::new(listener),
        )?;
        let membership = Arc::new(membership);
        let elsewhere = Elsewhere {
            directory: Directory::new(Arc::clone(&membership), &node.address, count),
            peers: Peers::new(node.signer),
        };
        drop(shards.0.elsewhere.set(elsewhere));
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
    state: StateSettings,
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
            shards: self.shards.0.count,
            state: self.state.clone(),
            kafka: self.kafka.clone(),
            schemas: Arc::clone(&self.schemas),
            membership: Arc::clone(membership),
            tasks,
            stop: Arc::clone(&stop),
            serving: Arc::clone(&serving),
            health: self.health.component(format!("shard {shard}")),
            opening: Cell::new(Opening::Checked),
        };
        // Not ready from this moment on, so that readiness never flickers.
        owner.health.waiting("taking the shard up");
        let dies = PanicAlarm {
            shard,
            state: self.state.dir.clone(),
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
    state: PathBuf,
    failed: watch::Sender<Option<String>>,
}

impl Drop for PanicAlarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Whatever in the store led there, the next process does not meet it again.
            drop(store::throw_away(
                &self.state,
                self.shard,
                &"its owner panicked",
            ));
            drop(
                self.failed
                    .send(Some(format!("the owner of shard {} panicked", self.shard))),
            );
        }
    }
}
