//! Comparing the file with what the query API says, exactly.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::api::Api;
use crate::file::Invoice;
use crate::listing::{self, Order};
use crate::money::Unit;
use crate::orders::{Placed, by_number, invoice_of};
use crate::stop::Stop;

/// Most differences listed one by one; all are counted.
pub const DIFFERENCES_LISTED_COUNT_MAX: usize = 20;
/// How long orders accepted but not yet readable are waited for.
const WAIT_MAX: Duration = Duration::from_secs(60);
const WAIT_BETWEEN_READS: Duration = Duration::from_secs(1);

/// Counts and exact totals.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Orders, one per invoice.
    pub orders_count: u64,
    /// Lines of the orders.
    pub lines_count: u64,
    /// The sum of the totals in minor units, by currency. Amounts that cannot be read are left out
    /// and make a difference of their own.
    pub totals_minor: BTreeMap<String, i128>,
}

/// What the comparison found.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Of the invoices accepted, from the file.
    pub file: Figures,
    /// Of the orders read back.
    pub api: Figures,
    /// How many differences there are.
    pub differences_count: u64,
    /// The first of them in words.
    pub differences: Vec<String>,
}

impl Comparison {
    fn differs(&mut self, what: String) {
        self.differences_count += 1;
        if self.differences.len() < DIFFERENCES_LISTED_COUNT_MAX {
            self.differences.push(what);
        }
    }
}

/// What is compared.
pub struct Wanted<'a> {
    /// The file's invoices.
    pub invoices: &'a [Invoice],
    /// The users by customer number.
    pub customers: &'a HashMap<u64, Uuid>,
    /// The orders placed.
    pub placed: &'a Placed,
    /// The currency of the file.
    pub unit: Unit,
}

/// Waits for the read model, reads all orders, and compares ours with the file.
///
/// # Errors
/// When the orders cannot be read.
pub async fn reconcile(api: &Api, wanted: &Wanted<'_>, stop: &Stop) -> anyhow::Result<Comparison> {
    for token in wanted.placed.consistency.latest_first() {
        listing::wait_for(api, &token).await?;
    }
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        let mut comparing = Comparing::new(wanted);
        listing::read_all(api, "reading back", |order| {
            comparing.see(order);
            Ok(())
        })
        .await?;
        if comparing.all_seen() || Instant::now() >= deadline || stop.reason().is_some() {
            return Ok(comparing.finish());
        }
        tokio::time::sleep(WAIT_BETWEEN_READS).await;
    }
}

struct Comparing<'a> {
    wanted: &'a Wanted<'a>,
    by_id: HashMap<Uuid, usize>,
    by_number: HashMap<&'a str, usize>,
    comparison: Comparison,
}

impl<'a> Comparing<'a> {
    fn new(wanted: &'a Wanted<'a>) -> Self {
        let by_id: HashMap<_, _> = wanted
            .placed
            .ids
            .iter()
            .map(|(at, id)| (*id, *at))
            .collect();
        let by_number = by_number(wanted.invoices);
        let mut comparison = Comparison::default();
        let mut at_of_accepted: Vec<_> = wanted.placed.ids.keys().copied().collect();
        at_of_accepted.sort_unstable();
        for invoice in at_of_accepted
            .iter()
            .filter_map(|at| wanted.invoices.get(*at))
        {
            comparison.file.orders_count += 1;
            comparison.file.lines_count += invoice.lines.len() as u64;
            let total = comparison
                .file
                .totals_minor
                .entry(wanted.unit.code().to_owned());
            *total.or_default() += invoice.total_minor();
        }
        if by_id.len() < wanted.placed.ids.len() {
            comparison.differs("two invoices were answered with the same order".to_owned());
        }
        Self {
            wanted,
            by_id,
            by_number,
            comparison,
        }
    }

    fn see(&mut self, order: &Order) {
        let Some(at) = self.by_id.remove(&order.id) else {
            self.see_unexpected(order);
            return;
        };
        let Some(invoice) = self.wanted.invoices.get(at) else {
            return;
        };
        let figures = &mut self.comparison.api;
        figures.orders_count += 1;
        figures.lines_count += order.lines.len() as u64;
        match Unit::of_code(&order.currency).map(|unit| unit.parse(&order.total)) {
            Ok(Ok(total)) => {
                *figures
                    .totals_minor
                    .entry(order.currency.clone())
                    .or_default() += total;
            }
            Ok(Err(_)) | Err(_) => {
                let (total, currency) = (&order.total, &order.currency);
                self.comparison.differs(format!(
                    "invoice {}: the total {total} {currency} cannot be read",
                    invoice.number
                ));
            }
        }
        let customer = self.wanted.customers.get(&invoice.customer);
        for what in differences(invoice, customer, self.wanted.unit, order) {
            self.comparison.differs(format!(
                "invoice {}, order {}: {what}",
                invoice.number, order.id
            ));
        }
    }

    /// An order of one of our invoices that is not the one we know.
    fn see_unexpected(&mut self, order: &Order) {
        let Wanted {
            invoices,
            customers,
            ..
        } = self.wanted;
        if let Some(at) = invoice_of(order, &self.by_number, invoices, customers)
            && let Some(invoice) = invoices.get(at)
        {
            let what = if self.wanted.placed.ids.contains_key(&at) {
                "a second order of the invoice"
            } else {
                "an order of an invoice that was not accepted"
            };
            self.comparison.differs(format!(
                "invoice {}, order {}: {what}",
                invoice.number, order.id
            ));
        }
    }

    fn all_seen(&self) -> bool {
        self.by_id.is_empty()
    }

    fn finish(mut self) -> Comparison {
        let mut missing: Vec<_> = self.by_id.iter().map(|(id, at)| (*at, *id)).collect();
        missing.sort_unstable();
        for (at, id) in missing {
            let number = self
                .wanted
                .invoices
                .get(at)
                .map_or("?", |invoice| &*invoice.number);
            self.comparison.differs(format!(
                "invoice {number}, order {id}: not in the query API"
            ));
        }
        if self.comparison.differences_count == 0 && self.comparison.file != self.comparison.api {
            self.comparison
                .differs("the figures differ although every order is equal".to_owned());
        }
        self.comparison
    }
}

/// Where an order is not what its invoice says.
fn differences(
    invoice: &Invoice,
    customer: Option<&Uuid>,
    unit: Unit,
    order: &Order,
) -> Vec<String> {
    let mut found = Vec::new();
    if customer != Some(&order.customer_id) {
        found.push(format!("belongs to user {}", order.customer_id));
    }
    if order.currency != unit.code() {
        found.push(format!(
            "currency {} instead of {}",
            order.currency,
            unit.code()
        ));
        return found;
    }
    if order.lines.len() != invoice.lines.len() {
        found.push(format!(
            "{} lines instead of {}",
            order.lines.len(),
            invoice.lines.len()
        ));
    }
    let total = invoice.total_minor();
    if unit.parse(&order.total) != Ok(total) {
        found.push(format!(
            "total {} instead of {}",
            order.total,
            unit.text(total)
        ));
    }
    for (index, (got, line)) in order.lines.iter().zip(&invoice.lines).enumerate() {
        let is_equal = *got.sku == *line.sku
            && got.quantity == line.quantity
            && unit.parse(&got.unit_price) == Ok(i128::from(line.unit_price_minor))
            && unit.parse(&got.amount) == Ok(line.amount_minor());
        if !is_equal {
            found.push(format!(
                "line {}: {} × {} at {} = {} instead of {} × {} at {} = {}",
                index + 1,
                got.quantity,
                got.sku,
                got.unit_price,
                got.amount,
                line.quantity,
                line.sku,
                unit.text(i128::from(line.unit_price_minor)),
                unit.text(line.amount_minor()),
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::file::Line;

    struct Case {
        invoices: Vec<Invoice>,
        customers: HashMap<u64, Uuid>,
        placed: Placed,
        order: serde_json::Value,
    }

    fn case() -> Case {
        let line = Line {
            sku: "A".into(),
            name: None,
            quantity: 3,
            unit_price_minor: 29,
        };
        let number = "1".into();
        let invoice = Invoice {
            number,
            customer: 7,
            country: "".into(),
            lines: vec![line],
        };
        let (user, id) = (Uuid::now_v7(), Uuid::now_v7());
        let placed = Placed {
            ids: HashMap::from([(0, id)]),
            ..Placed::default()
        };
        let order = json!({
            "id": id, "customer_id": user, "currency": "GBP", "total": "0.87", "status": "created",
            "lines": [{ "sku": "A", "name": null, "quantity": 3, "unit_price": "0.29", "amount": "0.87" }],
            "attributes": { "invoice_no": "1" },
        });
        Case {
            invoices: vec![invoice],
            customers: HashMap::from([(7, user)]),
            placed,
            order,
        }
    }

    fn compare(case: &Case, orders: &[serde_json::Value]) -> Comparison {
        let Case {
            invoices,
            customers,
            placed,
            ..
        } = case;
        let unit = Unit::of_code("GBP").unwrap();
        let wanted = Wanted {
            invoices,
            customers,
            placed,
            unit,
        };
        let mut comparing = Comparing::new(&wanted);
        for order in orders {
            comparing.see(&serde_json::from_value(order.clone()).unwrap());
        }
        comparing.finish()
    }

    #[test]
    fn what_is_equal_has_no_difference() {
        let case = case();
        let stranger = json!({
            "id": Uuid::now_v7(), "customer_id": Uuid::now_v7(), "currency": "EUR", "total": "1.00",
            "lines": [], "attributes": { "invoice_no": "1" },
        });
        let comparison = compare(&case, &[stranger, case.order.clone()]);
        assert_eq!(comparison.differences, Vec::<String>::new());
        assert_eq!(comparison.file, comparison.api);
        assert_eq!(comparison.api.totals_minor.get("GBP"), Some(&87));
    }

    #[test]
    fn every_difference_is_found() {
        let cases = [
            ("/total", json!("0.88"), "total 0.88 instead of 0.87"),
            ("/total", json!("x"), "cannot be read"),
            ("/currency", json!("EUR"), "currency EUR instead of GBP"),
            ("/customer_id", json!(Uuid::nil()), "belongs to user"),
            ("/lines/0/quantity", json!(4), "line 1: 4 × A"),
            ("/lines/0/unit_price", json!("0.30"), "at 0.30"),
            ("/lines/0/amount", json!("0.86"), "= 0.86 instead of"),
            ("/lines", json!([]), "0 lines instead of 1"),
        ];
        for (pointer, value, words) in cases {
            let case = case();
            let mut order = case.order.clone();
            *order.pointer_mut(pointer).unwrap() = value;
            let comparison = compare(&case, &[order]);
            let found = comparison.differences.join("; ");
            assert!(found.contains(words), "{pointer}: {found}");
        }
    }

    #[test]
    fn missing_and_doubled_orders_are_differences() {
        let case = case();
        let missing = compare(&case, &[]);
        assert!(missing.differences[0].contains("not in the query API"));
        let mut second = case.order.clone();
        *second.pointer_mut("/id").unwrap() = json!(Uuid::now_v7());
        let doubled = compare(&case, &[case.order.clone(), second]);
        assert_eq!(doubled.differences_count, 1);
        assert!(doubled.differences[0].contains("a second order"));
    }
}
