//! Whether a read model says what the log says: an independent fold of the log, compared stream by stream.
//! In memory are hashes, not contents.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, bail};
use event_log::topics::end_positions;
use events::ids::StreamId;

use crate::{
    digest::{Digest, Hasher},
    fold::{Digested, Fact, State, step},
    model::{Generation, Positions, has_reached},
    source::{Gathered, Log, Source},
    store::{EventOf, ReadModel},
};

/// Differences that are described; more are counted.
const DIFFERENCES_SHOWN_MAX: usize = 10;

/// What a comparison found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Events folded.
    pub events: u64,
    /// Streams compared.
    pub streams: usize,
    /// How many streams differ.
    pub different: usize,
    /// The first of them, in words.
    pub differences: Vec<String>,
    /// Hash of everything the read model says.
    pub content: Digest,
}

impl Report {
    /// Whether the read model says what the log says.
    pub fn is_equal(&self) -> bool {
        self.different == 0
    }

    fn differs(&mut self, description: impl FnOnce() -> String) {
        self.different += 1;
        if self.differences.len() < DIFFERENCES_SHOWN_MAX {
            self.differences.push(description());
        }
    }
}

/// Compares a generation with the log. The generation may be followed meanwhile: what it is ahead of its
/// checkpoint is compared with the log beyond it.
pub async fn verify<M: ReadModel>(
    model: &M,
    log: &Log,
    generation: Generation,
) -> anyhow::Result<Report> {
    let checkpoint = model.checkpoint(generation).await?;
    let (mut expected, mut events) = fold_log::<M>(log, &checkpoint).await?;
    let mut stored = HashMap::new();
    model
        .scan(generation, |state| {
            drop(stored.insert(state.stream(), state))
        })
        .await?;
    let mut report = Report {
        events: 0,
        streams: stored.len(),
        different: 0,
        differences: Vec::new(),
        content: content_of(&stored),
    };
    let ahead = compare::<M>(&mut report, &mut expected, stored);
    if !ahead.is_empty() {
        events += compare_ahead::<M>(&mut report, log, checkpoint, expected, ahead).await?;
    }
    report.events = events;
    Ok(report)
}

/// One hash over all streams, in the order of their ids.
pub fn content_of<D: Digested>(states: &HashMap<StreamId, D>) -> Digest {
    let ordered: BTreeMap<&StreamId, Digest> = states
        .iter()
        .map(|(stream, state)| (stream, state.digest()))
        .collect();
    ordered
        .into_values()
        .fold(Hasher::default(), Hasher::bytes)
        .finish()
}

/// The states that the log says the streams have at `until`, and how many events that took.
async fn fold_log<M: ReadModel>(
    log: &Log,
    until: &Positions,
) -> anyhow::Result<(HashMap<StreamId, M::Digest>, u64)> {
    let mut states = HashMap::new();
    let mut events = 0;
    let mut source: Source<EventOf<M>> =
        Source::open(log, M::MODEL.topic(), Positions::new()).await?;
    while !has_reached(source.reached(), until) {
        let Gathered {
            round, undecodable, ..
        } = source.gather().await?;
        for (partition, part) in &round {
            let end = until.get(partition).copied().unwrap_or(0);
            for fact in part.facts.iter().filter(|fact| fact.offset < end) {
                events += 1;
                fold_one::<M>(&mut states, *partition, fact)?;
            }
        }
        for (place, reason) in undecodable {
            if place.offset < until.get(&place.partition).copied().unwrap_or(0) {
                bail!("the record at {place} cannot be read: {reason}");
            }
        }
    }
    Ok((states, events))
}

fn fold_one<M: ReadModel>(
    states: &mut HashMap<StreamId, M::Digest>,
    partition: u16,
    fact: &Fact<EventOf<M>>,
) -> anyhow::Result<()> {
    step(states, fact).with_context(|| {
        format!(
            "the log itself does not fold at {}/{partition}@{}",
            M::MODEL.topic().name(),
            fact.offset
        )
    })
}

/// Compares what can be compared; returns the stored states that are newer than the expected ones, which are
/// left in `expected`.
fn compare<M: ReadModel>(
    report: &mut Report,
    expected: &mut HashMap<StreamId, M::Digest>,
    stored: HashMap<StreamId, M::Digest>,
) -> HashMap<StreamId, M::Digest> {
    let mut missing: Vec<StreamId> = expected
        .keys()
        .filter(|stream| !stored.contains_key(stream))
        .copied()
        .collect();
    missing.sort_unstable();
    for stream in missing {
        expected.remove(&stream);
        report.differs(|| format!("{stream}: in the log, not in the read model"));
    }
    let mut ordered: Vec<_> = stored.into_iter().collect();
    ordered.sort_unstable_by_key(|(stream, _)| *stream);
    let mut ahead = HashMap::new();
    for (stream, state) in ordered {
        match expected.get(&stream) {
            Some(wanted) if wanted.version() >= state.version() => {
                compare_one(report, stream, wanted, &state);
                expected.remove(&stream);
            }
            Some(_) | None => drop(ahead.insert(stream, state)),
        }
    }
    expected.retain(|stream, _| ahead.contains_key(stream));
    ahead
}

fn compare_one<D: Digested>(report: &mut Report, stream: StreamId, wanted: &D, stored: &D) {
    let fields = wanted.differing_fields(stored);
    if !fields.is_empty() {
        let (log, model) = (wanted.version(), stored.version());
        report.differs(|| {
            format!(
                "{stream}: differs in {} (version {log} by the log, {model} in the read model)",
                fields.join(", ")
            )
        });
    }
}

/// Folds on from `checkpoint` until every state that is ahead of it has been met at its own version.
async fn compare_ahead<M: ReadModel>(
    report: &mut Report,
    log: &Log,
    checkpoint: Positions,
    mut states: HashMap<StreamId, M::Digest>,
    mut ahead: HashMap<StreamId, M::Digest>,
) -> anyhow::Result<u64> {
    let ends = end_positions(&log.kafka, M::MODEL.topic()).await?;
    let mut events = 0;
    let mut source: Source<EventOf<M>> = Source::open(log, M::MODEL.topic(), checkpoint).await?;
    while !ahead.is_empty() && !has_reached(source.reached(), &ends) {
        let Gathered {
            round, undecodable, ..
        } = source.gather().await?;
        for (partition, part) in &round {
            for fact in &part.facts {
                let stream = <M::Digest as State>::stream_of(&fact.event);
                let Some(stored) = ahead.get(&stream) else {
                    continue;
                };
                events += 1;
                fold_one::<M>(&mut states, *partition, fact)?;
                if let Some(wanted) = states
                    .get(&stream)
                    .filter(|wanted| wanted.version() == stored.version())
                {
                    compare_one(report, stream, wanted, stored);
                    ahead.remove(&stream);
                }
            }
        }
        if let Some((place, reason)) = undecodable.into_iter().next() {
            bail!("the record at {place} cannot be read: {reason}");
        }
    }
    let mut unknown: Vec<_> = ahead.into_iter().collect();
    unknown.sort_unstable_by_key(|(stream, _)| *stream);
    for (stream, state) in unknown {
        report.differs(|| {
            format!(
                "{stream}: version {} is in the read model, not in the log",
                state.version()
            )
        });
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fold::{Folded, fold},
        orders::{fold::Order, store::OrderStore},
        samples::{cancelled, created, order, round, updated, user},
    };

    type Digests = HashMap<StreamId, Order<Digest>>;

    fn digests(events: Vec<(u64, events::OrderEvent)>) -> Digests {
        let folded: Folded<Order<Digest>> = fold(HashMap::new(), &round(0, 0, events));
        folded
            .states
            .into_iter()
            .map(|state| (state.stream(), state))
            .collect()
    }

    fn compared(mut expected: Digests, stored: Digests) -> (Report, Digests) {
        let content = content_of(&stored);
        let mut report = Report {
            events: 0,
            streams: stored.len(),
            different: 0,
            differences: Vec::new(),
            content,
        };
        let ahead = compare::<OrderStore>(&mut report, &mut expected, stored);
        (report, ahead)
    }

    #[test]
    fn equal_states_are_equal_and_hash_the_same() {
        let events = vec![
            (1, created(order(1), user(1), 0)),
            (1, created(order(2), user(1), 1)),
        ];
        let (report, ahead) = compared(digests(events.clone()), digests(events.clone()));
        assert!(report.is_equal() && ahead.is_empty());
        let reversed = events.into_iter().rev().collect();
        assert_eq!(report.content, content_of(&digests(reversed)));
    }

    #[test]
    fn what_is_missing_behind_or_other_is_told() {
        let log = digests(vec![
            (1, created(order(1), user(1), 0)),
            (1, created(order(2), user(1), 1)),
            (2, cancelled(order(2), user(1), 2)),
            (1, created(order(3), user(1), 3)),
            (2, updated(order(3), user(1), 4, "{}")),
        ]);
        let stored = digests(vec![
            (1, created(order(2), user(1), 1)),
            (1, created(order(3), user(1), 3)),
            (2, updated(order(3), user(1), 4, r#"{"a":1}"#)),
        ]);
        let (report, ahead) = compared(log, stored);
        assert!(ahead.is_empty());
        assert_eq!(report.different, 3);
        assert_eq!(
            report.differences,
            [
                format!("{}: in the log, not in the read model", order(1)),
                format!(
                    "{}: differs in status, version, updated_at (version 2 by the log, 1 in the read model)",
                    order(2)
                ),
                format!(
                    "{}: differs in contents (version 2 by the log, 2 in the read model)",
                    order(3)
                ),
            ]
        );
    }

    #[test]
    fn what_is_ahead_is_looked_up_further_on_in_the_log() {
        let log = digests(vec![(1, created(order(1), user(1), 0))]);
        let stored = digests(vec![
            (1, created(order(1), user(1), 0)),
            (2, cancelled(order(1), user(1), 1)),
            (1, created(order(2), user(1), 2)),
        ]);
        let (report, ahead) = compared(log, stored);
        assert!(report.is_equal());
        assert_eq!(ahead.len(), 2);
    }
}
