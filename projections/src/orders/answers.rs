//! What queries for orders are answered with, through whatever door they come.

use std::collections::HashMap;

use events::{
    ids::{OrderId, UserId},
    sealed::DataKey,
};
use runtime::{
    auth::Caller,
    problem::Problem,
    representation::{self, OrderStatus, StoredOrder},
};

use super::{fold::Order, list::OrderFilter, store::Page};
use crate::{
    model::Model,
    queries::{After, Queries, ask, not_shown},
    query::{Cursor, Parameters},
};

/// An order as the read model has it, and the key that it is shown with.
pub struct FoundOrder {
    order: Order,
    key: Option<DataKey>,
}

impl FoundOrder {
    /// The order as clients get it.
    pub fn shown(&self) -> Result<representation::Order<'_>, Problem> {
        shown(&self.order, self.key.as_ref())
    }
}

/// The order of this id; what is no id names nothing, as an unknown one.
pub async fn one(
    queries: &Queries,
    caller: Caller,
    awaited: After,
    id: &str,
) -> Result<FoundOrder, Problem> {
    let id: OrderId = id.parse().map_err(|_| Problem::not_found())?;
    let generation = queries.generation(Model::Orders, awaited).await?;
    let order = ask(queries.orders.order(generation, id)).await?;
    let order = order
        .filter(|order| caller.may_see(order.customer_id))
        .ok_or_else(Problem::not_found)?;
    let key = match stored(&order).is_sealed() {
        true => queries.key(order.customer_id).await?,
        false => None,
    };
    Ok(FoundOrder { order, key })
}

/// A page of orders, newest first.
#[derive(Default)]
pub struct OrderPage {
    orders: Vec<Order>,
    keys: HashMap<UserId, DataKey>,
    /// Where the next page begins, where there is one.
    pub next_cursor: Option<String>,
}

impl OrderPage {
    /// The orders as clients get them.
    pub fn shown(&self) -> Result<Vec<representation::Order<'_>>, Problem> {
        let orders = self.orders.iter();
        orders
            .map(|order| shown(order, self.keys.get(&order.customer_id)))
            .collect()
    }
}

/// A page of the caller's orders; an admin sees those of all customers.
pub async fn list(
    queries: &Queries,
    caller: Caller,
    awaited: After,
    mut parameters: Parameters,
) -> Result<OrderPage, Problem> {
    let (limit, cursor) = (parameters.limit(), parameters.cursor()?);
    let status = parameters.optional(
        "status",
        "created, in_progress, completed or cancelled",
        |text| {
            OrderStatus::ALL
                .into_iter()
                .find(|status| status.name() == text)
        },
    );
    let customer_id: Option<UserId> =
        parameters.optional("customer_id", "a UUID", |text| text.parse().ok());
    parameters.finish()?;
    let filter = OrderFilter {
        customer_id: customer_id.or((!caller.is_admin()).then_some(caller.user_id)),
        status,
    };
    let described = described(filter);
    let described: Vec<&str> = described.iter().map(String::as_str).collect();
    let after = cursor.map(|cursor| cursor.place(&described)).transpose()?;
    let generation = queries.generation(Model::Orders, awaited).await?;
    if !caller.is_admin() && filter.customer_id != Some(caller.user_id) {
        // A list shows one's own orders only, and none of one's own is somebody else's.
        return Ok(OrderPage::default());
    }
    let after = after.map(|(created_at, id)| (created_at, OrderId(id)));
    let Page { orders, more } =
        ask(queries.orders.orders(generation, &filter, after, limit)).await?;
    let mut customers: Vec<UserId> = orders
        .iter()
        .filter(|order| stored(order).is_sealed())
        .map(|order| order.customer_id)
        .collect();
    customers.sort_unstable();
    customers.dedup();
    let keys = queries.keys_of(&customers).await?;
    let last = orders.last().filter(|_| more);
    let next_cursor = last
        .map(|order| Cursor::new(&described, order.created_at.micros(), order.id.0).to_string());
    Ok(OrderPage {
        orders,
        keys,
        next_cursor,
    })
}

/// The list that a cursor is bound to.
fn described(filter: OrderFilter) -> [String; 3] {
    let customer = filter
        .customer_id
        .map(|id| id.to_string())
        .unwrap_or_default();
    [
        "orders".into(),
        customer,
        filter
            .status
            .map(OrderStatus::name)
            .unwrap_or_default()
            .into(),
    ]
}

fn stored(order: &Order) -> StoredOrder<'_> {
    let contents = &order.contents;
    StoredOrder {
        id: order.id,
        customer_id: order.customer_id,
        status: order.status,
        currency: contents.currency,
        lines: &contents.lines,
        total_minor: contents.total_minor,
        shipping_address: contents.shipping_address.as_ref(),
        note: contents.note.as_ref(),
        attributes: &contents.attributes,
        version: order.version,
        created_at: order.created_at,
        updated_at: order.updated_at,
    }
}

fn shown<'a>(
    order: &'a Order,
    key: Option<&DataKey>,
) -> Result<representation::Order<'a>, Problem> {
    stored(order)
        .open(key)
        .map_err(|error| not_shown(format_args!("order {}", order.id), error))
}
