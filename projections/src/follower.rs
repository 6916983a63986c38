//! Folding the log into one generation: the same code for the running service and for a rebuild.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    time::{Instant, SystemTime},
};

use event_log::LogError;

use crate::{
    fold::{Halt, Part, Round},
    measures,
    model::{Generation, Positions},
    share::NoMember,
    source::{Extent, Gathered, Log, Source},
    store::{EventOf, ReadModel, StoreError, within},
    traced,
};

/// How long a database may take for one round.
const ROUND_TIMEOUT_S: u64 = 30;

/// Why following the log was given up.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The read model.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The group of processes that share the partitions, for good.
    #[error("the group of projections: {0}")]
    Group(#[source] NoMember),
}

/// Follows the log into one generation of a read model.
pub struct Follower<M: ReadModel> {
    model: M,
    generation: Generation,
    source: Source<EventOf<M>>,
    /// How far the generation is. The checkpoint may lag behind where there was nothing to apply.
    positions: Positions,
    checkpoint: Positions,
    halts: BTreeMap<u16, Halt>,
    /// Events applied so far.
    pub events: u64,
}

impl<M: ReadModel> Follower<M> {
    /// Goes on from the generation's checkpoint.
    pub async fn open(
        model: &M,
        log: &Log,
        generation: Generation,
        extent: Extent,
    ) -> Result<Self, FollowError> {
        let checkpoint = within(ROUND_TIMEOUT_S, model.checkpoint(generation)).await?;
        let aside = within(ROUND_TIMEOUT_S, model.aside()).await?;
        let topic = M::MODEL.topic();
        let source = Source::open(log, topic, checkpoint.clone(), extent, aside).await?;
        Ok(Self {
            model: model.clone(),
            generation,
            source,
            positions: checkpoint.clone(),
            checkpoint,
            halts: BTreeMap::new(),
            events: 0,
        })
    }

    /// Which generation is filled.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// How far it is.
    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// The partitions that have stopped.
    pub fn halts(&self) -> &BTreeMap<u16, Halt> {
        &self.halts
    }

    /// Waits for events; safe to give up waiting.
    pub async fn gather(&mut self) -> Result<Gathered<EventOf<M>>, LogError> {
        self.source.gather().await
    }

    /// Waits for events, also while Kafka is away.
    pub async fn gather_patiently(&mut self) -> Result<Gathered<EventOf<M>>, LogError> {
        self.source.gather_patiently().await
    }

    /// Applies what was gathered. After an error the follower is of no use: open another.
    pub async fn apply(&mut self, gathered: Gathered<EventOf<M>>) -> Result<(), StoreError> {
        let Gathered {
            mut round,
            undecodable,
            events,
            traced,
        } = gathered;
        round.retain(|partition, _| !self.halts.contains_key(partition));
        let idle = round.values().all(|part| part.facts.is_empty());
        let passed: Positions = round
            .iter()
            .map(|(partition, part)| (*partition, part.to))
            .collect();
        if idle {
            // Transaction markers at the end, or another model's events: the checkpoint need not hurry.
            self.positions.extend(passed);
        } else {
            let began = SystemTime::now();
            self.write(round, events).await?;
            traced::applied(
                M::MODEL,
                self.generation,
                &traced,
                &self.positions,
                events,
                began,
            );
        }
        for record in undecodable {
            self.halt(record.into());
        }
        Ok(())
    }

    async fn write(
        &mut self,
        mut round: Round<EventOf<M>>,
        events: usize,
    ) -> Result<(), StoreError> {
        for (partition, part) in &mut round {
            part.from = self.checkpoint.get(partition).copied().unwrap_or(0);
        }
        let begun = Instant::now();
        let applied = within(ROUND_TIMEOUT_S, self.model.apply(self.generation, &round)).await?;
        measures::round(M::MODEL, events, begun.elapsed());
        self.events += events as u64;
        self.positions.extend(&applied.positions);
        self.checkpoint.extend(&applied.positions);
        applied.halts.into_iter().for_each(|halt| self.halt(halt));
        Ok(())
    }

    /// Stores positions that were reached without anything to apply; whether there were any.
    pub async fn settle(&mut self) -> Result<bool, StoreError> {
        let steps: Round<EventOf<M>> = self
            .positions
            .iter()
            .map(|(partition, to)| {
                (
                    *partition,
                    self.checkpoint.get(partition).copied().unwrap_or(0),
                    *to,
                )
            })
            .filter(|(_, from, to)| from != to)
            .map(|(partition, from, to)| {
                (
                    partition,
                    Part {
                        from,
                        to,
                        facts: Vec::new(),
                    },
                )
            })
            .collect();
        if steps.is_empty() {
            return Ok(false);
        }
        let applied = within(ROUND_TIMEOUT_S, self.model.apply(self.generation, &steps)).await?;
        self.checkpoint.extend(&applied.positions);
        Ok(true)
    }

    fn halt(&mut self, halt: Halt) {
        // What comes behind a halt, which the log brings all the same, is of no interest.
        let Entry::Vacant(place) = self.halts.entry(halt.partition) else {
            return;
        };
        tracing::error!(
            model = M::MODEL.name(),
            partition = halt.partition,
            offset = halt.offset,
            reason = halt.reason,
            "projection stopped at this record"
        );
        place.insert(halt);
        measures::halted(M::MODEL, self.halts.len());
    }
}
