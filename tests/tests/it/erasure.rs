//! Erasing a user: nothing personal is left to be read, nothing else is lost, and whatever dies in between, it is done.

use std::time::Duration;

use end_to_end::{
    alone, beside_others,
    databases::postgres,
    environment::{notifier_url, query_url},
    eventually,
    http::{Answer, Call},
    log::{name, streams_of},
    orders::{full_order, order_request},
    people::{
        CUT_OFF_WITHIN, PASSWORD, User, admin, is_cut_off, log_in, register, registered_user,
        registered_user_with_phone, registration, try_log_in, try_refresh, unique, unique_email,
        unique_phone,
    },
    postbox::{DELIVERED_WITHIN, ledger_of, sent_to},
    searched::{Kept, found_in, in_kafka, in_mongodb, in_postgres, in_service_logs},
    stack::{BACK_WITHIN, read_models_equal_the_log, ready, run, stack},
};
use events::{Event, Topic, ids::UserId};
use memchr::memmem;
use reqwest::Method;
use serde_json::{Value, json};

fn erase(who: &User, id: &str) -> Call {
    who.command(Method::DELETE, &format!("/users/{id}"))
}

/// The wrapped data key of a user, while there is one.
async fn data_key(id: &str) -> Option<Vec<u8>> {
    sqlx::query_scalar("SELECT wrapped_key FROM identity.data_keys WHERE user_id = $1::uuid")
        .bind(id)
        .fetch_optional(&mut postgres().await)
        .await
        .unwrap()
}

/// How many rows of the identity tables a user could sign in with.
async fn ways_in(id: &str) -> i64 {
    sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM identity.credentials WHERE user_id = $1::uuid)
              + (SELECT count(*) FROM identity.session_families WHERE user_id = $1::uuid)",
    )
    .bind(id)
    .fetch_one(&mut postgres().await)
    .await
    .unwrap()
}

/// A user about whom everything is known, and the words that tell of him.
struct Planted {
    user: User,
    order: Answer,
    words: Vec<(&'static str, String)>,
}

impl Planted {
    async fn make() -> Self {
        let word = |what: &str| unique(&format!("{what}Atlantis"));
        let (email, phone) = (
            format!("{}@example.com", unique("atlantis")),
            unique_phone(),
        );
        let (name, note, street) = (word("Name"), word("Note"), word("Street"));
        let mut body = registration(&email);
        body["name"] = json!(name);
        body["phone"] = json!(phone);
        let user = register(&body).await;
        let mut order = full_order();
        order["note"] = json!(note);
        order["shipping_address"]["street"] = json!(street);
        let order = user.creates_visibly(&order).await;
        let words = vec![
            ("e-mail", email),
            ("phone", phone),
            ("name", name),
            ("note", note),
            ("street", street),
        ];
        Self { user, order, words }
    }

    fn order_path(&self) -> String {
        format!("/orders/{}", self.order.text("id"))
    }
}

/// `command-api erasure-report`: whether all is gone, and what was printed.
async fn erasure_report(id: &str) -> (bool, String) {
    run("command-api", &["erasure-report", id]).await
}

async fn everything_kept() -> Vec<Kept> {
    let mut kept = in_kafka().await;
    kept.extend(in_postgres().await);
    kept.extend(in_mongodb().await);
    kept.extend(in_service_logs());
    kept
}

#[test]
fn nothing_personal_of_an_erased_user_is_left_to_be_read() {
    beside_others(async {
        let (planted, admin) = (Planted::make().await, admin().await);
        let user = &planted.user;
        let login = log_in(&user.email, PASSWORD).await;
        let key = data_key(&user.id).await.expect("a data key");
        let holds_key = |kept: &[Kept]| {
            let mut held = kept.iter();
            held.any(|each| memmem::find(&each.bytes, &key).is_some())
        };
        assert!(
            holds_key(&in_postgres().await),
            "we look in the right place"
        );

        let (reported, before) = erasure_report(&user.id).await;
        assert!(!reported, "{before}");
        for said in [
            r#""complete": false"#,
            r#""sealed_values": 5"#,
            r#""opened_values": 5"#,
            r#""data_keys": 1"#,
        ] {
            assert!(before.contains(said), "{said}: {before}");
        }

        let erased = erase(user, &user.id).send().await.is(204);
        assert!(erased.body.is_empty());
        // When it is answered, it is done.
        assert_eq!(data_key(&user.id).await, None);
        assert_eq!(ways_in(&user.id).await, 0);

        let unknown = try_log_in(&unique_email(), PASSWORD).await;
        let refused = try_log_in(&user.email, PASSWORD).await;
        refused.problem(401, "not-authenticated");
        assert_eq!(refused.body, unknown.body);
        try_refresh(&login.text("refresh_token"))
            .await
            .problem(401, "not-authenticated");
        for token in [&user.token, &login.text("access_token")] {
            is_cut_off(token).await;
        }

        // What is not personal is still there for an admin.
        let path = format!("/users/{}", user.id);
        let after = erased.consistency_token();
        let read = admin.query(&path).after(&after).send().await.is(200);
        assert_eq!(read.etag(), erased.etag());
        let read = read.json();
        assert_eq!(
            (&read["status"], &read["id"]),
            (&json!("erased"), &json!(user.id))
        );
        for member in ["email", "name", "phone"] {
            assert_eq!(read[member], Value::Null, "{member}");
        }
        let order = eventually("the key to be forgotten", CUT_OFF_WITHIN, async || {
            let order = admin
                .query(&planted.order_path())
                .send()
                .await
                .is(200)
                .json();
            if order["note"].is_null() {
                Ok(order)
            } else {
                Err(order["note"].to_string())
            }
        })
        .await;
        assert_eq!(order["shipping_address"], Value::Null);
        let before = planted.order.json();
        for member in [
            "id",
            "customer_id",
            "lines",
            "total",
            "attributes",
            "version",
        ] {
            assert_eq!(order[member], before[member], "{member}");
        }
        let list = admin.query(&format!("/orders?customer_id={}", user.id));
        assert_eq!(list.send().await.is(200).json()["items"][0], order);

        let kept = everything_kept().await;
        assert!(!holds_key(&kept), "the key is left");
        for (what, word) in &planted.words {
            let found = found_in(&kept, word);
            assert!(found.is_empty(), "{what} can be read in {found:?}");
        }
        let (reported, after) = erasure_report(&user.id).await;
        assert!(reported, "{after}");
        for said in [
            r#""complete": true"#,
            r#""sealed_values": 5"#,
            r#""opened_values": 0"#,
        ] {
            assert!(after.contains(said), "{said}: {after}");
        }
        read_models_equal_the_log().await;
    });
}

#[test]
fn what_is_left_of_his_orders_goes_on_without_him() {
    beside_others(async {
        let (planted, admin) = (Planted::make().await, admin().await);
        erase(&admin, &planted.user.id).send().await.is(204);
        let path = format!("{}/status", planted.order_path());
        let step = |status: &str| {
            let call = admin.command(Method::PUT, &path);
            call.json(&json!({ "status": status })).send()
        };
        let moved = step("in_progress").await.is(200).json();
        assert_eq!(
            (&moved["note"], &moved["status"]),
            (&Value::Null, &json!("in_progress"))
        );
        let done = step("completed").await.is(200);
        assert_eq!(done.json()["shipping_address"], Value::Null);
        let rows = eventually("the ledger to be settled", DELIVERED_WITHIN, async || {
            let rows = ledger_of(&planted.user.id).await;
            let open = rows
                .iter()
                .filter(|row| row.status == "due" || row.status == "sending");
            // A welcome, and a mail and a text each for the order's beginning and end.
            match (open.count(), rows.len()) {
                (0, 5) => Ok(rows),
                other => Err(format!("{other:?} {rows:?}")),
            }
        })
        .await;
        let last = rows.iter().rev().take(2);
        for row in last {
            assert_eq!(row.status, "dead", "{rows:?}");
        }
        let mut for_him = order_request();
        for_him["customer_id"] = json!(planted.user.id);
        let call = admin.command(Method::POST, "/orders").json(&for_him);
        call.send().await.points_at(&["/customer_id"]);
    });
}

#[test]
fn a_released_address_can_be_registered_at_once_and_by_one_only() {
    beside_others(async {
        let user = registered_user().await;
        user.creates(&order_request()).await;
        erase(&user, &user.id).send().await.is(204);
        let again = register(&registration(&user.email)).await;
        assert_ne!(again.id, user.id);
        let orders = again.query("/orders").after(&again.consistency_token);
        let orders = orders.send().await.is(200).json();
        assert_eq!(orders["items"], json!([]), "he is somebody else");
        // Erasing the first once more takes nothing from the second.
        erase(&admin().await, &user.id).send().await.is(204);
        log_in(&again.email, PASSWORD).await;
        let taken = end_to_end::http::command(Method::POST, "/register");
        let taken = taken.json(&registration(&user.email)).send().await;
        taken.problem(409, "address-taken");

        let streams = streams_of(Topic::Users).await;
        let id: UserId = user.id.parse().unwrap();
        let events: Vec<_> = streams[&id.into()].iter().collect();
        let names: Vec<_> = events
            .iter()
            .map(|each| name(&each.envelope.event))
            .collect();
        assert_eq!(names, ["user_registered", "user_erased"]);
        let command = events[1].envelope.metadata.command_id;
        let released = streams.values().flatten().find(|each| {
            matches!(&each.envelope.event, Event::UserEmailReleased(fact) if fact.user_id == id)
        });
        let released = released.expect("the address was released");
        assert_eq!(
            released.envelope.metadata.command_id, command,
            "one decision"
        );
    });
}

#[test]
fn an_erasure_is_for_the_user_and_for_admins_and_can_be_repeated() {
    beside_others(async {
        let (user, stranger, admin) = (
            registered_user().await,
            registered_user().await,
            admin().await,
        );
        let nobody = end_to_end::http::command(Method::DELETE, &format!("/users/{}", user.id));
        nobody.send().await.problem(401, "not-authenticated");
        let none = uuid::Uuid::now_v7().to_string();
        for id in [user.id.as_str(), &none, "not-a-uuid"] {
            let foreign = erase(&stranger, id).if_match("\"9\"").send().await;
            foreign.problem(404, "not-found");
        }
        erase(&admin, &none).send().await.problem(404, "not-found");
        let stale = erase(&admin, &user.id).if_match("\"9\"").send().await;
        assert_eq!(stale.problem(412, "stale-version")["current_version"], 1);
        let first = erase(&admin, &user.id)
            .if_match("\"1\"")
            .send()
            .await
            .is(204);
        assert_eq!(first.etag(), "\"2\"");
        let again = erase(&admin, &user.id).send().await.is(204);
        assert_eq!(again.etag(), "\"2\"");
        erase(&stranger, &user.id)
            .send()
            .await
            .problem(404, "not-found");
        let renamed = admin.command(Method::PATCH, &format!("/users/{}", user.id));
        let renamed = renamed.json(&json!({"name": "Ada"})).send().await;
        assert_eq!(renamed.problem(409, "rule-broken")["rule"], "user-erased");
        let role = admin.command(Method::PUT, &format!("/users/{}/role", user.id));
        let role = role.json(&json!({"role": "admin"})).send().await;
        assert_eq!(role.problem(409, "rule-broken")["rule"], "user-erased");
    });
}

#[test]
fn nothing_more_is_sent_to_the_erased() {
    alone(async {
        let (user, phone) = registered_user_with_phone().await;
        let admin = admin().await;
        eventually("the welcome", DELIVERED_WITHIN, async || {
            let count = sent_to(&user.email).await.len();
            if count == 1 {
                Ok(())
            } else {
                Err(format!("{count} mails"))
            }
        })
        .await;
        stack(&["stop", "notifier"]).await;
        user.creates(&order_request()).await;
        erase(&admin, &user.id).send().await.is(204);
        stack(&["start", "notifier"]).await;
        ready(&notifier_url()).await;
        let rows = eventually("the ledger to be settled", DELIVERED_WITHIN, async || {
            let rows = ledger_of(&user.id).await;
            let dead = rows.iter().filter(|row| row.status == "dead").count();
            if dead == 2 {
                Ok(rows)
            } else {
                Err(format!("{rows:?}"))
            }
        })
        .await;
        assert_eq!(rows.len(), 3, "{rows:?}");
        assert_eq!(sent_to(&user.email).await.len(), 1);
        assert!(sent_to(&phone).await.is_empty());
        let contacts: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM notifier.contact WHERE user_id = $1::uuid AND NOT erased",
        )
        .bind(&user.id)
        .fetch_one(&mut postgres().await)
        .await
        .unwrap();
        assert_eq!(contacts, 0);
    });
}

#[test]
fn an_erasure_is_completed_whatever_dies_between_the_event_and_the_key() {
    alone(async {
        let (planted, admin) = (Planted::make().await, admin().await);
        let user = &planted.user;
        // Without Postgres the event is recorded and the key cannot be destroyed; nobody is told that it was.
        stack(&["stop", "postgres"]).await;
        let answer = erase(&admin, &user.id).send().await;
        answer.problem(503, "outcome-unknown");
        stack(&["kill", "command-api-1"]).await;
        stack(&["start", "postgres"]).await;
        assert!(
            data_key(&user.id).await.is_some(),
            "it was too early to be killed"
        );
        stack(&["start", "command-api-1"]).await;
        eventually(
            "the key to be destroyed",
            BACK_WITHIN,
            async || match data_key(&user.id).await {
                None => Ok(()),
                Some(_) => Err("it is still there".to_owned()),
            },
        )
        .await;
        is_cut_off(&user.token).await;
        assert_eq!(ways_in(&user.id).await, 0);
        let again = erase(&admin, &user.id).send().await.is(204);
        assert_eq!(again.etag(), "\"2\"");
        register(&registration(&user.email)).await;

        // And the read models can be filled anew without the key.
        ready(&query_url()).await;
        for model in ["users", "orders"] {
            let (done, printed) = run("projections", &["rebuild", model]).await;
            assert!(done, "{printed}");
        }
        read_models_equal_the_log().await;
        let order = admin.query(&planted.order_path());
        let order = order.after(&planted.order.consistency_token()).send().await;
        assert_eq!(order.is(200).json()["note"], Value::Null);
        let kept = everything_kept().await;
        for (what, word) in planted.words.iter().filter(|(what, _)| *what != "e-mail") {
            let found = found_in(&kept, word);
            assert!(found.is_empty(), "{what} can be read in {found:?}");
        }
    });
}

#[test]
fn a_command_api_that_is_killed_while_users_are_erased_forgets_none() {
    const USERS: usize = 8;
    alone(async {
        let admin = admin().await;
        let mut users = Vec::new();
        for _ in 0..USERS {
            users.push(registered_user().await);
        }
        let erasures = users.iter().map(|user| erase(&admin, &user.id).try_send());
        let erasures = futures_util::future::join_all(erasures);
        let killed = async {
            eventually(
                "the first to be erased",
                Duration::from_secs(5),
                async || match data_key(&users[0].id).await {
                    None => Ok(()),
                    Some(_) => Err("it has its key".to_owned()),
                },
            )
            .await;
            stack(&["kill", "command-api-1"]).await;
        };
        let (_answers, ()) = tokio::join!(erasures, killed);
        stack(&["start", "command-api-1"]).await;
        let streams = streams_of(Topic::Users).await;
        for user in &users {
            let id: UserId = user.id.parse().unwrap();
            let is_erased = streams[&id.into()]
                .iter()
                .any(|each| matches!(&each.envelope.event, Event::UserErased(_)));
            if is_erased {
                eventually(
                    "the key to be destroyed",
                    BACK_WITHIN,
                    async || match data_key(&user.id).await {
                        None => Ok(()),
                        Some(_) => Err("it is still there".to_owned()),
                    },
                )
                .await;
            } else {
                log_in(&user.email, PASSWORD).await;
            }
        }
    });
}
