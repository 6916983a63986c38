//! Everything has a limit: the last that fits is accepted, the first that does not is refused.

use end_to_end::{
    beside_others,
    http::Answer,
    orders::{full_order, order_request},
    people::{User, registered_user},
};
use reqwest::Method;
use serde_json::{Value, json};

const LINES_MAX: usize = 2_000;
const ATTRIBUTES_BYTES_MAX: usize = 16 * 1024;
const ATTRIBUTES_LEVELS_MAX: usize = 32;

async fn orders(user: &User, order: &Value) -> Answer {
    user.command(Method::POST, "/orders")
        .json(order)
        .send()
        .await
}

fn of_lines(count: usize) -> Value {
    let line = json!({"sku": "TEA-1", "quantity": 1, "unit_price": "0.01"});
    json!({"currency": "EUR", "lines": vec![line; count]})
}

/// Objects in objects, so many of them.
fn nested(levels: usize) -> Value {
    (1..levels).fold(json!({}), |inner, _| json!({"a": inner}))
}

#[test]
fn an_order_has_one_to_two_thousand_lines() {
    beside_others(async {
        let user = registered_user().await;
        let answer = orders(&user, &of_lines(LINES_MAX)).await.is(201);
        assert_eq!(answer.text("total"), "20.00");
        let path = format!("/orders/{}", answer.text("id"));
        let read = user
            .query(&path)
            .after(&answer.consistency_token())
            .send()
            .await
            .is(200);
        assert_eq!(read.json(), answer.json());
        for count in [0, LINES_MAX + 1] {
            orders(&user, &of_lines(count)).await.points_at(&["/lines"]);
        }
    });
}

#[test]
fn attributes_have_sixteen_kibibytes() {
    beside_others(async {
        let user = registered_user().await;
        let around = json!({"k": ""}).to_string().len();
        for (length, status) in [(ATTRIBUTES_BYTES_MAX, 201), (ATTRIBUTES_BYTES_MAX + 1, 422)] {
            let mut order = order_request();
            order["attributes"] = json!({"k": "x".repeat(length - around)});
            let answer = orders(&user, &order).await.is(status);
            if status == 422 {
                assert_eq!(
                    answer.errors(),
                    [("/attributes".to_owned(), "too_many_bytes".to_owned())]
                );
            } else {
                let path = format!("/orders/{}", answer.text("id"));
                let read = user
                    .query(&path)
                    .after(&answer.consistency_token())
                    .send()
                    .await
                    .is(200);
                assert_eq!(read.json()["attributes"], order["attributes"]);
            }
        }
    });
}

#[test]
fn attributes_have_thirty_two_levels() {
    beside_others(async {
        let user = registered_user().await;
        let mut order = order_request();
        order["attributes"] = nested(ATTRIBUTES_LEVELS_MAX);
        let answer = orders(&user, &order).await.is(201);
        let path = format!("/orders/{}", answer.text("id"));
        let read = user
            .query(&path)
            .after(&answer.consistency_token())
            .send()
            .await
            .is(200);
        assert_eq!(read.json()["attributes"], order["attributes"]);
        order["attributes"] = nested(ATTRIBUTES_LEVELS_MAX + 1);
        assert_eq!(
            orders(&user, &order).await.errors(),
            [("/attributes".to_owned(), "too_deep".to_owned())]
        );
    });
}

#[test]
fn attributes_are_any_json_object_and_come_back_as_they_were() {
    beside_others(async {
        let user = registered_user().await;
        let mut order = order_request();
        order["attributes"] = json!({
            "$set": {"a.b": 1}, "_id": "mine", "": "empty", "numbers": [0, -1, 9_007_199_254_740_993_i64, u64::MAX, 1.5, 1e-7],
            "unicode": "Grüße 🦀", "null": null, "nested": {"$where": "1", "list": [[], {}]},
        });
        let answer = orders(&user, &order).await.is(201);
        assert_eq!(answer.json()["attributes"], order["attributes"]);
        let path = format!("/orders/{}", answer.text("id"));
        let read = user
            .query(&path)
            .after(&answer.consistency_token())
            .send()
            .await
            .is(200);
        assert_eq!(read.json()["attributes"], order["attributes"]);
    });
}

#[test]
fn texts_and_numbers_have_their_lengths() {
    beside_others(async {
        let user = registered_user().await;
        for (pointer, fits, does_not) in [
            ("/lines/0/sku", json!("s".repeat(64)), json!("s".repeat(65))),
            (
                "/lines/0/name",
                json!("ä".repeat(200)),
                json!("ä".repeat(201)),
            ),
            ("/lines/0/quantity", json!(1_000_000), json!(1_000_001)),
            ("/lines/0/quantity", json!(1), json!(0)),
            ("/lines/0/quantity", json!(2), json!(-1)),
            ("/note", json!("🦀".repeat(2_000)), json!("n".repeat(2_001))),
            ("/shipping_address/country", json!("DE"), json!("de")),
        ] {
            let mut order = full_order();
            *order.pointer_mut(pointer).unwrap() = fits;
            orders(&user, &order).await.is(201);
            *order.pointer_mut(pointer).unwrap() = does_not;
            orders(&user, &order).await.points_at(&[pointer]);
        }
        let id = user.creates(&order_request()).await.text("id");
        let cancel = |reason: String| {
            let call = user.command(Method::POST, &format!("/orders/{id}/cancel"));
            call.json(&json!({"reason": reason})).send()
        };
        cancel("r".repeat(501)).await.points_at(&["/reason"]);
        cancel("r".repeat(500)).await.is(200);
    });
}

#[test]
fn the_largest_order_that_is_accepted_goes_all_the_way() {
    const BODY_BYTES_MAX: usize = 1024 * 1024;
    beside_others(async {
        let user = registered_user().await;
        // Characters of four bytes: next to no byte of the body is left out in the event.
        let line = json!({
            "sku": "\u{20000}".repeat(64), "name": "\u{20000}".repeat(200), "quantity": 1, "unit_price": "0",
        });
        let mut order = order_request();
        order["lines"] = json!([]);
        let room = BODY_BYTES_MAX - order.to_string().len();
        let count = room / (line.to_string().len() + 1);
        order["lines"] = json!(vec![line; count]);
        assert!(order.to_string().len() > BODY_BYTES_MAX - 2_000);
        let created = user.creates_visibly(&order).await;
        assert_eq!(created.json()["lines"].as_array().unwrap().len(), count);
    });
}
