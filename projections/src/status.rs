//! What an operator asks: which generation is live, and how far it is behind the log.

use std::fmt::Write;

use event_log::{KafkaSettings, topics::end_positions};
use serde::Serialize;

use crate::store::ReadModel;

/// The state of one read model.
#[derive(Debug, Serialize)]
pub struct Status {
    model: &'static str,
    /// The live generation's number.
    generation: i32,
    /// The table or collection that holds it.
    storage: String,
    /// The generation begun last; another than the live one during a rebuild or after one that was given up.
    last_generation: i32,
    partitions: Vec<Partition>,
    /// Records that are not applied yet (transaction markers count).
    lag: i64,
}

#[derive(Debug, Serialize)]
struct Partition {
    partition: u16,
    checkpoint: i64,
    end: i64,
    lag: i64,
}

/// Asks the read model and the log.
pub async fn status<M: ReadModel>(model: &M, kafka: &KafkaSettings) -> anyhow::Result<Status> {
    let pointer = model.pointer().await?;
    let checkpoint = model.checkpoint(pointer.live).await?;
    let partitions: Vec<Partition> = end_positions(kafka, M::MODEL.topic())
        .await?
        .into_iter()
        .map(|(partition, end)| {
            let checkpoint = checkpoint.get(&partition).copied().unwrap_or(0);
            Partition {
                partition,
                checkpoint,
                end,
                lag: end.saturating_sub(checkpoint).max(0),
            }
        })
        .collect();
    Ok(Status {
        model: M::MODEL.name(),
        generation: pointer.live.0,
        storage: pointer.live.storage(M::MODEL),
        last_generation: pointer.last.0,
        lag: partitions.iter().map(|partition| partition.lag).sum(),
        partitions,
    })
}

/// The statuses as a table.
pub fn table(statuses: &[Status]) -> String {
    let mut table = String::new();
    for status in statuses {
        // Writing into a string does not fail.
        writeln!(
            table,
            "{}: generation {} ({}), {} behind",
            status.model, status.generation, status.storage, status.lag
        )
        .ok();
        for Partition {
            partition,
            checkpoint,
            end,
            lag,
        } in &status.partitions
        {
            writeln!(table, "  partition {partition:>3}  checkpoint {checkpoint:>10}  end {end:>10}  lag {lag:>8}").ok();
        }
    }
    table
}

/// The statuses as JSON, by model.
pub fn json(statuses: &[Status]) -> serde_json::Result<String> {
    let by_model: std::collections::BTreeMap<_, _> = statuses
        .iter()
        .map(|status| (status.model, status))
        .collect();
    serde_json::to_string_pretty(&by_model)
}
