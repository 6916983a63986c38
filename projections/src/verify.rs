//! Whether a read model says what the log says: an independent fold of the log, compared stream by stream.
//! In memory are hashes, not contents, and not of more than [`STREAMS_TOGETHER_MAX`] streams at a time: where there are more,
//! the log is read several times, each time for another part of the streams.

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::Arc,
};

use anyhow::{Context, bail};
use event_log::{LogError, topics::end_positions};
use events::{ids::StreamId, partition::partition_of};

use crate::{
    aside::Aside,
    digest::Digest,
    fold::{Digested, Fact, State, step},
    model::{Generation, Positions, has_reached},
    progress::done,
    share::Partitions,
    source::{Extent, Gathered, Log, Source, Undecodable},
    store::{EventOf, ReadModel},
};

/// Differences that are described; more are counted.
const DIFFERENCES_SHOWN_MAX: usize = 10;
/// Streams whose hashes are in memory at once; each takes about 300 bytes. A table of hashes for a few more would be twice as large.
const STREAMS_TOGETHER_MAX: usize = 450_000;

/// What a comparison found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// How far the generation was when the comparison began; what was applied since is compared as well.
    pub at: Positions,
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
    fn new(at: Positions) -> Self {
        Self {
            at,
            events: 0,
            streams: 0,
            different: 0,
            differences: Vec::new(),
            content: Digest::NOTHING,
        }
    }

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

/// Times as many parts as before are tried next at most.
const PARTS_TIMES_MAX: u64 = 100;

/// A part of the streams: those of some partitions; where there are more parts than partitions, of one, by the hash of their
/// ids. So no record is read for a part that is of none of its streams, as long as a partition's fit into memory.
#[derive(Debug, Clone, Copy)]
struct Part {
    number: u64,
    of: u64,
    /// Of the topic.
    partitions: u16,
}

impl Part {
    fn holds(self, stream: StreamId) -> bool {
        self.of <= 1
            || (self.reads(partition_of(stream.to_string().as_bytes(), self.partitions))
                && self.is_of_share(stream))
    }

    fn reads(self, partition: u16) -> bool {
        u64::from(partition) % self.groups() == self.number % self.groups()
    }

    /// How many groups of partitions there are.
    fn groups(self) -> u64 {
        self.of.clamp(1, self.partitions.max(1).into())
    }

    /// Whether it holds a stream of a partition that it reads.
    fn is_of_share(self, stream: StreamId) -> bool {
        let shares = self.of.div_ceil(self.groups());
        if shares == 1 {
            return true;
        }
        let hash = BuildHasherDefault::<DefaultHasher>::new().hash_one(stream);
        hash % shares == self.number / self.groups()
    }

    /// All that there are when there are at least `wanted`.
    fn all(wanted: u64, partitions: u16) -> impl Iterator<Item = Self> {
        let many: u64 = partitions.max(1).into();
        // Each partition in as many shares as the others.
        let of = match wanted <= many {
            true => wanted.max(1),
            false => wanted.next_multiple_of(many),
        };
        (0..of).map(move |number| Self {
            number,
            of,
            partitions,
        })
    }

    /// How many parts may do where this did not fit when `done` of `all` records were read: at least twice as many.
    fn more(self, done: u64, all: u64) -> u64 {
        let wanted = self.of.saturating_mul(all).div_ceil(done.max(1));
        wanted.clamp(self.of * 2, self.of * PARTS_TIMES_MAX)
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
    let comparison = Comparison {
        model,
        log,
        generation,
        checkpoint: &checkpoint,
        aside: model.aside().await?,
    };
    let mut parts = 1;
    // With more parts from the beginning, until each fits.
    loop {
        match comparison.in_parts(parts).await? {
            Attempt::Done(report) => return Ok(report),
            Attempt::Parts(wanted) => parts = wanted,
        }
    }
}

/// What came of an attempt to do with so many parts.
enum Attempt<T> {
    /// Each fitted.
    Done(T),
    /// One did not; so many may.
    Parts(u64),
}

/// A generation at a checkpoint, and the log that it is compared with.
struct Comparison<'a, M> {
    model: &'a M,
    log: &'a Log,
    generation: Generation,
    checkpoint: &'a Positions,
    aside: Aside,
}

impl<M: ReadModel> Comparison<'_, M> {
    async fn in_parts(&self, parts: u64) -> anyhow::Result<Attempt<Report>> {
        let mut report = Report::new(self.checkpoint.clone());
        for part in Part::all(parts, self.log.partitions) {
            let (mut expected, events) = match self.fold_log(part).await? {
                Attempt::Done(folded) => folded,
                Attempt::Parts(wanted) => return Ok(Attempt::Parts(wanted)),
            };
            report.events += events;
            let mut ahead = HashMap::new();
            self.model
                .scan(
                    self.generation,
                    |stream| part.holds(stream),
                    |state| compare(&mut report, &mut expected, &mut ahead, state),
                )
                .await?;
            missing(&mut report, &mut expected, &ahead);
            if !ahead.is_empty() {
                report.events += self
                    .compare_ahead(&mut report, part, expected, ahead)
                    .await?;
            }
        }
        Ok(Attempt::Done(report))
    }

    /// The states that the log says the streams of a part have at the checkpoint, and how many events that took; it breaks off
    /// when they are too many.
    async fn fold_log(&self, part: Part) -> anyhow::Result<Attempt<Folded<M::Digest>>> {
        let until = &only(part, self.checkpoint);
        // Growing, a table is there twice.
        let room = usize::try_from(until.values().sum::<i64>()).unwrap_or(usize::MAX);
        let mut states = HashMap::with_capacity(room.min(STREAMS_TOGETHER_MAX));
        let mut events = 0;
        let extent = Extent::WholeOf(self.partitions(part));
        let mut source = self.source(Positions::new(), extent).await?;
        while !has_reached(source.reached(), until) {
            let Gathered {
                round, undecodable, ..
            } = source.gather().await?;
            for (partition, facts) in &round {
                let end = until.get(partition).copied().unwrap_or(0);
                for fact in facts.facts.iter().filter(|fact| fact.offset < end) {
                    if part.is_of_share(<M::Digest as State>::stream_of(&fact.event)) {
                        events += 1;
                        fold_one::<M>(&mut states, *partition, fact)?;
                    }
                }
            }
            for Undecodable { place, reason, .. } in undecodable {
                if place.offset < until.get(&place.partition).copied().unwrap_or(0) {
                    bail!("the record at {place} cannot be read: {reason}");
                }
            }
            if states.len() > STREAMS_TOGETHER_MAX {
                let (done, all) = (done(source.reached(), until), until.values().sum::<i64>());
                return Ok(Attempt::Parts(
                    part.more(done.unsigned_abs(), all.unsigned_abs()),
                ));
            }
        }
        Ok(Attempt::Done((states, events)))
    }

    fn partitions(&self, part: Part) -> Partitions {
        let all = 0..self.log.partitions;
        Arc::new(all.filter(|partition| part.reads(*partition)).collect())
    }

    async fn source(
        &self,
        from: Positions,
        extent: Extent,
    ) -> Result<Source<EventOf<M>>, LogError> {
        Source::open(self.log, M::MODEL.topic(), from, extent, self.aside.clone()).await
    }

    /// Folds on from the checkpoint until every state that is ahead of it has been met at its own version.
    async fn compare_ahead(
        &self,
        report: &mut Report,
        part: Part,
        mut states: HashMap<StreamId, M::Digest>,
        mut ahead: HashMap<StreamId, M::Digest>,
    ) -> anyhow::Result<u64> {
        let ends = end_positions(&self.log.kafka, M::MODEL.topic()).await?;
        let mut ends = only(part, &ends);
        let extent = Extent::TailOf(self.partitions(part));
        let mut events = 0;
        let mut source = self.source(self.checkpoint.clone(), extent).await?;
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
            // The read model does not go further either.
            for unreadable in undecodable {
                ends.remove(&unreadable.place.partition);
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
}

/// The positions in the partitions that a part reads.
fn only(part: Part, positions: &Positions) -> Positions {
    let own = positions
        .iter()
        .filter(|(partition, _)| part.reads(**partition));
    own.map(|(partition, position)| (*partition, *position))
        .collect()
}

/// Streams with their states, and how many events they were folded from.
type Folded<D> = (HashMap<StreamId, D>, u64);

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

/// Compares a stored state with the expected one, which is taken out of `expected`; one that is newer goes to `ahead`.
fn compare<D: Digested>(
    report: &mut Report,
    expected: &mut HashMap<StreamId, D>,
    ahead: &mut HashMap<StreamId, D>,
    state: D,
) {
    report.streams += 1;
    report.content = report.content.plus(state.digest());
    let stream = state.stream();
    match expected.get(&stream) {
        Some(wanted) if wanted.version() >= state.version() => {
            compare_one(report, stream, wanted, &state);
            expected.remove(&stream);
        }
        Some(_) | None => drop(ahead.insert(stream, state)),
    }
}

/// Reports the streams that were not stored, and takes them out of `expected`.
fn missing<D: Digested>(
    report: &mut Report,
    expected: &mut HashMap<StreamId, D>,
    ahead: &HashMap<StreamId, D>,
) {
    let mut missing: Vec<StreamId> = expected
        .extract_if(|stream, _| !ahead.contains_key(stream))
        .map(|(stream, _)| stream)
        .collect();
    missing.sort_unstable();
    for stream in missing {
        report.differs(|| format!("{stream}: in the log, not in the read model"));
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fold::fold,
        orders::fold::Order,
        samples::{cancelled, created, order, round, updated, user},
    };

    type Digests = HashMap<StreamId, Order<Digest>>;

    fn digests(events: Vec<(u64, events::OrderEvent)>) -> Digests {
        let folded: crate::fold::Folded<Order<Digest>> = fold(HashMap::new(), &round(0, 0, events));
        folded
            .states
            .into_iter()
            .map(|state| (state.stream(), state))
            .collect()
    }

    fn compared(mut expected: Digests, stored: Digests) -> (Report, Digests) {
        let mut report = Report::new(Positions::new());
        let mut ahead = HashMap::new();
        for state in stored.into_values() {
            compare(&mut report, &mut expected, &mut ahead, state);
        }
        missing(&mut report, &mut expected, &ahead);
        report.differences.sort();
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
        let one_by_one = digests(events)
            .into_values()
            .fold(Digest::NOTHING, |sum, state| state.digest().plus(sum));
        assert_eq!(report.content, one_by_one);
        assert_ne!(report.content, Digest::NOTHING);
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

    #[test]
    fn what_does_not_fit_is_tried_in_as_many_parts_as_may_do() {
        let part = Part {
            number: 0,
            of: 2,
            partitions: 6,
        };
        for (done, all, parts) in [
            (50, 100, 4),
            (30, 100, 7),
            (99, 100, 4),
            (0, 100, 200),
            (0, 0, 4),
        ] {
            assert_eq!(part.more(done, all), parts, "{done} of {all}");
        }
    }

    #[test]
    fn every_stream_is_in_one_part_that_reads_its_partition() {
        for (wanted, partitions, of) in [
            (1, 6, 1),
            (4, 6, 4),
            (6, 6, 6),
            (7, 6, 12),
            (13, 6, 18),
            (3, 1, 3),
        ] {
            let parts: Vec<Part> = Part::all(wanted, partitions).collect();
            assert_eq!(parts.len(), of);
            let mut held = vec![0; of];
            for number in 0..1_000 {
                let stream = StreamId::from(order(number));
                let partition = partition_of(stream.to_string().as_bytes(), partitions);
                let holds: Vec<usize> = (0..of).filter(|at| parts[*at].holds(stream)).collect();
                assert_eq!(holds.len(), 1, "{stream} of {of}");
                let part = parts[holds[0]];
                assert!(part.reads(partition) && part.is_of_share(stream));
                held[holds[0]] += 1;
            }
            assert!(held.iter().all(|held| *held > 0), "{held:?}");
        }
    }
}
