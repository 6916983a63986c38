//! Rebuilding the read models from the log.

use std::{path::Path, process::Command};

use anyhow::{Context, ensure};

use crate::{
    bench::{Bench, say},
    filling,
    statistics::count,
    table::{Table, spread},
};

/// The models, and where they are.
const MODELS: [(&str, &str); 2] = [("users", "PostgreSQL"), ("orders", "MongoDB")];

/// Measures it, on as many orders as the log is to have.
pub async fn measure(bench: &mut Bench) -> anyhow::Result<String> {
    let wanted = bench.extent.orders_in_log.iter().copied().max();
    bench.register().await?;
    filling::fill(bench, wanted.unwrap_or_default()).await?;
    say("the read side follows");
    bench.caught_up().await?;
    let columns = [
        "what",
        "events",
        "rows or documents",
        "events/s",
        "whole time s",
    ];
    let mut table = Table::new("Read models", &columns);
    for (model, database) in MODELS {
        let mut rounds = Vec::new();
        for round in 1..=bench.extent.rounds {
            say(&format!("round {round}: rebuilding {model}"));
            rounds.push(rebuild(&bench.binaries, model)?);
        }
        table.row([
            format!("`projections rebuild {model}` ({database})"),
            count(spread(&rounds, |rebuilt| rebuilt.events).median),
            count(spread(&rounds, |rebuilt| rebuilt.streams).median),
            spread(&rounds, |rebuilt| rebuilt.filling).to_string(),
            format!("{:.1}", spread(&rounds, |rebuilt| rebuilt.seconds).median),
        ]);
    }
    Ok(table.note(
        "Events/s of a rebuild is the filling; its whole time has the indexes and the comparison of every stream with the \
         log in it.",
    ))
}

/// What `projections rebuild` said.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rebuilt {
    /// Events read.
    events: f64,
    /// Rows or documents.
    streams: f64,
    /// Events per second while filling.
    filling: f64,
    /// Everything in seconds: filling, indexes, comparing with the log, swapping.
    seconds: f64,
}

/// Runs `projections rebuild`. Blocks.
fn rebuild(binaries: &Path, model: &str) -> anyhow::Result<Rebuilt> {
    let program = binaries.join("projections");
    let output = Command::new(&program)
        .args(["rebuild", model])
        .output()
        .with_context(|| format!("{} cannot be run", program.display()))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "projections rebuild {model} failed: {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    said.lines()
        .find_map(figures)
        .with_context(|| format!("projections rebuild {model} gave no figures: {said}"))
}

/// `orders: 12 events into 5 streams in 1.5 s (800 events/s while filling); …`
fn figures(line: &str) -> Option<Rebuilt> {
    let (_, rest) = line.split_once(": ")?;
    let (events, rest) = rest.split_once(" events into ")?;
    let (streams, rest) = rest.split_once(" streams in ")?;
    let (seconds, rest) = rest.split_once(" s (")?;
    let (filling, _) = rest.split_once(" events/s while filling)")?;
    Some(Rebuilt {
        events: events.parse().ok()?,
        streams: streams.parse().ok()?,
        filling: filling.parse().ok()?,
        seconds: seconds.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rebuild_says_what_it_did() {
        let line =
            "orders: 12 events into 5 streams in 1.5 s (800 events/s while filling); equal to";
        let rebuilt = Rebuilt {
            events: 12.0,
            streams: 5.0,
            filling: 800.0,
            seconds: 1.5,
        };
        assert_eq!(figures(line), Some(rebuilt));
        assert_eq!(figures("orders: indexes made in 0.1 s"), None);
    }
}
