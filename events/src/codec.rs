//! Avro bytes in Confluent's framing: a zero byte, the schema id (big endian), the body.
//!
//! Bodies are written with the committed schema and read with the schema they were written with; a field
//! added later is filled by its `#[serde(default)]`, a field dropped is skipped.

use std::sync::LazyLock;

use serde::{Serialize, de::DeserializeOwned};
use serde_avro_fast::{Schema, ser::SerializerConfig};

use crate::{Event, EventType};

const MAGIC: u8 = 0;
const HEADER_BYTES: usize = 5;

/// Why bytes are not an event.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Shorter than a frame or without its leading zero byte.
    #[error("not in Confluent framing")]
    Framing,
    /// A schema that is no Avro schema.
    #[error("schema cannot be read: {0}")]
    Schema(String),
    /// The event does not fit the committed schema; a defect that the round-trip tests exclude.
    #[error("event cannot be written: {0}")]
    Write(String),
    /// The bytes do not follow the schema they name, or do not make the event they claim to be.
    #[error("event cannot be read: {0}")]
    Read(String),
}

/// A schema that events were written with, parsed once.
#[derive(Debug)]
pub struct WriterSchema(Schema);

impl std::str::FromStr for WriterSchema {
    type Err = CodecError;
    fn from_str(json: &str) -> Result<Self, CodecError> {
        json.parse()
            .map(Self)
            .map_err(|error: serde_avro_fast::schema::SchemaError| {
                CodecError::Schema(error.to_string())
            })
    }
}

/// The committed schemas, in the order of [`EventType::ALL`].
static COMMITTED: LazyLock<Vec<Option<Schema>>> = LazyLock::new(|| {
    EventType::ALL
        .iter()
        .map(|each| each.schema_json().parse().ok())
        .collect()
});

/// The id of the schema that a framed value was written with.
pub fn schema_id(framed: &[u8]) -> Result<u32, CodecError> {
    split(framed).map(|(id, _)| id)
}

/// Appends `event` to `out`, framed with the registry's id of its committed schema.
pub fn encode(event: &Event, schema_id: u32, mut out: Vec<u8>) -> Result<Vec<u8>, CodecError> {
    out.push(MAGIC);
    out.extend_from_slice(&schema_id.to_be_bytes());
    event.write_body(out)
}

/// Reads a framed event of type `event_type` that was written with `writer`.
pub fn decode(
    event_type: EventType,
    writer: &WriterSchema,
    framed: &[u8],
) -> Result<Event, CodecError> {
    let (_, body) = split(framed)?;
    Event::read_body(event_type, writer, body)
}

pub(crate) fn write<T: Serialize>(
    fact: &T,
    event_type: EventType,
    out: Vec<u8>,
) -> Result<Vec<u8>, CodecError> {
    let schema = COMMITTED
        .get(event_type as usize)
        .and_then(Option::as_ref)
        .ok_or_else(|| CodecError::Schema(format!("committed schema of {event_type:?}")))?;
    serde_avro_fast::to_datum(fact, out, &mut SerializerConfig::new(schema))
        .map_err(|error| CodecError::Write(error.to_string()))
}

pub(crate) fn read<T: DeserializeOwned>(
    writer: &WriterSchema,
    body: &[u8],
) -> Result<T, CodecError> {
    serde_avro_fast::from_datum_slice(body, &writer.0)
        .map_err(|error| CodecError::Read(error.to_string()))
}

fn split(framed: &[u8]) -> Result<(u32, &[u8]), CodecError> {
    match framed.split_first_chunk::<HEADER_BYTES>() {
        Some(([MAGIC, id @ ..], body)) => Ok((u32::from_be_bytes(*id), body)),
        Some(_) | None => Err(CodecError::Framing),
    }
}
