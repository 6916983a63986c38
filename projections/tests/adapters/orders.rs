//! Orders in MongoDB.

use events::{OrderEvent, order::OrderStep};
use mongodb::bson::{Bson, Document, doc};
use projections::{
    model::{Generation, Positions},
    orders::list::OrderFilter,
    store::{ReadModel, StoreError},
};
use runtime::representation::OrderStatus;

use crate::{
    samples::{at, cancelled, created, order, progressed, round, updated, user},
    world::{LIVE, Orders},
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
    assert_eq!(orders.store.pointer().await.unwrap().live, LIVE);
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
    let digests = |order: projections::orders::fold::Order<_>| {
        exact += usize::from(order.contents == documents_digest(number_of(&order)));
    };
    orders.store.scan(LIVE, digests).await.unwrap();
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
    orders.store.swap(LIVE, next).await.unwrap();
    assert_eq!(documents(&orders, "orders").await.len(), 3);
    assert_eq!(orders.store.pointer().await.unwrap().live, next);
    assert_eq!(orders.store.drop_others(next).await.unwrap(), [LIVE]);
    assert!(matches!(
        orders.store.checkpoint(LIVE).await,
        Err(StoreError::Gone(_, LIVE))
    ));
    let late = orders
        .store
        .apply(LIVE, &round(0, 5, vec![(1, created(order(9), user(1), 6))]))
        .await;
    assert!(matches!(late, Err(StoreError::Moved(_))), "{late:?}");
    // What the late writer left behind is dropped with the next rebuild.
    assert_eq!(orders.store.drop_others(next).await.unwrap(), [LIVE]);
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
    let pointer = doc! { "$set": { "live": next.0 } };
    orders
        .collection("read_models")
        .update_one(doc! { "_id": "orders" }, pointer)
        .await
        .unwrap();
    assert_eq!(documents(&orders, "orders").await.len(), 0);
    orders.store.mend_view().await.unwrap();
    assert_eq!(documents(&orders, "orders").await.len(), 2);
}

#[tokio::test]
async fn a_rebuild_that_was_overtaken_cannot_swap() {
    let orders = Orders::fresh().await;
    let given_up = orders.store.begin_generation().await.unwrap();
    let next = orders.store.begin_generation().await.unwrap();
    assert!(matches!(
        orders.store.swap(LIVE, given_up).await,
        Err(StoreError::Gone(..))
    ));
    orders.store.swap(LIVE, next).await.unwrap();
    assert!(matches!(
        orders.store.swap(LIVE, next).await,
        Err(StoreError::Gone(..))
    ));
}

/// 2,000 orders of 4 customers in 2 states; two of each microsecond.
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

fn filters() -> [(OrderFilter, usize); 4] {
    let (customer_id, status) = (Some(user(1)), Some(OrderStatus::Cancelled));
    [
        (OrderFilter::default(), 2_000),
        (
            OrderFilter {
                customer_id,
                status: None,
            },
            500,
        ),
        (
            OrderFilter {
                customer_id: None,
                status,
            },
            666,
        ),
        (
            OrderFilter {
                customer_id,
                status,
            },
            166,
        ),
    ]
}

#[tokio::test]
async fn pages_show_every_order_once_newest_first_while_others_arrive() {
    let orders = Orders::fresh().await;
    many(&orders).await;
    for (filter, count) in filters() {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = orders.store.orders(LIVE, &filter, after, 90).await.unwrap();
            seen.extend(page.orders.iter().map(|order| (order.created_at, order.id)));
            let last = page.orders.last().unwrap();
            after = Some((last.created_at.micros(), last.id));
            if !page.more {
                break;
            }
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
        let seen_before = seen.iter().filter(|(at_, _)| *at_ < at(50_000)).count();
        assert_eq!(seen_before, count, "{filter:?}");
        assert!(seen.windows(2).all(|pair| pair[0] > pair[1]), "{filter:?}");
    }
}

#[tokio::test]
async fn lists_walk_an_index_and_read_no_more_than_the_page() {
    let orders = Orders::fresh().await;
    many(&orders).await;
    for (filter, _) in filters() {
        for after in [None, Some((at(600).micros(), order(1_201)))] {
            let explain = doc! {
                "explain": {
                    "find": "orders_g1", "filter": filter.query(after), "sort": OrderFilter::sort(),
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
            assert!(
                !text.contains("\"SORT\"") && !text.contains("COLLSCAN"),
                "{text}"
            );
            let stats = plan.get_document("executionStats").unwrap();
            let read = stats.get_i32("totalDocsExamined").unwrap();
            assert!(read <= 54, "{filter:?} {after:?} reads {read} documents");
        }
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
