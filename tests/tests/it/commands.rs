//! What can be done with an order, and what asking for what already is does: nothing.

use end_to_end::{
    beside_others,
    http::Answer,
    log::{events_of_order, names},
    orders::{contents_of, full_order, order_request},
    people::{User, admin, registered_user},
};
use reqwest::Method;
use serde_json::{Value, json};

async fn put(user: &User, id: &str, if_match: &str, contents: &Value) -> Answer {
    let call = user.command(Method::PUT, &format!("/orders/{id}"));
    call.if_match(if_match).json(contents).send().await
}

async fn set_status(user: &User, id: &str, status: &str) -> Answer {
    let call = user.command(Method::PUT, &format!("/orders/{id}/status"));
    call.json(&json!({"status": status})).send().await
}

async fn cancel(user: &User, id: &str) -> Answer {
    let call = user.command(Method::POST, &format!("/orders/{id}/cancel"));
    call.json(&json!({"reason": "changed my mind"}))
        .send()
        .await
}

/// Version and status of an answer, the same in the body and in the tag.
fn stands(answer: &Answer) -> (u64, String) {
    let body = answer.json();
    let version = body["version"].as_u64().unwrap();
    assert_eq!(answer.etag(), format!("\"{version}\""), "{answer:?}");
    (version, body["status"].as_str().unwrap().to_owned())
}

#[test]
fn an_order_is_answered_as_it_can_be_read_afterwards() {
    beside_others(async {
        let user = registered_user().await;
        let created = user.creates(&full_order()).await;
        let mut body = created.json();
        let id = created.text("id");
        assert!(
            created
                .header("location")
                .ends_with(&format!("/orders/{id}"))
        );
        assert_eq!(created.etag(), "\"1\"");
        let read = user
            .query(&format!("/orders/{id}"))
            .after(&created.consistency_token())
            .send()
            .await
            .is(200);
        assert_eq!(read.etag(), "\"1\"");
        assert_eq!(read.json(), body);

        let created_at = body["created_at"].take();
        assert_eq!(body["updated_at"].take(), created_at);
        assert_eq!(
            body,
            json!({
                "id": id, "customer_id": user.id, "status": "created", "currency": "EUR", "version": 1,
                "lines": [
                    {"sku": "TEA-1", "name": "Darjeeling", "quantity": 2, "unit_price": "12.50", "amount": "25.00"},
                    {"sku": "TEA-1", "name": "Darjeeling", "quantity": 1, "unit_price": "0.00", "amount": "0.00"},
                ],
                "total": "25.00", "note": "Ring twice",
                "shipping_address": full_order()["shipping_address"],
                "attributes": full_order()["attributes"],
                "created_at": null, "updated_at": null,
            })
        );
    });
}

#[test]
fn the_least_that_an_order_needs_is_a_currency_and_a_line() {
    beside_others(async {
        let user = registered_user().await;
        let body = user.creates(&order_request()).await.json();
        for absent in ["shipping_address", "note"] {
            assert_eq!(body[absent], Value::Null, "{body}");
        }
        assert_eq!(body["attributes"], json!({}));
        assert_eq!(body["lines"][0]["name"], Value::Null);
    });
}

#[test]
fn texts_are_trimmed() {
    beside_others(async {
        let user = registered_user().await;
        let mut order = full_order();
        order["note"] = json!("  Ring twice ");
        order["lines"][0]["sku"] = json!(" TEA-1 ");
        order["shipping_address"]["city"] = json!("\u{a0}London ");
        let body = user.creates(&order).await.json();
        assert_eq!(body["note"], "Ring twice");
        assert_eq!(body["lines"][0]["sku"], "TEA-1");
        assert_eq!(body["shipping_address"]["city"], "London");
    });
}

#[test]
fn an_order_goes_its_way_and_the_log_tells_it() {
    beside_others(async {
        let (user, admin) = (registered_user().await, &admin().await);
        let id = user.creates(&full_order()).await.text("id");
        let updated = put(&user, &id, "\"1\"", &contents_of("TEA-2"))
            .await
            .is(200);
        assert_eq!(stands(&updated), (2, "created".to_owned()));
        assert_eq!(updated.json()["lines"][0]["sku"], "TEA-2");
        assert_eq!(
            updated.json()["note"],
            Value::Null,
            "contents are replaced, not merged"
        );
        assert_eq!(
            stands(&set_status(admin, &id, "in_progress").await.is(200)),
            (3, "in_progress".to_owned())
        );
        let completed = set_status(admin, &id, "completed").await.is(200);
        assert_eq!(stands(&completed), (4, "completed".to_owned()));
        let read = user
            .query(&format!("/orders/{id}"))
            .after(&completed.consistency_token())
            .send()
            .await
            .is(200);
        assert_eq!(read.json(), completed.json());
        let events = events_of_order(&id).await;
        assert_eq!(
            names(&events),
            [
                "order_created",
                "order_updated",
                "order_status_changed",
                "order_status_changed"
            ]
        );
    });
}

#[test]
fn an_order_can_be_cancelled_by_either_door() {
    beside_others(async {
        let user = registered_user().await;
        let one = user.creates(&order_request()).await.text("id");
        let other = user.creates(&order_request()).await.text("id");
        assert_eq!(
            stands(&cancel(&user, &one).await.is(200)),
            (2, "cancelled".to_owned())
        );
        assert_eq!(
            stands(&set_status(&user, &other, "cancelled").await.is(200)),
            (2, "cancelled".to_owned())
        );
        for id in [one, other] {
            assert_eq!(
                names(&events_of_order(&id).await),
                ["order_created", "order_cancelled"]
            );
        }
    });
}

#[test]
fn an_admin_can_cancel_what_is_in_progress() {
    beside_others(async {
        let (user, admin) = (registered_user().await, &admin().await);
        let id = user.creates(&order_request()).await.text("id");
        set_status(admin, &id, "in_progress").await.is(200);
        let body = cancel(&user, &id).await.problem(409, "rule-broken");
        assert_eq!(body["rule"], "order-cancel-by-owner-only-while-created");
        assert_eq!(
            stands(&cancel(admin, &id).await.is(200)),
            (3, "cancelled".to_owned())
        );
    });
}

#[test]
fn asking_for_what_already_is_changes_nothing() {
    beside_others(async {
        let (user, admin) = (registered_user().await, &admin().await);
        let created = user.creates(&full_order()).await;
        let id = created.text("id");
        let mut same = full_order();
        same.as_object_mut().unwrap().remove("currency");
        same["lines"][0]["unit_price"] = json!("12.5");
        same["note"] = json!(" Ring twice");
        let unchanged = put(&user, &id, "\"1\"", &same).await.is(200);
        assert_eq!(stands(&unchanged), (1, "created".to_owned()));
        assert_eq!(unchanged.json(), created.json());

        set_status(admin, &id, "in_progress").await.is(200);
        assert_eq!(
            stands(&set_status(admin, &id, "in_progress").await.is(200)),
            (2, "in_progress".to_owned())
        );
        let same_in_progress = put(&user, &id, "\"2\"", &same).await.is(200);
        assert_eq!(stands(&same_in_progress), (2, "in_progress".to_owned()));
        set_status(admin, &id, "completed").await.is(200);
        assert_eq!(
            stands(&set_status(admin, &id, "completed").await.is(200)),
            (3, "completed".to_owned())
        );

        let cancelled = user.creates(&order_request()).await.text("id");
        for _ in 0..3 {
            assert_eq!(
                stands(&cancel(&user, &cancelled).await.is(200)),
                (2, "cancelled".to_owned())
            );
            assert_eq!(
                stands(&set_status(&user, &cancelled, "cancelled").await.is(200)).0,
                2
            );
        }
        assert_eq!(events_of_order(&id).await.len(), 3);
        assert_eq!(events_of_order(&cancelled).await.len(), 2);
    });
}

#[test]
fn rules_are_named_where_they_forbid() {
    beside_others(async {
        let (user, admin) = (registered_user().await, &admin().await);
        let rule = |answer: &Answer| {
            answer.problem(409, "rule-broken")["rule"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        let id = user.creates(&order_request()).await.text("id");
        assert_eq!(
            rule(&set_status(admin, &id, "completed").await),
            "order-step-not-possible"
        );
        cancel(&user, &id).await.is(200);
        assert_eq!(
            rule(&put(&user, &id, "\"2\"", &contents_of("X")).await),
            "order-update-only-while-created"
        );
        assert_eq!(
            rule(&set_status(admin, &id, "in_progress").await),
            "order-step-not-possible"
        );
        assert_eq!(
            rule(&set_status(admin, &id, "completed").await),
            "order-step-not-possible"
        );
        assert_eq!(
            names(&events_of_order(&id).await),
            ["order_created", "order_cancelled"]
        );
    });
}

#[test]
fn if_match_is_honoured_wherever_it_is_sent() {
    beside_others(async {
        let (user, admin) = (registered_user().await, &admin().await);
        let id = user.creates(&order_request()).await.text("id");
        put(&user, &id, "\"1\"", &contents_of("A")).await.is(200);
        let steps = [
            user.command(Method::PUT, &format!("/orders/{id}"))
                .json(&contents_of("B")),
            user.command(Method::POST, &format!("/orders/{id}/cancel"))
                .json(&json!({})),
            admin
                .command(Method::PUT, &format!("/orders/{id}/status"))
                .json(&json!({"status": "in_progress"})),
        ];
        for step in steps {
            let answer = step.if_match("\"1\"").send().await;
            assert_eq!(answer.problem(412, "stale-version")["current_version"], 2);
        }
        for never in ["W/\"2\"", "\"abc\"", "\"02\"", "\"1\", \"3\""] {
            put(&user, &id, never, &contents_of("B"))
                .await
                .problem(412, "stale-version");
        }
        assert_eq!(
            stands(
                &put(&user, &id, "\"9\", \"2\"", &contents_of("B"))
                    .await
                    .is(200)
            )
            .0,
            3
        );
        assert_eq!(
            stands(&put(&user, &id, "*", &contents_of("C")).await.is(200)).0,
            4
        );
        put(&user, &id, "4", &contents_of("D"))
            .await
            .problem(400, "unreadable");
    });
}

#[test]
fn of_two_changes_of_one_version_one_wins() {
    beside_others(async {
        let user = registered_user().await;
        for _ in 0..5 {
            let id = user.creates(&order_request()).await.text("id");
            let contents = [contents_of("LEFT"), contents_of("RIGHT")];
            let (left, right) = tokio::join!(
                put(&user, &id, "\"1\"", &contents[0]),
                put(&user, &id, "\"1\"", &contents[1])
            );
            let (won, lost) = if left.status == 200 {
                (left, right)
            } else {
                (right, left)
            };
            assert_eq!(stands(&won.is(200)).0, 2);
            assert_eq!(lost.problem(412, "stale-version")["current_version"], 2);
            assert_eq!(
                names(&events_of_order(&id).await),
                ["order_created", "order_updated"]
            );
        }
    });
}

#[test]
fn a_request_is_named_as_its_client_says_and_its_trace_goes_on() {
    beside_others(async {
        let user = registered_user().await;
        let id = uuid::Uuid::now_v7().to_string();
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let call = user.command(Method::POST, "/orders").json(&order_request());
        let named = call
            .header("x-request-id", &id)
            .header("traceparent", trace)
            .send()
            .await
            .is(201);
        assert_eq!(named.header("x-request-id"), id);
        let metadata = &events_of_order(&named.text("id")).await[0]
            .envelope
            .metadata;
        assert_eq!(metadata.correlation_id.to_string(), id);
        let traceparent = metadata.traceparent.unwrap();
        assert_eq!(
            Some(traceparent.trace_id().to_string().as_str()),
            trace.get(3..35)
        );
        let unnamed = user
            .query("/orders")
            .header("x-request-id", "not a uuid")
            .send()
            .await
            .is(200);
        assert!(unnamed.header("x-request-id").parse::<uuid::Uuid>().is_ok());
    });
}
