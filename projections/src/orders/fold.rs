//! What an order is to queries, folded from the order's events. Pure.

use events::{
    EventType, OrderEvent, StreamVersion,
    currency::Currency,
    ids::{OrderId, StreamId, UserId},
    order::{OrderCreated, OrderLine, OrderStep, OrderUpdated},
    sealed::Sealed,
    timestamp::Timestamp,
};
use runtime::representation::OrderStatus;

use crate::{
    digest::{Digest, Hasher},
    fold::{Digested, Misfit, State},
};

/// An order; what was ordered as `C`: in full in the read model, hashed where the model is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order<C = Contents> {
    /// Which.
    pub id: OrderId,
    /// Whose.
    pub customer_id: UserId,
    /// How far it is.
    pub status: OrderStatus,
    /// What was ordered.
    pub contents: C,
    /// Version of the stream.
    pub version: StreamVersion,
    /// When it was created.
    pub created_at: Timestamp,
    /// When anything last happened to it.
    pub updated_at: Timestamp,
}

/// What was ordered: the part that an update replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// Of every amount.
    pub currency: Currency,
    /// In the client's order.
    pub lines: Vec<OrderLine>,
    /// Sum of the lines, in minor units.
    pub total_minor: i64,
    /// JSON, sealed with the customer's key.
    pub shipping_address: Option<Sealed>,
    /// Sealed with the customer's key.
    pub note: Option<Sealed>,
    /// The client's free JSON object, as the event holds it.
    pub attributes: String,
}

impl<C: From<Contents> + Clone + Send + Sync + 'static> State for Order<C> {
    type Event = OrderEvent;

    fn stream_of(event: &OrderEvent) -> StreamId {
        event.stream_id()
    }

    fn stream(&self) -> StreamId {
        self.id.into()
    }

    fn version(&self) -> StreamVersion {
        self.version
    }

    fn evolve(
        state: Option<Self>,
        version: StreamVersion,
        event: &OrderEvent,
    ) -> Result<Self, Misfit> {
        let at = event.occurred_at();
        at.to_utc()
            .map_err(|error| Misfit(format!("occurred_at: {error}")))?;
        let mut order = match (state, event) {
            (Some(order), _) => order,
            (None, OrderEvent::Created(fact)) => return Ok(create(version, fact)),
            (None, other) => return Err(Misfit::not_begun(other.event_type().name())),
        };
        match event {
            OrderEvent::Created(_) => return Err(Misfit::begun_already(event.event_type().name())),
            OrderEvent::Updated(_) | OrderEvent::StatusChanged(_) | OrderEvent::Cancelled(_) => {
                if let Some(contents) = contents_after(event) {
                    order.contents = contents.into();
                }
                if let Some(status) = status_after(event) {
                    order.status = status;
                }
            }
        }
        Ok(Self {
            version,
            updated_at: at,
            ..order
        })
    }
}

/// Where an order stands after an event, unless that leaves it where it was.
pub fn status_after(event: &OrderEvent) -> Option<OrderStatus> {
    match event {
        OrderEvent::Created(_) => Some(OrderStatus::Created),
        OrderEvent::Updated(_) => None,
        OrderEvent::StatusChanged(fact) => Some(match fact.status {
            OrderStep::InProgress => OrderStatus::InProgress,
            OrderStep::Completed => OrderStatus::Completed,
        }),
        OrderEvent::Cancelled(_) => Some(OrderStatus::Cancelled),
    }
}

/// What is ordered after an event, unless that leaves it as it was.
pub fn contents_after(event: &OrderEvent) -> Option<Contents> {
    match event {
        OrderEvent::Created(fact) => Some(fact.into()),
        OrderEvent::Updated(fact) => Some(fact.into()),
        OrderEvent::StatusChanged(_) | OrderEvent::Cancelled(_) => None,
    }
}

/// The types of event that say where an order stands.
pub const SETS_STATUS: [EventType; 3] = [
    EventType::OrderCreated,
    EventType::OrderStatusChanged,
    EventType::OrderCancelled,
];

/// The types of event that say what is ordered.
pub const SETS_CONTENTS: [EventType; 2] = [EventType::OrderCreated, EventType::OrderUpdated];

fn create<C: From<Contents>>(version: StreamVersion, fact: &OrderCreated) -> Order<C> {
    Order {
        id: fact.order_id,
        customer_id: fact.customer_id,
        status: OrderStatus::Created,
        contents: Contents::from(fact).into(),
        version,
        created_at: fact.occurred_at,
        updated_at: fact.occurred_at,
    }
}

impl Order {
    /// The same order with a hash for its contents.
    pub fn digested(self) -> Order<Digest> {
        Order {
            id: self.id,
            customer_id: self.customer_id,
            status: self.status,
            contents: self.contents.into(),
            version: self.version,
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }
}

impl From<&OrderCreated> for Contents {
    fn from(fact: &OrderCreated) -> Self {
        Self {
            currency: fact.currency,
            lines: fact.lines.clone(),
            total_minor: fact.total_minor,
            shipping_address: fact.shipping_address.clone(),
            note: fact.note.clone(),
            attributes: fact.attributes.clone(),
        }
    }
}

impl From<&OrderUpdated> for Contents {
    fn from(fact: &OrderUpdated) -> Self {
        Self {
            currency: fact.currency,
            lines: fact.lines.clone(),
            total_minor: fact.total_minor,
            shipping_address: fact.shipping_address.clone(),
            note: fact.note.clone(),
            attributes: fact.attributes.clone(),
        }
    }
}

impl From<Contents> for Digest {
    fn from(contents: Contents) -> Self {
        let hasher = Hasher::default()
            .bytes(contents.currency.code())
            .number(contents.total_minor)
            .optional(contents.shipping_address.as_ref().map(Sealed::as_bytes))
            .optional(contents.note.as_ref().map(Sealed::as_bytes))
            .bytes(&contents.attributes)
            .number(contents.lines.len() as i64);
        let line = |hasher: Hasher, line: &OrderLine| {
            hasher
                .bytes(&line.sku)
                .optional(line.name.as_ref())
                .number(line.quantity.into())
                .number(line.unit_price_minor)
                .number(line.amount_minor)
        };
        contents.lines.iter().fold(hasher, line).finish()
    }
}

impl Digested for Order<Digest> {
    fn digest(&self) -> Digest {
        Hasher::default()
            .bytes(self.id.0.as_bytes())
            .bytes(self.customer_id.0.as_bytes())
            .bytes(self.status.name())
            .bytes(self.contents)
            .number(self.version as i64)
            .number(self.created_at.micros())
            .number(self.updated_at.micros())
            .finish()
    }

    fn differing_fields(&self, other: &Self) -> Vec<&'static str> {
        [
            ("customer_id", self.customer_id != other.customer_id),
            ("status", self.status != other.status),
            ("contents", self.contents != other.contents),
            ("version", self.version != other.version),
            ("created_at", self.created_at != other.created_at),
            ("updated_at", self.updated_at != other.updated_at),
        ]
        .into_iter()
        .filter_map(|(field, differs)| differs.then_some(field))
        .collect()
    }
}
