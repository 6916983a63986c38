//! Who owns which shard: a Kafka consumer group over the partitions of one topic, of which no record is ever
//! consumed. The group gives liveness and routing; safety comes from the fence of the writer (`writer.rs`).

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use events::Topic;
use parking_lot::Mutex;
use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance},
    error::{KafkaError, RDKafkaErrorCode},
};

use crate::{KafkaSettings, LogError, replay::is_passing};

const GROUP: &str = "command-api";
const POLL_WAIT: Duration = Duration::from_millis(50);
const HEARTBEAT: Duration = Duration::from_millis(500);
/// How often a member makes sure that its client still knows the cluster.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// How long that may take.
const CHECKED_WITHIN: Duration = Duration::from_secs(2);
/// After so long without the cluster a member gives its shards up and joins anew, with a new client.
const CUT_OFF_MAX: Duration = Duration::from_secs(20);

/// What a member of the group is told.
#[derive(Debug)]
pub enum Ownership {
    /// These shards are ours from now on.
    Assigned(Vec<u16>),
    /// These shards are given up. When the listener returns, others may have them: nothing may be written any more.
    Revoked(Vec<u16>),
    /// Membership ended for good, with the reason; the process cannot serve.
    Failed(String),
}

/// Hears of every change, on the group's poll thread: it should be quick.
pub type Listener = Arc<dyn Fn(Ownership) + Send + Sync>;

/// A member of the group of command nodes.
pub struct Membership {
    /// The client that is a member now.
    consumer: Arc<Mutex<Arc<BaseConsumer<Member>>>>,
    leaving: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Membership {
    /// Joins the group as `instance`; `listener` hears of every change.
    pub fn join(
        kafka: &KafkaSettings,
        instance: &str,
        listener: Listener,
    ) -> Result<Self, LogError> {
        let consumer = Arc::new(Mutex::new(Arc::new(member(kafka, instance, &listener)?)));
        let leaving = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new()
            .name("membership".to_owned())
            .spawn({
                let (consumer, leaving) = (Arc::clone(&consumer), Arc::clone(&leaving));
                let (kafka, instance) = (kafka.clone(), instance.to_owned());
                move || {
                    let join = || member(&kafka, &instance, &listener);
                    stay_member(&consumer, &leaving, &*listener, join);
                }
            })
            .map_err(|error| LogError::Topic(format!("no thread for the group: {error}")))?;
        Ok(Self {
            consumer,
            leaving,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Asks the group's coordinator whether `shard` is still ours: it accepts a commit only from a member of
    /// the current generation. A process that was fenced must hear yes before it opens a writer again.
    /// Blocks up to the session time-out; an error means that the coordinator could not be asked.
    pub fn confirm(&self, shard: u16) -> Result<bool, LogError> {
        let consumer = Arc::clone(&self.consumer.lock());
        if !consumer.context().owned.lock().contains(&shard) {
            return Ok(false);
        }
        let mut proof = TopicPartitionList::new();
        proof.add_partition_offset(Topic::Orders.name(), i32::from(shard), Offset::Offset(0))?;
        match consumer.commit(&proof, CommitMode::Sync) {
            Ok(()) => Ok(consumer.context().owned.lock().contains(&shard)),
            Err(error) if is_passing(&error) || is_rebalancing(&error) => Err(error.into()),
            Err(error) => {
                tracing::info!(shard, %error, "the group does not confirm the ownership");
                Ok(false)
            }
        }
    }

    /// Leaves the group so that others take over at once; the listener hears the last `revoked`.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the group's thread panicked");
        }
    }
}

/// Others come or go, which says nothing about our shards; soon it can be asked again.
fn is_rebalancing(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::RebalanceInProgress)
}

/// A client that is to be a member of the group.
fn member(
    kafka: &KafkaSettings,
    instance: &str,
    listener: &Listener,
) -> Result<BaseConsumer<Member>, LogError> {
    let consumer: BaseConsumer<Member> = kafka
        .client(instance)
        .set("group.id", GROUP)
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set(
            "session.timeout.ms",
            (u32::from(kafka.ownership_session_timeout_seconds) * 1_000).to_string(),
        )
        .set("heartbeat.interval.ms", HEARTBEAT.as_millis().to_string())
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "latest")
        .create_with_context(Member {
            owned: Mutex::default(),
            listener: Arc::clone(listener),
        })?;
    // One topic of the two: the shards of the other are the same partitions.
    consumer.subscribe(&[Topic::Orders.name()])?;
    Ok(consumer)
}

/// Why polling ended.
enum Ended {
    /// Asked to.
    Leaving,
    /// For good, with the reason.
    Failed(String),
    /// The client has not reached the cluster for [`CUT_OFF_MAX`].
    CutOff,
}

/// Polls until asked to leave. A client that is cut off is exchanged for a new one: librdkafka can lose all brokers for
/// ever without an error (librdkafka#5301), and where Kafka is only away a new client costs nothing.
fn stay_member(
    current: &Mutex<Arc<BaseConsumer<Member>>>,
    leaving: &AtomicBool,
    listener: &(dyn Fn(Ownership) + Send + Sync),
    join: impl Fn() -> Result<BaseConsumer<Member>, LogError>,
) {
    loop {
        let consumer = Arc::clone(&current.lock());
        match poll(&consumer, leaving) {
            Ended::Leaving => return leave(&consumer),
            Ended::Failed(reason) => return listener(Ownership::Failed(reason)),
            Ended::CutOff => {}
        }
        tracing::warn!("cut off from the group, joining it anew");
        let lost: Vec<u16> = std::mem::take(&mut *consumer.context().owned.lock())
            .into_iter()
            .collect();
        if !lost.is_empty() {
            listener(Ownership::Revoked(lost));
        }
        match join() {
            Ok(consumer) => *current.lock() = Arc::new(consumer),
            Err(error) => return listener(Ownership::Failed(error.to_string())),
        }
    }
}

fn poll(consumer: &BaseConsumer<Member>, leaving: &AtomicBool) -> Ended {
    let (mut reached, mut checked) = (Instant::now(), Instant::now());
    while !leaving.load(Ordering::Acquire) {
        match consumer.poll(POLL_WAIT) {
            // Assigned partitions are paused; what was fetched before that is of no interest.
            None | Some(Ok(_)) => {}
            Some(Err(error)) if is_passing(&error) => {
                tracing::debug!(%error, "the group's coordinator is away for the moment");
            }
            Some(Err(error)) => {
                if let Some((_, reason)) = consumer.client().fatal_error() {
                    return Ended::Failed(reason);
                }
                tracing::warn!(%error, "group membership");
            }
        }
        if checked.elapsed() >= CHECK_EVERY {
            let topic = Some(Topic::Orders.name());
            let known = consumer.client().fetch_metadata(topic, CHECKED_WITHIN);
            checked = Instant::now();
            if known.is_ok_and(|cluster| !cluster.brokers().is_empty()) {
                reached = checked;
            } else if reached.elapsed() >= CUT_OFF_MAX {
                return Ended::CutOff;
            }
        }
    }
    Ended::Leaving
}

fn leave(consumer: &BaseConsumer<Member>) {
    consumer.unsubscribe();
    // The revocation is a callback inside of poll; a bounded number of polls lets it come.
    for _ in 0..LEAVE_POLLS_MAX {
        if consumer.context().owned.lock().is_empty() {
            return;
        }
        consumer.poll(POLL_WAIT);
    }
}

/// Polls that a leaving member makes at most for its last revocation.
const LEAVE_POLLS_MAX: usize = 100;

struct Member {
    owned: Mutex<BTreeSet<u16>>,
    listener: Listener,
}

impl ClientContext for Member {}

impl ConsumerContext for Member {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Revoke(partitions) => {
                let shards = shards(partitions);
                self.owned.lock().retain(|shard| !shards.contains(shard));
                if !shards.is_empty() {
                    (self.listener)(Ownership::Revoked(shards));
                }
            }
            Rebalance::Error(error) => tracing::warn!(%error, "rebalance"),
            Rebalance::Assign(_) => {}
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(partitions) = rebalance {
            if let Err(error) = consumer.pause(partitions) {
                tracing::warn!(%error, "assigned partitions could not be paused");
            }
            let shards = shards(partitions);
            self.owned.lock().extend(&shards);
            if !shards.is_empty() {
                (self.listener)(Ownership::Assigned(shards));
            }
        }
    }
}

fn shards(partitions: &TopicPartitionList) -> Vec<u16> {
    partitions
        .elements()
        .iter()
        .filter_map(|element| u16::try_from(element.partition()).ok())
        .collect()
}
