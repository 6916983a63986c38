//! One intent, one key, one order: whatever the client repeats.

use std::collections::HashSet;

use end_to_end::{
    beside_others,
    http::{Answer, command},
    log::events_of,
    orders::{order_of, order_request},
    people::{PASSWORD, User, log_in, registered_user, unique},
};
use events::Topic;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

async fn posts(user: &User, key: &str, order: &Value) -> Answer {
    user.command(Method::POST, "/orders")
        .key(key)
        .json(order)
        .send()
        .await
}

/// The ids of the orders that the log has under a key.
async fn ordered_under(key: &str) -> Vec<String> {
    let events = events_of(Topic::Orders).await.into_iter();
    events
        .filter(|each| {
            each.envelope
                .metadata
                .idempotency
                .as_ref()
                .is_some_and(|idempotency| idempotency.key == key)
        })
        .map(|each| each.envelope.event.stream_id().to_string())
        .collect()
}

#[test]
fn a_repeated_request_gets_the_first_answer_headers_and_all() {
    beside_others(async {
        let user = registered_user().await;
        let key = unique("key-");
        let first = posts(&user, &key, &order_request()).await.is(201);
        let id = first.text("id");
        // What happens to the order afterwards does not change what was answered.
        let cancel = user.command(Method::POST, &format!("/orders/{id}/cancel"));
        cancel.json(&json!({})).send().await.is(200);
        for _ in 0..3 {
            let again = posts(&user, &key, &order_request()).await.is(201);
            assert_eq!(again.json(), first.json());
            for header in ["location", "etag", "content-type"] {
                assert_eq!(again.header(header), first.header(header), "{header}");
            }
            // The point may be a later one; whoever waits for it sees the order.
            let path = format!("/orders/{id}");
            let call = user.query(&path).after(&again.consistency_token());
            call.send().await.is(200);
        }
        assert_eq!(ordered_under(&key).await, [id]);
    });
}

#[test]
fn the_same_request_in_other_bytes_is_the_same_request() {
    beside_others(async {
        let user = registered_user().await;
        let key = unique("key-");
        let first = posts(&user, &key, &order_request()).await.is(201);
        let same = r#" { "lines" : [ {"unit_price":"12.50", "sku":"\u0054EA-1", "quantity":2} ],  "currency":"EUR" } "#;
        let call = user
            .command(Method::POST, "/orders")
            .key(&format!("\"{key}\""));
        let again = call.body("application/json", same).send().await.is(201);
        assert_eq!(again.json(), first.json());
    });
}

#[test]
fn a_key_belongs_to_its_request() {
    beside_others(async {
        let user = registered_user().await;
        let key = unique("key-");
        let id = posts(&user, &key, &order_request())
            .await
            .is(201)
            .text("id");
        let reused = posts(&user, &key, &order_of("OTHER")).await;
        reused.problem(422, "idempotency-key-reused");
        assert_eq!(ordered_under(&key).await, [id]);
    });
}

#[test]
fn a_key_belongs_to_its_user() {
    beside_others(async {
        let (one, other) = (registered_user().await, registered_user().await);
        let key = unique("key-");
        let mine = posts(&one, &key, &order_request()).await.is(201);
        let yours = posts(&other, &key, &order_of("OTHER")).await.is(201);
        assert_ne!(mine.text("id"), yours.text("id"));
        assert_eq!(yours.text("customer_id"), other.id);
        assert_eq!(ordered_under(&key).await.len(), 2);
    });
}

#[test]
fn a_refused_request_does_not_use_the_key_up() {
    beside_others(async {
        let user = registered_user().await;
        let key = unique("key-");
        posts(&user, &key, &json!({"currency": "EUR"}))
            .await
            .problem(422, "invalid");
        posts(&user, &key, &order_request()).await.is(201);
    });
}

#[test]
fn requests_with_one_key_at_the_same_time_make_one_order() {
    beside_others(async {
        let user = registered_user().await;
        for _ in 0..5 {
            let (key, order) = (unique("key-"), order_request());
            let answers = join_all((0..8).map(|_| posts(&user, &key, &order))).await;
            let mut ids = HashSet::new();
            for answer in &answers {
                if answer.status == 201 {
                    ids.insert(answer.text("id"));
                } else {
                    answer.problem(409, "idempotency-key-in-flight");
                }
            }
            assert_eq!(ids.len(), 1, "{answers:?}");
            assert_eq!(
                ordered_under(&key).await,
                ids.into_iter().collect::<Vec<_>>()
            );
        }
    });
}

#[test]
fn different_requests_with_one_key_at_the_same_time_make_one_order() {
    beside_others(async {
        let user = registered_user().await;
        let key = unique("key-");
        let orders: Vec<Value> = (0..6)
            .map(|number| order_of(&format!("SKU-{number}")))
            .collect();
        let answers = join_all(orders.iter().map(|order| posts(&user, &key, order))).await;
        let accepted = answers.iter().filter(|answer| answer.status == 201).count();
        assert_eq!(accepted, 1, "{answers:?}");
        for answer in answers.iter().filter(|answer| answer.status != 201) {
            match answer.status {
                409 => drop(answer.problem(409, "idempotency-key-in-flight")),
                _ => drop(answer.problem(422, "idempotency-key-reused")),
            }
        }
        assert_eq!(ordered_under(&key).await.len(), 1);
    });
}

#[test]
fn what_is_no_key_is_refused() {
    beside_others(async {
        let user = registered_user().await;
        let (longest, too_long) = ("k".repeat(255), "k".repeat(256));
        for key in [
            "",
            "\"\"",
            "a b",
            "\"open",
            "caf\u{e9}",
            "tab\tbed",
            &too_long,
        ] {
            posts(&user, key, &order_request())
                .await
                .problem(400, "invalid-idempotency-key");
        }
        posts(&user, &longest, &order_request()).await.is(201);
    });
}

/// What a user may change of what is there, each with the path, a body, and another one.
fn changes(order: &str, user: &str) -> Vec<(Method, String, Value, Value, u16)> {
    let line = |quantity: u8| json!({"lines": [{"sku": "TEA-1", "quantity": quantity, "unit_price": "12.50"}]});
    let named = |name: &str| json!({"name": name});
    let reason = |reason: &str| json!({"reason": reason});
    vec![
        (
            Method::PUT,
            format!("/orders/{order}"),
            line(3),
            line(4),
            200,
        ),
        (
            Method::POST,
            format!("/orders/{order}/cancel"),
            reason("one"),
            reason("other"),
            200,
        ),
        (
            Method::PATCH,
            format!("/users/{user}"),
            named("One"),
            named("Other"),
            200,
        ),
    ]
}

#[test]
fn every_change_may_be_named_and_repeated() {
    beside_others(async {
        let user = registered_user().await;
        let placed = user.command(Method::POST, "/orders");
        let order = placed
            .json(&order_request())
            .send()
            .await
            .is(201)
            .text("id");
        let mut versions = Vec::new();
        for (method, path, body, other, status) in changes(&order, &user.id) {
            let key = unique("key-");
            let sends = async |body: &Value| {
                let call = user.command(method.clone(), &path).key(&key).if_match("*");
                let call = if method == Method::PATCH {
                    call.body("application/merge-patch+json", body.to_string())
                } else {
                    call.json(body)
                };
                call.send().await
            };
            let first = sends(&body).await.is(status);
            versions.push((path.clone(), key.clone(), first.json(), first.etag()));
            let again = sends(&body).await.is(status);
            assert_eq!(again.json(), first.json(), "{path}");
            assert_eq!(again.etag(), first.etag(), "{path}");
            let refused = sends(&other).await;
            refused.problem(422, "idempotency-key-reused");
        }
        // The first answer, whatever became of the order since.
        let (path, key, first, etag) = &versions[0];
        let (_, _, body, ..) = changes(&order, &user.id).remove(0);
        let call = user.command(Method::PUT, path).key(key).if_match("*");
        let again = call.json(&body).send().await.is(200);
        assert_eq!((&again.json(), &again.etag()), (first, etag));
        let streams = events_of(Topic::Orders).await;
        let of_order = streams
            .iter()
            .filter(|each| each.envelope.event.stream_id().to_string() == order);
        assert_eq!(of_order.count(), 3, "created, updated, cancelled");
    });
}

#[test]
fn a_key_counts_for_its_resource_only() {
    beside_others(async {
        let user = registered_user().await;
        let key = unique("key-");
        let first = posts(&user, &key, &order_request())
            .await
            .is(201)
            .text("id");
        let other = posts(&user, &unique("key-"), &order_request()).await;
        let other = other.is(201).text("id");
        for order in [first, other] {
            let cancel = user.command(Method::POST, &format!("/orders/{order}/cancel"));
            let cancelled = cancel.key(&key).json(&json!({})).send().await;
            assert_eq!(cancelled.is(200).text("id"), order);
        }
    });
}

#[test]
fn a_registration_may_be_named_and_repeated() {
    beside_others(async {
        let (key, email) = (unique("key-"), format!("{}@example.com", unique("named-")));
        let body = |name: &str, password: &str| json!({"email": email, "password": password, "name": name, "phone": "+491511234567"});
        let registers = async |key: &str, body: Value| {
            let call = command(Method::POST, "/register");
            call.key(key).json(&body).send().await
        };
        let wanted = || body("Ada", "correct horse battery");
        let first = registers(&key, wanted()).await.is(201);
        for _ in 0..2 {
            let again = registers(&key, wanted()).await.is(201);
            assert_eq!(again.json(), first.json());
            assert_eq!(again.header("location"), first.header("location"));
            again.consistency_token();
        }
        for other in [
            body("Bob", "correct horse battery"),
            body("Ada", "another horse battery"),
        ] {
            let refused = registers(&key, other).await;
            refused.problem(422, "idempotency-key-reused");
        }
        let taken = registers(&unique("key-"), wanted()).await;
        taken.problem(409, "address-taken");
    });
}

#[test]
fn a_new_password_may_be_named_and_repeated() {
    const NEW: &str = "a new horse battery";
    beside_others(async {
        let user = registered_user().await;
        let key = unique("key-");
        let path = format!("/users/{}/password", user.id);
        let changes = async |token: &str, from: &str, to: &str| {
            let call = command(Method::PUT, &path).token(token).key(&key);
            let body = json!({"current_password": from, "new_password": to});
            call.json(&body).send().await
        };
        let first = changes(&user.token, PASSWORD, NEW).await.is(204);
        // His tokens do not count any more.
        let token = log_in(&user.email, NEW).await.text("access_token");
        let again = changes(&token, PASSWORD, NEW).await.is(204);
        assert_eq!(again.etag(), first.etag());
        let other = changes(&token, NEW, "a third horse battery").await;
        other.problem(422, "idempotency-key-reused");
        log_in(&user.email, NEW).await;
    });
}
