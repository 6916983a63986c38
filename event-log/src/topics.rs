//! The topics: making them, checking what correctness rests on, and asking how far they reach.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use events::Topic;
use rdkafka::{
    admin::{
        AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication,
    },
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::RDKafkaErrorCode,
};

use crate::{
    KafkaSettings, LogError,
    settings::{Isolation, REQUEST_TIMEOUT},
};

/// How the topics are made.
#[derive(Debug, Clone, clap::Args)]
pub struct TopicSettings {
    /// Partitions of each topic, that is: shards. Set once; it can never be changed.
    #[arg(long, env = "TOPIC_PARTITIONS", default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub topic_partitions: u16,
    /// Replicas of each partition.
    #[arg(long, env = "TOPIC_REPLICATION_FACTOR", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub topic_replication_factor: u16,
    /// Replicas that must have a record before it counts as written.
    #[arg(long, env = "TOPIC_MIN_INSYNC_REPLICAS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub topic_min_insync_replicas: u16,
}

/// What a topic must take: the largest event with the framing of its batch.
const BATCH_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The pause between two questions for the settings of topics that a broker does not know yet.
const ASK_AGAIN_EVERY: Duration = Duration::from_millis(100);
const MIN_INSYNC: &str = "min.insync.replicas";

/// Makes the topics that are missing, keeping everything for ever, and checks those that are there.
pub async fn prepare(kafka: &KafkaSettings, topics: &TopicSettings) -> Result<(), LogError> {
    let admin: AdminClient<DefaultClientContext> = kafka.client("orderlog-prepare").create()?;
    let batch_bytes = BATCH_BYTES_MAX.to_string();
    let min_insync = topics.topic_min_insync_replicas.to_string();
    let wanted: Vec<NewTopic<'_>> = Topic::ALL
        .iter()
        .map(|topic| {
            NewTopic::new(
                topic.name(),
                i32::from(topics.topic_partitions),
                TopicReplication::Fixed(i32::from(topics.topic_replication_factor)),
            )
            .set("cleanup.policy", "delete")
            .set("retention.ms", "-1")
            .set("retention.bytes", "-1")
            .set("max.message.bytes", &batch_bytes)
            .set("min.insync.replicas", &min_insync)
        })
        .collect();
    let options = AdminOptions::new()
        .operation_timeout(Some(REQUEST_TIMEOUT))
        .request_timeout(Some(REQUEST_TIMEOUT));
    for made in admin.create_topics(&wanted, &options).await? {
        match made {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => {
                return Err(LogError::Topic(format!(
                    "topic {topic} could not be made: {code}"
                )));
            }
        }
    }
    let Found { layouts, settings } = examine(kafka).await?;
    let shards = same_count(&layouts)?;
    if shards != topics.topic_partitions {
        return Err(LogError::Topic(format!(
            "the topics have {shards} partitions, the settings say {}: set TOPIC_PARTITIONS={shards}, \
             the count can never be changed",
            topics.topic_partitions
        )));
    }
    for (topic, Layout { replicas, .. }) in layouts {
        let wanted = topics.topic_replication_factor;
        if replicas != usize::from(wanted) {
            return Err(LogError::Topic(format!(
                "topic {topic} has {replicas} replicas, the settings say {wanted}: set TOPIC_REPLICATION_FACTOR={replicas}, \
                 or move its partitions with kafka-reassign-partitions"
            )));
        }
    }
    for (topic, found) in settings {
        if setting(&found, MIN_INSYNC).as_deref() != Some(&min_insync) {
            return Err(wrong(
                topic,
                &found,
                MIN_INSYNC,
                &min_insync,
                "is not what the settings say",
            ));
        }
    }
    Ok(())
}

/// Checks what correctness rests on: that both topics have the same number of partitions, keep everything for ever, take
/// the largest event, and can be written to. Says how many partitions, that is shards, there are.
pub async fn check(kafka: &KafkaSettings) -> Result<u16, LogError> {
    let found = examine(kafka).await?;
    same_count(&found.layouts)
}

/// What the topics are like.
struct Found {
    layouts: BTreeMap<&'static str, Layout>,
    settings: Vec<(Topic, ConfigResource)>,
}

/// How a topic lies on its brokers.
struct Layout {
    partitions: u16,
    /// Of the first partition.
    replicas: usize,
}

/// What the topics are like; an error when that is nothing that correctness can rest on.
async fn examine(kafka: &KafkaSettings) -> Result<Found, LogError> {
    let layouts = layouts(kafka).await?;
    same_count(&layouts)?;
    let admin: AdminClient<DefaultClientContext> = kafka.client("orderlog-check").create()?;
    let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
    let settings = settings_of_topics(&admin, &options).await?;
    for (topic, found) in &settings {
        let topic = *topic;
        check_settings(topic, found)?;
        let needed = setting(found, MIN_INSYNC).and_then(|needed| needed.parse().ok());
        let has = layouts.get(topic.name());
        let has = has.map_or(0, |layout| layout.replicas);
        if needed.is_none_or(|needed: usize| needed > has) {
            let why = format!("is more than its {has} replicas, so that nothing can be written");
            return Err(wrong(topic, found, MIN_INSYNC, &has.to_string(), &why));
        }
    }
    Ok(Found { layouts, settings })
}

/// The settings of every topic. A broker that has just taken a topic in may for a moment know nothing of it, or of its
/// settings: it is asked again for as long as a request may take.
async fn settings_of_topics(
    admin: &AdminClient<DefaultClientContext>,
    options: &AdminOptions,
) -> Result<Vec<(Topic, ConfigResource)>, LogError> {
    let resources = Topic::ALL.map(|topic| ResourceSpecifier::Topic(topic.name()));
    let begun = Instant::now();
    loop {
        let described = admin.describe_configs(&resources, options).await?;
        let described: Result<Vec<_>, _> = described.into_iter().collect();
        let is_known = described.as_ref().is_ok_and(|all| {
            all.iter().all(|each| {
                each.get("cleanup.policy")
                    .is_some_and(|it| it.value.is_some())
            })
        });
        if is_known || begun.elapsed() > REQUEST_TIMEOUT {
            let described = described.map_err(|code| {
                LogError::NotThere(format!("the topics cannot be described: {code}"))
            })?;
            return Ok(Topic::ALL.into_iter().zip(described).collect());
        }
        tokio::time::sleep(ASK_AGAIN_EVERY).await;
    }
}

fn setting(found: &ConfigResource, key: &str) -> Option<String> {
    found.get(key).and_then(|entry| entry.value.clone())
}

/// What is wrong with a topic, and how it is mended.
fn wrong(topic: Topic, found: &ConfigResource, key: &str, wanted: &str, why: &str) -> LogError {
    let (topic, found) = (topic.name(), setting(found, key));
    let found = found.as_deref().unwrap_or("(unset)");
    LogError::Topic(format!(
        "topic {topic} has {key}={found}, which {why}: kafka-configs --alter --topic {topic} --add-config {key}={wanted}"
    ))
}

fn check_settings(topic: Topic, found: &ConfigResource) -> Result<(), LogError> {
    for (key, wanted) in [
        ("cleanup.policy", "delete"),
        ("retention.ms", "-1"),
        ("retention.bytes", "-1"),
    ] {
        if setting(found, key).as_deref() != Some(wanted) {
            return Err(wrong(topic, found, key, wanted, "loses events"));
        }
    }
    let key = "max.message.bytes";
    let largest = setting(found, key).and_then(|bytes| bytes.parse().ok());
    if largest.is_none_or(|bytes: usize| bytes < BATCH_BYTES_MAX) {
        let wanted = BATCH_BYTES_MAX.to_string();
        return Err(wrong(topic, found, key, &wanted, "refuses large orders"));
    }
    Ok(())
}

/// How each topic lies on its brokers; without partitions where there is none.
async fn layouts(kafka: &KafkaSettings) -> Result<BTreeMap<&'static str, Layout>, LogError> {
    let kafka = kafka.clone();
    blocking(move || {
        let consumer: BaseConsumer = kafka.client("orderlog-topics").create()?;
        let mut layouts = BTreeMap::new();
        for topic in Topic::ALL {
            let metadata = consumer.fetch_metadata(Some(topic.name()), REQUEST_TIMEOUT)?;
            let found = metadata.topics().first();
            let partitions = found.map_or(&[][..], |found| found.partitions());
            let layout = Layout {
                partitions: u16::try_from(partitions.len()).unwrap_or(0),
                replicas: partitions.first().map_or(0, |first| first.replicas().len()),
            };
            layouts.insert(topic.name(), layout);
        }
        Ok(layouts)
    })
    .await
}

/// How many shards there are: the partition count, the same for every topic.
pub async fn partition_count(kafka: &KafkaSettings) -> Result<u16, LogError> {
    same_count(&layouts(kafka).await?)
}

fn same_count(layouts: &BTreeMap<&'static str, Layout>) -> Result<u16, LogError> {
    let counts = layouts.iter();
    let counts: BTreeMap<_, _> = counts.map(|(name, it)| (name, it.partitions)).collect();
    match counts.values().copied().collect::<Vec<_>>().as_slice() {
        [first, rest @ ..] if *first > 0 && rest.iter().all(|each| each == first) => Ok(*first),
        found if found.contains(&0) => Err(LogError::NotThere(format!(
            "the topics must exist, found {counts:?}: run `command-api prepare`"
        ))),
        _ => Err(LogError::Topic(format!(
            "the topics must have the same number of partitions, found {counts:?}: that of the shards can never be \
             changed, so make the one that was altered anew, with its former number, and copy its records"
        ))),
    }
}

/// The committed end of every partition of `topic`: the offset that the next committed record will at least have.
pub async fn end_positions(
    kafka: &KafkaSettings,
    topic: Topic,
) -> Result<BTreeMap<u16, i64>, LogError> {
    ends_of(kafka, topic, partition_count(kafka).await?).await
}

/// [`end_positions`] for whoever knows how many partitions there are.
pub(crate) async fn ends_of(
    kafka: &KafkaSettings,
    topic: Topic,
    partitions: u16,
) -> Result<BTreeMap<u16, i64>, LogError> {
    watermarks(kafka, topic, partitions, Isolation::Committed).await
}

/// The end of every partition of `topic`, with what is not committed yet, or hidden behind that.
pub async fn high_watermarks(
    kafka: &KafkaSettings,
    topic: Topic,
) -> Result<BTreeMap<u16, i64>, LogError> {
    let partitions = partition_count(kafka).await?;
    watermarks(kafka, topic, partitions, Isolation::Uncommitted).await
}

async fn watermarks(
    kafka: &KafkaSettings,
    topic: Topic,
    partitions: u16,
    isolation: Isolation,
) -> Result<BTreeMap<u16, i64>, LogError> {
    let kafka = kafka.clone();
    blocking(move || {
        let consumer: BaseConsumer = kafka.reader("orderlog-ends", isolation).create()?;
        (0..partitions)
            .map(|partition| {
                let (_, end) = consumer.fetch_watermarks(
                    topic.name(),
                    i32::from(partition),
                    REQUEST_TIMEOUT,
                )?;
                Ok((partition, end))
            })
            .collect()
    })
    .await
}

/// Waits until Kafka answers, at most `patience`; the error is the last one seen.
pub async fn reachable(kafka: &KafkaSettings, patience: Duration) -> Result<(), LogError> {
    let kafka = kafka.clone();
    blocking(move || {
        let consumer: BaseConsumer = kafka.client("orderlog-reachable").create()?;
        consumer.fetch_metadata(None, patience)?;
        Ok(())
    })
    .await
}

pub(crate) async fn blocking<T: Send + 'static>(
    ask: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    tokio::task::spawn_blocking(ask)
        .await
        .unwrap_or(Err(LogError::FeedEnded))
}
