//! The order: as it is sent, as the event that Orderlog would record, and as it is answered.

use actix_web::{HttpResponse, http::StatusCode, web};
use anyhow::{Context, ensure};
use events::{
    currency::Currency,
    ids::{OrderId, UserId},
    order::{OrderCreated, OrderLine},
    timestamp::Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use uuid::Uuid;

/// Who orders everything here.
const CUSTOMER: UserId = UserId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001));

/// An order as it is sent.
#[derive(Debug, Deserialize)]
pub struct Wanted {
    currency: Currency,
    lines: Vec<WantedLine>,
}

#[derive(Debug, Deserialize)]
struct WantedLine {
    sku: String,
    name: Option<String>,
    quantity: i32,
    unit_price: String,
}

/// An order as it is answered.
#[derive(Serialize)]
struct Answer<'a> {
    id: OrderId,
    customer_id: UserId,
    status: &'static str,
    currency: Currency,
    lines: Vec<AnswerLine<'a>>,
    total: String,
    shipping_address: Option<()>,
    note: Option<()>,
    attributes: Map<String, Value>,
    version: u8,
    created_at: &'a str,
    updated_at: &'a str,
}

#[derive(Serialize)]
struct AnswerLine<'a> {
    sku: &'a str,
    name: Option<&'a str>,
    quantity: i32,
    unit_price: String,
    amount: String,
}

/// The event of an order that was sent, under a new id. No rules are asked, only that the figures are such.
pub fn created(body: &[u8]) -> anyhow::Result<OrderCreated> {
    let wanted: Wanted = serde_json::from_slice(body)?;
    let lines = wanted.lines.into_iter().map(|line| {
        let unit_price_minor = minor(&line.unit_price, wanted.currency)?;
        let amount = unit_price_minor.checked_mul(line.quantity.into());
        Ok(OrderLine {
            sku: line.sku,
            name: line.name,
            quantity: line.quantity,
            unit_price_minor,
            amount_minor: amount.context("an amount that is too large")?,
        })
    });
    let lines = lines.collect::<anyhow::Result<Vec<_>>>()?;
    Ok(OrderCreated {
        order_id: OrderId(Uuid::now_v7()),
        customer_id: CUSTOMER,
        currency: wanted.currency,
        total_minor: lines.iter().map(|line| line.amount_minor).sum(),
        lines,
        shipping_address: None,
        note: None,
        attributes: "{}".to_owned(),
        occurred_at: Timestamp::from(OffsetDateTime::now_utc()),
    })
}

fn minor(text: &str, currency: Currency) -> anyhow::Result<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let decimals = currency.decimals() as usize;
    ensure!(fraction.len() <= decimals, "too many decimals");
    Ok(format!("{whole}{fraction:0<decimals$}").parse()?)
}

/// 201, with the order.
pub fn answer(order: &OrderCreated) -> HttpResponse {
    let money = |minor| order.currency.format_minor(minor);
    let created_at = order.occurred_at.to_string();
    let lines = order.lines.iter().map(|line| AnswerLine {
        sku: &line.sku,
        name: line.name.as_deref(),
        quantity: line.quantity,
        unit_price: money(line.unit_price_minor),
        amount: money(line.amount_minor),
    });
    HttpResponse::build(StatusCode::CREATED).json(Answer {
        id: order.order_id,
        customer_id: order.customer_id,
        status: "created",
        currency: order.currency,
        lines: lines.collect(),
        total: money(order.total_minor),
        shipping_address: None,
        note: None,
        attributes: Map::new(),
        version: 1,
        created_at: &created_at,
        updated_at: &created_at,
    })
}

/// 400, with the reason.
pub fn unreadable(error: &anyhow::Error) -> HttpResponse {
    HttpResponse::BadRequest().body(format!("{error:#}"))
}

/// 500, with the reason.
pub fn broken(error: &anyhow::Error) -> HttpResponse {
    eprintln!("peers: {error:#}");
    HttpResponse::InternalServerError().body(format!("{error:#}"))
}

/// `POST /orders`, and nothing else.
pub fn at_orders<F, Arguments>(handler: F) -> actix_web::Resource
where
    F: actix_web::Handler<Arguments>,
    Arguments: actix_web::FromRequest + 'static,
    F::Output: actix_web::Responder + 'static,
{
    web::resource("/orders").route(web::post().to(handler))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_has_the_amounts_that_orderlog_gives_it() {
        let body = br#"{"currency":"EUR","lines":[
            {"sku":"A","quantity":6,"unit_price":"7.95"},{"sku":"B","quantity":1,"unit_price":"49"}]}"#;
        let order = created(body).unwrap();
        let amounts: Vec<i64> = order.lines.iter().map(|line| line.amount_minor).collect();
        assert_eq!((amounts, order.total_minor), (vec![4_770, 4_900], 9_670));
        assert!(minor("1.005", order.currency).is_err());
    }
}
