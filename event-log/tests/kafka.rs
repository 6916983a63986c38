//! The Kafka edge against a real broker and registry. Needs `scripts/stack up --components-only` and its
//! environment (`scripts/test` sets both up). Tests that write use a shard each.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test a failure is a panic"
)]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use event_log::{
    Feed, FeedItem, KafkaSettings, LogError, Recorded, Schemas,
    membership::{Group, LastOwner, Membership, Ownership},
    registry,
    replay::replay_shard,
    topics::{self, TopicSettings},
    writer::{ShardWriter, WriteError},
};
use events::{
    Actor, Envelope, Event, Metadata, Topic,
    ids::{CommandId, CorrelationId, EventId, OrderId, UserId},
    order::OrderCancelled,
    timestamp::Timestamp,
};
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer},
};
use tokio::sync::OnceCell;
use uuid::Uuid;

const SHARDS: u16 = 6;
const PATIENCE: Duration = Duration::from_secs(20);

fn environment(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run scripts/test, or scripts/stack up --components-only and eval \"$(scripts/stack env)\"")
    })
}

fn kafka() -> KafkaSettings {
    KafkaSettings {
        kafka_bootstrap_servers: environment("KAFKA_BOOTSTRAP_SERVERS"),
        schema_registry_url: environment("SCHEMA_REGISTRY_URL"),
        ownership_session_timeout_seconds: 6,
    }
}

/// Topics and schemas as `command-api prepare` makes them, once for all tests.
async fn prepared() -> (KafkaSettings, Arc<Schemas>) {
    static PREPARED: OnceCell<()> = OnceCell::const_new();
    let kafka = kafka();
    PREPARED
        .get_or_init(|| async {
            // An error only says that another test was first.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let topics = TopicSettings {
                topic_partitions: SHARDS,
                topic_replication_factor: 1,
                topic_min_insync_replicas: 1,
            };
            topics::prepare(&kafka, &topics).await.unwrap();
            registry::register(&kafka).await.unwrap();
        })
        .await;
    let schemas = Schemas::load(&kafka).await.unwrap();
    (kafka, schemas)
}

fn event(number: u128) -> Envelope {
    let command = CommandId(Uuid::now_v7());
    let at = Timestamp::from_micros(1_795_334_400_000_000);
    Envelope {
        metadata: Metadata {
            event_id: EventId::derived(command, 0),
            source: "/orderlog/test".to_owned(),
            time: at,
            version: 1,
            command_id: command,
            correlation_id: CorrelationId(Uuid::from_u128(number)),
            causation_id: command.0,
            actor: Actor::System,
            idempotency: None,
            traceparent: None,
        },
        event: Event::OrderCancelled(OrderCancelled {
            order_id: OrderId(Uuid::now_v7()),
            customer_id: UserId(Uuid::from_u128(1)),
            reason: None,
            occurred_at: at,
        }),
    }
}

/// Everything that a new owner of the shard would read.
async fn replayed(kafka: &KafkaSettings, schemas: &Arc<Schemas>, shard: u16) -> Vec<Recorded> {
    let (kafka, schemas) = (kafka.clone(), Arc::clone(schemas));
    tokio::task::spawn_blocking(move || {
        let mut all = Vec::new();
        replay_shard(
            &kafka,
            &schemas,
            shard,
            &BTreeMap::new(),
            &mut |_| true,
            |recorded| {
                all.push(recorded);
                Ok::<_, LogError>(())
            },
        )
        .unwrap();
        all
    })
    .await
    .unwrap()
}

fn holds(log: &[Recorded], wanted: &Envelope) -> bool {
    log.iter().any(|recorded| recorded.envelope == *wanted)
}

/// A transactional producer of somebody else.
fn foreign(transactional_id: &str) -> BaseProducer {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", environment("KAFKA_BOOTSTRAP_SERVERS"))
        .set("transactional.id", transactional_id)
        .set("transaction.timeout.ms", "60000")
        .create()
        .unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    producer.begin_transaction().unwrap();
    producer
}

fn produce_raw(producer: &BaseProducer, shard: u16, value: &[u8]) {
    producer
        .send(
            BaseRecord::<str, [u8]>::to("orders")
                .partition(i32::from(shard))
                .key("raw")
                .payload(value),
        )
        .map_err(|(error, _)| error)
        .unwrap();
    producer.flush(PATIENCE).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_appended_comes_back_in_order_with_its_offsets() {
    let (kafka, schemas) = prepared().await;
    let mut writer = ShardWriter::open(&kafka, Arc::clone(&schemas), 0).unwrap();
    let batch: Vec<Envelope> = (0..100).map(event).collect();
    let offsets = writer.append(&batch).unwrap();
    assert!(
        offsets.windows(2).all(|pair| pair[0] < pair[1]),
        "{offsets:?}"
    );
    let log = replayed(&kafka, &schemas, 0).await;
    let back: Vec<&Recorded> = log
        .iter()
        .filter(|recorded| batch.contains(&recorded.envelope))
        .collect();
    assert_eq!(
        back.iter()
            .map(|recorded| &recorded.envelope)
            .collect::<Vec<_>>(),
        batch.iter().collect::<Vec<_>>()
    );
    assert_eq!(
        back.iter()
            .map(|recorded| recorded.place.offset)
            .collect::<Vec<_>>(),
        offsets
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_writer_fences_the_earlier_one() {
    let (kafka, schemas) = prepared().await;
    let (before, lost, after) = (event(1), event(2), event(3));
    let mut zombie = ShardWriter::open(&kafka, Arc::clone(&schemas), 1).unwrap();
    zombie.append(std::slice::from_ref(&before)).unwrap();
    let mut successor = ShardWriter::open(&kafka, Arc::clone(&schemas), 1).unwrap();
    successor.append(std::slice::from_ref(&after)).unwrap();
    let error = zombie.append(std::slice::from_ref(&lost)).unwrap_err();
    assert!(matches!(error, WriteError::Fenced(_)), "{error}");
    let log = replayed(&kafka, &schemas, 1).await;
    assert!(holds(&log, &before) && holds(&log, &after));
    assert!(!holds(&log, &lost), "a fenced writer has written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_does_not_stop_in_front_of_a_hung_transaction() {
    let (kafka, schemas) = prepared().await;
    let behind = event(4);
    let hung = foreign(&format!("hung-{}", Uuid::now_v7()));
    produce_raw(&hung, 2, b"never committed");
    let mut writer = ShardWriter::open(&kafka, Arc::clone(&schemas), 2).unwrap();
    writer.append(std::slice::from_ref(&behind)).unwrap();
    let replay = tokio::spawn({
        let (kafka, schemas) = (kafka.clone(), Arc::clone(&schemas));
        async move { replayed(&kafka, &schemas, 2).await }
    });
    // It has to wait for the transaction; give it the time to do it wrong, then end the transaction.
    let early = tokio::time::timeout(Duration::from_secs(2), async {
        while !replay.is_finished() {
            tokio::task::yield_now().await
        }
    });
    assert!(
        early.await.is_err(),
        "the replay ended while a transaction was open in front of its end"
    );
    hung.abort_transaction(PATIENCE).unwrap();
    assert!(
        holds(&replay.await.unwrap(), &behind),
        "a committed event was missed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_brings_batches_and_says_when_it_has_caught_up() {
    let (kafka, schemas) = prepared().await;
    let mut writer = ShardWriter::open(&kafka, Arc::clone(&schemas), 3).unwrap();
    let old = event(5);
    writer.append(std::slice::from_ref(&old)).unwrap();
    let ends = topics::end_positions(&kafka, Topic::Orders).await.unwrap();
    let mut feed = Feed::start(&kafka, Arc::clone(&schemas), Topic::Orders, ends)
        .await
        .unwrap();
    let new: Vec<Envelope> = (6..16).map(event).collect();
    let offsets = writer.append(&new).unwrap();
    let mut found = Vec::new();
    let mut caught_up = None;
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline
        && (found.len() < new.len() || caught_up.is_none_or(|at| at <= offsets[9]))
    {
        match feed.next().await.unwrap() {
            FeedItem::Batch {
                partition: 3,
                records,
                position,
            } => {
                assert_eq!(records.last().unwrap().place.offset + 1, position);
                found.extend(records.into_iter().map(|recorded| recorded.envelope));
            }
            FeedItem::CaughtUp {
                partition: 3,
                position,
            } => caught_up = Some(position),
            FeedItem::Batch { .. } | FeedItem::CaughtUp { .. } => {}
            FeedItem::Undecodable { place, reason, .. } => panic!("{place}: {reason}"),
        }
    }
    assert_eq!(found, new, "exactly what came after the start, in order");
    assert!(
        caught_up.unwrap() > offsets[9],
        "past the transaction's marker"
    );
    // Started at the end, it is there at once, and not at the beginning.
    let ends = topics::end_positions(&kafka, Topic::Orders).await.unwrap();
    let end = ends[&3];
    let mut feed = Feed::start(&kafka, schemas, Topic::Orders, ends)
        .await
        .unwrap();
    loop {
        let item = tokio::time::timeout(PATIENCE, feed.next()).await.unwrap();
        if let FeedItem::CaughtUp {
            partition: 3,
            position,
        } = item.unwrap()
        {
            assert_eq!(position, end);
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undecodable_record_halts_its_partition_and_no_other() {
    let (kafka, schemas) = prepared().await;
    let from = topics::end_positions(&kafka, Topic::Orders).await.unwrap();
    let bad = foreign(&format!("bad-{}", Uuid::now_v7()));
    produce_raw(&bad, 4, b"no event");
    bad.commit_transaction(PATIENCE).unwrap();
    let mut writer = ShardWriter::open(&kafka, Arc::clone(&schemas), 5).unwrap();
    let good = event(17);
    writer.append(std::slice::from_ref(&good)).unwrap();
    let only: BTreeMap<u16, i64> = from;
    let bad_at = only[&4];
    let mut feed = Feed::start(&kafka, Arc::clone(&schemas), Topic::Orders, only)
        .await
        .unwrap();
    let (mut halted, mut others) = (None, false);
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline && (halted.is_none() || !others) {
        match feed.next().await.unwrap() {
            FeedItem::Undecodable { place, .. } => halted = Some(place),
            FeedItem::Batch {
                partition: 5,
                records,
                ..
            } => others = records.iter().any(|each| each.envelope == good),
            FeedItem::Batch { partition: 4, .. } => panic!("the halted partition goes on"),
            FeedItem::Batch { .. } | FeedItem::CaughtUp { .. } => {}
        }
    }
    assert_eq!(
        halted.map(|place| (place.partition, place.offset)),
        Some((4, bad_at))
    );
    assert!(others);
    let replay = tokio::task::spawn_blocking(move || {
        replay_shard(&kafka, &schemas, 4, &BTreeMap::new(), &mut |_| true, |_| {
            Ok::<_, LogError>(())
        })
    });
    assert!(
        matches!(replay.await.unwrap(), Err(LogError::Undecodable { at, .. }) if at.partition == 4)
    );
}

/// What a member of the group has been told.
fn join(kafka: &KafkaSettings, name: &str) -> (Membership, mpsc::Receiver<Ownership>) {
    let (told, hears) = mpsc::channel();
    let told = Mutex::new(told);
    let listener = Arc::new(move |change| drop(told.lock().unwrap().send(change)));
    let address = format!("{name}:1");
    (
        Membership::join(
            kafka,
            Group::of_command_nodes(kafka, SHARDS),
            name,
            &address,
            listener,
        )
        .unwrap(),
        hears,
    )
}

/// Listens until `owned`, which it keeps up to date, is what it should be.
fn until(hears: &mpsc::Receiver<Ownership>, owned: &mut Vec<u16>, enough: impl Fn(&[u16]) -> bool) {
    while !enough(owned) {
        match hears
            .recv_timeout(PATIENCE)
            .expect("no change of ownership")
        {
            Ownership::Assigned(shards) => owned.extend(shards),
            Ownership::Revoked(shards) => owned.retain(|shard| !shards.contains(shard)),
            Ownership::Failed(reason) => panic!("{reason}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shard_has_one_owner_that_the_group_confirms_and_names() {
    let (kafka, _) = prepared().await;
    tokio::task::spawn_blocking(move || {
        let (first, hears_first) = join(&kafka, "member-1");
        let mut of_first = Vec::new();
        until(&hears_first, &mut of_first, |owned| {
            owned.len() == usize::from(SHARDS)
        });
        assert!((0..SHARDS).all(|shard| first.confirm(shard).unwrap()));
        let (second, hears_second) = join(&kafka, "member-2");
        let mut of_second = Vec::new();
        until(&hears_second, &mut of_second, |owned| {
            owned.len() == usize::from(SHARDS / 2)
        });
        until(&hears_first, &mut of_first, |owned| {
            owned.len() == usize::from(SHARDS / 2)
        });
        for shard in 0..SHARDS {
            assert_ne!(
                of_first.contains(&shard),
                of_second.contains(&shard),
                "shard {shard}"
            );
            assert_eq!(
                first.confirm(shard).unwrap(),
                of_first.contains(&shard),
                "shard {shard}"
            );
            assert_eq!(
                second.confirm(shard).unwrap(),
                of_second.contains(&shard),
                "shard {shard}"
            );
        }
        // Both hear the same, and it is what each has shown last.
        let owners = first.owners(SHARDS).unwrap();
        assert_eq!(second.owners(SHARDS).unwrap(), owners);
        for (shard, owner) in (0..).zip(owners) {
            let name = if of_first.contains(&shard) {
                "member-1:1"
            } else {
                "member-2:1"
            };
            assert_eq!(owner, LastOwner::At(name.into()), "shard {shard}");
        }
        first.leave();
        until(&hears_first, &mut of_first, <[u16]>::is_empty);
        until(&hears_second, &mut of_second, |owned| {
            owned.len() == usize::from(SHARDS)
        });
        second.leave();
    })
    .await
    .unwrap();
}
