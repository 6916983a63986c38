//! Processor time per order in the command-api, beside an actix-web that reads and answers the same JSON, and where it goes.

use std::collections::BTreeMap;

use super::profile;
use crate::{
    bench::{Bench, NODE, say, told},
    goals::{self, Bound, Goal, ratio},
    load::Load,
    orders::{self, Case, Orders, Round},
    paced::Paced,
    peer::{Peer, Running},
    people::Person,
    processes::Memory,
    producer::Scratch,
    table::{Table, each_ms, fine, spread},
};

const CLIENTS: [usize; 2] = [64, 256];
/// Clients while it is looked where the time goes.
const PROFILED_CLIENTS: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Echo,
    /// The echo at the rate that Orderlog reached in the same round.
    EchoPaced,
    BarePath,
    Orderlog,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Echo => "actix echo",
            Self::EchoPaced => "actix echo, at Orderlog's rate",
            Self::BarePath => "bare path",
            Self::Orderlog => "Orderlog",
        }
    }

    fn process(self) -> &'static str {
        match self {
            Self::Echo | Self::EchoPaced => Peer::Echo.name(),
            Self::BarePath => Peer::BarePath.name(),
            Self::Orderlog => NODE,
        }
    }

    fn each_ms(self, round: &Round) -> f64 {
        each_ms(round.taken.of(self.process()), round.done)
    }
}

type Rounds = BTreeMap<(usize, Way), Vec<Round>>;

/// Measures it, with the read side held still.
pub async fn measure(bench: &mut Bench) -> anyhow::Result<String> {
    bench.register_orderers().await?;
    let measured = bench.with_read_side_held(async |bench| {
        let scratch = Scratch::make(&bench.settings.kafka, bench.partitions).await?;
        let echo = Running::start(Peer::Echo, bench, "")?;
        let bare = Running::start(Peer::BarePath, bench, &scratch.topic)?;
        let measured = in_turns(bench, &echo.address, &bare.address).await;
        let profiled = profiled(bench).await;
        echo.end(&mut bench.stack);
        bare.end(&mut bench.stack);
        scratch.delete().await?;
        Ok((measured?, profiled?))
    });
    let (rounds, profiled) = measured.await?;
    bench.caught_up().await?;
    let parts = [
        goals::table("What is to be reached", &goals_of(&rounds)),
        table(&rounds),
        profiled,
    ];
    Ok(parts.join("\n"))
}

async fn in_turns(bench: &mut Bench, echo: &str, bare: &str) -> anyhow::Result<Rounds> {
    let mut rounds = Rounds::new();
    for round in 1..=bench.extent.rounds {
        for clients in CLIENTS {
            let templates = [Person::nobody().orders()];
            for (way, address) in [(Way::Echo, echo), (Way::BarePath, bare)] {
                let load = Load::start(address, clients, &templates, 201).await?;
                let memory = &mut Memory::new();
                let done = orders::measured(load, bench.extent, &bench.stack, memory).await?;
                told(round, &format!("{clients} clients, {}", way.name()), &done);
                rounds.entry((clients, way)).or_default().push(done);
            }
            let case = Case {
                clients,
                orders: Orders::Plain,
            };
            let ours = bench.round(case, round, &mut Memory::new()).await?;
            let load = Paced::start(echo, clients, ours.rate.max(1.0), &templates, 201).await?;
            let paced = orders::paced(load, bench.extent, &bench.stack).await?;
            let paced = paced.into_round();
            told(round, Way::EchoPaced.name(), &paced);
            rounds
                .entry((clients, Way::EchoPaced))
                .or_default()
                .push(paced);
            rounds
                .entry((clients, Way::Orderlog))
                .or_default()
                .push(ours);
        }
    }
    Ok(rounds)
}

/// Where the time of the command-api goes while orders are created.
async fn profiled(bench: &mut Bench) -> anyhow::Result<String> {
    let people = bench.people().await?;
    let templates: Vec<_> = people.iter().map(Person::orders).collect();
    let address = bench.command.as_str();
    let load = Load::start(address, PROFILED_CLIENTS, &templates, 201).await?;
    tokio::time::sleep(bench.extent.warm_up).await;
    say("where the time goes");
    let (begun, before) = (load.measure(), bench.stack.processor_time());
    let pid = bench.stack.pid(NODE)?;
    let samples = profile::samples(pid, bench.extent.measured_for).await;
    let taken = bench.stack.processor_time().taken_since(&before);
    let measured = load.end(begun).await?;
    bench.orders += measured.sent;
    let each_ms = each_ms(taken.of(NODE), measured.done);
    Ok(match samples {
        Ok(samples) => profile::table(&samples, PROFILED_CLIENTS, each_ms),
        Err(error) => format!(
            "### Where the time goes\n\nNot known: `perf`, which samples the threads, cannot be used here ({error:#}).\n"
        ),
    })
}

fn goals_of(rounds: &Rounds) -> Vec<Goal> {
    let of = |clients, way| rounds.get(&(clients, way)).map_or(&[][..], Vec::as_slice);
    let goal = |clients: usize, way: Way| Goal {
        what: format!("time per order : {}, {clients} clients", way.name()),
        bound: Bound::AtMost(2.5),
        measured: ratio(
            of(clients, Way::Orderlog),
            of(clients, way),
            |round| Way::Orderlog.each_ms(round),
            |round| way.each_ms(round),
        ),
    };
    let ways = [Way::Echo, Way::EchoPaced];
    let all = CLIENTS
        .iter()
        .flat_map(|clients| ways.map(|way| goal(*clients, way)));
    all.collect()
}

fn table(rounds: &Rounds) -> String {
    let columns = [
        "clients",
        "way",
        "requests/s",
        "its process, ms per request",
        "p50 ms",
    ];
    let mut table = Table::new("Processor time per request", &columns);
    for ((clients, way), rounds) in rounds {
        table.row([
            clients.to_string(),
            way.name().to_owned(),
            spread(rounds, |round| round.rate).to_string(),
            fine(spread(rounds, |round| way.each_ms(round)), 4),
            format!("{:.2}", spread(rounds, |round| round.p50_ms).median),
        ]);
    }
    table.note(
        "Echo and bare path read and answer the same JSON over the same actix-web, without a token, rules, request ids, metrics or \
         spans. At full speed one wake-up serves many requests; at the rate that Orderlog reached in the same round, over as many \
         connections, each costs more.",
    )
}
