//! Orders and users as clients get them: from a command's state or from a read model, built in one place,
//! so that both are the same JSON.

use std::borrow::Cow;

use events::{
    Actor, EventType, Metadata, StreamVersion, Topic,
    currency::Currency,
    ids::{CorrelationId, EventId, OrderId, UserId},
    order::OrderLine as RecordedLine,
    sealed::{DataKey, Field, NotOpened, Sealed},
    timestamp::Timestamp,
    user::{NotificationPreferences, Role},
};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use utoipa::{ToSchema, openapi::ObjectBuilder};

use crate::openapi::schema;

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrderStatus {
    /// Ordered.
    Created,
    /// Being worked on.
    InProgress,
    /// Done.
    Completed,
    /// Called off.
    Cancelled,
}

impl OrderStatus {
    /// Every status.
    pub const ALL: [Self; 4] = [
        Self::Created,
        Self::InProgress,
        Self::Completed,
        Self::Cancelled,
    ];

    /// Its name in requests, answers and read models.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Whether a user's data is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UserStatus {
    /// Registered.
    Active,
    /// Erased: nothing personal can be read any more.
    Erased,
}

/// An order as it is stored, personal data sealed.
#[derive(Debug, Clone, Copy)]
#[expect(
    missing_docs,
    reason = "the fields are those of the answer, documented in the API description"
)]
pub struct StoredOrder<'a> {
    pub id: OrderId,
    pub customer_id: UserId,
    pub status: OrderStatus,
    pub currency: Currency,
    pub lines: &'a [RecordedLine],
    pub total_minor: i64,
    pub shipping_address: Option<&'a Sealed>,
    pub note: Option<&'a Sealed>,
    /// Compact JSON object.
    pub attributes: &'a str,
    pub version: StreamVersion,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// An order as a client gets it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Order<'a> {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    pub id: OrderId,
    /// Whose it is.
    #[schema(value_type = String, format = Uuid)]
    pub customer_id: UserId,
    /// Where it stands.
    pub status: OrderStatus,
    /// The currency of its amounts, ISO 4217.
    #[schema(value_type = String, pattern = "^[A-Z]{3}$")]
    pub currency: Currency,
    /// What is ordered, in the order it was given.
    pub lines: Vec<OrderLine<'a>>,
    /// The sum of all amounts, with exactly the decimals of the currency.
    #[schema(value_type = String, pattern = r"^[0-9]+(\.[0-9]+)?$")]
    pub total: String,
    /// Where it is sent to; `null` also when its customer was erased.
    #[schema(required = true)]
    pub shipping_address: Option<Address>,
    /// The customer's words; `null` also when he was erased.
    #[schema(required = true)]
    pub note: Option<String>,
    /// The free part.
    #[schema(value_type = Object)]
    pub attributes: Attributes<'a>,
    /// Counts its changes; the ETag says the same.
    #[schema(value_type = u64, minimum = 1)]
    pub version: StreamVersion,
    /// When it was ordered.
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was changed last.
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// A position of an order as a client gets it.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrderLine<'a> {
    /// The seller's name for the article.
    pub sku: &'a str,
    /// What it is called.
    #[schema(required = true)]
    pub name: Option<&'a str>,
    /// How many pieces.
    pub quantity: i32,
    /// What one piece costs, with exactly the decimals of the currency.
    #[schema(value_type = String, pattern = r"^[0-9]+(\.[0-9]+)?$")]
    pub unit_price: String,
    /// What all of them cost, with exactly the decimals of the currency.
    #[schema(value_type = String, pattern = r"^[0-9]+(\.[0-9]+)?$")]
    pub amount: String,
}

/// Where an order is sent to: what is sealed, as JSON, and what a client gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Address {
    /// Who gets it.
    pub recipient: String,
    /// Street and number.
    pub street: String,
    /// A second line.
    #[schema(required = true)]
    pub street2: Option<String>,
    /// The postal code.
    pub postal_code: String,
    /// The city.
    pub city: String,
    /// State, province, or the like.
    #[schema(required = true)]
    pub region: Option<String>,
    /// The country, ISO 3166-1 alpha-2.
    pub country: String,
}

/// An order's attributes: written out as they are stored, without being read.
#[derive(Debug)]
pub struct Attributes<'a>(Cow<'a, RawValue>);

impl Attributes<'_> {
    /// The stored JSON object.
    pub fn as_json(&self) -> &str {
        self.0.get()
    }
}

impl Serialize for Attributes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// Stored data that cannot be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotShown {
    /// A sealed value does not open with the user's key.
    #[error("a sealed value does not open with its user's key")]
    NotOpened,
    /// A stored value is not what its field holds.
    #[error("stored {0} is damaged")]
    Damaged(&'static str),
}

impl From<NotOpened> for NotShown {
    fn from(_: NotOpened) -> Self {
        Self::NotOpened
    }
}

impl<'a> StoredOrder<'a> {
    /// The order with its personal data, opened with the customer's key; without a key (erased) that
    /// data is left out.
    pub fn open(&self, key: Option<&DataKey>) -> Result<Order<'a>, NotShown> {
        let open = |field, sealed| open(key, self.customer_id, field, sealed);
        let shipping_address = match open(Field::ShippingAddress, self.shipping_address)? {
            Some(json) => Some(
                serde_json::from_str(&json).map_err(|_| NotShown::Damaged("shipping_address"))?,
            ),
            None => None,
        };
        let attributes: &RawValue =
            serde_json::from_str(self.attributes).map_err(|_| NotShown::Damaged("attributes"))?;
        Ok(Order {
            id: self.id,
            customer_id: self.customer_id,
            status: self.status,
            currency: self.currency,
            lines: self
                .lines
                .iter()
                .map(|line| OrderLine::of(line, self.currency))
                .collect(),
            total: self.currency.format_minor(self.total_minor),
            shipping_address,
            note: open(Field::Note, self.note)?,
            attributes: Attributes(Cow::Borrowed(attributes)),
            version: self.version,
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }

    /// Whether it holds anything that a key is needed for.
    pub fn is_sealed(&self) -> bool {
        self.shipping_address.is_some() || self.note.is_some()
    }
}

impl<'a> OrderLine<'a> {
    fn of(line: &'a RecordedLine, currency: Currency) -> Self {
        Self {
            sku: &line.sku,
            name: line.name.as_deref(),
            quantity: line.quantity,
            unit_price: currency.format_minor(line.unit_price_minor),
            amount: currency.format_minor(line.amount_minor),
        }
    }
}

/// Something that happened to an order, as a client gets it.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrderChange<'a> {
    /// The version that the order had then; the first is 1.
    #[schema(value_type = u64, minimum = 1)]
    pub version: StreamVersion,
    /// What happened.
    #[schema(schema_with = order_events)]
    pub event: &'static str,
    /// Names it in the log.
    #[schema(value_type = String, format = Uuid)]
    pub event_id: EventId,
    /// When.
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Who did it.
    pub actor: ChangedBy,
    /// Names what the client asked for, and all that came of it: its `X-Request-Id`.
    #[schema(value_type = String, format = Uuid)]
    pub correlation_id: CorrelationId,
    /// Why, in the words of whoever did it.
    #[schema(required = true)]
    pub reason: Option<&'a str>,
    /// What it changed, by field: what was there before, `null` where nothing was, and what is there since.
    #[schema(value_type = std::collections::HashMap<String, Changed>)]
    pub changes: Changes,
}

/// Who changed something.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangedBy {
    /// As what: `user`, `admin`, or `system` for Orderlog itself and its operators.
    #[schema(schema_with = actor_roles)]
    pub role: &'static str,
    /// A user's id; `null` of the system.
    #[schema(value_type = Option<String>, format = Uuid, required = true)]
    pub id: Option<UserId>,
}

/// What became of a field.
#[derive(Debug, Serialize, ToSchema)]
pub struct Changed {
    /// What was there.
    #[schema(schema_with = schema::anything, required = true)]
    pub from: Option<Box<RawValue>>,
    /// What is there since.
    #[schema(schema_with = schema::anything, required = true)]
    pub to: Box<RawValue>,
}

/// The fields that changed, in the order of an order's fields.
#[derive(Debug)]
pub struct Changes(Vec<(&'static str, Changed)>);

impl Changes {
    /// Each field, and what became of it.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Changed)> {
        self.0.iter().map(|(field, changed)| (*field, changed))
    }
}

impl Serialize for Changes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(field, changed)| (field, changed)))
    }
}

fn order_events() -> ObjectBuilder {
    let orders = EventType::ALL
        .iter()
        .filter(|each| each.topic() == Topic::Orders);
    let names: Vec<&str> = orders.map(|each| each.name()).collect();
    schema::one_of(&names, "What happens to orders.")
}

fn actor_roles() -> ObjectBuilder {
    schema::one_of(&["user", "admin", "system"], "As what somebody acts.")
}

impl From<Actor> for ChangedBy {
    fn from(actor: Actor) -> Self {
        let (role, id) = match actor {
            Actor::User(id, Role::User) => ("user", Some(id)),
            Actor::User(id, Role::Admin) => ("admin", Some(id)),
            Actor::System => ("system", None),
        };
        Self { role, id }
    }
}

impl<'a> OrderChange<'a> {
    /// What an event made of an order, which was not there before the first.
    pub fn of(
        metadata: &Metadata,
        event: EventType,
        reason: Option<&'a str>,
        before: Option<&StoredOrder<'_>>,
        after: &StoredOrder<'_>,
        key: Option<&DataKey>,
    ) -> Result<Self, NotShown> {
        let before = before.map(|before| before.open(key)).transpose()?;
        let before = before.as_ref().map(Order::fields).transpose()?;
        let mut changes = Vec::new();
        for (at, (field, to)) in after.open(key)?.fields()?.into_iter().enumerate() {
            let from = before.as_ref().and_then(|fields| fields.get(at));
            let from = from.map(|(_, from)| from.clone());
            let was = from.as_ref().map_or("null", |from| from.get());
            if was != to.get() {
                changes.push((field, Changed { from, to }));
            }
        }
        Ok(Self {
            version: metadata.version,
            event: event.name(),
            event_id: metadata.event_id,
            at: metadata.time,
            actor: metadata.actor.into(),
            correlation_id: metadata.correlation_id,
            reason,
            changes: Changes(changes),
        })
    }
}

impl Order<'_> {
    /// Every field that can change, as JSON.
    fn fields(&self) -> Result<[(&'static str, Box<RawValue>); 7], NotShown> {
        fn raw(
            field: &'static str,
            value: &impl Serialize,
        ) -> Result<(&'static str, Box<RawValue>), NotShown> {
            let value = to_raw_value(value).map_err(|_| NotShown::Damaged(field))?;
            Ok((field, value))
        }
        Ok([
            raw("status", &self.status)?,
            raw("currency", &self.currency)?,
            raw("lines", &self.lines)?,
            raw("total", &self.total)?,
            raw("shipping_address", &self.shipping_address)?,
            raw("note", &self.note)?,
            raw("attributes", &self.attributes)?,
        ])
    }
}

/// A user as he is stored, personal data sealed.
#[derive(Debug, Clone, Copy)]
#[expect(
    missing_docs,
    reason = "the fields are those of the answer, documented in the API description"
)]
pub struct StoredUser<'a> {
    pub id: UserId,
    pub email: &'a Sealed,
    pub name: &'a Sealed,
    pub phone: Option<&'a Sealed>,
    pub locale: &'a str,
    pub role: Role,
    pub status: UserStatus,
    pub email_verified: bool,
    pub preferences: NotificationPreferences,
    pub version: StreamVersion,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A user as a client gets it. Nothing personal is left of one that was erased.
#[derive(Debug, Serialize, ToSchema)]
pub struct User<'a> {
    /// His id.
    #[schema(value_type = String, format = Uuid)]
    pub id: UserId,
    /// His e-mail address.
    #[schema(required = true)]
    pub email: Option<String>,
    /// What he is called.
    #[schema(required = true)]
    pub name: Option<String>,
    /// His phone number, E.164.
    #[schema(required = true)]
    pub phone: Option<String>,
    /// The language he is written to in, BCP 47.
    pub locale: &'a str,
    /// What he may do.
    #[schema(schema_with = role)]
    pub role: Role,
    /// Whether his data is still there.
    pub status: UserStatus,
    /// Whether he has shown that the address is his.
    pub email_verified: bool,
    /// What he wants to be told.
    #[schema(schema_with = preferences)]
    pub preferences: NotificationPreferences,
    /// Counts the changes of his record; the ETag says the same.
    #[schema(value_type = u64, minimum = 1)]
    pub version: StreamVersion,
    /// When he registered.
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When his record was changed last.
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

fn role() -> ObjectBuilder {
    schema::one_of(&["user", "admin"], "What a user may do.")
}

fn preferences() -> ObjectBuilder {
    ObjectBuilder::new()
        .description(Some("What a user wants to be told."))
        .property("order_emails", schema::boolean("E-mails about orders."))
        .property("order_sms", schema::boolean("SMS about orders."))
        .required("order_emails")
        .required("order_sms")
}

impl<'a> StoredUser<'a> {
    /// The user with his personal data, opened with his key; without a key (erased) that data is left out.
    pub fn open(&self, key: Option<&DataKey>) -> Result<User<'a>, NotShown> {
        let open = |field, sealed| open(key, self.id, field, sealed);
        Ok(User {
            id: self.id,
            email: open(Field::Email, Some(self.email))?,
            name: open(Field::Name, Some(self.name))?,
            phone: open(Field::Phone, self.phone)?,
            locale: self.locale,
            role: self.role,
            status: self.status,
            email_verified: self.email_verified,
            preferences: self.preferences,
            version: self.version,
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }
}

fn open(
    key: Option<&DataKey>,
    subject: UserId,
    field: Field,
    sealed: Option<&Sealed>,
) -> Result<Option<String>, NotOpened> {
    key.zip(sealed)
        .map(|(key, sealed)| key.open(subject, field, sealed))
        .transpose()
}

fn as_text<S: Serializer>(instant: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(instant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use uuid::Uuid;

    const USER: UserId = UserId(Uuid::from_u128(7));

    #[test]
    fn an_order_is_shown_with_its_personal_data_and_exact_money() {
        let key = DataKey::new(&[1; 32]);
        let address = Address {
            recipient: "Ada".into(),
            street: "1 Main St".into(),
            street2: None,
            postal_code: "12345".into(),
            city: "Berlin".into(),
            region: None,
            country: "DE".into(),
        };
        let address = key
            .seal(
                USER,
                Field::ShippingAddress,
                &serde_json::to_string(&address).unwrap(),
            )
            .unwrap();
        let lines = [RecordedLine {
            sku: "A".into(),
            name: None,
            quantity: 3,
            unit_price_minor: 1250,
            amount_minor: 3750,
        }];
        let stored = StoredOrder {
            id: OrderId(Uuid::from_u128(1)),
            customer_id: USER,
            status: OrderStatus::InProgress,
            currency: "EUR".parse().unwrap(),
            lines: &lines,
            total_minor: 3750,
            shipping_address: Some(&address),
            note: None,
            attributes: r#"{"a":1.0}"#,
            version: 2,
            created_at: Timestamp::from_micros(0),
            updated_at: Timestamp::from_micros(1_000_000),
        };
        let text = serde_json::to_string(&stored.open(Some(&key)).unwrap()).unwrap();
        assert_eq!(
            text,
            "{\"id\":\"00000000-0000-0000-0000-000000000001\",\
              \"customer_id\":\"00000000-0000-0000-0000-000000000007\",\
              \"status\":\"in_progress\",\"currency\":\"EUR\",\
              \"lines\":[{\"sku\":\"A\",\"name\":null,\"quantity\":3,\"unit_price\":\"12.50\",\"amount\":\"37.50\"}],\
              \"total\":\"37.50\",\"shipping_address\":{\"recipient\":\"Ada\",\"street\":\"1 Main St\",\
              \"street2\":null,\"postal_code\":\"12345\",\"city\":\"Berlin\",\"region\":null,\"country\":\"DE\"},\
              \"note\":null,\"attributes\":{\"a\":1.0},\"version\":2,\
              \"created_at\":\"1970-01-01T00:00:00Z\",\"updated_at\":\"1970-01-01T00:00:01Z\"}"
        );
        let erased = serde_json::to_value(stored.open(None).unwrap()).unwrap();
        assert_eq!(erased["shipping_address"], json!(null));
        assert_eq!(
            stored.open(Some(&DataKey::new(&[2; 32]))).unwrap_err(),
            NotShown::NotOpened
        );
        let damaged = StoredOrder {
            attributes: "{",
            ..stored
        };
        assert_eq!(
            damaged.open(None).unwrap_err(),
            NotShown::Damaged("attributes")
        );
    }

    #[test]
    fn an_erased_user_keeps_what_is_not_personal() {
        let key = DataKey::new(&[1; 32]);
        let (email, name) = (
            key.seal(USER, Field::Email, "ada@example.com").unwrap(),
            key.seal(USER, Field::Name, "Ada").unwrap(),
        );
        let stored = StoredUser {
            id: USER,
            email: &email,
            name: &name,
            phone: None,
            locale: "en",
            role: Role::Admin,
            status: UserStatus::Active,
            email_verified: false,
            preferences: NotificationPreferences::default(),
            version: 1,
            created_at: Timestamp::from_micros(0),
            updated_at: Timestamp::from_micros(0),
        };
        let shown = serde_json::to_value(stored.open(Some(&key)).unwrap()).unwrap();
        assert_eq!(
            shown,
            json!({
                "id": USER, "email": "ada@example.com", "name": "Ada", "phone": null, "locale": "en",
                "role": "admin", "status": "active", "email_verified": false,
                "preferences": {"order_emails": true, "order_sms": true}, "version": 1,
                "created_at": "1970-01-01T00:00:00Z", "updated_at": "1970-01-01T00:00:00Z",
            })
        );
        let erased = serde_json::to_value(stored.open(None).unwrap()).unwrap();
        assert_eq!(
            (&erased["email"], &erased["locale"]),
            (&json!(null), &json!("en"))
        );
    }
}
