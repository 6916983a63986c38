//! Two command nodes at once: each shard has one owner, the other node says so, and nobody writes twice.

use std::time::Duration;

use end_to_end::{
    alone,
    environment::command_url,
    eventually,
    http::{Answer, call},
    log::{events_of, names, streams_of},
    orders::{contents_of, order_request},
    people::{User, registered_user, unique},
    stack::{BACK_WITHIN, current_environment, stack},
    workload::{Workload, customers},
};
use event_log::Recorded;
use events::{Topic, ids::OrderId};
use reqwest::Method;

const CLIENTS: usize = 12;
const ORDERS: usize = 150;
/// Orders that are sent to a node while it stands still.
const ZOMBIE_ORDERS: usize = 48;
/// After this without a sign of life (the setting is 10 s), the group gives a node's shards to another.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(40);

/// Starts a second node; the base URLs of both.
async fn two_nodes() -> Vec<String> {
    stack(&["start", "command-api-2"]).await;
    let urls = current_environment()
        .await
        .remove("ORDERLOG_COMMAND_URLS")
        .unwrap();
    let urls: Vec<String> = urls.split(',').map(str::to_owned).collect();
    assert_eq!(urls.len(), 2, "{urls:?}");
    urls
}

async fn posts(url: &str, user: &User, key: &str) -> Answer {
    let call = call(Method::POST, url, "/orders")
        .token(&user.token)
        .key(key);
    call.json(&order_request()).send().await
}

/// How many of these orders a node does, and that it refuses the others as it should: while a shard moves the
/// outcome may be unknown.
fn accepted(answers: &[Answer]) -> usize {
    let mut count = 0;
    for answer in answers {
        match answer.problem_name().as_str() {
            "" => {
                assert_eq!(answer.status, 201, "{answer:?}");
                count += 1;
            }
            "outcome-unknown" => drop(answer.problem(503, "outcome-unknown")),
            _ => drop(answer.problem(503, "unavailable")),
        }
    }
    count
}

#[test]
fn every_command_has_exactly_one_owner() {
    alone(async {
        let user = registered_user().await;
        let urls = two_nodes().await;
        // Both own something, and the moving about is over.
        eventually(
            "the shards to be shared out",
            TAKEN_OVER_WITHIN,
            async || {
                let key = unique("key-");
                let (mut one, mut other, mut both) = (0, 0, 0);
                for number in 0..12 {
                    let key = format!("{key}-{number}");
                    let answers = [
                        posts(&urls[0], &user, &key).await,
                        posts(&urls[1], &user, &key).await,
                    ];
                    one += accepted(&answers[..1]);
                    other += accepted(&answers[1..]);
                    // A shard that moved in between answers once more, with the same order.
                    both += usize::from(
                        accepted(&answers) == 2 && answers[0].text("id") != answers[1].text("id"),
                    );
                }
                assert_eq!(both, 0, "two owners of one shard");
                if one + other == 12 && one > 0 && other > 0 {
                    Ok(())
                } else {
                    Err(format!("{one} and {other} of 12"))
                }
            },
        )
        .await;

        let mut orders = Vec::new();
        for _ in 0..40 {
            let key = unique("key-");
            let (one, other) =
                tokio::join!(posts(&urls[0], &user, &key), posts(&urls[1], &user, &key));
            assert_eq!(
                accepted(&[one.clone(), other.clone()]),
                1,
                "{one:?} {other:?}"
            );
            let (owner, id) = if one.status == 201 {
                (0, one.text("id"))
            } else {
                (1, other.text("id"))
            };
            let path = format!("/orders/{id}");
            let put = |node: usize| {
                let call = call(Method::PUT, &urls[node], &path)
                    .token(&user.token)
                    .if_match("\"1\"");
                call.json(&contents_of("B")).send()
            };
            let (right, wrong) = tokio::join!(put(owner), put(1 - owner));
            right.is(200);
            wrong.problem(503, "unavailable");
            orders.push(id);
        }
        let streams = streams_of(Topic::Orders).await;
        for id in orders {
            let id: OrderId = id.parse().unwrap();
            let events = names(&streams[&id.into()]);
            assert_eq!(events, ["order_created", "order_updated"]);
        }
    });
}

#[test]
fn nodes_that_come_and_go_lose_and_double_nothing() {
    alone(async {
        let urls = vec![command_url(), second_url().await];
        let workload = Workload::of(customers(CLIENTS).await, urls);
        workload.acknowledges(ORDERS).await;
        stack(&["start", "command-api-2"]).await;
        workload.acknowledges(ORDERS).await;
        stack(&["stop", "command-api-1"]).await;
        workload.acknowledges(ORDERS).await;
        stack(&["start", "command-api-1"]).await;
        workload.acknowledges(ORDERS).await;
        stack(&["stop", "command-api-2"]).await;
        workload.acknowledges(ORDERS).await;
        workload.end().await.nothing_is_lost_or_doubled().await;
    });
}

/// Where a second node would listen: one port further.
async fn second_url() -> String {
    let first = command_url();
    let (host, port) = first.rsplit_once(':').unwrap();
    format!("{host}:{}", port.parse::<u16>().unwrap() + 1)
}

#[test]
fn a_node_that_comes_back_from_the_dead_repeats_nothing() {
    alone(async {
        let (user, customers) = (registered_user().await, customers(CLIENTS).await);
        let urls = two_nodes().await;
        let workload = Workload::of(customers, urls.clone());
        workload.acknowledges(ORDERS).await;
        // The first node holds its breath, with commands in its hands, until its shards are the other's.
        stack(&["pause", "command-api-1"]).await;
        eventually(
            "the other node to own everything",
            TAKEN_OVER_WITHIN,
            async || {
                let key = unique("key-");
                let mut answers = Vec::new();
                for number in 0..12 {
                    answers.push(posts(&urls[1], &user, &format!("{key}-{number}")).await);
                }
                let count = accepted(&answers);
                if count == answers.len() {
                    Ok(())
                } else {
                    Err(format!("{count} of 12 accepted"))
                }
            },
        )
        .await;
        workload.acknowledges(ORDERS).await;
        // What it is given while it stands still, the other node does. It must not do it again when it comes back.
        let keys: Vec<String> = (0..ZOMBIE_ORDERS).map(|_| unique("key-")).collect();
        let given = futures_util::future::join_all(keys.iter().map(|key| {
            let call = call(Method::POST, &urls[0], "/orders").token(&user.token);
            call.key(key).json(&order_request()).try_send()
        }));
        let does = async {
            for key in &keys {
                posts(&urls[1], &user, key).await.is(201);
            }
            stack(&["resume", "command-api-1"]).await;
        };
        let (given, ()) = tokio::join!(given, does);
        accepted(&given.into_iter().flatten().collect::<Vec<_>>());
        let done = events_of(Topic::Orders).await;
        let key_of = |each: &Recorded| each.envelope.metadata.idempotency.clone();
        let done: Vec<String> = done.iter().filter_map(key_of).map(|it| it.key).collect();
        for key in keys {
            let count = done.iter().filter(|each| **each == key).count();
            assert_eq!(count, 1, "orders under one key");
        }
        workload.acknowledges(ORDERS).await;
        workload.end().await.nothing_is_lost_or_doubled().await;
        eventually(
            "the first node to be ready again",
            BACK_WITHIN,
            async || match call(Method::GET, &urls[0], "/readyz").try_send().await {
                Ok(answer) if answer.status == 200 => Ok(()),
                other => Err(format!("{other:?}")),
            },
        )
        .await;
    });
}
