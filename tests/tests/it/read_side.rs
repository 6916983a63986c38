//! The read side: what an order was and what has happened to it, lists by all that they can be asked for, and rebuilds that are
//! killed, given up and gone back from while everything serves.

use std::time::Duration;

use end_to_end::{
    alone, beside_others,
    databases::postgres,
    environment::query_url,
    eventually,
    grpc::{Service, channel, signed},
    http::Answer,
    orders::{contents_of, full_order, order_of, order_request},
    people::{User, admin, registered_user, unique},
    stack::{
        BACK_WITHIN, OwnProcess, counter_of, killed_after, live, read_models_equal_the_log, run,
    },
    workload::Workload,
};
use proto::v1::{self, order_service_client::OrderServiceClient};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tonic::Code;

const CLIENTS: usize = 4;
const ORDERS: usize = 200;
/// A rebuild is killed at these times after its start: everywhere in it, and some when it is over.
const KILLED_AFTER_MS: [u64; 8] = [50, 100, 200, 300, 500, 800, 1_300, 2_000];

/// An order with a life: created, replaced, worked on, called off.
async fn lived(user: &User) -> (String, Answer) {
    let created = user.creates(&full_order()).await;
    let path = format!("/orders/{}", created.text("id"));
    let replace = user.command(Method::PUT, &path).if_match("\"1\"");
    replace.json(&contents_of("COFFEE-1")).send().await.is(200);
    let admin = admin().await;
    let step = admin.command(Method::PUT, &format!("{path}/status"));
    let step = step.json(&json!({"status": "in_progress"}));
    step.send().await.is(200);
    let cancel = admin.command(Method::POST, &format!("{path}/cancel"));
    let cancel = cancel.json(&json!({"reason": "out of stock"}));
    let last = cancel.send().await.is(200);
    user.query(&path)
        .after(&last.consistency_token())
        .send()
        .await
        .is(200);
    (path, created)
}

#[test]
fn an_order_s_history_says_who_did_what_and_when() {
    beside_others(async {
        let user = registered_user().await;
        let (path, created) = lived(&user).await;
        let history = format!("{path}/history");
        let all = user.query(&history).send().await.is(200).json();
        assert_eq!(all["next_cursor"], Value::Null);
        let items = all["items"].as_array().unwrap();
        let told = |item: &Value| {
            (
                item["version"].as_u64().unwrap(),
                item["event"].as_str().unwrap().to_owned(),
                item["actor"]["role"].as_str().unwrap().to_owned(),
            )
        };
        let told: Vec<_> = items.iter().map(told).collect();
        let expected = [
            (1, "order_created", "user"),
            (2, "order_updated", "user"),
            (3, "order_status_changed", "admin"),
            (4, "order_cancelled", "admin"),
        ];
        let expected: Vec<_> = expected
            .map(|(version, event, role)| (version, event.to_owned(), role.to_owned()))
            .into();
        assert_eq!(told, expected);
        assert_eq!(items[0]["actor"]["id"], user.id);
        assert_eq!(items[3]["reason"], "out of stock");
        let changes = &items[0]["changes"];
        assert_eq!(changes["note"], json!({"from": null, "to": "Ring twice"}));
        assert_eq!(changes["attributes"]["to"], created.json()["attributes"]);
        let replaced = &items[1]["changes"];
        assert_eq!(replaced["note"], json!({"from": "Ring twice", "to": null}));
        assert_eq!(replaced["lines"]["to"][0]["sku"], "COFFEE-1");
        assert!(
            replaced.get("status").is_none() && replaced.get("currency").is_none(),
            "{replaced}"
        );
        assert_eq!(
            items[2]["changes"],
            json!({"status": {"from": "created", "to": "in_progress"}})
        );
        assert_eq!(
            items[3]["changes"],
            json!({"status": {"from": "in_progress", "to": "cancelled"}})
        );

        // Page by page it is the same.
        let (mut paged, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = user
                .query(&format!("{history}?limit=3{cursor}"))
                .send()
                .await
                .is(200)
                .json();
            paged.extend(page["items"].as_array().unwrap().clone());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(&paged, items);
        let other = registered_user().await;
        other.query(&history).send().await.problem(404, "not-found");
        let own = lived(&other).await.0;
        let foreign = other.query(&format!("{own}/history?limit=3{cursor}"));
        foreign.send().await.problem(400, "invalid-cursor");
    });
}

#[test]
fn grpc_tells_the_same_of_an_order_s_past() {
    beside_others(async {
        let user = registered_user().await;
        let (path, created) = lived(&user).await;
        let id = path.trim_start_matches("/orders/").to_owned();
        let mut client = OrderServiceClient::new(channel(Service::Queries).await);
        let history = v1::GetOrderHistoryRequest {
            id: id.clone(),
            limit: Some(3),
            ..v1::GetOrderHistoryRequest::default()
        };
        let page = client
            .get_order_history(signed(history, Some(&user.token)))
            .await;
        let page = page.expect("a page").into_inner();
        assert!(
            page.next_cursor.is_some() && page.items.len() == 3,
            "{page:?}"
        );
        let over_http = user
            .query(&format!("{path}/history?limit=3"))
            .send()
            .await
            .json();
        for (item, told) in page
            .items
            .iter()
            .zip(over_http["items"].as_array().unwrap())
        {
            assert_eq!(
                (told["version"].as_u64(), &told["event"], &told["event_id"]),
                (
                    Some(item.version),
                    &json!(item.event),
                    &json!(item.event_id)
                )
            );
            assert_eq!(
                told["actor"],
                json!({"role": item.actor_role, "id": item.actor_id})
            );
            for change in &item.changes {
                let to: Value = serde_json::from_str(&change.to_json).expect("JSON");
                assert_eq!(told["changes"][&change.field]["to"], to, "{}", change.field);
            }
        }
        let first = v1::GetOrderRequest {
            id: id.clone(),
            as_of: Some(v1::get_order_request::AsOf::AsOfVersion(1)),
            ..v1::GetOrderRequest::default()
        };
        let order = client.get_order(signed(first, Some(&user.token))).await;
        let order = order
            .expect("an order")
            .into_inner()
            .order
            .expect("an order");
        assert_eq!(
            (order.version, json!(order.total)),
            (1, created.json()["total"].clone())
        );
        let early = v1::GetOrderRequest {
            id,
            as_of: Some(v1::get_order_request::AsOf::AsOfTime(
                prost_types::Timestamp::default(),
            )),
            ..v1::GetOrderRequest::default()
        };
        let never = client.get_order(signed(early, Some(&user.token))).await;
        assert_eq!(never.expect_err("before it was").code(), Code::NotFound);
        let by_words = v1::ListOrdersRequest {
            q: Some("coffee-1".to_owned()),
            created_to: Some(prost_types::Timestamp {
                seconds: 9_000_000_000,
                nanos: 0,
            }),
            count: Some(true),
            ..v1::ListOrdersRequest::default()
        };
        let list = client
            .list_orders(signed(by_words, Some(&user.token)))
            .await;
        let list = list.expect("a page").into_inner();
        assert_eq!((list.items.len(), list.count), (1, Some(1)));
    });
}

#[test]
fn an_order_can_be_seen_as_it_was() {
    beside_others(async {
        let user = registered_user().await;
        let (path, created) = lived(&user).await;
        let as_of = async |what: &str| user.query(&format!("{path}?as_of={what}")).send().await;
        let now = user.query(&path).send().await.is(200);
        assert_eq!(as_of("4").await.is(200).json(), now.json());
        let first = as_of("1").await.is(200);
        assert_eq!(
            (first.json(), first.etag()),
            (created.json(), "\"1\"".to_owned())
        );
        let third = as_of("3").await.is(200).json();
        assert_eq!(
            (&third["status"], &third["version"]),
            (&json!("in_progress"), &json!(3))
        );
        assert_eq!(third["lines"][0]["sku"], "COFFEE-1");
        assert_eq!(third["note"], Value::Null);
        let at = |order: &Value| order["updated_at"].as_str().unwrap().to_owned();
        assert_eq!(as_of(&at(&third)).await.is(200).json(), third);
        assert_eq!(
            as_of("2999-01-01T00:00:00Z").await.is(200).json(),
            now.json()
        );
        for never in ["0", "5", "2001-01-01T00:00:00Z"] {
            as_of(never).await.problem(404, "not-found");
        }
        as_of("yesterday").await.problem(422, "invalid");
        let other = registered_user().await;
        let foreign = other.query(&format!("{path}?as_of=1"));
        foreign.send().await.problem(404, "not-found");
    });
}

#[test]
fn what_the_client_has_is_not_sent_again_and_what_it_does_not_want_not_at_all() {
    beside_others(async {
        let user = registered_user().await;
        let created = user.creates_visibly(&order_request()).await;
        let path = format!("/orders/{}", created.text("id"));
        let known = user
            .query(&path)
            .header("if-none-match", "\"1\"")
            .send()
            .await
            .is(304);
        assert_eq!((known.etag(), known.body.len()), ("\"1\"".to_owned(), 0));
        let other = user
            .query(&path)
            .header("if-none-match", "\"7\"")
            .send()
            .await;
        other.is(200);
        let part = user
            .query(&format!("{path}?fields=version,total"))
            .send()
            .await
            .is(200);
        assert_eq!(part.json(), json!({"version": 1, "total": "25.00"}));
        let list = user
            .query("/orders?fields=id&count=true")
            .send()
            .await
            .is(200)
            .json();
        assert_eq!(
            list,
            json!({"items": [{"id": created.text("id")}], "next_cursor": null, "count": 1})
        );
        let me = user.query("/users/me?fields=email").send().await.is(200);
        assert_eq!(me.json(), json!({"email": user.email}));
        for unknown in ["fields=colour", "colour=red", "attributes.undeclared=1"] {
            let answer = user.query(&format!("/orders?{unknown}")).send().await;
            answer.problem(400, "unreadable");
        }
    });
}

#[test]
fn orders_are_found_by_what_they_say() {
    beside_others(async {
        let user = registered_user().await;
        let word = unique("w");
        let mut ids = Vec::new();
        for (number, price) in ["1.00", "3.00", "2.00"].iter().enumerate() {
            let order = json!({"currency": "EUR", "lines": [
                {"sku": format!("{}-{number}", word.to_uppercase()), "name": "Assam, leaf", "quantity": 1, "unit_price": price},
            ]});
            ids.push(user.creates_visibly(&order).await.text("id"));
        }
        user.creates_visibly(&order_of("OTHER")).await;
        let found = async |user: &User, query: String| {
            let page = user
                .query(&format!("/orders?{query}"))
                .send()
                .await
                .is(200)
                .json();
            let items = page["items"].as_array().unwrap().clone();
            let place = |item: &Value| ids.iter().position(|id| *id == item["id"]);
            items
                .iter()
                .map(|item| place(item).expect("one of ours"))
                .collect::<Vec<_>>()
        };
        let admin = admin().await;
        for user in [&user, &admin] {
            assert_eq!(found(user, format!("q={word}")).await, [2, 1, 0]);
            assert_eq!(
                found(user, format!("q={word}+LEAF&sort=created_at")).await,
                [0, 1, 2]
            );
            assert_eq!(found(user, format!("q={word}-1")).await, [1]);
            assert_eq!(found(user, format!("q={word}+missing")).await, [0; 0]);
        }
        let by_total = "currency=EUR&total_max=3&sort=";
        assert_eq!(found(&user, format!("{by_total}-total")).await, [1, 2, 0]);
        assert_eq!(
            found(&user, format!("{by_total}total&total_min=1.50")).await,
            [2, 1]
        );
        let from = user
            .query(&format!("/orders/{}", ids[1]))
            .send()
            .await
            .text("created_at");
        assert_eq!(
            found(&user, format!("q={word}&created_from={from}")).await,
            [2, 1]
        );
        assert_eq!(
            found(&user, format!("q={word}&created_to={from}")).await,
            [0]
        );
        let refused = user.query("/orders?sort=total").send().await;
        refused.problem(422, "invalid");
        let admins = admin.query("/users?role=admin&fields=role&limit=200");
        let admins = admins.send().await.is(200).json();
        let items = admins["items"].as_array().unwrap();
        assert!(
            !items.is_empty() && items.iter().all(|item| item["role"] == "admin"),
            "{admins}"
        );
    });
}

/// Waits until queries are answered from this generation, and that is said.
async fn serves(generation: i64) {
    let labels = [("model", "orders")];
    eventually(
        "the generation to be served",
        BACK_WITHIN,
        async || match counter_of(&query_url(), "projections_live_generation", &labels).await as i64
        {
            served if served == generation => Ok(()),
            other => Err(format!("g{other}")),
        },
    )
    .await;
}

async fn operate(arguments: &[&str]) -> String {
    let (done, printed) = run("projections", arguments).await;
    assert!(done, "projections {arguments:?}: {printed}");
    printed
}

/// Rebuilds once it can be done: whoever was killed keeps his lock until Postgres notices.
async fn rebuilds_after_all(model: &str) {
    eventually("a rebuild", BACK_WITHIN, async || {
        match run("projections", &["rebuild", model]).await {
            (true, _) => Ok(()),
            (false, printed) => Err(printed),
        }
    })
    .await;
}

#[test]
fn a_rebuild_that_is_killed_anywhere_harms_nobody_and_is_gone_on_with() {
    alone(async {
        let workload = Workload::start(CLIENTS).await;
        workload.acknowledges(ORDERS).await;
        let mut killed = 0;
        for milliseconds in KILLED_AFTER_MS {
            let time = Duration::from_millis(milliseconds);
            killed += u32::from(killed_after("projections", &["rebuild", "orders"], time).await);
            workload.acknowledges(CLIENTS).await;
        }
        assert!(killed > 0, "all were over before they were killed");
        let before = live("orders").await;
        rebuilds_after_all("orders").await;
        assert!(live("orders").await > before);
        workload.acknowledges(ORDERS).await;
        workload.end().await.nothing_is_lost_or_doubled().await;
    });
}

/// A connection to Postgres that has begun a transaction with this.
async fn in_the_way(statement: &'static str) -> PgConnection {
    let mut postgres = postgres().await;
    let begins = sqlx::raw_sql("BEGIN").execute(&mut postgres);
    begins.await.expect("a transaction");
    let stands = sqlx::raw_sql(statement).execute(&mut postgres);
    stands.await.expect("a row");
    postgres
}

/// Waits until as many swaps as that are within the step that `query` begins with.
async fn swaps_within(query: &str, wanted: i64) {
    let mut postgres = postgres().await;
    let what = format!("{wanted} swaps within {query:?}");
    eventually(&what, BACK_WITHIN, async || {
        let found = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND starts_with(query, $1)",
        );
        let found: i64 = found.bind(query).fetch_one(&mut postgres).await.expect("the locks");
        match found == wanted {
            true => Ok(()),
            false => Err(found.to_string()),
        }
    })
    .await;
}

/// What the view for other readers says that it shows.
async fn shown() -> String {
    let mut postgres = postgres().await;
    let definition = sqlx::query_scalar("SELECT pg_get_viewdef('public.users')");
    definition.fetch_one(&mut postgres).await.expect("the view")
}

#[test]
fn a_rebuild_that_is_killed_within_its_swap_has_changed_nothing() {
    alone(async {
        let workload = Workload::start(CLIENTS).await;
        workload.acknowledges(CLIENTS).await;
        let before = (live("users").await, shown().await);
        for (stands, step) in [
            (
                "SELECT count(*) FROM public.users",
                "DO $$ BEGIN CREATE OR REPLACE VIEW",
            ),
            (
                "SELECT 1 FROM read_model.live_generations WHERE model = 'users' FOR UPDATE",
                "UPDATE read_model.live_generations SET generation",
            ),
        ] {
            let other = in_the_way(stands).await;
            let rebuild =
                OwnProcess::start("rebuild-killed", "projections", &["rebuild", "users"], &[])
                    .await;
            swaps_within(step, 1).await;
            rebuild.kill();
            other.close().await.expect("closed");
            // What the killed has begun goes on in Postgres to the end of its step.
            swaps_within(step, 0).await;
            workload.acknowledges(CLIENTS).await;
            assert_eq!((live("users").await, shown().await), before, "{step}");
        }
        rebuilds_after_all("users").await;
        assert!(live("users").await > before.0);
        workload.end().await.nothing_is_lost_or_doubled().await;
    });
}

#[test]
fn a_swap_waits_for_who_reads_the_view_and_lets_others_read_meanwhile() {
    alone(async {
        let before = live("users").await;
        let reader = in_the_way("SELECT count(*) FROM public.users").await;
        let rebuild =
            OwnProcess::start("rebuild-waits", "projections", &["rebuild", "users"], &[]).await;
        rebuild
            .says("other readers of users are in the way", BACK_WITHIN)
            .await;
        let other = in_the_way("SELECT count(*) FROM public.users").await;
        assert_eq!(live("users").await, before);
        for reader in [reader, other] {
            reader.close().await.expect("closed");
        }
        rebuild.succeeds(BACK_WITHIN).await;
        assert!(live("users").await > before);
        read_models_equal_the_log().await;
    });
}

#[test]
fn one_can_go_back_to_the_generation_before_and_nobody_reads_anything_older() {
    alone(async {
        let workload = Workload::start(CLIENTS).await;
        let first = live("orders").await;
        operate(&["rebuild", "orders"]).await;
        let second = live("orders").await;
        serves(second).await;
        workload.acknowledges(ORDERS).await;
        let user = registered_user().await;
        let created = user.creates_visibly(&order_request()).await;
        let path = format!("/orders/{}", created.text("id"));
        // The generation that is gone back to does not know this order yet. Who has seen it sees it all the time, also without
        // a token, until the service serves that generation.
        let goes_back = async {
            let printed = operate(&["rollback", "orders"]).await;
            let says = format!("g{first} is live again");
            assert!(printed.contains(&says), "{printed}");
            serves(first).await;
        };
        let sees = async {
            loop {
                user.query(&path).send().await.is(200);
            }
        };
        tokio::select! {
            () = goes_back => {}
            () = sees => {}
        }
        assert_eq!(live("orders").await, first);
        let read = user.query(&path).after(&created.consistency_token());
        assert_eq!(read.send().await.is(200).json(), created.json());
        workload.acknowledges(ORDERS).await;
        workload.end().await.nothing_is_lost_or_doubled().await;
        operate(&["rollback", "orders", "--to", &format!("g{second}")]).await;
        assert_eq!(live("orders").await, second);
        read_models_equal_the_log().await;
        let (done, printed) = run("projections", &["rollback", "orders", "--to", "g99999"]).await;
        assert!(!done && printed.contains("kept are: "), "{printed}");
        let printed = operate(&["cancel", "orders"]).await;
        assert!(printed.contains("nothing is being filled"), "{printed}");
    });
}

#[test]
fn everything_about_one_order_is_shown_to_an_operator() {
    beside_others(async {
        let user = registered_user().await;
        let (path, _) = lived(&user).await;
        let id = path.trim_start_matches("/orders/");
        let printed = operate(&["inspect", "order", id, "--json"]).await;
        let end = printed.rfind('}').expect("JSON") + 1;
        let start = printed.find('{').expect("JSON");
        let shown: Value = serde_json::from_str(&printed[start..end]).expect("JSON");
        let events = shown["events"].as_array().unwrap();
        assert_eq!(events.len(), 4, "{printed}");
        assert_eq!(shown["stored"]["version"], 4);
        let note = events[0]["contents"]["note"].as_str().unwrap();
        assert!(note.starts_with("sealed("), "{note}");
        let printed = operate(&["inspect", "user", &user.id]).await;
        assert!(
            printed.contains("user_registered") && !printed.contains(&user.email),
            "{printed}"
        );
    });
}
