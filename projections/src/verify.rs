//! Whether a read model says what the log says: an independent fold of the log, compared stream by stream.
//! In memory are hashes, not contents, and not of more than [`STREAMS_TOGETHER_MAX`] streams at a time: where there are more,
//! the log is read several times, each time for another part of the streams.

pub mod entry;
mod part;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    ops::ControlFlow,
    sync::Arc,
};

use anyhow::{Context, bail};
use event_log::{LogError, topics::end_positions};
use events::{ids::StreamId, partition::partition_of};

use self::{
    entry::{Entry, SHARES, Sums, share_of},
    part::Part,
};
use crate::{
    aside::Aside,
    digest::Digest,
    fold::{Digested, Fact, State, step},
    model::{Generation, Positions, has_reached},
    patience::ask,
    progress::{Progress, done},
    share::Partitions,
    source::{Extent, Gathered, Log, Source, Undecodable},
    store::{EventOf, ReadModel},
};

/// Differences of either kind that are described; more are counted.
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
    /// How many streams, at least, have another index of their events than by the log. It is compared up to `at`.
    pub indexed_otherwise: usize,
    /// The first of both, in words.
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
            indexed_otherwise: 0,
            differences: Vec::new(),
            content: Digest::NOTHING,
        }
    }

    /// Whether the read model says what the log says.
    pub fn is_equal(&self) -> bool {
        self.different == 0 && self.indexed_otherwise == 0
    }

    fn differs(&mut self, description: impl FnOnce() -> String) {
        self.different += 1;
        if self.different <= DIFFERENCES_SHOWN_MAX {
            self.differences.push(description());
        }
    }

    fn is_indexed_otherwise(&mut self, description: impl FnOnce() -> String) {
        self.indexed_otherwise += 1;
        if self.indexed_otherwise <= DIFFERENCES_SHOWN_MAX {
            self.differences.push(description());
        }
    }
}

impl fmt::Display for Report {
    /// What there is to say of a generation.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.different, self.indexed_otherwise) {
            (0, 0) => f.write_str("is equal to a fold of the log"),
            (streams, 0) => write!(f, "DIFFERS from a fold of the log in {streams} streams"),
            (0, index) => write!(
                f,
                "DIFFERS from the log in the index of events of {index} streams or more"
            ),
            (streams, index) => write!(
                f,
                "DIFFERS from a fold of the log in {streams} streams, and in the index of events of {index} or more"
            ),
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
        let mut entries = Sums::default();
        for part in Part::all(parts, self.log.partitions) {
            let (mut expected, events) = match self.fold_log(part, &mut entries).await? {
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
        self.compare_entries(&mut report, &entries).await?;
        Ok(Attempt::Done(report))
    }

    /// The states that the log says the streams of a part have at the checkpoint, and how many events that took; it breaks off
    /// when they are too many. What there is to keep of each event goes to `entries`.
    async fn fold_log(
        &self,
        part: Part,
        entries: &mut Sums,
    ) -> anyhow::Result<Attempt<Folded<M::Digest>>> {
        let until = &only(part, self.checkpoint);
        // Growing, a table is there twice.
        let room = usize::try_from(until.values().sum::<i64>()).unwrap_or(usize::MAX);
        let mut states = HashMap::with_capacity(room.min(STREAMS_TOGETHER_MAX));
        let mut events = 0;
        let read = self.read(part, until, |partition, fact| {
            let stream = <M::Digest as State>::stream_of(&fact.event);
            if !part.is_of_share(stream) {
                return Ok(ControlFlow::Continue(()));
            }
            events += 1;
            fold_one::<M>(&mut states, partition, fact)?;
            M::entry_of(fact)
                .iter()
                .for_each(|entry| entries.add(entry));
            Ok(match states.len() > STREAMS_TOGETHER_MAX {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            })
        });
        Ok(match read.await? {
            None => Attempt::Done((states, events)),
            Some(reached) => {
                let (done, all) = (done(&reached, until), until.values().sum::<i64>());
                Attempt::Parts(part.more(done.unsigned_abs(), all.unsigned_abs()))
            }
        })
    }

    /// Hands out every event of the partitions of a part before the positions `until`. Where `each` breaks off: about how far it
    /// was then.
    async fn read(
        &self,
        part: Part,
        until: &Positions,
        mut each: impl FnMut(u16, &Fact<EventOf<M>>) -> anyhow::Result<ControlFlow<()>>,
    ) -> anyhow::Result<Option<Positions>> {
        let end = |partition| until.get(&partition).copied().unwrap_or(0);
        let extent = Extent::WholeOf(self.partitions(part));
        let mut source = self.source(Positions::new(), extent).await?;
        let what = format!("{} {}, comparing{part}", M::MODEL, self.generation);
        let mut progress = Progress::begin(what, source.reached(), until);
        while !has_reached(source.reached(), until) {
            progress.show(source.reached(), until);
            let Gathered {
                round, undecodable, ..
            } = source.gather_patiently().await?;
            for (partition, facts) in &round {
                let end = end(*partition);
                for fact in facts.facts.iter().filter(|fact| fact.offset < end) {
                    if each(*partition, fact)?.is_break() {
                        return Ok(Some(source.reached().clone()));
                    }
                }
            }
            for Undecodable { place, reason, .. } in undecodable {
                if place.offset < end(place.partition) {
                    bail!("the record at {place} cannot be read: {reason}");
                }
            }
        }
        Ok(None)
    }

    /// Compares what is kept of each event before the checkpoint with what there is to keep by the log.
    async fn compare_entries(&self, report: &mut Report, by_log: &Sums) -> anyhow::Result<()> {
        let mut kept = Sums::default();
        let mut last: BTreeMap<u16, Entry> = BTreeMap::new();
        let scanned = self.scan_entries(|partition, entry| {
            if self.is_before_checkpoint(partition, &entry) {
                kept.add(&entry);
            }
            let last = last.entry(partition).or_insert(entry);
            if last.offset < entry.offset {
                *last = entry;
            }
        });
        scanned.await?;
        // Whatever is kept was in the log before.
        let ends = self.log_ends().await?;
        for (partition, Entry { stream, offset, .. }) in last {
            if offset >= ends.get(&partition).copied().unwrap_or(0) {
                report.is_indexed_otherwise(|| {
                    format!("{stream}: the index of its events names offset {offset} of partition {partition}, which the log does not have")
                });
            }
        }
        let differing = by_log.differing(&kept);
        let Some(first) = differing.first() else {
            return Ok(());
        };
        let streams = self.streams_indexed_otherwise(*first).await?;
        if streams.is_empty() {
            report.is_indexed_otherwise(|| {
                "the index of events differed, and did not when it was looked at again: compare once more".to_owned()
            });
        }
        for stream in streams {
            report.is_indexed_otherwise(|| format!("{stream}: the index of its events differs"));
        }
        let more = differing.len() - 1;
        if more > 0 {
            report.is_indexed_otherwise(|| {
                format!(
                    "the index of events differs in {more} more of {SHARES} shares of the streams"
                )
            });
        }
        Ok(())
    }

    /// The streams of a share of which something else is kept than there is to keep.
    async fn streams_indexed_otherwise(&self, share: usize) -> anyhow::Result<Vec<StreamId>> {
        // What the log says, less what is kept: of a stream that does not differ nothing is left.
        let mut left: HashMap<StreamId, Digest> = HashMap::new();
        let whole = Part::whole(self.log.partitions);
        let read = self.read(whole, self.checkpoint, |_, fact| {
            if let Some(entry) = M::entry_of(fact).filter(|entry| share_of(entry.stream) == share) {
                let sum = left.entry(entry.stream).or_insert(Digest::NOTHING);
                *sum = sum.plus(entry.digest);
            }
            Ok(ControlFlow::Continue(()))
        });
        read.await?;
        let scanned = self.scan_entries(|partition, entry| {
            if share_of(entry.stream) == share && self.is_before_checkpoint(partition, &entry) {
                let sum = left.entry(entry.stream).or_insert(Digest::NOTHING);
                *sum = sum.minus(entry.digest);
            }
        });
        scanned.await?;
        left.retain(|_, sum| *sum != Digest::NOTHING);
        let mut streams: Vec<StreamId> = left.into_keys().collect();
        streams.sort_unstable();
        Ok(streams)
    }

    /// Hands out what is kept of every event, with the partition that its stream is in.
    async fn scan_entries(&self, mut each: impl FnMut(u16, Entry) + Send) -> anyhow::Result<()> {
        let scanned = self.model.scan_entries(self.generation, |entry| {
            let key = entry.stream.to_string();
            each(partition_of(key.as_bytes(), self.log.partitions), entry);
        });
        Ok(scanned.await?)
    }

    fn is_before_checkpoint(&self, partition: u16, entry: &Entry) -> bool {
        entry.offset < self.checkpoint.get(&partition).copied().unwrap_or(0)
    }

    async fn log_ends(&self) -> Result<Positions, LogError> {
        ask(|| end_positions(&self.log.kafka, M::MODEL.topic())).await
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
        let (topic, aside) = (M::MODEL.topic(), &self.aside);
        ask(|| Source::open(self.log, topic, from.clone(), extent.clone(), aside.clone())).await
    }

    /// Folds on from the checkpoint until every state that is ahead of it has been met at its own version.
    async fn compare_ahead(
        &self,
        report: &mut Report,
        part: Part,
        mut states: HashMap<StreamId, M::Digest>,
        mut ahead: HashMap<StreamId, M::Digest>,
    ) -> anyhow::Result<u64> {
        let ends = self.log_ends().await?;
        let mut ends = only(part, &ends);
        let extent = Extent::TailOf(self.partitions(part));
        let mut events = 0;
        let mut source = self.source(self.checkpoint.clone(), extent).await?;
        while !ahead.is_empty() && !has_reached(source.reached(), &ends) {
            let Gathered {
                round, undecodable, ..
            } = source.gather_patiently().await?;
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
}
