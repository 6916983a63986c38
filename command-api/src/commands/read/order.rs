//! Bodies about orders.

use std::borrow::Cow;

use domain::{
    money::{self, Decimal},
    order::NewStatus,
    values::{
        Address, AddressParts, Attributes, Invalid, InvalidPart, LINES_MAX, LineName, Lines,
        NewLine, Note, Quantity, Reason, Sku,
    },
};
use events::{currency::Currency, ids::UserId};
use runtime::{
    json::{self, Fields, Json, Place},
    problem::Problem,
};

use super::{id, parsed, trimmed, valid};

/// A body of `POST /orders`.
#[derive(Debug)]
pub struct NewOrder {
    /// Whose order it is, where that is said.
    pub customer_id: Option<UserId>,
    /// The currency of its prices.
    pub currency: Currency,
    /// What is ordered.
    pub contents: Contents,
}

/// The part of an order that can be replaced, personal data in the clear.
#[derive(Debug)]
pub struct Contents {
    /// What is ordered.
    pub lines: Lines,
    /// Where to.
    pub shipping_address: Option<Address>,
    /// The customer's words.
    pub note: Option<Note>,
    /// The free part.
    pub attributes: Attributes,
}

/// A body of `PUT /orders/{id}/status`.
#[derive(Debug)]
pub struct StatusChange {
    /// The status from now on.
    pub status: NewStatus,
    /// Why.
    pub reason: Option<Reason>,
}

/// A body of `POST /orders/{id}/cancel`.
#[derive(Debug)]
pub struct Reasoned {
    /// Why.
    pub reason: Option<Reason>,
}

/// Reads a body of `POST /orders`.
pub fn new_order(body: Json<'_>) -> Result<NewOrder, Problem> {
    json::check(|place| {
        let mut fields = Fields::of(body, place)?;
        let customer_id = fields.optional("customer_id", id);
        let currency = fields.required("currency", |value, place| {
            valid(trimmed(value, place)?.parse().map_err(Invalid::from), place)
        });
        let contents = contents(&mut fields, currency);
        fields.refuse_others();
        Some(NewOrder {
            customer_id: customer_id?,
            currency: currency?,
            contents: contents??,
        })
    })
}

/// Reads a body of `PUT /orders/{id}`, whose prices are in the order's currency. Where the order is not known, and so
/// no currency, the rest is checked and `None` returned.
pub fn replacement(
    body: Json<'_>,
    currency: Option<Currency>,
) -> Result<Option<Contents>, Problem> {
    json::check(|place| {
        let mut fields = Fields::of(body, place)?;
        let contents = contents(&mut fields, currency);
        fields.refuse_others();
        contents
    })
}

/// Reads a body of `PUT /orders/{id}/status`.
pub fn status_change(body: Json<'_>) -> Result<StatusChange, Problem> {
    json::check(|place| {
        let mut fields = Fields::of(body, place)?;
        let status = fields.required("status", |value, place| match &*trimmed(value, place)? {
            "in_progress" => Some(NewStatus::InProgress),
            "completed" => Some(NewStatus::Completed),
            "cancelled" => Some(NewStatus::Cancelled),
            _ => place.fail(
                "not_a_status",
                "must be in_progress, completed or cancelled",
            ),
        });
        let reason = fields.optional("reason", parsed(Reason::parse));
        fields.refuse_others();
        Some(StatusChange {
            status: status?,
            reason: reason?,
        })
    })
}

/// Reads a body of `POST /orders/{id}/cancel`.
pub fn reasoned(body: Json<'_>) -> Result<Reasoned, Problem> {
    json::check(|place| {
        let mut fields = Fields::of(body, place)?;
        let reason = fields.optional("reason", parsed(Reason::parse));
        fields.refuse_others();
        Some(Reasoned { reason: reason? })
    })
}

/// The part of an order that can be replaced; `Some(None)` where nothing is wrong but the currency is not known.
fn contents(fields: &mut Fields<'_, '_>, currency: Option<Currency>) -> Option<Option<Contents>> {
    let lines = fields.required("lines", |value, place| lines(value, place, currency));
    let shipping_address = fields.optional("shipping_address", address);
    let note = fields.optional("note", parsed(Note::parse));
    let attributes = fields.optional("attributes", attributes);
    let (lines, shipping_address) = (lines?, shipping_address?);
    let (note, attributes) = (note?, attributes?.unwrap_or_default());
    Some(lines.map(|lines| Contents {
        lines,
        shipping_address,
        note,
        attributes,
    }))
}

/// The lines with amounts and total, all that is wrong reported at once.
fn lines(value: Json<'_>, place: &Place<'_>, currency: Option<Currency>) -> Option<Option<Lines>> {
    let read = match &value {
        Json::Array(items) if items.len() > LINES_MAX => {
            valid(Err(Invalid::TooMany { max: LINES_MAX }), place)
        }
        Json::Array(items) if items.is_empty() => valid(Err(Invalid::TooFew { min: 1 }), place),
        Json::Array(_)
        | Json::Null
        | Json::Bool(_)
        | Json::Number(_)
        | Json::Text(_)
        | Json::Object(_) => json::array(value, place, |value, place| line(value, place, currency)),
    };
    let Some(lines) = read?.into_iter().collect::<Option<Vec<NewLine>>>() else {
        return Some(None);
    };
    match Lines::parse(lines) {
        Ok(lines) => Some(Some(lines)),
        Err(part) => fail(&part, place),
    }
}

fn line(value: Json<'_>, place: &Place<'_>, currency: Option<Currency>) -> Option<Option<NewLine>> {
    let mut fields = Fields::of(value, place)?;
    let sku = fields.required("sku", parsed(Sku::parse));
    let name = fields.optional("name", parsed(LineName::parse));
    let quantity = fields.required("quantity", |value, place| {
        let pieces = json::integer(value, place)?;
        valid(Quantity::parse(pieces), place)
    });
    let unit_price = fields.required("unit_price", |value, place| {
        let price = Decimal::parse(&trimmed(value, place)?);
        let price = valid(price.map_err(Invalid::from), place)?;
        let fitting = currency.map(|currency| price.in_currency(currency));
        valid(fitting.transpose().map_err(Invalid::from), place)
    });
    fields.refuse_others();
    let (sku, name, quantity) = (sku?, name?, quantity?);
    let Some(unit_price) = unit_price? else {
        return Some(None);
    };
    // Here and not only with the total, so that every line that is too much is named.
    valid(
        money::amount(quantity, unit_price).map_err(Invalid::from),
        place,
    )?;
    Some(Some(NewLine {
        sku,
        name,
        quantity,
        unit_price,
    }))
}

fn address(value: Json<'_>, place: &Place<'_>) -> Option<Address> {
    /// What stands in for a part that is missing, so that the others are checked all the same.
    const STAND_IN: (&str, &str) = ("?", "DE");
    let mut fields = Fields::of(value, place)?;
    let mut text = |name| fields.required(name, json::text);
    let (recipient, street) = (text("recipient"), text("street"));
    let (postal_code, city, country) = (text("postal_code"), text("city"), text("country"));
    let street2 = fields.optional("street2", json::text);
    let region = fields.optional("region", json::text);
    fields.refuse_others();
    fn or<'t>(text: &'t Option<Cow<'_, str>>, stand_in: &'t str) -> &'t str {
        text.as_deref().unwrap_or(stand_in)
    }
    let parts = AddressParts {
        recipient: or(&recipient, STAND_IN.0),
        street: or(&street, STAND_IN.0),
        street2: street2.as_ref().and_then(Option::as_deref),
        postal_code: or(&postal_code, STAND_IN.0),
        city: or(&city, STAND_IN.0),
        region: region.as_ref().and_then(Option::as_deref),
        country: or(&country, STAND_IN.1),
    };
    let address = match Address::parse(parts) {
        Ok(address) => address,
        Err(parts) => {
            return parts.iter().fold(None, |_, part| fail(part, place));
        }
    };
    let all = recipient
        .and(street)
        .and(postal_code)
        .and(city)
        .and(country);
    all.and(street2).and(region).map(|_| address)
}

fn attributes(value: Json<'_>, place: &Place<'_>) -> Option<Attributes> {
    match value.into_value() {
        serde_json::Value::Object(object) => valid(Attributes::parse(object), place),
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_)
        | serde_json::Value::Array(_) => place.fail("wrong_type", "must be an object"),
    }
}

fn fail<T>(part: &InvalidPart, place: &Place<'_>) -> Option<T> {
    place.fail_below(&part.pointer, part.invalid.code(), part.invalid)
}

mod schema;

#[cfg(test)]
mod tests;
