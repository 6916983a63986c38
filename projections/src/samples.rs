//! Events for tests, of the crate and of its adapters.

use std::collections::BTreeMap;

use events::{
    OrderEvent, StreamVersion, UserEvent,
    ids::{CredentialId, EmailHash, OrderId, UserId},
    order::{OrderCancelled, OrderCreated, OrderLine, OrderStatusChanged, OrderStep, OrderUpdated},
    sealed::Sealed,
    timestamp::Timestamp,
    user::{
        NotificationPreferences, Role, UserEmailChanged, UserErased, UserPasswordChanged,
        UserProfileUpdated, UserRegistered, UserRoleChanged,
    },
};
use projections::fold::{Fact, Part, Round};
use uuid::Uuid;

pub const START_MICROS: i64 = 1_763_800_000_000_001;

pub fn user(number: u128) -> UserId {
    UserId(Uuid::from_u128(number))
}

pub fn order(number: u128) -> OrderId {
    OrderId(Uuid::from_u128(number))
}

/// One second apart for each step.
pub fn at(step: i64) -> Timestamp {
    Timestamp::from_micros(START_MICROS + step * 1_000_000)
}

pub fn sealed(text: &str) -> Sealed {
    Sealed::from_bytes(text.as_bytes().to_vec())
}

pub fn registered(id: UserId, step: i64) -> UserEvent {
    UserEvent::Registered(UserRegistered {
        user_id: id,
        email: sealed("email 1"),
        email_hash: EmailHash([7; 32]),
        name: sealed("name 1"),
        phone: Some(sealed("phone 1")),
        locale: "en".into(),
        role: Role::User,
        credential_id: CredentialId(Uuid::nil()),
        occurred_at: at(step),
    })
}

pub fn profile_updated(id: UserId, step: i64) -> UserEvent {
    UserEvent::ProfileUpdated(UserProfileUpdated {
        user_id: id,
        name: sealed("name 2"),
        phone: None,
        locale: "de-AT".into(),
        preferences: NotificationPreferences {
            order_emails: true,
            order_sms: false,
        },
        occurred_at: at(step),
    })
}

pub fn password_changed(id: UserId, step: i64) -> UserEvent {
    UserEvent::PasswordChanged(UserPasswordChanged {
        user_id: id,
        credential_id: CredentialId(Uuid::max()),
        occurred_at: at(step),
    })
}

pub fn email_changed(id: UserId, step: i64) -> UserEvent {
    UserEvent::EmailChanged(UserEmailChanged {
        user_id: id,
        email: sealed("email 2"),
        email_hash: EmailHash([8; 32]),
        occurred_at: at(step),
    })
}

pub fn role_changed(id: UserId, step: i64) -> UserEvent {
    UserEvent::RoleChanged(UserRoleChanged {
        user_id: id,
        role: Role::Admin,
        occurred_at: at(step),
    })
}

pub fn erased(id: UserId, step: i64) -> UserEvent {
    UserEvent::Erased(UserErased {
        user_id: id,
        occurred_at: at(step),
    })
}

fn line(sku: &str, quantity: i32) -> OrderLine {
    OrderLine {
        sku: sku.into(),
        name: None,
        quantity,
        unit_price_minor: 250,
        amount_minor: 250 * i64::from(quantity),
    }
}

/// An order of `customer`; with nothing sealed in it.
pub fn created(id: OrderId, customer: UserId, step: i64) -> OrderEvent {
    OrderEvent::Created(OrderCreated {
        order_id: id,
        customer_id: customer,
        currency: "EUR".parse().unwrap(),
        lines: vec![line("A", 1), line("A", 2)],
        total_minor: 750,
        shipping_address: None,
        note: None,
        attributes: "{}".into(),
        occurred_at: at(step),
    })
}

/// Contents with sealed fields and the given attributes.
pub fn updated(id: OrderId, customer: UserId, step: i64, attributes: &str) -> OrderEvent {
    OrderEvent::Updated(OrderUpdated {
        order_id: id,
        customer_id: customer,
        currency: "EUR".parse().unwrap(),
        lines: vec![line("B", 5)],
        total_minor: 1_250,
        shipping_address: Some(sealed("address")),
        note: Some(sealed("note")),
        attributes: attributes.into(),
        occurred_at: at(step),
    })
}

pub fn progressed(id: OrderId, customer: UserId, step: i64, to: OrderStep) -> OrderEvent {
    OrderEvent::StatusChanged(OrderStatusChanged {
        order_id: id,
        customer_id: customer,
        status: to,
        reason: None,
        occurred_at: at(step),
    })
}

pub fn cancelled(id: OrderId, customer: UserId, step: i64) -> OrderEvent {
    OrderEvent::Cancelled(OrderCancelled {
        order_id: id,
        customer_id: customer,
        reason: Some("changed my mind".into()),
        occurred_at: at(step),
    })
}

/// A round of one partition: `events` with their versions, at consecutive offsets from `from` on.
pub fn round<E>(partition: u16, from: i64, events: Vec<(StreamVersion, E)>) -> Round<E> {
    let facts: Vec<Fact<E>> = (from..)
        .zip(events)
        .map(|(offset, (version, event))| Fact {
            offset,
            version,
            follows: version - 1,
            event,
        })
        .collect();
    // The marker of the transaction takes an offset, too.
    let to = from + facts.len() as i64 + 1;
    BTreeMap::from([(partition, Part { from, to, facts })])
}
