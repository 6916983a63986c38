//! The tables of the section on orders.

use super::orders::Results;
use crate::{
    costs::{cost_rows, cost_table, threads},
    orders::{Bare, Case, Orders, Round},
    producer::VALUE_BYTES,
    statistics::{Spread, count},
    table::{Table, ms, spread},
};

/// All tables as Markdown.
pub fn tables(results: &Results) -> String {
    let parts = [
        commands(results),
        processor_time(results),
        together(results),
        single(results),
        memory(results),
    ];
    parts.join("\n")
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
    let (events, took) = results.followed;
    let (users, registering) = results.registered;
    table.note(&format!(
        "Over {} orders, everything at work. The projection of orders folded the {} orders that had waited while it was held \
         still in {:.1} s, {} a second. Registering {} users took {:.1} s, {} a second, at the local stack's cheap bcrypt cost.",
        results.extent.orders_looked_for,
        count(events as f64),
        took.as_secs_f64(),
        count(events as f64 / took.as_secs_f64().max(0.001)),
        count(users as f64),
        registering.as_secs_f64(),
        count(users as f64 / registering.as_secs_f64().max(0.001)),
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
