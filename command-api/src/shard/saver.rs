//! Saves what a shard knows behind its commits: a thread of its own writes what is committed into the store, many
//! batches at once. What is not saved yet stays in memory, within a bound.

use std::{
    collections::HashMap,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender};
use parking_lot::{Condvar, Mutex};
use time::OffsetDateTime;

use super::{
    known::{Known, Name},
    store::{Reflected, Store},
};
use crate::measures::MEASURES;

/// How long changes gather before they are written together.
const GATHER: Duration = Duration::from_millis(200);
/// Changes that are written together at most.
const TOGETHER_MAX: usize = 20_000;
/// How long the disk may take for what is written together. After that the shard steps down, and says why.
const DISK_WAIT_MAX: Duration = Duration::from_secs(10);
/// Batches that wait to be written at most.
const BATCHES_MAX: usize = 4_096;

/// What one batch changed, and the place in the log that a store with it reflects.
#[derive(Debug)]
pub struct Changes {
    /// Counts the batches.
    pub number: u64,
    /// What became of what.
    pub known: Vec<(Name, Known)>,
    /// The last event of each topic by then.
    pub reflected: Reflected,
}

/// The thread that saves, for as long as this lives; then it saves what it was given, and ends.
#[derive(Debug)]
pub struct Saver {
    changes: Option<Sender<Changes>>,
    progress: Arc<Progress>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Progress {
    saved: Mutex<Saved>,
    moved: Condvar,
}

/// Why nothing more is saved.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    reason: String,
    /// Whether what is in the store is not to be believed either.
    pub is_damage: bool,
}

impl Failure {
    /// One that says nothing about the store.
    pub fn passing(reason: String) -> Self {
        let is_damage = false;
        Self { reason, is_damage }
    }

    fn slow_disk() -> Self {
        let waited = DISK_WAIT_MAX.as_secs();
        Self::passing(format!("the disk has taken nothing for {waited} s"))
    }
}

/// How far it is.
#[derive(Debug, Default, Clone)]
pub struct Saved {
    /// The number of the last batch that is in the file.
    pub number: u64,
    /// Why nothing more will be.
    pub failure: Option<Failure>,
}

impl Saver {
    /// Starts the thread.
    pub fn start(store: Arc<Store>, shard: u16) -> std::io::Result<Self> {
        let (changes, received) = crossbeam_channel::bounded(BATCHES_MAX);
        let progress = Arc::<Progress>::default();
        let thread = std::thread::Builder::new()
            .name(format!("store-{shard}"))
            .spawn({
                let progress = Arc::clone(&progress);
                move || progress.save_all(&store, &received)
            })?;
        Ok(Self {
            changes: Some(changes),
            progress,
            thread: Some(thread),
        })
    }

    /// Hands changes over; waits while too many batches wait already, and gives up when that takes too long.
    pub fn save(&self, changes: Changes) -> Result<(), Failure> {
        // A thread that ended has said why.
        if let Some(sender) = &self.changes
            && let Err(SendTimeoutError::Timeout(_)) = sender.send_timeout(changes, DISK_WAIT_MAX)
        {
            return Err(Failure::slow_disk());
        }
        Ok(())
    }

    /// How far it is.
    pub fn saved(&self) -> Saved {
        self.progress.saved.lock().clone()
    }

    /// Waits until it is further than `number`, or has failed; gives up when that takes too long.
    pub fn wait_beyond(&self, number: u64) -> Result<(), Failure> {
        self.progress.wait_while(|saved| saved.number <= number)
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        self.changes = None;
        if self.progress.wait_while(|_| true).is_err() {
            // It holds the file until the disk answers: until then the shard cannot be taken up here.
            tracing::error!("the disk does not answer; what saves a shard's state is left behind");
        } else if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that saves a shard's state panicked");
        }
    }
}

impl Progress {
    /// Waits for as long as this is so and nothing failed, which the end of the thread counts as; gives up when that takes
    /// too long.
    fn wait_while(&self, is_so: impl Fn(&Saved) -> bool) -> Result<(), Failure> {
        let waits = |saved: &mut Saved| saved.failure.is_none() && is_so(saved);
        let waited = self
            .moved
            .wait_while_for(&mut self.saved.lock(), waits, DISK_WAIT_MAX);
        match waited.timed_out() {
            true => Err(Failure::slow_disk()),
            false => Ok(()),
        }
    }

    fn save_all(&self, store: &Store, received: &Receiver<Changes>) {
        // A panic must not leave anybody waiting.
        let _ended = Ended(self);
        while let Ok(first) = received.recv() {
            let (together, is_last) = gather(first, received);
            let Some(last) = together.last() else { return };
            let number = last.number;
            // Only the last state of each thing counts.
            let mut latest: HashMap<&Name, &Known> = HashMap::new();
            for changes in &together {
                latest.extend(changes.known.iter().map(|(name, known)| (name, known)));
            }
            let latest: Vec<_> = latest.into_iter().collect();
            let now = OffsetDateTime::now_utc().into();
            let begun = Instant::now();
            let written = store.save(&latest, &last.reflected, Some(now));
            MEASURES.state_save.record(begun.elapsed());
            let mut saved = self.saved.lock();
            match written {
                Ok(()) => saved.number = number,
                Err(error) => {
                    saved.failure = Some(Failure {
                        is_damage: error.is_damage(),
                        reason: error.to_string(),
                    });
                }
            }
            self.moved.notify_all();
            if saved.failure.is_some() || is_last {
                return;
            }
        }
    }
}

/// What comes within [`GATHER`] of the first, and whether nothing more will.
fn gather(first: Changes, received: &Receiver<Changes>) -> (Vec<Changes>, bool) {
    let until = Instant::now() + GATHER;
    let mut count = first.known.len();
    let mut together = vec![first];
    while count < TOGETHER_MAX {
        match received.recv_deadline(until) {
            Ok(changes) => {
                count += changes.known.len();
                together.push(changes);
            }
            Err(RecvTimeoutError::Timeout) => return (together, false),
            Err(RecvTimeoutError::Disconnected) => return (together, true),
        }
    }
    (together, false)
}

/// Says when it is dropped that nothing more will be saved.
struct Ended<'a>(&'a Progress);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let mut saved = self.0.saved.lock();
        saved.failure.get_or_insert_with(|| Failure {
            reason: "the thread that saves ended".to_owned(),
            // By a panic, which a damaged file can cause.
            is_damage: std::thread::panicking(),
        });
        self.0.moved.notify_all();
    }
}
