//! Somebody else who writes to the log.

use std::time::Duration;

use events::Topic;
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer},
};

use crate::environment::variable;

const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

/// Writes a record of a stranger, which stays.
pub async fn writes(kafka: &str, topic: Topic, (partition, key): (u16, &str), value: &'static str) {
    let (kafka, key) = (kafka.to_owned(), key.to_owned());
    let writes = move || {
        let client = ClientConfig::new().set("bootstrap.servers", kafka).create();
        let producer: BaseProducer = client.expect("a producer");
        let record = BaseRecord::to(topic.name()).partition(i32::from(partition));
        let sent = producer.send(record.key(&key).payload(value));
        sent.map_err(|(error, _)| error).expect("sent");
        producer.flush(ANSWERED_WITHIN).expect("delivered");
    };
    tokio::task::spawn_blocking(writes).await.expect("written");
}

/// A transaction of a stranger, open until he gives it up.
pub struct Stranger(BaseProducer);

impl Stranger {
    /// Begins one and writes to a partition.
    pub async fn begin(topic: Topic, partition: u16) -> Self {
        let begun = tokio::task::spawn_blocking(move || {
            let producer: BaseProducer = ClientConfig::new()
                .set("bootstrap.servers", variable("KAFKA_BOOTSTRAP_SERVERS"))
                .set("transactional.id", "a-stranger")
                .create()
                .expect("a producer");
            producer
                .init_transactions(ANSWERED_WITHIN)
                .expect("an epoch");
            producer.begin_transaction().expect("a transaction");
            let record: BaseRecord<'_, (), str> = BaseRecord::to(topic.name())
                .partition(i32::from(partition))
                .payload("nobody will ever read this");
            producer
                .send(record)
                .map_err(|(error, _)| error)
                .expect("sent");
            producer.flush(ANSWERED_WITHIN).expect("delivered");
            Self(producer)
        });
        begun.await.expect("a stranger")
    }

    /// Ends it; nothing of it will be read.
    pub async fn gives_up(self) {
        let gives_up = move || self.0.abort_transaction(ANSWERED_WITHIN).expect("an end");
        let ended = tokio::task::spawn_blocking(gives_up);
        ended.await.expect("a stranger");
    }
}
