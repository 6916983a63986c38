//! The databases alone: the rows and documents of a read model, stored once more with what each database has for bulk.

use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::TryStreamExt;
use mongodb::{
    Client, Collection, IndexModel,
    bson::{RawDocumentBuf, doc},
};
use sqlx_of_postgres_es::{Connection, PgConnection, Row, query};

/// Documents in one insert, as many as go into one batch of a feed.
const DOCUMENTS: usize = 1_000;
const SCHEMA: &str = "read_model";
const COPY: &str = "bench_copy";

/// What storing everything once more took.
#[derive(Debug, Clone, Copy)]
pub struct Stored {
    /// Rows or documents.
    pub count: u64,
    /// Storing them, without an index but that of the key in MongoDB.
    pub stored: Duration,
    /// Making the indexes, and taking the place of another table.
    pub indexed: Duration,
}

impl Stored {
    /// Rows or documents per second, indexes included.
    pub fn rate(&self) -> f64 {
        self.count as f64 / (self.stored + self.indexed).as_secs_f64()
    }
}

/// Copies the rows of a table into another with `COPY`, makes the same indexes there, and renames it.
pub async fn copied(url: &str, table: &str) -> anyhow::Result<Stored> {
    let mut connection = PgConnection::connect(url).await?;
    let out = format!("COPY {SCHEMA}.{table} TO STDOUT (FORMAT binary)");
    let rows: Vec<_> = connection.copy_out_raw(&out).await?.try_collect().await?;
    let indexes = query("SELECT indexdef FROM pg_indexes WHERE schemaname = $1 AND tablename = $2")
        .bind(SCHEMA)
        .bind(table)
        .fetch_all(&mut connection)
        .await?;
    let drop = format!("DROP TABLE IF EXISTS {SCHEMA}.{COPY}, {SCHEMA}.{COPY}_live");
    query(&drop).execute(&mut connection).await?;
    let create = format!("CREATE TABLE {SCHEMA}.{COPY} (LIKE {SCHEMA}.{table})");
    query(&create).execute(&mut connection).await?;
    let begun = Instant::now();
    let into = format!("COPY {SCHEMA}.{COPY} FROM STDIN (FORMAT binary)");
    let mut copy = connection.copy_in_raw(&into).await?;
    for some in rows {
        copy.send(some).await?;
    }
    let count = copy.finish().await?;
    let stored = begun.elapsed();
    let begun = Instant::now();
    for index in indexes {
        let made: String = index.try_get(0)?;
        let (kind, _) = made.split_once(" INDEX ").context("no index")?;
        let (_, columns) = made.split_once(" USING ").context("no columns")?;
        let make = format!("{kind} INDEX ON {SCHEMA}.{COPY} USING {columns}");
        query(&make).execute(&mut connection).await?;
    }
    let rename = format!("ALTER TABLE {SCHEMA}.{COPY} RENAME TO {COPY}_live");
    query(&rename).execute(&mut connection).await?;
    let indexed = begun.elapsed();
    query(&drop).execute(&mut connection).await?;
    Ok(Stored {
        count,
        stored,
        indexed,
    })
}

/// Inserts the documents of a collection into another, and makes the same indexes there.
pub async fn inserted(uri: &str, database: &str, collection: &str) -> anyhow::Result<Stored> {
    let database = Client::with_uri_str(uri).await?.database(database);
    let source: Collection<RawDocumentBuf> = database.collection(collection);
    let copy: Collection<RawDocumentBuf> = database.collection(COPY);
    copy.drop().await?;
    let mut documents = source
        .find(doc! {})
        .batch_size(DOCUMENTS.try_into()?)
        .await?;
    let (mut count, mut stored) = (0, Duration::ZERO);
    loop {
        let mut some = Vec::with_capacity(DOCUMENTS);
        while some.len() < DOCUMENTS
            && let Some(document) = documents.try_next().await?
        {
            some.push(document);
        }
        if some.is_empty() {
            break;
        }
        let begun = Instant::now();
        copy.insert_many(&some).ordered(false).await?;
        stored += begun.elapsed();
        count += some.len() as u64;
    }
    let indexes: Vec<IndexModel> = source.list_indexes().await?.try_collect().await?;
    let is_key = |index: &IndexModel| index.keys == doc! { "_id": 1 };
    let indexes: Vec<IndexModel> = indexes.into_iter().filter(|it| !is_key(it)).collect();
    let begun = Instant::now();
    if !indexes.is_empty() {
        copy.create_indexes(indexes).await?;
    }
    let indexed = begun.elapsed();
    copy.drop().await?;
    Ok(Stored {
        count,
        stored,
        indexed,
    })
}
