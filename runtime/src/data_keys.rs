//! The keys that personal data is sealed with: kept wrapped in Postgres, one row per user. A destroyed key
//! is a deleted row, and takes effect everywhere within [`KEY_AGE_MAX`].

use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};

use aes_gcm::{
    Aes256Gcm, Nonce,
    aead::{Aead, KeyInit, Payload},
};
use events::{ids::UserId, sealed::DataKey};
use metrics::{Counter, Unit, counter, describe_counter};
use moka::future::Cache;
use sqlx::PgPool;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{postgres::in_time, secret_file};

/// How old a key in memory may be.
pub const KEY_AGE_MAX: Duration = Duration::from_secs(5);
/// Keys in memory (each a few hundred bytes).
const KEYS_MAX: u64 = 20_000;
/// Leads every wrapped key, so that another way to wrap can follow.
const FORMAT: u8 = 1;
const NONCE_BYTES: usize = 12;

/// The key that data keys are wrapped with.
pub struct WrappingKey(Aes256Gcm);

impl WrappingKey {
    /// From a file with 32 bytes in base64.
    pub fn from_file(path: &Path) -> anyhow::Result<Self> {
        Ok(Self::new(&*secret_file::key_32_bytes(path)?))
    }

    /// From its secret bytes.
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(Aes256Gcm::new(secret.into()))
    }

    fn wrap(&self, user_id: UserId, secret: &[u8; DataKey::BYTES]) -> Option<Vec<u8>> {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let payload = Payload {
            msg: secret,
            aad: user_id.0.as_bytes(),
        };
        let ciphertext = self.0.encrypt(&Nonce::from(nonce), payload).ok()?;
        Some([&[FORMAT], nonce.as_slice(), &ciphertext].concat())
    }

    fn unwrap(&self, user_id: UserId, wrapped: &[u8]) -> Option<DataKey> {
        let (&FORMAT, rest) = wrapped.split_first()? else {
            return None;
        };
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_BYTES>()?;
        let payload = Payload {
            msg: ciphertext,
            aad: user_id.0.as_bytes(),
        };
        let secret = self
            .0
            .decrypt(&Nonce::from(*nonce), payload)
            .map(Zeroizing::new)
            .ok()?;
        Some(DataKey::new(secret.as_slice().try_into().ok()?))
    }
}

/// Why a key cannot be had. (That there is none is no error.)
#[derive(Debug, Clone, thiserror::Error)]
pub enum DataKeyError {
    /// Postgres did not answer.
    #[error("the data keys in Postgres cannot be reached: {0}")]
    Unreachable(Arc<sqlx::Error>),
    /// The stored key was wrapped with another wrapping key, or is damaged.
    #[error("the data key of user {0} does not open with this wrapping key")]
    NotUnwrapped(UserId),
}

impl From<sqlx::Error> for DataKeyError {
    fn from(error: sqlx::Error) -> Self {
        Self::Unreachable(Arc::new(error))
    }
}

/// The data keys of all users; clones are the same thing.
#[derive(Clone)]
pub struct DataKeys {
    pool: PgPool,
    wrapping_key: Arc<WrappingKey>,
    keys: Cache<UserId, DataKey>,
    counts: Counts,
}

/// How often keys were wanted, and what became of those that had to be fetched.
#[derive(Clone)]
struct Counts {
    wanted: Counter,
    found: Counter,
    absent: Counter,
    failed: Counter,
}

impl Counts {
    fn new() -> Self {
        describe_counter!(
            "orderlog_data_key_lookups_total",
            Unit::Count,
            "Data keys that were wanted, from memory or from Postgres."
        );
        describe_counter!(
            "orderlog_data_key_fetches_total",
            Unit::Count,
            "Data keys that were looked up in Postgres, by what came of it."
        );
        let fetches = |outcome: &'static str| counter!("orderlog_data_key_fetches_total", "outcome" => outcome);
        Self {
            wanted: counter!("orderlog_data_key_lookups_total"),
            found: fetches("found"),
            absent: fetches("absent"),
            failed: fetches("failed"),
        }
    }
}

impl DataKeys {
    /// The keys in `identity.data_keys` of this database.
    pub fn new(pool: PgPool, wrapping_key: WrappingKey) -> Self {
        let keys = Cache::builder()
            .max_capacity(KEYS_MAX)
            .time_to_live(KEY_AGE_MAX)
            .build();
        Self {
            pool,
            wrapping_key: Arc::new(wrapping_key),
            keys,
            counts: Counts::new(),
        }
    }

    /// The key of a user; `None` when it was destroyed or never made.
    pub async fn get(&self, user_id: UserId) -> Result<Option<DataKey>, DataKeyError> {
        self.counts.wanted.increment(1);
        // Requests for the same key at the same time become one query. That there is none is not remembered.
        match self.keys.try_get_with(user_id, self.fetch(user_id)).await {
            Ok(key) => Ok(Some(key)),
            Err(failed) => match &*failed {
                NotFetched::Absent => Ok(None),
                NotFetched::Failed(error) => Err(error.clone()),
            },
        }
    }

    /// The keys of several users, in one query; those without a key are left out.
    pub async fn get_many(
        &self,
        user_ids: &[UserId],
    ) -> Result<HashMap<UserId, DataKey>, DataKeyError> {
        self.counts.wanted.increment(user_ids.len() as u64);
        let (mut found, mut missing) = (HashMap::with_capacity(user_ids.len()), Vec::new());
        for user_id in user_ids {
            match self.keys.get(user_id).await {
                Some(key) => drop(found.insert(*user_id, key)),
                None => missing.push(user_id.0),
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        let wanted = missing.len() as u64;
        let rows: Vec<(Uuid, Vec<u8>)> = in_time(
            sqlx::query_as(
                "SELECT user_id, wrapped_key FROM identity.data_keys WHERE user_id = ANY($1)",
            )
            .bind(missing)
            .fetch_all(&self.pool),
        )
        .await
        .inspect_err(|_| self.counts.failed.increment(wanted))?;
        self.counts.found.increment(rows.len() as u64);
        let absent = wanted.saturating_sub(rows.len() as u64);
        self.counts.absent.increment(absent);
        for (user_id, wrapped) in rows {
            let user_id = UserId(user_id);
            let key = self.unwrap(user_id, &wrapped)?;
            self.keys.insert(user_id, key.clone()).await;
            found.insert(user_id, key);
        }
        Ok(found)
    }

    /// Makes the key of a new user. When there is one already, that is the key.
    pub async fn create(&self, user_id: UserId) -> Result<DataKey, DataKeyError> {
        let secret = Zeroizing::new(rand::random::<[u8; DataKey::BYTES]>());
        let wrapped = self
            .wrapping_key
            .wrap(user_id, &secret)
            .ok_or(DataKeyError::NotUnwrapped(user_id))?;
        let wrapped: Vec<u8> = in_time(
            sqlx::query_scalar(
                "INSERT INTO identity.data_keys (user_id, wrapped_key) VALUES ($1, $2)
             ON CONFLICT (user_id) DO UPDATE SET user_id = excluded.user_id
             RETURNING wrapped_key",
            )
            .bind(user_id.0)
            .bind(wrapped)
            .fetch_one(&self.pool),
        )
        .await?;
        let key = self.unwrap(user_id, &wrapped)?;
        self.keys.insert(user_id, key.clone()).await;
        Ok(key)
    }

    /// Forgets the key of a user whose row is gone, so that this process does not use it for [`KEY_AGE_MAX`] more.
    pub async fn forget(&self, user_id: UserId) {
        self.keys.invalidate(&user_id).await;
    }

    /// Destroys the key of a user: whatever is sealed with it is unreadable from now on, elsewhere
    /// within [`KEY_AGE_MAX`]. Does nothing when there is none.
    pub async fn destroy(&self, user_id: UserId) -> Result<(), DataKeyError> {
        in_time(
            sqlx::query("DELETE FROM identity.data_keys WHERE user_id = $1")
                .bind(user_id.0)
                .execute(&self.pool),
        )
        .await?;
        self.forget(user_id).await;
        Ok(())
    }

    async fn fetch(&self, user_id: UserId) -> Result<DataKey, NotFetched> {
        let wrapped: Option<Vec<u8>> = in_time(
            sqlx::query_scalar("SELECT wrapped_key FROM identity.data_keys WHERE user_id = $1")
                .bind(user_id.0)
                .fetch_optional(&self.pool),
        )
        .await
        .map_err(|error| {
            self.counts.failed.increment(1);
            NotFetched::Failed(error.into())
        })?;
        let wrapped = wrapped.ok_or_else(|| {
            self.counts.absent.increment(1);
            NotFetched::Absent
        })?;
        self.counts.found.increment(1);
        self.unwrap(user_id, &wrapped).map_err(NotFetched::Failed)
    }

    fn unwrap(&self, user_id: UserId, wrapped: &[u8]) -> Result<DataKey, DataKeyError> {
        self.wrapping_key
            .unwrap(user_id, wrapped)
            .ok_or(DataKeyError::NotUnwrapped(user_id))
    }
}

#[derive(Debug)]
enum NotFetched {
    Absent,
    Failed(DataKeyError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use events::sealed::Field;

    const USER: UserId = UserId(Uuid::from_u128(7));

    #[test]
    fn a_wrapped_key_opens_with_its_wrapping_key_and_for_its_user_only() {
        let wrapping_key = WrappingKey::new(&[1; 32]);
        let wrapped = wrapping_key.wrap(USER, &[9; 32]).unwrap();
        let sealed = DataKey::new(&[9; 32])
            .seal(USER, Field::Name, "Ada")
            .unwrap();
        let key = wrapping_key.unwrap(USER, &wrapped).unwrap();
        assert_eq!(key.open(USER, Field::Name, &sealed).unwrap(), "Ada");
        assert!(WrappingKey::new(&[2; 32]).unwrap(USER, &wrapped).is_none());
        assert!(
            wrapping_key
                .unwrap(UserId(Uuid::from_u128(8)), &wrapped)
                .is_none()
        );
        for length in 0..wrapped.len() {
            assert!(wrapping_key.unwrap(USER, &wrapped[..length]).is_none());
        }
    }

    #[test]
    fn no_key_is_wrapped_twice_to_the_same_bytes() {
        let wrapping_key = WrappingKey::new(&[1; 32]);
        assert_ne!(
            wrapping_key.wrap(USER, &[9; 32]),
            wrapping_key.wrap(USER, &[9; 32])
        );
    }
}
