//! What breaks, and what must be seen: no acknowledged command is lost, none is done twice, nothing that was
//! refused happened, and the system heals unaided. Each test breaks one thing while clients are at work.

use std::time::{Duration, Instant};

use end_to_end::{
    alone,
    environment::{command_url, notifier_url, query_url},
    eventually,
    log::events_of,
    orders::order_request,
    people::{User, registered_user, registered_user_with_phone, unique},
    postbox::{break_provider, ledger_of, mend_providers, met_faults, sent_once, sent_to},
    stack::{
        BACK_WITHIN, OwnProcess, counter, read_models_equal_the_log, ready, recovers, run, stack,
    },
    workload::Workload,
};
use events::{Event, Topic};
use reqwest::Method;
use serde_json::json;

const CLIENTS: usize = 12;
/// Orders that are acknowledged before and after something is broken.
const ORDERS: usize = 150;
/// How long a process stands still in a test whose owner does not lose its shards by it: shorter than a session.
const PAUSE: Duration = Duration::from_secs(3);
/// How long Kafka stands still: longer than a transaction may take, so that commits are given up.
const KAFKA_PAUSE: Duration = Duration::from_secs(12);

/// Breaks something while clients are at work, waits until they are served again, and calls the judge.
async fn survives(breaks: impl AsyncFnOnce(&Workload)) {
    let workload = Workload::start(CLIENTS).await;
    workload.acknowledges(ORDERS).await;
    breaks(&workload).await;
    workload.acknowledges(ORDERS).await;
    let ended = workload.end().await;
    for base in [command_url(), query_url(), notifier_url()] {
        ready(&base).await;
    }
    ended.nothing_is_lost_or_doubled().await;
}

#[test]
fn a_killed_command_api_loses_and_doubles_nothing() {
    alone(survives(async |workload| {
        stack(&["kill", "command-api-1"]).await;
        recovers("command-api-1", || workload.acknowledges(1)).await;
    }));
}

#[test]
fn a_command_api_that_stops_in_good_order_finishes_what_it_has_begun() {
    alone(survives(async |workload| {
        stack(&["stop", "command-api-1"]).await;
        recovers("command-api-1", || workload.acknowledges(1)).await;
    }));
}

#[test]
fn a_paused_command_api_goes_on_as_if_nothing_had_been() {
    alone(survives(async |workload| {
        let taken_up =
            async || counter(&command_url(), "command_api_take_up_duration_seconds_count").await;
        let before = taken_up().await;
        stack(&["pause", "command-api-1"]).await;
        tokio::time::sleep(PAUSE).await; // The fault itself, not the waiting for something.
        stack(&["resume", "command-api-1"]).await;
        workload.acknowledges(ORDERS).await;
        assert_eq!(taken_up().await, before, "a shard was taken up again");
    }));
}

#[test]
fn killed_projections_apply_nothing_twice() {
    alone(survives(async |workload| {
        for _ in 0..3 {
            stack(&["kill", "projections"]).await;
            workload.acknowledges(ORDERS / 3).await;
            recovers("projections", async || {}).await;
        }
    }));
}

#[test]
fn a_restarted_kafka_loses_and_doubles_nothing() {
    alone(survives(async |workload| {
        stack(&["stop", "kafka"]).await;
        recovers("kafka", || every_client_is_served(workload)).await;
    }));
}

#[test]
fn a_killed_kafka_loses_and_doubles_nothing() {
    alone(survives(async |workload| {
        stack(&["kill", "kafka"]).await;
        recovers("kafka", || every_client_is_served(workload)).await;
    }));
}

#[test]
fn a_paused_kafka_loses_and_doubles_nothing() {
    alone(survives(async |workload| {
        stack(&["pause", "kafka"]).await;
        tokio::time::sleep(KAFKA_PAUSE).await; // The fault itself, not the waiting for something.
        let begun = Instant::now();
        stack(&["resume", "kafka"]).await;
        every_client_is_served(workload).await;
        assert!(begun.elapsed() <= BACK_WITHIN, "{:?}", begun.elapsed());
    }));
}

#[test]
fn orders_are_accepted_while_postgres_is_away() {
    alone(survives(async |workload| {
        stack(&["stop", "postgres"]).await;
        workload.acknowledges(ORDERS).await;
        recovers("postgres", async || ready(&query_url()).await).await;
    }));
}

#[test]
fn orders_are_accepted_while_mongodb_is_away() {
    alone(survives(async |workload| {
        stack(&["kill", "mongodb"]).await;
        workload.acknowledges(ORDERS).await;
        recovers("mongodb", async || ready(&query_url()).await).await;
    }));
}

#[test]
fn the_registry_may_go_away() {
    alone(survives(async |workload| {
        stack(&["stop", "registry"]).await;
        workload.acknowledges(ORDERS).await;
        stack(&["start", "registry"]).await;
    }));
}

#[test]
fn a_notifier_that_is_killed_while_it_sends_loses_nothing_and_repeats_only_what_it_cannot_know() {
    alone(async {
        let customer = registered_user().await;
        stack(&["stop", "notifier"]).await;
        // It is killed long before it would give up by itself; with a short lease, so that what it leaves behind is
        // taken up soon.
        let settings = [
            ("NOTIFIER_LISTEN", notifier_url().replace("http://", "")),
            ("PROVIDER_TIMEOUT_MS", "12000".to_owned()),
            ("SEND_LEASE_SECONDS", "35".to_owned()),
        ];
        let settings: Vec<(&str, &str)> = settings
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let notifier =
            OwnProcess::start("notifier-killed", "notifier", &["serve"], &settings).await;
        ready(&notifier_url()).await;
        // Taken by the provider, and the notifier is never told.
        break_provider(
            &json!({"provider": "sendgrid", "kind": "accept_then_hang", "delay_ms": 60_000}),
        )
        .await;
        for _ in 0..20 {
            customer.creates(&order_request()).await;
        }
        eventually("mails to be on their way", BACK_WITHIN, async || {
            let count = sent_to(&customer.email).await.len();
            if count > 10 {
                Ok(())
            } else {
                Err(format!("{count} mails"))
            }
        })
        .await;
        notifier.kill();
        let unsettled = ledger_of(&customer.id).await;
        let unsettled = unsettled.iter().filter(|row| row.status == "sending");
        assert!(unsettled.count() > 10, "killed while it did not send");
        mend_providers().await;
        stack(&["start", "notifier"]).await;

        let announced = announced_to(&customer).await;
        assert_eq!(announced.len(), 20);
        sent_once(&customer, &announced).await;
        let unknown = ledger_of(&customer.id)
            .await
            .iter()
            .filter(|row| row.unknown_outcomes > 0)
            .count();
        assert!(unknown > 10, "{unknown} outcomes were unknown");
    });
}

#[test]
fn a_killed_notifier_catches_up() {
    alone(survives(async |workload| {
        stack(&["kill", "notifier"]).await;
        workload.acknowledges(ORDERS).await;
        recovers("notifier", async || {}).await;
    }));
}

#[test]
fn a_provider_that_fails_is_tried_again_and_told_once() {
    alone(async {
        // Nobody takes over from the only provider of SMS.
        let (customer, phone) = registered_user_with_phone().await;
        for fault in [
            json!({"provider": "twilio", "kind": "status", "status": 429, "retry_after": 1, "times": 2}),
            json!({"provider": "twilio", "kind": "status", "status": 503, "times": 2}),
        ] {
            break_provider(&fault).await;
        }
        for _ in 0..4 {
            customer.creates(&order_request()).await;
        }
        let announced = announced_to(&customer).await;
        sent_once(&customer, &announced).await;
        let mails = sent_to(&customer.email).await;
        assert_eq!(mails.len(), 5, "the welcome and four orders: {mails:?}");
        let mut told: Vec<_> = sent_to(&phone).await;
        told.sort_by_key(|text| text.event_id.clone());
        told.dedup_by_key(|text| text.event_id.clone());
        assert_eq!(told.len(), 4, "four orders: {told:?}");
        assert_eq!(sent_to(&phone).await.len(), 4, "each once");
        assert_eq!(met_faults().await, [2, 2], "requests that failed");
        mend_providers().await;
    });
}

/// The events of the orders that the customer created.
async fn announced_to(customer: &User) -> Vec<uuid::Uuid> {
    events_of(Topic::Orders)
        .await
        .iter()
        .filter(|each| matches!(&each.envelope.event, Event::OrderCreated(fact) if fact.customer_id.to_string() == customer.id))
        .map(|each| each.envelope.metadata.event_id.0)
        .collect()
}

#[test]
fn a_rebuild_is_not_noticed_by_queries_and_equals_the_log() {
    alone(async {
        let workload = Workload::start(CLIENTS).await;
        workload.acknowledges(ORDERS).await;
        let reader = registered_user().await;
        let created = reader.creates(&order_request()).await;
        let (order, path) = (created.json(), format!("/orders/{}", created.text("id")));
        reader
            .query(&path)
            .after(&created.consistency_token())
            .send()
            .await
            .is(200);
        let mails_before = sent_to(&reader.email).await;
        for model in ["users", "orders"] {
            let arguments = ["rebuild", model];
            let mut rebuild = std::pin::pin!(run("projections", &arguments));
            let (succeeded, printed) = loop {
                tokio::select! {
                    ended = &mut rebuild => break ended,
                    () = asks_everything(&reader, &path, &order) => {}
                }
            };
            assert!(succeeded, "projections rebuild {model}: {printed}");
        }
        asks_everything(&reader, &path, &order).await;
        workload.acknowledges(ORDERS).await;
        let ended = workload.end().await;
        ended.nothing_is_lost_or_doubled().await;
        read_models_equal_the_log().await;
        let mails = sent_to(&reader.email).await;
        assert!(
            mails.starts_with(&mails_before) && mails.len() <= 2,
            "a rebuild sends nothing: {mails:?}"
        );
    });
}

/// Waits until each client may have been served: they order at all shards.
async fn every_client_is_served(workload: &Workload) {
    workload.acknowledges(1).await;
    ready(&command_url()).await;
}

/// Queries that must always be answered, and a command whose effect must be seen.
async fn asks_everything(reader: &end_to_end::people::User, path: &str, order: &serde_json::Value) {
    let read = reader.query(path).send().await.is(200);
    assert_eq!(&read.json(), order);
    reader.query("/users/me").send().await.is(200);
    let list = reader
        .query("/orders?limit=200")
        .send()
        .await
        .is(200)
        .json();
    let items = list["items"].as_array().unwrap();
    assert!(items.iter().any(|item| item["id"] == order["id"]), "{list}");
    let name = unique("Ada ");
    let patch = reader
        .command(Method::PATCH, &format!("/users/{}", reader.id))
        .json(&json!({"name": name}));
    let token = patch.send().await.is(200).consistency_token();
    let me = reader.query("/users/me").after(&token);
    // Beside a rebuild and twelve clients it may take a while; it is never older than the token.
    let me = me.header("prefer", "wait=30").send().await.is(200);
    assert_eq!(me.json()["name"], name);
}
