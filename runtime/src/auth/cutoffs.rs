//! Access tokens that no longer count although they are not over: those signed before their user's role or password
//! last changed, or before he was erased. Command-api writes down from which version of a user tokens count; every
//! service reads that, and keeps what it read last while Postgres is away.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use events::{StreamVersion, ids::UserId};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::TokenVerifier;
use crate::postgres::in_time;

/// How often the list is read: well within the 5 s in which a change takes effect everywhere.
const READ_EVERY: Duration = Duration::from_secs(1);
/// How long a cut-off is of interest, in seconds: longer than any access token lives, skewed clocks included.
const KEPT_SECONDS: f64 = 20.0 * 60.0;
/// Users on the list at most; of more than that, the latest.
const CUTOFFS_MAX: i64 = 100_000;

/// From which version of a user his tokens count.
#[derive(Default)]
pub(super) struct Cutoffs(RwLock<HashMap<UserId, StreamVersion>>);

impl Cutoffs {
    /// Whether a token that was signed when its user was at `version` no longer counts.
    pub(super) fn refuses(&self, user_id: UserId, version: StreamVersion) -> bool {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&user_id).is_some_and(|from| version < *from)
    }

    /// Exchanges the list.
    pub(super) fn replace(&self, list: HashMap<UserId, StreamVersion>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = list;
    }
}

/// Keeps the list of `verifier` up to date until the process is to end. A vital task; it never fails.
pub async fn follow(
    verifier: Arc<TokenVerifier>,
    pool: PgPool,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut ticks = tokio::time::interval(READ_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut is_away = false;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let read = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            read = read(&pool) => read,
        };
        match read {
            Ok(list) => {
                verifier.cutoffs.replace(list);
                if std::mem::take(&mut is_away) {
                    tracing::info!("it can be read again which tokens no longer count");
                }
            }
            Err(error) if is_away => tracing::debug!(%error, "token cut-offs"),
            Err(error) => {
                is_away = true;
                tracing::warn!(%error, "it cannot be read which tokens no longer count; the last list stays in force");
            }
        }
    }
}

async fn read(pool: &PgPool) -> Result<HashMap<UserId, StreamVersion>, sqlx::Error> {
    let query = sqlx::query_as(
        "SELECT user_id, user_version FROM identity.token_cutoffs
         WHERE cut_at > now() - make_interval(secs => $1) ORDER BY cut_at DESC LIMIT $2",
    );
    let query = query.bind(KEPT_SECONDS).bind(CUTOFFS_MAX);
    let rows: Vec<(Uuid, i64)> = in_time(query.fetch_all(pool)).await?;
    if i64::try_from(rows.len()).is_ok_and(|count| count >= CUTOFFS_MAX) {
        tracing::error!("more tokens are cut off than can be kept in mind");
    }
    let listed = |(user_id, version): (Uuid, i64)| (UserId(user_id), version.unsigned_abs());
    Ok(rows.into_iter().map(listed).collect())
}
