//! Money: exact, in each currency's own decimals, checked at both ends.

use end_to_end::{
    beside_others,
    http::Answer,
    people::{User, registered_user},
};
use reqwest::Method;
use serde_json::{Value, json};

/// The most that 64 bits of minor units hold.
const MOST_CENTS: &str = "92233720368547758.07";

async fn orders(user: &User, currency: &str, lines: &[(i64, Value)]) -> Answer {
    let lines: Vec<Value> = lines
        .iter()
        .map(|(quantity, price)| json!({"sku": "GOLD", "quantity": quantity, "unit_price": price}))
        .collect();
    let call = user.command(Method::POST, "/orders");
    call.json(&json!({"currency": currency, "lines": lines}))
        .send()
        .await
}

#[test]
fn amounts_have_exactly_the_decimals_of_their_currency() {
    beside_others(async {
        let user = registered_user().await;
        for (currency, price, quantity, unit_price, total) in [
            ("EUR", "12.5", 2, "12.50", "25.00"),
            ("EUR", "0", 1, "0.00", "0.00"),
            ("EUR", "0.01", 3, "0.01", "0.03"),
            ("USD", "19.99", 1_000_000, "19.99", "19990000.00"),
            ("JPY", "100", 3, "100", "300"),
            ("KWD", "1.234", 10, "1.234", "12.340"),
            ("KWD", "1.2", 1, "1.200", "1.200"),
            ("CLF", "0.0001", 2, "0.0001", "0.0002"),
            ("EUR", MOST_CENTS, 1, MOST_CENTS, MOST_CENTS),
        ] {
            let answer = orders(&user, currency, &[(quantity, json!(price))])
                .await
                .is(201);
            let body = answer.json();
            let line = &body["lines"][0];
            assert_eq!(line["unit_price"], unit_price, "{currency} {price}");
            assert_eq!(line["amount"], total, "{currency} {price}");
            assert_eq!(body["total"], total, "{currency} {price}");
            let path = format!("/orders/{}", answer.text("id"));
            let read = user
                .query(&path)
                .after(&answer.consistency_token())
                .send()
                .await
                .is(200);
            assert_eq!(read.json(), body);
        }
    });
}

#[test]
fn what_is_no_amount_in_the_currency_is_refused() {
    beside_others(async {
        let user = registered_user().await;
        for (currency, price) in [
            ("EUR", json!("1.234")),
            ("EUR", json!("1.500")),
            ("JPY", json!("1.5")),
            ("JPY", json!("1.0")),
            ("KWD", json!("1.2345")),
            ("EUR", json!("-1")),
            ("EUR", json!("+1")),
            ("EUR", json!("1e3")),
            ("EUR", json!("1,50")),
            ("EUR", json!("01")),
            ("EUR", json!(".5")),
            ("EUR", json!("5.")),
            ("EUR", json!("")),
            ("EUR", json!(" ")),
            ("EUR", json!("\u{661}")),
            ("EUR", json!("NaN")),
            ("EUR", json!(12.5)),
            ("EUR", json!(12)),
            ("EUR", Value::Null),
            ("EUR", json!("92233720368547758.08")),
            ("EUR", json!("9".repeat(400))),
        ] {
            let answer = orders(&user, currency, &[(1, price.clone())]).await;
            assert_eq!(answer.status, 422, "{currency} {price}: {answer:?}");
            answer.points_at(&["/lines/0/unit_price"]);
        }
        for currency in ["eur", "EURO", "XXX", "XYZ", "", "€"] {
            orders(&user, currency, &[(1, json!("1"))])
                .await
                .points_at(&["/currency"]);
        }
    });
}

#[test]
fn an_overflowing_amount_or_total_is_refused() {
    beside_others(async {
        let user = registered_user().await;
        let amount = orders(&user, "EUR", &[(1, json!("1")), (2, json!(MOST_CENTS))]).await;
        for (pointer, code) in amount.errors() {
            assert!(pointer.starts_with("/lines/1"), "{pointer}");
            assert_eq!(code, "too_large");
        }
        let total = orders(&user, "EUR", &[(1, json!(MOST_CENTS)), (1, json!("0.01"))]).await;
        assert_eq!(
            total.errors(),
            [("/lines".to_owned(), "too_large".to_owned())]
        );
        let just = orders(
            &user,
            "EUR",
            &[(1, json!("92233720368547758.06")), (1, json!("0.01"))],
        )
        .await
        .is(201);
        assert_eq!(just.text("total"), MOST_CENTS);
    });
}
