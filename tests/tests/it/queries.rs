//! Reads that follow writes, and lists that hold still while they are read.

use std::time::{Duration, Instant};

use end_to_end::{
    alone, beside_others,
    environment::query_url,
    eventually,
    http::{Answer, call},
    orders::{order_of, order_request},
    people::{User, registered_user},
    refusing::{REFUSALS, refuse_writes, take_writes},
    stack::{BACK_WITHIN, read_models_equal_the_log, ready, stack},
};
use reqwest::Method;
use serde_json::{Value, json};

const PAIRS: usize = 50;

/// The skus of a page, in order.
fn skus(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| item["lines"][0]["sku"].as_str().unwrap().to_owned())
        .collect()
}

async fn page(user: &User, query: &str) -> Answer {
    user.query(&format!("/orders?{query}")).send().await
}

/// A point that the log has not reached.
fn in_the_future(token: &str) -> String {
    let (place, offset) = token.rsplit_once('-').unwrap();
    format!("{place}-{}", offset.parse::<u64>().unwrap() + 1_000_000)
}

#[test]
fn what_was_written_can_be_read_at_once_with_its_token() {
    beside_others(async {
        let user = registered_user().await;
        for _ in 0..PAIRS {
            let created = user.creates(&order_request()).await;
            let path = format!("/orders/{}", created.text("id"));
            let read = user
                .query(&path)
                .after(&created.consistency_token())
                .send()
                .await
                .is(200);
            assert_eq!(read.json(), created.json());
            let cancel = user.command(Method::POST, &format!("{path}/cancel"));
            let cancelled = cancel.json(&json!({})).send().await.is(200);
            let read = user
                .query(&path)
                .after(&cancelled.consistency_token())
                .send()
                .await
                .is(200);
            assert_eq!(read.json(), cancelled.json(), "stale");
            assert_eq!(read.etag(), "\"2\"");
        }
    });
}

#[test]
fn a_list_follows_writes_too() {
    beside_others(async {
        let user = registered_user().await;
        for count in 1..=10 {
            let token = user.creates(&order_request()).await.consistency_token();
            let list = user
                .query("/orders")
                .after(&token)
                .send()
                .await
                .is(200)
                .json();
            assert_eq!(list["items"].as_array().unwrap().len(), count);
        }
    });
}

#[test]
fn a_point_that_is_not_reached_in_time_is_never_answered_with_something_older() {
    alone(async {
        let user = registered_user().await;
        stack(&["pause", "mongodb"]).await;
        let token = user.creates(&order_request()).await.consistency_token();
        let begun = Instant::now();
        let call = user.query("/orders").after(&token);
        let answer = call.header("prefer", "wait=1").send().await;
        let took = begun.elapsed();
        stack(&["resume", "mongodb"]).await;
        answer.problem(503, "not-yet-consistent");
        assert!(
            (Duration::from_millis(900)..Duration::from_secs(4)).contains(&took),
            "{took:?}"
        );
        let call = user.query("/orders").after(&token);
        call.header("prefer", "wait=30")
            .patient()
            .send()
            .await
            .is(200);
        ready(&query_url()).await;
    });
}

#[test]
fn databases_that_take_nothing_are_waited_for_and_answer_what_they_have() {
    alone(async {
        let user = registered_user().await;
        let first = user.creates_visibly(&order_request()).await;
        let name = user.query("/users/me").send().await.is(200).text("name");
        refuse_writes().await;

        let second = user.creates(&order_request()).await;
        let renames = user.command(Method::PATCH, &format!("/users/{}", user.id));
        let renamed = renames.json(&json!({"name": "Newly Named"})).send().await;
        let renamed = renamed.is(200).consistency_token();
        let points = [
            ("/orders", second.consistency_token()),
            ("/users/me", renamed),
        ];
        for (path, token) in &points {
            let call = user.query(path).after(token).header("prefer", "wait=1");
            call.send().await.problem(503, "not-yet-consistent");
        }
        // Whoever asks for no point gets what there is.
        let path = format!("/orders/{}", first.text("id"));
        assert_eq!(user.query(&path).send().await.is(200).json(), first.json());
        let me = user.query("/users/me").send().await.is(200);
        assert_eq!(me.text("name"), name);
        eventually("readiness to say why", BACK_WITHIN, async || {
            let ready = call(Method::GET, &query_url(), "/readyz").send().await;
            let said = ready.json().to_string();
            match REFUSALS.iter().all(|refusal| said.contains(refusal)) {
                true => Ok(()),
                false => Err(said),
            }
        })
        .await;

        take_writes().await;
        for (path, token) in &points {
            let call = user.query(path).after(token).header("prefer", "wait=30");
            call.patient().send().await.is(200);
        }
        ready(&query_url()).await;
        read_models_equal_the_log().await;
    });
}

#[test]
fn a_point_that_the_log_has_not_reached_is_no_token() {
    beside_others(async {
        let user = registered_user().await;
        let token = user.creates(&order_request()).await.consistency_token();
        let users = &user.consistency_token;
        for (path, token) in [
            ("/orders", in_the_future(&token)),
            ("/users/me", in_the_future(users)),
            ("/orders", "orders-999-0".to_owned()),
        ] {
            let begun = Instant::now();
            let call = user.query(path).after(&token).header("prefer", "wait=30");
            let answer = call.send().await;
            answer.problem(400, "invalid-consistency-token");
            assert!(begun.elapsed() < Duration::from_secs(5), "{token}");
        }
    });
}

#[test]
fn what_is_no_token_is_refused() {
    beside_others(async {
        let user = registered_user().await;
        for token in ["", "x", "orders-0", "mails-0-1", "orders-0--1"] {
            let answer = user.query("/orders").after(token).send().await;
            assert_eq!(answer.status, 400, "{token}: {answer:?}");
            answer.problem(400, "invalid-consistency-token");
        }
    });
}

#[test]
fn pages_hold_still_while_orders_arrive() {
    beside_others(async {
        let user = registered_user().await;
        let mut token = String::new();
        for number in 0..7 {
            token = user
                .creates_visibly(&order_of(&format!("SKU-{number}")))
                .await
                .consistency_token();
        }
        let first = user
            .query("/orders?limit=3")
            .after(&token)
            .send()
            .await
            .is(200)
            .json();
        let mut seen = skus(&first);
        let mut cursor = first["next_cursor"].as_str().map(str::to_owned);
        let mut arriving = 7;
        while let Some(at) = cursor {
            let token = user
                .creates(&order_of(&format!("SKU-{arriving}")))
                .await
                .consistency_token();
            arriving += 1;
            let call = user
                .query(&format!("/orders?limit=3&cursor={at}"))
                .after(&token);
            let next = call.send().await.is(200).json();
            seen.extend(skus(&next));
            cursor = next["next_cursor"].as_str().map(str::to_owned);
        }
        let wanted: Vec<String> = (0..7).rev().map(|number| format!("SKU-{number}")).collect();
        assert_eq!(seen, wanted, "each once, newest first");
    });
}

#[test]
fn a_list_can_be_asked_for_one_status() {
    beside_others(async {
        let user = registered_user().await;
        let mut token = String::new();
        for number in 0..6 {
            let created = user
                .creates_visibly(&order_of(&format!("SKU-{number}")))
                .await;
            token = created.consistency_token();
            if number % 2 == 0 {
                let path = format!("/orders/{}/cancel", created.text("id"));
                let cancelled = user
                    .command(Method::POST, &path)
                    .json(&json!({}))
                    .send()
                    .await
                    .is(200);
                let path = format!("/orders/{}", created.text("id"));
                user.query(&path)
                    .after(&cancelled.consistency_token())
                    .send()
                    .await
                    .is(200);
            }
        }
        let list = |status: &str| {
            user.query(&format!("/orders?status={status}"))
                .after(&token)
                .send()
        };
        assert_eq!(
            skus(&list("cancelled").await.is(200).json()),
            ["SKU-4", "SKU-2", "SKU-0"]
        );
        assert_eq!(
            skus(&list("created").await.is(200).json()),
            ["SKU-5", "SKU-3", "SKU-1"]
        );
        assert_eq!(
            list("completed").await.is(200).json(),
            json!({"items": [], "next_cursor": null})
        );
    });
}

#[test]
fn a_cursor_is_bound_to_its_list() {
    beside_others(async {
        let (user, other) = (registered_user().await, registered_user().await);
        let mut token = String::new();
        for _ in 0..3 {
            let created = user.creates_visibly(&order_request()).await;
            token = created.consistency_token();
        }
        let first = user
            .query("/orders?limit=1&status=created")
            .after(&token)
            .send()
            .await
            .is(200)
            .json();
        let cursor = first["next_cursor"].as_str().unwrap();
        page(&user, &format!("limit=2&status=created&cursor={cursor}"))
            .await
            .is(200);
        for query in [
            format!("cursor={cursor}"),
            format!("status=cancelled&cursor={cursor}"),
            "cursor=x".to_owned(),
            format!("status=created&cursor={cursor}x"),
        ] {
            page(&user, &query).await.problem(400, "invalid-cursor");
        }
        let foreign = page(&other, &format!("status=created&cursor={cursor}")).await;
        if foreign.status == 200 {
            assert_eq!(foreign.json()["items"], json!([]), "somebody else's orders");
        } else {
            foreign.problem(400, "invalid-cursor");
        }
    });
}

#[test]
fn a_list_has_one_to_two_hundred_items() {
    beside_others(async {
        let user = registered_user().await;
        for good in ["limit=1", "limit=200", ""] {
            page(&user, good).await.is(200);
        }
        for bad in ["limit=0", "limit=201", "limit=-1", "limit=x", "status=lost"] {
            let answer = page(&user, bad).await;
            assert!([400, 422].contains(&answer.status), "{bad}: {answer:?}");
            assert_eq!(
                answer.header("content-type"),
                "application/problem+json",
                "{bad}"
            );
        }
    });
}

#[test]
fn everybody_sees_his_own_orders() {
    beside_others(async {
        let (one, other) = (registered_user().await, registered_user().await);
        one.creates(&order_of("MINE")).await;
        let token = other.creates(&order_of("YOURS")).await.consistency_token();
        let list = other
            .query("/orders")
            .after(&token)
            .send()
            .await
            .is(200)
            .json();
        assert_eq!(skus(&list), ["YOURS"]);
        let foreign = page(&other, &format!("customer_id={}", one.id)).await;
        let none = foreign.status != 200 || foreign.json()["items"] == json!([]);
        assert!(none, "somebody else's orders: {foreign:?}");
    });
}

#[test]
fn a_head_says_what_a_get_would() {
    beside_others(async {
        let user = registered_user().await;
        let created = user.creates_visibly(&order_request()).await;
        let order = format!("/orders/{}", created.text("id"));
        for path in [order.as_str(), "/orders", "/users/me"] {
            let head = end_to_end::http::call(Method::HEAD, &query_url(), path);
            let head = head.token(&user.token).send().await.is(200);
            let get = user.query(path).send().await.is(200);
            assert!(head.body.is_empty());
            assert_eq!(head.header_if_there("etag"), get.header_if_there("etag"));
        }
    });
}
