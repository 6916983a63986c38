//! The gateway and the services behind it: what it says when one of them is away, and how it goes on.

use std::time::{Duration, Instant};

use end_to_end::{
    alone, beside_others,
    doors::{Ask, Door},
    environment::{self, query_url},
    eventually,
    gateway::{OwnGateway, free_address, service_that_hangs_up},
    grpc::{problem_name, signed, through},
    http::{Answer, call, command, query},
    nodes::{TAKEN_OVER_WITHIN, nodes},
    orders::order_request,
    people::{registered_user, registration, unique, unique_email},
    stack::{BACK_WITHIN, current_environment, ready, recovers, stack},
    workload::Workload,
};
use proto::v1::{self, order_service_client::OrderServiceClient};
use reqwest::Method;
use serde_json::json;
use tonic::Code;

const CLIENTS: usize = 12;
/// Orders that are acknowledged before and after something is broken.
const ORDERS: usize = 150;
/// Some 260 kB: four times what a connection of the gateway buffers.
const LARGE_ORDER_LINES: usize = 1_000;
/// Longer than the gateway waits for anything.
const GATEWAY_GIVES_UP_WITHIN: Duration = Duration::from_secs(40);
/// That a service is gone is known to the gateway within this time.
const NOTICED_WITHIN: Duration = Duration::from_secs(5);

#[test]
fn without_the_read_side_queries_are_unavailable_and_commands_go_on() {
    alone(async {
        let user = registered_user().await;
        stack(&["stop", "projections"]).await;
        for path in ["/orders", "/users/me", "/orders/1/history"] {
            let answer = user.query(path).send().await;
            answer.problem(503, "unavailable");
        }
        user.creates(&order_request()).await;
        query("/healthz").send().await.is(200);
        recovers("projections", async || {
            eventually("queries to be answered", BACK_WITHIN, async || {
                is_200(user.query("/orders").send().await)
            })
            .await;
        })
        .await;
    });
}

#[test]
fn without_the_command_side_commands_are_unavailable_and_queries_go_on() {
    alone(async {
        let user = registered_user().await;
        user.query("/users/me")
            .after(&user.consistency_token)
            .send()
            .await
            .is(200);
        stack(&["kill", "command-api-1"]).await;
        // The first may be on a connection that breaks under it: what came of that one the gateway cannot know.
        eventually("orders to be unavailable", NOTICED_WITHIN, async || {
            let order = user.command(Method::POST, "/orders").json(&order_request());
            let answer = order.send().await;
            match answer.problem_name().as_str() {
                "outcome-unknown" => Err(format!("{answer:?}")),
                _ => {
                    answer.problem(503, "unavailable");
                    Ok(())
                }
            }
        })
        .await;
        let login = command(Method::POST, "/login").json(&json!({"email": "a", "password": "b"}));
        login.send().await.problem(503, "unavailable");
        // The keys of tokens are remembered: who is known is still known, and who is not is not.
        user.query("/users/me").send().await.is(200);
        let forged = query("/users/me").token("x.y.z").send().await;
        forged.problem(401, "not-authenticated");
        recovers("command-api-1", async || {
            eventually("commands to be answered", BACK_WITHIN, async || {
                let call = user.command(Method::POST, "/orders").json(&order_request());
                let answer = call.send().await;
                (answer.status == 201)
                    .then_some(())
                    .ok_or_else(|| format!("{answer:?}"))
            })
            .await;
        })
        .await;
    });
}

fn is_200(answer: Answer) -> Result<(), String> {
    if answer.status == 200 {
        Ok(())
    } else {
        answer.problem(503, "unavailable");
        Err(format!("{answer:?}"))
    }
}

#[test]
fn a_killed_gateway_loses_and_doubles_nothing() {
    alone(async {
        let workload = Workload::start(CLIENTS).await;
        workload.acknowledges(ORDERS).await;
        for _ in 0..3 {
            stack(&["kill", "gateway"]).await;
            recovers("gateway", || workload.acknowledges(ORDERS / 3)).await;
        }
        workload.end().await.nothing_is_lost_or_doubled().await;
    });
}

#[test]
fn a_command_that_may_have_been_done_is_outcome_unknown_and_a_query_is_unavailable() {
    beside_others(async {
        let silent = service_that_hangs_up();
        let gateway = OwnGateway::start(&[
            ("COMMAND_API_ADDRESS", &silent),
            ("PROJECTIONS_ADDRESS", &silent),
        ])
        .await;
        for path in ["/register", "/login", "/token/refresh", "/logout"] {
            let sent = call(Method::POST, &gateway.url, path).json(&registration(&unique_email()));
            sent.send().await.problem(503, "outcome-unknown");
        }
        let page = call(Method::GET, &gateway.url, "/problems/invalid");
        page.send().await.problem(503, "unavailable");
    });
}

#[test]
fn where_nobody_listens_nothing_was_done_and_a_token_is_neither_good_nor_bad() {
    beside_others(async {
        let user = registered_user().await;
        let nobody = free_address();
        let gateway = OwnGateway::start(&[("COMMAND_API_ADDRESS", &nobody)]).await;
        let login = call(Method::POST, &gateway.url, "/login").json(&json!({}));
        login.send().await.problem(503, "unavailable");
        // Without the keys nobody can say whether the token is good.
        let orders = call(Method::GET, &gateway.url, "/orders").token(&user.token);
        orders.send().await.problem(503, "unavailable");
    });
}

#[test]
fn callers_over_grpc_are_told_as_well_whether_anything_can_have_been_done() {
    beside_others(async {
        let user = registered_user().await;
        let silent = service_that_hangs_up();
        let before_a_silent_service = OwnGateway::start(&[
            ("COMMAND_API_GRPC_ADDRESS", &silent),
            ("PROJECTIONS_GRPC_ADDRESS", &silent),
        ])
        .await;
        // Clients repeat UNAVAILABLE without asking.
        let unavailable = (Code::Unavailable, "unavailable".to_owned());
        let unknown = (Code::DeadlineExceeded, "outcome-unknown".to_owned());
        let told = over_grpc(&before_a_silent_service, &user.token).await;
        assert_eq!(told, [unknown, unavailable.clone()]);
        let nobody = free_address();
        let before_nobody = OwnGateway::start(&[
            ("COMMAND_API_GRPC_ADDRESS", &nobody),
            ("PROJECTIONS_GRPC_ADDRESS", &nobody),
            ("GATEWAY_REQUESTS_PER_SECOND", "4"),
        ])
        .await;
        let told = over_grpc(&before_nobody, &user.token).await;
        assert_eq!(told, [unavailable.clone(), unavailable]);
        let unauthenticated = (Code::Unauthenticated, "not-authenticated".to_owned());
        let told = over_grpc(&before_nobody, "x.y.z").await;
        assert_eq!(told, [unauthenticated.clone(), unauthenticated]);
        let limited = (Code::ResourceExhausted, "too-many-requests".to_owned());
        eventually("the limit", BACK_WITHIN, async || {
            let told = over_grpc(&before_nobody, &user.token).await;
            let [_, last] = &told;
            (*last == limited)
                .then_some(())
                .ok_or_else(|| format!("{told:?}"))
        })
        .await;
    });
}

/// What a command and a query are refused with.
async fn over_grpc(gateway: &OwnGateway, token: &str) -> [(Code, String); 2] {
    let mut client = OrderServiceClient::new(through(&gateway.address()).await);
    let command = v1::CancelOrderRequest::default();
    let query = v1::ListOrdersRequest::default();
    let token = Some(token);
    [
        client
            .cancel_order(signed(command, token))
            .await
            .unwrap_err(),
        client.list_orders(signed(query, token)).await.unwrap_err(),
    ]
    .map(|status| (status.code(), problem_name(&status)))
}

#[test]
fn a_service_that_stands_still_is_not_waited_for_without_end() {
    alone(async {
        let user = registered_user().await;
        stack(&["pause", "command-api-1"]).await;
        let sent = user.command(Method::POST, "/orders").json(&order_request());
        let answer = tokio::time::timeout(GATEWAY_GIVES_UP_WITHIN, sent.patient().send()).await;
        answer.expect("an answer").problem(503, "outcome-unknown");
        user.query("/orders").send().await.is(200);
        stack(&["resume", "command-api-1"]).await;
    });
}

#[test]
fn clients_of_the_gateway_need_not_know_how_many_nodes_there_are() {
    alone(async {
        let workload = Workload::start(CLIENTS).await;
        workload.acknowledges(ORDERS).await;
        nodes(2).await;
        workload.acknowledges(ORDERS).await;
        // Each key has its owner, and is done whichever node is asked first; clients are not told who is not.
        let user = registered_user().await;
        let failed = failed_orders().await;
        for _ in 0..40 {
            let order = user.command(Method::POST, "/orders").json(&order_request());
            let answer = order.key(&unique("key-")).send().await.is(201);
            assert!(answer.header_if_there("x-orderlog-not-owner").is_none());
            let order = Ask::Create(order_request(), Some(unique("key-")));
            let told = Door::Grpc.ask(Some(&user.token), order).await;
            assert_eq!(told.problem, "", "{told:?}");
        }
        // Also one that is larger than what a connection buffers.
        let mut large = order_request();
        let line =
            json!({"sku": "TEA-1", "name": "x".repeat(200), "quantity": 1, "unit_price": "1"});
        large["lines"] = json!(vec![line; LARGE_ORDER_LINES]);
        for _ in 0..12 {
            let order = user.command(Method::POST, "/orders").json(&large);
            order.key(&unique("key-")).send().await.is(201);
        }
        // Who was asked first and is not the owner has answered nobody: alerts on failed requests stay silent.
        assert_eq!(failed_orders().await, failed);
        stack(&["kill", "command-api-2"]).await;
        eventually("the other node to own all", TAKEN_OVER_WITHIN, async || {
            let (mut done, mut last) = (0, String::new());
            for _ in 0..12 {
                let order = user.command(Method::POST, "/orders").json(&order_request());
                let answer = order.key(&unique("key-")).send().await;
                done += usize::from(answer.status == 201);
                last = format!("{answer:?}");
            }
            if done == 12 { Ok(()) } else { Err(last) }
        })
        .await;
        workload.acknowledges(ORDERS).await;
        workload.end().await.nothing_is_lost_or_doubled().await;
    });
}

/// What each node counts as orders that it could not take.
async fn failed_orders() -> Vec<String> {
    let mut failed = Vec::new();
    for url in current_environment().await["ORDERLOG_COMMAND_URLS"].split(',') {
        let scraped = call(Method::GET, url, "/metrics").send().await.is(200);
        let scraped = String::from_utf8_lossy(&scraped.body).into_owned();
        let of_orders = scraped.lines().filter(|line| {
            line.starts_with("http_server_request_duration_seconds_count")
                && line.contains("\"/orders\"")
                && line.contains("\"503\"")
        });
        failed.extend(of_orders.map(str::to_owned));
    }
    failed
}

#[test]
fn a_query_may_wait_half_a_minute_for_its_point() {
    alone(async {
        let user = registered_user().await;
        stack(&["pause", "mongodb"]).await;
        let token = user.creates(&order_request()).await.consistency_token();
        let asked = user
            .query("/orders")
            .after(&token)
            .header("prefer", "wait=30");
        let begun = Instant::now();
        let answer = asked.patient().send().await;
        stack(&["resume", "mongodb"]).await;
        answer.problem(503, "not-yet-consistent");
        assert!(
            begun.elapsed() >= Duration::from_secs(29),
            "{:?}",
            begun.elapsed()
        );
        ready(&query_url()).await;
    });
}

#[test]
fn one_line_is_logged_for_a_request_and_says_neither_who_nor_what_exactly() {
    beside_others(async {
        let user = registered_user().await;
        let id = uuid::Uuid::now_v7().to_string();
        let asked = user.query("/orders?limit=7&cursor=Zanzibar");
        asked.header("x-request-id", &id).send().await.is(400);
        let log = environment::home().join("logs/gateway.log");
        let line = eventually("the line", BACK_WITHIN, async || {
            let text = std::fs::read_to_string(&log).unwrap();
            let mut lines = text.lines().filter(|line| line.contains(&id));
            match (lines.next(), lines.next()) {
                (Some(line), None) => Ok(line.to_owned()),
                found => Err(format!("{found:?}")),
            }
        })
        .await;
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["correlation_id"], id.as_str(), "{line}");
        assert_eq!(line["route"], "GET /orders", "{line}");
        assert_eq!(line["status"], 400, "{line}");
        assert_eq!(line["upstream"], "projections", "{line}");
        for secret in ["Zanzibar", user.token.as_str(), user.email.as_str()] {
            assert!(!line.to_string().contains(secret), "{line}");
        }
    });
}
