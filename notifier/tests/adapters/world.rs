//! Users, orders, and what happens to them, as the log would bring it.

use event_log::{Recorded, record::Place};
use events::{
    Actor, Envelope, Event, Metadata, Topic,
    ids::{CommandId, CorrelationId, CredentialId, EmailHash, EventId, OrderId, UserId},
    order::{OrderCancelled, OrderCreated, OrderStatusChanged, OrderStep},
    sealed::{DataKey, Field, Sealed},
    timestamp::Timestamp,
    user::{NotificationPreferences, Role, UserErased, UserProfileUpdated, UserRegistered},
};
use notifier::store::{self, NewlyDue, Step, StoreError};
use sqlx::PgPool;
use uuid::Uuid;

use crate::database::Database;

pub const NAME: &str = "Ada Lovelace";
pub const EMAIL: &str = "ada@example.com";
pub const PHONE: &str = "+447700900123";
const AT: Timestamp = Timestamp::from_micros(1_763_800_000_000_000);

/// One partition per topic, and how far each was applied.
#[derive(Default)]
pub struct World {
    users: i64,
    orders: i64,
}

/// A user whose data is sealed with a key in the database.
pub struct User {
    pub id: UserId,
    key: DataKey,
}

impl User {
    pub async fn new(database: &Database) -> Self {
        let id = UserId(Uuid::now_v7());
        Self {
            id,
            key: database.keys.create(id).await.unwrap(),
        }
    }

    fn sealed(&self, field: Field, text: &str) -> Sealed {
        self.key.seal(self.id, field, text).unwrap()
    }

    pub fn registers(&self, phone: Option<&str>) -> Event {
        Event::UserRegistered(UserRegistered {
            user_id: self.id,
            email: self.sealed(Field::Email, EMAIL),
            email_hash: EmailHash([7; 32]),
            name: self.sealed(Field::Name, NAME),
            phone: phone.map(|phone| self.sealed(Field::Phone, phone)),
            locale: "en".into(),
            role: Role::User,
            credential_id: CredentialId(Uuid::now_v7()),
            occurred_at: AT,
        })
    }

    pub fn prefers(&self, order_emails: bool, order_sms: bool) -> Event {
        Event::UserProfileUpdated(UserProfileUpdated {
            user_id: self.id,
            name: self.sealed(Field::Name, NAME),
            phone: Some(self.sealed(Field::Phone, PHONE)),
            locale: "en".into(),
            preferences: NotificationPreferences {
                order_emails,
                order_sms,
            },
            occurred_at: AT,
        })
    }

    pub fn is_erased(&self) -> Event {
        Event::UserErased(UserErased {
            user_id: self.id,
            occurred_at: AT,
        })
    }

    pub fn orders(&self) -> Event {
        self.orders_as(OrderId(Uuid::now_v7()))
    }

    pub fn orders_as(&self, order_id: OrderId) -> Event {
        Event::OrderCreated(OrderCreated {
            order_id,
            customer_id: self.id,
            currency: "EUR".parse().unwrap(),
            lines: Vec::new(),
            total_minor: 1250,
            shipping_address: None,
            note: None,
            attributes: "{}".into(),
            occurred_at: AT,
        })
    }

    pub fn completes(&self, order_id: OrderId) -> Event {
        let status = OrderStep::Completed;
        Event::OrderStatusChanged(OrderStatusChanged {
            order_id,
            customer_id: self.id,
            status,
            reason: None,
            occurred_at: AT,
        })
    }

    pub fn cancels(&self, order_id: OrderId, reason: &str) -> Event {
        let reason = Some(reason.to_owned());
        Event::OrderCancelled(OrderCancelled {
            order_id,
            customer_id: self.id,
            reason,
            occurred_at: AT,
        })
    }
}

impl World {
    /// Applies `event` as the next record of its topic; its id.
    pub async fn happens(&mut self, pool: &PgPool, event: Event) -> EventId {
        let topic = event.event_type().topic();
        let next = match topic {
            Topic::Users => &mut self.users,
            Topic::Orders => &mut self.orders,
        };
        let record = recorded(*next, event);
        let id = record.envelope.metadata.event_id;
        apply(pool, topic, *next, &[record]).await.unwrap();
        *next += 1;
        id
    }
}

/// Applies `records` as the ones that follow `from` in partition 0.
pub async fn apply(
    pool: &PgPool,
    topic: Topic,
    from: i64,
    records: &[Recorded],
) -> Result<NewlyDue, StoreError> {
    store::checkpoint(pool, topic, 1).await?;
    let step = Step {
        partition: 0,
        from,
        to: from + records.len() as i64,
    };
    store::apply(pool, topic, &[step], records).await
}

/// `event` as the record at `offset` of partition 0.
pub fn recorded(offset: i64, event: Event) -> Recorded {
    let id = Uuid::now_v7();
    let metadata = Metadata {
        event_id: EventId(id),
        source: "/test".into(),
        time: AT,
        version: 1,
        command_id: CommandId(id),
        correlation_id: CorrelationId(id),
        causation_id: id,
        actor: Actor::System,
        idempotency: None,
        traceparent: None,
    };
    let place = Place {
        topic: event.event_type().topic(),
        partition: 0,
        offset,
    };
    Recorded {
        place,
        envelope: Envelope { metadata, event },
    }
}
