//! What the gateway adds: the same load on the command-api, and on the gateway before it.

use std::fmt::Write;

use crate::{
    bench::{Bench, NODE as SERVICE, told},
    http::{Server, request},
    load::{Load, Template},
    orders::{self, Round},
    people::Person,
    processes::{LOAD_GENERATOR, Memory, Stack},
    settings::Extent,
    statistics::Spread,
};

const GATEWAY: &str = "gateway";

/// A load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Case {
    asked: Asked,
    clients: usize,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// A page that the command-api has in its program: next to no work but that of the way there.
    Page,
    /// An order.
    Order,
}

/// How the command-api is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Past the gateway.
    Direct,
    /// Through the gateway, over TLS.
    Gateway,
}

/// The loads, with the read side held still.
const CASES: [Case; 5] = [
    asked(Asked::Page, 1),
    asked(Asked::Page, 64),
    asked(Asked::Order, 1),
    asked(Asked::Order, 64),
    asked(Asked::Order, 256),
];
/// Each way, in the order of the table.
const WAYS: [Way; 2] = [Way::Direct, Way::Gateway];

const fn asked(asked: Asked, clients: usize) -> Case {
    Case { asked, clients }
}

/// The rounds of each load and way.
type Compared = Vec<(Case, Way, Vec<Round>)>;

/// Measures it; the read side is held still meanwhile.
pub async fn measure(bench: &mut Bench) -> anyhow::Result<String> {
    let table = table(&bench.with_read_side_held(in_turns).await?);
    bench.caught_up().await?;
    Ok(table)
}

async fn in_turns(bench: &mut Bench) -> anyhow::Result<Compared> {
    let ways = CASES.iter().flat_map(|case| WAYS.map(|way| (*case, way)));
    let mut compared: Compared = ways.map(|(case, way)| (case, way, Vec::new())).collect();
    for round in 1..=bench.extent.rounds {
        for (case, way, rounds) in &mut compared {
            let people = bench.people().await?;
            let server = match way {
                Way::Direct => Server::from(bench.command.as_str()),
                Way::Gateway => bench.gateway.clone(),
            };
            let done = case.round(server, &people, bench.extent, &bench.stack);
            let done = done.await?;
            bench.orders += case.orders(&done);
            told(round, &format!("{}, {way:?}", case.name()), &done);
            rounds.push(done);
        }
    }
    Ok(compared)
}

impl Case {
    /// In progress and table.
    pub fn name(self) -> String {
        let asked = match self.asked {
            Asked::Page => "`GET /problems/invalid`",
            Asked::Order => "`POST /orders`",
        };
        format!("{asked}, {} clients", self.clients)
    }

    /// How many orders a round of it leaves behind.
    pub fn orders(self, round: &Round) -> u64 {
        match self.asked {
            Asked::Page => 0,
            Asked::Order => round.sent,
        }
    }

    /// Runs one round.
    pub async fn round(
        self,
        server: Server,
        people: &[Person],
        extent: Extent,
        stack: &Stack,
    ) -> anyhow::Result<Round> {
        let (templates, expected) = match self.asked {
            Asked::Page => {
                let page = request("GET", "/problems/invalid", &[], "");
                (vec![Template::fixed(page)], 200)
            }
            Asked::Order => (people.iter().map(Person::orders).collect(), 201),
        };
        let load = Load::start(server, self.clients, &templates, expected).await?;
        orders::measured(load, extent, stack, &mut Memory::new()).await
    }
}

/// The table.
fn table(compared: &Compared) -> String {
    let mut text = "### What the gateway adds\n\n\
        | what | way | requests/s | p50 ms | p99 ms | gateway, ms per request | command-api | load generator | cores idle |\n\
        | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        .to_owned();
    for (case, way, rounds) in compared {
        let spread = |value: &dyn Fn(&Round) -> f64| Spread::of(rounds.iter().map(value));
        let each = |process: &str| spread(&|round| time_ms(round, process)).median;
        // Writing into a string does not fail.
        writeln!(
            text,
            "| {} | {} | {} | {:.2} | {:.2} | {:.4} | {:.4} | {:.4} | {:.0} % |",
            case.name(),
            match way {
                Way::Direct => "direct",
                Way::Gateway => "gateway",
            },
            spread(&|round| round.rate),
            spread(&|round| round.p50_ms).median,
            spread(&|round| round.p99_ms).median,
            each(GATEWAY),
            each(SERVICE),
            each(LOAD_GENERATOR),
            spread(&|round| round.taken.idle_share).median * 100.0,
        )
        .ok();
    }
    text.push_str(
        "\nThe read side is held still; the ways take turns. *Direct* is plain HTTP/1.1 to the command-api; *gateway* is \
         HTTP/1.1 over TLS 1.3 on kept connections, with the check of the token, the limits, and a line of log for each. The \
         processor time is per request. Gateway and load generator share the cores with what they ask: with many clients the \
         rate is that of the machine, and the processor time says what the gateway costs.\n",
    );
    text
}

/// Processor time of a process, in milliseconds per request.
fn time_ms(round: &Round, process: &str) -> f64 {
    let taken = round.taken.by_process.get(process);
    let taken = taken.copied().unwrap_or_default();
    taken.as_secs_f64() * 1_000.0 / round.done.max(1) as f64
}
