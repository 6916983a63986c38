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

/// Reads a record; the error says what is wrong with it.
pub(crate) fn decode(
    message: &impl Message,
    place: Place,
    schemas: &Schemas,
) -> Result<Recorded, String> {
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
        return Err(format!(
            "{} does not belong into topic {}",
            event_type.name(),
            place.topic.name()
        ));
    }
    Ok(Recorded {
        place,
        envelope: Envelope { metadata, event },
    })
}
