//! What the hop to another node costs: three nodes, and orders that all go to the first of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use crate::{
    bench::{Bench, NODE, say, told},
    load::{Load, Refusals, Template},
    metrics::Metrics,
    orders::{self, Round},
    people::Person,
    settings::address,
    table::{Table, each_ms, ms, spread},
};

const NODES: usize = 3;
const CLIENTS: [usize; 3] = [1, 64, 256];
/// How the settings of the stack name the nodes.
const URLS: &str = "ORDERLOG_COMMAND_URLS";
const SERVING: &str = "command_api_shard_serving";
/// How long the shards may take until each has one node that serves it.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
const SETTLED_CHECK: Duration = Duration::from_millis(250);
/// How often in a row they must be found where they were.
const SETTLED_LOOKS: usize = 8;

/// Where the orders belong that are sent to the first node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Alone,
    Owned,
    Anywhere,
    Foreign,
}

const WITH_OTHERS: [Way; 3] = [Way::Owned, Way::Anywhere, Way::Foreign];

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Alone => "one node",
            Self::Owned => "three nodes, all orders its own",
            Self::Anywhere => "three nodes, orders of all shards",
            Self::Foreign => "three nodes, all orders others'",
        }
    }
}

/// Rounds with what was refused.
type Rounds = BTreeMap<(usize, Way), Vec<(Round, Refusals)>>;

/// Measures it, with the read side held still; afterwards there are as many nodes as before.
pub async fn measure(bench: &mut Bench) -> anyhow::Result<String> {
    // While others have shards, nobody may be able to log in at the first node.
    let mut people = bench.people().await?;
    let processes = bench.stack.processes.iter();
    let before = processes
        .filter(|(name, _)| name.starts_with("command-api-"))
        .count();
    let mut rounds = Rounds::new();
    if before == 1 {
        let alone = async |bench: &mut Bench| {
            in_turns(bench, &mut people, &[Way::Alone], &[], &mut rounds).await
        };
        bench.with_read_side_held(alone).await?;
    }
    say("starting the other nodes");
    bench.stack.nodes(NODES, NODE)?;
    let with_others = async |bench: &mut Bench| with_others(bench, &mut people, &mut rounds).await;
    let measured = bench.with_read_side_held(with_others).await;
    bench.stack.nodes(before, NODE)?;
    measured?;
    settled(bench).await?;
    bench.caught_up().await?;
    Ok(table(&rounds))
}

async fn with_others(
    bench: &mut Bench,
    people: &mut Vec<Person>,
    rounds: &mut Rounds,
) -> anyhow::Result<()> {
    let owned = settled(bench).await?;
    say(&format!("{NODE} has the shards {owned:?}"));
    ensure!(
        !owned.is_empty() && owned.len() < usize::from(bench.partitions),
        "the shards are not shared out: {NODE} has {owned:?}"
    );
    in_turns(bench, people, &WITH_OTHERS, &owned, rounds).await
}

/// The shards of the first node, once every shard has one node that serves it, and has had it for a while.
async fn settled(bench: &Bench) -> anyhow::Result<Vec<u16>> {
    let urls = bench.stack.variable(URLS)?;
    let begun = Instant::now();
    let (mut last, mut looks) = (Vec::new(), 0);
    while looks < SETTLED_LOOKS {
        ensure!(
            begun.elapsed() < SETTLED_WITHIN,
            "the shards do not settle within {SETTLED_WITHIN:?}: {last:?}"
        );
        tokio::time::sleep(SETTLED_CHECK).await;
        let mut now = Vec::new();
        for url in urls.split(',') {
            let metrics = Metrics::of(address(url)?).await?;
            let shards = metrics.where_set(SERVING, "shard");
            let shards: Result<BTreeSet<u16>, _> = shards.into_iter().map(str::parse).collect();
            now.push(shards?);
        }
        let served: usize = now.iter().map(BTreeSet::len).sum();
        looks = match now == last && served == usize::from(bench.partitions) {
            true => looks + 1,
            false => 0,
        };
        last = now;
    }
    let first = last.into_iter().next().context("there are no nodes")?;
    Ok(first.into_iter().collect())
}

async fn in_turns(
    bench: &mut Bench,
    people: &mut Vec<Person>,
    ways: &[Way],
    owned: &[u16],
    rounds: &mut Rounds,
) -> anyhow::Result<()> {
    let count = bench.partitions;
    let all: Vec<u16> = (0..count).collect();
    let others: Vec<u16> = (0..count).filter(|shard| !owned.contains(shard)).collect();
    for round in 1..=bench.extent.rounds {
        match bench.people().await {
            Ok(again) => *people = again,
            Err(error) => say(&format!("their tokens stay: {error}")),
        }
        for clients in CLIENTS {
            for way in ways {
                let shards = match way {
                    Way::Alone | Way::Anywhere => &all,
                    Way::Owned => owned,
                    Way::Foreign => &others,
                };
                let templates: Vec<Template> = people
                    .iter()
                    .map(|person| person.orders_with_keys_on(shards, count))
                    .collect();
                let load = Load::start(bench.command.as_str(), clients, &templates, 201).await?;
                let done = orders::measured_with_refusals(load, bench.extent, &bench.stack).await?;
                bench.orders += done.0.sent;
                told(
                    round,
                    &format!("{clients} clients, {}", way.name()),
                    &done.0,
                );
                for (status, (count, body)) in &done.1 {
                    say(&format!("  {count} were answered {status}: {body}"));
                }
                rounds.entry((clients, *way)).or_default().push(done);
            }
        }
    }
    Ok(())
}

fn table(rounds: &Rounds) -> String {
    let columns = [
        "clients",
        "orders to one node",
        "orders/s",
        "p50 ms",
        "p99 ms",
        "this node, ms per order",
        "other nodes",
        "kafka",
        "cores idle",
        "refused",
    ];
    let mut table = Table::new("What the hop to another node costs", &columns);
    for ((clients, way), rounds) in rounds {
        let rate = spread(rounds, |(round, _)| round.rate);
        let each = |time: fn(&Round) -> Duration| {
            let each = |(round, _): &(Round, Refusals)| each_ms(time(round), round.done);
            match rate.max > 0.0 {
                true => format!("{:.3}", spread(rounds, each).median),
                false => "–".to_owned(),
            }
        };
        let refused: u64 = rounds
            .iter()
            .flat_map(|(_, refused)| refused.values())
            .map(|(count, _)| count)
            .sum();
        let statuses = rounds.iter().flat_map(|(_, refused)| refused.keys());
        table.row([
            clients.to_string(),
            way.name().to_owned(),
            rate.to_string(),
            ms(spread(rounds, |(round, _)| round.p50_ms).median),
            ms(spread(rounds, |(round, _)| round.p99_ms).median),
            each(|round| round.taken.of(NODE)),
            each(others),
            each(|round| round.taken.of("kafka")),
            format!(
                "{:.0} %",
                spread(rounds, |(round, _)| round.taken.idle_share * 100.0).median
            ),
            match statuses.max() {
                Some(status) => format!("{refused} with {status}"),
                None => "0".to_owned(),
            },
        ]);
    }
    table.note(
        "Each order has an Idempotency-Key, which decides on its shard; all are sent to the first node, which passes on what is \
         another's. All nodes, Kafka and the load generator share the cores, so the rate with others is that of the machine; the \
         hop itself is the difference in p50 with one client and in the processor time of the nodes.",
    )
}

fn others(round: &Round) -> Duration {
    let nodes = round.taken.by_process.iter();
    let nodes = nodes.filter(|(name, _)| name.starts_with("command-api-") && *name != NODE);
    nodes.map(|(_, time)| *time).sum()
}
