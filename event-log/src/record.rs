//! A recorded event: where it stands in the log, and what it says.

use std::{fmt, str::FromStr};

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

/// What is no place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a place is <topic>/<partition>@<offset>, for instance orders/3@1234")]
pub struct NotAPlace;

impl FromStr for Place {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        let parts = || {
            let (topic, rest) = text.split_once('/')?;
            let (partition, offset) = rest.split_once('@')?;
            let place = Self {
                topic: Topic::ALL.into_iter().find(|it| it.name() == topic)?,
                partition: partition.parse().ok()?,
                offset: offset.parse().ok()?,
            };
            // Nothing but what it is written as: no sign, no zeros before it.
            (place.to_string() == text && place.offset >= 0).then_some(place)
        };
        parts().ok_or(NotAPlace)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_written() {
        let place = Place {
            topic: Topic::Orders,
            partition: 3,
            offset: 1_234,
        };
        assert_eq!(place.to_string().parse(), Ok(place));
        for text in [
            "",
            "orders",
            "orders/3",
            "orders/3@",
            "orders@3",
            "nothing/3@1",
            "orders/3@-1",
            "orders/+3@1",
            "orders/03@1",
            "orders/3@1 ",
            "orders/65536@1",
            "orders/3@1@1",
        ] {
            assert_eq!(text.parse::<Place>(), Err(NotAPlace), "{text}");
        }
    }
}
