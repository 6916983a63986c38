//! Several processes of the read side: they share the partitions out, each answers everything, and when one is gone the others
//! go on with what was its.

use std::time::{Duration, Instant};

use end_to_end::{
    alone,
    environment::query_url,
    eventually,
    gateway::free_address,
    http::{Answer, call},
    orders::order_of,
    people::{User, registered_user, unique},
    stack::{BACK_WITHIN, OwnProcess, counter_of, read_models_equal_the_log, ready},
    workload::Workload,
};
use futures_util::future::join_all;
use reqwest::Method;

/// As many as the stack has.
const PARTITIONS: f64 = 6.0;
const CLIENTS: usize = 16;
/// Orders that are read as soon as they are made, by each client.
const PAIRS: usize = 625;
const STORM_CLIENTS: usize = 6;
const STORM_ORDERS: usize = 100;
/// When a process dies the group waits 6 s for it; then the others take over.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(10);

/// A process of the read side beside that of the stack.
struct Beside {
    process: OwnProcess,
    url: String,
}

impl Beside {
    async fn start(name: &str) -> Self {
        let (http, grpc) = (free_address(), free_address());
        let settings = [
            ("PROJECTIONS_LISTEN", http.as_str()),
            ("PROJECTIONS_GRPC_LISTEN", &grpc),
        ];
        let process = OwnProcess::start(name, "projections", &["serve"], &settings).await;
        let url = format!("http://{http}");
        ready(&url).await;
        Self { process, url }
    }
}

async fn partitions_of(url: &str, model: &str) -> f64 {
    counter_of(url, "projections_own_partitions", &[("model", model)]).await
}

/// Waits until these processes have all partitions among them, each some.
async fn shared_out(urls: &[&str]) {
    for model in ["users", "orders"] {
        eventually("the partitions to be shared out", BACK_WITHIN, async || {
            let own = join_all(urls.iter().map(|url| partitions_of(url, model))).await;
            let all: f64 = own.iter().sum();
            match own.iter().all(|own| *own >= 1.0) && (all - PARTITIONS).abs() < f64::EPSILON {
                true => Ok(()),
                false => Err(format!("{model}: {own:?}")),
            }
        })
        .await;
    }
}

/// Reads an order, and the list it is on, at a process that has to know it.
async fn is_seen(user: &User, url: &str, created: &Answer) {
    let read = |path: &str| {
        let read = call(Method::GET, url, path).token(&user.token);
        let read = read.after(&created.consistency_token());
        read.header("prefer", "wait=10").send()
    };
    let id = created.text("id");
    let order = read(&format!("/orders/{id}")).await.is(200);
    assert_eq!(order.json(), created.json());
    let list = read("/orders?limit=1").await.is(200).json();
    assert_eq!(list["items"][0]["id"], *id, "{list}");
}

/// A client that reads each order as soon as it is made, at one process after the other.
async fn writes_and_reads(urls: &[&str], pairs: usize) {
    let user = registered_user().await;
    for (_, url) in (0..pairs).zip(urls.iter().cycle()) {
        let created = user.creates(&order_of(&unique("sku-"))).await;
        is_seen(&user, url, &created).await;
    }
}

#[test]
fn what_was_written_is_read_at_every_process_at_once() {
    alone(async {
        let own = query_url();
        let (second, third) = (
            Beside::start("projections-2").await,
            Beside::start("projections-3").await,
        );
        let urls = [own.as_str(), &second.url, &third.url];
        shared_out(&urls).await;
        let begun = Instant::now();
        join_all((0..CLIENTS).map(|_| writes_and_reads(&urls, PAIRS))).await;
        let (pairs, took) = (CLIENTS * PAIRS, begun.elapsed());
        println!("{pairs} orders read as soon as they were made, at 3 processes, in {took:?}");
        read_models_equal_the_log().await;
    });
}

#[test]
fn when_a_process_is_gone_the_others_go_on_with_its_partitions() {
    alone(async {
        let own = query_url();
        let (second, third) = (
            Beside::start("projections-2").await,
            Beside::start("projections-3").await,
        );
        shared_out(&[&own, &second.url, &third.url]).await;
        third.process.kill();
        let rest = [own.as_str(), &second.url];
        let killed = Instant::now();
        // Each client has orders in every partition; none waits longer than the 10 s that it asks for.
        join_all((0..CLIENTS).map(|_| writes_and_reads(&rest, 6))).await;
        assert!(
            killed.elapsed() < 2 * TAKEN_OVER_WITHIN,
            "{:?}",
            killed.elapsed()
        );
        shared_out(&rest).await;
        // One that comes takes its share over, and one that is told to end gives it back at once.
        let third = Beside::start("projections-3").await;
        shared_out(&[&own, &second.url, &third.url]).await;
        second.process.signal("-TERM").await;
        shared_out(&[&own, &third.url]).await;
        writes_and_reads(&[&own, &third.url], 6).await;
    });
}

#[test]
fn a_storm_of_processes_applies_nothing_twice_and_leaves_nothing_out() {
    alone(async {
        let workload = Workload::start(STORM_CLIENTS).await;
        for _ in 0..3 {
            workload.acknowledges(STORM_ORDERS).await;
            let (second, third) = tokio::join!(
                Beside::start("projections-2"),
                Beside::start("projections-3")
            );
            workload.acknowledges(STORM_ORDERS).await;
            second.process.kill();
            // Nobody waits until the partitions have been shared out before they are again.
            third.process.signal("-TERM").await;
        }
        workload.acknowledges(STORM_ORDERS).await;
        workload.end().await.nothing_is_lost_or_doubled().await;
    });
}
