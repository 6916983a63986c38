//! The queries behind lists of orders, and the indexes that they walk. Pure.

use events::ids::{OrderId, UserId};
use mongodb::bson::{Document, doc};
use runtime::representation::OrderStatus;

/// Which orders a list shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OrderFilter {
    /// Only those of this customer.
    pub customer_id: Option<UserId>,
    /// Only those that are here.
    pub status: Option<OrderStatus>,
}

impl OrderFilter {
    /// Every index that lists need, by name.
    pub fn indexes() -> [(&'static str, Document); 4] {
        [
            ("newest", doc! { "created_at_micros": -1, "_id": -1 }),
            (
                "customer_newest",
                doc! { "customer_id": 1, "created_at_micros": -1, "_id": -1 },
            ),
            (
                "status_newest",
                doc! { "status": 1, "created_at_micros": -1, "_id": -1 },
            ),
            (
                "customer_status_newest",
                doc! { "customer_id": 1, "status": 1, "created_at_micros": -1, "_id": -1 },
            ),
        ]
    }

    /// The one whose order is the list's order.
    pub const fn index_name(&self) -> &'static str {
        match (self.customer_id.is_some(), self.status.is_some()) {
            (false, false) => "newest",
            (true, false) => "customer_newest",
            (false, true) => "status_newest",
            (true, true) => "customer_status_newest",
        }
    }

    /// Newest first; of two of the same microsecond, the one with the higher id.
    pub fn sort() -> Document {
        doc! { "created_at_micros": -1, "_id": -1 }
    }

    /// What to find: orders that pass, after the place where the page before ended.
    pub fn query(&self, after: Option<(i64, OrderId)>) -> Document {
        let mut query = Document::new();
        if let Some(customer_id) = self.customer_id {
            query.insert("customer_id", customer_id.to_string());
        }
        if let Some(status) = self.status {
            query.insert("status", status.name());
        }
        if let Some((created_at_micros, id)) = after {
            // The range bounds the walk through the index; the rest only skips those of the same microsecond.
            query.insert("created_at_micros", doc! { "$lte": created_at_micros });
            let earlier = doc! { "created_at_micros": { "$lt": created_at_micros } };
            query.insert(
                "$or",
                [earlier, doc! { "_id": { "$lt": id.to_string() } }].to_vec(),
            );
        }
        query
    }
}
