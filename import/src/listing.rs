//! Reading all orders back through the query API, page by page.

use std::collections::HashSet;

use anyhow::{Context, bail};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::api::{Api, Call};
use crate::progress::Progress;

/// Orders per page; the API's own limit.
pub const PAGE_ORDERS_COUNT: usize = 200;

/// An order as the query API answers it, as far as it is compared.
#[derive(Debug, Deserialize)]
pub struct Order {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub customer_id: Uuid,
    /// The code of its currency.
    pub currency: String,
    /// Its lines.
    pub lines: Vec<OrderLine>,
    /// Its total as decimal text.
    pub total: String,
    /// What the client sent along.
    #[serde(default)]
    pub attributes: Value,
}

/// A line of an order.
#[derive(Debug, Deserialize)]
pub struct OrderLine {
    /// The article number.
    pub sku: String,
    /// How many.
    pub quantity: i64,
    /// The price of one as decimal text.
    pub unit_price: String,
    /// Quantity times price as decimal text.
    pub amount: String,
}

impl Order {
    /// The invoice number an import gave it.
    #[must_use]
    pub fn invoice_no(&self) -> Option<&str> {
        self.attributes.get("invoice_no")?.as_str()
    }
}

#[derive(Deserialize)]
struct Page {
    items: Vec<Order>,
    next_cursor: Option<String>,
}

/// Shows every order there is to `each`, once, newest first.
///
/// # Errors
/// When a page is refused, not answered or not understood.
pub async fn read_all(
    api: &Api,
    what: &'static str,
    mut each: impl FnMut(&Order) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let progress = Progress::begin(what, 0);
    let mut cursor: Option<String> = None;
    let mut cursors = HashSet::new();
    loop {
        let page = read_page(api, cursor.as_deref(), PAGE_ORDERS_COUNT, None).await?;
        for order in &page.items {
            each(order)?;
        }
        progress.advance(page.items.len() as u64);
        let Some(next) = page.next_cursor else {
            break;
        };
        if !cursors.insert(next.clone()) {
            bail!("the list of orders goes in circles: a cursor came twice");
        }
        cursor = Some(next);
    }
    progress.end();
    Ok(())
}

/// Waits until the read model has reached the point a token stands for.
///
/// # Errors
/// When it has not in spite of all attempts, or the token is refused.
pub async fn wait_for(api: &Api, consistency_token: &str) -> anyhow::Result<()> {
    read_page(api, None, 1, Some(consistency_token))
        .await
        .map(|_| ())
}

async fn read_page(
    api: &Api,
    cursor: Option<&str>,
    limit: usize,
    consistency_token: Option<&str>,
) -> anyhow::Result<Page> {
    let mut query = format!("limit={limit}");
    if let Some(cursor) = cursor {
        query.push_str("&cursor=");
        query.push_str(&percent_encoded(cursor));
    }
    let token = consistency_token.map(|token| ("Consistency-Token", token.to_owned()));
    let call = Call {
        method: Method::GET,
        path: format!("/orders?{query}"),
        body: None,
        as_admin: true,
        headers: token.into_iter().collect(),
    };
    let answer = api.call(&call).await?;
    if answer.status != StatusCode::OK {
        bail!(
            "the query API refused to list the orders: {}",
            answer.in_words()
        );
    }
    answer.json().context("a page of orders")
}

/// Everything but letters, digits and `-_.~` as `%XX`.
fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::percent_encoded;

    #[test]
    fn a_cursor_survives_the_query_string() {
        assert_eq!(percent_encoded("aZ0-_.~"), "aZ0-_.~");
        assert_eq!(percent_encoded("a+b/c=&d"), "a%2Bb%2Fc%3D%26d");
    }
}
