//! What queries for orders are answered with, through whatever door they come.

use std::collections::HashMap;

use events::{
    currency::Currency,
    ids::{OrderId, UserId},
    sealed::DataKey,
};
use runtime::{
    auth::Caller,
    problem::Problem,
    representation::{self, OrderStatus, StoredOrder},
};

use super::{
    fold::Order,
    history::{AsOf, Change, reason},
    list::{AttributePath, OrderFilter, Sort, SortKey},
    store::Page,
    words::{self, SEARCH_WORDS_MAX},
};
use crate::{
    fields::Fields,
    model::{Generation, Model},
    queries::{After, Queries, ask, not_shown, not_told},
    query::{Cursor, Parameters},
};

/// A list is counted up to here.
const COUNT_MAX: u64 = 100_000;
/// What an order has, for `fields`.
pub const FIELDS: [&str; 12] = [
    "id",
    "customer_id",
    "status",
    "currency",
    "lines",
    "total",
    "shipping_address",
    "note",
    "attributes",
    "version",
    "created_at",
    "updated_at",
];
/// What the parameters begin with that ask for attributes.
pub const ATTRIBUTES: &str = "attributes.";

/// An order as the read model has it, and the key that it is shown with.
pub struct FoundOrder {
    order: Order,
    key: Option<DataKey>,
    generation: Generation,
}

impl FoundOrder {
    /// Whether it is as it was at its version: not once its customer was erased.
    pub fn is_whole(&self) -> bool {
        self.key.is_some() || !stored(&self.order).is_sealed()
    }

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
    Ok(FoundOrder {
        order,
        key,
        generation,
    })
}

/// The order as it was.
pub async fn one_as_of(
    queries: &Queries,
    caller: Caller,
    awaited: After,
    id: &str,
    as_of: AsOf,
) -> Result<FoundOrder, Problem> {
    let FoundOrder {
        order,
        key,
        generation,
    } = one(queries, caller, awaited, id).await?;
    let archive = queries.archive(generation).await?;
    let order = archive.order_as_of(&order, as_of).await;
    let order = order.map_err(not_told)?.ok_or_else(Problem::not_found)?;
    // What it was may be sealed where what it is is not.
    let key = match key {
        None if stored(&order).is_sealed() => queries.key(order.customer_id).await?,
        key => key,
    };
    Ok(FoundOrder {
        order,
        key,
        generation,
    })
}

/// A page of what has happened to an order.
pub struct HistoryPage {
    changes: Vec<Change>,
    key: Option<DataKey>,
    /// Where the next page begins, where there is one.
    pub next_cursor: Option<String>,
}

impl HistoryPage {
    /// What happened, as clients get it.
    pub fn shown(&self) -> Result<Vec<representation::OrderChange<'_>>, Problem> {
        let changes = self.changes.iter();
        changes
            .map(|change| shown_change(change, self.key.as_ref()))
            .collect()
    }
}

fn shown_change<'a>(
    change: &'a Change,
    key: Option<&DataKey>,
) -> Result<representation::OrderChange<'a>, Problem> {
    let before = change.before.as_ref().map(stored);
    representation::OrderChange::of(
        &change.metadata,
        change.event.event_type(),
        reason(&change.event),
        before.as_ref(),
        &stored(&change.after),
        key,
    )
    .map_err(|error| not_shown(format_args!("order {}", change.after.id), error))
}

/// A page of what has happened to an order, the first event first.
pub async fn history(
    queries: &Queries,
    caller: Caller,
    awaited: After,
    id: &str,
    mut parameters: Parameters,
) -> Result<HistoryPage, Problem> {
    let (limit, cursor) = (parameters.limit(), parameters.cursor()?);
    parameters.finish()?;
    let FoundOrder {
        order, generation, ..
    } = one(queries, caller, awaited, id).await?;
    let id = order.id.to_string();
    let described = ["history", id.as_str()];
    let from = match cursor {
        Some(cursor) => cursor.place(&described)?.0.unsigned_abs(),
        None => 0,
    };
    let archive = queries.archive(generation).await?;
    let changes = archive.changes(&order, from, limit).await;
    let changes = changes.map_err(not_told)?;
    let last = changes.last().map(|change| change.after.version);
    let next_cursor = last
        .filter(|last| *last < order.version)
        .map(|last| Cursor::new(&described, last.cast_signed(), order.id.0).to_string());
    let states = changes.iter().map(|change| &change.after);
    let is_sealed = states.into_iter().any(|order| stored(order).is_sealed());
    let key = match is_sealed {
        true => queries.key(order.customer_id).await?,
        false => None,
    };
    Ok(HistoryPage {
        changes,
        key,
        next_cursor,
    })
}

/// A page of orders.
pub struct OrderPage {
    orders: Vec<Order>,
    keys: HashMap<UserId, DataKey>,
    /// Where the next page begins, where there is one.
    pub next_cursor: Option<String>,
    /// How many orders the list has, where that was asked for.
    pub count: Option<u64>,
    /// What is wanted of each.
    pub fields: Fields,
}

impl OrderPage {
    fn empty(fields: Fields) -> Self {
        Self {
            orders: Vec::new(),
            keys: HashMap::new(),
            next_cursor: None,
            count: None,
            fields,
        }
    }

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
    let fields = Fields::of(&mut parameters, &FIELDS);
    let is_counted = parameters
        .optional("count", "true or false", |text| text.parse().ok())
        .unwrap_or(false);
    let mut filter = filter(&mut parameters, |name| queries.orders.path(name));
    parameters.finish()?;
    if !caller.is_admin() {
        filter.customer_id.get_or_insert(caller.user_id);
    }
    let described = filter.described();
    let described: Vec<&str> = described.iter().map(String::as_str).collect();
    let after = cursor.map(|cursor| cursor.place(&described)).transpose()?;
    let generation = queries.generation(Model::Orders, awaited).await?;
    if !caller.is_admin() && filter.customer_id != Some(caller.user_id) {
        // A list shows one's own orders only, and none of one's own is somebody else's.
        return Ok(OrderPage {
            count: is_counted.then_some(0),
            ..OrderPage::empty(fields)
        });
    }
    let after = after.map(|(key, id)| (key, OrderId(id)));
    let Page { orders, more } =
        ask(queries.orders.orders(generation, &filter, after, limit)).await?;
    let count = match is_counted {
        true => Some(ask(queries.orders.count(generation, &filter, COUNT_MAX)).await?),
        false => None,
    };
    let mut customers: Vec<UserId> = orders
        .iter()
        .filter(|order| stored(order).is_sealed())
        .map(|order| order.customer_id)
        .collect();
    customers.sort_unstable();
    customers.dedup();
    let keys = queries.keys_of(&customers).await?;
    let last = orders.last().filter(|_| more);
    let key = |order: &Order| match filter.sort.by {
        SortKey::CreatedAt => order.created_at.micros(),
        SortKey::Total => order.contents.total_minor,
    };
    let next_cursor = last.map(|order| Cursor::new(&described, key(order), order.id.0).to_string());
    Ok(OrderPage {
        orders,
        keys,
        next_cursor,
        count,
        fields,
    })
}

/// The filter and the order that a list is asked for with.
fn filter(
    parameters: &mut Parameters,
    path: impl Fn(&str) -> Option<AttributePath>,
) -> OrderFilter {
    let named = |text: &str| {
        OrderStatus::ALL
            .into_iter()
            .find(|status| status.name() == text)
    };
    let status = parameters.optional(
        "status",
        "created, in_progress, completed or cancelled",
        named,
    );
    let customer_id = parameters.optional("customer_id", "a UUID", |text| text.parse().ok());
    let mut time = |name| parameters.optional(name, "an RFC 3339 time", |text| text.parse().ok());
    let (created_from, created_to) = (time("created_from"), time("created_to"));
    let wanted = "a currency of ISO 4217, in upper case";
    let currency: Option<Currency> =
        parameters.optional("currency", wanted, |text| text.parse().ok());
    let wanted = "an amount such as 12.50, with no more decimals than the currency has";
    let decimals = currency.map_or(0, Currency::decimals);
    let mut total = |name| parameters.optional(name, wanted, |text| minor(text, decimals));
    let (total_min, total_max) = (total("total_min"), total("total_max"));
    let wanted = format!("1 to {SEARCH_WORDS_MAX} words");
    let words = parameters
        .optional("q", &wanted, words::of_search)
        .unwrap_or_default();
    let sort = parameters.optional("sort", &Sort::NAMES.join(", "), Sort::named);
    let by = match total_min.or(total_max) {
        Some(_) => SortKey::Total,
        None => SortKey::CreatedAt,
    };
    let default = Sort {
        by,
        ..Sort::default()
    };
    let filter = OrderFilter {
        customer_id,
        status,
        created_from,
        created_to,
        currency,
        total_min,
        total_max,
        words,
        attributes: attributes(parameters, path),
        sort: sort.unwrap_or(default),
    };
    refuse_what_no_index_leads_through(parameters, &filter);
    filter
}

/// What is asked for of attributes, each path once and in order.
fn attributes(
    parameters: &mut Parameters,
    path: impl Fn(&str) -> Option<AttributePath>,
) -> Vec<(AttributePath, String)> {
    let mut attributes = Vec::new();
    for (name, value) in parameters.below(ATTRIBUTES) {
        match path(&name) {
            Some(path) => attributes.push((path, value)),
            None => parameters.is_unknown(&format!("{ATTRIBUTES}{name}")),
        }
    }
    attributes.sort_unstable();
    for pair in attributes.windows(2) {
        if let [(path, _), (next, _)] = pair
            && path == next
        {
            let name = format!("{ATTRIBUTES}{path}");
            parameters.refuse(&name, "repeated", "must be given once");
        }
    }
    attributes
}

/// Each list walks an index, and none leads through orders of several currencies, or of several words, by total.
fn refuse_what_no_index_leads_through(parameters: &mut Parameters, filter: &OrderFilter) {
    let is_sorted_by_total = filter.sort.by == SortKey::Total;
    let has_totals = filter.total_min.is_some() || filter.total_max.is_some();
    let is_found_otherwise = !(filter.words.is_empty() && filter.attributes.is_empty());
    if is_sorted_by_total && filter.currency.is_none() {
        parameters.refuse("currency", "missing", "is needed where totals are compared");
    }
    for (is_wrong, message) in [
        (
            has_totals && !is_sorted_by_total,
            "must be total or -total with total_min or total_max",
        ),
        (
            is_sorted_by_total && is_found_otherwise,
            "must be created_at or -created_at with q or attributes",
        ),
    ] {
        if is_wrong {
            parameters.refuse("sort", "invalid_value", message);
        }
    }
}

/// An amount as minor units of a currency with so many decimals.
fn minor(text: &str, decimals: u32) -> Option<i64> {
    let is_number =
        |digits: &str| !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_digit());
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) if is_number(fraction) => (whole, fraction),
        Some(_) => return None,
        None => (text, ""),
    };
    let width = usize::try_from(decimals).ok()?;
    let is_amount = is_number(whole) && fraction.len() <= width;
    is_amount.then(|| format!("{whole}{fraction:0<width$}").parse().ok())?
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

#[cfg(test)]
mod tests {
    use runtime::openapi::examples::{self, OrderNow};

    use super::*;
    use crate::fields;

    #[test]
    fn every_field_of_an_order_can_be_asked_for() {
        fields::are_those_of(&FIELDS, &examples::order(OrderNow::Created));
    }

    fn refused(query: &str) -> Vec<String> {
        let given = query.split('&').filter_map(|each| each.split_once('='));
        let given = given
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let mut parameters = Parameters::given(given);
        filter(&mut parameters, |name| {
            (name == "channel").then(|| name.parse().ok())?
        });
        let problem = parameters.finish().err();
        let errors = problem.iter().flat_map(Problem::errors);
        errors.map(|error| error.pointer.clone()).collect()
    }

    #[test]
    fn what_no_index_leads_through_is_refused() {
        for (query, pointers) in [
            ("", vec![]),
            (
                "status=created&q=tea&attributes.channel=web&created_from=2026-01-01T00:00:00Z",
                vec![],
            ),
            ("currency=GBP&total_min=1.50&total_max=3", vec![]),
            ("currency=GBP&total_min=1&sort=total", vec![]),
            ("sort=total", vec!["/currency"]),
            ("total_min=1", vec!["/currency"]),
            ("currency=GBP&total_min=1&sort=created_at", vec!["/sort"]),
            ("currency=GBP&sort=-total&q=tea", vec!["/sort"]),
            ("currency=GBP&total_min=0.001", vec!["/total_min"]),
            ("q=!", vec!["/q"]),
            (
                "created_to=yesterday&currency=gbp",
                vec!["/created_to", "/currency"],
            ),
            ("attributes.colour=red", vec!["/attributes.colour"]),
        ] {
            assert_eq!(refused(query), pointers, "{query}");
        }
    }

    #[test]
    fn amounts_are_exact() {
        for (text, decimals, expected) in [
            ("12.50", 2, Some(1250)),
            ("12", 2, Some(1200)),
            ("12.500", 2, None),
            ("0.05", 2, Some(5)),
            ("1250", 0, Some(1250)),
            ("12.5", 0, None),
            ("12.505", 2, None),
            ("", 2, None),
            (".5", 2, None),
            ("1.", 2, None),
            ("-1", 2, None),
            ("1e3", 2, None),
            ("99999999999999999999", 2, None),
        ] {
            assert_eq!(minor(text, decimals), expected, "{text}");
        }
    }
}
