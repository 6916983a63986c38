//! Every wrong value is reported at once, each with its pointer; a good body becomes exact values.

use serde_json::{Value, json};

use super::*;

fn sent(text: &[u8]) -> Json<'_> {
    json::parse(text).expect("JSON")
}

/// `(pointer, code)` of every error.
fn errors<T: std::fmt::Debug>(outcome: Result<T, Problem>) -> Vec<(String, &'static str)> {
    let problem = outcome.expect_err("the body should be refused");
    assert_eq!(problem.kind().name, "invalid");
    problem
        .errors()
        .iter()
        .map(|error| (error.pointer.clone(), error.code))
        .collect()
}

fn refused(body: &Value) -> Vec<(String, &'static str)> {
    errors(new_order(sent(body.to_string().as_bytes())))
}

fn owned(errors: &[(&str, &'static str)]) -> Vec<(String, &'static str)> {
    errors
        .iter()
        .map(|(pointer, code)| ((*pointer).to_owned(), *code))
        .collect()
}

fn good() -> Value {
    json!({
        "currency": "EUR",
        "lines": [{"sku": " A-1 ", "quantity": 2, "unit_price": "12.5"}, {"sku": "A-1", "name": "Bee", "quantity": 1, "unit_price": "0"}],
        "shipping_address": {"recipient": "Ada", "street": "1 Main St", "postal_code": "12345", "city": "Berlin", "country": "DE"},
        "note": " leave it at the door ",
        "attributes": {"b": 1, "a": {"y": null, "x": [1.5]}},
    })
}

#[test]
fn a_good_order_becomes_exact_values() {
    let order = new_order(sent(good().to_string().as_bytes())).unwrap();
    assert_eq!((order.customer_id, order.currency.code()), (None, "EUR"));
    let contents = order.contents;
    assert_eq!(contents.lines.total_minor(), 2_500);
    let line = &contents.lines.as_slice()[0];
    assert_eq!(
        (line.sku.as_str(), line.unit_price_minor, line.amount_minor),
        ("A-1", 1_250, 2_500)
    );
    assert_eq!(contents.note.unwrap().as_str(), "leave it at the door");
    assert_eq!(
        contents.attributes.as_str(),
        r#"{"a":{"x":[1.5],"y":null},"b":1}"#
    );
    assert!(contents.shipping_address.is_some());
}

#[test]
fn what_may_be_left_out_may_be_null_as_well() {
    for rest in [
        json!({}),
        json!({"customer_id": null, "shipping_address": null, "note": null, "attributes": null}),
    ] {
        let mut body = json!({"currency": "JPY", "lines": [{"sku": "A", "name": null, "quantity": 1, "unit_price": "5"}]});
        body.as_object_mut()
            .unwrap()
            .extend(rest.as_object().unwrap().clone());
        let order = new_order(sent(body.to_string().as_bytes())).unwrap();
        assert_eq!(order.contents.attributes.as_str(), "{}");
        assert_eq!(order.contents.lines.total_minor(), 5);
    }
}

#[test]
fn every_error_of_an_order_is_reported_at_once() {
    let body = json!({
        "customer_id": "me",
        "currency": "eur",
        "lines": [
            {"sku": "a b", "name": "", "quantity": 0, "unit_price": "1e3", "amount": "1"},
            {"quantity": 1.5, "unit_price": 12},
            7,
        ],
        "shipping_address": {"recipient": "\u{7}", "postal_code": "1", "city": "B", "country": "de", "planet": "Earth"},
        "note": "x".repeat(2_001),
        "attributes": [],
        "status": "completed",
        "total": "0.01",
    });
    let mut found = refused(&body);
    found.sort();
    let mut expected = owned(&[
        ("/attributes", "wrong_type"),
        ("/currency", "not_iso4217"),
        ("/customer_id", "not_uuid"),
        ("/lines/0/amount", "unknown"),
        ("/lines/0/name", "too_short"),
        ("/lines/0/quantity", "out_of_range"),
        ("/lines/0/sku", "not_visible"),
        ("/lines/0/unit_price", "not_decimal"),
        ("/lines/1/quantity", "wrong_type"),
        ("/lines/1/sku", "missing"),
        ("/lines/1/unit_price", "wrong_type"),
        ("/lines/2", "wrong_type"),
        ("/note", "too_long"),
        ("/shipping_address/country", "not_iso3166"),
        ("/shipping_address/planet", "unknown"),
        ("/shipping_address/recipient", "control_character"),
        ("/shipping_address/street", "missing"),
        ("/status", "unknown"),
        ("/total", "unknown"),
    ]);
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!(
        refused(&json!({})),
        owned(&[("/currency", "missing"), ("/lines", "missing")])
    );
    assert_eq!(refused(&json!([])), owned(&[("", "wrong_type")]));
}

#[test]
fn money_is_checked_against_the_currency_and_for_overflow() {
    let order = |currency: &str, price: &str, quantity: u32| {
        refused(&json!({"currency": currency, "lines": [
            {"sku": "A", "quantity": 1, "unit_price": "1"},
            {"sku": "B", "quantity": quantity, "unit_price": price},
        ]}))
    };
    assert_eq!(
        order("EUR", "1.005", 1),
        owned(&[("/lines/1/unit_price", "too_many_decimals")])
    );
    assert_eq!(
        order("JPY", "1.5", 1),
        owned(&[("/lines/1/unit_price", "too_many_decimals")])
    );
    assert_eq!(
        order("EUR", "92233720368547758.07", 2),
        owned(&[("/lines/1", "too_large")])
    );
    assert_eq!(
        order("EUR", "92233720368547758.07", 1),
        owned(&[("/lines", "too_large")])
    );
    assert_eq!(
        order("EUR", "99999999999999999999", 1),
        owned(&[("/lines/1/unit_price", "too_large")])
    );
    assert_eq!(
        order("EUR", "-1", 1),
        owned(&[("/lines/1/unit_price", "not_decimal")])
    );
}

#[test]
fn every_line_that_is_too_much_is_named_beside_all_else() {
    let much = json!({"sku": "A", "quantity": 2, "unit_price": " 92233720368547758.07 "});
    let bad = json!({"sku": "", "quantity": 2, "unit_price": "92233720368547758.07"});
    assert_eq!(
        refused(&json!({"currency": "EUR", "lines": [much, bad, much]})),
        owned(&[
            ("/lines/0", "too_large"),
            ("/lines/1/sku", "too_short"),
            ("/lines/2", "too_large"),
        ])
    );
}

#[test]
fn an_order_has_1_to_2000_lines() {
    let order = |count: usize| {
        let line = json!({"sku": "A", "quantity": 1, "unit_price": "1"});
        let order = json!({"currency": "EUR", "lines": vec![line; count]});
        new_order(sent(order.to_string().as_bytes()))
    };
    assert_eq!(errors(order(0)), owned(&[("/lines", "too_few")]));
    assert!(order(2_000).is_ok());
    assert_eq!(errors(order(2_001)), owned(&[("/lines", "too_many")]));
}

#[test]
fn attributes_are_limited_in_size_and_depth() {
    let with = |attributes: Value| {
        let mut body = good();
        body["attributes"] = attributes;
        new_order(sent(body.to_string().as_bytes()))
    };
    let nested = |levels: usize| (1..levels).fold(json!({}), |inside, _| json!({"a": inside}));
    assert!(with(nested(32)).is_ok());
    assert_eq!(
        errors(with(nested(33))),
        owned(&[("/attributes", "too_deep")])
    );
    assert!(with(json!({"a": "x".repeat(16 * 1024 - 8)})).is_ok());
    assert_eq!(
        errors(with(json!({"a": "x".repeat(16 * 1024 - 7)}))),
        owned(&[("/attributes", "too_many_bytes")])
    );
}

#[test]
fn a_replacement_is_priced_in_the_orders_currency() {
    let mut body = good();
    body.as_object_mut().unwrap().remove("currency");
    body["colour"] = json!("red");
    let colour = ("/colour", "unknown");
    let read = |body: &Value, currency: Option<&str>| {
        let currency = currency.map(|code| code.parse().unwrap());
        replacement(sent(body.to_string().as_bytes()), currency)
    };
    assert_eq!(
        errors(read(&body, Some("JPY"))),
        owned(&[("/lines/0/unit_price", "too_many_decimals"), colour])
    );
    assert_eq!(errors(read(&body, None)), owned(&[colour]));
    body.as_object_mut().unwrap().remove("colour");
    let contents = read(&body, Some("EUR")).unwrap().unwrap();
    assert_eq!(contents.lines.total_minor(), 2_500);
    assert!(read(&body, None).unwrap().is_none());
    assert_eq!(
        errors(read(&good(), Some("EUR"))),
        owned(&[("/currency", "unknown")])
    );
}

#[test]
fn only_steps_can_be_asked_for() {
    let change = |body: Value| status_change(sent(body.to_string().as_bytes()));
    assert_eq!(
        change(json!({"status": "cancelled", "reason": " late "}))
            .unwrap()
            .reason
            .unwrap()
            .as_str(),
        "late"
    );
    for status in [json!("created"), json!("done"), json!("")] {
        assert_eq!(
            errors(change(json!({"status": status}))),
            owned(&[("/status", "not_a_status")])
        );
    }
    assert_eq!(
        errors(change(
            json!({"status": 1, "reason": "x".repeat(501), "by": "me"})
        )),
        owned(&[
            ("/status", "wrong_type"),
            ("/reason", "too_long"),
            ("/by", "unknown")
        ])
    );
    assert_eq!(errors(change(json!({}))), owned(&[("/status", "missing")]));
    assert!(reasoned(sent(b"{}")).unwrap().reason.is_none());
    assert_eq!(
        errors(reasoned(sent(br#"{"status":"cancelled"}"#))),
        owned(&[("/status", "unknown")])
    );
}

#[test]
fn a_price_is_checked_also_where_its_line_has_other_faults() {
    let body = serde_json::json!({
        "currency": "GBP",
        "lines": [{"sku": "", "quantity": 0, "unit_price": "1.005"}],
    });
    assert_eq!(
        refused(&body),
        owned(&[
            ("/lines/0/sku", "too_short"),
            ("/lines/0/quantity", "out_of_range"),
            ("/lines/0/unit_price", "too_many_decimals"),
        ])
    );
}
