//! One rebuild of a read model at a time: a lock of Postgres that goes with the connection, so that nobody
//! has to clean up after a killed one.

use sqlx::{PgConnection, PgPool};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::model::Model;

/// First half of the keys of our advisory locks ("ordl" in ASCII).
const LOCK_SPACE: i32 = 0x6f72_646c;

/// Held as long as its connection lives.
pub struct RebuildLock(PgConnection);

/// Why a rebuild may not begin.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// There is one already.
    #[error("{model} is being rebuilt already: {holder}")]
    Held {
        /// Of which model.
        model: Model,
        /// Who does it, since when.
        holder: String,
    },
    /// The lock cannot be asked for.
    #[error("the lock in Postgres: {0}")]
    Postgres(#[from] sqlx::Error),
}

impl RebuildLock {
    /// Takes the lock of `model`, or says who has it.
    pub async fn take(pool: &PgPool, model: Model) -> Result<Self, LockError> {
        let mut connection = pool.acquire().await?.detach();
        let since = OffsetDateTime::now_utc()
            .replace_nanosecond(0)
            .ok()
            .and_then(|now| now.format(&Rfc3339).ok());
        // Shown to whoever comes second; Postgres cuts it at 63 bytes.
        let name = format!(
            "rebuild {model}, process {} since {}",
            std::process::id(),
            since.unwrap_or_default()
        );
        sqlx::query("SELECT set_config('application_name', $1, false)")
            .bind(name)
            .execute(&mut connection)
            .await?;
        let (taken,): (bool,) = sqlx::query_as("SELECT pg_try_advisory_lock($1, $2)")
            .bind(LOCK_SPACE)
            .bind(model as i32)
            .fetch_one(&mut connection)
            .await?;
        if taken {
            return Ok(Self(connection));
        }
        let holder: Option<(String,)> = sqlx::query_as(
            "SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
             WHERE l.locktype = 'advisory' AND l.granted AND l.classid = $1::int::oid AND l.objid = $2::int::oid \
                AND l.objsubid = 2 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        )
        .bind(LOCK_SPACE)
        .bind(model as i32)
        .fetch_optional(&mut connection)
        .await?;
        let holder = holder.map_or_else(
            || "by somebody who has just ended; try again".to_owned(),
            |(name,)| name,
        );
        Err(LockError::Held { model, holder })
    }

    /// An error when the lock was lost with its connection.
    pub async fn confirm(&mut self) -> Result<(), LockError> {
        sqlx::query("SELECT 1").execute(&mut self.0).await?;
        Ok(())
    }
}
