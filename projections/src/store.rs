//! What a read model's database must be able to do. Two do: Postgres for users, MongoDB for orders.

use std::{collections::HashMap, fmt, future::Future, time::Duration};

use events::ids::StreamId;

use crate::{
    aside::{Aside, SetAside},
    fold::{Advance, Digested, Fact, Halt, Round, State},
    model::{FoldVersion, Generation, Known, Model, Positions},
    verify::entry::Entry,
};

/// Events of a read model.
pub type EventOf<M> = <<M as ReadModel>::State as State>::Event;

/// A read model in its database. All that writes may be repeated: doing it twice is doing it once.
pub trait ReadModel: Clone + Send + Sync + 'static {
    /// Which it is.
    const MODEL: Model;
    /// Of its fold, with what is stored of it.
    const VERSION: FoldVersion;
    /// The state of a stream as it is stored.
    type State: State;
    /// The same with hashes instead of contents.
    type Digest: Digested<Event = EventOf<Self>>;

    /// Makes what is missing: tables, the view for other readers, and the first generation, unless there is one of
    /// another version: then the log is to be read into one of this version first.
    fn prepare(&self) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Which generation is live for this version; [`StoreError::NotBuilt`] when none is.
    fn live(&self) -> impl Future<Output = Result<Generation, StoreError>> + Send;
    /// Lets the view for other readers show the live generation, where a swap was interrupted before that.
    fn mend_view(&self) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// How far a generation is; [`StoreError::Gone`] when it was dropped.
    fn checkpoint(
        &self,
        generation: Generation,
    ) -> impl Future<Output = Result<Positions, StoreError>> + Send;
    /// Folds a round into a generation and moves its checkpoint along. [`StoreError::Moved`] when another
    /// writer moved the checkpoint meanwhile.
    fn apply(
        &self,
        generation: Generation,
        round: &Round<EventOf<Self>>,
    ) -> impl Future<Output = Result<Applied, StoreError>> + Send;
    /// Says that this version's live generation is being served.
    fn followed(&self) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Every generation that is there, whatever its version, in the order in which they were begun.
    fn generations(&self) -> impl Future<Output = Result<Vec<Known>, StoreError>> + Send;
    /// Begins a generation of this version, empty and without indexes for queries.
    fn begin_generation(&self) -> impl Future<Output = Result<Generation, StoreError>> + Send;
    /// Makes what an interrupted beginning of a generation has left out.
    fn mend_generation(
        &self,
        generation: Generation,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Makes the indexes that queries need.
    fn index(&self, generation: Generation) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Makes `to` this version's live generation if `from` (or none) still is, and keeps `from` for so long.
    fn swap(
        &self,
        from: Option<Generation>,
        to: Generation,
        keep: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Drops a generation. Whoever still fills it notices ([`StoreError::Gone`] or [`StoreError::Moved`]). Refused when it
    /// is live for this version.
    fn drop_generation(
        &self,
        generation: Generation,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Hands out every stored state of a stream for which `wanted` holds, as hashes, in no particular order.
    fn scan(
        &self,
        generation: Generation,
        wanted: impl Fn(StreamId) -> bool + Send,
        each: impl FnMut(Self::Digest) + Send,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// What it keeps of an event, beside the state of its stream; nothing where it keeps no more than states.
    fn entry_of(_event: &Fact<EventOf<Self>>) -> Option<Entry> {
        None
    }
    /// Hands out all of that, in no particular order.
    fn scan_entries(
        &self,
        _generation: Generation,
        _each: impl FnMut(Entry) + Send,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        async { Ok(()) }
    }
    /// What a generation says of these streams; of those that it does not know, nothing.
    fn states(
        &self,
        generation: Generation,
        streams: &[StreamId],
    ) -> impl Future<Output = Result<HashMap<StreamId, Self::State>, StoreError>> + Send;
    /// Sets a record of the log aside, for every generation; whether it was not yet.
    fn set_aside(&self, record: &SetAside)
    -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Every record that was set aside, in the order of their places.
    fn all_set_aside(&self) -> impl Future<Output = Result<Vec<SetAside>, StoreError>> + Send;
    /// What is stepped over by whoever folds this model's topic.
    fn aside(&self) -> impl Future<Output = Result<Aside, StoreError>> + Send {
        async { Ok(Aside::of(Self::MODEL.topic(), &self.all_set_aside().await?)) }
    }
    /// What is stored of a stream, as it is stored, sealed fields by their length only.
    fn stored_as(
        &self,
        generation: Generation,
        stream: StreamId,
    ) -> impl Future<Output = Result<Option<serde_json::Value>, StoreError>> + Send;
    /// The newest `limit` rows or documents as they are stored, sealed fields by their length only.
    fn newest(
        &self,
        generation: Generation,
        limit: u16,
    ) -> impl Future<Output = Result<Vec<serde_json::Value>, StoreError>> + Send;
}

/// What came of a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The checkpoint of the partitions in the round.
    pub positions: Positions,
    /// States written (or found newer).
    pub states: usize,
    /// Partitions that stopped within the round.
    pub halts: Vec<Halt>,
}

impl Applied {
    /// That of a round of which so many states were written and the checkpoints moved.
    pub fn of(advances: &[Advance], states: usize, halts: Vec<Halt>) -> Self {
        let positions = advances.iter().map(|each| (each.partition, each.to));
        Self {
            positions: positions.collect(),
            states,
            halts,
        }
    }
}

/// Why a database did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another writer advanced the checkpoint: read it anew and go on from there.
    #[error("another writer moved the checkpoint of {0}")]
    Moved(Model),
    /// Programs of other versions serve this read model, and it was never filled for this one.
    #[error(
        "the read model {0} was not filled by this version of its fold yet ({1}): run projections rebuild {0}"
    )]
    NotBuilt(Model, FoldVersion),
    /// What is live is not dropped.
    #[error("generation {1} of {0} is live")]
    IsLive(Model, Generation),
    /// Others read what would be changed.
    #[error("other readers of {0} are in the way (pg_stat_activity names them)")]
    InUse(Model),
    /// The generation is not there (any more).
    #[error("generation {1} of {0} is gone")]
    Gone(Model, Generation),
    /// What is stored is not what this program writes.
    #[error("stored data cannot be read: {0}")]
    Damaged(String),
    /// The database took too long.
    #[error("the database did not answer within {0} s")]
    Late(u64),
    /// Postgres refused or is away.
    #[error("Postgres: {0}")]
    Postgres(#[from] sqlx::Error),
    /// MongoDB did not write what it was told to.
    #[error("MongoDB refused: {0}")]
    Refused(String),
    /// The keys of personal data cannot be had.
    #[error(transparent)]
    Keys(#[from] runtime::data_keys::DataKeyError),
    /// Migrations could not be applied.
    #[error("Postgres migrations: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// MongoDB refused or is away.
    #[error("MongoDB: {}", Brief(.0))]
    Mongo(#[from] mongodb::error::Error),
}

/// Waits for a database at most `limit_s` seconds: one that is stopped does not refuse, it says nothing.
pub async fn within<T>(
    limit_s: u64,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let limit = Duration::from_secs(limit_s);
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or(Err(StoreError::Late(limit_s)))
}

/// The driver's error without the topology and documents that it carries along.
struct Brief<'a>(&'a mongodb::error::Error);

impl fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const CHARACTERS_MAX: usize = 300;
        let text = self.0.to_string();
        let text = text.split(", labels:").next().unwrap_or_default();
        match text.char_indices().nth(CHARACTERS_MAX) {
            Some((end, _)) => write!(f, "{}…", text.get(..end).unwrap_or_default()),
            None => f.write_str(text),
        }
    }
}
