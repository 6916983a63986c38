//! Orders per second with the read side held still and at work, what they take, and what idling costs.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::orders_report;
use crate::{
    bench::{Bench, say},
    echo::Echo,
    load::Load,
    orders::{self, ALONE, Bare, Case, Round, TOGETHER},
    people::Person,
    processes::{Memory, Taken, load_thread_time},
    producer::Scratch,
    read_side::{self, Alone},
    reading::{self, Read},
    settings::Extent,
};

/// Clients on the server that does nothing.
const ECHO_CLIENTS: usize = 64;

/// Everything that was measured.
pub struct Results {
    /// How much.
    pub extent: Extent,
    /// Partitions of each topic.
    pub partitions: u16,
    /// Users registered, and how long that took.
    pub registered: (usize, Duration),
    /// Single orders.
    pub alone: Alone,
    /// Loads with the read side held still, each with bare producers.
    pub commands: Vec<(Case, Vec<Round>)>,
    /// Bare producers by number of clients.
    pub bare: BTreeMap<usize, Vec<Bare>>,
    /// Loads with everything at work.
    pub together: Vec<(Case, Vec<Round>)>,
    /// Orders that waited while the read side was held still, and how long it took them.
    pub followed: (u64, Duration),
    /// The log, counted with its bytes.
    pub weighed: Read,
    /// What it takes while nobody asks for anything, and for how long.
    pub idle: (Taken, Duration),
    /// Memory by moment.
    pub memory: Vec<(String, Memory)>,
    /// Requests per second of the load generator on a server that does nothing, and its own time for each.
    pub echo: (f64, Duration),
}

/// Measures it.
pub async fn measure(bench: &mut Bench) -> anyhow::Result<String> {
    let mut memory = vec![("idle, nothing written".to_owned(), bench.stack.memory())];
    say("doing nothing");
    let idle = idle(bench).await;
    say("the load generator on a server that does nothing");
    let echo = echo(bench.extent).await?;
    say("registering users");
    let registered = bench.register().await?;
    say("single orders, and when they are visible");
    let alone = alone(bench).await?;
    bench.fill(bench.extent.orders_first).await?;
    memory.push((label(bench, "idle"), bench.stack.memory()));

    let mut busy = Memory::new();
    let held = async |bench: &mut Bench| commands(bench, &mut busy).await;
    let measured = bench.with_read_side_held(held).await;
    // The clock starts when the projection is let go, so it is let go last.
    let let_go = Instant::now();
    let (commands, bare) = measured?;
    memory.push(("highest under load, read side held still".to_owned(), busy));
    say("the read side follows");
    let waiting = commands.iter().flat_map(|(_, rounds)| rounds);
    let waiting = waiting.map(|round| round.sent).sum();
    bench.caught_up().await?;
    let followed = (waiting, let_go.elapsed());

    let mut busy = Memory::new();
    let together = together(bench, &mut busy).await?;
    memory.push(("highest under load, everything at work".to_owned(), busy));
    bench.caught_up().await?;
    memory.push((label(bench, "idle"), bench.stack.memory()));
    // Blocking this thread is fine: nothing else of this program runs meanwhile.
    let weighed = reading::count_bytes(&bench.settings.kafka, bench.partitions)?;
    Ok(orders_report::tables(&Results {
        extent: bench.extent,
        partitions: bench.partitions,
        registered,
        alone,
        commands,
        bare,
        together,
        followed,
        weighed,
        idle,
        memory,
        echo,
    }))
}

fn label(bench: &Bench, what: &str) -> String {
    let orders = crate::statistics::count(bench.orders as f64);
    format!("{what}, {orders} orders")
}

async fn idle(bench: &Bench) -> (Taken, Duration) {
    let (begun, before) = (Instant::now(), bench.stack.processor_time());
    tokio::time::sleep(bench.extent.measured_for).await;
    let after = bench.stack.processor_time();
    (after.taken_since(&before), begun.elapsed())
}

async fn echo(extent: Extent) -> anyhow::Result<(f64, Duration)> {
    let echo = Echo::start()?;
    let person = Person::nobody();
    let address = echo.address.to_string();
    let load = Load::start(address.as_str(), ECHO_CLIENTS, &[person.orders()], 201).await?;
    tokio::time::sleep(extent.warm_up).await;
    let (begun, before) = (load.measure(), load_thread_time());
    tokio::time::sleep(extent.measured_for / 2).await;
    let taken = load_thread_time().saturating_sub(before);
    let measured = load.end(begun).await?;
    let each = taken.div_f64(measured.done.max(1) as f64);
    Ok((measured.rate(), each))
}

async fn alone(bench: &mut Bench) -> anyhow::Result<Alone> {
    let (person, count) = (bench.person().await?, bench.extent.orders_looked_for);
    bench.orders += count as u64;
    read_side::visible(&bench.command, &bench.query, &person, count).await
}

type Commands = (Vec<(Case, Vec<Round>)>, BTreeMap<usize, Vec<Bare>>);

async fn commands(bench: &mut Bench, memory: &mut Memory) -> anyhow::Result<Commands> {
    let scratch = Scratch::make(&bench.settings.kafka, bench.partitions).await?;
    let mut commands: Vec<(Case, Vec<Round>)> = ALONE.map(|case| (case, Vec::new())).into();
    let mut bare = BTreeMap::<usize, Vec<Bare>>::new();
    for round in 1..=bench.extent.rounds {
        for (case, rounds) in &mut commands {
            rounds.push(bench.round(*case, round, memory).await?);
            let beside = bare.entry(case.clients).or_default();
            if beside.len() < round {
                let (clients, partitions) = (case.clients, bench.partitions);
                let bare = orders::bare(clients, partitions, &scratch, bench.extent, &bench.stack);
                beside.push(bare?);
            }
        }
    }
    scratch.delete().await?;
    Ok((commands, bare))
}

async fn together(
    bench: &mut Bench,
    memory: &mut Memory,
) -> anyhow::Result<Vec<(Case, Vec<Round>)>> {
    let mut together: Vec<(Case, Vec<Round>)> = TOGETHER.map(|case| (case, Vec::new())).into();
    for round in 1..=bench.extent.rounds {
        for (case, rounds) in &mut together {
            rounds.push(bench.round(*case, round, memory).await?);
        }
    }
    Ok(together)
}
