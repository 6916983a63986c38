//! The contract with downstream teams: every event has a schema, a sample and golden bytes; what was ever
//! published stays readable; committed versions are compatible with each other, both ways.
//!
//! `events/golden/<event>/<n>.avsc` is the n-th committed version of a schema, `<n>.hex` a body written with it.
//! A new event or a new version: run the tests once with `WRITE_GOLDEN=1`, which adds what is missing and never
//! changes what is there, and commit the files.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a test reads files, and its failure is a panic"
)]

mod samples;

use std::{fs, path::PathBuf};

use apache_avro::{Schema, schema_compatibility::SchemaCompatibility};
use events::{
    Event, EventType,
    codec::{self, WriterSchema},
    metadata::{self, Metadata},
};
use samples::{metadata_samples, sample};

fn golden(event_type: EventType, version: usize, extension: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(event_type.name())
        .join(format!("{version}.{extension}"))
}

/// Every committed version of an event's schema, oldest first.
fn versions(event_type: EventType) -> Vec<(usize, String)> {
    (1..)
        .map_while(|version| {
            fs::read_to_string(golden(event_type, version, "avsc"))
                .ok()
                .map(|text| (version, text))
        })
        .collect()
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

fn body(event: &Event) -> Vec<u8> {
    codec::encode(event, 7, Vec::new()).unwrap()
}

#[test]
fn every_event_round_trips_through_its_bytes() {
    for &event_type in EventType::ALL {
        let event = sample(event_type);
        assert_eq!(
            event.event_type(),
            event_type,
            "the sample of {event_type:?} is of another type"
        );
        let bytes = body(&event);
        assert_eq!(codec::schema_id(&bytes).unwrap(), 7);
        let writer: WriterSchema = event_type.schema_json().parse().unwrap();
        assert_eq!(codec::decode(event_type, &writer, &bytes).unwrap(), event);
    }
}

#[test]
fn an_independent_avro_library_reads_what_we_write() {
    for &event_type in EventType::ALL {
        let schema = Schema::parse_str(event_type.schema_json()).unwrap();
        let bytes = body(&sample(event_type));
        let mut rest = &bytes[5..];
        apache_avro::reader::datum::GenericDatumReader::builder(&schema)
            .build()
            .and_then(|reader| reader.read_value(&mut rest))
            .unwrap_or_else(|error| panic!("{event_type:?}: {error}"));
        assert!(
            rest.is_empty(),
            "{event_type:?} leaves {} bytes",
            rest.len()
        );
    }
}

#[test]
fn the_newest_golden_version_is_the_schema_in_use() {
    for &event_type in EventType::ALL {
        let all = versions(event_type);
        let newest = all.last().map(|(_, text)| json(text));
        if newest.as_ref() != Some(&json(event_type.schema_json()))
            && std::env::var_os("WRITE_GOLDEN").is_some()
        {
            let next = all.len() + 1;
            fs::create_dir_all(golden(event_type, next, "avsc").parent().unwrap()).unwrap();
            fs::write(golden(event_type, next, "avsc"), event_type.schema_json()).unwrap();
            let hex = hex::encode(&body(&sample(event_type))[5..]);
            fs::write(golden(event_type, next, "hex"), hex + "\n").unwrap();
            continue;
        }
        assert_eq!(
            newest,
            Some(json(event_type.schema_json())),
            "{event_type:?} has no golden files for its schema: run with WRITE_GOLDEN=1 and commit them"
        );
    }
}

#[test]
fn every_shape_ever_published_is_still_readable() {
    for &event_type in EventType::ALL {
        for (version, schema) in versions(event_type) {
            let hex = fs::read_to_string(golden(event_type, version, "hex")).unwrap();
            let framed = [vec![0, 0, 0, 0, 7], hex::decode(hex.trim()).unwrap()].concat();
            let event = codec::decode(event_type, &schema.parse().unwrap(), &framed)
                .unwrap_or_else(|error| panic!("{event_type:?} version {version}: {error}"));
            if json(&schema) == json(event_type.schema_json()) {
                assert_eq!(
                    event,
                    sample(event_type),
                    "{event_type:?}: the bytes say something else now"
                );
                assert_eq!(
                    body(&event),
                    framed,
                    "{event_type:?}: it is written differently now"
                );
            }
        }
    }
}

#[test]
fn committed_versions_are_compatible_both_ways() {
    for &event_type in EventType::ALL {
        let all = versions(event_type);
        for (old, old_text) in &all {
            for (new, new_text) in &all {
                let (old_schema, new_schema) = (
                    Schema::parse_str(old_text).unwrap(),
                    Schema::parse_str(new_text).unwrap(),
                );
                SchemaCompatibility::mutual_read(&old_schema, &new_schema)
                    .unwrap_or_else(|error| panic!("{event_type:?} {old} and {new}: {error}"));
            }
        }
    }
}

#[test]
fn the_compatibility_check_notices_a_broken_schema() {
    let schema = EventType::OrderCancelled.schema_json();
    let broken = schema.replace("\"customer_id\"", "\"buyer_id\"");
    assert_ne!(schema, broken);
    let (old, new) = (
        Schema::parse_str(schema).unwrap(),
        Schema::parse_str(&broken).unwrap(),
    );
    assert!(SchemaCompatibility::mutual_read(&old, &new).is_err());
}

#[test]
fn every_schema_is_named_and_documented() {
    for &event_type in EventType::ALL {
        let schema = json(event_type.schema_json());
        let name = format!(
            "{}.{}",
            schema["namespace"].as_str().unwrap(),
            schema["name"].as_str().unwrap()
        );
        assert_eq!(name, event_type.record_name());
        assert_documented(&schema, event_type.name());
        for id in ["user_id", "order_id", "customer_id", "credential_id"] {
            if let Some(field) = field(&schema, id) {
                assert_eq!(field["type"]["logicalType"], "uuid", "{name}.{id}");
            }
        }
        let occurred_at = field(&schema, "occurred_at").unwrap();
        assert_eq!(
            occurred_at["type"]["logicalType"], "timestamp-micros",
            "{name}"
        );
    }
}

fn field<'a>(schema: &'a serde_json::Value, name: &str) -> Option<&'a serde_json::Value> {
    schema["fields"]
        .as_array()
        .unwrap()
        .iter()
        .find(|field| field["name"] == name)
}

fn assert_documented(value: &serde_json::Value, path: &str) {
    match value {
        serde_json::Value::Object(object) => {
            let is_field = object.contains_key("name") && object.contains_key("type");
            if is_field {
                let doc = object
                    .get("doc")
                    .and_then(serde_json::Value::as_str)
                    .unwrap_or_default();
                assert!(doc.len() > 3, "{path}.{} has no doc", object["name"]);
            }
            for (key, value) in object {
                assert_documented(value, &format!("{path}.{key}"));
            }
        }
        serde_json::Value::Array(items) => {
            items.iter().for_each(|item| assert_documented(item, path))
        }
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_) => {}
    }
}

#[test]
fn every_schema_file_belongs_to_an_event() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../schemas");
    let mut files = 0;
    for folder in fs::read_dir(root).unwrap() {
        for file in fs::read_dir(folder.unwrap().path()).unwrap() {
            let text = fs::read_to_string(file.unwrap().path()).unwrap();
            assert!(
                EventType::ALL.iter().any(|each| each.schema_json() == text),
                "no event for {text}"
            );
            files += 1;
        }
    }
    assert_eq!(files, EventType::ALL.len());
}

#[test]
fn metadata_round_trips_through_headers() {
    for metadata in metadata_samples() {
        let event = sample(EventType::OrderCreated);
        let mut headers = Vec::new();
        metadata::write_headers(
            &metadata,
            event.event_type(),
            event.stream_id(),
            |name, value| {
                headers.push((name.to_owned(), value.as_bytes().to_vec()));
            },
        );
        let read = metadata::read_headers(
            headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_slice())),
        );
        assert_eq!(read, Ok((EventType::OrderCreated, metadata)));
    }
}

#[test]
fn headers_are_a_cloudevent_in_binary_mode() {
    let event = sample(EventType::OrderCreated);
    let first: Metadata = metadata_samples().remove(0);
    let mut headers = Vec::new();
    metadata::write_headers(
        &first,
        event.event_type(),
        event.stream_id(),
        |name, value| {
            headers.push(format!("{name}: {value}"));
        },
    );
    assert_eq!(
        headers,
        [
            "content-type: application/avro",
            "ce_specversion: 1.0",
            "ce_id: 00000000-0000-0000-0000-00000000000e",
            "ce_type: order_created",
            "ce_source: /orderlog/command-api",
            "ce_time: 2026-11-22T08:00:00.000001Z",
            "ce_subject: 00000000-0000-0000-0000-000000000001",
            "ce_streamversion: 1",
            "ce_commandid: 00000000-0000-0000-0000-00000000000c",
            "ce_correlationid: 00000000-0000-0000-0000-00000000000d",
            "ce_causationid: 00000000-0000-0000-0000-00000000000c",
            "ce_actor: user:00000000-0000-0000-0000-000000000002",
            "ce_idempotencykey: invoice-536365",
            "ce_requestdigest: abababababababababababababababababababababababababababababababab",
            "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ],
        "the headers are a contract: add, but never change"
    );
}

#[test]
fn a_damaged_header_is_named() {
    let event = sample(EventType::OrderCreated);
    let metadata = metadata_samples().remove(0);
    let mut headers = Vec::new();
    metadata::write_headers(
        &metadata,
        event.event_type(),
        event.stream_id(),
        |name, value| {
            headers.push((name.to_owned(), value.as_bytes().to_vec()));
        },
    );
    for name in [
        "ce_id",
        "ce_type",
        "ce_time",
        "ce_streamversion",
        "ce_actor",
        "ce_requestdigest",
    ] {
        for damaged in [None, Some(b"?".to_vec()), Some(vec![0xff])] {
            let read = metadata::read_headers(headers.iter().filter_map(|(each, value)| {
                let value = if each == name {
                    damaged.as_ref()?
                } else {
                    value
                };
                Some((each.as_str(), value.as_slice()))
            }));
            assert_eq!(read.unwrap_err().0, name);
        }
    }
}

#[test]
fn bytes_that_are_no_event_are_refused_not_believed() {
    let event_type = EventType::OrderCreated;
    let writer: WriterSchema = event_type.schema_json().parse().unwrap();
    let bytes = body(&sample(event_type));
    assert!(codec::decode(event_type, &writer, &[]).is_err());
    assert!(codec::decode(event_type, &writer, &[1, 0, 0, 0, 7, 0]).is_err());
    for length in 0..bytes.len() {
        assert!(
            codec::decode(event_type, &writer, &bytes[..length]).is_err(),
            "{length} bytes"
        );
    }
}
