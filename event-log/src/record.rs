//! A recorded event: where it stands in the log, and what it says.

use std::fmt;

use events::{Envelope, Topic, codec, metadata};
use rdkafka::{Message, message::Headers};

use crate::Schemas;

/// A place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The topic.
    pub topic: Topic,
    /// The partition; the same number in every topic is one shard.
    pub partition: u16,
    /// The offset.
    pub offset: i64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}@{}",
            self.topic.name(),
            self.partition,
            self.offset
        )
    }
}

/// An event as it was read from the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Where it stands.
    pub place: Place,
    /// What it says.
    pub envelope: Envelope,
}

/// Why a record cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is not what an event of ours must be.
    #[error("{0}")]
    Wrong(String),
    /// The schema it was written with cannot be fetched while the registry is away. It can be read later.
    #[error("{0}")]
    RegistryAway(String),
}

impl From<&str> for Unreadable {
    fn from(reason: &str) -> Self {
        Self::Wrong(reason.to_owned())
    }
}

impl From<String> for Unreadable {
    fn from(reason: String) -> Self {
        Self::Wrong(reason)
    }
}

/// Reads a record.
pub(crate) fn decode(
    message: &impl Message,
    place: Place,
    schemas: &Schemas,
) -> Result<Recorded, Unreadable> {
    let headers = message.headers().ok_or("no headers")?;
    let (event_type, metadata) = metadata::read_headers(
        headers
            .iter()
            .filter_map(|header| header.value.map(|value| (header.key, value))),
    )
    .map_err(|error| error.to_string())?;
    let value = message.payload().ok_or("no value")?;
    let schema_id = codec::schema_id(value).map_err(|error| error.to_string())?;
    let writer = schemas.writer(schema_id)?;
    let event = codec::decode(event_type, &writer, value).map_err(|error| error.to_string())?;
    if event_type.topic() != place.topic {
        let (name, topic) = (event_type.name(), place.topic.name());
        return Err(format!("{name} does not belong into topic {topic}").into());
    }
    Ok(Recorded {
        place,
        envelope: Envelope { metadata, event },
    })
}
