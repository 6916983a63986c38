//! Bad input: each kind has its answer, and leaves nothing behind.

use end_to_end::{
    beside_others,
    environment::{self, query_url},
    http::{Answer, call, command},
    orders::{full_order, order_request},
    people::{User, registered_user},
};
use reqwest::Method;
use serde_json::{Value, json};

const BODY_BYTES_MAX: usize = 1024 * 1024;

async fn posts(user: &User, content_type: &str, body: impl Into<Vec<u8>>) -> Answer {
    user.command(Method::POST, "/orders")
        .body(content_type, body)
        .send()
        .await
}

async fn orders(user: &User, body: &Value) -> Answer {
    user.command(Method::POST, "/orders")
        .json(body)
        .send()
        .await
}

#[test]
fn what_is_no_json_document_is_unreadable() {
    beside_others(async {
        let user = registered_user().await;
        let twice = order_request()
            .to_string()
            .replacen('{', "{\"currency\":\"USD\",", 1);
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let mut not_utf8 = order_request().to_string().into_bytes();
        let at = not_utf8.iter().position(|byte| *byte == b'T').unwrap();
        not_utf8[at] = 0xff;
        let broken: [(&str, Vec<u8>); 8] = [
            ("empty", vec![]),
            ("cut off", b"{\"currency\":".to_vec()),
            ("two documents", b"{} {}".to_vec()),
            ("single quotes", b"{'currency':'EUR'}".to_vec()),
            ("a trailing comma", b"{\"currency\":\"EUR\",}".to_vec()),
            ("a key twice", twice.into_bytes()),
            ("too deep", deep.into_bytes()),
            ("not UTF-8", not_utf8),
        ];
        for (why, body) in broken {
            let answer = posts(&user, "application/json", body).await;
            assert_eq!(answer.status, 400, "{why}: {answer:?}");
            answer.problem(400, "unreadable");
        }
    });
}

#[test]
fn only_json_that_says_so_is_read() {
    beside_others(async {
        let user = registered_user().await;
        let body = order_request().to_string();
        for other in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/xml",
            "application/json; charset=latin1",
        ] {
            posts(&user, other, body.clone())
                .await
                .problem(415, "unsupported-media-type");
        }
        posts(&user, "application/json; charset=UTF-8", body)
            .await
            .is(201);
    });
}

#[test]
fn a_body_may_have_one_mebibyte_and_not_a_byte_more() {
    beside_others(async {
        let user = registered_user().await;
        let padded = |length: usize| {
            let mut body = order_request().to_string().into_bytes();
            body.resize(length, b' ');
            body
        };
        posts(&user, "application/json", padded(BODY_BYTES_MAX))
            .await
            .is(201);
        posts(&user, "application/json", padded(BODY_BYTES_MAX + 1))
            .await
            .problem(413, "too-large");
    });
}

#[test]
fn every_wrong_value_is_named_at_once_with_its_pointer() {
    beside_others(async {
        let user = registered_user().await;
        let body = json!({
            "currency": "eur",
            "lines": [
                {"sku": "", "quantity": 0, "unit_price": "-1"},
                {"sku": "a b", "quantity": 1_000_001, "unit_price": "1,5", "colour": "red"},
                {"quantity": 1.5, "unit_price": 12.5},
                "TEA",
            ],
            "shipping_address": {"recipient": "Ada", "street": "", "postal_code": "1", "country": "XX", "planet": "Earth"},
            "note": 7,
            "attributes": [],
            "a/b~c": true,
        });
        let answer = orders(&user, &body).await;
        answer.points_at(&[
            "/currency",
            "/lines/0/sku",
            "/lines/0/quantity",
            "/lines/0/unit_price",
            "/lines/1/sku",
            "/lines/1/quantity",
            "/lines/1/unit_price",
            "/lines/1/colour",
            "/lines/2/sku",
            "/lines/2/quantity",
            "/lines/2/unit_price",
            "/lines/3",
            "/shipping_address/street",
            "/shipping_address/city",
            "/shipping_address/country",
            "/shipping_address/planet",
            "/note",
            "/attributes",
            "/a~1b~0c",
        ]);
        let code = |pointer: &str| {
            let errors = answer.errors();
            errors
                .into_iter()
                .find(|(each, _)| each == pointer)
                .map(|(_, code)| code)
                .unwrap()
        };
        assert_eq!(code("/lines/1/colour"), "unknown");
        assert_eq!(code("/shipping_address/city"), "missing");
        assert_eq!(code("/note"), "wrong_type");
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(
            !text.contains("Earth") && !text.contains("1,5"),
            "values come back: {text}"
        );
    });
}

#[test]
fn missing_and_unknown_members_are_pointed_at() {
    beside_others(async {
        let user = registered_user().await;
        orders(&user, &json!({}))
            .await
            .points_at(&["/currency", "/lines"]);
        orders(&user, &json!([])).await.points_at(&[""]);
        let mut order = full_order();
        order["total"] = json!("25.00");
        order["status"] = json!("completed");
        orders(&user, &order)
            .await
            .points_at(&["/total", "/status"]);
        let id = user.creates(&order_request()).await.text("id");
        let put = user
            .command(Method::PUT, &format!("/orders/{id}"))
            .if_match("*");
        put.json(&order_request())
            .send()
            .await
            .points_at(&["/currency"]);
        for (status, pointers) in [
            (json!({}), vec!["/status"]),
            (json!({"status": "created"}), vec!["/status"]),
            (
                json!({"status": "Cancelled", "why": 1}),
                vec!["/status", "/why"],
            ),
            (json!({"status": "cancelled", "reason": 1}), vec!["/reason"]),
        ] {
            let call = user.command(Method::PUT, &format!("/orders/{id}/status"));
            call.json(&status).send().await.points_at(&pointers);
        }
        let cancel = user.command(Method::POST, &format!("/orders/{id}/cancel"));
        cancel
            .json(&json!({"raeson": "typo"}))
            .send()
            .await
            .points_at(&["/raeson"]);
    });
}

#[test]
fn control_characters_are_refused_everywhere() {
    beside_others(async {
        let user = registered_user().await;
        for pointer in [
            "/lines/0/sku",
            "/lines/0/name",
            "/note",
            "/shipping_address/city",
        ] {
            let mut order = full_order();
            *order.pointer_mut(pointer).unwrap() = json!("x\u{0}y");
            orders(&user, &order).await.points_at(&[pointer]);
        }
    });
}

#[test]
fn unknown_paths_and_methods_are_problems_too() {
    beside_others(async {
        let user = registered_user().await;
        for (base, path) in [
            (environment::url(), "/nowhere"),
            (environment::command_url(), "/nowhere"),
            (query_url(), "/nowhere"),
        ] {
            call(Method::GET, &base, path)
                .send()
                .await
                .problem(404, "not-found");
        }
        let answer = user.command(Method::DELETE, "/orders").send().await;
        answer.problem(405, "method-not-allowed");
        assert_eq!(answer.header("allow"), "GET, HEAD, POST", "{answer:?}");
        let answer = call(Method::POST, &query_url(), "/orders")
            .token(&user.token)
            .send()
            .await;
        answer.problem(405, "method-not-allowed");
        assert!(answer.header("allow").contains("GET"), "{answer:?}");
    });
}

#[test]
fn every_type_of_problem_has_a_page_that_says_what_to_do() {
    beside_others(async {
        for name in [
            "invalid",
            "stale-version",
            "outcome-unknown",
            "idempotency-key-reused",
            "not-yet-consistent",
        ] {
            let page = command(Method::GET, &format!("/problems/{name}"))
                .send()
                .await
                .is(200);
            assert!(
                String::from_utf8_lossy(&page.body).contains(name),
                "{page:?}"
            );
            let of_queries = call(Method::GET, &query_url(), &format!("/problems/{name}"));
            of_queries.send().await.is(200);
        }
    });
}

#[test]
fn a_refused_order_leaves_nothing_in_the_log() {
    beside_others(async {
        let user = registered_user().await;
        for body in [
            json!({}),
            json!({"currency": "EUR", "lines": [{"sku": "A", "quantity": 0, "unit_price": "1"}]}),
        ] {
            orders(&user, &body).await.problem(422, "invalid");
        }
        posts(&user, "application/json", "{")
            .await
            .problem(400, "unreadable");
        let token = user.creates(&order_request()).await.consistency_token();
        let list = user
            .query("/orders")
            .after(&token)
            .send()
            .await
            .is(200)
            .json();
        assert_eq!(list["items"].as_array().unwrap().len(), 1, "{list}");
    });
}
