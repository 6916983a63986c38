//! Orders and users as gRPC clients get them: the representation that HTTP clients get, in other words.

use events::{timestamp::Timestamp, user::Role};
use proto::v1;

use crate::representation::{
    Address, Order, OrderChange, OrderLine, OrderStatus, User, UserStatus,
};

const MICROS_PER_SECOND: i64 = 1_000_000;
const NANOS_PER_MICRO: i64 = 1_000;

impl From<Order<'_>> for v1::Order {
    fn from(order: Order<'_>) -> Self {
        Self {
            id: order.id.to_string(),
            customer_id: order.customer_id.to_string(),
            status: v1::OrderStatus::from(order.status).into(),
            currency: order.currency.to_string(),
            attributes_json: order.attributes.as_json().to_owned(),
            lines: order.lines.into_iter().map(Into::into).collect(),
            total: order.total,
            shipping_address: order.shipping_address.map(Into::into),
            note: order.note,
            version: order.version,
            created_at: Some(instant(order.created_at)),
            updated_at: Some(instant(order.updated_at)),
        }
    }
}

impl From<OrderChange<'_>> for v1::OrderChange {
    fn from(change: OrderChange<'_>) -> Self {
        let changes = change
            .changes
            .iter()
            .map(|(field, changed)| v1::FieldChange {
                field: field.to_owned(),
                from_json: changed.from.as_ref().map(|from| from.get().to_owned()),
                to_json: changed.to.get().to_owned(),
            });
        Self {
            version: change.version,
            event: change.event.to_owned(),
            event_id: change.event_id.0.to_string(),
            at: Some(instant(change.at)),
            actor_role: change.actor.role.to_owned(),
            actor_id: change.actor.id.map(|id| id.to_string()),
            correlation_id: change.correlation_id.0.to_string(),
            reason: change.reason.map(str::to_owned),
            changes: changes.collect(),
        }
    }
}

impl From<OrderLine<'_>> for v1::OrderLine {
    fn from(line: OrderLine<'_>) -> Self {
        Self {
            sku: line.sku.to_owned(),
            name: line.name.map(str::to_owned),
            quantity: line.quantity,
            unit_price: line.unit_price,
            amount: line.amount,
        }
    }
}

impl From<Address> for v1::Address {
    fn from(address: Address) -> Self {
        Self {
            recipient: address.recipient,
            street: address.street,
            street2: address.street2,
            postal_code: address.postal_code,
            city: address.city,
            region: address.region,
            country: address.country,
        }
    }
}

impl From<OrderStatus> for v1::OrderStatus {
    fn from(status: OrderStatus) -> Self {
        match status {
            OrderStatus::Created => Self::Created,
            OrderStatus::InProgress => Self::InProgress,
            OrderStatus::Completed => Self::Completed,
            OrderStatus::Cancelled => Self::Cancelled,
        }
    }
}

impl From<User<'_>> for v1::User {
    fn from(user: User<'_>) -> Self {
        Self {
            id: user.id.to_string(),
            email: user.email,
            name: user.name,
            phone: user.phone,
            locale: user.locale.to_owned(),
            role: match user.role {
                Role::User => v1::Role::User,
                Role::Admin => v1::Role::Admin,
            }
            .into(),
            status: match user.status {
                UserStatus::Active => v1::UserStatus::Active,
                UserStatus::Erased => v1::UserStatus::Erased,
            }
            .into(),
            email_verified: user.email_verified,
            preferences: Some(v1::NotificationPreferences {
                order_emails: Some(user.preferences.order_emails),
                order_sms: Some(user.preferences.order_sms),
            }),
            version: user.version,
            created_at: Some(instant(user.created_at)),
            updated_at: Some(instant(user.updated_at)),
        }
    }
}

fn instant(timestamp: Timestamp) -> prost_types::Timestamp {
    let micros = timestamp.micros();
    let nanos = micros.rem_euclid(MICROS_PER_SECOND) * NANOS_PER_MICRO;
    prost_types::Timestamp {
        seconds: micros.div_euclid(MICROS_PER_SECOND),
        // Less than a second.
        nanos: i32::try_from(nanos).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_before_the_epoch_counts_upwards() {
        let shown = instant(Timestamp::from_micros(-1));
        assert_eq!((shown.seconds, shown.nanos), (-1, 999_999_000));
    }
}
