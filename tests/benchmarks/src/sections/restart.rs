//! Starting a command node: with its state store, and without, as the log grows.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use crate::{
    bench::{Bench, NODE, say},
    filling,
    goals::{self, Bound, Goal, ratio},
    http::{Connection, request},
    reading,
    statistics::{Spread, count},
    table::{Table, fine, spread},
};

/// Where a command node keeps what its shards know.
const STATE_DIR: &str = "COMMAND_API_STATE_DIR";
/// The stack's home, in which every such directory must be.
const HOME: &str = "ORDERLOG_HOME";
const READY_WITHIN: Duration = Duration::from_secs(900);
const READY_CHECK: Duration = Duration::from_millis(5);

/// From its process's beginning.
pub(super) struct Start {
    /// To `/readyz` answering 200.
    pub ready: Duration,
    /// To the first order acknowledged.
    pub first_order: Duration,
    /// Memory after that, in bytes.
    pub resident: u64,
}

struct Grown {
    orders: u64,
    /// With the store, where there is one.
    with_store: Vec<Start>,
    cold: Vec<Start>,
}

/// Measures it, with the read side held still.
pub async fn measure(bench: &mut Bench) -> anyhow::Result<String> {
    bench.register_orderers().await?;
    let store = store(bench)?;
    let measured = bench.with_read_side_held(async |bench| {
        let measured = growing(bench, store.as_deref()).await;
        bench.start_node()?;
        measured
    });
    Ok(table(&measured.await?, store.is_some()))
}

/// Where the node's store is, if it has one.
pub(super) fn store(bench: &Bench) -> anyhow::Result<Option<PathBuf>> {
    let Some(named) = bench.stack.variable_of(NODE, STATE_DIR)? else {
        return Ok(None);
    };
    let home = std::env::var(HOME).or_else(|_| bench.stack.variable(HOME))?;
    let (store, home) = (Path::new(&home).join(named), Path::new(&home));
    let (store, home) = (store.canonicalize()?, home.canonicalize()?);
    // It will be deleted.
    ensure!(
        store.starts_with(&home) && store != home,
        "{} is not in the stack's home",
        store.display()
    );
    Ok(Some(store))
}

async fn growing(bench: &mut Bench, store: Option<&Path>) -> anyhow::Result<Vec<Grown>> {
    let mut grown = Vec::new();
    let sizes = bench.extent.orders_in_log;
    let there = reading::count_only(&bench.settings.kafka, bench.partitions)?.events;
    for (number, wanted) in sizes.iter().enumerate() {
        if *wanted < there && number + 1 < sizes.len() {
            say(&format!("the log has more than {wanted} orders already"));
            continue;
        }
        let order = bench.person().await?.order();
        bench.stack.stop(NODE)?;
        let orders = filling::write(bench, *wanted).await?;
        // What was written past it is read now, and kept at the stop that follows.
        start(bench, &order).await?;
        let mut with_store = Vec::new();
        if store.is_some() {
            for round in 1..=bench.extent.rounds {
                with_store.push(restart(bench, None, round).await?);
            }
        }
        let mut cold = Vec::new();
        for round in 1..=bench.extent.rounds {
            cold.push(restart(bench, Some(store), round).await?);
        }
        grown.push(Grown {
            orders,
            with_store,
            cold,
        });
    }
    Ok(grown)
}

/// Stops the node, deletes its store where it is to start cold, and starts it.
pub(super) async fn restart(
    bench: &mut Bench,
    cold: Option<Option<&Path>>,
    round: usize,
) -> anyhow::Result<Start> {
    let order = bench.person().await?.order();
    bench.stack.stop(NODE)?;
    if let Some(Some(store)) = cold {
        std::fs::remove_dir_all(store)
            .with_context(|| format!("{} cannot be deleted", store.display()))?;
    }
    let started = start(bench, &order).await?;
    say(&format!(
        "round {round}: {}: ready after {:.2} s, first order after {:.2} s",
        if cold.is_some() {
            "cold"
        } else {
            "with its store"
        },
        started.ready.as_secs_f64(),
        started.first_order.as_secs_f64()
    ));
    Ok(started)
}

pub(super) async fn start(bench: &mut Bench, order: &[u8]) -> anyhow::Result<Start> {
    let starting = bench.stack.start(NODE)?;
    let begun = Instant::now();
    let [ready, first_order] = served(&bench.command, order, begun).await?;
    bench.orders += 1;
    bench.stack.started(starting)?;
    let now = (Instant::now(), bench.stack.age(NODE)?);
    let from_its_beginning =
        |at: Instant| now.1.saturating_sub(now.0.saturating_duration_since(at));
    let resident = bench.stack.memory().get(NODE).copied();
    Ok(Start {
        ready: from_its_beginning(ready),
        first_order: from_its_beginning(first_order),
        resident: resident.unwrap_or_default(),
    })
}

/// When the node was ready, to stay so, and when the first order was acknowledged.
async fn served(address: &str, order: &[u8], begun: Instant) -> anyhow::Result<[Instant; 2]> {
    let asks = request("GET", "/readyz", &[], "");
    let mut ready = None;
    loop {
        ready = match is_answered(address, &asks, 200).await {
            true => ready.or_else(|| Some(Instant::now())),
            false => None,
        };
        if let Some(ready) = ready
            && is_answered(address, order, 201).await
        {
            return Ok([ready, Instant::now()]);
        }
        ensure!(
            begun.elapsed() < READY_WITHIN,
            "the node does not get ready within {READY_WITHIN:?}"
        );
        tokio::time::sleep(READY_CHECK).await;
    }
}

async fn is_answered(address: &str, asks: &[u8], expected: u16) -> bool {
    let Ok(mut connection) = Connection::open(address).await else {
        return false;
    };
    let answer = connection.exchange(asks).await;
    answer.is_ok_and(|answer| answer.status == expected)
}

fn table(grown: &[Grown], has_store: bool) -> String {
    let seconds = |of: fn(&Start) -> Duration| move |start: &Start| of(start).as_secs_f64();
    let ready = seconds(|start| start.ready);
    let first = seconds(|start| start.first_order);
    let megabytes = |starts: &[Start]| spread(starts, |start| start.resident as f64 / 1e6).median;
    let columns = [
        "orders in the log",
        "start",
        "ready after s",
        "first order after s",
        "memory MB",
        "cold : with the store",
    ];
    let mut table = Table::new("Starting a command node", &columns);
    for Grown {
        orders,
        with_store,
        cold,
    } in grown
    {
        for (name, starts) in [("with its store", with_store), ("cold", cold)] {
            if starts.is_empty() {
                continue;
            }
            let times = match std::ptr::eq(starts, cold) && has_store {
                true => fine(ratio(cold, with_store, first, first), 1),
                false => "–".to_owned(),
            };
            table.row([
                count(*orders as f64),
                name.to_owned(),
                fine(spread(starts, ready), 2),
                fine(spread(starts, first), 2),
                count(megabytes(starts)),
                times,
            ]);
        }
    }
    let note = table.note(
        "From the beginning of the process, which was stopped before, to `/readyz` answering 200, to stay so, and to the first \
         order acknowledged. The orders were written past the node; it had read them once before it was measured.",
    );
    let Some(last) = grown.last().filter(|_| has_store) else {
        return format!(
            "{note}\nThis command-api keeps no state store ({STATE_DIR} is not set), so every start is cold.\n"
        );
    };
    let smallest = grown.first().map_or(&[][..], |grown| &grown.with_store);
    let at = count(last.orders as f64);
    let goals = [
        Goal {
            what: format!("first order, cold : with the store, {at} orders"),
            bound: Bound::AtLeast(20.0),
            measured: ratio(&last.cold, &last.with_store, first, first),
        },
        Goal {
            what: format!("first order with the store in s, {at} orders"),
            bound: Bound::AtMost(2.0),
            measured: Spread::of(last.with_store.iter().map(first)),
        },
        Goal {
            what: "the same : that with the fewest orders (flat is 1)".to_owned(),
            bound: Bound::AtMost(1.5),
            measured: ratio(&last.with_store, smallest, first, first),
        },
    ];
    format!("{}\n{note}", goals::table("What is to be reached", &goals))
}
