//! Every place where the system keeps something, as raw bytes, to be searched for what must not be there.

use base64::{Engine, engine::general_purpose};
use futures_util::StreamExt;
use memchr::memmem;
use mongodb::bson::RawDocumentBuf;

use crate::{
    databases::{orders_database, postgres},
    environment,
    log::raw_log,
};

/// Some bytes, and where they were found.
pub struct Kept {
    /// Where.
    pub place: String,
    /// What.
    pub bytes: Vec<u8>,
}

/// Every record of the log: key, value and headers.
pub async fn in_kafka() -> Vec<Kept> {
    let flat = |record: crate::log::RawRecord| {
        let headers = record
            .headers
            .iter()
            .flat_map(|(name, value)| [name.as_bytes(), b"=", value, b"\n"].concat());
        let place = format!(
            "{}/{}@{}",
            record.topic.name(),
            record.partition,
            record.offset
        );
        Kept {
            place,
            bytes: [record.key, record.value, headers.collect()].concat(),
        }
    };
    raw_log().await.into_iter().map(flat).collect()
}

/// Every table of the database, in Postgres' own binary form, where texts and `bytea` stand as they are.
pub async fn in_postgres() -> Vec<Kept> {
    let mut postgres = postgres().await;
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
         WHERE schemaname NOT IN ('pg_catalog', 'information_schema')",
    )
    .fetch_all(&mut postgres)
    .await
    .expect("the tables");
    let mut kept = Vec::new();
    for table in tables {
        let statement = format!("COPY {table} TO STDOUT (FORMAT binary)");
        let mut rows = postgres.copy_out_raw(&statement).await.expect("a copy");
        let mut bytes = Vec::new();
        while let Some(part) = rows.next().await {
            bytes.extend_from_slice(&part.expect("a part of the copy"));
        }
        kept.push(Kept {
            place: format!("Postgres table {table}"),
            bytes,
        });
    }
    kept
}

/// Every document of every collection.
pub async fn in_mongodb() -> Vec<Kept> {
    let database = orders_database().await;
    let mut kept = Vec::new();
    for name in database.list_collection_names().await.expect("collections") {
        let collection = database.collection::<RawDocumentBuf>(&name);
        let listing = collection.find(mongodb::bson::doc! {}).await;
        // A view over collections that are searched themselves may go away meanwhile.
        let Ok(mut documents) = listing else { continue };
        while let Some(document) = documents.next().await {
            kept.push(Kept {
                place: format!("MongoDB collection {name}"),
                bytes: document.expect("a document").into_bytes(),
            });
        }
    }
    kept
}

/// The logs of our services. The providers' stand-in is no part of the system.
pub fn in_service_logs() -> Vec<Kept> {
    let directory = environment::home().join("logs");
    let files = std::fs::read_dir(&directory).expect("the logs");
    files
        .filter_map(Result::ok)
        .filter(|file| {
            let name = file.file_name().to_string_lossy().into_owned();
            ["command-api", "projections", "notifier"]
                .iter()
                .any(|service| name.starts_with(service))
        })
        .map(|file| Kept {
            place: format!("log {}", file.path().display()),
            bytes: std::fs::read(file.path()).expect("a log"),
        })
        .collect()
}

/// The places where `secret` can be read: as it is, in other letter case, or as hex, base64 or UTF-16.
pub fn found_in(kept: &[Kept], secret: &str) -> Vec<String> {
    let mut shapes: Vec<Vec<u8>> = vec![
        secret.as_bytes().to_vec(),
        secret.to_lowercase().into_bytes(),
        secret.to_uppercase().into_bytes(),
        secret
            .bytes()
            .flat_map(|byte| format!("{byte:02x}").into_bytes())
            .collect(),
        secret.encode_utf16().flat_map(u16::to_le_bytes).collect(),
    ];
    // What base64 makes of it depends on the bytes before it: three ways, less the letters they reach into.
    for before in 0..3 {
        let shifted = [vec![0; before], secret.as_bytes().to_vec()].concat();
        let text = general_purpose::STANDARD_NO_PAD.encode(&shifted);
        let (from, to) = ((before * 8).div_ceil(6), shifted.len() * 8 / 6);
        shapes.push(text.as_bytes()[from..to].to_vec());
    }
    kept.iter()
        .filter(|each| {
            shapes
                .iter()
                .any(|shape| memmem::find(&each.bytes, shape).is_some())
        })
        .map(|each| each.place.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_in_every_shape_it_may_have() {
        let secret = "Zanzibar-4711";
        let kept = |bytes: &[u8]| {
            vec![Kept {
                place: "here".to_owned(),
                bytes: bytes.to_vec(),
            }]
        };
        for prefix in ["", "x", "xy", "xyz"] {
            let text = format!("{prefix}{secret} and more");
            let base64 = general_purpose::STANDARD.encode(&text);
            for bytes in [
                text.as_bytes(),
                base64.as_bytes(),
                text.to_lowercase().as_bytes(),
            ] {
                assert_eq!(found_in(&kept(bytes), secret), ["here"], "{prefix}");
            }
        }
        assert!(found_in(&kept(b"Zanzibar-4712"), secret).is_empty());
    }
}
