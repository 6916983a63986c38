//! Bodies about orders.

use std::borrow::Cow;

use domain::{
    money::Decimal,
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

use super::{id, parsed, valid};

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

/// A body of `PUT /orders/{id}`: everything but the currency of its prices, which only the order knows.
#[derive(Debug)]
pub struct Replacement {
    lines: Vec<UnpricedLine>,
    shipping_address: Option<Address>,
    note: Option<Note>,
    attributes: Attributes,
}

impl Replacement {
    /// The contents, priced in the order's currency; the problem `invalid` where the prices do not fit it.
    pub fn in_currency(self, currency: Currency) -> Result<Contents, Problem> {
        let lines = json::check(|place| priced(self.lines, currency, &place.member("lines")))?;
        Ok(Contents {
            lines,
            shipping_address: self.shipping_address,
            note: self.note,
            attributes: self.attributes,
        })
    }
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

#[derive(Debug)]
struct UnpricedLine {
    sku: Sku,
    name: Option<LineName>,
    quantity: Quantity,
    unit_price: Decimal,
}

/// Reads a body of `POST /orders`.
pub fn new_order(bytes: &[u8]) -> Result<NewOrder, Problem> {
    json::read(bytes, |value, place| {
        let mut fields = Fields::of(value, place)?;
        let customer_id = fields.optional("customer_id", id);
        let currency = fields.required("currency", |value, place| {
            let code = json::text(value, place)?;
            valid(code.trim().parse().map_err(Invalid::from), place)
        });
        // Each price is checked where it stands, together with all else that may be wrong with its line.
        let lines = fields.required("lines", |value, place| lines(value, place, currency));
        let lines = match (currency, lines) {
            (Some(currency), Some(lines)) => priced(lines, currency, &place.member("lines")),
            (Some(_), None) | (None, Some(_)) | (None, None) => None,
        };
        let rest = free_parts(&mut fields);
        fields.refuse_others();
        let (shipping_address, note, attributes) = rest;
        Some(NewOrder {
            customer_id: customer_id?,
            currency: currency?,
            contents: Contents {
                lines: lines?,
                shipping_address: shipping_address?,
                note: note?,
                attributes: attributes?.unwrap_or_default(),
            },
        })
    })
}

/// Reads a body of `PUT /orders/{id}`.
pub fn replacement(bytes: &[u8]) -> Result<Replacement, Problem> {
    json::read(bytes, |value, place| {
        let mut fields = Fields::of(value, place)?;
        // The currency is the order's, which the body does not name.
        let lines = fields.required("lines", |value, place| lines(value, place, None));
        let (shipping_address, note, attributes) = free_parts(&mut fields);
        fields.refuse_others();
        Some(Replacement {
            lines: lines?,
            shipping_address: shipping_address?,
            note: note?,
            attributes: attributes?.unwrap_or_default(),
        })
    })
}

/// Reads a body of `PUT /orders/{id}/status`.
pub fn status_change(bytes: &[u8]) -> Result<StatusChange, Problem> {
    json::read(bytes, |value, place| {
        let mut fields = Fields::of(value, place)?;
        let status = fields.required("status", |value, place| match &*json::text(value, place)? {
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
pub fn reasoned(bytes: &[u8]) -> Result<Reasoned, Problem> {
    json::read(bytes, |value, place| {
        let mut fields = Fields::of(value, place)?;
        let reason = fields.optional("reason", parsed(Reason::parse));
        fields.refuse_others();
        Some(Reasoned { reason: reason? })
    })
}

type FreeParts = (
    Option<Option<Address>>,
    Option<Option<Note>>,
    Option<Option<Attributes>>,
);

fn free_parts(fields: &mut Fields<'_, '_>) -> FreeParts {
    (
        fields.optional("shipping_address", address),
        fields.optional("note", parsed(Note::parse)),
        fields.optional("attributes", attributes),
    )
}

fn lines(
    value: Json<'_>,
    place: &Place<'_>,
    currency: Option<Currency>,
) -> Option<Vec<UnpricedLine>> {
    match &value {
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
    }
}

fn line(value: Json<'_>, place: &Place<'_>, currency: Option<Currency>) -> Option<UnpricedLine> {
    let mut fields = Fields::of(value, place)?;
    let sku = fields.required("sku", parsed(Sku::parse));
    let name = fields.optional("name", parsed(LineName::parse));
    let quantity = fields.required("quantity", |value, place| {
        let pieces = json::integer(value, place)?;
        valid(Quantity::parse(pieces), place)
    });
    let unit_price = fields.required("unit_price", |value, place| {
        let text = json::text(value, place)?;
        let price = valid(Decimal::parse(&text).map_err(Invalid::from), place)?;
        match currency {
            Some(currency) => {
                let fits = price.in_currency(currency).map(|_| price);
                valid(fits.map_err(Invalid::from), place)
            }
            None => Some(price),
        }
    });
    fields.refuse_others();
    Some(UnpricedLine {
        sku: sku?,
        name: name?,
        quantity: quantity?,
        unit_price: unit_price?,
    })
}

/// The lines with their prices in `currency`, with amounts and total.
fn priced(unpriced: Vec<UnpricedLine>, currency: Currency, place: &Place<'_>) -> Option<Lines> {
    let count = unpriced.len();
    let mut lines = Vec::with_capacity(count);
    for (index, line) in unpriced.into_iter().enumerate() {
        let UnpricedLine {
            sku,
            name,
            quantity,
            unit_price,
        } = line;
        match unit_price.in_currency(currency) {
            Ok(unit_price) => lines.push(NewLine {
                sku,
                name,
                quantity,
                unit_price,
            }),
            Err(error) => {
                let line = place.item(index);
                valid::<()>(Err(error.into()), &line.member("unit_price"));
            }
        }
    }
    if lines.len() < count {
        return None;
    }
    match Lines::parse(lines) {
        Ok(lines) => Some(lines),
        Err(part) => fail(&part, place),
    }
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

#[cfg(test)]
mod tests;
