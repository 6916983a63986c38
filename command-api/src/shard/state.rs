//! What a shard knows: the fold of its two partitions. Nothing but the log changes it.
//!
//! Newest first it lies in: what the open batch decided; what is committed, and not yet in the store; a cache; the store.

use std::{
    collections::{HashMap, VecDeque},
    path::Path,
    sync::Arc,
};

use domain::{
    Decider,
    email::{self, EmailStream},
    order::{self, OrderStream},
    user::{self, UserStream},
};
use events::{
    Actor, EmailEvent, Envelope, Metadata, OrderEvent, StreamEvent, StreamVersion, UserEvent,
    ids::{EmailHash, OrderId, StreamId, UserId},
    timestamp::Timestamp,
};
use quick_cache::{Weighter, unsync::Cache};

use super::{
    known::{KeyName, KeyRecord, Known, Name, Outcome, Resource, Versioned},
    saver::{Changes, Failure, Saver},
    store::{Opening, Reader, Reflected, Store, StoreError},
};
use crate::measures::MEASURES;

/// What is committed and not yet saved takes at most about so much memory; beyond it the shard waits for its disk.
const UNSAVED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// For the size of the cache's tables only: what is known of one thing on average.
const USUAL_BYTES: usize = 1_024;

/// An event that does not follow on what the log said before; the shard must not serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("version {found} of stream {stream} follows on version {known}")]
pub struct BrokenSequence {
    stream: StreamId,
    known: StreamVersion,
    found: StreamVersion,
}

/// Why a shard does not know what it should. It must not serve.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The log is not what it must be.
    #[error(transparent)]
    Broken(#[from] BrokenSequence),
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing more is saved.
    #[error("{0}")]
    NotSaved(Failure),
}

impl StateError {
    /// Whether what is in the store is not to be believed.
    pub fn is_damage(&self) -> bool {
        match self {
            // Whether the log or the store is wrong shows when the log is read from its beginning.
            Self::Broken(_) => true,
            Self::Store(error) => error.is_damage(),
            Self::NotSaved(failure) => failure.is_damage,
        }
    }
}

/// The fold of a shard's partitions.
pub struct ShardState {
    /// What was applied since the last [`ShardState::committed`].
    open: HashMap<Name, Known>,
    unsaved: HashMap<Name, Unsaved>,
    /// The batches of it.
    batches: VecDeque<Batch>,
    unsaved_bytes: usize,
    /// The number of the last batch.
    number: u64,
    cache: Cache<Name, Known, ByMemory>,
    saved: Reader,
    saver: Saver,
    store: Arc<Store>,
}

struct Unsaved {
    batch: u64,
    known: Known,
}

struct Batch {
    number: u64,
    names: Vec<Name>,
    bytes: usize,
}

#[derive(Clone)]
struct ByMemory;

impl Weighter<Name, Known> for ByMemory {
    fn weight(&self, _: &Name, known: &Known) -> u64 {
        known.weight() as u64
    }
}

impl ShardState {
    /// What the store in `dir` says, kept there from now on. At most `cache_bytes` of it are held in memory besides.
    pub fn open(
        dir: &Path,
        shard: u16,
        shards: u16,
        opening: Opening,
        cache_bytes: usize,
    ) -> Result<Self, StateError> {
        let store = Arc::new(Store::open(dir, shard, shards, opening)?);
        let saver = Saver::start(Arc::clone(&store), shard);
        let saver =
            saver.map_err(|error| StateError::NotSaved(Failure::passing(error.to_string())))?;
        Ok(Self {
            open: HashMap::new(),
            unsaved: HashMap::new(),
            batches: VecDeque::new(),
            unsaved_bytes: 0,
            number: 0,
            cache: Cache::with_weighter(cache_bytes / USUAL_BYTES, cache_bytes as u64, ByMemory),
            saved: store.reader()?,
            saver,
            store,
        })
    }

    /// The place in the log that it reflected when it was opened.
    pub fn reflected(&self) -> &Reflected {
        self.store.reflected()
    }

    /// The user of that id.
    pub fn user(&mut self, id: UserId) -> Result<Versioned<user::State>, StateError> {
        Ok(match self.known(&Name::User(id))? {
            Some(Known::User(user)) => user,
            Some(_) | None => absent::<UserStream>(),
        })
    }

    /// The claim of that address.
    pub fn email(&mut self, hash: EmailHash) -> Result<Versioned<email::State>, StateError> {
        Ok(match self.known(&Name::Email(hash))? {
            Some(Known::Email(claim)) => claim,
            Some(_) | None => absent::<EmailStream>(),
        })
    }

    /// The order of that id.
    pub fn order(&mut self, id: OrderId) -> Result<Versioned<order::State>, StateError> {
        Ok(match self.known(&Name::Order(id))? {
            Some(Known::Order(order)) => order,
            Some(_) | None => absent::<OrderStream>(),
        })
    }

    /// What became of the command of this name, if it counts at `now`.
    pub fn key(&mut self, name: &KeyName, now: Timestamp) -> Result<Option<KeyRecord>, StateError> {
        Ok(match self.known(&Name::Key(name.clone()))? {
            Some(Known::Key(record)) if record.counts_at(now) => Some(record),
            Some(_) | None => None,
        })
    }

    /// Whether the command of this name is in the open batch: not committed yet.
    pub fn is_in_flight(&self, name: &KeyName) -> bool {
        self.open.contains_key(&Name::Key(name.clone()))
    }

    /// Takes in what the log says. Versions must follow on each other without a gap.
    pub fn apply(&mut self, envelope: Envelope) -> Result<(), StateError> {
        let metadata = &envelope.metadata;
        match envelope.event.into() {
            StreamEvent::UserEvent(event) => self.apply_user(&event, metadata),
            StreamEvent::EmailEvent(event) => self.apply_email(&event, metadata),
            StreamEvent::OrderEvent(event) => self.apply_order(&event, metadata),
        }
    }

    /// Takes in a fact about a user.
    pub fn apply_user(&mut self, event: &UserEvent, metadata: &Metadata) -> Result<(), StateError> {
        let StreamId::User(id) = event.stream_id() else {
            return Ok(());
        };
        let user = evolve::<UserStream>(self.user(id)?, event, metadata, id.into())?;
        let (caller, resource) = match event {
            UserEvent::Registered(fact) => (None, Resource::Address(fact.email_hash)),
            UserEvent::ProfileUpdated(_)
            | UserEvent::PasswordChanged(_)
            | UserEvent::EmailChanged(_)
            | UserEvent::RoleChanged(_)
            | UserEvent::Erased(_) => (caller(metadata.actor), Resource::User(id)),
        };
        self.remember(caller, resource, metadata, || Outcome::User(user.clone()));
        self.open.insert(Name::User(id), Known::User(user));
        Ok(())
    }

    /// Takes in a fact about the claim of an address. It is never all of a command, so it makes no record.
    pub fn apply_email(
        &mut self,
        event: &EmailEvent,
        metadata: &Metadata,
    ) -> Result<(), StateError> {
        let StreamId::Email(hash) = event.stream_id() else {
            return Ok(());
        };
        let claim = evolve::<EmailStream>(self.email(hash)?, event, metadata, hash.into())?;
        self.open.insert(Name::Email(hash), Known::Email(claim));
        Ok(())
    }

    /// Takes in a fact about an order.
    pub fn apply_order(
        &mut self,
        event: &OrderEvent,
        metadata: &Metadata,
    ) -> Result<(), StateError> {
        let StreamId::Order(id) = event.stream_id() else {
            return Ok(());
        };
        let order = evolve::<OrderStream>(self.order(id)?, event, metadata, id.into())?;
        let resource = match event {
            OrderEvent::Created(_) => Resource::Orders,
            OrderEvent::Updated(_) | OrderEvent::StatusChanged(_) | OrderEvent::Cancelled(_) => {
                Resource::Order(id)
            }
        };
        let caller = caller(metadata.actor);
        self.remember(caller, resource, metadata, || Outcome::Order(order.clone()));
        self.open.insert(Name::Order(id), Known::Order(order));
        Ok(())
    }

    /// All that was applied is committed, and with it the log is reflected up to here. To be called after the commit.
    pub fn committed(&mut self, reflected: Reflected) -> Result<(), StateError> {
        self.look_what_is_saved()?;
        while self.unsaved_bytes > UNSAVED_BYTES_MAX {
            let before = self
                .batches
                .front()
                .map_or(self.number, |batch| batch.number);
            let further = self.saver.wait_beyond(before.saturating_sub(1));
            further.map_err(StateError::NotSaved)?;
            self.look_what_is_saved()?;
        }
        self.number += 1;
        let known: Vec<_> = self.open.drain().collect();
        let batch = Batch {
            number: self.number,
            names: known.iter().map(|(name, _)| name.clone()).collect(),
            bytes: known.iter().map(|(_, known)| known.weight()).sum(),
        };
        for (name, known) in &known {
            let unsaved = Unsaved {
                batch: self.number,
                known: known.clone(),
            };
            self.unsaved.insert(name.clone(), unsaved);
        }
        self.unsaved_bytes += batch.bytes;
        self.batches.push_back(batch);
        let saving = self.saver.save(Changes {
            number: self.number,
            known,
            reflected,
        });
        saving.map_err(StateError::NotSaved)
    }

    /// What is in the file by now need not be kept beside it.
    fn look_what_is_saved(&mut self) -> Result<(), StateError> {
        let saved = self.saver.saved();
        if let Some(failure) = saved.failure {
            return Err(StateError::NotSaved(failure));
        }
        let is_saved = |batch: &Batch| batch.number <= saved.number;
        if !self.batches.front().is_some_and(is_saved) {
            return Ok(());
        }
        // First what is looked at afterwards, then what need not be kept any more.
        self.saved = self.store.reader()?;
        while let Some(batch) = self.batches.pop_front_if(|batch| is_saved(batch)) {
            self.unsaved_bytes -= batch.bytes;
            for name in batch.names {
                let is_latest = |unsaved: &Unsaved| unsaved.batch == batch.number;
                if self.unsaved.get(&name).is_some_and(is_latest)
                    && let Some(unsaved) = self.unsaved.remove(&name)
                {
                    // Also where it is too large to be held: nothing older may be left.
                    self.cache.remove(&name);
                    self.cache.insert(name, unsaved.known);
                }
            }
        }
        Ok(())
    }

    fn known(&mut self, name: &Name) -> Result<Option<Known>, StateError> {
        let in_memory = self.open.get(name).or_else(|| {
            let unsaved = self.unsaved.get(name).map(|unsaved| &unsaved.known);
            unsaved.or_else(|| self.cache.get(name))
        });
        if let Some(known) = in_memory {
            return Ok(Some(known.clone()));
        }
        MEASURES.state_reads.increment(1);
        let found = self.saved.get(name)?;
        if let Some(known) = &found {
            self.cache.insert(name.clone(), known.clone());
        }
        Ok(found)
    }

    fn remember(
        &mut self,
        caller: Option<UserId>,
        resource: Resource,
        metadata: &Metadata,
        outcome: impl FnOnce() -> Outcome,
    ) {
        let Some(idempotency) = &metadata.idempotency else {
            return;
        };
        let name = KeyName {
            caller,
            resource,
            key: idempotency.key.clone(),
        };
        let record = KeyRecord {
            at: metadata.time,
            fingerprint: idempotency.fingerprint,
            outcome: outcome(),
        };
        self.open.insert(Name::Key(name), Known::Key(record));
    }
}

fn caller(actor: Actor) -> Option<UserId> {
    match actor {
        Actor::User(id, _) => Some(id),
        Actor::System => None,
    }
}

fn absent<D: Decider>() -> Versioned<D::State> {
    Versioned {
        version: 0,
        state: D::initial(),
    }
}

fn evolve<D: Decider>(
    known: Versioned<D::State>,
    event: &D::Event,
    metadata: &Metadata,
    id: StreamId,
) -> Result<Versioned<D::State>, BrokenSequence> {
    if metadata.version != known.version + 1 {
        return Err(BrokenSequence {
            stream: id,
            known: known.version,
            found: metadata.version,
        });
    }
    Ok(Versioned {
        version: metadata.version,
        state: D::evolve(known.state, event),
    })
}
