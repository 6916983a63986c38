//! The log as downstream teams read it: CloudEvents in Avro, in order, and nothing missing.

use std::collections::{HashMap, HashSet};

use end_to_end::{
    beside_others,
    environment::variable,
    http::call,
    log::{RawRecord, raw_log, streams_of},
    orders::{contents_of, full_order},
    people::{registered_user, unique},
};
use events::Topic;
use reqwest::Method;
use serde_json::{Value, json};

/// Something of every kind, so that there is a log to look at.
async fn something_happens() {
    let user = registered_user().await;
    user.prefers(true, false).await;
    let call = user.command(Method::POST, "/orders").key(&unique("key-"));
    let id = call.json(&full_order()).send().await.is(201).text("id");
    let put = user
        .command(Method::PUT, &format!("/orders/{id}"))
        .if_match("\"1\"");
    put.json(&contents_of("B")).send().await.is(200);
    let cancel = user.command(Method::POST, &format!("/orders/{id}/cancel"));
    cancel.json(&json!({})).send().await.is(200);
}

#[test]
fn every_record_is_a_cloud_event_with_confluent_framing() {
    beside_others(async {
        something_happens().await;
        let mut names_of_schemas = HashMap::new();
        let mut ids = HashSet::new();
        let records = raw_log().await;
        assert!(records.len() >= 6);
        for record in &records {
            assert_eq!(record.header("content-type"), "application/avro");
            assert_eq!(record.header("ce_specversion"), "1.0");
            assert!(
                ids.insert(record.header("ce_id").to_owned()),
                "twice: {record:?}"
            );
            assert!(record.header("ce_source").starts_with('/'), "{record:?}");
            let time = record.header("ce_time");
            let format = &time::format_description::well_known::Rfc3339;
            assert!(time::OffsetDateTime::parse(time, format).is_ok(), "{time}");
            assert_eq!(
                record.header("ce_subject").as_bytes(),
                record.key,
                "{record:?}"
            );
            for id in [
                "ce_id",
                "ce_commandid",
                "ce_correlationid",
                "ce_causationid",
            ] {
                assert!(
                    record.header(id).parse::<uuid::Uuid>().is_ok(),
                    "{id}: {record:?}"
                );
            }
            assert_eq!(
                record.header("ce_causationid"),
                record.header("ce_commandid")
            );
            is_an_actor(record.header("ce_actor"));
            assert_eq!(
                schema_name(record, &mut names_of_schemas).await,
                record_name(record),
                "{record:?}"
            );
        }
    });
}

#[test]
fn an_order_created_under_a_key_says_so() {
    beside_others(async {
        let user = registered_user().await;
        let key = unique("key-");
        let call = user
            .command(Method::POST, "/orders")
            .key(&key)
            .json(&full_order());
        let id = call.send().await.is(201).text("id");
        let records = raw_log().await;
        let record = records
            .iter()
            .find(|record| record.key == id.as_bytes())
            .unwrap();
        assert_eq!(record.topic, Topic::Orders);
        assert_eq!(record.header("ce_type"), "order_created");
        assert_eq!(record.header("ce_streamversion"), "1");
        assert_eq!(record.header("ce_idempotencykey"), key);
        assert_eq!(record.header("ce_actor"), format!("user:{}", user.id));
    });
}

#[test]
fn a_registration_and_its_address_are_one_command_in_one_partition() {
    beside_others(async {
        let user = registered_user().await;
        let records = raw_log().await;
        let registered = records
            .iter()
            .find(|record| record.key == user.id.as_bytes())
            .unwrap();
        assert_eq!(registered.header("ce_type"), "user_registered");
        let command = registered.header("ce_commandid");
        let together: Vec<_> = records
            .iter()
            .filter(|record| record.header("ce_commandid") == command)
            .map(|record| (record.topic, record.partition, record.header("ce_type")))
            .collect();
        let partition = registered.partition;
        let claimed = (Topic::Users, partition, "user_email_claimed");
        assert_eq!(together.len(), 2, "{together:?}");
        assert!(together.contains(&claimed), "{together:?}");
    });
}

#[test]
fn versions_count_up_from_one_in_every_stream() {
    beside_others(async {
        something_happens().await;
        for topic in Topic::ALL {
            assert!(!streams_of(topic).await.is_empty());
        }
    });
}

fn is_an_actor(actor: &str) {
    let known = actor == "system"
        || actor.split_once(':').is_some_and(|(role, id)| {
            ["user", "admin"].contains(&role) && id.parse::<uuid::Uuid>().is_ok()
        });
    assert!(known, "{actor}");
}

/// The full name of the record that the value's schema id stands for, as the registry says.
async fn schema_name(record: &RawRecord, known: &mut HashMap<u32, String>) -> String {
    let (magic, rest) = record.value.split_first().unwrap();
    assert_eq!(*magic, 0, "{record:?}");
    let id = u32::from_be_bytes(*rest.first_chunk().unwrap());
    if let Some(name) = known.get(&id) {
        return name.clone();
    }
    let registry = variable("SCHEMA_REGISTRY_URL");
    let answer = call(Method::GET, &registry, &format!("/schemas/ids/{id}"))
        .send()
        .await
        .is(200);
    let schema: Value = serde_json::from_str(&answer.text("schema")).unwrap();
    let text = |member: &str| schema[member].as_str().unwrap_or_default().to_owned();
    let name = format!("{}.{}", text("namespace"), text("name"));
    known.insert(id, name.clone());
    name
}

/// The full name that a record of this type has: `order_created` is `orderlog.orders.OrderCreated`.
fn record_name(record: &RawRecord) -> String {
    let capitalised = |word: &str| {
        let (first, rest) = word.split_at(1);
        first.to_uppercase() + rest
    };
    let name: String = record
        .header("ce_type")
        .split('_')
        .map(capitalised)
        .collect();
    format!("orderlog.{}.{name}", record.topic.name())
}
