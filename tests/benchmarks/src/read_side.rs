//! The read models: when they show what was written.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use uuid::Uuid;

use crate::{http::Connection, people::Person, statistics::Latencies};

/// How long the read side may take for everything that was written.
pub const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(1_800);
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
