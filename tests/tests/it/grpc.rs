//! Both doors lead to the same rooms: what HTTP answers, gRPC answers, and what one refuses, the other refuses with the
//! same words.

use std::time::{Duration, Instant};

use end_to_end::{
    alone, beside_others,
    doors::{Ask, Door, Told},
    environment::variable,
    eventually,
    grpc::{Service, channel, direct, problem_name, signed},
    orders::{contents_of, full_order, order_of, order_request},
    people::{PASSWORD, admin, registered_user, registration, unique, unique_email},
    stack::{BACK_WITHIN, stack},
};
use proto::v1::{
    self, order_service_client::OrderServiceClient, user_service_client::UserServiceClient,
};
use serde_json::{Value, json};
use tonic::{Code, Request, Status, client::Grpc, codegen::http::uri::PathAndQuery};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

/// What somebody does through one door, and what he was told each time.
struct Story {
    door: Door,
    token: String,
    told: Vec<(&'static str, Value)>,
}

impl Story {
    /// Asks, with what problem for an answer ("" for none), and remembers what was told.
    async fn asks(&mut self, name: &'static str, ask: Ask, problem: &str) -> Told {
        let token = self.token.clone();
        self.asks_as(&token, name, ask, problem).await
    }

    /// The same as somebody else.
    async fn asks_as(&mut self, token: &str, name: &'static str, ask: Ask, problem: &str) -> Told {
        let door = self.door;
        let token = (!token.is_empty()).then_some(token);
        let told = eventually("the shards to be at home", BACK_WITHIN, async || {
            let told = door.ask(token, ask.clone()).await;
            match told.problem.as_str() {
                "unavailable" => Err(format!("{told:?}")),
                _ => Ok(told),
            }
        })
        .await;
        assert_eq!(told.problem, problem, "{door:?}, {name}: {told:?}");
        let mut body = told.body.clone();
        blur(&mut body);
        let token = told.token.is_some();
        self.told.push((
            name,
            json!({"problem": told.problem, "body": body, "token": token}),
        ));
        told
    }
}

/// Hides what is another each time: ids, times, addresses, tokens, places in lists.
fn blur(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                match name.as_str() {
                    "access_token" | "refresh_token" | "next_cursor" if value.is_string() => {
                        *value = json!("opaque");
                    }
                    _ => blur(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(blur),
        Value::String(text) if uuid::Uuid::try_parse(text).is_ok() => *value = json!("id"),
        Value::String(text) if text.ends_with("@example.com") => *value = json!("address"),
        Value::String(text) if text.starts_with("20") && text.ends_with('Z') => {
            *value = json!("time");
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn text(told: &Told, member: &str) -> String {
    match told.body[member].as_str() {
        Some(text) => text.to_owned(),
        None => panic!("no {member}: {told:?}"),
    }
}

/// Everything there is to be told, good and bad, through one door.
async fn everything(door: Door) -> Vec<(&'static str, Value)> {
    let mut story = Story {
        door,
        token: String::new(),
        told: Vec::new(),
    };
    let id = accounts(&mut story).await;
    creating(&mut story).await;
    let order = changing(&mut story).await;
    stepping(&mut story, &order).await;
    listing(&mut story).await;
    profile(&mut story, &id).await;
    leaving(&mut story, &id).await;
    story.told
}

/// Registers and signs in; returns the user's id.
async fn accounts(story: &mut Story) -> String {
    let (email, nothing) = (unique_email(), json!({}));
    let registered = Ask::Register(registration(&email));
    let told = story.asks("register", registered.clone(), "").await;
    story
        .asks("register again", registered, "address-taken")
        .await;
    story
        .asks("register nobody", Ask::Register(nothing.clone()), "invalid")
        .await;
    let bad = json!({
        "email": "ada", "password": "short", "name": " ", "phone": "0800", "locale": "?",
    });
    story
        .asks("register badly", Ask::Register(bad), "invalid")
        .await;
    let wrong = json!({"email": email, "password": "something else"});
    story
        .asks("log in wrongly", Ask::Login(wrong), "not-authenticated")
        .await;
    story
        .asks("log in without", Ask::Login(nothing.clone()), "invalid")
        .await;
    let right = json!({"email": email, "password": PASSWORD});
    let session = story.asks("log in", Ask::Login(right.clone()), "").await;
    let first = json!({"refresh_token": text(&session, "refresh_token")});
    let renewed = story.asks("refresh", Ask::Refresh(first.clone()), "").await;
    story
        .asks("refresh twice", Ask::Refresh(first), "not-authenticated")
        .await;
    let next = json!({"refresh_token": text(&renewed, "refresh_token")});
    let ended = "the session is over";
    story
        .asks(ended, Ask::Refresh(next), "not-authenticated")
        .await;
    let session = story.asks("log in again", Ask::Login(right), "").await;
    let last = json!({"refresh_token": text(&session, "refresh_token")});
    story.asks("log out", Ask::Logout(last.clone()), "").await;
    story.asks("log out twice", Ask::Logout(last), "").await;
    story
        .asks("log out of nothing", Ask::Logout(nothing), "invalid")
        .await;
    story.token = text(&session, "access_token");
    let me = Ask::User("me".into(), told.token.clone());
    let shown = story.asks("oneself", me, "").await;
    assert_eq!(shown.body["email"], email);
    text(&told, "id")
}

async fn creating(story: &mut Story) {
    let (stranger, key) = (registered_user().await, unique("key"));
    let order = Ask::Create(full_order(), Some(key.clone()));
    let created = story.asks("order", order.clone(), "").await;
    let again = story.asks("the same again", order, "").await;
    assert_eq!(created.body, again.body);
    let other = Ask::Create(order_of("OTHER"), Some(key));
    story
        .asks("another under the key", other, "idempotency-key-reused")
        .await;
    let invalid = Ask::Create(order_request(), Some("a b".into()));
    story
        .asks("no key", invalid, "invalid-idempotency-key")
        .await;
    let (id, key) = (text(&created, "id"), unique("key"));
    let cancel = |reason: &str| {
        let cancel = Ask::Cancel(id.clone(), json!({"reason": reason}), None);
        Ask::Named(Box::new(cancel), key.clone())
    };
    let cancelled = story.asks("a named change", cancel("one"), "").await;
    let again = story.asks("the same change again", cancel("one"), "").await;
    assert_eq!(cancelled.body, again.body);
    let name = "another change under the key";
    story
        .asks(name, cancel("other"), "idempotency-key-reused")
        .await;
    let bad = json!({
        "currency": "EUR", "note": "\u{7}",
        "lines": [
            {"sku": " ", "quantity": 0, "unit_price": "1.234"},
            {"sku": "A", "quantity": 1_000_001, "unit_price": "-1"},
            {"quantity": 1},
        ],
        "shipping_address": {"recipient": "Ada", "country": "England"},
        "attributes": {"a": "x".repeat(17_000)},
    });
    story
        .asks("a bad order", Ask::Create(bad, None), "invalid")
        .await;
    for (name, body) in [
        ("no lines", json!({"currency": "EUR", "lines": []})),
        ("no currency", contents_of("A")),
        ("no object", {
            let mut order = order_request();
            order["attributes"] = json!([1]);
            order
        }),
        ("no customer", {
            let mut order = order_request();
            order["customer_id"] = json!("somebody");
            order
        }),
        ("too much", {
            let line = json!({"sku": "A", "quantity": 1_000_000, "unit_price": "9999999999"});
            json!({"currency": "EUR", "lines": vec![line; 2_000]})
        }),
    ] {
        story.asks(name, Ask::Create(body, None), "invalid").await;
    }
    let mut foreign = order_request();
    foreign["customer_id"] = json!(stranger.id);
    story
        .asks(
            "for somebody else",
            Ask::Create(foreign.clone(), None),
            "not-allowed",
        )
        .await;
    let admin = admin().await.token;
    let told = story
        .asks_as(
            &admin,
            "an admin for somebody",
            Ask::Create(foreign, None),
            "",
        )
        .await;
    assert_eq!(told.body["customer_id"], stranger.id);
}

/// Replaces an order; returns its id.
async fn changing(story: &mut Story) -> String {
    let stranger = registered_user().await.token;
    let created = story
        .asks("order", Ask::Create(full_order(), None), "")
        .await;
    let id = text(&created, "id");
    let told = story
        .asks("read it", Ask::Order(id.clone(), created.token.clone()), "")
        .await;
    assert_eq!(told.body, created.body);
    for (name, token, id) in [
        ("somebody else's", stranger.as_str(), id.as_str()),
        ("nothing", &story.token.clone(), "not-a-uuid"),
        (
            "unknown",
            &story.token.clone(),
            &uuid::Uuid::now_v7().to_string(),
        ),
    ] {
        let id = id.to_owned();
        let contents = contents_of("X");
        for ask in [
            Ask::Order(id.clone(), None),
            Ask::Replace(id.clone(), contents, Some("*")),
            Ask::SetStatus(id.clone(), json!({"status": "completed"}), None),
            Ask::Cancel(id.clone(), json!({}), None),
        ] {
            story.asks_as(token, name, ask, "not-found").await;
        }
    }
    let token = Some("orders-x-1".to_owned());
    story
        .asks(
            "no token",
            Ask::Order(id.clone(), token),
            "invalid-consistency-token",
        )
        .await;
    let replace = |sku, based_on| Ask::Replace(id.clone(), contents_of(sku), based_on);
    story
        .asks(
            "based on nothing",
            replace("A", None),
            "precondition-required",
        )
        .await;
    let told = story
        .asks("stale", replace("A", Some("7")), "stale-version")
        .await;
    assert_eq!(told.body["current_version"], "1");
    let told = story.asks("replace", replace("A", Some("1")), "").await;
    assert_eq!(told.body["version"], 2);
    let told = story.asks("the same", replace("A", Some("*")), "").await;
    assert_eq!(told.body["version"], 2);
    let bad = json!({"lines": [{"sku": "A", "quantity": 1, "unit_price": "1.234"}]});
    story
        .asks(
            "replace badly",
            Ask::Replace(id.clone(), bad, Some("*")),
            "invalid",
        )
        .await;
    id
}

async fn stepping(story: &mut Story, id: &str) {
    let admin = admin().await.token;
    let step =
        |status: &str, version| Ask::SetStatus(id.to_owned(), json!({"status": status}), version);
    let cancel = |reason: Value| Ask::Cancel(id.to_owned(), json!({"reason": reason}), None);
    story
        .asks("a step", step("in_progress", None), "not-allowed")
        .await;
    for status in ["created", "lost"] {
        story.asks("no step", step(status, None), "invalid").await;
    }
    let nothing = Ask::SetStatus(id.to_owned(), json!({}), None);
    story.asks("no status", nothing, "invalid").await;
    story
        .asks_as(
            &admin,
            "too late",
            step("in_progress", Some(1)),
            "stale-version",
        )
        .await;
    let forward = step("in_progress", Some(2));
    story.asks_as(&admin, "forward", forward, "").await;
    story
        .asks_as(&admin, "again", step("in_progress", None), "")
        .await;
    story
        .asks("a late cancel", cancel(json!("no")), "rule-broken")
        .await;
    story
        .asks_as(&admin, "done", step("completed", None), "")
        .await;
    let told = story
        .asks_as(&admin, "undone", cancel(json!("no")), "rule-broken")
        .await;
    assert!(told.body["rule"].is_string(), "{told:?}");
    let long = json!("x".repeat(501));
    story.asks("a long reason", cancel(long), "invalid").await;
    let other = story
        .asks("order", Ask::Create(order_request(), None), "")
        .await;
    for name in ["cancel", "cancel twice"] {
        let cancel = Ask::Cancel(text(&other, "id"), json!({}), None);
        let told = story.asks(name, cancel, "").await;
        assert_eq!(told.body["status"], "cancelled");
    }
}

async fn listing(story: &mut Story) {
    let customer = registered_user().await;
    story.token = customer.token.clone();
    let mut created = Vec::new();
    for sku in ["ONE", "TWO", "THREE"] {
        let told = story
            .asks("order", Ask::Create(order_of(sku), None), "")
            .await;
        let shown = Ask::Order(text(&told, "id"), told.token.clone());
        story.asks("it is there", shown, "").await;
        created.push(told.body);
    }
    created.reverse();
    let list = |parameters: &[(&'static str, &str)]| {
        let parameters = parameters
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()));
        Ask::Orders(parameters.collect(), None)
    };
    let page = story.asks("a page", list(&[("limit", "2")]), "").await;
    assert_eq!(page.body["items"], json!(created[..2]));
    let cursor = text(&page, "next_cursor");
    let next = list(&[("limit", "2"), ("cursor", &cursor)]);
    let page = story.asks("the next page", next, "").await;
    assert_eq!(page.body["items"], json!(created[2..]));
    let other = list(&[("status", "completed"), ("cursor", &cursor)]);
    story.asks("another list", other, "invalid-cursor").await;
    story
        .asks("no cursor", list(&[("cursor", "x")]), "invalid-cursor")
        .await;
    story
        .asks(
            "bad filters",
            list(&[("limit", "0"), ("status", "lost"), ("customer_id", "x")]),
            "invalid",
        )
        .await;
    let told = story
        .asks("cancelled", list(&[("status", "cancelled")]), "")
        .await;
    assert_eq!(told.body["items"], json!([]));
    let stranger = registered_user().await.id;
    let told = story
        .asks("somebody else's", list(&[("customer_id", &stranger)]), "")
        .await;
    assert_eq!(told.body["items"], json!([]));
    let users = |limit: &str| Ask::Users(vec![("limit", limit.to_owned())], None);
    story.asks("all users", users("1"), "not-allowed").await;
    let admin = admin().await.token;
    story
        .asks_as(&admin, "too many", users("201"), "invalid")
        .await;
    let page = story.door.ask(Some(&admin), users("2")).await;
    assert_eq!(page.body["items"].as_array().map(Vec::len), Some(2));
}

async fn profile(story: &mut Story, id: &str) {
    let user = registered_user().await;
    story.token = user.token.clone();
    let patch = |body: Value, version| Ask::Profile(user.id.clone(), body, version);
    let told = story
        .asks(
            "a profile",
            patch(json!({"name": "Ada L.", "phone": "+4930123456"}), Some(1)),
            "",
        )
        .await;
    assert_eq!(told.body["version"], 2);
    let fewer = json!({"phone": null, "preferences": {"order_sms": false}});
    let told = story.asks("less", patch(fewer, None), "").await;
    assert_eq!(
        (&told.body["phone"], &told.body["name"]),
        (&Value::Null, &json!("Ada L."))
    );
    let all = json!({"locale": null, "preferences": {"order_sms": null}});
    story.asks("as before", patch(all, None), "").await;
    story
        .asks(
            "stale",
            patch(json!({"name": "Eve"}), Some(1)),
            "stale-version",
        )
        .await;
    let bad = json!({"name": null, "locale": "?", "colour": null, "preferences": {"faxes": null}});
    story
        .asks("a bad profile", patch(bad, None), "invalid")
        .await;
    let theirs = Ask::Profile(id.to_owned(), json!({"name": "Eve"}), None);
    story.asks("somebody else's", theirs, "not-found").await;
    story
        .asks("somebody else", Ask::User(id.to_owned(), None), "not-found")
        .await;
    let role = |body: Value| Ask::Role(user.id.clone(), body, None);
    story
        .asks("a role", role(json!({"role": "admin"})), "not-allowed")
        .await;
    for body in [json!({"role": "queen"}), json!({})] {
        story.asks("no role", role(body), "invalid").await;
    }
    let admin = admin().await.token;
    for role in ["admin", "admin", "user"] {
        let change = Ask::Role(user.id.clone(), json!({"role": role}), None);
        let told = story.asks_as(&admin, "an admin's role", change, "").await;
        let shown = Ask::User(user.id.clone(), told.token.clone());
        let shown = story.asks_as(&admin, "as told", shown, "").await;
        assert_eq!(shown.body, told.body);
    }
}

/// Changes the password, and erases the account.
async fn leaving(story: &mut Story, other: &str) {
    const NEXT_PASSWORD: &str = "an even longer horse battery";
    let user = registered_user().await;
    story.token = user.token.clone();
    let change = |current: &str, new: &str, version| {
        let body = json!({"current_password": current, "new_password": new});
        Ask::Password(user.id.clone(), body, version)
    };
    let nothing = Ask::Password(user.id.clone(), json!({}), None);
    story.asks("no password", nothing, "invalid").await;
    for (name, ask, problem) in [
        (
            "a wrong password",
            change("wrong", NEXT_PASSWORD, None),
            "invalid",
        ),
        ("a short one", change(PASSWORD, "short", None), "invalid"),
        (
            "a stale one",
            change(PASSWORD, NEXT_PASSWORD, Some(7)),
            "stale-version",
        ),
        (
            "a new password",
            change(PASSWORD, NEXT_PASSWORD, Some(1)),
            "",
        ),
    ] {
        story.asks(name, ask, problem).await;
    }
    let log_in = |password| Ask::Login(json!({"email": user.email, "password": password}));
    story
        .asks("the old one", log_in(PASSWORD), "not-authenticated")
        .await;
    let session = story.asks("the new one", log_in(NEXT_PASSWORD), "").await;
    story.token = text(&session, "access_token");

    let theirs = Ask::Erase(other.to_owned(), None);
    story.asks("somebody else", theirs, "not-found").await;
    let stale = Ask::Erase(user.id.clone(), Some(1));
    story.asks("a stale end", stale, "stale-version").await;
    let erased = Ask::Erase(user.id.clone(), Some(2));
    let told = story.asks("erased", erased, "").await;
    story
        .asks("nobody", log_in(NEXT_PASSWORD), "not-authenticated")
        .await;
    let admin = admin().await.token;
    let again = Ask::Erase(user.id.clone(), None);
    story.asks_as(&admin, "erased again", again, "").await;
    let shown = Ask::User(user.id.clone(), told.token.clone());
    story.asks_as(&admin, "what is left", shown, "").await;
}

#[test]
fn both_doors_tell_the_same() {
    beside_others(async {
        let (http, grpc) = (everything(Door::Http).await, everything(Door::Grpc).await);
        for (http, grpc) in http.iter().zip(&grpc) {
            assert_eq!(http, grpc);
        }
        assert_eq!(http.len(), grpc.len());
    });
}

#[test]
fn what_one_door_makes_the_other_shows() {
    beside_others(async {
        let user = registered_user().await;
        for (makes, shows) in [(Door::Http, Door::Grpc), (Door::Grpc, Door::Http)] {
            let key = unique("key");
            let order = Ask::Create(full_order(), Some(key));
            let made = makes.ask(Some(&user.token), order.clone()).await;
            assert_eq!(made.problem, "", "{made:?}");
            let again = shows.ask(Some(&user.token), order).await;
            // The token may be that of a later event of the shard.
            assert_eq!(again.problem, "");
            assert_eq!(
                again.body, made.body,
                "the same intent through the other door"
            );
            let read = Ask::Order(text(&made, "id"), made.token.clone());
            let shown = shows.ask(Some(&user.token), read).await;
            assert_eq!(shown.body, made.body);
        }
    });
}

#[test]
fn a_call_waits_no_longer_than_its_deadline() {
    beside_others(async {
        let user = registered_user().await;
        let mut client = OrderServiceClient::new(channel(Service::Queries).await);
        let never = v1::GetOrderRequest {
            id: uuid::Uuid::now_v7().to_string(),
            consistency_token: Some(format!("orders-0-{}", i64::MAX - 1)),
            wait: Some(prost_types::Duration {
                seconds: 15,
                nanos: 0,
            }),
            as_of: None,
        };
        let mut request = signed(never.clone(), Some(&user.token));
        request.set_timeout(Duration::from_millis(300));
        let begun = Instant::now();
        let status = client.get_order(request).await.unwrap_err();
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{:?}",
            begun.elapsed()
        );
        // The client's own clock may be the first.
        assert!(
            matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled),
            "{status:?}"
        );
        let short = v1::GetOrderRequest {
            wait: Some(prost_types::Duration {
                seconds: 0,
                nanos: 100_000_000,
            }),
            ..never
        };
        let status = client.get_order(signed(short, Some(&user.token))).await;
        let status = status.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(problem_name(&status), "not-yet-consistent");
    });
}

#[test]
fn a_command_whose_deadline_passes_is_finished_once() {
    alone(async {
        let user = registered_user().await;
        let key = unique("key");
        let message = v1::CreateOrderRequest {
            currency: "EUR".into(),
            lines: vec![v1::NewOrderLine {
                sku: "TEA-1".into(),
                quantity: 1,
                unit_price: "1".into(),
                name: None,
            }],
            idempotency_key: Some(key),
            ..v1::CreateOrderRequest::default()
        };
        let mut client = OrderServiceClient::new(channel(Service::Commands).await);
        stack(&["pause", "kafka"]).await;
        let mut request = signed(message.clone(), Some(&user.token));
        request.set_timeout(Duration::from_secs(1));
        let begun = Instant::now();
        let status = client.create_order(request).await.unwrap_err();
        let took = begun.elapsed();
        stack(&["resume", "kafka"]).await;
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert!(
            matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled),
            "{status:?}"
        );
        let order = eventually("the order", BACK_WITHIN, async || {
            let again = client.create_order(signed(message.clone(), Some(&user.token)));
            again.await.map_err(|status| format!("{status:?}"))
        })
        .await
        .into_inner();
        let shown = Ask::Order(order.order.unwrap().id, Some(order.consistency_token));
        assert_eq!(Door::Http.ask(Some(&user.token), shown).await.problem, "");
        let listed = Ask::Orders(Vec::new(), None);
        let listed = Door::Http.ask(Some(&user.token), listed).await;
        assert_eq!(listed.body["items"].as_array().map(Vec::len), Some(1));
    });
}

#[test]
fn a_call_without_a_good_token_is_unauthenticated_at_the_gateway_and_past_it() {
    beside_others(async {
        let (commands, queries) = (Service::Commands, Service::Queries);
        let past = [direct(commands).await, direct(queries).await];
        for token in [None, Some("forged")] {
            let (order, page) = (
                signed(v1::CancelOrderRequest::default(), token),
                signed(v1::ListOrdersRequest::default(), token),
            );
            let mut to_commands = OrderServiceClient::new(past[0].clone());
            let mut to_queries = OrderServiceClient::new(past[1].clone());
            for status in [
                to_commands.cancel_order(order).await.unwrap_err(),
                to_queries.list_orders(page).await.unwrap_err(),
            ] {
                assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
                assert_eq!(problem_name(&status), "not-authenticated");
            }
            let mut client = OrderServiceClient::new(channel(commands).await);
            let order = signed(v1::CancelOrderRequest::default(), token);
            let status = client.cancel_order(order).await.unwrap_err();
            assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
        }
    });
}

#[test]
fn health_and_descriptors_are_told() {
    beside_others(async {
        for service in [Service::Commands, Service::Queries] {
            let mut health = HealthClient::new(direct(service).await);
            for name in ["", "orderlog.v1.OrderService", "orderlog.v1.UserService"] {
                let request = HealthCheckRequest {
                    service: name.into(),
                };
                let answer = health.check(request).await.unwrap().into_inner();
                assert_eq!(
                    answer.status(),
                    ServingStatus::Serving,
                    "{service:?} {name}"
                );
            }
            let request = HealthCheckRequest {
                service: "orderlog.v1.Nothing".into(),
            };
            let status = health.check(request).await.unwrap_err();
            assert_eq!(status.code(), Code::NotFound);
            assert_eq!(services(direct(service).await).await, SERVICES);
        }
        let mut health = HealthClient::new(channel(Service::Commands).await);
        health.check(HealthCheckRequest::default()).await.unwrap();
        assert_eq!(services(channel(Service::Commands).await).await, SERVICES);
    });
}

const SERVICES: [&str; 4] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "orderlog.v1.OrderService",
    "orderlog.v1.UserService",
];

/// The services that reflection names, sorted.
async fn services(channel: tonic::transport::Channel) -> Vec<String> {
    let question = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let asked = futures_util::stream::iter([question]);
    let mut client = ServerReflectionClient::new(channel);
    let mut answers = client
        .server_reflection_info(asked)
        .await
        .unwrap()
        .into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    match answer.message_response {
        Some(MessageResponse::ListServicesResponse(list)) => {
            let mut names: Vec<_> = list.service.into_iter().map(|it| it.name).collect();
            names.sort();
            names
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn messages_have_limits() {
    beside_others(async {
        let user = registered_user().await;
        let mut client = OrderServiceClient::new(direct(Service::Commands).await);
        let large = v1::CreateOrderRequest {
            note: Some("x".repeat(1024 * 1024)),
            ..v1::CreateOrderRequest::default()
        };
        let status = client.create_order(signed(large, Some(&user.token))).await;
        let status = status.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        assert_eq!(problem_name(&status), "too-large");
        let many = v1::CreateOrderRequest {
            lines: vec![v1::NewOrderLine::default(); 100_000],
            ..v1::CreateOrderRequest::default()
        };
        let status = client.create_order(signed(many, Some(&user.token))).await;
        assert_eq!(status.unwrap_err().code(), Code::InvalidArgument);
    });
}

#[test]
fn an_unknown_method_and_that_of_the_other_side_are_unimplemented() {
    beside_others(async {
        let mut raw = Grpc::new(direct(Service::Commands).await);
        raw.ready().await.unwrap();
        let path = PathAndQuery::from_static("/orderlog.v1.OrderService/Vanish");
        let codec = ProstCodec::<v1::GetOrderRequest, v1::GetOrderResponse>::default();
        let request = Request::new(v1::GetOrderRequest::default());
        let status: Result<_, Status> = raw.unary(request, path, codec).await;
        assert_eq!(status.unwrap_err().code(), Code::Unimplemented);

        let mut commands = OrderServiceClient::new(direct(Service::Commands).await);
        let status = commands.get_order(v1::GetOrderRequest::default()).await;
        let status = status.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented);
        assert!(status.message().contains("projections"), "{status:?}");
        let mut queries = UserServiceClient::new(direct(Service::Queries).await);
        let status = queries.login(v1::LoginRequest::default()).await;
        let status = status.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented);
        assert!(status.message().contains("command-api"), "{status:?}");
    });
}

#[test]
fn a_call_keeps_its_name_and_is_counted() {
    beside_others(async {
        let mut client = OrderServiceClient::new(direct(Service::Queries).await);
        let id = uuid::Uuid::now_v7().to_string();
        let mut request = Request::new(v1::GetOrderRequest::default());
        request
            .metadata_mut()
            .insert("x-request-id", id.parse().unwrap());
        let status = client.get_order(request).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
        assert_eq!(status.metadata().get("x-request-id").unwrap(), id.as_str());
        let page = end_to_end::http::call(
            reqwest::Method::GET,
            &variable("ORDERLOG_QUERY_URL"),
            "/metrics",
        );
        let page = page.send().await.is(200);
        let page = String::from_utf8(page.body).unwrap();
        let counted = page.lines().any(|line| {
            line.starts_with("rpc_server_call_duration_seconds_count")
                && line.contains(r#"rpc_service="orderlog.v1.OrderService""#)
                && line.contains(r#"rpc_method="GetOrder""#)
                && line.contains(r#"rpc_grpc_status_code="16""#)
        });
        assert!(counted, "{page}");
    });
}
