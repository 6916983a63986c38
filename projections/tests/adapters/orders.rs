//! Orders in MongoDB.

use events::{EventType, OrderEvent, ids::OrderId, order::OrderStep, timestamp::Timestamp};
use mongodb::bson::{Bson, DateTime, Document, doc};
use projections::{
    aside::Gap,
    fold::{Fact, State},
    model::{FoldVersion, Generation, Known, Model, Positions, Stage, outdated},
    orders::{
        fold::Order,
        list::{AttributePath, OrderFilter, Sort, SortKey},
        store::OrderStore,
    },
    store::{ReadModel, StoreError},
};
use runtime::representation::OrderStatus;

use crate::{
    aside::record,
    samples::{at, cancelled, created, order, progressed, round, updated, user},
    world::{KEPT, LIVE, Orders},
};

/// Attributes that would do harm if they were taken for anything but data.
const HOSTILE: &str = r#"{"$set":{"status":"completed"},"$literal":1,"a.b":{"$version":-5},"version":0,"z":"$$ROOT","":null,"$ref":"x","$id":1,"_id":9,"n":1.10,"big":123456789012345678901234567890,"arr":[{"$cond":[true,1,2]}]}"#;

fn life() -> Vec<(u64, OrderEvent)> {
    vec![
        (1, created(order(1), user(1), 0)),
        (1, created(order(2), user(2), 1)),
        (2, updated(order(1), user(1), 2, HOSTILE)),
        (3, progressed(order(1), user(1), 3, OrderStep::InProgress)),
    ]
}

async fn documents(orders: &Orders, name: &str) -> Vec<Document> {
    use futures_util::TryStreamExt;
    let found = orders
        .collection(name)
        .find(doc! {})
        .sort(doc! { "_id": 1 })
        .await
        .unwrap();
    found.try_collect().await.unwrap()
}

async fn restart_checkpoint(orders: &Orders) {
    let reset = doc! { "$set": { "positions": {} } };
    orders
        .collection("checkpoints")
        .update_many(doc! {}, reset)
        .await
        .unwrap();
}

#[tokio::test]
async fn preparing_again_changes_nothing() {
    let orders = Orders::fresh().await;
    orders
        .store
        .apply(LIVE, &round(0, 0, life()))
        .await
        .unwrap();
    let before = documents(&orders, "orders_g1").await;
    orders.store.prepare().await.unwrap();
    assert_eq!(documents(&orders, "orders").await, before);
    assert_eq!(orders.store.live().await.unwrap(), LIVE);
}

#[tokio::test]
async fn a_batch_leaves_the_last_state_of_each_stream_and_the_checkpoint() {
    let orders = Orders::fresh().await;
    let applied = orders
        .store
        .apply(LIVE, &round(3, 0, life()))
        .await
        .unwrap();
    assert_eq!((applied.states, applied.halts), (2, vec![]));
    assert_eq!(
        orders.store.checkpoint(LIVE).await.unwrap(),
        Positions::from([(3, 5)])
    );
    let stored = orders.store.order(LIVE, order(1)).await.unwrap().unwrap();
    assert_eq!(
        (stored.version, stored.status),
        (3, OrderStatus::InProgress)
    );
    assert_eq!((stored.created_at, stored.updated_at), (at(0), at(3)));
    assert_eq!(
        (stored.contents.total_minor, stored.contents.lines.len()),
        (1_250, 1)
    );
}

#[tokio::test]
async fn whatever_clients_put_into_attributes_is_data() {
    let orders = Orders::fresh().await;
    // Once by insert, once by update.
    let inserted = vec![
        (1, created(order(1), user(1), 0)),
        (2, updated(order(1), user(1), 1, HOSTILE)),
    ];
    orders
        .store
        .apply(LIVE, &round(0, 0, inserted))
        .await
        .unwrap();
    orders
        .store
        .apply(LIVE, &round(1, 0, vec![(1, created(order(2), user(1), 0))]))
        .await
        .unwrap();
    orders
        .store
        .apply(
            LIVE,
            &round(1, 2, vec![(2, updated(order(2), user(1), 1, HOSTILE))]),
        )
        .await
        .unwrap();
    for number in [1, 2] {
        let stored = orders
            .store
            .order(LIVE, order(number))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            (stored.contents.attributes.as_str(), stored.version),
            (HOSTILE, 2)
        );
        assert_eq!(stored.status, OrderStatus::Created);
    }
    let stored = documents(&orders, "orders").await;
    let attributes = stored[1].get_document("attributes").unwrap();
    assert_eq!(attributes, stored[0].get_document("attributes").unwrap());
    let keys: Vec<&String> = attributes.keys().collect();
    assert_eq!(keys[..4], ["$set", "$literal", "a.b", "version"]);
    assert_eq!(attributes.get("n"), Some(&Bson::Double(1.1)));
    let mut exact = 0;
    let digests = |order: projections::orders::fold::Order<projections::digest::Digest>| {
        exact += usize::from(order.contents == documents_digest(number_of(&order)));
    };
    orders.store.scan(LIVE, |_| true, digests).await.unwrap();
    assert_eq!(exact, 2);

    fn number_of(order: &projections::orders::fold::Order<projections::digest::Digest>) -> u128 {
        order.id.0.as_u128()
    }
    fn documents_digest(number: u128) -> projections::digest::Digest {
        use projections::orders::fold::Contents;
        let OrderEvent::Updated(fact) = updated(order(number), user(1), 1, HOSTILE) else {
            panic!("an update");
        };
        Contents {
            currency: fact.currency,
            lines: fact.lines,
            total_minor: fact.total_minor,
            shipping_address: fact.shipping_address,
            note: fact.note,
            attributes: fact.attributes,
        }
        .into()
    }
}

#[tokio::test]
async fn applying_a_batch_twice_changes_nothing() {
    let orders = Orders::fresh().await;
    orders
        .store
        .apply(LIVE, &round(0, 0, life()))
        .await
        .unwrap();
    let before = documents(&orders, "orders_g1").await;
    let again = orders.store.apply(LIVE, &round(0, 0, life())).await;
    assert!(matches!(again, Err(StoreError::Moved(_))), "{again:?}");
    restart_checkpoint(&orders).await;
    orders
        .store
        .apply(LIVE, &round(0, 0, life()))
        .await
        .unwrap();
    assert_eq!(documents(&orders, "orders_g1").await, before);
}

#[tokio::test]
async fn an_older_version_never_overwrites_a_newer_one() {
    let orders = Orders::fresh().await;
    orders
        .store
        .apply(LIVE, &round(0, 0, life()))
        .await
        .unwrap();
    let before = documents(&orders, "orders_g1").await;
    restart_checkpoint(&orders).await;
    let old = vec![
        (1, created(order(1), user(1), 0)),
        (2, updated(order(1), user(1), 2, "{}")),
    ];
    orders.store.apply(LIVE, &round(0, 0, old)).await.unwrap();
    orders
        .store
        .apply(
            LIVE,
            &round(0, 3, vec![(3, cancelled(order(1), user(1), 9))]),
        )
        .await
        .unwrap();
    assert_eq!(documents(&orders, "orders_g1").await, before);
}

#[tokio::test]
async fn a_later_batch_goes_on_from_what_is_stored() {
    let orders = Orders::fresh().await;
    orders
        .store
        .apply(LIVE, &round(0, 0, life()))
        .await
        .unwrap();
    let more = vec![
        (4, progressed(order(1), user(1), 4, OrderStep::Completed)),
        (2, cancelled(order(2), user(2), 5)),
    ];
    orders.store.apply(LIVE, &round(0, 5, more)).await.unwrap();
    let stored = documents(&orders, "orders").await;
    assert_eq!(stored[0].get_str("status").unwrap(), "completed");
    assert_eq!(stored[0].get_str("attributes_json").unwrap(), HOSTILE);
    assert_eq!(stored[1].get_str("status").unwrap(), "cancelled");
    assert_eq!(stored[1].get_i64("version").unwrap(), 2);
}

#[tokio::test]
async fn a_gap_stops_its_partition_there_and_no_other() {
    let orders = Orders::fresh().await;
    let mut gap = round(
        0,
        0,
        vec![
            (1, created(order(1), user(1), 0)),
            (3, cancelled(order(1), user(1), 1)),
        ],
    );
    gap.append(&mut round(1, 0, vec![(1, created(order(2), user(1), 2))]));
    gap.append(&mut round(2, 0, vec![(2, cancelled(order(3), user(1), 2))]));
    let applied = orders.store.apply(LIVE, &gap).await.unwrap();
    assert_eq!(applied.positions, Positions::from([(0, 1), (1, 2), (2, 0)]));
    let stopped: Vec<_> = applied
        .halts
        .iter()
        .map(|halt| (halt.partition, halt.offset))
        .collect();
    assert_eq!(stopped, [(0, 1), (2, 0)]);
    assert_eq!(documents(&orders, "orders").await.len(), 2);
}

#[tokio::test]
async fn the_checkpoint_follows_the_data_and_what_is_between_is_applied_once() {
    let orders = Orders::fresh().await;
    // Nothing may be written to checkpoints: as if the process died right before it.
    let refuse = doc! { "collMod": "checkpoints", "validator": { "sabotage": true } };
    orders.database.run_command(refuse).await.unwrap();
    assert!(
        orders
            .store
            .apply(LIVE, &round(0, 0, life()))
            .await
            .is_err()
    );
    let written = documents(&orders, "orders_g1").await;
    assert_eq!(written.len(), 2);
    assert_eq!(
        orders.store.checkpoint(LIVE).await.unwrap(),
        Positions::new()
    );
    orders
        .database
        .run_command(doc! { "collMod": "checkpoints", "validator": {} })
        .await
        .unwrap();
    orders
        .store
        .apply(LIVE, &round(0, 0, life()))
        .await
        .unwrap();
    assert_eq!(documents(&orders, "orders_g1").await, written);
    assert_eq!(
        orders.store.checkpoint(LIVE).await.unwrap(),
        Positions::from([(0, 5)])
    );
}

#[tokio::test]
async fn data_that_is_refused_leaves_the_checkpoint_where_it_was() {
    let orders = Orders::fresh().await;
    orders
        .store
        .apply(LIVE, &round(0, 0, life()))
        .await
        .unwrap();
    let refuse = doc! { "collMod": "orders_g1", "validator": { "version": { "$lt": 4 } } };
    orders.database.run_command(refuse).await.unwrap();
    for (version, event) in [
        (4, progressed(order(1), user(1), 4, OrderStep::Completed)),
        (4, cancelled(order(1), user(1), 4)),
    ] {
        assert!(
            orders
                .store
                .apply(LIVE, &round(0, 5, vec![(version, event)]))
                .await
                .is_err()
        );
        assert_eq!(
            orders.store.checkpoint(LIVE).await.unwrap(),
            Positions::from([(0, 5)])
        );
    }
}

#[tokio::test]
async fn of_two_writers_only_one_advances_and_nothing_doubles() {
    let orders = Orders::fresh().await;
    for turn in 0..10 {
        let from = turn * 2;
        let events = vec![(1, created(order(100 + turn as u128), user(1), turn))];
        let (one, other) = (round(0, from, events.clone()), round(0, from, events));
        let (one, other) = tokio::join!(
            orders.store.apply(LIVE, &one),
            orders.store.apply(LIVE, &other)
        );
        assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
    }
    assert_eq!(documents(&orders, "orders").await.len(), 10);
}

#[tokio::test]
async fn a_batch_larger_than_a_command_is_written_in_parts() {
    let orders = Orders::fresh().await;
    let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(16 * 1024));
    let create = (1..=1_500)
        .map(|number| (1, created(order(number), user(1), 0)))
        .collect();
    orders
        .store
        .apply(LIVE, &round(0, 0, create))
        .await
        .unwrap();
    let update = (1..=1_500)
        .map(|number| (2, updated(order(number), user(1), 1, &large)))
        .collect();
    orders
        .store
        .apply(LIVE, &round(0, 1_501, update))
        .await
        .unwrap();
    let newer = orders
        .collection("orders")
        .count_documents(doc! { "version": 2_i64 })
        .await
        .unwrap();
    assert_eq!(newer, 1_500);
}

async fn swap(orders: &Orders, from: Generation, to: Generation) -> Result<(), StoreError> {
    orders.store.swap(Some(from), to, KEPT).await
}

#[tokio::test]
async fn a_new_generation_is_seen_by_nobody_until_the_swap_and_by_everybody_then() {
    let orders = Orders::fresh().await;
    orders
        .store
        .apply(LIVE, &round(0, 0, life()))
        .await
        .unwrap();
    let next = orders.store.begin_generation().await.unwrap();
    assert_eq!(next, Generation(2));
    assert_eq!(
        orders.store.checkpoint(next).await.unwrap(),
        Positions::new()
    );
    let mut more = life();
    more.push((1, created(order(3), user(1), 4)));
    orders.store.apply(next, &round(0, 0, more)).await.unwrap();
    orders.store.index(next).await.unwrap();
    assert_eq!(documents(&orders, "orders").await.len(), 2);
    swap(&orders, LIVE, next).await.unwrap();
    assert_eq!(documents(&orders, "orders").await.len(), 3);
    assert_eq!(orders.store.live().await.unwrap(), next);
    orders.store.drop_generation(LIVE).await.unwrap();
    assert!(matches!(
        orders.store.checkpoint(LIVE).await,
        Err(StoreError::Gone(_, LIVE))
    ));
    let late = orders
        .store
        .apply(LIVE, &round(0, 5, vec![(1, created(order(9), user(1), 6))]))
        .await;
    assert!(matches!(late, Err(StoreError::Moved(_))), "{late:?}");
    // What the late writer left behind is nobody's, and dropped with what is outdated.
    let known = orders.store.generations().await.unwrap();
    assert_eq!(outdated(&known, OrderStore::VERSION), [LIVE]);
    orders.store.drop_generation(LIVE).await.unwrap();
    assert!(documents(&orders, "orders_g1").await.is_empty());
    assert_eq!(documents(&orders, "orders").await.len(), 3);
}

#[tokio::test]
async fn a_swap_that_was_interrupted_before_the_view_is_mended() {
    let orders = Orders::fresh().await;
    let next = orders.store.begin_generation().await.unwrap();
    orders
        .store
        .apply(next, &round(0, 0, life()))
        .await
        .unwrap();
    let pointer = doc! { "$set": { format!("versions.{}.live", OrderStore::VERSION.0): next.0 } };
    orders
        .collection("read_models")
        .update_one(doc! {}, pointer)
        .await
        .unwrap();
    assert_eq!(documents(&orders, "orders").await.len(), 0);
    orders.store.mend_view().await.unwrap();
    assert_eq!(documents(&orders, "orders").await.len(), 2);
}

#[tokio::test]
async fn a_generation_whose_beginning_was_interrupted_can_be_gone_on_with() {
    let orders = Orders::fresh().await;
    let begun = orders.store.begin_generation().await.unwrap();
    // Killed after it was entered.
    let left = doc! { "_id": begun.storage(Model::Orders) };
    orders
        .collection("checkpoints")
        .delete_one(left)
        .await
        .unwrap();
    let checkpoint = orders.store.checkpoint(begun).await;
    assert!(
        matches!(checkpoint, Err(StoreError::Gone(..))),
        "{checkpoint:?}"
    );
    orders.store.mend_generation(begun).await.unwrap();
    let events = round(0, 0, life());
    orders.store.apply(begun, &events).await.unwrap();
    let reached = orders.store.checkpoint(begun).await.unwrap();
    orders.store.mend_generation(begun).await.unwrap();
    assert_eq!(
        orders.store.checkpoint(begun).await.unwrap(),
        reached,
        "nothing is begun anew"
    );
}

#[tokio::test]
async fn two_versions_of_the_fold_serve_side_by_side() {
    let orders = Orders::fresh().await;
    orders
        .store
        .apply(LIVE, &round(0, 0, life()))
        .await
        .unwrap();
    // What there is becomes that of the version before.
    let own = format!("versions.{}", OrderStore::VERSION.0);
    let former = doc! { "$rename": { own: "versions.0" } };
    let read_models = orders.collection("read_models");
    read_models.update_one(doc! {}, former).await.unwrap();
    read_models
        .update_one(doc! {}, doc! { "$set": { "generations.g1.version": 0 } })
        .await
        .unwrap();
    orders.store.prepare().await.unwrap();
    let live = orders.store.live().await;
    assert!(matches!(live, Err(StoreError::NotBuilt(..))), "{live:?}");
    assert_eq!(documents(&orders, "orders").await.len(), 2);
    let next = orders.store.begin_generation().await.unwrap();
    orders.store.swap(None, next, KEPT).await.unwrap();
    assert_eq!(orders.store.live().await.unwrap(), next);
    assert_eq!(
        documents(&orders, "orders").await.len(),
        0,
        "the later version's"
    );
    // The version before goes on: neither outdated, nor hindered.
    let known = orders.store.generations().await.unwrap();
    assert_eq!(outdated(&known, OrderStore::VERSION), []);
    let more = round(0, 5, vec![(1, created(order(3), user(1), 5))]);
    orders.store.apply(LIVE, &more).await.unwrap();
    let day_ago = doc! { "$dateSubtract": { "startDate": "$$NOW", "unit": "hour", "amount": 25 } };
    read_models
        .update_one(
            doc! {},
            vec![doc! { "$set": { "versions.0.followed_at": day_ago } }],
        )
        .await
        .unwrap();
    let known = orders.store.generations().await.unwrap();
    assert_eq!(outdated(&known, OrderStore::VERSION), [LIVE]);
    orders.store.drop_generation(LIVE).await.unwrap();
    assert_eq!(orders.store.generations().await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_was_written_before_there_were_versions_is_the_first() {
    let orders = Orders::unprepared().await;
    let pointer = doc! { "_id": "orders", "live": 3, "last": 4, "live_since": DateTime::now() };
    let checkpoint = doc! { "_id": "orders_g3", "positions": { "0": 7_i64 } };
    for (collection, document) in [("read_models", pointer), ("checkpoints", checkpoint)] {
        let collection = orders.collection(collection);
        collection.insert_one(document).await.unwrap();
    }
    orders.store.prepare().await.unwrap();
    let live = orders.store.live().await;
    assert!(matches!(live, Err(StoreError::NotBuilt(..))), "{live:?}");
    let known = orders.store.generations().await.unwrap();
    assert!(
        matches!(
            known.as_slice(),
            [Known {
                generation: Generation(3),
                version: FoldVersion(1),
                stage: Stage::Live { .. }
            }]
        ),
        "{known:?}"
    );
    assert_eq!(
        orders.store.begin_generation().await.unwrap(),
        Generation(5)
    );
}

async fn many(orders: &Orders) {
    let create = (1..=2_000_u128)
        .map(|number| {
            (
                1,
                created(order(number), user(number % 4), (number / 2) as i64),
            )
        })
        .collect();
    orders
        .store
        .apply(LIVE, &round(0, 0, create))
        .await
        .unwrap();
    let cancel = (1..=2_000_u128)
        .filter(|number| number % 3 == 0)
        .map(|number| (2, cancelled(order(number), user(number % 4), 5_000)))
        .collect();
    orders
        .store
        .apply(LIVE, &round(0, 2_001, cancel))
        .await
        .unwrap();
}

/// Filters, how many orders pass each, and how many documents a page of them leads to that are not shown, for each that is.
fn filters() -> Vec<(OrderFilter, u64, i32)> {
    let (customer_id, status) = (Some(user(1)), Some(OrderStatus::Cancelled));
    let all = OrderFilter::default();
    let (created_from, created_to) = (Some(at(100)), Some(at(200)));
    let words = vec!["a".to_owned()];
    let currency = Some("EUR".parse().unwrap());
    let sort = |name| Sort::named(name).unwrap();
    let by_total = OrderFilter {
        currency,
        sort: sort("-total"),
        ..all.clone()
    };
    let path = "a.b".parse::<AttributePath>().unwrap();
    vec![
        (all.clone(), 2_000, 1),
        (
            OrderFilter {
                customer_id,
                ..all.clone()
            },
            500,
            1,
        ),
        (
            OrderFilter {
                status,
                ..all.clone()
            },
            666,
            1,
        ),
        (
            OrderFilter {
                customer_id,
                status,
                ..all.clone()
            },
            166,
            1,
        ),
        (
            OrderFilter {
                sort: sort("created_at"),
                ..all.clone()
            },
            2_000,
            1,
        ),
        (
            OrderFilter {
                created_from,
                created_to,
                ..all.clone()
            },
            200,
            1,
        ),
        (
            OrderFilter {
                words: words.clone(),
                ..all.clone()
            },
            2_000,
            1,
        ),
        (
            OrderFilter {
                words: words.clone(),
                status,
                ..all.clone()
            },
            666,
            3,
        ),
        (
            OrderFilter {
                words,
                customer_id,
                ..all.clone()
            },
            500,
            1,
        ),
        (
            OrderFilter {
                words: vec!["b".to_owned()],
                ..all.clone()
            },
            0,
            1,
        ),
        (
            OrderFilter {
                attributes: vec![(path, "7".to_owned())],
                ..all
            },
            0,
            1,
        ),
        (by_total.clone(), 2_000, 1),
        (
            OrderFilter {
                total_min: Some(750),
                total_max: Some(750),
                ..by_total.clone()
            },
            2_000,
            1,
        ),
        (
            OrderFilter {
                total_min: Some(751),
                sort: sort("total"),
                ..by_total.clone()
            },
            0,
            1,
        ),
        (
            OrderFilter {
                customer_id,
                ..by_total
            },
            500,
            1,
        ),
    ]
}

/// What the list is sorted by.
fn key(filter: &OrderFilter, order: &Order) -> i64 {
    match filter.sort.by {
        SortKey::CreatedAt => order.created_at.micros(),
        SortKey::Total => order.contents.total_minor,
    }
}

#[tokio::test]
async fn pages_show_every_order_once_in_its_order_while_others_arrive() {
    let orders = Orders::fresh().await;
    many(&orders).await;
    for (filter, count, _) in filters() {
        let (mut seen, mut after, mut turns) = (Vec::new(), None, 0);
        let counted = orders.store.count(LIVE, &filter, 100_000).await.unwrap();
        // Each of them moves the checkpoint by two.
        let newcomers = (orders.store.checkpoint(LIVE).await.unwrap()[&0] - 2_668) / 2;
        loop {
            let page = orders.store.orders(LIVE, &filter, after, 90).await.unwrap();
            seen.extend(
                page.orders
                    .iter()
                    .map(|order| (key(&filter, order), order.id, order.created_at)),
            );
            after = page.orders.last().map(|last| (key(&filter, last), last.id));
            if !page.more {
                break;
            }
            turns += 1;
            let from = orders.store.checkpoint(LIVE).await.unwrap()[&0];
            let newcomer = vec![(
                1,
                created(order(10_000 + from as u128), user(9), 100_000 + from),
            )];
            orders
                .store
                .apply(LIVE, &round(0, from, newcomer))
                .await
                .unwrap();
        }
        let before = seen
            .iter()
            .filter(|(.., created_at)| *created_at < at(50_000));
        assert_eq!(before.count() as u64, count, "{filter:?} in {turns} pages");
        let counted_before = counted.saturating_sub(newcomers.unsigned_abs());
        assert!(
            counted == count || counted_before == count,
            "{filter:?}: {counted}"
        );
        let is_in_order = |pair: &[(i64, OrderId, Timestamp)]| {
            let (one, next) = ((pair[0].0, pair[0].1), (pair[1].0, pair[1].1));
            if filter.sort.is_descending {
                one > next
            } else {
                one < next
            }
        };
        assert!(seen.windows(2).all(is_in_order), "{filter:?}");
    }
}

#[tokio::test]
async fn lists_walk_an_index_and_read_little_more_than_the_page() {
    let orders = Orders::fresh().await;
    many(&orders).await;
    for (filter, _, times) in filters() {
        let middle = match filter.sort.by {
            SortKey::CreatedAt => at(600).micros(),
            SortKey::Total => 750,
        };
        let after = Some((middle, order(1_201)));
        for query in [filter.queries(None), filter.queries(after)].concat() {
            let explain = doc! {
                "explain": {
                    "find": "orders_g1", "filter": query.clone(), "sort": filter.sort.document(),
                    "hint": filter.index_name(), "limit": 51,
                },
                "verbosity": "executionStats",
            };
            let plan = orders.database.run_command(explain).await.unwrap();
            let winner = plan
                .get_document("queryPlanner")
                .unwrap()
                .get_document("winningPlan");
            let text = winner.unwrap().to_string();
            assert!(text.contains("\"IXSCAN\""), "{text}");
            // A value has several meanings; of each, those of one microsecond are sorted, which are few.
            let is_of_one_moment =
                !filter.attributes.is_empty() && text.contains("01]\"], \"_id\"");
            let is_sorted = !text.contains("\"SORT\"") || is_of_one_moment;
            assert!(is_sorted && !text.contains("COLLSCAN"), "{text}");
            let stats = plan.get_document("executionStats").unwrap();
            let read = stats.get_i32("totalDocsExamined").unwrap();
            assert!(
                read <= 54 * times,
                "{filter:?} {after:?} reads {read} documents"
            );
        }
    }
}

#[tokio::test]
async fn each_event_has_a_step_in_the_index_of_its_order() {
    let orders = Orders::fresh().await;
    let events = round(0, 0, life());
    for _ in 0..2 {
        orders.store.apply(LIVE, &events).await.unwrap();
        restart_checkpoint(&orders).await;
    }
    let steps = orders.store.steps(LIVE, order(1), 1..=3, 9).await.unwrap();
    let steps: Vec<_> = steps
        .iter()
        .map(|step| (step.version, step.event.name(), step.offset))
        .collect();
    let expected = [
        (1, "order_created", 0),
        (2, "order_updated", 2),
        (3, "order_status_changed", 3),
    ];
    assert_eq!(steps, expected);
    let last = async |upto, types: &[EventType]| {
        orders
            .store
            .last_step(LIVE, order(1), upto, types)
            .await
            .unwrap()
            .version
    };
    assert_eq!(
        last(3, &[EventType::OrderCreated, EventType::OrderUpdated]).await,
        2
    );
    assert_eq!(
        last(2, &[EventType::OrderCreated, EventType::OrderStatusChanged]).await,
        1
    );
    for (time, version) in [
        (at(-1), None),
        (at(0), Some(1)),
        (at(2), Some(2)),
        (at(9), Some(3)),
    ] {
        let step = orders.store.step_at(LIVE, order(1), 3, time).await.unwrap();
        assert_eq!(step.map(|step| step.version), version);
    }
    let first = orders.store.steps(LIVE, order(1), 2..=4, 2).await.unwrap();
    assert_eq!(first.len(), 2);
    let more = orders.store.steps(LIVE, order(1), 1..=4, 9).await;
    assert!(matches!(more, Err(StoreError::Damaged(_))), "{more:?}");
}

#[tokio::test]
async fn a_history_goes_on_behind_what_was_set_aside() {
    let orders = Orders::fresh().await;
    let mut events = round(0, 0, life());
    let facts = &mut events.get_mut(&0).unwrap().facts;
    // Of the first order's versions the second is set aside.
    let is = |fact: &Fact<OrderEvent>, version| {
        (<Order as State>::stream_of(&fact.event), fact.version) == (order(1).into(), version)
    };
    facts.retain(|fact| !is(fact, 2));
    let after = facts.iter_mut().filter(|fact| is(fact, 3));
    after.for_each(|fact| fact.follows = 1);
    let applied = orders.store.apply(LIVE, &events).await.unwrap();
    assert!(applied.halts.is_empty(), "{applied:?}");
    let steps = async || orders.store.steps(LIVE, order(1), 1..=3, 9).await;
    let damaged = steps().await;
    assert!(
        matches!(damaged, Err(StoreError::Damaged(_))),
        "not before it is said: {damaged:?}"
    );
    let gap = Gap {
        stream: order(1).0,
        after: 1,
        version: 2,
    };
    let aside = record(0, 2, Some(gap));
    orders.store.set_aside(&aside).await.unwrap();
    let versions: Vec<_> = steps().await.unwrap().iter().map(|it| it.version).collect();
    assert_eq!(versions, [1, 3]);
}

#[tokio::test]
async fn orders_are_found_by_what_their_attributes_say() {
    let orders = Orders::fresh().await;
    let says = [
        r#"{"a":{"b":"7"}}"#,
        r#"{"a":{"b":7}}"#,
        r#"{"a":{"b":7.0}}"#,
        r#"{"a":{"b":["x",7]}}"#,
        r#"{"a":{"b":true}}"#,
        r#"{"a":{"b":{"$gt":""}}}"#,
        r#"{"a.b":7}"#,
        r#"{"a":7}"#,
    ];
    let events = (1..).zip(says).flat_map(|(number, attributes)| {
        [
            (1, created(order(number), user(1), number as i64)),
            (2, updated(order(number), user(1), 100, attributes)),
        ]
    });
    let events = round(0, 0, events.collect());
    orders.store.apply(LIVE, &events).await.unwrap();
    let path = orders.store.path("a.b").unwrap();
    assert!(orders.store.path("a").is_none());
    for (value, expected) in [
        ("7", vec![4, 3, 2, 1]),
        ("x", vec![4]),
        ("true", vec![5]),
        ("8", vec![]),
        (r#"{"$gt":""}"#, vec![]),
        ("$gt", vec![]),
    ] {
        let filter = OrderFilter {
            attributes: vec![(path.clone(), value.to_owned())],
            ..OrderFilter::default()
        };
        let found = orders.store.orders(LIVE, &filter, None, 50).await.unwrap();
        let numbers: Vec<_> = found
            .orders
            .iter()
            .map(|order| order.id.0.as_u128())
            .collect();
        assert_eq!(numbers, expected, "{value}");
    }
}

#[tokio::test]
async fn a_page_of_large_orders_is_cut_short_and_goes_on() {
    let orders = Orders::fresh().await;
    let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(512 * 1024));
    let events = (1..=20)
        .flat_map(|number| {
            [
                (1, created(order(number), user(1), number as i64)),
                (2, updated(order(number), user(1), 100, &large)),
            ]
        })
        .collect();
    orders
        .store
        .apply(LIVE, &round(0, 0, events))
        .await
        .unwrap();
    let page = orders
        .store
        .orders(LIVE, &OrderFilter::default(), None, 200)
        .await
        .unwrap();
    assert!(
        page.more && (1..20).contains(&page.orders.len()),
        "{}",
        page.orders.len()
    );
}
