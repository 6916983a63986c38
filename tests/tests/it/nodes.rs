//! Several command nodes at once: each shard has one owner, nobody writes twice, and whoever comes and goes, a client of one
//! node sees nothing but slower answers, or 503 for a few seconds.

use std::time::{Duration, Instant};

use end_to_end::{
    alone,
    environment::{command_url, node_url},
    eventually,
    history::{Call, Told},
    http::{Answer, call},
    log::{events_of, names, streams_of},
    nodes::{TAKEN_OVER_WITHIN, forwarded, nodes, serving, shared_out},
    orders::{contents_of, order_request},
    people::{User, registered_user, unique},
    stack::{BACK_WITHIN, stack},
    workload::{Workload, customers},
};
use event_log::Recorded;
use events::{Topic, ids::OrderId};
use reqwest::Method;

const CLIENTS: usize = 12;
/// Commands that are on the way at one moment: a client sends one, or now and then the same twice at once.
const ON_THE_WAY_MAX: usize = 2 * CLIENTS;
const ORDERS: usize = 150;
/// Orders that are sent to a node while it stands still.
const ZOMBIE_ORDERS: usize = 48;
/// A node that stands still is noticed by the others within this time: they ask every second, and wait 2 s.
const NOTICED_WITHIN: Duration = Duration::from_secs(5);
/// When a node dies, clients of another are turned away for as long as the group waits for it (10 s, a setting), and until
/// its shards are taken up.
const TURNED_AWAY_WITHIN: Duration = Duration::from_secs(13);

async fn posts(url: &str, user: &User, key: &str) -> Answer {
    let call = call(Method::POST, url, "/orders")
        .token(&user.token)
        .key(key);
    call.json(&order_request()).send().await
}

/// How many of these orders were done, and that the others were refused as they should be: while a shard moves the
/// outcome may be unknown, and of two who send one key one may be told to wait.
fn accepted(answers: &[Answer]) -> usize {
    let mut count = 0;
    for answer in answers {
        match answer.problem_name().as_str() {
            // A node that stood still for too long has not even read it.
            "" if answer.status == 408 => {}
            "" => {
                assert_eq!(answer.status, 201, "{answer:?}");
                count += 1;
            }
            "outcome-unknown" => drop(answer.problem(503, "outcome-unknown")),
            "idempotency-key-in-flight" => {
                drop(answer.problem(409, "idempotency-key-in-flight"));
            }
            _ => drop(answer.problem(503, "unavailable")),
        }
    }
    count
}

#[test]
fn every_command_has_exactly_one_owner_whichever_node_takes_it() {
    alone(async {
        let user = registered_user().await;
        let urls = nodes(2).await;
        let mut orders = Vec::new();
        for _ in 0..40 {
            let key = unique("key-");
            let (one, other) =
                tokio::join!(posts(&urls[0], &user, &key), posts(&urls[1], &user, &key));
            // The second of two that are in flight at once may be told so; asked again, both are told the same.
            assert!(accepted(&[one, other]) >= 1);
            let ids = [
                posts(&urls[0], &user, &key).await.is(201).text("id"),
                posts(&urls[1], &user, &key).await.is(201).text("id"),
            ];
            assert_eq!(ids[0], ids[1], "two orders under one key");
            let [id, _] = ids;
            let path = format!("/orders/{id}");
            let put = |node: usize, sku| {
                let call = call(Method::PUT, &urls[node], &path)
                    .token(&user.token)
                    .if_match("\"1\"");
                call.json(&contents_of(sku)).send()
            };
            // Two changes of one version: one node's wins, and the other is told.
            let (one, other) = tokio::join!(put(0, "B"), put(1, "C"));
            let lost = match one.status {
                200 => other,
                _ => {
                    other.is(200);
                    one
                }
            };
            lost.problem(412, "stale-version");
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

/// The time from the first to the last of them.
fn duration(turned_away: &[Call]) -> Duration {
    let times = || turned_away.iter().map(|call| call.ended);
    match (times().min(), times().max()) {
        (Some(first), Some(last)) => last - first,
        _ => Duration::ZERO,
    }
}

#[test]
fn nodes_come_and_go_and_a_client_of_one_sees_slower_answers_only() {
    alone(async {
        let urls = vec![command_url()];
        let workload = Workload::of(customers(CLIENTS).await, urls).await;
        workload.acknowledges(ORDERS).await;
        let since = workload.now();
        // Nodes that come, and nodes that are asked to go.
        let all = nodes(3).await;
        workload.acknowledges(ORDERS).await;
        stack(&["stop", "command-api-2"]).await;
        shared_out(&[all[0].clone(), all[2].clone()]).await;
        workload.acknowledges(ORDERS).await;
        let turned_away = workload.turned_away_since(since);
        assert!(turned_away.is_empty(), "{turned_away:?}");
        assert!(forwarded(&all[0], "submit", "answered").await > 0.0);
        // One that dies.
        stack(&["kill", "command-api-3"]).await;
        shared_out(&all[..1]).await;
        workload.acknowledges(ORDERS).await;
        let turned_away = workload.turned_away_since(since);
        let took = duration(&turned_away);
        assert!(took < TURNED_AWAY_WITHIN, "{took:?}: {turned_away:?}");
        workload.end().await.nothing_is_lost_or_doubled().await;
    });
}

#[test]
fn nodes_that_come_and_go_lose_and_double_nothing() {
    alone(async {
        let urls = vec![command_url(), node_url(2)];
        let workload = Workload::of(customers(CLIENTS).await, urls).await;
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

#[test]
fn a_storm_of_nodes_loses_and_doubles_nothing() {
    alone(async {
        let nodes = (1..=3).map(node_url).collect();
        let workload = Workload::of(customers(CLIENTS).await, nodes).await;
        workload.acknowledges(ORDERS).await;
        // Nobody waits until the shards have moved before they move again.
        let orders = |order, node| async move { stack(&[order, node]).await };
        let (first, second, third) = ("command-api-1", "command-api-2", "command-api-3");
        tokio::join!(orders("start", second), orders("start", third));
        tokio::join!(orders("kill", second), orders("stop", first));
        tokio::join!(orders("start", first), orders("kill", third));
        tokio::join!(orders("start", second), orders("start", third));
        tokio::join!(orders("stop", second), orders("stop", third));
        workload.acknowledges(ORDERS).await;
        workload.end().await.nothing_is_lost_or_doubled().await;
    });
}

#[test]
fn a_node_that_stands_still_is_noticed_and_not_waited_for() {
    alone(async {
        let urls = nodes(2).await;
        let workload = Workload::of(customers(CLIENTS).await, urls[..1].to_vec()).await;
        workload.acknowledges(ORDERS).await;
        let since = workload.now();
        let broken = async || {
            forwarded(&urls[0], "submit", "broken").await
                + forwarded(&urls[0], "ask", "broken").await
        };
        let before = broken().await;
        stack(&["pause", "command-api-2"]).await;
        let paused = Instant::now();
        eventually("calls to be given up", NOTICED_WITHIN, async || {
            match broken().await - before {
                calls if calls > 0.0 => Ok(()),
                _ => Err(format!("none after {:?}", paused.elapsed())),
            }
        })
        .await;
        // From then on nothing is sent where nobody is at home.
        let sent = broken().await;
        eventually(
            "its shards to be served",
            TAKEN_OVER_WITHIN,
            async || match serving(&urls[0]).await {
                (serving, all) if serving == all => Ok(()),
                other => Err(format!("{other:?}")),
            },
        )
        .await;
        workload.acknowledges(ORDERS).await;
        assert!(broken().await <= sent + ON_THE_WAY_MAX as f64);
        let turned_away = workload.turned_away_since(since);
        let took = duration(&turned_away);
        assert!(took < TURNED_AWAY_WITHIN, "{took:?}: {turned_away:?}");
        stack(&["resume", "command-api-2"]).await;
        workload.acknowledges(ORDERS).await;
        let unknown = |call: &&Call| call.told == Told::Unknown;
        let unknown = turned_away.iter().filter(unknown).count();
        // What was on the way when it stopped, and nothing that was sent later.
        assert!(unknown <= ON_THE_WAY_MAX, "{unknown}: {turned_away:?}");
        workload.end().await.nothing_is_lost_or_doubled().await;
    });
}

#[test]
fn a_node_that_comes_back_from_the_dead_repeats_nothing() {
    alone(async {
        let (user, customers) = (registered_user().await, customers(CLIENTS).await);
        let urls = nodes(2).await;
        let workload = Workload::of(customers, urls.clone()).await;
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
