//! What tracing costs: the same load on a command-api that exports nothing, one request in twenty, or every request.

use std::fmt::Write;

use crate::{
    bench::{Bench, NODE, say},
    orders::{Case, Orders, Round},
    processes::{Memory, Stack, Taken},
    statistics::Spread,
};

const COLLECTOR: &str = "spans";

/// How much is traced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sampled {
    /// Nothing: no collector is named.
    Off,
    /// As the services do it unless they are told otherwise.
    Default,
    /// Every request.
    All,
}

/// Each way, in the order of the table.
const SAMPLED: [Sampled; 3] = [Sampled::Off, Sampled::Default, Sampled::All];
/// The loads, with the read side held still.
const CASES: [Case; 2] = [plain(64), plain(256)];

const fn plain(clients: usize) -> Case {
    Case {
        clients,
        orders: Orders::Plain,
    }
}

impl Sampled {
    fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Default => "0.05, the default",
            Self::All => "1.0",
        }
    }

    /// Starts the command-api anew, with this setting.
    fn apply(self, stack: &mut Stack) -> anyhow::Result<()> {
        let settings: &[(&str, &str)] = match self {
            Self::Off => &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")],
            Self::Default => &[("OTEL_TRACES_SAMPLER_ARG", "0.05")],
            Self::All => &[("OTEL_TRACES_SAMPLER_ARG", "1.0")],
        };
        stack.restart(NODE, settings)
    }
}

/// Starts the command-api anew as the stack has it.
fn restore(stack: &mut Stack) -> anyhow::Result<()> {
    stack.restart(NODE, &[])
}

/// The rounds of each load and way.
type Traced = Vec<(Case, Sampled, Vec<Round>)>;

/// Measures it: the command-api is started anew for each way, and as it was at the end; the read side is held still
/// meanwhile.
pub async fn measure(bench: &mut Bench) -> anyhow::Result<String> {
    let measured = bench.with_read_side_held(async |bench| {
        let measured = in_turns(bench).await;
        restore(&mut bench.stack)?;
        measured
    });
    let table = table(&measured.await?);
    bench.caught_up().await?;
    Ok(table)
}

async fn in_turns(bench: &mut Bench) -> anyhow::Result<Traced> {
    let ways = CASES
        .iter()
        .flat_map(|case| SAMPLED.map(|way| (*case, way)));
    let mut traced: Traced = ways.map(|(case, way)| (case, way, Vec::new())).collect();
    for round in 1..=bench.extent.rounds {
        for turn in 0..SAMPLED.len() {
            // Who begins would always have the smallest state.
            let Some(now) = SAMPLED.get((turn + round) % SAMPLED.len()) else {
                continue;
            };
            say(&format!("traced: {now:?}"));
            now.apply(&mut bench.stack)?;
            for (case, way, rounds) in &mut traced {
                if way == now {
                    rounds.push(bench.round(*case, round, &mut Memory::new()).await?);
                }
            }
        }
    }
    Ok(traced)
}

/// The table.
fn table(traced: &Traced) -> String {
    let mut text = "### What tracing costs\n\n\
        | clients | sampled | orders/s | to off | p50 ms | p99 ms | command-api, ms per order | to off | `spans`, ms per order |\n\
        | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        .to_owned();
    for (case, sampled, rounds) in traced {
        let off = traced
            .iter()
            .find(|(other, sampled, _)| other == case && *sampled == Sampled::Off);
        let off = off.map_or(&[][..], |(_, _, rounds)| rounds);
        let (orders, own) = (rate(rounds), time(rounds, NODE));
        // Writing into a string does not fail.
        writeln!(
            text,
            "| {} | {} | {} | {:.2} | {:.2} | {:.2} | {:.4} ({:.4}–{:.4}) | {:.2} | {:.4} |",
            case.clients,
            sampled.name(),
            orders,
            orders.median / rate(off).median.max(1.0),
            Spread::of(rounds.iter().map(|round| round.p50_ms)).median,
            Spread::of(rounds.iter().map(|round| round.p99_ms)).median,
            own.median,
            own.min,
            own.max,
            own.median / time(off, NODE).median.max(f64::EPSILON),
            time(rounds, COLLECTOR).median,
        )
        .ok();
    }
    text.push_str(
        "\n`POST /orders` as above, the read side held still; every request that is sampled has two spans in the command-api. \
         The ways take turns within each round. `spans`, the stand-in for a collector, shares the cores with everything else, \
         so orders/s pay for it too; what the service itself takes is its processor time.\n",
    );
    text
}

fn rate(rounds: &[Round]) -> Spread {
    Spread::of(rounds.iter().map(|round| round.rate))
}

/// Processor time of a process, in milliseconds per order.
fn time(rounds: &[Round], process: &str) -> Spread {
    let taken = |taken: &Taken| taken.by_process.get(process).copied().unwrap_or_default();
    let each =
        |round: &Round| taken(&round.taken).as_secs_f64() * 1_000.0 / round.done.max(1) as f64;
    Spread::of(rounds.iter().map(each))
}
