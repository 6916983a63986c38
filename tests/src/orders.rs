//! Orders as they are asked for.

use serde_json::{Value, json};

/// An order of one line, worth 25.00 EUR.
pub fn order_request() -> Value {
    order_of("TEA-1")
}

/// An order of one line of this article, worth 25.00 EUR.
pub fn order_of(sku: &str) -> Value {
    json!({"currency": "EUR", "lines": [{"sku": sku, "quantity": 2, "unit_price": "12.50"}]})
}

/// The contents of an order as they are replaced: everything but the currency.
pub fn contents_of(sku: &str) -> Value {
    let mut contents = order_of(sku);
    if let Some(members) = contents.as_object_mut() {
        members.remove("currency");
    }
    contents
}

/// An order with everything that an order can have.
pub fn full_order() -> Value {
    json!({
        "currency": "EUR",
        "lines": [
            {"sku": "TEA-1", "name": "Darjeeling", "quantity": 2, "unit_price": "12.50"},
            {"sku": "TEA-1", "name": "Darjeeling", "quantity": 1, "unit_price": "0"},
        ],
        "shipping_address": {
            "recipient": "Ada Lovelace", "street": "12 St James's Square", "street2": "Back door",
            "postal_code": "SW1Y 4JH", "city": "London", "region": "Greater London", "country": "GB",
        },
        "note": "Ring twice",
        "attributes": {"gift": true, "wrap": {"colour": "blue", "bows": [1, 2.5, null]}},
    })
}
