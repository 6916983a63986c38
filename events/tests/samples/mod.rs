//! One sample of every event, with every optional field filled, and of metadata.

use events::{
    Actor, Event, EventType, Idempotency, Metadata,
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

const ORDER: OrderId = OrderId(Uuid::from_u128(1));
const USER: UserId = UserId(Uuid::from_u128(2));
const CREDENTIAL: CredentialId = CredentialId(Uuid::from_u128(3));
const EMAIL_HASH: EmailHash = EmailHash([0x5a; 32]);
const AT: Timestamp = Timestamp::from_micros(1_795_334_400_000_001);

fn sealed(field: Field, text: &str) -> Sealed {
    DataKey::new(&[9; 32]).seal(USER, field, text).unwrap()
}

fn lines() -> Vec<OrderLine> {
    let line = |sku: &str, name: Option<&str>, quantity: i32, unit_price_minor| OrderLine {
        sku: sku.to_owned(),
        name: name.map(str::to_owned),
        quantity,
        unit_price_minor,
        amount_minor: i64::from(quantity) * unit_price_minor,
    };
    vec![
        line("85123A", Some("WHITE HANGING HEART T-LIGHT HOLDER"), 6, 255),
        line("71053", None, 1_000_000, 339),
        line("21730", Some("GLASS STAR FROSTED T-LIGHT HOLDER é"), 1, 0),
    ]
}

/// A sample of that type. A new event does not compile before it has one.
pub fn sample(event_type: EventType) -> Event {
    match event_type {
        EventType::UserRegistered => Event::UserRegistered(UserRegistered {
            user_id: USER,
            email: sealed(Field::Email, "ada@example.com"),
            email_hash: EMAIL_HASH,
            name: sealed(Field::Name, "Ada Lovelace"),
            phone: Some(sealed(Field::Phone, "+441632960001")),
            locale: "en-GB".to_owned(),
            role: Role::User,
            credential_id: CREDENTIAL,
            occurred_at: AT,
        }),
        EventType::UserProfileUpdated => Event::UserProfileUpdated(UserProfileUpdated {
            user_id: USER,
            name: sealed(Field::Name, "Ada King"),
            phone: None,
            locale: "de".to_owned(),
            preferences: NotificationPreferences {
                order_emails: true,
                order_sms: false,
            },
            occurred_at: AT,
        }),
        EventType::UserPasswordChanged => Event::UserPasswordChanged(UserPasswordChanged {
            user_id: USER,
            credential_id: CREDENTIAL,
            occurred_at: AT,
        }),
        EventType::UserEmailChanged => Event::UserEmailChanged(UserEmailChanged {
            user_id: USER,
            email: sealed(Field::Email, "king@example.com"),
            email_hash: EMAIL_HASH,
            occurred_at: AT,
        }),
        EventType::UserRoleChanged => Event::UserRoleChanged(UserRoleChanged {
            user_id: USER,
            role: Role::Admin,
            occurred_at: AT,
        }),
        EventType::UserErased => Event::UserErased(UserErased {
            user_id: USER,
            occurred_at: AT,
        }),
        EventType::UserEmailClaimed => Event::UserEmailClaimed(UserEmailClaimed {
            email_hash: EMAIL_HASH,
            user_id: USER,
            occurred_at: AT,
        }),
        EventType::UserEmailReleased => Event::UserEmailReleased(UserEmailReleased {
            email_hash: EMAIL_HASH,
            user_id: USER,
            occurred_at: AT,
        }),
        EventType::OrderCreated => Event::OrderCreated(OrderCreated {
            order_id: ORDER,
            customer_id: USER,
            currency: "GBP".parse().unwrap(),
            lines: lines(),
            total_minor: 339_001_530,
            shipping_address: Some(sealed(Field::ShippingAddress, r#"{"recipient":"Ada"}"#)),
            note: Some(sealed(Field::Note, "leave at the door")),
            attributes: r#"{"invoice_no":"536365"}"#.to_owned(),
            occurred_at: AT,
        }),
        EventType::OrderUpdated => Event::OrderUpdated(OrderUpdated {
            order_id: ORDER,
            customer_id: USER,
            currency: "GBP".parse().unwrap(),
            lines: lines(),
            total_minor: 339_001_530,
            shipping_address: None,
            note: None,
            attributes: "{}".to_owned(),
            occurred_at: AT,
        }),
        EventType::OrderStatusChanged => Event::OrderStatusChanged(OrderStatusChanged {
            order_id: ORDER,
            customer_id: USER,
            status: OrderStep::InProgress,
            reason: Some("picked".to_owned()),
            occurred_at: AT,
        }),
        EventType::OrderCancelled => Event::OrderCancelled(OrderCancelled {
            order_id: ORDER,
            customer_id: USER,
            reason: Some("changed my mind".to_owned()),
            occurred_at: AT,
        }),
    }
}

/// Metadata with everything, and with as little as there can be.
pub fn metadata_samples() -> Vec<Metadata> {
    let full = Metadata {
        event_id: EventId(Uuid::from_u128(14)),
        source: "/orderlog/command-api".to_owned(),
        time: AT,
        version: 1,
        command_id: CommandId(Uuid::from_u128(12)),
        correlation_id: CorrelationId(Uuid::from_u128(13)),
        causation_id: Uuid::from_u128(12),
        actor: Actor::User(USER, Role::User),
        idempotency: Some(Idempotency {
            key: "invoice-536365".to_owned(),
            fingerprint: [0xab; 32],
        }),
        traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
            .parse()
            .ok(),
    };
    let least = Metadata {
        actor: Actor::System,
        idempotency: None,
        traceparent: None,
        ..full.clone()
    };
    let admin = Metadata {
        actor: Actor::User(USER, Role::Admin),
        version: u64::MAX,
        ..full.clone()
    };
    vec![full, least, admin]
}
