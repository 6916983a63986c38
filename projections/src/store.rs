//! What a read model's database must be able to do. Two do: Postgres for users, MongoDB for orders.

use std::{fmt, future::Future};

use crate::{
    fold::{Digested, Halt, Round, State},
    model::{Generation, Model, Pointer, Positions},
};

/// Events of a read model.
pub type EventOf<M> = <<M as ReadModel>::State as State>::Event;

/// A read model in its database. All that writes may be repeated: doing it twice is doing it once.
pub trait ReadModel: Clone + Send + Sync + 'static {
    /// Which it is.
    const MODEL: Model;
    /// The state of a stream as it is stored.
    type State: State;
    /// The same with hashes instead of contents.
    type Digest: Digested<Event = EventOf<Self>>;

    /// Makes what is missing: tables, the first generation, the view for other readers.
    fn prepare(&self) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Which generation is live.
    fn pointer(&self) -> impl Future<Output = Result<Pointer, StoreError>> + Send;
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
    /// Begins a generation, empty and without indexes for queries.
    fn begin_generation(&self) -> impl Future<Output = Result<Generation, StoreError>> + Send;
    /// Makes the indexes that queries need.
    fn index(&self, generation: Generation) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Makes `to` the live generation if `from` still is and none was begun after `to`.
    fn swap(
        &self,
        from: Generation,
        to: Generation,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Drops every generation but the live one and the one that was just `begun`; returns what was dropped.
    fn drop_others(
        &self,
        begun: Generation,
    ) -> impl Future<Output = Result<Vec<Generation>, StoreError>> + Send;
    /// Hands out every stored state, as hashes, in no particular order.
    fn scan(
        &self,
        generation: Generation,
        each: impl FnMut(Self::Digest) + Send,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
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

/// Why a database did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another writer advanced the checkpoint: read it anew and go on from there.
    #[error("another writer moved the checkpoint of {0}")]
    Moved(Model),
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
    let limit = std::time::Duration::from_secs(limit_s);
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
