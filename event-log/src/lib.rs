//! The Kafka edge: the only room that knows Kafka and the schema registry. It appends batches of events in
//! transactions, reads them back, and tells who owns which shard. What the events mean is not its business.

pub mod feed;
pub mod lag;
pub mod lookup;
pub mod membership;
pub mod record;
pub mod registry;
pub mod replay;
pub mod settings;
pub mod topics;
pub mod writer;

pub use feed::{Feed, FeedItem};
pub use record::Recorded;
pub use registry::Schemas;
pub use settings::KafkaSettings;

/// Why the log could not be read or asked.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Kafka, or the way to it, failed.
    #[error("Kafka: {0}")]
    Kafka(#[from] rdkafka::error::KafkaError),
    /// A record is not an event that this version can read.
    #[error("undecodable record at {at}: {reason}")]
    Undecodable {
        /// Where it stands.
        at: record::Place,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing moved for longer than the named limit.
    #[error("no progress for {0:?} while {1}")]
    Stalled(std::time::Duration, String),
    /// A topic is not there, or not yet known to the broker; the text says how to make it.
    #[error("{0}")]
    NotThere(String),
    /// A topic is not as it must be; the text says how to mend it.
    #[error("{0}")]
    Topic(String),
    /// The thread behind a feed ended.
    #[error("the feed's thread ended")]
    FeedEnded,
}

impl LogError {
    /// Whether it may be over when the log is asked again: Kafka is away, silent, or just starting.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Kafka(error) => replay::is_passing(error),
            Self::Stalled(..) | Self::NotThere(_) => true,
            Self::Undecodable { .. } | Self::Topic(_) | Self::FeedEnded => false,
        }
    }
}
