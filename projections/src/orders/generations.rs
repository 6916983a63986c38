//! Generations of the orders collection: pointers, checkpoints, making, swapping and dropping.
//!
//! One document of `read_models` says which generations there are, and which is live for each version of the fold: whatever
//! changes there changes in one step, so that none is dropped while it goes live. `checkpoints` has a document for each. What is
//! made is first entered, what is dropped is first struck out: a collection that is entered nowhere was left by a late writer.

use std::{collections::BTreeMap, time::Duration};

use futures_util::TryStreamExt;
use mongodb::{
    Collection, IndexModel,
    bson::{DateTime, Document, doc},
    error::{Error, ErrorKind},
    options::IndexOptions,
};

use super::{list::OrderFilter, steps, store::OrderStore};
use crate::{
    model::{FoldVersion, Generation, Known, Model, Positions, Stage},
    store::{ReadModel, StoreError},
};

const NAMESPACE_NOT_FOUND: i32 = 26;
const NAMESPACE_EXISTS: i32 = 48;
const VIEW: &str = Model::Orders.name();
/// The document of all generations.
const REGISTRY: &str = "orders.generations";
/// The document of those who knew one version only; left as it is, for programs of that time.
const FORMER_POINTER: &str = "orders";
/// More swaps, or beginnings, than this while one is under way are somebody's mistake.
const ATTEMPTS_MAX: usize = 10;

pub(super) fn checkpoints(store: &OrderStore) -> Collection<Document> {
    store.database.collection("checkpoints")
}

fn read_models(store: &OrderStore) -> Collection<Document> {
    store.database.collection("read_models")
}

pub(super) async fn prepare(store: &OrderStore) -> Result<(), StoreError> {
    let registry = doc! { "_id": REGISTRY };
    if read_models(store)
        .find_one(registry.clone())
        .await?
        .is_none()
    {
        let former = read_models(store)
            .find_one(doc! { "_id": FORMER_POINTER })
            .await?;
        let former = former
            .and_then(|former| Some((former.get_i32("live").ok()?, former.get_i32("last").ok()?)));
        let (version, live, last) = match former {
            Some((live, last)) => (FoldVersion(1), Generation(live), last),
            None => {
                let first = Generation::FIRST;
                make(store, first).await?;
                index(store, first).await?;
                (OrderStore::VERSION, first, first.0)
            }
        };
        let entered = doc! {
            "_id": REGISTRY,
            "last": last,
            "versions": { version.0.to_string(): live_now(live) },
            "generations": { live.to_string(): { "version": i32::from(version.0), "begun_at": "$$NOW" } },
            "dropped": [],
        };
        read_models(store)
            .update_one(
                registry,
                // The pipeline's form of "unless it is there", with the server's clock.
                vec![doc! { "$replaceWith": { "$mergeObjects": [entered, "$$ROOT"] } }],
            )
            .upsert(true)
            .await?;
    }
    mend_view(store).await
}

fn version() -> String {
    OrderStore::VERSION.0.to_string()
}

/// A pointer, as of now.
fn live_now(live: Generation) -> Document {
    doc! { "live": live.0, "live_since": "$$NOW", "followed_at": "$$NOW" }
}

/// What the registry says.
struct Registry {
    /// The number given out last.
    last: i32,
    /// The live generation of each version, and how many seconds ago it was last said to be served.
    live: BTreeMap<FoldVersion, (Generation, i64)>,
    known: Vec<Known>,
    /// What was there, and is to be no more.
    dropped: Vec<Generation>,
}

impl Registry {
    async fn read(store: &OrderStore) -> Result<Self, StoreError> {
        let found = read_models(store)
            .aggregate([
                doc! { "$match": { "_id": REGISTRY } },
                doc! { "$set": { "now": "$$NOW" } },
            ])
            .await?
            .try_next()
            .await?;
        found
            .and_then(|document| Self::parse(&document))
            .ok_or_else(|| StoreError::Damaged("the registry of generations of orders".into()))
    }

    fn parse(document: &Document) -> Option<Self> {
        let now = *document.get_datetime("now").ok()?;
        let versions = document.get_document("versions").ok()?.iter();
        let live = versions.map(|(version, pointer)| {
            let pointer = pointer.as_document()?;
            let followed_ago_s = seconds(*pointer.get_datetime("followed_at").ok()?, now);
            let live = Generation(pointer.get_i32("live").ok()?);
            Some((FoldVersion(version.parse().ok()?), (live, followed_ago_s)))
        });
        let live: BTreeMap<_, _> = live.collect::<Option<_>>()?;
        let generations = document.get_document("generations").ok()?.iter();
        let known = generations.map(|(name, entry)| {
            let entry = entry.as_document()?;
            let generation: Generation = name.parse().ok()?;
            let pointer = live.values().find(|(live, _)| *live == generation);
            let time = |field| entry.get_datetime(field).ok().copied();
            let stage = match (pointer, time("kept_until"), time("kept_since")) {
                (Some((_, followed_ago_s)), ..) => Stage::Live {
                    followed_ago_s: *followed_ago_s,
                },
                (None, Some(until), Some(since)) => Stage::Kept {
                    since_s: seconds(since, now),
                    rest_s: seconds(now, until),
                },
                (None, ..) => Stage::Filling {
                    begun_ago_s: seconds(time("begun_at")?, now),
                },
            };
            Some(Known {
                generation,
                version: FoldVersion(entry.get_i32("version").ok()?.try_into().ok()?),
                stage,
            })
        });
        let mut known: Vec<Known> = known.collect::<Option<_>>()?;
        known.sort_unstable_by_key(|each| each.generation);
        let dropped = document.get_array("dropped").ok()?.iter();
        let dropped = dropped.map(|number| number.as_i32().map(Generation));
        Some(Self {
            last: document.get_i32("last").ok()?,
            known,
            dropped: dropped.collect::<Option<_>>()?,
            live,
        })
    }
}

/// From one time to another, in whole seconds.
fn seconds(from: DateTime, to: DateTime) -> i64 {
    (to.timestamp_millis() - from.timestamp_millis()).div_euclid(1_000)
}

pub(super) async fn live(store: &OrderStore) -> Result<Generation, StoreError> {
    match Registry::read(store).await?.live.get(&OrderStore::VERSION) {
        Some((live, _)) => Ok(*live),
        None => Err(StoreError::NotBuilt(Model::Orders, OrderStore::VERSION)),
    }
}

pub(super) async fn followed(store: &OrderStore) -> Result<(), StoreError> {
    let live = format!("versions.{}.live", version());
    let followed_at = format!("versions.{}.followed_at", version());
    read_models(store)
        .update_one(
            doc! { "_id": REGISTRY, live: { "$exists": true } },
            doc! { "$currentDate": { followed_at: true } },
        )
        .await?;
    Ok(())
}

pub(super) async fn known(store: &OrderStore) -> Result<Vec<Known>, StoreError> {
    let names = store.database.list_collection_names().await?;
    let Registry {
        mut known, dropped, ..
    } = Registry::read(store).await?;
    // What a late writer has made again after it was dropped is nobody's.
    for generation in dropped {
        if storages(generation)
            .iter()
            .any(|storage| names.contains(storage))
        {
            known.push(Known {
                generation,
                version: FoldVersion(0),
                stage: Stage::Kept {
                    since_s: i64::MAX,
                    rest_s: 0,
                },
            });
        }
    }
    known.sort_unstable_by_key(|each| each.generation);
    Ok(known)
}

/// The collections of a generation.
fn storages(generation: Generation) -> [String; 2] {
    [
        generation.storage(Model::Orders),
        steps::storage(generation),
    ]
}

pub(super) async fn checkpoint(
    store: &OrderStore,
    generation: Generation,
) -> Result<Positions, StoreError> {
    let found = checkpoints(store)
        .find_one(doc! { "_id": generation.storage(Model::Orders) })
        .await?;
    let found = found.ok_or(StoreError::Gone(Model::Orders, generation))?;
    let parse = || -> Option<Positions> {
        let positions = found.get_document("positions").ok()?;
        positions
            .iter()
            .map(|(partition, position)| Some((partition.parse().ok()?, position.as_i64()?)))
            .collect()
    };
    parse().ok_or_else(|| StoreError::Damaged(format!("the checkpoint of orders {generation}")))
}

pub(super) async fn begin(store: &OrderStore) -> Result<Generation, StoreError> {
    for _ in 0..ATTEMPTS_MAX {
        let last = Registry::read(store).await?.last;
        let generation = Generation(last + 1);
        let entry = doc! { "version": i32::from(OrderStore::VERSION.0), "begun_at": "$$NOW" };
        let entered = read_models(store)
            .update_one(
                doc! { "_id": REGISTRY, "last": last },
                vec![doc! { "$set": { "last": generation.0, format!("generations.{generation}"): entry } }],
            )
            .await?;
        if entered.matched_count == 1 {
            make(store, generation).await?;
            return Ok(generation);
        }
    }
    Err(StoreError::Refused(
        "generations of orders keep being begun".into(),
    ))
}

/// Makes the collections and the checkpoint of a generation that was entered, as far as they are not there.
pub(super) async fn make(store: &OrderStore, generation: Generation) -> Result<(), StoreError> {
    for name in storages(generation) {
        ignoring(
            store.database.create_collection(&name).await,
            NAMESPACE_EXISTS,
        )?;
    }
    checkpoints(store)
        .update_one(
            doc! { "_id": generation.storage(Model::Orders) },
            doc! { "$setOnInsert": { "positions": {} } },
        )
        .upsert(true)
        .await?;
    Ok(())
}

pub(super) async fn index(store: &OrderStore, generation: Generation) -> Result<(), StoreError> {
    let indexes = OrderFilter::indexes(&store.paths).into_iter();
    let indexes = indexes.map(|(name, keys)| {
        IndexModel::builder()
            .keys(keys)
            .options(IndexOptions::builder().name(name).build())
            .build()
    });
    store.collection(generation).create_indexes(indexes).await?;
    Ok(())
}

pub(super) async fn swap(
    store: &OrderStore,
    from: Option<Generation>,
    to: Generation,
    keep: Duration,
) -> Result<(), StoreError> {
    let pointer = format!("versions.{}", version());
    let mut stands = doc! {
        "_id": REGISTRY,
        format!("generations.{to}.version"): i32::from(OrderStore::VERSION.0),
    };
    let mut goes = doc! { &pointer: live_now(to) };
    match from {
        Some(from) => {
            let keep = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
            stands.insert(format!("{pointer}.live"), from.0);
            goes.insert(format!("generations.{from}.kept_since"), "$$NOW");
            let kept_until = doc! { "$add": ["$$NOW", keep] };
            goes.insert(format!("generations.{from}.kept_until"), kept_until);
        }
        None => drop(stands.insert(pointer, doc! { "$exists": false })),
    }
    let kept = ["since", "until"].map(|end| format!("generations.{to}.kept_{end}"));
    let swapped = read_models(store)
        .update_one(
            stands,
            vec![doc! { "$set": goes }, doc! { "$unset": kept.to_vec() }],
        )
        .await?;
    if swapped.matched_count != 1 {
        return Err(StoreError::Gone(Model::Orders, to));
    }
    mend_view(store).await
}

pub(super) async fn drop_generation(
    store: &OrderStore,
    generation: Generation,
) -> Result<(), StoreError> {
    let live = Registry::read(store).await?.live;
    let served_by = live.iter().filter(|(_, (live, _))| *live == generation);
    let served_by: Vec<String> = served_by
        .map(|(version, _)| version.0.to_string())
        .collect();
    let mut struck = vec![format!("generations.{generation}")];
    struck.extend(
        served_by
            .iter()
            .map(|version| format!("versions.{version}")),
    );
    // In one step with the look at the pointer of this version.
    let stands =
        doc! { "_id": REGISTRY, format!("versions.{}.live", version()): { "$ne": generation.0 } };
    let dropped = doc! { "dropped": { "$setUnion": ["$dropped", [generation.0]] } };
    let struck = read_models(store)
        .update_one(
            stands,
            vec![doc! { "$unset": struck }, doc! { "$set": dropped }],
        )
        .await?;
    if struck.matched_count != 1 {
        return Err(StoreError::IsLive(Model::Orders, generation));
    }
    mend_view(store).await?;
    // First the checkpoint: whoever still writes there notices and goes elsewhere.
    let name = generation.storage(Model::Orders);
    checkpoints(store).delete_one(doc! { "_id": name }).await?;
    for name in storages(generation) {
        store.database.collection::<Document>(&name).drop().await?;
    }
    Ok(())
}

/// Lets the view show the live generation. Repeated until the pointer stands still, so that two who do it
/// at once leave the newer one.
pub(super) async fn mend_view(store: &OrderStore) -> Result<(), StoreError> {
    for _ in 0..ATTEMPTS_MAX {
        let Some(live) = shown(store).await? else {
            return Ok(());
        };
        point_view(store, live).await?;
        if shown(store).await? == Some(live) {
            return Ok(());
        }
    }
    Err(StoreError::Refused(
        "the live generation of orders keeps changing".into(),
    ))
}

/// What the view for other readers is to show: what the latest version serves.
async fn shown(store: &OrderStore) -> Result<Option<Generation>, StoreError> {
    let live = Registry::read(store).await?.live;
    Ok(live.last_key_value().map(|(_, (live, _))| *live))
}

async fn point_view(store: &OrderStore, live: Generation) -> Result<(), StoreError> {
    let shown = live.storage(Model::Orders);
    let command = doc! { "collMod": VIEW, "viewOn": &shown, "pipeline": [] };
    match store.database.run_command(command).await {
        Err(error) if code(&error) == Some(NAMESPACE_NOT_FOUND) => {
            let command = doc! { "create": VIEW, "viewOn": &shown, "pipeline": [] };
            ignoring(
                store.database.run_command(command).await.map(|_| ()),
                NAMESPACE_EXISTS,
            )?;
        }
        Err(error) => return Err(error.into()),
        Ok(_) => {}
    }
    Ok(())
}

fn code(error: &Error) -> Option<i32> {
    if let ErrorKind::Command(refused) = &*error.kind {
        return Some(refused.code);
    }
    None
}

fn ignoring(outcome: Result<(), Error>, ignored: i32) -> Result<(), StoreError> {
    match outcome {
        Err(error) if code(&error) == Some(ignored) => Ok(()),
        other => other.map_err(StoreError::from),
    }
}
