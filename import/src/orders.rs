//! One order per invoice, placed once whatever happens.

use std::collections::HashMap;
use std::pin::pin;

use futures_util::{StreamExt, stream};
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::api::{Api, Call, NoAnswer};
use crate::file::Invoice;
use crate::listing::{self, Order};
use crate::money::Unit;
use crate::progress::Progress;
use crate::refusals::Refusals;
use crate::stop::Stop;
use crate::tokens::ConsistencyTokens;

/// What became of the invoices.
#[derive(Debug, Default)]
pub struct Placed {
    /// The order's id by position of the invoice.
    pub ids: HashMap<usize, Uuid>,
    /// Orders found before anything was sent.
    pub found_count: u64,
    /// Orders accepted by this run: new, or answered again for an earlier run's key.
    pub accepted_count: u64,
    /// Invoices refused by the server, and why.
    pub refusals: Refusals,
    /// The positions of the invoices refused.
    pub refused: Vec<usize>,
    /// How far the read model must be.
    pub consistency: ConsistencyTokens,
}

/// Looks for the orders of invoices that an earlier run placed.
///
/// An order counts only if it is the same customer's: what another user wrote into the attributes
/// of his orders changes nothing.
///
/// # Errors
/// When the orders cannot be read.
pub async fn find_placed(
    api: &Api,
    invoices: &[Invoice],
    customers: &HashMap<u64, Uuid>,
    placed: &mut Placed,
) -> anyhow::Result<()> {
    let wanted = by_number(invoices);
    listing::read_all(api, "looking for earlier ones", |order| {
        if let Some(at) = invoice_of(order, &wanted, invoices, customers)
            && placed.ids.insert(at, order.id).is_none()
        {
            placed.found_count += 1;
        }
        Ok(())
    })
    .await
}

/// The positions of the invoices by number.
#[must_use]
pub fn by_number(invoices: &[Invoice]) -> HashMap<&str, usize> {
    invoices
        .iter()
        .enumerate()
        .map(|(at, invoice)| (&*invoice.number, at))
        .collect()
}

/// The invoice an order claims to be of, if its customer is right.
#[must_use]
pub fn invoice_of(
    order: &Order,
    by_number: &HashMap<&str, usize>,
    invoices: &[Invoice],
    customers: &HashMap<u64, Uuid>,
) -> Option<usize> {
    let at = *by_number.get(order.invoice_no()?)?;
    let customer = customers.get(&invoices.get(at)?.customer)?;
    (*customer == order.customer_id).then_some(at)
}

/// Places the orders that are not there yet, as many at once as told. A stop leaves the rest out.
///
/// # Errors
/// When an answer cannot be understood.
pub async fn place_all(
    api: &Api,
    invoices: &[Invoice],
    customers: &HashMap<u64, Uuid>,
    settings: Settings,
    stop: &Stop,
    placed: &mut Placed,
) -> anyhow::Result<()> {
    let missing: Vec<(usize, &Invoice)> = invoices
        .iter()
        .enumerate()
        .filter(|(at, _)| !placed.ids.contains_key(at))
        .collect();
    let progress = Progress::begin("placing orders", missing.len() as u64);
    let outcomes = stream::iter(missing)
        .take_until(stop.ordered())
        .map(|(at, invoice)| async move {
            let customer = customers.get(&invoice.customer).copied();
            (at, place(api, invoice, customer, settings.unit).await)
        })
        .buffer_unordered(settings.concurrency);
    let mut outcomes = pin!(outcomes);
    while let Some((at, outcome)) = outcomes.next().await {
        match outcome? {
            Some(Outcome::Accepted {
                id,
                consistency_token,
            }) => {
                placed.ids.insert(at, id);
                placed.accepted_count += 1;
                if let Some(token) = consistency_token {
                    placed.consistency.take(&token);
                }
            }
            Some(Outcome::Refused(why)) => {
                let number = invoices.get(at).map_or("?", |invoice| &*invoice.number);
                placed.refusals.add(why, &format!("invoice {number}"));
                placed.refused.push(at);
            }
            None => continue,
        }
        progress.advance(1);
    }
    progress.end();
    Ok(())
}

/// How orders are placed.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The currency of the prices.
    pub unit: Unit,
    /// How many at once.
    pub concurrency: usize,
}

enum Outcome {
    Accepted {
        id: Uuid,
        consistency_token: Option<String>,
    },
    Refused(String),
}

/// Nothing when there was no answer; the stop says why.
async fn place(
    api: &Api,
    invoice: &Invoice,
    customer: Option<Uuid>,
    unit: Unit,
) -> anyhow::Result<Option<Outcome>> {
    let Some(customer) = customer else {
        return Ok(Some(Outcome::Refused(
            "its customer could not be registered".to_owned(),
        )));
    };
    let call = Call {
        method: Method::POST,
        path: "/orders".to_owned(),
        body: Some(serde_json::to_vec(&body(invoice, customer, unit))?),
        as_admin: true,
        headers: vec![("Idempotency-Key", idempotency_key(invoice))],
    };
    let answer = match api.call(&call).await {
        Ok(answer) => answer,
        Err(NoAnswer::Stopped | NoAnswer::GaveUp(_)) => return Ok(None),
    };
    if !matches!(answer.status, StatusCode::CREATED | StatusCode::OK) {
        let why = format!("{} {}", answer.status.as_u16(), answer.problem().in_short());
        return Ok(Some(Outcome::Refused(why)));
    }
    #[derive(Deserialize)]
    struct Created {
        id: Uuid,
    }
    let created: Created = answer.json()?;
    let consistency_token = answer.consistency_token().map(str::to_owned);
    Ok(Some(Outcome::Accepted {
        id: created.id,
        consistency_token,
    }))
}

/// The same for every run, so that the server recognises a repetition.
fn idempotency_key(invoice: &Invoice) -> String {
    format!("\"invoice-{}\"", invoice.number)
}

#[derive(Serialize)]
struct Body<'a> {
    customer_id: Uuid,
    currency: &'static str,
    lines: Vec<BodyLine<'a>>,
    attributes: Attributes<'a>,
}

#[derive(Serialize)]
struct BodyLine<'a> {
    sku: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    quantity: i64,
    unit_price: String,
}

#[derive(Serialize)]
struct Attributes<'a> {
    invoice_no: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    country: &'a str,
}

fn body(invoice: &Invoice, customer_id: Uuid, unit: Unit) -> Body<'_> {
    let lines = invoice.lines.iter().map(|line| BodyLine {
        sku: &line.sku,
        name: line.name.as_deref(),
        quantity: line.quantity,
        unit_price: unit.text(i128::from(line.unit_price_minor)),
    });
    Body {
        customer_id,
        currency: unit.code(),
        lines: lines.collect(),
        attributes: Attributes {
            invoice_no: &invoice.number,
            country: &invoice.country,
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::file::Line;

    #[test]
    fn an_invoice_becomes_an_order_with_prices_as_text() {
        let line = |name: Option<&str>| Line {
            sku: "23256".into(),
            name: name.map(Into::into),
            quantity: 2,
            unit_price_minor: 415,
        };
        let invoice = Invoice {
            number: "569901".into(),
            customer: 12923,
            country: "EIRE".into(),
            lines: vec![line(Some("CUTLERY")), line(None)],
        };
        let customer = Uuid::now_v7();
        let body = serde_json::to_value(body(&invoice, customer, Unit::of_code("GBP").unwrap()));
        let expected = json!({
            "customer_id": customer,
            "currency": "GBP",
            "lines": [
                { "sku": "23256", "name": "CUTLERY", "quantity": 2, "unit_price": "4.15" },
                { "sku": "23256", "quantity": 2, "unit_price": "4.15" },
            ],
            "attributes": { "invoice_no": "569901", "country": "EIRE" },
        });
        assert_eq!(body.unwrap(), expected);
        assert_eq!(idempotency_key(&invoice), "\"invoice-569901\"");
    }
}
