//! The store of a shard: a file that holds the fold of the log up to a place that it names. It is a cache of the log:
//! behind it by any amount, never aside of it, and thrown away when it cannot be believed.
//!
//! One write transaction holds changed states and the place they reflect, so a process that dies at any moment
//! leaves a file that is right for some place.

use std::{
    collections::BTreeMap,
    fmt::Display,
    fs, io,
    path::{Path, PathBuf},
};

use events::{Topic, ids::EventId, timestamp::Timestamp};
use redb::{
    Builder, Database, DatabaseError, Range, ReadOnlyTable, ReadableDatabase, ReadableTable,
    StorageError, TableDefinition, WriteTransaction,
};
use serde::{Deserialize, Serialize};

use super::known::{KEY_KEPT_MICROS, Known, Name};
use crate::measures::MEASURES;

/// The version of all that is written here and of the fold that it comes from. To be raised whenever either changes: a
/// store of another version is thrown away.
const FOLD_VERSION: u32 = 1;
/// Memory for pages of one file.
const PAGE_CACHE_BYTES: usize = 8 * 1024 * 1024;
/// Records of keys that are forgotten with one write at most.
const FORGOTTEN_MAX: usize = 10_000;

const KNOWN: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("known");
/// When keys were used, for forgetting: microseconds, and the key's name.
const KEY_TIMES: TableDefinition<'_, (i64, &[u8]), ()> = TableDefinition::new("key_times");
const HEAD: TableDefinition<'_, (), &[u8]> = TableDefinition::new("head");

/// The last event of each topic that a state reflects.
pub type Reflected = BTreeMap<Topic, LastEvent>;

/// An event and its place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastEvent {
    /// Its offset.
    pub offset: i64,
    /// Its id, by which a log that is not the same is noticed.
    pub id: EventId,
}

/// What a file says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    version: u32,
    shard: u16,
    shards: u16,
    reflected: Reflected,
}

impl Head {
    /// Of a store that is made now.
    fn of(shard: u16, shards: u16) -> Self {
        Self {
            version: FOLD_VERSION,
            shard,
            shards,
            reflected: Reflected::new(),
        }
    }
}

/// Why the store cannot be used now. What is only damaged is thrown away instead.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error("{0} is in use: every node needs a directory of its own, COMMAND_API_STATE_DIR")]
    InUse(PathBuf),
    /// The disk, or the file on it.
    #[error("state store {0}: {1}")]
    Failed(PathBuf, Box<redb::Error>),
    /// A value that is none.
    #[error("state store {0}: a value cannot be read: {1}")]
    Unreadable(PathBuf, postcard::Error),
}

impl StoreError {
    /// Whether what is in the file is not to be believed.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::InUse(_) => false,
            Self::Failed(_, error) => !is_no_damage(error),
            Self::Unreadable(..) => true,
        }
    }
}

/// How much a file is believed that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// Every page is looked at; takes as long as to read the file.
    Checked,
    /// Opened at once: this process has looked at it before, and left it there after an error that says nothing of it.
    AsLeft,
}

/// The open file of a shard.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    head: Head,
    database: Database,
}

impl Store {
    /// Opens the store of `shard`, of `shards`, in `dir`, or makes it.
    pub fn open(dir: &Path, shard: u16, shards: u16, opening: Opening) -> Result<Self, StoreError> {
        let path = path(dir, shard);
        let head = Head::of(shard, shards);
        if path.exists() {
            match Self::existing(&path, &head, opening) {
                Ok(store) => return Ok(store),
                Err(error) if !error.is_damage() => return Err(error),
                Err(error) => {
                    throw_away(dir, shard, &error).map_err(|error| failed(&path, error))?;
                }
            }
        }
        fs::create_dir_all(dir).map_err(|error| failed(&path, error))?;
        let database = opened(&path, Opening::Checked)?;
        let store = Self {
            path,
            head,
            database,
        };
        store.save(&[], &Reflected::new(), None)?;
        Ok(store)
    }

    /// The store of `shard`, of `shards`, that is there, as it is.
    pub fn of(dir: &Path, shard: u16, shards: u16) -> Result<Option<Self>, StoreError> {
        let path = path(dir, shard);
        let head = Head::of(shard, shards);
        let found = path
            .exists()
            .then(|| Self::existing(&path, &head, Opening::Checked));
        found.transpose()
    }

    /// The store that is there, if it is one that `wanted` would have made.
    fn existing(path: &Path, wanted: &Head, opening: Opening) -> Result<Self, StoreError> {
        let database = opened(path, opening)?;
        let transaction = database.begin_read().map_err(|error| failed(path, error))?;
        let table = transaction.open_table(HEAD);
        let table = table.map_err(|error| failed(path, error))?;
        let head = table.get(()).map_err(|error| failed(path, error))?;
        let head = head.map(|head| postcard::from_bytes(head.value()));
        let head: Option<Head> = head
            .transpose()
            .map_err(|error| StoreError::Unreadable(path.to_owned(), error))?;
        let is_ours = head.as_ref().is_some_and(|head| {
            let reflected = wanted.reflected.clone();
            Head {
                reflected,
                ..head.clone()
            } == *wanted
        });
        drop(table);
        drop(transaction);
        match head.filter(|_| is_ours) {
            Some(head) => Ok(Self {
                path: path.to_owned(),
                head,
                database,
            }),
            None => Err(failed(
                path,
                StorageError::Corrupted("another version wrote it".to_owned()),
            )),
        }
    }

    /// What it reflected when it was opened.
    pub fn reflected(&self) -> &Reflected {
        &self.head.reflected
    }

    /// Looks at what is saved by now.
    pub fn reader(&self) -> Result<Reader, StoreError> {
        let transaction = self.database.begin_read();
        let transaction = transaction.map_err(|error| failed(&self.path, error))?;
        let table = transaction.open_table(KNOWN);
        Ok(Reader {
            table: table.map_err(|error| failed(&self.path, error))?,
            path: self.path.clone(),
        })
    }

    /// All that is saved by now, in the order of the names.
    pub fn rows(&self) -> Result<Rows, StoreError> {
        let Reader { path, table } = self.reader()?;
        let range = table.range::<&[u8]>(..);
        let range = range.map_err(|error| failed(&path, error))?;
        Ok(Rows { path, range })
    }

    /// Saves what became of things, and the place in the log that all of it reflects then, together. Records of keys
    /// that no longer count at `now` are forgotten.
    pub fn save(
        &self,
        changes: &[(&Name, &Known)],
        reflected: &Reflected,
        now: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let head = Head {
            reflected: reflected.clone(),
            ..self.head.clone()
        };
        // Neighbours in the file are written one after another.
        let mut rows: Vec<_> = changes
            .iter()
            .map(|(name, what)| (name.to_bytes(), *what))
            .collect();
        rows.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let write = || -> Result<(), SaveError> {
            let mut transaction = self.database.begin_write()?;
            // After an error or a kill the file needs no repair, which would read all of it.
            transaction.set_quick_repair(true);
            {
                let mut known = transaction.open_table(KNOWN)?;
                let mut times = transaction.open_table(KEY_TIMES)?;
                for (name, what) in &rows {
                    let value = postcard::to_stdvec(what).map_err(SaveError::Postcard)?;
                    known.insert(name.as_slice(), value.as_slice())?;
                    if let Known::Key(record) = what {
                        times.insert((record.at.micros(), name.as_slice()), ())?;
                    }
                }
                let mut table = transaction.open_table(HEAD)?;
                let head = postcard::to_stdvec(&head).map_err(SaveError::Postcard)?;
                table.insert((), head.as_slice())?;
            }
            if let Some(now) = now {
                forget(&transaction, now)?;
            }
            transaction.commit()?;
            Ok(())
        };
        write().map_err(|error| match error {
            SaveError::Redb(error) => StoreError::Failed(self.path.clone(), error),
            SaveError::Postcard(error) => StoreError::Unreadable(self.path.clone(), error),
        })
    }
}

/// Forgets records of keys that do not count any more, a bounded number at a time.
fn forget(transaction: &WriteTransaction, now: Timestamp) -> Result<(), SaveError> {
    let kept_since = now.micros().saturating_sub(KEY_KEPT_MICROS);
    let mut times = transaction.open_table(KEY_TIMES)?;
    let mut old = Vec::new();
    for entry in times
        .extract_from_if(..(kept_since, [].as_slice()), |_, ()| true)?
        .take(FORGOTTEN_MAX)
    {
        let (used, _) = entry?;
        old.push(used.value().1.to_vec());
    }
    let mut known = transaction.open_table(KNOWN)?;
    for name in old {
        let record = match known.get(name.as_slice())? {
            Some(value) => postcard::from_bytes(value.value()).map_err(SaveError::Postcard)?,
            None => continue,
        };
        // A key that was used anew after it had been forgotten has another time.
        if let Known::Key(record) = record
            && record.at.micros() < kept_since
        {
            known.remove(name.as_slice())?;
        }
    }
    Ok(())
}

/// What is in the file as of one write.
pub struct Reader {
    path: PathBuf,
    table: ReadOnlyTable<&'static [u8], &'static [u8]>,
}

impl Reader {
    /// What is known of `name`, if anything is.
    pub fn get(&self, name: &Name) -> Result<Option<Known>, StoreError> {
        let bytes = name.to_bytes();
        let value = self.table.get(bytes.as_slice());
        let value = value.map_err(|error| failed(&self.path, error))?;
        let known = value.map(|value| postcard::from_bytes(value.value()));
        known
            .transpose()
            .map_err(|error| StoreError::Unreadable(self.path.clone(), error))
    }
}

/// One thing in the file.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name, as it is written.
    pub name: Vec<u8>,
    /// What is known of it.
    pub known: Known,
}

/// All that is in the file as of one write.
pub struct Rows {
    path: PathBuf,
    range: Range<'static, &'static [u8], &'static [u8]>,
}

impl Iterator for Rows {
    type Item = Result<Row, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self
            .range
            .next()?
            .map_err(|error| failed(&self.path, error));
        Some(row.and_then(|(name, value)| {
            let known = postcard::from_bytes(value.value());
            Ok(Row {
                name: name.value().to_vec(),
                known: known.map_err(|error| StoreError::Unreadable(self.path.clone(), error))?,
            })
        }))
    }
}

/// Removes the store of `shard`, which is not believed, if there is one: it is made anew from the log.
pub fn throw_away(dir: &Path, shard: u16, why: &dyn Display) -> io::Result<()> {
    MEASURES.stores_thrown_away.increment(1);
    tracing::warn!(shard, %why, "the state store is thrown away");
    match fs::remove_file(path(dir, shard)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn path(dir: &Path, shard: u16) -> PathBuf {
    dir.join(format!("shard-{shard}.redb"))
}

fn opened(path: &Path, opening: Opening) -> Result<Database, StoreError> {
    let opened = Builder::new()
        .set_cache_size(PAGE_CACHE_BYTES)
        // A file that was changed behind our back must not answer anything.
        .set_check_integrity_on_open(opening == Opening::Checked)
        .create(path);
    opened.map_err(|error| {
        if matches!(error, DatabaseError::DatabaseAlreadyOpen) {
            StoreError::InUse(path.to_owned())
        } else {
            failed(path, error)
        }
    })
}

fn failed(path: &Path, error: impl Into<redb::Error>) -> StoreError {
    StoreError::Failed(path.to_owned(), Box::new(error.into()))
}

/// Whether the file may well be right, and only cannot be used now.
fn is_no_damage(error: &redb::Error) -> bool {
    if let redb::Error::Io(error) = error {
        // What the file itself says; all else is the disk, or the system.
        !matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData
        )
    } else {
        matches!(error, redb::Error::PreviousIo)
    }
}

/// Why something was not saved.
enum SaveError {
    Redb(Box<redb::Error>),
    Postcard(postcard::Error),
}

impl<E: Into<redb::Error>> From<E> for SaveError {
    fn from(error: E) -> Self {
        Self::Redb(Box::new(error.into()))
    }
}

#[cfg(test)]
mod tests;
