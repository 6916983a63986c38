//! The worker of one topic: follows its feed and applies what comes to the store.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use event_log::{
    Feed, FeedItem, KafkaSettings, LogError, Recorded, Schemas, feed,
    record::{self, Place},
    topics,
};
use events::Topic;
use futures_util::FutureExt;
use runtime::{health::Component, retry::Backoff};
use sqlx::PgPool;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    measures,
    react::Channel,
    store::{self, NewlyDue, Step, StoreError},
};

/// Most events applied in one transaction, give or take one batch of the feed.
const TRANSACTION_EVENTS_MAX: usize = 2 * feed::BATCH_EVENTS_MAX;
/// How long one transaction may take before Postgres counts as away.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a record that cannot be read is tried again before it is set aside. While the registry is away, it is
/// tried for as long as that takes.
const UNREADABLE_PATIENCE: Duration = Duration::from_secs(30);
/// The pause before the log is asked again for a record that could not be read.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(2);

/// Wakes the senders.
#[derive(Debug, Clone, Default)]
pub struct Wake {
    email: Arc<Notify>,
    sms: Arc<Notify>,
}

impl Wake {
    /// What the sender of `channel` waits for.
    pub fn of(&self, channel: Channel) -> &Arc<Notify> {
        match channel {
            Channel::Email => &self.email,
            Channel::Sms => &self.sms,
        }
    }

    fn all(&self, channels: &NewlyDue) {
        for channel in channels {
            self.of(*channel).notify_one();
        }
    }
}

/// The worker of one topic.
pub struct Worker {
    /// The topic.
    pub topic: Topic,
    /// Where the log is.
    pub kafka: KafkaSettings,
    /// The schemas that events were written with.
    pub schemas: Arc<Schemas>,
    /// Where the ledger is.
    pub pool: PgPool,
    /// Wakes the senders.
    pub wake: Wake,
    /// Told how far it is, past everything that is not handed out.
    pub reached: watch::Sender<BTreeMap<u16, i64>>,
    /// How it is.
    pub component: Component,
    /// Cancelled when the process is to end.
    pub shutdown: CancellationToken,
}

/// Why the feed was left.
#[derive(Debug, thiserror::Error)]
enum Left {
    #[error("{0}")]
    Log(#[from] LogError),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0} cannot be read yet")]
    Unreadable(Place),
}

/// A record that cannot be read, and since when.
struct Unreadable {
    place: Place,
    since: Instant,
    reason: record::Unreadable,
}

impl Worker {
    /// Applies what the topic brings until the process is to end. Whatever fails, of Kafka, the registry or
    /// Postgres, is tried again from the checkpoint.
    ///
    /// # Errors
    /// None; the signature is that of a vital task.
    pub async fn run(self) -> anyhow::Result<()> {
        let mut backoff = Backoff::default();
        let mut unreadable = BTreeMap::new();
        while !self.shutdown.is_cancelled() {
            let begun = Instant::now();
            let followed = tokio::select! {
                () = self.shutdown.cancelled() => return Ok(()),
                followed = self.follow(&mut unreadable) => followed,
            };
            let Err(left) = followed;
            if begun.elapsed() > UNREADABLE_PATIENCE {
                backoff = Backoff::default();
            }
            tracing::warn!(topic = self.topic.name(), %left, "reading again from the checkpoint");
            self.component.waiting(left.to_string());
            let pause = if matches!(left, Left::Unreadable(_)) {
                UNREADABLE_PAUSE
            } else {
                backoff.next_pause()
            };
            tokio::select! {
                () = self.shutdown.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        Ok(())
    }

    /// Follows the topic from the checkpoint. Dropping it in between is safe: whatever was not committed
    /// is read again.
    async fn follow(
        &self,
        unreadable: &mut BTreeMap<u16, Unreadable>,
    ) -> Result<std::convert::Infallible, Left> {
        let partitions = topics::partition_count(&self.kafka).await?;
        let mut positions = in_time(store::checkpoint(&self.pool, self.topic, partitions)).await?;
        let mut feed = Feed::start(
            &self.kafka,
            Arc::clone(&self.schemas),
            self.topic,
            positions.clone(),
        )
        .await?;
        self.component.ready();
        self.reached.send_replace(positions.clone());
        let mut caught_up = BTreeSet::new();
        loop {
            let mut gathered = Gathered::default();
            gathered.take(feed.next().await?);
            while gathered.records.len() < TRANSACTION_EVENTS_MAX
                && let Some(item) = feed.next().now_or_never()
            {
                gathered.take(item?);
            }
            self.apply(&mut positions, &gathered).await?;
            self.reached.send_modify(|reached| {
                for (partition, position) in gathered.reached.iter().chain(&gathered.caught_up) {
                    let place = reached.entry(*partition).or_insert(0);
                    *place = (*place).max(*position);
                }
            });
            for (partition, position) in &gathered.caught_up {
                if caught_up.insert(*partition) {
                    tracing::info!(topic = self.topic.name(), partition, position, "caught up");
                }
            }
            for (place, reason) in gathered.unreadable {
                self.meet(&positions, unreadable, place, reason).await?;
            }
        }
    }

    /// Applies what was gathered; while Postgres is away, tries again.
    async fn apply(
        &self,
        positions: &mut BTreeMap<u16, i64>,
        gathered: &Gathered,
    ) -> Result<(), Left> {
        if gathered.records.is_empty() {
            return Ok(());
        }
        let from = |partition: &u16| positions.get(partition).copied().unwrap_or(0);
        let step = |(partition, to): (&u16, &i64)| Step {
            partition: *partition,
            from: from(partition),
            to: *to,
        };
        let steps: Vec<Step> = gathered.reached.iter().map(step).collect();
        let applied = store::apply(&self.pool, self.topic, &steps, &gathered.records);
        let newly_due = in_time(applied).await?;
        self.wake.all(&newly_due);
        measures::events(self.topic, gathered.records.len());
        for step in steps {
            positions.insert(step.partition, step.to);
        }
        Ok(())
    }

    /// Meets a record that cannot be read: for a while the log is asked again, then it is set aside.
    async fn meet(
        &self,
        positions: &BTreeMap<u16, i64>,
        unreadable: &mut BTreeMap<u16, Unreadable>,
        place: Place,
        reason: record::Unreadable,
    ) -> Result<(), Left> {
        let met = unreadable
            .remove(&place.partition)
            .filter(|met| met.place == place);
        let may_pass = matches!(reason, record::Unreadable::RegistryAway(_));
        let since = met.map_or_else(Instant::now, |met| met.since);
        let met = Unreadable {
            place,
            since,
            reason,
        };
        if may_pass || met.since.elapsed() < UNREADABLE_PATIENCE {
            unreadable.insert(place.partition, met);
            return Err(Left::Unreadable(place));
        }
        let from = positions.get(&place.partition).copied().unwrap_or(0);
        let step = Step {
            partition: place.partition,
            from,
            to: place.offset + 1,
        };
        let reason = met.reason.to_string();
        in_time(store::set_aside(&self.pool, self.topic, step, &reason)).await?;
        tracing::error!(%place, reason, "a record cannot be read and was set aside");
        measures::set_aside(self.topic);
        Err(Left::Unreadable(place))
    }
}

/// The outcome of a transaction, or an error when it takes too long: Postgres may have gone without a word.
async fn in_time<T, E: Into<StoreError>>(
    transaction: impl Future<Output = Result<T, E>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(TRANSACTION_TIMEOUT, transaction).await {
        Ok(outcome) => outcome.map_err(Into::into),
        Err(_) => Err(StoreError::Late(TRANSACTION_TIMEOUT)),
    }
}

/// What the feed brought since the last transaction.
#[derive(Default)]
struct Gathered {
    records: Vec<Recorded>,
    reached: BTreeMap<u16, i64>,
    caught_up: BTreeMap<u16, i64>,
    unreadable: Vec<(Place, record::Unreadable)>,
}

impl Gathered {
    fn take(&mut self, item: FeedItem) {
        match item {
            FeedItem::Batch {
                partition,
                records,
                position,
            } => {
                self.records.extend(records);
                self.reached.insert(partition, position);
            }
            FeedItem::CaughtUp {
                partition,
                position,
            } => drop(self.caught_up.insert(partition, position)),
            FeedItem::Undecodable { place, reason, .. } => self.unreadable.push((place, reason)),
        }
    }
}
