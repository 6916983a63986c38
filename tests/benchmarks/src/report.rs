//! The tables, and putting them into the document.

use std::{collections::BTreeMap, fmt::Write, fs, path::Path, time::Duration};

use anyhow::{Context, ensure};

use crate::{
    bench::Results,
    gateway,
    orders::{Bare, Case, Orders, Round},
    processes::{OTHERS, Taken},
    producer::VALUE_BYTES,
    statistics::{Spread, count},
    traces,
};

const BEGIN: &str = "<!-- tables: begin, written by scripts/bench -->";
const END: &str = "<!-- tables: end -->";
/// Threads of the command-api that take less than this of the whole are left out.
const THREAD_SHARE_MIN: f64 = 0.01;

/// All tables as Markdown.
pub fn tables(results: &Results) -> String {
    let parts = [
        machine(results),
        commands(results),
        processor_time(results),
        traces::table(&results.traced),
        together(results),
        gateway::table(&results.compared),
        single(results),
        replay(results),
        read_models(results),
        memory(results),
    ];
    parts.join("\n")
}

/// What a load took: by process, and by the command-api's threads.
pub fn costs(cases: &[(Case, Vec<Round>)]) -> String {
    let title = "Processor time per order, in milliseconds";
    let by_thread = cases.iter().map(|(case, rounds)| threads(*case, rounds));
    std::iter::once(cost_table(title, &cost_rows(cases), ""))
        .chain(by_thread)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Replaces what stands between the markers in `document`.
pub fn write(document: &Path, tables: &str) -> anyhow::Result<()> {
    let text = fs::read_to_string(document)
        .with_context(|| format!("{} cannot be read", document.display()))?;
    fs::write(document, replaced(&text, tables)?)
        .with_context(|| format!("{} cannot be written", document.display()))
}

fn replaced(text: &str, tables: &str) -> anyhow::Result<String> {
    let (before, rest) = text
        .split_once(BEGIN)
        .context("the document has no place for the tables")?;
    let (_, after) = rest
        .split_once(END)
        .context("the place for the tables has no end")?;
    ensure!(
        !tables.contains(END),
        "the tables contain the marker that ends them"
    );
    Ok(format!("{before}{BEGIN}\n\n{tables}\n{END}{after}"))
}

/// A table: its head, and rows that are added.
struct Table(String);

impl Table {
    fn new(title: &str, columns: &[&str]) -> Self {
        let mut table = Self(format!("### {title}\n\n"));
        table.row(columns.iter().map(|column| (*column).to_owned()));
        // The first column says what, the others are figures.
        table.row(columns.iter().enumerate().map(|(index, _)| match index {
            0 => "---".to_owned(),
            _ => "---:".to_owned(),
        }));
        table
    }

    fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<String> = cells.into_iter().collect();
        // Writing into a string does not fail.
        writeln!(self.0, "| {} |", cells.join(" | ")).ok();
    }

    fn note(mut self, text: &str) -> String {
        writeln!(self.0, "\n{text}").ok();
        self.0
    }
}

fn machine(results: &Results) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib: f64 = info
        .lines()
        .find_map(|line| {
            line.strip_prefix("MemTotal:")?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
        .unwrap_or(0.0);
    let versions: Vec<String> = results
        .versions
        .iter()
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    format!(
        "{cores} cores and {:.0} GB of memory for everything: Kafka, registry, databases, services and load generator. \
         {}; release build; one broker, {} partitions per topic. \
         Medians of {} rounds of {} s, lowest and highest in brackets.\n",
        kib / 1024.0 / 1024.0,
        versions.join(", "),
        results.partitions,
        results.extent.rounds,
        results.extent.measured_for.as_secs(),
    )
}

fn spread<T>(rounds: &[T], value: impl Fn(&T) -> f64) -> Spread {
    Spread::of(rounds.iter().map(value))
}

fn commands(results: &Results) -> String {
    let all = format!("bare, {} writers", results.partitions);
    let columns = [
        "clients",
        "orders",
        "orders/s",
        "p50 ms",
        "p99 ms",
        "bare, 1 writer: messages/s",
        "p50 ms",
        "p99 ms",
        "orders : bare",
        &all,
    ];
    let mut table = Table::new("Orders per second, acknowledged after the commit", &columns);
    let none = Vec::new();
    for (case, rounds) in &results.commands {
        let bare = results.bare.get(&case.clients).unwrap_or(&none);
        table.row(command_row(*case, rounds, bare));
    }
    table.note(&format!(
        "`POST /orders` with three lines, over kept connections, each client sends the next order when the last is \
         answered; projections and notifier are held still. *Bare*: a transactional producer in the same run, {VALUE_BYTES}-byte \
         values, each transaction as large as the number of clients (with {} writers they share the clients). A record of \
         ours, with its headers and key, has {} bytes.",
        results.partitions,
        count(results.weighed.bytes as f64 / (results.weighed.events.max(1)) as f64),
    ))
}

fn command_row(case: Case, rounds: &[Round], bare: &[Bare]) -> Vec<String> {
    let rate = spread(rounds, |round| round.rate);
    let one = spread(bare, |bare| bare.one.rate());
    let all: Vec<f64> = bare
        .iter()
        .filter_map(|bare| bare.all.as_ref().map(|all| all.rate()))
        .collect();
    vec![
        case.clients.to_string(),
        case.orders.name().to_owned(),
        rate.to_string(),
        ms(spread(rounds, |round| round.p50_ms).median),
        ms(spread(rounds, |round| round.p99_ms).median),
        one.to_string(),
        ms(spread(bare, |bare| bare.one.latencies.percentile_ms(0.5)).median),
        ms(spread(bare, |bare| bare.one.latencies.percentile_ms(0.99)).median),
        format!("{:.2}", rate.median / one.median.max(1.0)),
        match all.is_empty() {
            true => "–".to_owned(),
            false => Spread::of(all).to_string(),
        },
    ]
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
type CostRow<'a> = (usize, &'a str, Vec<(&'a Taken, u64)>);

fn cost_rows(cases: &[(Case, Vec<Round>)]) -> Vec<CostRow<'_>> {
    cases
        .iter()
        .map(|(case, rounds)| {
            let taken = rounds.iter().map(|round| (&round.taken, round.done));
            (case.clients, case.orders.name(), taken.collect())
        })
        .collect()
}

fn cost_table(title: &str, rows: &[CostRow<'_>], note: &str) -> String {
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

fn processor_time(results: &Results) -> String {
    let mut rows = cost_rows(&results.commands);
    rows.extend(results.bare.iter().map(|(clients, rounds)| {
        let taken = rounds.iter().map(|bare| (&bare.taken, bare.one.messages));
        (*clients, "bare messages, 1 writer", taken.collect())
    }));
    let mut text = cost_table(
        "Processor time per order, in milliseconds",
        &rows,
        &format!(
            "*Others* is what else ran on the machine, with the kernel's own work. The load generator alone, on a server that \
             does nothing, reaches {} requests/s and takes {:.4} ms for each.",
            count(results.echo.0),
            results.echo.1.as_secs_f64() * 1_000.0
        ),
    );
    let largest = results
        .commands
        .iter()
        .filter(|(case, _)| case.orders == Orders::Plain)
        .max_by_key(|(case, _)| case.clients);
    if let Some((case, rounds)) = largest {
        text.push('\n');
        text.push_str(&threads(*case, rounds));
    }
    text
}

fn threads(case: Case, rounds: &[Round]) -> String {
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
    table.0
}

fn together(results: &Results) -> String {
    let mut table = Table::new(
        "The same with everything at work",
        &["clients", "orders/s", "p50 ms", "p99 ms"],
    );
    for (case, rounds) in &results.together {
        table.row([
            case.clients.to_string(),
            spread(rounds, |round| round.rate).to_string(),
            ms(spread(rounds, |round| round.p50_ms).median),
            ms(spread(rounds, |round| round.p99_ms).median),
        ]);
    }
    let text = table.note(
        "Projections fold the orders into MongoDB and the notifier reads them on the same cores; the customers have turned \
         their mails off.",
    );
    let cost = cost_table(
        "Processor time per order with everything at work, in milliseconds",
        &cost_rows(&results.together),
        "The read side may be behind at the end of each round: its time is for what it got done, not for what was written.",
    );
    format!("{text}\n{cost}")
}

fn single(results: &Results) -> String {
    let mut table = Table::new("One order at a time", &["what", "p50 ms", "p99 ms"]);
    for (what, latencies) in [
        ("order sent → answered", &results.alone.answered),
        (
            "answered → shown by a query with its Consistency-Token",
            &results.alone.visible,
        ),
    ] {
        table.row([
            what.to_owned(),
            ms(latencies.percentile_ms(0.5)),
            ms(latencies.percentile_ms(0.99)),
        ]);
    }
    let bare = results.bare.get(&1).map_or(&[][..], Vec::as_slice);
    table.row([
        "one bare transaction".to_owned(),
        ms(spread(bare, |bare| bare.one.latencies.percentile_ms(0.5)).median),
        ms(spread(bare, |bare| bare.one.latencies.percentile_ms(0.99)).median),
    ]);
    table.note(&format!(
        "Over {} orders, everything at work.",
        results.extent.orders_looked_for
    ))
}

fn replay(results: &Results) -> String {
    let mut table = Table::new("Replay", &["what", "events/s", "ratio"]);
    let counted = spread(&results.counted, crate::replay::Read::rate);
    let feed = spread(&results.feed, crate::replay::Read::rate);
    table.row([
        "a bare consumer that counts".to_owned(),
        counted.to_string(),
        "1".to_owned(),
    ]);
    table.row([
        "consumed and decoded, as every service does it".to_owned(),
        feed.to_string(),
        format!("{:.2}", feed.median / counted.median.max(1.0)),
    ]);
    table.note(&format!(
        "The topic `orders` from its beginning to its end: {} events, {} MB.",
        count(results.weighed.events as f64),
        count(results.weighed.bytes as f64 / 1e6)
    ))
}

fn read_models(results: &Results) -> String {
    let mut table = Table::new(
        "Read models",
        &[
            "what",
            "events",
            "rows or documents",
            "events/s",
            "whole time s",
        ],
    );
    for (model, rounds) in &results.rebuilt {
        let database = match *model {
            "users" => "PostgreSQL",
            _ => "MongoDB",
        };
        table.row([
            format!("`projections rebuild {model}` ({database})"),
            count(spread(rounds, |rebuilt| rebuilt.events).median),
            count(spread(rounds, |rebuilt| rebuilt.streams).median),
            spread(rounds, |rebuilt| rebuilt.filling).to_string(),
            format!("{:.1}", spread(rounds, |rebuilt| rebuilt.seconds).median),
        ]);
    }
    let (events, took) = results.followed;
    table.row([
        "the running projection of orders, on what waited (MongoDB)".to_owned(),
        count(events as f64),
        count(events as f64),
        count(events as f64 / took.as_secs_f64().max(0.001)),
        format!("{:.1}", took.as_secs_f64()),
    ]);
    let (users, took) = results.registered;
    table.note(&format!(
        "Events/s of a rebuild is the filling; its whole time has the indexes and the comparison of every stream with the \
         log in it. Registering the {} users took {:.1} s ({} a second, at the local stack's cheap bcrypt cost).",
        count(users as f64),
        took.as_secs_f64(),
        count(users as f64 / took.as_secs_f64())
    ))
}

fn memory(results: &Results) -> String {
    let names: Vec<&String> = results
        .memory
        .first()
        .map(|(_, memory)| memory.keys().collect())
        .unwrap_or_default();
    let columns: Vec<&str> = std::iter::once("when")
        .chain(names.iter().map(|name| name.as_str()))
        .collect();
    let mut table = Table::new("Resident memory in MB, and what idling costs", &columns);
    for (when, memory) in &results.memory {
        let figures = names.iter().map(|name| {
            let bytes = memory.get(*name).copied().unwrap_or(0);
            count(bytes as f64 / 1e6)
        });
        table.row(std::iter::once(when.clone()).chain(figures));
    }
    let (taken, lasted) = &results.idle;
    let shares = names.iter().map(|name| {
        let time = taken.by_process.get(*name).copied().unwrap_or_default();
        let share = time.as_secs_f64() / lasted.as_secs_f64().max(0.001);
        format!("{:.1} %", share * 100.0)
    });
    let label = "processor time while idle, of one core".to_owned();
    table.row(std::iter::once(label).chain(shares));
    table.note("PostgreSQL's figure counts pages that its processes share once for each of them.")
}

fn each_ms(time: Duration, done: u64) -> f64 {
    time.as_secs_f64() * 1_000.0 / done.max(1) as f64
}

fn ms(value: f64) -> String {
    match value {
        small if small < 10.0 => format!("{small:.2}"),
        large => format!("{large:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_markers_is_replaced() {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let new = replaced(&text, "new\n").unwrap();
        assert_eq!(new, format!("before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"));
        assert_eq!(replaced(&new, "new\n").unwrap(), new);
        assert!(replaced("no markers", "new").is_err());
    }

    #[test]
    fn a_table_has_a_line_below_its_head() {
        let mut table = Table::new("T", &["what", "a"]);
        table.row(["x".to_owned(), "1".to_owned()]);
        assert_eq!(
            table.0,
            "### T\n\n| what | a |\n| --- | ---: |\n| x | 1 |\n"
        );
    }
}
