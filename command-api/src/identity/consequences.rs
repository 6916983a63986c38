//! What facts about users mean for the identity tables: a new password or role ends the sessions and cuts off the
//! access tokens from before, the row of a replaced password goes, and an erasure destroys the data key and all that
//! one could sign in with.
//!
//! The log is followed and nothing else is trusted: whatever is killed, and whenever, a fact that was recorded has
//! its consequences once this has come to it. Each node does so; doing it twice changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use event_log::{Feed, FeedItem, KafkaSettings, LogError, Recorded, Schemas, record::Place};
use events::{
    Event, StreamVersion, Topic,
    ids::{CredentialId, UserId},
};
use runtime::{
    consistency::ConsistencyToken, data_keys::DataKeys, postgres::in_time, retry::Backoff,
};
use sqlx::PgPool;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::measures::MEASURES;

/// How long a request waits for the consequences of what it did.
const DRAWN_WITHIN: Duration = Duration::from_secs(5);
/// When a record that cannot be read is tried again; its partition waits for it.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(30);
/// A follower that lived this long was well.
const WELL_AFTER: Duration = Duration::from_secs(30);

/// The next offset of each partition whose consequences are not drawn yet.
type Positions = BTreeMap<u16, i64>;

/// Draws the consequences of what topic `users` says.
pub struct Consequences {
    kafka: KafkaSettings,
    schemas: Arc<Schemas>,
    pool: PgPool,
    data_keys: DataKeys,
    drawn: watch::Sender<Positions>,
}

/// How far consequences are drawn.
#[derive(Clone)]
pub struct Drawn(watch::Receiver<Positions>);

/// The consequences were not drawn in time. They will be, once Postgres and Kafka are there.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("what follows from it was not done within {} s", DRAWN_WITHIN.as_secs())]
pub struct NotDrawn;

impl Drawn {
    /// Waits for the consequences of everything up to `token`; without one there is nothing to wait for.
    pub async fn up_to(&self, token: Option<ConsistencyToken>) -> Result<(), NotDrawn> {
        let Some(token) = token.filter(|token| token.topic == Topic::Users) else {
            return Ok(());
        };
        let mut positions = self.0.clone();
        let drawn = positions.wait_for(|positions| {
            let position = positions.get(&token.partition);
            position.is_some_and(|position| token.is_reached_by(*position))
        });
        match timeout(DRAWN_WITHIN, drawn).await {
            Ok(Ok(_)) => Ok(()),
            // The follower has ended, and the process is about to.
            Ok(Err(_)) | Err(_) => Err(NotDrawn),
        }
    }
}

/// Why the log was left.
#[derive(Debug, thiserror::Error)]
enum Left {
    #[error("{0}")]
    Log(#[from] LogError),
    #[error("Postgres: {0}")]
    Postgres(#[from] sqlx::Error),
    #[error("{0} cannot be read")]
    Unreadable(Place),
}

impl Consequences {
    /// To be drawn in the tables of `pool`, as the log says.
    pub fn new(
        kafka: KafkaSettings,
        schemas: Arc<Schemas>,
        pool: PgPool,
        data_keys: DataKeys,
    ) -> (Self, Drawn) {
        let (drawn, receiver) = watch::channel(Positions::new());
        let consequences = Self {
            kafka,
            schemas,
            pool,
            data_keys,
            drawn,
        };
        (consequences, Drawn(receiver))
    }

    /// Follows the log for ever. Whatever fails is tried again from the checkpoint.
    pub async fn run(self) -> Infallible {
        let mut backoff = Backoff::default();
        loop {
            let begun = Instant::now();
            let Err(left) = self.follow().await;
            if begun.elapsed() > WELL_AFTER {
                backoff = Backoff::default();
            }
            tracing::warn!(%left, "consequences are drawn again from the checkpoint");
            sleep(backoff.next_pause()).await;
        }
    }

    async fn follow(&self) -> Result<Infallible, Left> {
        let positions = checkpoint(&self.pool).await?;
        self.tell(&positions);
        let schemas = Arc::clone(&self.schemas);
        let mut feed = Feed::start(&self.kafka, schemas, Topic::Users, positions).await?;
        let mut unreadable: Option<(Place, Instant)> = None;
        loop {
            let item = match unreadable {
                None => feed.next().await?,
                Some((place, again_at)) => match timeout_at(again_at, feed.next()).await {
                    Ok(item) => item?,
                    Err(_) => return Err(Left::Unreadable(place)),
                },
            };
            match item {
                FeedItem::Batch {
                    partition,
                    records,
                    position,
                } => self.draw(&records, partition, position).await?,
                FeedItem::CaughtUp { .. } => {}
                FeedItem::Undecodable { place, reason, .. } => {
                    tracing::error!(%place, %reason, "a record cannot be read: what follows from it, and from what comes after it, has to wait");
                    unreadable.get_or_insert((place, Instant::now() + UNREADABLE_PAUSE));
                }
            }
        }
    }

    async fn draw(
        &self,
        records: &[Recorded],
        partition: u16,
        position: i64,
    ) -> Result<(), sqlx::Error> {
        let meant = Meant::by(records);
        record(&self.pool, &meant, partition, position).await?;
        for user_id in &meant.erased {
            self.data_keys.forget(*user_id).await;
        }
        MEASURES.identity_events.increment(records.len() as u64);
        self.tell(&Positions::from([(partition, position)]));
        Ok(())
    }

    fn tell(&self, reached: &Positions) {
        self.drawn.send_modify(|positions| {
            for (partition, position) in reached {
                let known = positions.entry(*partition).or_insert(*position);
                *known = (*known).max(*position);
            }
        });
    }
}

/// What events mean for the tables.
#[derive(Debug, Default, PartialEq, Eq)]
struct Meant {
    /// Users who are erased.
    erased: BTreeSet<UserId>,
    /// Users whose earlier sessions and tokens no longer count, with the version from which on they do.
    cut: BTreeMap<UserId, StreamVersion>,
    /// Credentials that took the place of others.
    replacing: Vec<CredentialId>,
}

impl Meant {
    fn by(records: &[Recorded]) -> Self {
        let mut meant = Self::default();
        records.iter().for_each(|recorded| meant.read(recorded));
        meant
    }

    fn read(&mut self, recorded: &Recorded) {
        let user_id = match &recorded.envelope.event {
            Event::UserErased(fact) => {
                self.erased.insert(fact.user_id);
                fact.user_id
            }
            Event::UserPasswordChanged(fact) => {
                self.replacing.push(fact.credential_id);
                fact.user_id
            }
            Event::UserRoleChanged(fact) => fact.user_id,
            Event::UserRegistered(_)
            | Event::UserProfileUpdated(_)
            | Event::UserEmailChanged(_)
            | Event::UserEmailClaimed(_)
            | Event::UserEmailReleased(_)
            | Event::OrderCreated(_)
            | Event::OrderUpdated(_)
            | Event::OrderStatusChanged(_)
            | Event::OrderCancelled(_) => return,
        };
        self.cut.insert(user_id, recorded.envelope.metadata.version);
    }
}

async fn checkpoint(pool: &PgPool) -> Result<Positions, sqlx::Error> {
    let query = sqlx::query_as("SELECT partition, position FROM identity.followed");
    let rows: Vec<(i32, i64)> = in_time(query.fetch_all(pool)).await?;
    let known = |(partition, position)| Some((u16::try_from(partition).ok()?, position));
    Ok(rows.into_iter().filter_map(known).collect())
}

/// What is meant and the checkpoint behind it, in one statement: a node that stops in the middle holds no lock.
async fn record(
    pool: &PgPool,
    meant: &Meant,
    partition: u16,
    position: i64,
) -> Result<(), sqlx::Error> {
    let erased: Vec<_> = meant.erased.iter().map(|id| id.0).collect();
    let replacing: Vec<_> = meant.replacing.iter().map(|id| id.0).collect();
    let (cut, versions): (Vec<_>, Vec<_>) = meant
        .cut
        .iter()
        .map(|(id, version)| (id.0, i64::try_from(*version).unwrap_or(i64::MAX)))
        .unzip();
    let statement = sqlx::query(
        "WITH cut AS (
             SELECT * FROM unnest($2::uuid[], $3::bigint[]) AS cut (user_id, user_version)
         ), keys AS (
             DELETE FROM identity.data_keys WHERE user_id = ANY($1)
         ), credentials AS (
             DELETE FROM identity.credentials WHERE user_id = ANY($1) OR credential_id IN (
                 SELECT replaces FROM identity.credentials WHERE credential_id = ANY($6)
             )
         ), sessions AS (
             DELETE FROM identity.session_families AS family USING cut
             WHERE family.user_id = cut.user_id AND family.user_version < cut.user_version
         ), cutoffs AS (
             INSERT INTO identity.token_cutoffs AS known (user_id, user_version)
             SELECT user_id, user_version FROM cut ORDER BY user_id
             ON CONFLICT (user_id) DO UPDATE SET user_version = excluded.user_version, cut_at = now()
             WHERE known.user_version < excluded.user_version
         ), over AS (
             DELETE FROM identity.token_cutoffs
             WHERE cut_at < now() - interval '1 hour' AND user_id <> ALL($2)
         )
         INSERT INTO identity.followed AS known (partition, position)
         VALUES ($4, $5)
         ON CONFLICT (partition) DO UPDATE SET position = greatest(known.position, excluded.position)",
    );
    let statement = statement
        .bind(erased)
        .bind(cut)
        .bind(versions)
        .bind(i32::from(partition))
        .bind(position)
        .bind(replacing);
    in_time(statement.execute(pool)).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
