//! Rebuilding the read models from the log, beside their databases alone.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::{
    bare_databases::{self, Stored},
    bench::{Bench, say},
    filling,
    goals::{self, Bound, Goal, ratio},
    processes::peak_memory,
    read_side::CAUGHT_UP_WITHIN,
    statistics::count,
    table::{Table, fine, spread},
};

const MEMORY_LOOKED_AT_EVERY: Duration = Duration::from_millis(20);
const LAG_LOOKED_AT_EVERY: Duration = Duration::from_secs(1);
/// What a rebuild of this many orders may take.
const MEMORY_MB_MAX: f64 = 300.0;

/// A read model, and what its database does better than it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Model {
    Users,
    Orders,
}

impl Model {
    const fn name(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Orders => "orders",
        }
    }

    /// The database, and what in it is measured beside.
    const fn bare(self) -> (&'static str, &'static str) {
        match self {
            Self::Users => ("PostgreSQL", "COPY of the rows, indexes, renaming"),
            Self::Orders => ("MongoDB", "bulk insert of the documents, indexes"),
        }
    }

    /// What of its rate a rebuild is to reach.
    const fn share(self) -> f64 {
        match self {
            Self::Users => 0.6,
            Self::Orders => 0.5,
        }
    }
}

/// What the rounds at one size came to.
struct Sized {
    model: Model,
    rebuilt: Vec<Rebuilt>,
    bare: Vec<Stored>,
}

/// Measures it as the log grows, with the running read side held still.
pub async fn measure(bench: &mut Bench) -> anyhow::Result<String> {
    let mut all = Vec::new();
    for wanted in bench.extent.orders_in_log {
        filling::fill(bench, *wanted).await?;
        filling::fill_users(bench, *wanted).await?;
        say("the read side follows");
        both_have_caught_up(&bench.binaries).await?;
        let of_both = bench.with_read_side_held(async |bench| {
            Ok([
                sized(bench, Model::Users).await?,
                sized(bench, Model::Orders).await?,
            ])
        });
        all.extend(of_both.await?);
    }
    Ok(format!("{}\n{}", goal_table(&all), table(&all)))
}

async fn sized(bench: &Bench, model: Model) -> anyhow::Result<Sized> {
    let mut sized = Sized {
        model,
        rebuilt: Vec::new(),
        bare: Vec::new(),
    };
    for round in 1..=bench.extent.rounds {
        let rebuilt = rebuild(&bench.binaries, model)?;
        let storage = live_storage(&bench.binaries, model.name())?;
        let bare = match model {
            Model::Users => {
                let url = bench.stack.variable("DATABASE_URL")?;
                bare_databases::copied(&url, &storage).await?
            }
            Model::Orders => {
                let uri = bench.stack.variable("MONGODB_URI")?;
                bare_databases::inserted(&uri, "orderlog", &storage).await?
            }
        };
        say(&format!(
            "round {round}: {} {}: {:.0}/s and {:.0} MB; {:.0}/s by the database alone",
            count(rebuilt.streams),
            model.name(),
            rebuilt.rate(),
            rebuilt.peak_mb,
            bare.rate()
        ));
        sized.rebuilt.push(rebuilt);
        sized.bare.push(bare);
    }
    Ok(sized)
}

fn goal_table(all: &[Sized]) -> String {
    let mut goals = Vec::new();
    for model in [Model::Users, Model::Orders] {
        let Some(largest) = all.iter().rfind(|sized| sized.model == model) else {
            continue;
        };
        let (database, bare) = model.bare();
        goals.push(Goal {
            what: format!("rebuilding {} : {bare} ({database})", model.name()),
            bound: Bound::AtLeast(model.share()),
            measured: ratio(&largest.rebuilt, &largest.bare, Rebuilt::rate, Stored::rate),
        });
        if model == Model::Orders {
            goals.push(Goal {
                what: format!(
                    "memory of rebuilding {} orders, MB",
                    count(spread(&largest.rebuilt, |it| it.streams).median)
                ),
                bound: Bound::AtMost(MEMORY_MB_MAX),
                measured: spread(&largest.rebuilt, |it| it.peak_mb),
            });
        }
    }
    goals::table("What is to be reached", &goals)
}

fn table(all: &[Sized]) -> String {
    let columns = [
        "what",
        "rows or documents",
        "by the database alone, /s",
        "rebuilt, /s",
        "ratio",
        "filling s",
        "indexes s",
        "comparing s",
        "whole s",
        "memory MB",
    ];
    let mut table = Table::new("Read models", &columns);
    for Sized {
        model,
        rebuilt,
        bare,
    } in all
    {
        let seconds = |of: fn(&Rebuilt) -> f64| format!("{:.1}", spread(rebuilt, of).median);
        table.row([
            format!(
                "`projections rebuild {}` ({})",
                model.name(),
                model.bare().0
            ),
            count(spread(rebuilt, |it| it.streams).median),
            spread(bare, Stored::rate).to_string(),
            spread(rebuilt, Rebuilt::rate).to_string(),
            fine(ratio(rebuilt, bare, Rebuilt::rate, Stored::rate), 2),
            seconds(|it| it.filling),
            seconds(|it| it.indexing),
            seconds(|it| it.comparing),
            seconds(|it| it.seconds),
            format!("{:.0}", spread(rebuilt, |it| it.peak_mb).median),
        ]);
    }
    table.note(
        "Rebuilt, rows or documents per second: reading the log, folding, storing, indexes, catching up and swapping; without \
         comparing every stream with the log, which the database alone does not do either. For orders the index of their events is \
         made besides, a document for each event. The database alone is given rows and documents that are ready. The services of the \
         read side are held still meanwhile.",
    )
}

/// What `projections rebuild` said.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Rebuilt {
    /// Rows or documents.
    streams: f64,
    /// Everything, in seconds,
    seconds: f64,
    /// and of that reading, folding and storing,
    filling: f64,
    /// making indexes,
    indexing: f64,
    /// and comparing with the log.
    comparing: f64,
    /// The most memory that it had.
    peak_mb: f64,
}

impl Rebuilt {
    /// Rows or documents per second.
    fn rate(&self) -> f64 {
        self.streams / (self.seconds - self.comparing).max(f64::EPSILON)
    }
}

/// Runs `projections rebuild`. Blocks.
fn rebuild(binaries: &Path, model: Model) -> anyhow::Result<Rebuilt> {
    let (program, model) = (binaries.join("projections"), model.name());
    let mut child = Command::new(&program)
        .args(["rebuild", model])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{} cannot be run", program.display()))?;
    let pid = child.id();
    let watched = std::thread::spawn(move || {
        let mut peak = 0;
        while let Some(now) = peak_memory(pid) {
            peak = now;
            std::thread::sleep(MEMORY_LOOKED_AT_EVERY);
        }
        peak
    });
    // Little is said on standard error: it fits into the pipe.
    let said = child.stdout.take().context("no output")?;
    let said: Vec<String> = BufReader::new(said).lines().collect::<Result<_, _>>()?;
    let mut errors = String::new();
    child
        .stderr
        .take()
        .context("no errors")?
        .read_to_string(&mut errors)?;
    let status = child.wait()?;
    let said = said.join("\n");
    ensure!(
        status.success(),
        "projections rebuild {model} failed: {said}{errors}"
    );
    let peak = watched.join().unwrap_or_default();
    let figures = figures(&said)
        .with_context(|| format!("projections rebuild {model} gave no figures: {said}"))?;
    Ok(Rebuilt {
        peak_mb: peak as f64 / 1e6,
        ..figures
    })
}

/// From lines as `orders: indexes made in 1.5 s` and `orders: 12 events into 5 streams in 1.5 s (800 events/s while
/// filling); …`.
fn figures(said: &str) -> Option<Rebuilt> {
    let seconds = |before: &str| -> Option<f64> {
        let (_, rest) = said.split_once(before)?;
        rest.split_once(" s")?.0.parse().ok()
    };
    let line = said.lines().find(|line| line.contains(" events into "))?;
    let (_, rest) = line.split_once(": ")?;
    let (events, rest) = rest.split_once(" events into ")?;
    let (streams, rest) = rest.split_once(" streams in ")?;
    let (whole, rest) = rest.split_once(" s (")?;
    let (per_s, _) = rest.split_once(" events/s while filling)")?;
    let (events, per_s): (f64, f64) = (events.parse().ok()?, per_s.parse().ok()?);
    Some(Rebuilt {
        streams: streams.parse().ok()?,
        seconds: whole.parse().ok()?,
        filling: events / per_s.max(f64::EPSILON),
        indexing: seconds("indexes made in ")?,
        comparing: seconds("compared with the log in ")?,
        peak_mb: 0.0,
    })
}

/// Waits until both read models have everything that is in the log: what is held still then is in the middle of nothing.
async fn both_have_caught_up(binaries: &Path) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let status = status(binaries)?;
        let lag = [Model::Users, Model::Orders].map(|model| {
            let lag = status.pointer(&format!("/{}/lag", model.name()));
            lag.and_then(Value::as_i64)
        });
        if lag == [Some(0), Some(0)] {
            return Ok(());
        }
        ensure!(
            begun.elapsed() < CAUGHT_UP_WITHIN,
            "the read models are behind: {lag:?}"
        );
        tokio::time::sleep(LAG_LOOKED_AT_EVERY).await;
    }
}

fn status(binaries: &Path) -> anyhow::Result<Value> {
    let status = Command::new(binaries.join("projections"))
        .args(["status", "--json"])
        .output()?;
    Ok(serde_json::from_slice(&status.stdout)?)
}

/// The table or collection that is live.
pub(super) fn live_storage(binaries: &Path, model: &str) -> anyhow::Result<String> {
    let status = status(binaries)?;
    let storage = status.pointer(&format!("/{model}/storage"));
    let storage = storage.and_then(Value::as_str);
    Ok(storage.context("no live generation")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rebuild_says_what_it_did() {
        let said = "orders: filling g2\norders: indexes made in 0.5 s\norders: compared with the log in 0.25 s\n\
            orders: 12 events into 5 streams in 1.5 s (24 events/s while filling); equal to";
        let rebuilt = Rebuilt {
            streams: 5.0,
            seconds: 1.5,
            filling: 0.5,
            indexing: 0.5,
            comparing: 0.25,
            peak_mb: 0.0,
        };
        assert_eq!(figures(said), Some(rebuilt));
        assert!((rebuilt.rate() - 4.0).abs() < f64::EPSILON);
        assert_eq!(figures("orders: indexes made in 0.1 s"), None);
    }
}
