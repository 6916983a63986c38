//! Orders while logins flood.

use crate::{
    bench::{Bench, NODE, say},
    goals::{self, Bound, Goal, ratio},
    load::Template,
    orders::{self, Case, Orders, PacedRound},
    paced::{Offered, Paced},
    people::{Account, Person},
    processes::Memory,
    statistics::count,
    table::{Table, each_ms, fine, ms, spread},
};

/// Clients with which the capacity is measured, and the share of it at which orders come.
const CLIENTS: usize = 64;
const CAPACITY_SHARE: f64 = 0.25;
const CONNECTIONS: usize = 256;
/// Logins a second: many times what the threads for passwords get done.
const LOGINS_PER_S: f64 = 1_000.0;
const LOGIN_CONNECTIONS: usize = 128;

/// Measures it, with the read side held still.
pub async fn measure(bench: &mut Bench) -> anyhow::Result<String> {
    bench.register_orderers().await?;
    let measured = bench.with_read_side_held(in_turns).await?;
    bench.caught_up().await?;
    Ok(tables(&measured))
}

struct Measured {
    rate: f64,
    quiet: Vec<PacedRound>,
    flooded: Vec<PacedRound>,
    floods: Vec<Offered>,
}

async fn in_turns(bench: &mut Bench) -> anyhow::Result<Measured> {
    let case = Case {
        clients: CLIENTS,
        orders: Orders::Plain,
    };
    let capacity = bench.round(case, 1, &mut Memory::new()).await?;
    let rate = (capacity.rate * CAPACITY_SHARE).max(1.0);
    let logins = bench.accounts.iter().map(Account::login);
    let logins: Vec<Template> = logins.map(Template::fixed).collect();
    let (mut quiet, mut flooded, mut floods) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=bench.extent.rounds {
        quiet.push(orders_paced(bench, rate, round, "quiet").await?);
        // Logged in before the flood, which leaves no room for it.
        let people = bench.people().await?;
        let address = bench.command.as_str();
        let flood = Paced::start(address, LOGIN_CONNECTIONS, LOGINS_PER_S, &logins, 200).await?;
        tokio::time::sleep(bench.extent.warm_up).await;
        flood.measure();
        let done = of_people(bench, &people, rate).await;
        floods.push(flood.end().await?);
        let done = done?;
        tell(round, "with logins", &done);
        flooded.push(done);
    }
    let all = quiet.iter().chain(&flooded);
    let sent: u64 = all.map(|round| round.offered.sent).sum();
    bench.orders += sent;
    Ok(Measured {
        rate,
        quiet,
        flooded,
        floods,
    })
}

async fn orders_paced(
    bench: &mut Bench,
    rate: f64,
    round: usize,
    what: &str,
) -> anyhow::Result<PacedRound> {
    let people = bench.people().await?;
    let done = of_people(bench, &people, rate).await?;
    tell(round, what, &done);
    Ok(done)
}

async fn of_people(bench: &Bench, people: &[Person], rate: f64) -> anyhow::Result<PacedRound> {
    let templates: Vec<_> = people.iter().map(Person::orders).collect();
    let address = bench.command.as_str();
    let load = Paced::start(address, CONNECTIONS, rate, &templates, 201).await?;
    orders::paced(load, bench.extent, &bench.stack).await
}

fn tell(round: usize, what: &str, done: &PacedRound) {
    let offered = &done.offered;
    say(&format!(
        "round {round}: {what}: {:.0} orders/s, p50 {:.2} ms, p99 {:.2} ms",
        offered.done_rate(),
        offered.latencies.percentile_ms(0.5),
        offered.latencies.percentile_ms(0.99)
    ));
}

fn tables(measured: &Measured) -> String {
    let p99 = |round: &PacedRound| round.offered.latencies.percentile_ms(0.99);
    let goal = Goal {
        what: "p99 of orders while logins flood : quiet".to_owned(),
        bound: Bound::AtMost(1.5),
        measured: ratio(&measured.flooded, &measured.quiet, p99, p99),
    };
    let columns = [
        "meanwhile",
        "orders/s",
        "answered",
        "p50 ms",
        "p99 ms",
        "command-api, ms per order",
        "cores idle",
    ];
    let mut table = Table::new("Orders while logins flood", &columns);
    for (what, rounds) in [("nothing", &measured.quiet), ("logins", &measured.flooded)] {
        let share = |round: &PacedRound| round.offered.done_share() * 100.0;
        let p50 = |round: &PacedRound| round.offered.latencies.percentile_ms(0.5);
        let own = |round: &PacedRound| each_ms(round.taken.of(NODE), round.offered.done);
        table.row([
            what.to_owned(),
            spread(rounds, |round| round.offered.done_rate()).to_string(),
            format!("{:.1} %", spread(rounds, share).median),
            ms(spread(rounds, p50).median),
            fine(spread(rounds, p99), 2),
            format!("{:.3}", spread(rounds, own).median),
            format!(
                "{:.0} %",
                spread(rounds, |round| round.taken.idle_share * 100.0).median
            ),
        ]);
    }
    let accepted = spread(&measured.floods, Offered::done_rate);
    let refused: Vec<String> = measured
        .floods
        .first()
        .into_iter()
        .flat_map(|flood| &flood.refused)
        .map(|(status, (number, _))| format!("{} with {status}", count(*number as f64)))
        .collect();
    let note = table.note(&format!(
        "Orders come at a quarter of the capacity, {} a second over {CONNECTIONS} connections, due at even distances; logins at {} a \
         second over {LOGIN_CONNECTIONS}, with right passwords, at the local stack's bcrypt cost. {} logins a second were accepted; \
         of the first round's, refused: {}. What a login takes is in the command-api's figure.",
        count(measured.rate),
        count(LOGINS_PER_S),
        count(accepted.median),
        match refused.is_empty() {
            true => "none".to_owned(),
            false => refused.join(", "),
        }
    ));
    format!("{}\n{note}", goals::table("What is to be reached", &[goal]))
}
