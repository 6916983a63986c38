//! The store: applies what the log brings in one transaction, with the checkpoint that guards it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use event_log::Recorded;
use events::{
    Topic,
    ids::{OrderId, UserId},
    sealed::Sealed,
    user::NotificationPreferences,
};
use sqlx::{PgConnection, PgPool, types::Json};
use uuid::Uuid;

use crate::{
    changes::{self, Known, Touched},
    contacts::{Contact, Details},
    origin::Reactions,
    react::{Amount, Channel, Notification, Occasion},
};

/// A stretch of a partition that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The partition.
    pub partition: u16,
    /// The checkpoint before.
    pub from: i64,
    /// The checkpoint after: the next offset to read.
    pub to: i64,
}

/// Why nothing was applied.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The checkpoint is not where the step starts: somebody else applies this topic too, or the checkpoint
    /// was moved by hand. To be read again from where it is.
    #[error("the checkpoint of {} was moved by somebody else", .0.name())]
    CheckpointMoved(Topic),
    /// Postgres failed; whether it applied anything shows in the checkpoint.
    #[error("Postgres: {0}")]
    Postgres(#[from] sqlx::Error),
    /// Postgres did not answer in this time; whether it applied anything shows in the checkpoint.
    #[error("Postgres did not answer within {} s", .0.as_secs())]
    Late(std::time::Duration),
}

/// The channels that have something new to send.
pub type NewlyDue = BTreeSet<Channel>;

/// Brings the notifier's schema up to date; several at the same time wait for each other.
pub async fn migrate(pool: &PgPool) -> Result<(), sqlx::migrate::MigrateError> {
    let mut migrator = sqlx::migrate!("./migrations");
    migrator.create_schema("notifier");
    migrator.dangerous_set_table_name("notifier._sqlx_migrations");
    migrator.run(pool).await
}

/// The checkpoint of every partition of `topic`; 0 is entered for those that have none.
pub async fn checkpoint(
    pool: &PgPool,
    topic: Topic,
    partitions: u16,
) -> Result<BTreeMap<u16, i64>, StoreError> {
    let all: Vec<i32> = (0..partitions).map(i32::from).collect();
    sqlx::query(
        "INSERT INTO notifier.checkpoint (topic, partition, position) SELECT $1, unnest($2::integer[]), 0
         ON CONFLICT DO NOTHING",
    )
    .bind(topic.name())
    .bind(&all)
    .execute(pool)
    .await?;
    let rows: Vec<(i32, i64)> =
        sqlx::query_as("SELECT partition, position FROM notifier.checkpoint WHERE topic = $1")
            .bind(topic.name())
            .fetch_all(pool)
            .await?;
    Ok(rows
        .into_iter()
        .filter_map(|(partition, position)| Some((u16::try_from(partition).ok()?, position)))
        .collect())
}

/// Applies `records`, which `steps` brought, and moves the checkpoint: all of it or nothing. A notification that
/// the ledger has already is not entered again.
pub async fn apply(
    pool: &PgPool,
    topic: Topic,
    steps: &[Step],
    records: &[Recorded],
) -> Result<NewlyDue, StoreError> {
    let began = SystemTime::now();
    let mut transaction = pool.begin().await?;
    // First, for its lock: whoever comes second sees that there is nothing left to do.
    advance(&mut transaction, topic, steps).await?;
    let touched = Touched::by(records);
    let known = load(&mut transaction, &touched).await?;
    let (after, notifications) = changes::fold(known.clone(), records);
    save_contacts(&mut transaction, &known, &after).await?;
    save_totals(&mut transaction, &known, &after).await?;
    let reactions = Reactions::of(records, &notifications);
    let newly_due = enter(&mut transaction, &notifications, &reactions).await?;
    transaction.commit().await?;
    reactions.entered(began);
    Ok(newly_due)
}

/// Passes over a record that cannot be read, keeping its place and the reason.
pub async fn set_aside(
    pool: &PgPool,
    topic: Topic,
    step: Step,
    reason: &str,
) -> Result<(), StoreError> {
    let mut transaction = pool.begin().await?;
    advance(&mut transaction, topic, &[step]).await?;
    sqlx::query(
        r#"INSERT INTO notifier.set_aside (topic, partition, "offset", reason) VALUES ($1, $2, $3, $4)
           ON CONFLICT DO NOTHING"#,
    )
    .bind(topic.name())
    .bind(i32::from(step.partition))
    .bind(step.to - 1)
    .bind(reason.replace('\0', ""))
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}

async fn advance(
    connection: &mut PgConnection,
    topic: Topic,
    steps: &[Step],
) -> Result<(), StoreError> {
    let moved = sqlx::query(
        "UPDATE notifier.checkpoint AS checkpoint SET position = step.to_position
         FROM unnest($2::integer[], $3::bigint[], $4::bigint[]) AS step (partition, from_position, to_position)
         WHERE checkpoint.topic = $1 AND checkpoint.partition = step.partition
           AND checkpoint.position = step.from_position",
    )
    .bind(topic.name())
    .bind(steps.iter().map(|step| i32::from(step.partition)).collect::<Vec<_>>())
    .bind(steps.iter().map(|step| step.from).collect::<Vec<_>>())
    .bind(steps.iter().map(|step| step.to).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    if moved.rows_affected() == steps.len() as u64 {
        Ok(())
    } else {
        Err(StoreError::CheckpointMoved(topic))
    }
}

/// A contact as Postgres holds it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct ContactRow {
    email: Option<Vec<u8>>,
    name: Option<Vec<u8>>,
    phone: Option<Vec<u8>>,
    locale: Option<String>,
    order_emails: Option<bool>,
    order_sms: Option<bool>,
    erased: Option<bool>,
}

impl ContactRow {
    /// The contact; `None` for the empty row of an outer join.
    pub(crate) fn contact(self) -> Option<Contact> {
        if self.erased? {
            return Some(Contact::Erased);
        }
        Some(Contact::Active(Details {
            email: Sealed::from_bytes(self.email?),
            name: Sealed::from_bytes(self.name?),
            phone: self.phone.map(Sealed::from_bytes),
            locale: self.locale?,
            preferences: NotificationPreferences {
                order_emails: self.order_emails?,
                order_sms: self.order_sms?,
            },
        }))
    }
}

#[derive(sqlx::FromRow)]
struct UserRow {
    user_id: Uuid,
    #[sqlx(flatten)]
    contact: ContactRow,
}

async fn load(connection: &mut PgConnection, touched: &Touched) -> Result<Known, StoreError> {
    let mut known = Known::default();
    if !touched.users.is_empty() {
        let rows: Vec<UserRow> =
            sqlx::query_as("SELECT * FROM notifier.contact WHERE user_id = ANY($1)")
                .bind(touched.users.iter().map(|id| id.0).collect::<Vec<_>>())
                .fetch_all(&mut *connection)
                .await?;
        known.contacts = rows
            .into_iter()
            .filter_map(|row| Some((UserId(row.user_id), row.contact.contact()?)))
            .collect();
    }
    if !touched.orders.is_empty() {
        let rows: Vec<(Uuid, String, i64)> =
            sqlx::query_as("SELECT order_id, currency, total_minor FROM notifier.order_total WHERE order_id = ANY($1)")
                .bind(touched.orders.iter().map(|id| id.0).collect::<Vec<_>>())
                .fetch_all(connection)
                .await?;
        let amount = |(id, currency, minor): (Uuid, String, i64)| {
            Some((
                OrderId(id),
                Amount {
                    currency: currency.parse().ok()?,
                    minor,
                },
            ))
        };
        known.totals = rows.into_iter().filter_map(amount).collect();
    }
    Ok(known)
}

async fn save_contacts(
    connection: &mut PgConnection,
    before: &Known,
    after: &Known,
) -> Result<(), StoreError> {
    let changed: Vec<(&UserId, &Contact)> = after
        .contacts
        .iter()
        .filter(|(id, contact)| before.contacts.get(id) != Some(contact))
        .collect();
    if changed.is_empty() {
        return Ok(());
    }
    let details = |contact: &Contact| match contact {
        Contact::Active(details) => Some(details.clone()),
        Contact::Erased => None,
    };
    let details: Vec<Option<Details>> = changed
        .iter()
        .map(|(_, contact)| details(contact))
        .collect();
    let column = |of: fn(&Details) -> Option<&Sealed>| -> Vec<Option<Vec<u8>>> {
        let bytes = |details: &Option<Details>| Some(of(details.as_ref()?)?.as_bytes().to_vec());
        details.iter().map(bytes).collect()
    };
    let preference = |of: fn(&NotificationPreferences) -> bool| -> Vec<Option<bool>> {
        details
            .iter()
            .map(|details| details.as_ref().map(|details| of(&details.preferences)))
            .collect()
    };
    sqlx::query(
        "INSERT INTO notifier.contact (user_id, email, name, phone, locale, order_emails, order_sms, erased)
         SELECT * FROM unnest($1::uuid[], $2::bytea[], $3::bytea[], $4::bytea[], $5::text[], $6::boolean[],
                              $7::boolean[], $8::boolean[])
         ON CONFLICT (user_id) DO UPDATE SET
             email = excluded.email, name = excluded.name, phone = excluded.phone, locale = excluded.locale,
             order_emails = excluded.order_emails, order_sms = excluded.order_sms, erased = excluded.erased",
    )
    .bind(changed.iter().map(|(id, _)| id.0).collect::<Vec<_>>())
    .bind(column(|details| Some(&details.email)))
    .bind(column(|details| Some(&details.name)))
    .bind(column(|details| details.phone.as_ref()))
    .bind(details.iter().map(|details| details.as_ref().map(|d| d.locale.clone())).collect::<Vec<_>>())
    .bind(preference(|preferences| preferences.order_emails))
    .bind(preference(|preferences| preferences.order_sms))
    .bind(details.iter().map(Option::is_none).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

async fn save_totals(
    connection: &mut PgConnection,
    before: &Known,
    after: &Known,
) -> Result<(), StoreError> {
    let gone: Vec<Uuid> = before
        .totals
        .keys()
        .filter(|id| !after.totals.contains_key(id))
        .map(|id| id.0)
        .collect();
    if !gone.is_empty() {
        sqlx::query("DELETE FROM notifier.order_total WHERE order_id = ANY($1)")
            .bind(gone)
            .execute(&mut *connection)
            .await?;
    }
    let changed: Vec<(&OrderId, &Amount)> = after
        .totals
        .iter()
        .filter(|(id, amount)| before.totals.get(id) != Some(amount))
        .collect();
    if !changed.is_empty() {
        sqlx::query(
            "INSERT INTO notifier.order_total (order_id, currency, total_minor)
             SELECT * FROM unnest($1::uuid[], $2::text[], $3::bigint[])
             ON CONFLICT (order_id) DO UPDATE SET currency = excluded.currency, total_minor = excluded.total_minor",
        )
        .bind(changed.iter().map(|(id, _)| id.0).collect::<Vec<_>>())
        .bind(changed.iter().map(|(_, amount)| amount.currency.code()).collect::<Vec<_>>())
        .bind(changed.iter().map(|(_, amount)| amount.minor).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    }
    Ok(())
}

/// Enters notifications that the ledger does not have yet.
async fn enter(
    connection: &mut PgConnection,
    notifications: &[Notification],
    reactions: &Reactions,
) -> Result<NewlyDue, StoreError> {
    if notifications.is_empty() {
        return Ok(NewlyDue::new());
    }
    let origins: Vec<_> = notifications
        .iter()
        .map(|each| reactions.origin(each.event_id))
        .collect();
    let entered: Vec<String> = sqlx::query_scalar(
        "INSERT INTO notifier.ledger (event_id, channel, recipient, occasion, correlation_id, traceparent)
         SELECT * FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::jsonb[], $5::uuid[], $6::text[])
         ON CONFLICT ON CONSTRAINT ledger_once DO NOTHING
         RETURNING channel",
    )
    .bind(
        notifications
            .iter()
            .map(|each| each.event_id.0)
            .collect::<Vec<_>>(),
    )
    .bind(
        notifications
            .iter()
            .map(|each| each.channel.name())
            .collect::<Vec<_>>(),
    )
    .bind(
        notifications
            .iter()
            .map(|each| each.recipient.0)
            .collect::<Vec<_>>(),
    )
    .bind(
        notifications
            .iter()
            .map(|each| Json(&each.occasion))
            .collect::<Vec<Json<&Occasion>>>(),
    )
    .bind(
        origins
            .iter()
            .map(|each| each.correlation_id.map(|id| id.0))
            .collect::<Vec<_>>(),
    )
    .bind(
        origins
            .iter()
            .map(|each| each.trace.map(|place| place.to_string()))
            .collect::<Vec<_>>(),
    )
    .fetch_all(connection)
    .await?;
    Ok(Channel::ALL
        .into_iter()
        .filter(|channel| entered.iter().any(|name| name == channel.name()))
        .collect())
}
