//! `projections skip`: a record that can never be applied is set aside, so that its partition goes on. Only that at which the
//! partition stands, and only after it was tried: nothing is skipped that could be applied.

use anyhow::bail;
use event_log::{record::Place, topics::end_positions};
use time::OffsetDateTime;

use crate::{
    aside::{Gap, SetAside, id_of},
    fold::{Halt, State},
    halts::halts,
    model::Generation,
    source::Log,
    store::ReadModel,
};

/// Who sets a record aside, and why.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The operator's name.
    pub operator: String,
    /// In words.
    pub reason: String,
}

/// Sets the record at `place` aside; says what was wrong with it.
pub async fn skip<M: ReadModel>(
    model: &M,
    log: &Log,
    place: Place,
    decision: Decision,
) -> anyhow::Result<SetAside> {
    let Place {
        partition, offset, ..
    } = place;
    let before = model.all_set_aside().await?;
    if let Some(known) = before.iter().find(|each| each.is_at(partition, offset)) {
        bail!(
            "{place} was set aside already, by {} at {}: {}",
            known.operator,
            known.at,
            known.reason
        );
    }
    let ends = end_positions(&log.kafka, M::MODEL.topic()).await?;
    let Some(end) = ends.get(&partition) else {
        bail!(
            "there is no partition {partition}: they are 0 to {}",
            ends.len() - 1
        );
    };
    if offset >= *end {
        bail!("the log ends at {end} there");
    }
    let generation = model.live().await?;
    let checkpoint = model.checkpoint(generation).await?;
    let stands = (&checkpoint, &ends);
    let halts = halts(model, log, generation, stands, |it| it == partition).await?;
    let Some(halt) = halts.first() else {
        bail!(
            "{} {generation} has not stopped in partition {partition}: there is nothing to set aside",
            M::MODEL
        );
    };
    if halt.offset != offset {
        bail!(
            "{} {generation} has stopped at offset {} of partition {partition}, not at {offset}: {}",
            M::MODEL,
            halt.offset,
            halt.reason
        );
    }
    let record = SetAside {
        partition,
        offset,
        gap: gap(model, generation, halt, &before).await?,
        error: halt.reason.clone(),
        reason: decision.reason,
        operator: decision.operator,
        at: OffsetDateTime::now_utc(),
    };
    // Somebody may know better meanwhile: a newer program, or one that has found the schema.
    let now = model.checkpoint(generation).await?;
    if now.get(&partition) > Some(&offset) {
        bail!("{place} has just been applied: there is nothing to set aside");
    }
    if !model.set_aside(&record).await? {
        bail!("{place} was set aside by somebody else just now");
    }
    Ok(record)
}

/// What the stream of a halt's record lacks from now on.
async fn gap<M: ReadModel>(
    model: &M,
    generation: Generation,
    halt: &Halt,
    before: &[SetAside],
) -> anyhow::Result<Option<Gap>> {
    let Some((stream, id)) = halt
        .stream
        .and_then(|stream| Some((stream, id_of(stream)?)))
    else {
        return Ok(None);
    };
    let stored = model.states(generation, &[stream]).await?;
    let after = stored.get(&stream).map_or(0, State::version);
    // What cannot be read is taken for the version that is to come, behind what was set aside before.
    let gaps = before.iter().filter_map(|record| record.gap);
    let same = gaps.filter(|gap| (gap.stream, gap.after) == (id, after));
    let last = same.map(|gap| gap.version).max().unwrap_or(after);
    let version = halt.version.unwrap_or(last + 1);
    // More than any stream has: a stranger's, which nothing follows.
    let is_possible = i64::try_from(version).is_ok();
    Ok(is_possible.then_some(Gap {
        stream: id,
        after,
        version,
    }))
}

/// A record that was set aside, as text for people.
pub fn text(topic: &str, record: &SetAside) -> String {
    let SetAside {
        partition,
        offset,
        gap,
        error,
        reason,
        operator,
        at,
    } = record;
    let gap = gap.map(|gap| format!(" (version {} of {})", gap.version, gap.stream));
    format!(
        "{topic}/{partition}@{offset}{}: {error}\n  set aside by {operator} at {at}: {reason}",
        gap.unwrap_or_default()
    )
}
