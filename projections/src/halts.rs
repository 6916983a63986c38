//! Why a partition does not go on, found out anew: the record at its checkpoint is read and tried on what is stored. So it can
//! be told whether or not a service is running.

use std::{collections::BTreeSet, time::Duration};

use anyhow::Context;
use event_log::record::Unreadable;

use crate::{
    fold::{Halt, Round, continued, fold},
    model::{Generation, Positions},
    source::{Extent, Gathered, Log, Source},
    store::{EventOf, ReadModel},
};

/// How long reading one record of each partition may take.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// The halts among these partitions of a generation, which stand at `checkpoint` while the log goes on to `ends`.
pub async fn halts<M: ReadModel>(
    model: &M,
    log: &Log,
    generation: Generation,
    (checkpoint, ends): (&Positions, &Positions),
    among: impl Fn(u16) -> bool,
) -> anyhow::Result<Vec<Halt>> {
    let at = |partition: &u16| checkpoint.get(partition).copied().unwrap_or(0);
    let end = |partition: &u16| ends.get(partition).copied().unwrap_or(0);
    let mut awaited: BTreeSet<u16> = ends
        .iter()
        .filter(|(partition, end)| among(**partition) && at(partition) < **end)
        .map(|(partition, _)| *partition)
        .collect();
    if awaited.is_empty() {
        return Ok(Vec::new());
    }
    // Those that are not behind begin at their ends.
    let mut from = ends.clone();
    from.extend(awaited.iter().map(|partition| (*partition, at(partition))));
    let (topic, aside) = (M::MODEL.topic(), model.aside().await?);
    let mut source: Source<EventOf<M>> =
        Source::open(log, topic, from, Extent::Tail, aside).await?;
    let mut first: Round<EventOf<M>> = Round::new();
    let mut halts = Vec::new();
    let reading = async {
        while !awaited.is_empty() {
            let Gathered {
                round, undecodable, ..
            } = source.gather().await?;
            for (partition, mut part) in round {
                let is_step = part.facts.is_empty() && part.to < end(&partition);
                if is_step || !awaited.remove(&partition) {
                    continue;
                }
                part.facts.truncate(1);
                if let Some(fact) = part.facts.first() {
                    part.to = fact.offset + 1;
                }
                first.insert(partition, part);
            }
            for unreadable in undecodable {
                let partition = unreadable.place.partition;
                if awaited.remove(&partition) {
                    if let Unreadable::RegistryAway(reason) = &unreadable.reason {
                        anyhow::bail!("the schema registry: {reason}");
                    }
                    halts.push(Halt::from(unreadable));
                }
            }
        }
        Ok(())
    };
    tokio::time::timeout(READ_WITHIN, reading)
        .await
        .with_context(|| format!("the log was not read within {} s", READ_WITHIN.as_secs()))??;
    let stored = model
        .states(generation, &continued::<M::State>(&first))
        .await?;
    halts.extend(fold(stored, &first).halts);
    halts.sort_unstable_by_key(|halt| halt.partition);
    Ok(halts)
}
