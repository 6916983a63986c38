//! The read models: when they show what was written, how fast they follow, how fast they are rebuilt.

use std::{
    collections::BTreeMap,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use uuid::Uuid;

use crate::{http::Connection, people::Person, statistics::Latencies};

/// How long the read side may take for everything that was written.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(1_800);
const NOT_YET_CONSISTENT: u16 = 503;

/// Single orders, one after another.
#[derive(Debug)]
pub struct Alone {
    /// From sending an order to its answer.
    pub answered: Latencies,
    /// From there to a query's answer that shows it.
    pub visible: Latencies,
}

/// Creates `count` orders one after another and asks for each at once, with its consistency token.
pub async fn visible(
    command: &str,
    query: &str,
    person: &Person,
    count: usize,
) -> anyhow::Result<Alone> {
    let mut command = Connection::open(command).await?;
    let mut query = Connection::open(query).await?;
    let (mut answered, mut visible) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let begun = Instant::now();
        let (id, token) = create(&mut command, &person.order()).await?;
        answered.push(u32::try_from(begun.elapsed().as_micros())?);
        let begun = Instant::now();
        query
            .exchange(&person.look_for(&id, &token))
            .await?
            .json(200)?;
        visible.push(u32::try_from(begun.elapsed().as_micros())?);
    }
    Ok(Alone {
        answered: Latencies::of(answered),
        visible: Latencies::of(visible),
    })
}

/// Waits until the read model of orders shows everything that was written before.
pub async fn caught_up(
    command: &str,
    query: &str,
    person: &Person,
    partitions: u16,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut command = Connection::open(command).await?;
    let mut query = Connection::open(query).await?;
    // One order behind the end of each partition.
    let mut last = BTreeMap::new();
    while last.len() < usize::from(partitions) {
        // Orders without a key would not fall on every partition.
        let request = person.order_with_key(&Uuid::now_v7().to_string());
        let (id, token) = create(&mut command, &request).await?;
        let (partition, _offset) = token
            .rsplit_once(|c: char| !c.is_ascii_alphanumeric())
            .context("a consistency token of an unknown shape")?;
        last.insert(partition.to_owned(), (id, token));
    }
    for (id, token) in last.values() {
        loop {
            let answer = query.exchange(&person.look_for(id, token)).await?;
            match answer.status {
                200 => break,
                NOT_YET_CONSISTENT if begun.elapsed() < CAUGHT_UP_WITHIN => {}
                status => bail!(
                    "the read model has not caught up: {status} {}",
                    String::from_utf8_lossy(answer.body)
                ),
            }
        }
    }
    Ok(())
}

async fn create(command: &mut Connection, order: &[u8]) -> anyhow::Result<(String, String)> {
    let answer = command.exchange(order).await?;
    let token = answer.header("consistency-token").unwrap_or_default();
    let token = token.to_owned();
    let order = answer.json(201)?;
    Ok((order["id"].as_str().context("no id")?.to_owned(), token))
}

/// What `projections rebuild` said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rebuilt {
    /// Events read.
    pub events: f64,
    /// Rows or documents.
    pub streams: f64,
    /// Events per second while filling.
    pub filling: f64,
    /// Everything in seconds: filling, indexes, comparing with the log, swapping.
    pub seconds: f64,
}

/// Runs `projections rebuild`. Blocks.
pub fn rebuild(binaries: &Path, model: &str) -> anyhow::Result<Rebuilt> {
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
