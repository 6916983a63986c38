//! Generations of the orders collection: pointer, checkpoints, making, swapping and dropping.
//!
//! `read_models` holds the pointer, `checkpoints` one document per generation; a generation whose checkpoint
//! document is missing does not count. MongoDB has no transaction over these without a replica set, and none is
//! needed: each step may be repeated, and the one that matters, the pointer, is a single document.

use mongodb::{
    Collection, IndexModel,
    bson::{Document, doc},
    error::{Error, ErrorKind},
    options::{IndexOptions, ReturnDocument},
};

use super::{list::OrderFilter, store::OrderStore};
use crate::{
    model::{Generation, Model, Pointer, Positions},
    store::StoreError,
};

const NAMESPACE_NOT_FOUND: i32 = 26;
const NAMESPACE_EXISTS: i32 = 48;
const VIEW: &str = Model::Orders.name();
/// More swaps than this while a view is being mended are somebody's mistake.
const MENDINGS_MAX: usize = 5;

pub(super) fn checkpoints(store: &OrderStore) -> Collection<Document> {
    store.database.collection("checkpoints")
}

fn read_models(store: &OrderStore) -> Collection<Document> {
    store.database.collection("read_models")
}

pub(super) async fn prepare(store: &OrderStore) -> Result<(), StoreError> {
    if read_models(store)
        .find_one(doc! { "_id": VIEW })
        .await?
        .is_none()
    {
        let first = Generation::FIRST;
        create(store, first).await?;
        index(store, first).await?;
        let pointer = doc! { "live": first.0, "last": first.0 };
        read_models(store)
            .update_one(
                doc! { "_id": VIEW },
                // The pipeline's form of "unless it is there", with the server's clock.
                vec![doc! { "$replaceWith": { "$mergeObjects": [
                    { "_id": VIEW }, pointer, { "live_since": "$$NOW" }, "$$ROOT",
                ] } }],
            )
            .upsert(true)
            .await?;
    }
    mend_view(store).await
}

pub(super) async fn pointer(store: &OrderStore) -> Result<Pointer, StoreError> {
    let age =
        doc! { "$dateDiff": { "startDate": "$live_since", "endDate": "$$NOW", "unit": "second" } };
    let found = read_models(store)
        .find_one(doc! { "_id": VIEW })
        .projection(doc! { "live": 1, "last": 1, "live_for_s": age })
        .await?;
    let parse = |document: Document| {
        Some(Pointer {
            live: Generation(document.get_i32("live").ok()?),
            last: Generation(document.get_i32("last").ok()?),
            live_for_s: document.get_i64("live_for_s").ok()?,
        })
    };
    found
        .and_then(parse)
        .ok_or_else(|| StoreError::Damaged("the pointer to the live generation of orders".into()))
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
    let begun = read_models(store)
        .find_one_and_update(doc! { "_id": VIEW }, doc! { "$inc": { "last": 1 } })
        .return_document(ReturnDocument::After)
        .await?;
    let number = begun.and_then(|pointer| pointer.get_i32("last").ok());
    let generation =
        Generation(number.ok_or_else(|| StoreError::Damaged("the pointer of orders".into()))?);
    create(store, generation).await?;
    Ok(generation)
}

async fn create(store: &OrderStore, generation: Generation) -> Result<(), StoreError> {
    let name = generation.storage(Model::Orders);
    ignoring(
        store.database.create_collection(&name).await,
        NAMESPACE_EXISTS,
    )?;
    checkpoints(store)
        .update_one(
            doc! { "_id": name },
            doc! { "$setOnInsert": { "positions": {} } },
        )
        .upsert(true)
        .await?;
    Ok(())
}

pub(super) async fn index(store: &OrderStore, generation: Generation) -> Result<(), StoreError> {
    let indexes = OrderFilter::indexes().map(|(name, keys)| {
        IndexModel::builder()
            .keys(keys)
            .options(IndexOptions::builder().name(name.to_owned()).build())
            .build()
    });
    store.collection(generation).create_indexes(indexes).await?;
    Ok(())
}

pub(super) async fn swap(
    store: &OrderStore,
    from: Generation,
    to: Generation,
) -> Result<(), StoreError> {
    let swapped = read_models(store)
        .update_one(
            doc! { "_id": VIEW, "live": from.0, "last": to.0 },
            doc! { "$set": { "live": to.0 }, "$currentDate": { "live_since": true } },
        )
        .await?;
    if swapped.matched_count != 1 {
        return Err(StoreError::Gone(Model::Orders, to));
    }
    mend_view(store).await
}

pub(super) async fn drop_others(
    store: &OrderStore,
    begun: Generation,
) -> Result<Vec<Generation>, StoreError> {
    let live = pointer(store).await?.live;
    let mut dropped = Vec::new();
    for name in store.database.list_collection_names().await? {
        let Some(generation) = Generation::of_storage(Model::Orders, &name) else {
            continue;
        };
        if generation != live && generation != begun {
            // First the checkpoint: whoever still writes there notices and goes elsewhere.
            checkpoints(store).delete_one(doc! { "_id": &name }).await?;
            store.collection(generation).drop().await?;
            dropped.push(generation);
        }
    }
    dropped.sort_unstable();
    Ok(dropped)
}

/// Lets the view show the live generation. Repeated until the pointer stands still, so that two who do it
/// at once leave the newer one.
pub(super) async fn mend_view(store: &OrderStore) -> Result<(), StoreError> {
    for _ in 0..MENDINGS_MAX {
        let live = pointer(store).await?.live;
        point_view(store, live).await?;
        if pointer(store).await?.live == live {
            return Ok(());
        }
    }
    Err(StoreError::Refused(
        "the live generation of orders keeps changing".into(),
    ))
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
