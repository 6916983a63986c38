//! How to reach Kafka and the schema registry, and the client settings that correctness rests on.

use std::time::Duration;

use rdkafka::ClientConfig;

/// How long a request to a broker may take before the client gives it up.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the log is.
#[derive(Debug, Clone, clap::Args)]
pub struct KafkaSettings {
    /// Kafka brokers to start from, `host:port` separated by commas.
    #[arg(long, env = "KAFKA_BOOTSTRAP_SERVERS")]
    pub kafka_bootstrap_servers: String,
    /// Base URL of a Confluent-compatible schema registry.
    #[arg(long, env = "SCHEMA_REGISTRY_URL")]
    pub schema_registry_url: String,
    /// How long the group waits for a silent node before another takes over its shards, in seconds.
    /// Kafka accepts 6 and more.
    #[arg(long, env = "OWNERSHIP_SESSION_TIMEOUT_SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u16).range(6..=300))]
    pub ownership_session_timeout_seconds: u16,
}

impl KafkaSettings {
    /// What every client of ours has in common.
    pub(crate) fn client(&self, client_id: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.kafka_bootstrap_servers)
            .set("client.id", client_id)
            .set("socket.timeout.ms", REQUEST_TIMEOUT.as_millis().to_string())
            .set("socket.nagle.disable", "true")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            // Our own partitions are always given; topics are made by `prepare`, never by accident.
            .set("allow.auto.create.topics", "false");
        config
    }

    /// A consumer that follows partitions which it was assigned by hand, and commits nothing.
    pub(crate) fn reader(&self, client_id: &str, isolation: Isolation) -> ClientConfig {
        let mut config = self.client(client_id);
        config
            // librdkafka wants a group even where none is used.
            .set("group.id", client_id)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("isolation.level", isolation.name())
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "100")
            .set("fetch.error.backoff.ms", "50")
            .set("queued.min.messages", "5000")
            // Once so much is queued, fetching pauses; the default of one second would leave the reader waiting for most
            // of it.
            .set("fetch.queue.backoff.ms", "2")
            .set("queued.max.messages.kbytes", "8192")
            .set("fetch.message.max.bytes", "1048576");
        config
    }
}

/// Which records a reader sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// Only what is committed.
    Committed,
    /// Also what is not (yet): the only handle that knows the high watermark.
    Uncommitted,
}

impl Isolation {
    fn name(self) -> &'static str {
        match self {
            Self::Committed => "read_committed",
            Self::Uncommitted => "read_uncommitted",
        }
    }
}
