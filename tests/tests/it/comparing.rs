//! Comparing read models with the log: whatever is changed behind the projections' back is found and named, a rebuild mends it, and
//! neither minds a Kafka that falls silent.

use std::time::Duration;

use end_to_end::{
    alone,
    databases::{orders_database, postgres},
    environment::kafka,
    kafka_proxy::{KafkaProxy, Kind, Rule},
    orders::{full_order, order_request},
    people::registered_user,
    stack::{OwnProcess, live, read_models_equal_the_log, run},
    workload::Workload,
};
use event_log::topics::partition_count;
use events::partition::partition_of;
use futures_util::TryStreamExt;
use mongodb::bson::{Document, RawDocumentBuf, doc};
use serde_json::Value;
use sqlx::AssertSqlSafe;

const CLIENTS: usize = 4;
/// Commands before rebuilds are compared.
const COMMANDS: usize = 200;
/// An offset that no test brings the log to.
const BEYOND_THE_LOG: i64 = 1_000_000_000;
/// Until a reader that gets nothing asks Kafka why, twice, and gives up.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(40);
/// What is done through a proxy is done within this.
const DONE_WITHIN: Duration = Duration::from_secs(60);

/// `projections verify` finds just these differences, in whatever order.
async fn differs(model: &str, wanted: &[String]) {
    let (equal, printed) = run("projections", &["verify", model, "--json"]).await;
    assert!(!equal, "{printed}");
    let (start, end) = (printed.find('{'), printed.rfind('}'));
    let json = &printed[start.expect("JSON")..=end.expect("JSON")];
    let report: Value = serde_json::from_str(json).expect("JSON");
    let mut found: Vec<String> =
        serde_json::from_value(report[model]["differences"].clone()).expect("lines");
    let mut wanted = wanted.to_vec();
    found.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(found, wanted, "{printed}");
    let found = |what: &str| report[model][what].as_u64().expect("a number");
    let all = found("different") + found("indexed_otherwise");
    assert_eq!(all, wanted.len() as u64, "{printed}");
}

#[test]
fn what_is_not_as_the_log_says_is_found_and_a_rebuild_mends_it() {
    alone(async {
        let user = registered_user().await;
        let mut orders = Vec::new();
        for _ in 0..2 {
            let created = user.creates_visibly(&order_request()).await;
            orders.push(created.text("id"));
        }
        let [changed, missing] = orders.as_slice() else {
            panic!("{orders:?}")
        };
        read_models_equal_the_log().await;
        let generation = live("orders").await;
        let database = orders_database().await;
        let documents = database.collection::<Document>(&format!("orders_g{generation}"));
        let change = doc! { "$inc": { "total_minor": 1_i64 } };
        let one = documents.update_one(doc! { "_id": changed }, change).await;
        assert_eq!(one.expect("changed").modified_count, 1);
        let one = documents.delete_one(doc! { "_id": missing }).await;
        assert_eq!(one.expect("deleted").deleted_count, 1);
        differs(
            "orders",
            &[
                format!(
                    "{changed}: differs in contents (version 1 by the log, 1 in the read model)"
                ),
                format!("{missing}: in the log, not in the read model"),
            ],
        )
        .await;

        let generation = live("users").await;
        let mut postgres = postgres().await;
        let change = format!(
            "UPDATE read_model.users_g{generation} SET locale = 'xx' WHERE user_id = '{}'",
            user.id
        );
        let done = sqlx::raw_sql(AssertSqlSafe(change)).execute(&mut postgres);
        assert_eq!(done.await.expect("changed").rows_affected(), 1);
        let (equal, printed) = run("projections", &["verify", "users"]).await;
        let named = format!("{}: differs in ", user.id);
        assert!(!equal && printed.contains(&named), "{printed}");

        for model in ["orders", "users"] {
            let (done, printed) = run("projections", &["rebuild", model]).await;
            assert!(done, "{printed}");
        }
        read_models_equal_the_log().await;
    });
}

#[test]
fn an_index_of_events_that_is_not_as_the_log_says_is_found() {
    alone(async {
        let user = registered_user().await;
        let created = user.creates_visibly(&order_request()).await;
        let order = created.text("id");
        let database = orders_database().await;
        let name = format!("order_events_g{}", live("orders").await);
        let entries = database.collection::<Document>(&name);
        let id = doc! { "order": &order, "version": 1_i64 };
        let of_order = doc! { "_id": id.clone() };
        let found = entries.find_one(of_order.clone()).await.expect("MongoDB");
        let entry = found.expect("the entry of its creation");
        let partitions = partition_count(&kafka()).await.expect("partitions");
        let partition = partition_of(order.as_bytes(), partitions);
        let difference = [format!("{order}: the index of its events differs")];

        entries.delete_one(of_order.clone()).await.expect("deleted");
        differs("orders", &difference).await;
        let mut elsewhere = entry.clone();
        let offset = entry.get_i64("offset").expect("an offset");
        elsewhere.insert("offset", offset - 1);
        entries.insert_one(elsewhere).await.expect("inserted");
        differs("orders", &difference).await;
        entries.delete_one(of_order).await.expect("deleted");
        entries.insert_one(entry.clone()).await.expect("inserted");
        read_models_equal_the_log().await;

        // One that there never was; one that the log has not come to yet.
        let beyond = BEYOND_THE_LOG;
        for (offset, difference) in [
            (offset, difference[0].clone()),
            (
                beyond,
                format!(
                    "{order}: the index of its events names offset {beyond} of partition {partition}, which the log does not have"
                ),
            ),
        ] {
            let id = doc! { "order": &order, "version": 2_i64 };
            let mut invented = entry.clone();
            invented.insert("_id", id.clone());
            invented.insert("offset", offset);
            entries.insert_one(invented).await.expect("inserted");
            differs("orders", &[difference]).await;
            let one = entries.delete_one(doc! { "_id": id }).await;
            assert_eq!(one.expect("deleted").deleted_count, 1);
        }
        read_models_equal_the_log().await;
    });
}

/// Everything that the live generations hold, as it is stored: rows, documents, and the index of events.
async fn stored() -> (Vec<String>, Vec<Vec<u8>>) {
    let mut postgres = postgres().await;
    let table = format!("read_model.users_g{}", live("users").await);
    let rows = format!("SELECT row::text FROM {table} AS row ORDER BY user_id");
    let rows = sqlx::query_scalar(AssertSqlSafe(rows)).fetch_all(&mut postgres);
    let (database, generation) = (orders_database().await, live("orders").await);
    let mut documents = Vec::new();
    for name in ["orders", "order_events"] {
        let collection = database.collection::<RawDocumentBuf>(&format!("{name}_g{generation}"));
        let found = collection.find(doc! {}).sort(doc! { "_id": 1 }).await;
        let found: Vec<RawDocumentBuf> = found
            .expect("documents")
            .try_collect()
            .await
            .expect("documents");
        assert!(!found.is_empty(), "{name}");
        documents.extend(found.into_iter().map(RawDocumentBuf::into_bytes));
    }
    (rows.await.expect("rows"), documents)
}

#[test]
fn what_was_followed_and_two_rebuilds_are_equal_to_the_byte() {
    alone(async {
        let workload = Workload::start(CLIENTS).await;
        workload.acknowledges(COMMANDS).await;
        workload.end().await.nothing_is_lost_or_doubled().await;
        let user = registered_user().await;
        user.creates_visibly(&full_order()).await;
        let (followed, generation) = (stored().await, live("orders").await);
        for _ in 0..2 {
            for model in ["users", "orders"] {
                let (done, printed) = run("projections", &["rebuild", model]).await;
                assert!(done, "{printed}");
            }
            let rebuilt = stored().await;
            assert!(followed == rebuilt, "what is stored differs");
        }
        assert!(live("orders").await > generation + 1);
    });
}

#[test]
fn a_rebuild_and_a_comparison_wait_for_a_kafka_that_is_silent() {
    alone(async {
        let user = registered_user().await;
        user.creates_visibly(&order_request()).await;
        let before = live("users").await;
        let proxy = KafkaProxy::start().await;
        proxy.set(Kind::Fetch, Rule::Hold);
        let address = KafkaProxy::address();
        let through_it = [("KAFKA_BOOTSTRAP_SERVERS", address.as_str())];
        let start = async |name, arguments: &[&str]| {
            OwnProcess::start(name, "projections", arguments, &through_it).await
        };
        let rebuild = start("rebuild-proxied", &["rebuild", "users"]).await;
        let verify = start("verify-proxied", &["verify", "orders"]).await;
        for reader in [&rebuild, &verify] {
            reader.says("Kafka is away", GIVEN_UP_WITHIN).await;
        }
        proxy.mend();
        proxy.deliver();
        rebuild.succeeds(DONE_WITHIN).await;
        verify.succeeds(DONE_WITHIN).await;
        assert!(live("users").await > before);
        read_models_equal_the_log().await;
    });
}
