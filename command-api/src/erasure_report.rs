//! `erasure-report`: what the log and the identity tables say about a user who was erased, for whoever must prove it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use event_log::{Feed, FeedItem, Recorded, Schemas, record::Place, topics::end_positions};
use events::{
    Event, Topic,
    ids::UserId,
    sealed::{DataKey, Field, Sealed},
};
use runtime::{
    data_keys::{DataKeys, WrappingKey},
    postgres::{self, in_time},
};
use serde::Serialize;
use sqlx::PgPool;
use tokio::time::timeout;

use crate::{SERVICE, settings::ErasureReportSettings};

/// How long the log may bring nothing.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// What is known about an erasure.
#[derive(Debug, Serialize)]
struct Report {
    user_id: UserId,
    /// Nothing personal can be read: he was erased, and all below is gone.
    complete: bool,
    log: InLog,
    tables: InTables,
}

/// What the log says.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct InLog {
    registered_at: Option<String>,
    erased_at: Option<String>,
    address_released_at: Option<String>,
    /// Pieces of personal data that stand in the log sealed, for ever.
    sealed_values: u64,
    /// How many of them still open.
    opened_values: u64,
}

/// What is left in the identity tables.
#[derive(Debug, Serialize)]
struct InTables {
    data_keys: i64,
    credentials: i64,
    sessions: i64,
}

/// Prints the report; fails when it is not that all is gone.
pub async fn print(settings: &ErasureReportSettings) -> anyhow::Result<()> {
    let pool = postgres::pool(&settings.postgres, SERVICE);
    let wrapping_key = WrappingKey::from_file(&settings.data_key_wrapping_key_file)?;
    let key = DataKeys::new(pool.clone(), wrapping_key);
    let key = key.get(settings.user_id).await?;
    let log = read_log(settings, key.as_ref()).await?;
    let tables = read_tables(&pool, settings.user_id).await?;
    let rows_left = tables.data_keys + tables.credentials + tables.sessions;
    let report = Report {
        user_id: settings.user_id,
        complete: log.erased_at.is_some() && log.opened_values == 0 && rows_left == 0,
        log,
        tables,
    };
    println!("{}", serde_json::to_string_pretty(&report)?);
    ensure!(
        report.complete,
        "user {} is not erased, or not completely",
        settings.user_id
    );
    Ok(())
}

async fn read_log(
    settings: &ErasureReportSettings,
    key: Option<&DataKey>,
) -> anyhow::Result<InLog> {
    let schemas = Schemas::load(&settings.kafka).await.context("schemas")?;
    let schemas = Arc::new(schemas);
    let mut found = InLog::default();
    for topic in [Topic::Users, Topic::Orders] {
        let mut left = end_positions(&settings.kafka, topic).await?;
        left.retain(|_, end| *end > 0);
        let from = BTreeMap::new();
        let mut feed = Feed::start(&settings.kafka, Arc::clone(&schemas), topic, from).await?;
        while !left.is_empty() {
            let next = timeout(SILENCE_MAX, feed.next()).await;
            let (partition, position) = match next.context("the log brings nothing")?? {
                FeedItem::Batch {
                    partition,
                    records,
                    position,
                } => {
                    let read = |recorded| found.read(settings.user_id, key, recorded);
                    records.iter().for_each(read);
                    (partition, position)
                }
                FeedItem::CaughtUp {
                    partition,
                    position,
                } => (partition, position),
                FeedItem::Undecodable { place, reason, .. } => {
                    anyhow::bail!("{place} cannot be read: {reason}")
                }
            };
            if left.get(&partition).is_some_and(|end| position >= *end) {
                left.remove(&partition);
            }
        }
    }
    Ok(found)
}

impl InLog {
    fn read(&mut self, user_id: UserId, key: Option<&DataKey>, recorded: &Recorded) {
        let event = &recorded.envelope.event;
        if subject(event) != user_id {
            return;
        }
        let here = |place: Place| Some(place.to_string());
        if matches!(event, Event::UserRegistered(_)) {
            self.registered_at = here(recorded.place);
        } else if matches!(event, Event::UserErased(_)) {
            self.erased_at = here(recorded.place);
        } else if matches!(event, Event::UserEmailReleased(_)) {
            self.address_released_at = here(recorded.place);
        }
        for (field, sealed) in sealed_in(event) {
            self.sealed_values += 1;
            let opens = key.is_some_and(|key| key.open(user_id, field, sealed).is_ok());
            self.opened_values += u64::from(opens);
        }
    }
}

/// Whom an event is about.
fn subject(event: &Event) -> UserId {
    match event {
        Event::UserRegistered(fact) => fact.user_id,
        Event::UserProfileUpdated(fact) => fact.user_id,
        Event::UserPasswordChanged(fact) => fact.user_id,
        Event::UserEmailChanged(fact) => fact.user_id,
        Event::UserRoleChanged(fact) => fact.user_id,
        Event::UserErased(fact) => fact.user_id,
        Event::UserEmailClaimed(fact) => fact.user_id,
        Event::UserEmailReleased(fact) => fact.user_id,
        Event::OrderCreated(fact) => fact.customer_id,
        Event::OrderUpdated(fact) => fact.customer_id,
        Event::OrderStatusChanged(fact) => fact.customer_id,
        Event::OrderCancelled(fact) => fact.customer_id,
    }
}

/// The personal data in an event.
fn sealed_in(event: &Event) -> Vec<(Field, &Sealed)> {
    let fields = match event {
        Event::UserRegistered(fact) => vec![
            (Field::Email, Some(&fact.email)),
            (Field::Name, Some(&fact.name)),
            (Field::Phone, fact.phone.as_ref()),
        ],
        Event::UserProfileUpdated(fact) => vec![
            (Field::Name, Some(&fact.name)),
            (Field::Phone, fact.phone.as_ref()),
        ],
        Event::UserEmailChanged(fact) => vec![(Field::Email, Some(&fact.email))],
        Event::OrderCreated(fact) => vec![
            (Field::ShippingAddress, fact.shipping_address.as_ref()),
            (Field::Note, fact.note.as_ref()),
        ],
        Event::OrderUpdated(fact) => vec![
            (Field::ShippingAddress, fact.shipping_address.as_ref()),
            (Field::Note, fact.note.as_ref()),
        ],
        Event::UserPasswordChanged(_)
        | Event::UserRoleChanged(_)
        | Event::UserErased(_)
        | Event::UserEmailClaimed(_)
        | Event::UserEmailReleased(_)
        | Event::OrderStatusChanged(_)
        | Event::OrderCancelled(_) => vec![],
    };
    let present = |(field, sealed): (Field, Option<_>)| Some((field, sealed?));
    fields.into_iter().filter_map(present).collect()
}

async fn read_tables(pool: &PgPool, user_id: UserId) -> Result<InTables, sqlx::Error> {
    let query = sqlx::query_as(
        "SELECT (SELECT count(*) FROM identity.data_keys WHERE user_id = $1),
                (SELECT count(*) FROM identity.credentials WHERE user_id = $1),
                (SELECT count(*) FROM identity.session_families WHERE user_id = $1)",
    );
    let query = query.bind(user_id.0);
    let (data_keys, credentials, sessions) = in_time(query.fetch_one(pool)).await?;
    Ok(InTables {
        data_keys,
        credentials,
        sessions,
    })
}
