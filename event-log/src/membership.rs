//! Who owns which partitions: a Kafka consumer group over those of one topic, of which no record is ever
//! consumed. The group gives liveness and routing; safety comes from elsewhere: for writers of the log from their fence
//! (`writer.rs`), for read models from the checkpoint, which moves only from where its reader found it.
//!
//! The proof that a shard is a node's own is an offset that it commits to the group, and what the commit carries beside the
//! offset is the address where the node takes what is meant for the shard. So the group is also the directory of owners.

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
    metadata::Metadata,
};

use crate::{KafkaSettings, LogError, replay::is_passing};

const POLL_WAIT: Duration = Duration::from_millis(50);
const HEARTBEAT: Duration = Duration::from_millis(500);
/// How long asking the group for the owners may take.
const OWNERS_WITHIN: Duration = Duration::from_secs(2);
/// How often a member makes sure that its client still knows the cluster.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// How long that may take.
const CHECKED_WITHIN: Duration = Duration::from_secs(2);
/// After so long without the cluster a member gives its shards up and joins anew, with a new client.
const CUT_OFF_MAX: Duration = Duration::from_secs(20);

/// A group, and what its members share out among them.
#[derive(Debug, Clone)]
pub struct Group {
    /// Its name in Kafka.
    pub name: String,
    /// The topic whose partitions are shared out.
    pub topic: Topic,
    /// How many there are.
    pub shards: u16,
    /// How long it waits for a silent member before another takes over what is his; Kafka accepts 6 s and more.
    pub session_timeout: Duration,
}

impl Group {
    /// The group of command nodes, over `shards` shards. One topic of the two: the shards of the other are the same
    /// partitions.
    pub fn of_command_nodes(kafka: &KafkaSettings, shards: u16) -> Self {
        Self {
            name: "command-api".to_owned(),
            topic: Topic::Orders,
            shards,
            session_timeout: Duration::from_secs(kafka.ownership_session_timeout_seconds.into()),
        }
    }
}

/// What a member of the group is told.
#[derive(Debug)]
pub enum Ownership {
    /// These shards are ours from now on; none, when there are more members than shards.
    Assigned(Vec<u16>),
    /// These shards are given up. When the listener returns, others may have them: nothing may be written any more.
    Revoked(Vec<u16>),
    /// Membership ended for good, with the reason; the process cannot serve.
    Failed(String),
}

/// Hears of every change, on the group's poll thread: it should be quick.
pub type Listener = Arc<dyn Fn(Ownership) + Send + Sync>;

/// Who has last shown the group that a shard is his own. He may have lost it since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LastOwner {
    /// Nobody ever has.
    Nobody,
    /// A node of another version, which says nothing about where it is.
    Somewhere,
    /// The node at this address.
    At(Arc<str>),
}

/// A member of a group.
pub struct Membership {
    topic: Topic,
    /// The client that is a member now.
    consumer: Arc<Mutex<Arc<BaseConsumer<Member>>>>,
    /// Where this node takes what is meant for its shards.
    address: String,
    leaving: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Membership {
    /// Joins the group as `instance`, which others reach at `address`; `listener` hears of every change. Membership ends
    /// when the topics no longer have as many partitions as the group shares out.
    pub fn join(
        kafka: &KafkaSettings,
        group: Group,
        instance: &str,
        address: &str,
        listener: Listener,
    ) -> Result<Self, LogError> {
        let topic = group.topic;
        let first = member(kafka, &group, instance, &listener)?;
        let consumer = Arc::new(Mutex::new(Arc::new(first)));
        let leaving = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new()
            .name("membership".to_owned())
            .spawn({
                let (consumer, leaving) = (Arc::clone(&consumer), Arc::clone(&leaving));
                let (kafka, instance) = (kafka.clone(), instance.to_owned());
                move || {
                    let join = || member(&kafka, &group, &instance, &listener);
                    stay_member(&consumer, &leaving, group.shards, &*listener, join);
                }
            })
            .map_err(|error| LogError::Topic(format!("no thread for the group: {error}")))?;
        Ok(Self {
            topic,
            consumer,
            address: address.to_owned(),
            leaving,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Asks the group's coordinator whether `shard` is still ours: it accepts a commit only from a member of
    /// the current generation. A process that was fenced must hear yes before it opens a writer again.
    /// With a yes, [`Membership::owners`] names this node's address from now on.
    /// Blocks up to the session time-out; an error means that the coordinator could not be asked.
    pub fn confirm(&self, shard: u16) -> Result<bool, LogError> {
        let consumer = Arc::clone(&self.consumer.lock());
        if !consumer.context().owned.lock().contains(&shard) {
            return Ok(false);
        }
        let mut proof = TopicPartitionList::new();
        let mut shown = proof.add_partition(self.topic.name(), i32::from(shard));
        shown.set_offset(Offset::Offset(0))?;
        shown.set_metadata(&self.address);
        match consumer.commit(&proof, CommitMode::Sync) {
            Ok(()) => Ok(consumer.context().owned.lock().contains(&shard)),
            Err(error) if is_passing(&error) || is_rebalancing(&error) => Err(error.into()),
            Err(error) => {
                tracing::info!(shard, %error, "the group does not confirm the ownership");
                Ok(false)
            }
        }
    }

    /// Who has last shown that he owns each of this many shards. Blocks, 2 s at most.
    pub fn owners(&self, shards: u16) -> Result<Vec<LastOwner>, LogError> {
        let consumer = Arc::clone(&self.consumer.lock());
        let mut asked = TopicPartitionList::new();
        for shard in 0..shards {
            asked.add_partition(self.topic.name(), i32::from(shard));
        }
        let known = consumer.committed_offsets(asked, OWNERS_WITHIN)?;
        let mut owners = vec![LastOwner::Nobody; usize::from(shards)];
        for element in known.elements() {
            element.error()?;
            let shard = usize::try_from(element.partition()).ok();
            let owner = shard.and_then(|shard| owners.get_mut(shard));
            if let (Some(owner), Offset::Offset(_)) = (owner, element.offset()) {
                *owner = match element.metadata() {
                    "" => LastOwner::Somewhere,
                    address => LastOwner::At(address.into()),
                };
            }
        }
        Ok(owners)
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
    group: &Group,
    instance: &str,
    listener: &Listener,
) -> Result<BaseConsumer<Member>, LogError> {
    let consumer: BaseConsumer<Member> = kafka
        .client(instance)
        .set("group.id", &group.name)
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set(
            "session.timeout.ms",
            group.session_timeout.as_millis().to_string(),
        )
        .set("heartbeat.interval.ms", HEARTBEAT.as_millis().to_string())
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "latest")
        .create_with_context(Member {
            owned: Mutex::default(),
            listener: Arc::clone(listener),
        })?;
    consumer.subscribe(&[group.topic.name()])?;
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
    shards: u16,
    listener: &(dyn Fn(Ownership) + Send + Sync),
    join: impl Fn() -> Result<BaseConsumer<Member>, LogError>,
) {
    loop {
        let consumer = Arc::clone(&current.lock());
        match poll(&consumer, leaving, shards) {
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

fn poll(consumer: &BaseConsumer<Member>, leaving: &AtomicBool, shards: u16) -> Ended {
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
            let known = consumer.client().fetch_metadata(None, CHECKED_WITHIN);
            checked = Instant::now();
            let known = known.ok().filter(|cluster| !cluster.brokers().is_empty());
            if let Some(cluster) = known {
                reached = checked;
                if let Some(reason) = repartitioned(&cluster, shards) {
                    return Ended::Failed(reason);
                }
            } else if reached.elapsed() >= CUT_OFF_MAX {
                return Ended::CutOff;
            }
        }
    }
    Ended::Leaving
}

/// That a topic has been given more partitions: streams would be looked for where they are not.
fn repartitioned(cluster: &Metadata, shards: u16) -> Option<String> {
    let of_ours = |name: &str| Topic::ALL.iter().any(|topic| topic.name() == name);
    let topics = cluster
        .topics()
        .iter()
        .filter(|topic| of_ours(topic.name()));
    let altered = topics
        .map(|topic| (topic.name(), topic.partitions().len()))
        // One that the broker does not know at this moment has none.
        .find(|(_, count)| *count != 0 && *count != usize::from(shards));
    altered.map(|(topic, count)| {
        format!(
            "topic {topic} has {count} partitions and had {shards}: their number can never be changed; make it anew with \
             {shards} and copy its records"
        )
    })
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
                let mut shards = shards(partitions);
                // One that was exchanged for a new client has nothing left that it could lose.
                let mut owned = self.owned.lock();
                shards.retain(|shard| owned.remove(shard));
                drop(owned);
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
            (self.listener)(Ownership::Assigned(shards));
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
