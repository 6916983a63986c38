//! Orders in MongoDB: every write is conditional on the stream version, so that writing twice changes
//! nothing; the checkpoint follows the data.

use std::{collections::HashMap, sync::Arc, time::Duration};

use events::{
    OrderEvent,
    ids::{OrderId, StreamId},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use mongodb::{
    Collection, Database,
    bson::{Document, RawArrayBuf, RawDocumentBuf, doc, rawdoc},
    error::ErrorKind,
    options::Hint,
};

use super::{
    aside, document,
    fold::Order,
    generations,
    list::{AttributePath, OrderFilter, Sort},
    steps::{self, Step},
};
use crate::{
    aside::SetAside,
    digest::Digest,
    fold::{Advance, Fact, Folded, Round, State, continued, fold},
    model::{FoldVersion, Generation, Known, Model, Positions},
    store::{Applied, ReadModel, StoreError},
    verify::entry::Entry,
};

/// MongoDB's code for a key that is there already.
pub(super) const DUPLICATE_KEY: i64 = 11_000;
/// Bytes of documents in one update command at most; a command may have 48 MB.
const COMMAND_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Updates in one command at most; MongoDB takes 100,000.
const COMMAND_UPDATES_MAX: usize = 1_000;
/// Documents in one insert at most,
const INSERTED_TOGETHER_MAX: usize = 1_000;
/// and inserts that are under way at the same time: MongoDB uses a thread for each.
const INSERTS_UNDER_WAY_MAX: usize = 2;
const SCAN_BATCH: u32 = 1_000;
/// How long MongoDB works on a query at most.
pub(super) const QUERY_TIME_MAX: Duration = Duration::from_secs(5);
/// Documents of a page that are fetched at once.
const PAGE_BATCH: u32 = 51;
/// A page that has come to so many bytes ends there.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The orders read model.
#[derive(Debug, Clone)]
pub struct OrderStore {
    pub(super) database: Database,
    /// What of the attributes orders are found by.
    pub(super) paths: Arc<[AttributePath]>,
}

/// A part of a list.
#[derive(Debug)]
pub struct Page {
    /// The orders.
    pub orders: Vec<Order>,
    /// Whether the list goes on.
    pub more: bool,
}

impl OrderStore {
    /// The read model in `database`, which must write with majority concern.
    pub fn new(database: Database, paths: &[AttributePath]) -> Self {
        Self {
            database,
            paths: paths.into(),
        }
    }

    /// The declared path of this name.
    pub fn path(&self, name: &str) -> Option<AttributePath> {
        self.paths
            .iter()
            .find(|path| path.to_string() == name)
            .cloned()
    }

    /// How many orders of a generation pass `filter`, counted up to `max`.
    pub async fn count(
        &self,
        generation: Generation,
        filter: &OrderFilter,
        max: u64,
    ) -> Result<u64, StoreError> {
        let count = self
            .collection(generation)
            .count_documents(filter.query())
            .hint(Hint::Name(filter.index_name()))
            .max_time(QUERY_TIME_MAX)
            .limit(max)
            .await?;
        Ok(count)
    }

    pub(super) fn collection(&self, generation: Generation) -> Collection<RawDocumentBuf> {
        self.database.collection(&generation.storage(Model::Orders))
    }

    /// One order of a generation.
    pub async fn order(
        &self,
        generation: Generation,
        id: OrderId,
    ) -> Result<Option<Order>, StoreError> {
        let found = self
            .collection(generation)
            .find_one(doc! { "_id": id.to_string() })
            .max_time(QUERY_TIME_MAX)
            .await?;
        let Some(found) = found else {
            // Of a generation that was dropped nothing is found.
            self.checkpoint(generation).await?;
            return Ok(None);
        };
        document::decode(&found).map(Some)
    }

    /// At most `limit` orders of a generation that pass `filter`, in its order, those after `after` (what they are sorted by,
    /// in microseconds or minor units, and id). Fewer when they are large.
    pub async fn orders(
        &self,
        generation: Generation,
        filter: &OrderFilter,
        after: Option<(i64, OrderId)>,
        limit: u16,
    ) -> Result<Page, StoreError> {
        let mut page = Page {
            orders: Vec::with_capacity(limit.into()),
            more: false,
        };
        let mut bytes = 0;
        for query in filter.queries(after) {
            let mut found = self
                .collection(generation)
                .find(query)
                .sort(filter.sort.document())
                .hint(Hint::Name(filter.index_name()))
                // One more than asked for tells whether there is a next page.
                .limit(i64::from(limit) + 1)
                .batch_size(PAGE_BATCH)
                .max_time(QUERY_TIME_MAX)
                .await?;
            while let Some(document) = found.try_next().await? {
                if page.orders.len() >= usize::from(limit) || bytes >= PAGE_BYTES_MAX {
                    page.more = true;
                    return Ok(page);
                }
                bytes += document.as_bytes().len();
                page.orders.push(document::decode(&document)?);
            }
        }
        if page.orders.is_empty() {
            // Of a generation that was dropped nothing is found.
            self.checkpoint(generation).await?;
        }
        Ok(page)
    }

    async fn stored(
        &self,
        generation: Generation,
        streams: &[StreamId],
    ) -> Result<HashMap<StreamId, Order>, StoreError> {
        if streams.is_empty() {
            return Ok(HashMap::new());
        }
        let ids: Vec<String> = streams.iter().map(ToString::to_string).collect();
        let mut found = self
            .collection(generation)
            .find(doc! { "_id": { "$in": ids } })
            .await?;
        let mut stored = HashMap::with_capacity(streams.len());
        while let Some(document) = found.try_next().await? {
            let order = document::decode(&document)?;
            stored.insert(order.stream(), order);
        }
        Ok(stored)
    }

    /// Writes the last state of every stream: new ones by insert, which is fastest, the others, and new ones
    /// that turn out to be there already, by an update that leaves newer versions alone.
    async fn write(
        &self,
        generation: Generation,
        new: Vec<Order>,
        known: Vec<Order>,
    ) -> Result<(), StoreError> {
        let mut updates: Vec<RawDocumentBuf> = known.iter().map(document::encode).collect();
        let collection = self.collection(generation);
        let inserts = in_chunks(new, INSERTED_TOGETHER_MAX).map(|chunk| {
            let collection = collection.clone();
            async move {
                let documents: Vec<RawDocumentBuf> = chunk.iter().map(document::encode).collect();
                let there = insert(&collection, &documents).await?;
                let there = there
                    .into_iter()
                    .filter_map(|at| documents.get(at).cloned());
                Ok::<_, StoreError>(there.collect::<Vec<_>>())
            }
        });
        // While MongoDB stores some, the next are made.
        let there: Vec<_> = stream::iter(inserts)
            .buffered(INSERTS_UNDER_WAY_MAX)
            .try_collect()
            .await?;
        updates.extend(there.into_iter().flatten());
        let mut rest = updates.as_slice();
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(chunk_len(rest));
            // A second writer may insert what both find missing; whoever comes second then finds it.
            if self.update(generation, chunk).await? == Written::Raced
                && self.update(generation, chunk).await? == Written::Raced
            {
                return Err(StoreError::Refused("duplicate keys, twice".into()));
            }
            rest = after;
        }
        Ok(())
    }

    async fn update(
        &self,
        generation: Generation,
        documents: &[RawDocumentBuf],
    ) -> Result<Written, StoreError> {
        let updates: RawArrayBuf = documents.iter().filter_map(conditional).collect();
        let command = rawdoc! {
            "update": generation.storage(Model::Orders),
            "updates": updates,
            "ordered": false,
            "writeConcern": { "w": "majority" },
        };
        let answer = self.database.run_raw_command(command).await?;
        let errors = answer
            .get_array("writeErrors")
            .ok()
            .cloned()
            .unwrap_or_default();
        let raced = errors.iter().all(|error| {
            let code = error.as_document().and_then(|error| error.get("code"));
            code.is_some_and(|code| {
                code.as_i32().map(i64::from).or(code.as_i64()) == Some(DUPLICATE_KEY)
            })
        });
        if answer.contains_key("writeConcernError") || !raced {
            return Err(StoreError::Refused(
                format!("update: {answer}").chars().take(300).collect(),
            ));
        }
        Ok(if errors.is_empty() {
            Written::All
        } else {
            Written::Raced
        })
    }

    /// Moves the checkpoint if every partition still stands where it is said to.
    async fn advance(
        &self,
        generation: Generation,
        advances: &[Advance],
    ) -> Result<(), StoreError> {
        let (mut stands, mut goes) = (
            doc! { "_id": generation.storage(Model::Orders) },
            Document::new(),
        );
        for Advance {
            partition,
            from,
            to,
        } in advances
        {
            let key = format!("positions.{partition}");
            // A partition that is not there yet stands at the beginning.
            stands.insert(
                &key,
                if *from == 0 {
                    doc! { "$in": [0_i64, null] }
                } else {
                    doc! { "$eq": from }
                },
            );
            goes.insert(key, to);
        }
        let moved = generations::checkpoints(self)
            .update_one(stands, doc! { "$set": goes })
            .await?;
        if moved.matched_count == 1 {
            Ok(())
        } else {
            Err(StoreError::Moved(Model::Orders))
        }
    }
}

/// The same in parts of so many.
fn in_chunks<T>(all: Vec<T>, size: usize) -> impl Iterator<Item = Vec<T>> {
    let mut all = all.into_iter();
    std::iter::from_fn(move || {
        let chunk: Vec<T> = all.by_ref().take(size).collect();
        (!chunk.is_empty()).then_some(chunk)
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Written {
    All,
    Raced,
}

/// The update that replaces a document by `document` unless the stored one is as new or newer.
/// `$literal`: what clients put into their orders is data, whatever it looks like.
fn conditional(document: &RawDocumentBuf) -> Option<RawDocumentBuf> {
    let id = document.get_str("_id").ok()?;
    let version = document.get_i64("version").ok()?;
    Some(rawdoc! {
        "q": { "_id": id },
        "u": [{ "$replaceWith": { "$cond": [
            { "$lt": [{ "$ifNull": ["$version", -1_i64] }, version] },
            { "$literal": document.clone() },
            "$$ROOT",
        ] } }],
        "upsert": true,
    })
}

/// How many of `documents` (at least one) fit into one command.
fn chunk_len(documents: &[RawDocumentBuf]) -> usize {
    let mut bytes = 0;
    let fitting = documents
        .iter()
        .take(COMMAND_UPDATES_MAX)
        .take_while(|document| {
            bytes += document.as_bytes().len();
            bytes <= COMMAND_BYTES_MAX
        });
    fitting.count().max(1)
}

impl ReadModel for OrderStore {
    const MODEL: Model = Model::Orders;
    const VERSION: FoldVersion = FoldVersion(2);
    type State = Order;
    type Digest = Order<Digest>;

    async fn prepare(&self) -> Result<(), StoreError> {
        generations::prepare(self).await
    }

    async fn live(&self) -> Result<Generation, StoreError> {
        generations::live(self).await
    }

    async fn mend_view(&self) -> Result<(), StoreError> {
        generations::mend_view(self).await
    }

    async fn checkpoint(&self, generation: Generation) -> Result<Positions, StoreError> {
        generations::checkpoint(self, generation).await
    }

    async fn apply(
        &self,
        generation: Generation,
        round: &Round<OrderEvent>,
    ) -> Result<Applied, StoreError> {
        let stored = self.stored(generation, &continued::<Order>(round)).await?;
        let known: std::collections::HashSet<StreamId> = stored.keys().copied().collect();
        let Folded {
            states,
            advances,
            halts,
        } = fold(stored, round);
        let count = states.len();
        let (known, new) = states
            .into_iter()
            .partition(|order| known.contains(&order.stream()));
        // Before the orders: whoever sees a version finds its step.
        let steps = steps::of_round(round, &advances);
        if !steps.is_empty() {
            insert(&self.step_collection(generation), &steps).await?;
        }
        self.write(generation, new, known).await?;
        self.advance(generation, &advances).await?;
        Ok(Applied::of(&advances, count, halts))
    }

    async fn followed(&self) -> Result<(), StoreError> {
        generations::followed(self).await
    }

    async fn generations(&self) -> Result<Vec<Known>, StoreError> {
        generations::known(self).await
    }

    async fn begin_generation(&self) -> Result<Generation, StoreError> {
        generations::begin(self).await
    }

    async fn mend_generation(&self, generation: Generation) -> Result<(), StoreError> {
        generations::make(self, generation).await
    }

    async fn index(&self, generation: Generation) -> Result<(), StoreError> {
        generations::index(self, generation).await
    }

    async fn swap(
        &self,
        from: Option<Generation>,
        to: Generation,
        keep: Duration,
    ) -> Result<(), StoreError> {
        generations::swap(self, from, to, keep).await
    }

    async fn drop_generation(&self, generation: Generation) -> Result<(), StoreError> {
        generations::drop_generation(self, generation).await
    }

    async fn scan(
        &self,
        generation: Generation,
        wanted: impl Fn(StreamId) -> bool + Send,
        mut each: impl FnMut(Order<Digest>) + Send,
    ) -> Result<(), StoreError> {
        let mut found = self
            .collection(generation)
            .find(doc! {})
            .batch_size(SCAN_BATCH)
            .await?;
        while let Some(document) = found.try_next().await? {
            if wanted(document::stream(&document)?) {
                each(document::digest(&document)?);
            }
        }
        Ok(())
    }

    fn entry_of(event: &Fact<OrderEvent>) -> Option<Entry> {
        Some(steps::entry(event.event.stream_id(), &Step::of(event)))
    }

    async fn scan_entries(
        &self,
        generation: Generation,
        mut each: impl FnMut(Entry) + Send,
    ) -> Result<(), StoreError> {
        let mut found = self
            .step_collection::<RawDocumentBuf>(generation)
            .find(doc! {})
            .batch_size(SCAN_BATCH)
            .await?;
        while let Some(document) = found.try_next().await? {
            each(steps::entry_as_stored(&document)?);
        }
        Ok(())
    }

    async fn states(
        &self,
        generation: Generation,
        streams: &[StreamId],
    ) -> Result<HashMap<StreamId, Order>, StoreError> {
        self.stored(generation, streams).await
    }

    async fn set_aside(&self, record: &SetAside) -> Result<bool, StoreError> {
        aside::enter(self, record).await
    }

    async fn all_set_aside(&self) -> Result<Vec<SetAside>, StoreError> {
        aside::all(self).await
    }

    async fn stored_as(
        &self,
        generation: Generation,
        stream: StreamId,
    ) -> Result<Option<serde_json::Value>, StoreError> {
        let found = self
            .collection(generation)
            .find_one(doc! { "_id": stream.to_string() })
            .await?;
        Ok(found.map(|document| document::shown(&document)))
    }

    async fn newest(
        &self,
        generation: Generation,
        limit: u16,
    ) -> Result<Vec<serde_json::Value>, StoreError> {
        let found = self
            .collection(generation)
            .find(doc! {})
            .sort(Sort::default().document())
            .limit(i64::from(limit))
            .await?;
        let documents: Vec<RawDocumentBuf> = found.try_collect().await?;
        Ok(documents
            .iter()
            .map(|document| document::shown(document))
            .collect())
    }
}

/// Inserts what is not there yet; returns the indexes of what is.
async fn insert(
    collection: &Collection<RawDocumentBuf>,
    documents: &[RawDocumentBuf],
) -> Result<Vec<usize>, StoreError> {
    let Err(error) = collection.insert_many(documents).ordered(false).await else {
        return Ok(Vec::new());
    };
    if let ErrorKind::InsertMany(failed) = &*error.kind
        && failed.write_concern_error.is_none()
        && let Some(errors) = &failed.write_errors
        && errors
            .iter()
            .all(|each| i64::from(each.code) == DUPLICATE_KEY)
    {
        return Ok(errors.iter().map(|each| each.index).collect());
    }
    Err(error.into())
}
