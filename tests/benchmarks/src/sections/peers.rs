//! Orders per second beside what does less, and beside what others use: every way gets the same orders from the same load
//! generator, on the same machine, in turns.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    bench::{Bench, NODE, told},
    goals::{self, Bound, Goal, ratio},
    load::Load,
    metrics::Metrics,
    orders::{self, Case, Orders, Round},
    peer::{Peer, Running},
    people::Person,
    processes::{LOAD_GENERATOR, Memory},
    producer::Scratch,
    statistics::Spread,
    table::{Table, each_ms, ms, spread},
};

/// How many clients send orders.
const CLIENTS: [usize; 4] = [1, 16, 64, 256];
/// An order's record with its headers and key, as large as the command-api writes it.
const RECORD_BYTES: usize = 700;

/// A way for orders to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Orderlog,
    Peer(Peer),
    Producer,
}

const WAYS: [Way; 5] = [
    Way::Orderlog,
    Way::Peer(Peer::BarePath),
    Way::Producer,
    Way::Peer(Peer::CqrsEs),
    Way::Peer(Peer::CqrsEsAsync),
];

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Orderlog => "Orderlog",
            Self::Peer(peer) => peer.name(),
            Self::Producer => "bare producer, same batches",
        }
    }
}

type Rounds = BTreeMap<(usize, Way), Vec<Round>>;

/// Measures it, with the read side held still.
pub async fn measure(bench: &mut Bench) -> anyhow::Result<String> {
    bench.register_orderers().await?;
    let measured = bench.with_read_side_held(async |bench| {
        // One topic for each: writers of the same partition would fence each other.
        let scratch = Scratch::make(&bench.settings.kafka, bench.partitions).await?;
        let of_bare_path = Scratch::make(&bench.settings.kafka, bench.partitions).await?;
        let peers = start(bench, &of_bare_path)?;
        let measured = in_turns(bench, &scratch, &peers).await;
        for peer in peers.into_values() {
            peer.end(&mut bench.stack);
        }
        scratch.delete().await?;
        of_bare_path.delete().await?;
        measured
    });
    let (rounds, batches) = measured.await?;
    bench.caught_up().await?;
    let parts = [
        goals::table("What is to be reached", &goals_of(&rounds)),
        table(bench, &rounds, &batches),
        costs(&rounds),
    ];
    Ok(parts.join("\n"))
}

fn start(bench: &mut Bench, scratch: &Scratch) -> anyhow::Result<BTreeMap<Peer, Running>> {
    let mut peers = BTreeMap::new();
    for way in WAYS {
        if let Way::Peer(peer) = way {
            peers.insert(peer, Running::start(peer, bench, &scratch.topic)?);
        }
    }
    Ok(peers)
}

/// Rounds by clients and way, and how many events the command-api had in a transaction, by clients.
type Measured = (Rounds, BTreeMap<usize, Vec<f64>>);

async fn in_turns(
    bench: &mut Bench,
    scratch: &Scratch,
    peers: &BTreeMap<Peer, Running>,
) -> anyhow::Result<Measured> {
    let (mut rounds, mut batches) = (Rounds::new(), BTreeMap::<usize, Vec<f64>>::new());
    for round in 1..=bench.extent.rounds {
        for clients in CLIENTS {
            let mut batch = 1.0;
            for way in WAYS {
                let done = match (way, peers) {
                    (Way::Orderlog, _) => {
                        let before = Metrics::of(&bench.command).await?;
                        let case = Case {
                            clients,
                            orders: Orders::Plain,
                        };
                        let done = bench.round(case, round, &mut Memory::new()).await?;
                        batch = batch_since(&before, &Metrics::of(&bench.command).await?);
                        batches.entry(clients).or_default().push(batch);
                        done
                    }
                    (Way::Producer, _) => producer(bench, scratch, clients, batch)?,
                    (Way::Peer(peer), peers) => {
                        let Some(peer) = peers.get(&peer) else {
                            continue;
                        };
                        let templates = [Person::nobody().orders()];
                        let address = peer.address.as_str();
                        let load = Load::start(address, clients, &templates, 201).await?;
                        let memory = &mut Memory::new();
                        orders::measured(load, bench.extent, &bench.stack, memory).await?
                    }
                };
                if way != Way::Orderlog {
                    told(round, &format!("{clients} clients, {}", way.name()), &done);
                }
                rounds.entry((clients, way)).or_default().push(done);
            }
        }
    }
    Ok((rounds, batches))
}

/// Events in a transaction of the command-api, on average since then.
fn batch_since(before: &Metrics, after: &Metrics) -> f64 {
    let since = |name: &str| after.sum(name) - before.sum(name);
    let batches = since("command_api_batch_events_count");
    (since("command_api_batch_events_sum") / batches.max(1.0)).max(1.0)
}

/// As many writers as write for the command-api, or only one where there is but one client. Blocks.
fn producer(bench: &Bench, scratch: &Scratch, clients: usize, batch: f64) -> anyhow::Result<Round> {
    let writers = if clients == 1 { 1 } else { bench.writers() };
    let before = bench.stack.processor_time();
    let measured_for = bench.extent.measured_for;
    let batch = batch.round() as usize;
    let produced = scratch.produce(writers, batch, RECORD_BYTES, measured_for)?;
    let after = bench.stack.processor_time();
    Ok(Round {
        rate: produced.rate(),
        p50_ms: produced.latencies.percentile_ms(0.5),
        p99_ms: produced.latencies.percentile_ms(0.99),
        done: produced.messages,
        sent: produced.messages,
        taken: after.taken_since(&before),
    })
}

fn compared(rounds: &Rounds, clients: usize, way: Way, of: impl Fn(&Round) -> f64) -> Spread {
    let of_way = |way| rounds.get(&(clients, way)).map_or(&[][..], Vec::as_slice);
    ratio(of_way(Way::Orderlog), of_way(way), &of, &of)
}

fn goals_of(rounds: &Rounds) -> Vec<Goal> {
    let rate = |round: &Round| round.rate;
    let at = |clients: usize, way: Way, bound: f64| Goal {
        what: format!("orders/s : {}, {clients} clients", way.name()),
        bound: Bound::AtLeast(bound),
        measured: compared(rounds, clients, way, rate),
    };
    vec![
        at(64, Way::Peer(Peer::CqrsEs), 5.0),
        at(256, Way::Peer(Peer::CqrsEs), 5.0),
        at(64, Way::Peer(Peer::BarePath), 0.7),
        at(256, Way::Peer(Peer::BarePath), 0.7),
        at(64, Way::Producer, 0.5),
        at(256, Way::Producer, 0.5),
        Goal {
            what: "p50 of a lone order : one bare transaction".to_owned(),
            bound: Bound::AtMost(1.5),
            measured: compared(rounds, 1, Way::Producer, |round| round.p50_ms),
        },
    ]
}

fn table(bench: &Bench, rounds: &Rounds, batches: &BTreeMap<usize, Vec<f64>>) -> String {
    let columns = [
        "clients",
        "way",
        "orders/s",
        "p50 ms",
        "p99 ms",
        "Orderlog : this",
    ];
    let mut table = Table::new("Orders per second, by way", &columns);
    for clients in CLIENTS {
        for way in WAYS {
            let Some(of_way) = rounds.get(&(clients, way)) else {
                continue;
            };
            let Spread { median, min, max } =
                compared(rounds, clients, way, |round: &Round| round.rate);
            table.row([
                clients.to_string(),
                way.name().to_owned(),
                spread(of_way, |round| round.rate).to_string(),
                ms(spread(of_way, |round| round.p50_ms).median),
                ms(spread(of_way, |round| round.p99_ms).median),
                match way {
                    Way::Orderlog => "1".to_owned(),
                    Way::Peer(_) | Way::Producer => format!("{median:.2} ({min:.2}–{max:.2})"),
                },
            ]);
        }
    }
    let batches: Vec<String> = batches
        .iter()
        .map(|(clients, batches)| {
            let batch = Spread::of(batches.iter().copied()).median;
            format!("{batch:.1} with {clients}")
        })
        .collect();
    table.note(&format!(
        "`POST /orders` with three lines over kept connections; each client sends the next order when the last is answered, after \
         the commit. *Orderlog* checks the token and the rules and writes Avro. *Bare path*: the same actix-web, the same JSON read \
         and answered, {writers} queues, one Kafka transaction for all that waits. *Bare producer*: {writers} writers (one for one \
         client) of {RECORD_BYTES}-byte values in batches as large as Orderlog's in the same round ({}); a latency there is one \
         transaction's. *cqrs-es*: `cqrs-es` 0.5 with `postgres-es` 0.5 and {} connections, the same fields in one event, over the \
         same HTTP layer as the bare path, in the stack's PostgreSQL. Its commits are on disk when they are answered; with \
         *asynchronous commit* they are not, and a crash of PostgreSQL loses up to half a second of them. One Kafka broker answers \
         when the commit is in the page cache: a crash of Kafka loses nothing, one of the machine may. So the first is more durable \
         than Orderlog on one broker and the second less; the goals are for the first.",
        batches.join(", "),
        bench.settings.peer_connections,
        writers = bench.writers(),
    ))
}

fn costs(rounds: &Rounds) -> String {
    let columns = [
        "clients",
        "way",
        "its server",
        "kafka",
        "postgres",
        "load generator",
        "all of these",
        "cores idle",
    ];
    let mut table = Table::new("Processor time per order by way, in milliseconds", &columns);
    for ((clients, way), rounds) in rounds {
        let each = |of: &dyn Fn(&Round) -> Duration| {
            spread(rounds, |round| each_ms(of(round), round.done)).median
        };
        let server = |round: &Round| match way {
            Way::Orderlog => round.taken.of(NODE),
            Way::Peer(peer) => round.taken.of(peer.name()),
            Way::Producer => Duration::ZERO,
        };
        let of = |name: &'static str| move |round: &Round| round.taken.of(name);
        let parts = [
            each(&server),
            each(&of("kafka")),
            each(&of("postgres")),
            each(&of(LOAD_GENERATOR)),
        ];
        let idle = spread(rounds, |round| round.taken.idle_share * 100.0).median;
        let figures = parts.iter().copied().chain([parts.iter().sum()]);
        table.row(
            [clients.to_string(), way.name().to_owned()]
                .into_iter()
                .chain(figures.map(|ms| format!("{ms:.3}")))
                .chain([format!("{idle:.0} %")]),
        );
    }
    table.note("A bare producer is a part of the load generator.")
}
