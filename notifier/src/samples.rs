//! One event of every type, for tests.

use event_log::{Recorded, record::Place};
use events::{
    Actor, Envelope, Event, Metadata,
    ids::{CommandId, CorrelationId, CredentialId, EmailHash, EventId, OrderId, UserId},
    order::{OrderCancelled, OrderCreated, OrderLine, OrderStatusChanged, OrderStep, OrderUpdated},
    sealed::{DataKey, Field, Sealed},
    timestamp::Timestamp,
    user::{
        NotificationPreferences, Role, UserEmailChanged, UserEmailClaimed, UserEmailReleased,
        UserErased, UserPasswordChanged, UserProfileUpdated, UserRegistered, UserRoleChanged,
    },
};
use uuid::Uuid;

pub(crate) const EVENT: EventId = EventId(Uuid::from_u128(0xE));
pub(crate) const USER: UserId = UserId(Uuid::from_u128(0xA));
pub(crate) const ORDER: OrderId = OrderId(Uuid::from_u128(0xB));
const CREDENTIAL: CredentialId = CredentialId(Uuid::from_u128(0xC));
const EMAIL_HASH: EmailHash = EmailHash([7; 32]);
pub(crate) const AT: Timestamp = Timestamp::from_micros(1_763_800_000_000_000);

/// `text` as the user's own key seals it.
pub(crate) fn sealed(field: Field, text: &str) -> Sealed {
    DataKey::new(&[1; DataKey::BYTES])
        .seal(USER, field, text)
        .unwrap()
}

pub(crate) fn user_registered() -> Event {
    Event::UserRegistered(UserRegistered {
        user_id: USER,
        email: sealed(Field::Email, "ada@example.com"),
        email_hash: EMAIL_HASH,
        name: sealed(Field::Name, "Ada"),
        phone: None,
        locale: "en".into(),
        role: Role::User,
        credential_id: CREDENTIAL,
        occurred_at: AT,
    })
}

pub(crate) fn user_profile_updated() -> Event {
    Event::UserProfileUpdated(UserProfileUpdated {
        user_id: USER,
        name: sealed(Field::Name, "Ada L."),
        phone: Some(sealed(Field::Phone, "+447700900123")),
        locale: "de-AT".into(),
        preferences: NotificationPreferences {
            order_emails: true,
            order_sms: false,
        },
        occurred_at: AT,
    })
}

pub(crate) fn user_password_changed() -> Event {
    Event::UserPasswordChanged(UserPasswordChanged {
        user_id: USER,
        credential_id: CREDENTIAL,
        occurred_at: AT,
    })
}

pub(crate) fn user_email_changed() -> Event {
    let email = sealed(Field::Email, "ada@example.org");
    Event::UserEmailChanged(UserEmailChanged {
        user_id: USER,
        email,
        email_hash: EMAIL_HASH,
        occurred_at: AT,
    })
}

pub(crate) fn user_role_changed() -> Event {
    Event::UserRoleChanged(UserRoleChanged {
        user_id: USER,
        role: Role::Admin,
        occurred_at: AT,
    })
}

pub(crate) fn user_erased() -> Event {
    Event::UserErased(UserErased {
        user_id: USER,
        occurred_at: AT,
    })
}

pub(crate) fn user_email_claimed() -> Event {
    Event::UserEmailClaimed(UserEmailClaimed {
        email_hash: EMAIL_HASH,
        user_id: USER,
        occurred_at: AT,
    })
}

pub(crate) fn user_email_released() -> Event {
    Event::UserEmailReleased(UserEmailReleased {
        email_hash: EMAIL_HASH,
        user_id: USER,
        occurred_at: AT,
    })
}

fn lines(total_minor: i64) -> Vec<OrderLine> {
    let line = OrderLine {
        sku: "A-1".into(),
        name: None,
        quantity: 1,
        unit_price_minor: total_minor,
        amount_minor: total_minor,
    };
    vec![line]
}

pub(crate) fn order_created(total_minor: i64) -> Event {
    Event::OrderCreated(OrderCreated {
        order_id: ORDER,
        customer_id: USER,
        currency: "EUR".parse().unwrap(),
        lines: lines(total_minor),
        total_minor,
        shipping_address: None,
        note: None,
        attributes: "{}".into(),
        occurred_at: AT,
    })
}

pub(crate) fn order_updated(total_minor: i64) -> Event {
    Event::OrderUpdated(OrderUpdated {
        order_id: ORDER,
        customer_id: USER,
        currency: "EUR".parse().unwrap(),
        lines: lines(total_minor),
        total_minor,
        shipping_address: None,
        note: None,
        attributes: "{}".into(),
        occurred_at: AT,
    })
}

fn order_step(status: OrderStep) -> Event {
    Event::OrderStatusChanged(OrderStatusChanged {
        order_id: ORDER,
        customer_id: USER,
        status,
        reason: None,
        occurred_at: AT,
    })
}

pub(crate) fn order_in_progress() -> Event {
    order_step(OrderStep::InProgress)
}

pub(crate) fn order_completed() -> Event {
    order_step(OrderStep::Completed)
}

pub(crate) fn order_cancelled() -> Event {
    let reason = Some("changed my mind".into());
    Event::OrderCancelled(OrderCancelled {
        order_id: ORDER,
        customer_id: USER,
        reason,
        occurred_at: AT,
    })
}

/// `event` as the record at `offset` of partition 0; its event id is derived from the offset.
pub(crate) fn recorded(offset: i64, event: Event) -> Recorded {
    let id = Uuid::from_u128(offset as u128);
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
