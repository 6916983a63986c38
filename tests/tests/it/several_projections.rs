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
/// Of orders that are read one after another, nine of ten are seen within this time after the command's answer: where a process
/// waited for its look at the checkpoints, which comes every half second, one of three would not be.
const SEEN_WITHIN: Duration = Duration::from_millis(250);
/// How long a query waits at most: longer than the 10 s within which what a killed process had is taken over, as a machine is slow.
const WAITED_S: u32 = 18;
const READ_ONE_BY_ONE: usize = 60;
/// One that is told to end gives its partitions back before the group would miss it.
const GIVEN_BACK_WITHIN: Duration = Duration::from_secs(5);

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

/// Two beside that of the stack, when all three have their share.
async fn two_beside() -> (Beside, Beside) {
    let (second, third) = (
        Beside::start("projections-2").await,
        Beside::start("projections-3").await,
    );
    shared_out(&[&query_url(), &second.url, &third.url], BACK_WITHIN).await;
    (second, third)
}

async fn partitions_of(url: &str, model: &str) -> f64 {
    counter_of(url, "projections_own_partitions", &[("model", model)]).await
}

/// Waits until these processes have all partitions among them, each some.
async fn shared_out(urls: &[&str], within: Duration) {
    for model in ["users", "orders"] {
        eventually("the partitions to be shared out", within, async || {
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
        read.header("prefer", &format!("wait={WAITED_S}")).send()
    };
    let id = created.text("id");
    let order = read(&format!("/orders/{id}")).await.is(200);
    assert_eq!(order.json(), created.json());
    let list = read("/orders?limit=1").await.is(200).json();
    assert_eq!(list["items"][0]["id"], *id, "{list}");
}

/// A client that reads each order as soon as it is made, at one process after the other; how long after.
async fn writes_and_reads(user: &User, urls: &[&str], pairs: usize) -> Vec<Duration> {
    let mut seen = Vec::new();
    for (_, url) in (0..pairs).zip(urls.iter().cycle()) {
        let created = user.creates(&order_of(&unique("sku-"))).await;
        let answered = Instant::now();
        is_seen(user, url, &created).await;
        seen.push(answered.elapsed());
    }
    seen
}

async fn users() -> Vec<User> {
    join_all((0..CLIENTS).map(|_| registered_user())).await
}

#[test]
fn what_was_written_is_read_at_every_process_at_once() {
    alone(async {
        let own = query_url();
        let (second, third) = two_beside().await;
        let urls = [own.as_str(), &second.url, &third.url];
        let users = users().await;
        let mut seen = writes_and_reads(&users[0], &urls, READ_ONE_BY_ONE).await;
        seen.sort_unstable();
        let most = seen[READ_ONE_BY_ONE * 9 / 10];
        assert!(most < SEEN_WITHIN, "{seen:?}");
        let begun = Instant::now();
        let all = users
            .iter()
            .map(|user| writes_and_reads(user, &urls, PAIRS));
        join_all(all).await;
        let (pairs, took) = (CLIENTS * PAIRS, begun.elapsed());
        println!(
            "{pairs} orders read as soon as they were made, at 3 processes, in {took:?}; nine of ten alone within {most:?}"
        );
        read_models_equal_the_log().await;
    });
}

#[test]
fn when_a_process_is_gone_the_others_go_on_with_its_partitions() {
    alone(async {
        let own = query_url();
        let (second, third) = two_beside().await;
        let users = users().await;
        third.process.kill();
        let rest = [own.as_str(), &second.url];
        // Whatever the partition, none is turned away.
        let all = users.iter().map(|user| writes_and_reads(user, &rest, 6));
        join_all(all).await;
        shared_out(&rest, BACK_WITHIN).await;
        // One that comes takes its share over, and one that is told to end gives it back at once.
        let third = Beside::start("projections-3").await;
        shared_out(&[&own, &second.url, &third.url], BACK_WITHIN).await;
        second.process.signal("-TERM").await;
        shared_out(&[&own, &third.url], GIVEN_BACK_WITHIN).await;
        writes_and_reads(&users[0], &[&own, &third.url], 6).await;
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
            third.process.ends().await;
        }
        workload.acknowledges(STORM_ORDERS).await;
        workload.end().await.nothing_is_lost_or_doubled().await;
    });
}
