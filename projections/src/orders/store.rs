//! Orders in MongoDB: every write is conditional on the stream version, so that writing twice changes
//! nothing; the checkpoint follows the data.

use std::collections::HashMap;

use events::{
    OrderEvent,
    ids::{OrderId, StreamId},
};
use futures_util::TryStreamExt;
use mongodb::{
    Collection, Database,
    bson::{Document, RawArrayBuf, RawDocumentBuf, doc, rawdoc},
    error::ErrorKind,
    options::Hint,
};

use super::{document, fold::Order, generations, list::OrderFilter};
use crate::{
    digest::Digest,
    fold::{Advance, Folded, Round, State, continued, fold},
    model::{Generation, Model, Pointer, Positions},
    store::{Applied, ReadModel, StoreError},
};

/// MongoDB's code for a key that is there already.
const DUPLICATE_KEY: i64 = 11_000;
/// Bytes of documents in one update command at most; a command may have 48 MB.
const COMMAND_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Updates in one command at most; MongoDB takes 100,000.
const COMMAND_UPDATES_MAX: usize = 1_000;
const SCAN_BATCH: u32 = 1_000;
/// Documents of a page that are fetched at once.
const PAGE_BATCH: u32 = 51;
/// A page that has come to so many bytes ends there.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The orders read model.
#[derive(Debug, Clone)]
pub struct OrderStore {
    pub(super) database: Database,
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
    pub fn new(database: Database) -> Self {
        Self { database }
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
            .await?;
        found
            .map(|document| document::decode(&document))
            .transpose()
    }

    /// At most `limit` orders of a generation that pass `filter`, newest first, those after `after`
    /// (created at in microseconds, id). Fewer when they are large.
    pub async fn orders(
        &self,
        generation: Generation,
        filter: &OrderFilter,
        after: Option<(i64, OrderId)>,
        limit: u16,
    ) -> Result<Page, StoreError> {
        let mut found = self
            .collection(generation)
            .find(filter.query(after))
            .sort(OrderFilter::sort())
            .hint(Hint::Name(filter.index_name().into()))
            // One more than asked for tells whether there is a next page.
            .limit(i64::from(limit) + 1)
            .batch_size(PAGE_BATCH)
            .await?;
        let mut page = Page {
            orders: Vec::with_capacity(limit.into()),
            more: false,
        };
        let mut bytes = 0;
        while let Some(document) = found.try_next().await? {
            if page.orders.len() >= usize::from(limit) || bytes >= PAGE_BYTES_MAX {
                page.more = true;
                break;
            }
            bytes += document.as_bytes().len();
            page.orders.push(document::decode(&document)?);
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
        if !new.is_empty() {
            let documents: Vec<RawDocumentBuf> = new.iter().map(document::encode).collect();
            let there = self.insert(generation, &documents).await?;
            updates.extend(
                there
                    .into_iter()
                    .filter_map(|index| documents.get(index).cloned()),
            );
        }
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

    /// Inserts what is not there yet; returns the indexes of what is.
    async fn insert(
        &self,
        generation: Generation,
        documents: &[RawDocumentBuf],
    ) -> Result<Vec<usize>, StoreError> {
        let Err(error) = self
            .collection(generation)
            .insert_many(documents)
            .ordered(false)
            .await
        else {
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
    type State = Order;
    type Digest = Order<Digest>;

    async fn prepare(&self) -> Result<(), StoreError> {
        generations::prepare(self).await
    }

    async fn pointer(&self) -> Result<Pointer, StoreError> {
        generations::pointer(self).await
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
        self.write(generation, new, known).await?;
        self.advance(generation, &advances).await?;
        let positions = advances
            .iter()
            .map(|each| (each.partition, each.to))
            .collect();
        Ok(Applied {
            positions,
            states: count,
            halts,
        })
    }

    async fn begin_generation(&self) -> Result<Generation, StoreError> {
        generations::begin(self).await
    }

    async fn index(&self, generation: Generation) -> Result<(), StoreError> {
        generations::index(self, generation).await
    }

    async fn swap(&self, from: Generation, to: Generation) -> Result<(), StoreError> {
        generations::swap(self, from, to).await
    }

    async fn drop_others(&self, begun: Generation) -> Result<Vec<Generation>, StoreError> {
        generations::drop_others(self, begun).await
    }

    async fn scan(
        &self,
        generation: Generation,
        mut each: impl FnMut(Order<Digest>) + Send,
    ) -> Result<(), StoreError> {
        let mut found = self
            .collection(generation)
            .find(doc! {})
            .batch_size(SCAN_BATCH)
            .await?;
        while let Some(document) = found.try_next().await? {
            each(document::digest(&document)?);
        }
        Ok(())
    }

    async fn newest(
        &self,
        generation: Generation,
        limit: u16,
    ) -> Result<Vec<serde_json::Value>, StoreError> {
        let found = self
            .collection(generation)
            .find(doc! {})
            .sort(OrderFilter::sort())
            .limit(i64::from(limit))
            .await?;
        let documents: Vec<RawDocumentBuf> = found.try_collect().await?;
        Ok(documents
            .iter()
            .map(|document| document::shown(document))
            .collect())
    }
}
