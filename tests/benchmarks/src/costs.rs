//! Processor time in tables: by process, and by the command-api's threads.

use std::collections::BTreeMap;

use crate::{
    orders::{Case, Round},
    processes::{OTHERS, Taken},
    table::{Table, each_ms, spread},
};

/// Threads of the command-api that take less than this of the whole are left out.
const THREAD_SHARE_MIN: f64 = 0.01;

/// What a load took: by process, and by the command-api's threads.
pub fn costs(cases: &[(Case, Vec<Round>)]) -> String {
    let title = "Processor time per order, in milliseconds";
    let by_thread = cases.iter().map(|(case, rounds)| threads(*case, rounds));
    std::iter::once(cost_table(title, &cost_rows(cases), ""))
        .chain(by_thread)
        .collect::<Vec<_>>()
        .join("\n")
}

/// The processes whose part can be seen in some round, the most expensive first.
fn by_cost<'a>(taken: impl Iterator<Item = (&'a Taken, u64)>) -> Vec<String> {
    const WORTH_A_COLUMN_MS: f64 = 0.001;
    let mut cost = BTreeMap::<&str, f64>::new();
    for (taken, done) in taken {
        for (name, time) in &taken.by_process {
            let known = cost.entry(name).or_default();
            *known = known.max(each_ms(*time, done));
        }
    }
    let mut names: Vec<_> = cost
        .into_iter()
        .filter(|(name, ms)| *name != OTHERS && *ms >= WORTH_A_COLUMN_MS)
        .collect();
    names.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    let named = names.into_iter().map(|(name, _)| name.to_owned());
    named.chain([OTHERS.to_owned()]).collect()
}

/// A row of a table of costs: clients, what, and what each round took for how many.
pub type CostRow<'a> = (usize, &'a str, Vec<(&'a Taken, u64)>);

/// Those of loads.
pub fn cost_rows(cases: &[(Case, Vec<Round>)]) -> Vec<CostRow<'_>> {
    cases
        .iter()
        .map(|(case, rounds)| {
            let taken = rounds.iter().map(|round| (&round.taken, round.done));
            (case.clients, case.orders.name(), taken.collect())
        })
        .collect()
}

/// What each process took for one of what was done.
pub fn cost_table(title: &str, rows: &[CostRow<'_>], note: &str) -> String {
    let names = by_cost(
        rows.iter()
            .flat_map(|(_, _, rounds)| rounds.iter().copied()),
    );
    let mut columns = vec!["clients", "orders"];
    columns.extend(names.iter().map(String::as_str));
    columns.push("cores idle");
    let mut table = Table::new(title, &columns);
    for (clients, what, rounds) in rows {
        let mut row = vec![clients.to_string(), (*what).to_owned()];
        row.extend(names.iter().map(|name| {
            let each = |(taken, done): &(&Taken, u64)| {
                let time = taken.by_process.get(name).copied();
                each_ms(time.unwrap_or_default(), *done)
            };
            format!("{:.3}", spread(rounds, each).median)
        }));
        let idle = spread(rounds, |(taken, _)| taken.idle_share).median;
        row.push(format!("{:.0} %", idle * 100.0));
        table.row(row);
    }
    table.note(note)
}

/// What the command-api's threads took.
pub fn threads(case: Case, rounds: &[Round]) -> String {
    let title = format!(
        "The command-api's threads with {} clients, {}",
        case.clients,
        case.orders.name()
    );
    let mut table = Table::new(&title, &["threads", "ms per order", "share"]);
    let mut names = BTreeMap::<&str, f64>::new();
    for round in rounds {
        for (name, time) in &round.taken.by_thread {
            *names.entry(name).or_default() += each_ms(*time, round.done) / rounds.len() as f64;
        }
    }
    let all: f64 = names.values().sum();
    let mut names: Vec<_> = names.into_iter().collect();
    names.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    for (name, ms) in names {
        let share = ms / all.max(f64::MIN_POSITIVE);
        if share >= THREAD_SHARE_MIN {
            table.row([
                format!("`{name}`"),
                format!("{ms:.4}"),
                format!("{:.0} %", share * 100.0),
            ]);
        }
    }
    table.end()
}
