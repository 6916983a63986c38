//! Records of the orders' topic that were set aside, in a collection beside those of generations.

use futures_util::TryStreamExt;
use mongodb::{
    Collection,
    bson::{Document, doc, serialize_to_document},
    error::{ErrorKind, WriteFailure},
};

use super::store::{DUPLICATE_KEY, OrderStore};
use crate::{aside::SetAside, store::StoreError};

fn collection(store: &OrderStore) -> Collection<Document> {
    store.database.collection("set_aside")
}

/// Enters a record; whether it was not there.
pub(super) async fn enter(store: &OrderStore, record: &SetAside) -> Result<bool, StoreError> {
    let damaged = |error: mongodb::bson::error::Error| StoreError::Damaged(error.to_string());
    let mut document = serialize_to_document(record).map_err(damaged)?;
    let place = doc! { "partition": i32::from(record.partition), "offset": record.offset };
    document.insert("_id", place);
    let Err(error) = collection(store).insert_one(document).await else {
        return Ok(true);
    };
    if let ErrorKind::Write(WriteFailure::WriteError(failed)) = &*error.kind
        && i64::from(failed.code) == DUPLICATE_KEY
    {
        return Ok(false);
    }
    Err(error.into())
}

/// Every record, in the order of their places.
pub(super) async fn all(store: &OrderStore) -> Result<Vec<SetAside>, StoreError> {
    let records = collection(store)
        .clone_with_type::<SetAside>()
        .find(doc! {})
        .sort(doc! { "partition": 1, "offset": 1 })
        .await?;
    Ok(records.try_collect().await?)
}
