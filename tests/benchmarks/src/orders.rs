//! Orders per second: loads of several sizes on the command-api, each next to a bare producer of the same batches.

use crate::{
    load::{Load, Measured, Refusals, Template},
    paced::{Offered, Paced},
    people::Person,
    processes::{Memory, MemoryWatch, Stack, Taken, raise},
    producer::{Produced, Scratch, VALUE_BYTES},
    settings::Extent,
};

/// How many users the orders come from, where it is not one.
pub const USERS: usize = 16;

/// A load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// Clients that each send the next order when the last is answered.
    pub clients: usize,
    /// What is special about the orders.
    pub orders: Orders,
}

/// What is special about the orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orders {
    /// Nothing: of [`USERS`] users, without a key.
    Plain,
    /// All of one user.
    OfOneUser,
    /// Each under an idempotency key of its own.
    WithKey,
}

impl Orders {
    /// In the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "16 users",
            Self::OfOneUser => "1 user",
            Self::WithKey => "16 users, Idempotency-Key",
        }
    }

    fn templates(self, people: &[Person]) -> Vec<Template> {
        match self {
            Self::Plain => people.iter().map(Person::orders).collect(),
            Self::OfOneUser => people.iter().take(1).map(Person::orders).collect(),
            Self::WithKey => people.iter().map(Person::orders_with_keys).collect(),
        }
    }
}

/// Measured with nothing else at work.
pub const ALONE: [Case; 6] = [
    plain(1),
    plain(16),
    plain(64),
    plain(256),
    Case {
        clients: 256,
        orders: Orders::OfOneUser,
    },
    Case {
        clients: 256,
        orders: Orders::WithKey,
    },
];
/// Measured with the read side at work.
pub const TOGETHER: [Case; 2] = [plain(64), plain(256)];

const fn plain(clients: usize) -> Case {
    Case {
        clients,
        orders: Orders::Plain,
    }
}

/// One round of a load.
#[derive(Debug)]
pub struct Round {
    /// Orders per second.
    pub rate: f64,
    /// Half of the answers took no longer, in milliseconds.
    pub p50_ms: f64,
    /// 99 in 100 answers took no longer, in milliseconds.
    pub p99_ms: f64,
    /// Orders that were measured.
    pub done: u64,
    /// All orders, with those of the warm-up.
    pub sent: u64,
    /// What it took.
    pub taken: Taken,
}

/// One round of bare producers.
#[derive(Debug)]
pub struct Bare {
    /// One writer, batches as large as the number of clients.
    pub one: Produced,
    /// What that took.
    pub taken: Taken,
    /// A writer per partition, who share the clients among themselves; only with enough clients.
    pub all: Option<Produced>,
}

/// Runs one round of a load. The highest memory seen goes to `memory`.
pub async fn round(
    case: Case,
    address: &str,
    people: &[Person],
    extent: Extent,
    stack: &Stack,
    memory: &mut Memory,
) -> anyhow::Result<Round> {
    let templates = case.orders.templates(people);
    let load = Load::start(address, case.clients, &templates, 201).await?;
    measured(load, extent, stack, memory).await
}

/// As [`measured`], where some may be refused.
pub async fn measured_with_refusals(
    load: Load,
    extent: Extent,
    stack: &Stack,
) -> anyhow::Result<(Round, Refusals)> {
    tokio::time::sleep(extent.warm_up).await;
    let before = stack.processor_time();
    let begun = load.measure();
    tokio::time::sleep(extent.measured_for).await;
    let after = stack.processor_time();
    let measured = load.end_with_refusals(begun).await?;
    let round = Round::of(&measured, after.taken_since(&before));
    Ok((round, measured.refused))
}

/// Measures a load that was started, and ends it. The highest memory seen goes to `memory`.
pub async fn measured(
    load: Load,
    extent: Extent,
    stack: &Stack,
    memory: &mut Memory,
) -> anyhow::Result<Round> {
    tokio::time::sleep(extent.warm_up).await;
    let watch = MemoryWatch::start(stack);
    let before = stack.processor_time();
    let begun = load.measure();
    tokio::time::sleep(extent.measured_for).await;
    let after = stack.processor_time();
    let measured = load.end(begun).await?;
    raise(memory, &watch.end());
    Ok(Round::of(&measured, after.taken_since(&before)))
}

/// A round at a fixed rate.
pub struct PacedRound {
    /// What was offered, and answered.
    pub offered: Offered,
    /// What it took.
    pub taken: Taken,
}

impl PacedRound {
    /// What was answered as expected.
    pub fn into_round(self) -> Round {
        let Self { offered, taken } = self;
        Round {
            rate: offered.done_rate(),
            p50_ms: offered.latencies.percentile_ms(0.5),
            p99_ms: offered.latencies.percentile_ms(0.99),
            done: offered.done,
            sent: offered.sent,
            taken,
        }
    }
}

/// Measures a load at a fixed rate that was started, and ends it.
pub async fn paced(load: Paced, extent: Extent, stack: &Stack) -> anyhow::Result<PacedRound> {
    tokio::time::sleep(extent.warm_up).await;
    let before = stack.processor_time();
    load.measure();
    tokio::time::sleep(extent.measured_for).await;
    let taken = stack.processor_time().taken_since(&before);
    let offered = load.end().await?;
    Ok(PacedRound { offered, taken })
}

impl Round {
    fn of(measured: &Measured, taken: Taken) -> Self {
        Self {
            rate: measured.rate(),
            p50_ms: measured.latencies.percentile_ms(0.5),
            p99_ms: measured.latencies.percentile_ms(0.99),
            done: measured.done,
            sent: measured.sent,
            taken,
        }
    }
}

/// Runs one round of bare producers. Blocks.
pub fn bare(
    clients: usize,
    partitions: u16,
    scratch: &Scratch,
    extent: Extent,
    stack: &Stack,
) -> anyhow::Result<Bare> {
    let measured_for = extent.measured_for / 2;
    let before = stack.processor_time();
    let one = scratch.produce(1, clients, VALUE_BYTES, measured_for)?;
    let taken = stack.processor_time().taken_since(&before);
    let writers = usize::from(partitions);
    let all = if clients >= writers {
        let batch = clients.div_ceil(writers);
        Some(scratch.produce(partitions, batch, VALUE_BYTES, measured_for)?)
    } else {
        None
    };
    Ok(Bare { one, taken, all })
}
