//! The ledger: what must be told whom, and what became of it. Rows are claimed under a lease, sent outside of
//! any transaction, and recorded; a lease that runs out is an unknown outcome.
//!
//! Every time is Postgres' own, so that several notifiers agree. A row's count of claims is its fence: an
//! outcome is recorded only while no later claim has been made.

use std::time::Duration;

use events::ids::{CorrelationId, EventId, UserId};
use serde::Serialize;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    contacts::Contact,
    origin::Origin,
    react::{Channel, Occasion},
    schedule::{Change, Outcome, Schedule, Standing, Status},
    store::ContactRow,
};

/// Most rows whose run-out leases are dealt with at once.
const EXPIRED_ROWS_MAX: i64 = 500;

/// A notification claimed for sending.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// Where it stands.
    pub standing: Standing,
    /// Its fence: which claim this is.
    pub claim: i32,
    /// The event it is about.
    pub event_id: EventId,
    /// Who is told.
    pub recipient: UserId,
    /// What it is about; `None` when this version cannot read it.
    pub occasion: Option<Occasion>,
    /// How to reach the recipient; `None` when not known (yet).
    pub contact: Option<Contact>,
    /// Where it comes from.
    pub origin: Origin,
}

/// What became of a claimed notification.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The row.
    pub id: i64,
    /// The claim that this came of.
    pub claim: i32,
    /// The change.
    pub change: Change,
}

#[derive(sqlx::FromRow)]
struct StandingRow {
    id: i64,
    claims: i32,
    attempts: i32,
    unknown_outcomes: i32,
    deferrals: i32,
    age_ms: i64,
}

impl StandingRow {
    fn standing(&self) -> Standing {
        Standing {
            id: self.id,
            attempts: self.attempts.unsigned_abs(),
            unknown_outcomes: self.unknown_outcomes.unsigned_abs(),
            deferrals: self.deferrals.unsigned_abs(),
            age: Duration::from_millis(self.age_ms.unsigned_abs()),
        }
    }
}

#[derive(sqlx::FromRow)]
struct ClaimedRow {
    #[sqlx(flatten)]
    standing: StandingRow,
    event_id: Uuid,
    recipient: Uuid,
    occasion: serde_json::Value,
    correlation_id: Option<Uuid>,
    traceparent: Option<String>,
    #[sqlx(flatten)]
    contact: ContactRow,
}

/// Claims up to `rows_max` notifications of `channel` that are due, the longest due first, for `lease`.
/// Rows that somebody else is claiming are passed over, not waited for.
pub async fn claim(
    pool: &PgPool,
    channel: Channel,
    rows_max: usize,
    lease: Duration,
) -> Result<Vec<Claimed>, sqlx::Error> {
    // In a transaction, so that a claim which takes too long and is given up was never made.
    let mut transaction = pool.begin().await?;
    let rows: Vec<ClaimedRow> = sqlx::query_as(
        "WITH due AS (
             SELECT id FROM notifier.ledger
             WHERE status = 'due' AND channel = $1 AND due_at <= now()
             ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED
         ), claimed AS (
             UPDATE notifier.ledger AS ledger
             SET status = 'sending', lease_until = now() + $3 * interval '1 millisecond',
                 claims = claims + 1, updated_at = now()
             FROM due WHERE ledger.id = due.id RETURNING ledger.*
         )
         SELECT claimed.id, claims, attempts, unknown_outcomes, deferrals,
                (extract(epoch FROM now() - created_at) * 1000)::bigint AS age_ms,
                event_id, recipient, occasion, correlation_id, traceparent,
                email, name, phone, locale, order_emails, order_sms, erased
         FROM claimed LEFT JOIN notifier.contact ON contact.user_id = claimed.recipient",
    )
    .bind(channel.name())
    .bind(rows_max as i64)
    .bind(millis(lease))
    .fetch_all(&mut *transaction)
    .await?;
    transaction.commit().await?;
    let claimed = |row: ClaimedRow| Claimed {
        standing: row.standing.standing(),
        claim: row.standing.claims,
        event_id: EventId(row.event_id),
        recipient: UserId(row.recipient),
        occasion: serde_json::from_value(row.occasion).ok(),
        contact: row.contact.contact(),
        origin: Origin {
            correlation_id: row.correlation_id.map(CorrelationId),
            trace: row.traceparent.and_then(|text| text.parse().ok()),
        },
    };
    Ok(rows.into_iter().map(claimed).collect())
}

/// Records what became of claimed notifications; the ids of those recorded. A row that was claimed again in the
/// meantime is left to whoever has it.
pub async fn record(
    connection: &mut PgConnection,
    changes: &[Recorded],
) -> Result<Vec<i64>, sqlx::Error> {
    let text = |of: fn(&Change) -> Option<String>| {
        changes
            .iter()
            .map(|each| of(&each.change))
            .collect::<Vec<_>>()
    };
    let count = |of: fn(&Change) -> u32| {
        changes
            .iter()
            .map(|each| i32::try_from(of(&each.change)).unwrap_or(i32::MAX))
            .collect::<Vec<_>>()
    };
    sqlx::query_scalar(
        "UPDATE notifier.ledger AS ledger
         SET status = change.status, lease_until = NULL, updated_at = now(),
             due_at = now() + change.due_in_ms * interval '1 millisecond',
             reason = change.reason, provider = coalesce(change.provider, ledger.provider),
             provider_reference = change.provider_reference,
             attempts = change.attempts, unknown_outcomes = change.unknown_outcomes, deferrals = change.deferrals
         FROM unnest($1::bigint[], $2::integer[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::text[],
                     $8::integer[], $9::integer[], $10::integer[])
              AS change (id, claim, status, due_in_ms, reason, provider, provider_reference, attempts,
                         unknown_outcomes, deferrals)
         WHERE ledger.id = change.id AND ledger.claims = change.claim
         RETURNING ledger.id",
    )
    .bind(changes.iter().map(|each| each.id).collect::<Vec<_>>())
    .bind(changes.iter().map(|each| each.claim).collect::<Vec<_>>())
    .bind(changes.iter().map(|each| each.change.status.name()).collect::<Vec<_>>())
    .bind(changes.iter().map(|each| millis(each.change.due_in)).collect::<Vec<_>>())
    .bind(text(|change| change.reason.clone()))
    .bind(changes.iter().map(|each| each.change.provider).collect::<Vec<_>>())
    .bind(text(|change| change.provider_reference.clone()))
    .bind(count(|change| change.attempts))
    .bind(count(|change| change.unknown_outcomes))
    .bind(count(|change| change.deferrals))
    .fetch_all(connection)
    .await
}

/// Takes back the notifications of `channel` whose lease ran out, as unknown outcomes: their sender died between
/// sending and recording, or before sending. Those in `in_flight` are the caller's own and left alone.
pub async fn expire(
    pool: &PgPool,
    channel: Channel,
    schedule: &Schedule,
    in_flight: &[i64],
) -> Result<Vec<Recorded>, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let rows: Vec<StandingRow> = sqlx::query_as(
        "SELECT id, claims, attempts, unknown_outcomes, deferrals,
                (extract(epoch FROM now() - created_at) * 1000)::bigint AS age_ms
         FROM notifier.ledger
         WHERE status = 'sending' AND channel = $1 AND lease_until < now() AND id <> ALL($2)
         ORDER BY lease_until LIMIT $3 FOR UPDATE SKIP LOCKED",
    )
    .bind(channel.name())
    .bind(in_flight)
    .bind(EXPIRED_ROWS_MAX)
    .fetch_all(&mut *transaction)
    .await?;
    let change = |row: &StandingRow| {
        let outcome = Outcome::Unknown {
            provider: None,
            reason: "its sender did not come back".to_owned(),
        };
        Recorded {
            id: row.id,
            claim: row.claims,
            change: schedule.after(&row.standing(), outcome),
        }
    };
    let changes: Vec<Recorded> = rows.iter().map(change).collect();
    if !changes.is_empty() {
        record(&mut transaction, &changes).await?;
    }
    transaction.commit().await?;
    Ok(changes)
}

/// What the ledger holds of one channel that is not as it should be in the end.
#[derive(Debug, Clone, Copy, Default, PartialEq, sqlx::FromRow)]
pub struct Backlog {
    /// Notifications that are due now or later, or being sent.
    pub waiting: i64,
    /// Dead letters.
    pub dead: i64,
    /// How long the one that is due longest has been due; 0 when none is.
    pub overdue_seconds: f64,
    /// How long ago the oldest of those that wait was entered; 0 when none waits.
    pub oldest_seconds: f64,
}

/// The backlog of `channel`.
pub async fn backlog(pool: &PgPool, channel: Channel) -> Result<Backlog, sqlx::Error> {
    // Each part by its own partial index: none holds the rows that were sent.
    sqlx::query_as(
        "WITH due AS (
             SELECT count(*) AS rows, min(due_at) AS due_at, min(created_at) AS created_at
             FROM notifier.ledger WHERE status = 'due' AND channel = $1
         ), sending AS (
             SELECT count(*) AS rows, min(created_at) AS created_at
             FROM notifier.ledger WHERE status = 'sending' AND channel = $1
         ), dead AS (
             SELECT count(*) AS rows FROM notifier.ledger WHERE status = 'dead' AND channel = $1
         ), seconds AS (
             SELECT extract(epoch FROM now() - due.due_at)::float8 AS overdue,
                    extract(epoch FROM now() - least(due.created_at, sending.created_at))::float8 AS oldest
             FROM due, sending
         )
         SELECT due.rows + sending.rows AS waiting, dead.rows AS dead,
                greatest(seconds.overdue, 0) AS overdue_seconds, greatest(seconds.oldest, 0) AS oldest_seconds
         FROM due, sending, dead, seconds",
    )
    .bind(channel.name())
    .fetch_one(pool)
    .await
}

/// Time until the next notification of `channel` is due; `None` when there is none.
pub async fn next_due_in(pool: &PgPool, channel: Channel) -> Result<Option<Duration>, sqlx::Error> {
    let next_ms: Option<i64> = sqlx::query_scalar(
        "SELECT ceil(extract(epoch FROM min(due_at) - now()) * 1000)::bigint
         FROM notifier.ledger WHERE status = 'due' AND channel = $1",
    )
    .bind(channel.name())
    .fetch_one(pool)
    .await?;
    Ok(next_ms.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0))))
}

/// A notification that could not be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct DeadLetter {
    /// Its row in the ledger.
    pub id: i64,
    /// The event it is about.
    pub event_id: Uuid,
    /// The way it should have gone.
    pub channel: String,
    /// Who should have been told.
    pub recipient: Uuid,
    /// What about.
    pub occasion: String,
    /// Why it could not be sent.
    pub reason: String,
    /// Who may have it all the same.
    pub provider: Option<String>,
    /// Attempts made.
    pub attempts: i32,
    /// Those among them that may have reached the recipient.
    pub unknown_outcomes: i32,
    /// When it was entered.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it was given up.
    #[serde(with = "time::serde::rfc3339")]
    pub given_up_at: OffsetDateTime,
}

/// The dead letters, oldest first, from the row after `after` on.
pub async fn dead_letters(
    pool: &PgPool,
    after: i64,
    rows_max: u32,
) -> Result<Vec<DeadLetter>, sqlx::Error> {
    sqlx::query_as(
        "SELECT id, event_id, channel, recipient, occasion ->> 'occasion' AS occasion, reason, provider, attempts,
                unknown_outcomes, created_at, updated_at AS given_up_at
         FROM notifier.ledger WHERE status = 'dead' AND id > $1 ORDER BY id LIMIT $2",
    )
    .bind(after)
    .bind(i64::from(rows_max))
    .fetch_all(pool)
    .await
}

/// A record of the log that could not be read and was passed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct SetAside {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// What is wrong with it.
    pub reason: String,
    /// When it was passed over.
    #[serde(with = "time::serde::rfc3339")]
    pub set_aside_at: OffsetDateTime,
}

/// The records that were passed over.
pub async fn set_aside(pool: &PgPool, rows_max: u32) -> Result<Vec<SetAside>, sqlx::Error> {
    sqlx::query_as(
        r#"SELECT topic, partition, "offset", reason, set_aside_at FROM notifier.set_aside
           ORDER BY set_aside_at, topic, partition, "offset" LIMIT $1"#,
    )
    .bind(i64::from(rows_max))
    .fetch_all(pool)
    .await
}

/// Whether a change ends as dead letter.
pub fn is_dead(change: &Change) -> bool {
    change.status == Status::Dead
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
