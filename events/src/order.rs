//! Facts about orders. One struct per `.avsc` of `schemas/orders/`; what each field means is documented there,
//! for us and for downstream teams alike.
#![expect(
    missing_docs,
    reason = "fields are documented in the Avro schemas, the contract"
)]

use serde::{Deserialize, Serialize};

use crate::{
    currency::Currency,
    ids::{OrderId, UserId},
    sealed::Sealed,
    timestamp::Timestamp,
};

/// One position of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderLine {
    pub sku: String,
    pub name: Option<String>,
    pub quantity: i32,
    pub unit_price_minor: i64,
    pub amount_minor: i64,
}

/// A customer ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderCreated {
    pub order_id: OrderId,
    pub customer_id: UserId,
    pub currency: Currency,
    pub lines: Vec<OrderLine>,
    pub total_minor: i64,
    pub shipping_address: Option<Sealed>,
    pub note: Option<Sealed>,
    pub attributes: String,
    pub occurred_at: Timestamp,
}

/// The contents of an order were replaced; all contents after the change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderUpdated {
    pub order_id: OrderId,
    pub customer_id: UserId,
    pub currency: Currency,
    pub lines: Vec<OrderLine>,
    pub total_minor: i64,
    pub shipping_address: Option<Sealed>,
    pub note: Option<Sealed>,
    pub attributes: String,
    pub occurred_at: Timestamp,
}

/// The steps of an order other than cancelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderStep {
    /// Work on it began.
    InProgress,
    /// It is done.
    Completed,
}

/// An order took a step forward.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderStatusChanged {
    pub order_id: OrderId,
    pub customer_id: UserId,
    pub status: OrderStep,
    pub reason: Option<String>,
    pub occurred_at: Timestamp,
}

/// An order was cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderCancelled {
    pub order_id: OrderId,
    pub customer_id: UserId,
    pub reason: Option<String>,
    pub occurred_at: Timestamp,
}
