//! How long orders take at the rate that `cqrs-es` can just hold: they come at a fixed rate, whatever is answered, and what
//! they wait counts from when they were due.

use crate::{
    bench::{Bench, say},
    goals::{self, Bound, Goal, ratio},
    load::Load,
    orders::{self, PacedRound},
    paced::{Offered, Paced},
    peer::{Peer, Running},
    people::Person,
    processes::{Memory, Stack},
    settings::Extent,
    statistics::count,
    table::{Table, each_ms, fine, ms, spread},
};

/// Clients with which the peer's best rate is looked for, and connections that orders come over.
const CLIENTS: usize = 64;
const CONNECTIONS: usize = 256;
/// The shares of its best rate that are tried until the peer holds one.
const SHARES: [f64; 7] = [1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6];
/// A rate is held when all orders are answered, and half of them within this: a backlog that grows makes it seconds.
const HELD_P50_MS: f64 = 50.0;

/// Measures it, with the read side held still.
pub async fn measure(bench: &mut Bench) -> anyhow::Result<String> {
    bench.register_orderers().await?;
    let measured = bench.with_read_side_held(async |bench| {
        let peer = Running::start(Peer::CqrsEs, bench, "")?;
        let measured = in_turns(bench, &peer.address).await;
        peer.end(&mut bench.stack);
        measured
    });
    let (rate, ours, theirs) = measured.await?;
    bench.caught_up().await?;
    Ok(tables(rate, &ours, &theirs))
}

async fn in_turns(
    bench: &mut Bench,
    peer: &str,
) -> anyhow::Result<(f64, Vec<PacedRound>, Vec<PacedRound>)> {
    let rate = just_held(bench.extent, &bench.stack, peer).await?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 1..=bench.extent.rounds {
        let people = bench.people().await?;
        let templates: Vec<_> = people.iter().map(Person::orders).collect();
        for (name, address, templates, rounds) in [
            ("Orderlog", bench.command.as_str(), templates, &mut ours),
            (
                "cqrs-es",
                peer,
                vec![Person::nobody().orders()],
                &mut theirs,
            ),
        ] {
            let load = Paced::start(address, CONNECTIONS, rate, &templates, 201).await?;
            let done = orders::paced(load, bench.extent, &bench.stack).await?;
            say(&format!("round {round}: {name}: {}", told(&done.offered)));
            rounds.push(done);
        }
    }
    let sent: u64 = ours.iter().map(|round| round.offered.sent).sum();
    bench.orders += sent;
    Ok((rate, ours, theirs))
}

/// The highest rate that the peer holds, of the shares of its best.
async fn just_held(extent: Extent, stack: &Stack, peer: &str) -> anyhow::Result<f64> {
    let templates = [Person::nobody().orders()];
    let load = Load::start(peer, CLIENTS, &templates, 201).await?;
    let best = orders::measured(load, extent, stack, &mut Memory::new()).await?;
    say(&format!("cqrs-es, {CLIENTS} clients: {:.0}/s", best.rate));
    let mut rate = best.rate;
    for share in SHARES {
        rate = (best.rate * share).max(1.0);
        let load = Paced::start(peer, CONNECTIONS, rate, &templates, 201).await?;
        let PacedRound { offered, .. } = orders::paced(load, extent, stack).await?;
        say(&format!("cqrs-es: {}", told(&offered)));
        if offered.done == offered.due && offered.latencies.percentile_ms(0.5) < HELD_P50_MS {
            break;
        }
    }
    Ok(rate)
}

fn told(offered: &Offered) -> String {
    format!(
        "{:.0}/s due, {:.1} % answered, p50 {:.2} ms, p99 {:.2} ms",
        offered.rate,
        offered.done_share() * 100.0,
        offered.latencies.percentile_ms(0.5),
        offered.latencies.percentile_ms(0.99)
    )
}

fn tables(rate: f64, ours: &[PacedRound], theirs: &[PacedRound]) -> String {
    let p99 = |round: &PacedRound| round.offered.latencies.percentile_ms(0.99);
    let goal = Goal {
        what: "p99 : cqrs-es, at the rate it can just hold".to_owned(),
        bound: Bound::AtMost(1.0 / 3.0),
        measured: ratio(ours, theirs, p99, p99),
    };
    let goal = goals::table("What is to be reached", &[goal]);
    let columns = [
        "way",
        "answered",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "all processes, ms per order",
        "cores idle",
    ];
    let mut table = Table::new("Orders at a fixed rate", &columns);
    for (name, rounds) in [("Orderlog", ours), ("cqrs-es", theirs)] {
        let percentile =
            |share: f64| move |round: &PacedRound| round.offered.latencies.percentile_ms(share);
        let taken = |round: &PacedRound| each_ms(round.taken.all(), round.offered.done);
        table.row([
            name.to_owned(),
            format!(
                "{:.1} %",
                spread(rounds, |round| round.offered.done_share() * 100.0).median
            ),
            ms(spread(rounds, percentile(0.5)).median),
            fine(spread(rounds, percentile(0.99)), 2),
            ms(spread(rounds, percentile(0.999)).median),
            format!("{:.3}", spread(rounds, taken).median),
            format!(
                "{:.0} %",
                spread(rounds, |round| round.taken.idle_share * 100.0).median
            ),
        ]);
    }
    let note = table.note(&format!(
        "{} orders a second over {CONNECTIONS} connections, due at even distances whatever is answered; a latency counts from when \
         the order was due, with the up to 0.3 ms by which it is sent late. The rate is the highest of {SHARES:?} of what `cqrs-es` \
         reaches with {CLIENTS} clients at which all orders are answered, half of them within {HELD_P50_MS:.0} ms.",
        count(rate)
    ));
    format!("{goal}\n{note}")
}
