//! Four times as many orders as can be taken, at a fixed rate.

use std::time::Duration;

use anyhow::ensure;

use crate::{
    bench::{Bench, NODE, say},
    goals::{self, Bound, Goal},
    orders::{Case, Orders},
    paced::{Offered, Paced},
    people::Person,
    processes::{LOAD_GENERATOR, Memory, MemoryWatch, Taken},
    statistics::{Spread, count},
    table::{Table, ms},
};

/// Clients with which the capacity is measured.
const CLIENTS: usize = 256;
const TIMES_CAPACITY: f64 = 4.0;
/// Connections that orders come over: more than the queues of the shards in use hold with the batches under way.
const CONNECTIONS_MAX: usize = 16_000;
/// Files that this program needs besides, on both sides.
const FILES_BESIDES: usize = 200;
/// Seconds at the beginning in which the queues fill.
const FILLING_S: usize = 2;
/// How long memory may take to be given back before it is looked at.
const SETTLES_WITHIN: Duration = Duration::from_secs(3);

struct Overloaded {
    /// Orders per second that can be taken, before and after.
    capacity: [Spread; 2],
    offered: Offered,
    taken: Taken,
    lasted: Duration,
    connections: usize,
    /// Of the command-api, in bytes: before, at most, after.
    resident: [u64; 3],
}

/// Measures it, with the read side held still.
pub async fn measure(bench: &mut Bench) -> anyhow::Result<String> {
    bench.register_orderers().await?;
    let measured = bench.with_read_side_held(overloaded).await?;
    bench.caught_up().await?;
    Ok(tables(&measured))
}

async fn overloaded(bench: &mut Bench) -> anyhow::Result<Overloaded> {
    let before = capacity(bench).await?;
    let rate = before.median * TIMES_CAPACITY;
    let (pid, connections) = (bench.stack.pid(NODE)?, connections());
    let resident = bench.stack.memory().get(NODE).copied();
    let people = bench.people().await?;
    let templates: Vec<_> = people.iter().map(Person::orders).collect();
    let lasting = bench.extent.overload;
    say(&format!(
        "{rate:.0} orders/s for {} s over {connections} connections",
        lasting.as_secs()
    ));
    let address = bench.command.as_str();
    let load = Paced::start(address, connections, rate, &templates, 201).await?;
    let (watch, then) = (
        MemoryWatch::start(&bench.stack),
        bench.stack.processor_time(),
    );
    let begun = load.measure();
    tokio::time::sleep(lasting).await;
    let (taken, lasted) = (
        bench.stack.processor_time().taken_since(&then),
        begun.elapsed(),
    );
    let offered = load.end().await?;
    let highest = watch.end().get(NODE).copied();
    bench.orders += offered.sent;
    tokio::time::sleep(SETTLES_WITHIN).await;
    let settled = bench.stack.memory().get(NODE).copied();
    ensure!(
        bench.stack.is_running(NODE)? && bench.stack.pid(NODE)? == pid,
        "{NODE} did not outlive it"
    );
    let after = capacity(bench).await?;
    Ok(Overloaded {
        capacity: [before, after],
        offered,
        taken,
        lasted,
        connections,
        resident: [resident, highest, settled].map(Option::unwrap_or_default),
    })
}

async fn capacity(bench: &mut Bench) -> anyhow::Result<Spread> {
    let case = Case {
        clients: CLIENTS,
        orders: Orders::Plain,
    };
    let mut rates = Vec::new();
    for round in 1..=bench.extent.rounds {
        let done = bench.round(case, round, &mut Memory::new()).await?;
        rates.push(done.rate);
    }
    Ok(Spread::of(rates))
}

/// As many as this process may open files.
fn connections() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let files = files.and_then(|rest| rest.split_whitespace().next()?.parse::<usize>().ok());
    let files = files.map_or(CONNECTIONS_MAX, |files| files.saturating_sub(FILES_BESIDES));
    files.clamp(1, CONNECTIONS_MAX)
}

fn tables(measured: &Overloaded) -> String {
    let Overloaded {
        capacity: [before, after],
        offered,
        ..
    } = measured;
    let seconds = usize::try_from(measured.lasted.as_secs()).unwrap_or(usize::MAX);
    let whole = offered.by_second.iter().take(seconds).skip(FILLING_S);
    let accepted = Spread::of(whole.map(|count| *count as f64));
    let of_capacity = |rate: f64| rate / before.median.max(1.0);
    let goal = Goal {
        what: "orders/s accepted, in each second : capacity".to_owned(),
        bound: Bound::AtLeast(0.8),
        measured: Spread {
            median: of_capacity(accepted.median),
            min: of_capacity(accepted.min),
            max: of_capacity(accepted.max),
        },
    };
    let title = format!(
        "{TIMES_CAPACITY:.0} times the capacity for {} s",
        measured.lasted.as_secs()
    );
    let mut table = Table::new(&title, &["what", "figure"]);
    for (what, figure) in figures(measured, accepted, [*before, *after]) {
        table.row([what, figure]);
    }
    let note = table.note(&format!(
        "The capacity is what {CLIENTS} clients reach that each wait for their answers. Orders are due at even distances whatever is \
         answered, over {} connections, more than the queues of the shards in use and their batches hold. A second's figure counts from the {}. second \
         on. The load generator shares the cores, and refusing takes time too: what both take is missing from what is accepted.",
        measured.connections,
        FILLING_S + 1
    ));
    format!("{}\n{note}", goals::table("What is to be reached", &[goal]))
}

fn figures(
    measured: &Overloaded,
    accepted: Spread,
    [before, after]: [Spread; 2],
) -> Vec<(String, String)> {
    let Overloaded { offered, taken, .. } = measured;
    let row = |what: &str, figure: String| (what.to_owned(), figure);
    let megabytes = |bytes: u64| format!("{} MB", count(bytes as f64 / 1e6));
    let [resident, highest, settled] = measured.resident;
    let cores = |name: &str| {
        let share = taken.of(name).as_secs_f64() / measured.lasted.as_secs_f64().max(0.001);
        format!("{share:.2} cores")
    };
    let mut rows = vec![
        row("capacity before, orders/s", before.to_string()),
        row(
            "due, orders/s",
            count(offered.due as f64 / measured.lasted.as_secs_f64()),
        ),
        row("accepted, orders/s, in each second", accepted.to_string()),
        row(
            "accepted, p50",
            format!("{} ms", ms(offered.latencies.percentile_ms(0.5))),
        ),
        row(
            "accepted, p99",
            format!("{} ms", ms(offered.latencies.percentile_ms(0.99))),
        ),
    ];
    if offered.refused.is_empty() {
        rows.push(row("refused", "0".to_owned()));
    }
    for (status, (number, body)) in &offered.refused {
        let kind = body.split("\"type\":\"").nth(1);
        let kind = kind.and_then(|rest| rest.split('"').next()).unwrap_or("");
        rows.push((
            format!("refused with {status} {kind}"),
            count(*number as f64),
        ));
    }
    for (told, number) in &offered.retry_after {
        rows.push((format!("told to retry after {told}"), count(*number as f64)));
    }
    rows.extend([
        row("connections that broke", count(offered.broken as f64)),
        row(
            "not sent, every connection was waiting",
            count(offered.unsent as f64),
        ),
        row("not answered", count(offered.unanswered() as f64)),
        row("memory of the command-api before", megabytes(resident)),
        row("… at most meanwhile", megabytes(highest)),
        row("… afterwards", megabytes(settled)),
        row("processor time of the command-api", cores(NODE)),
        row("… of Kafka", cores("kafka")),
        row("… of the load generator", cores(LOAD_GENERATOR)),
        row("capacity afterwards, orders/s", after.to_string()),
    ]);
    rows
}
