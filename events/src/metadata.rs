//! What is known about an event besides itself, and how it stands in the headers of a Kafka record:
//! CloudEvents 1.0, Kafka protocol binding, binary content mode.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    Event, EventType,
    ids::{CommandId, CorrelationId, EventId, StreamId, UserId},
    timestamp::Timestamp,
    trace::TraceContext,
    user::Role,
};

/// The media type of the values (`content-type`).
pub const CONTENT_TYPE: &str = "application/avro";
const SPEC_VERSION: &str = "1.0";

/// The count of a stream's events after this one; the first event is version 1, 0 is "no such stream".
pub type StreamVersion = u64;

/// An event and what is known about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// What is known about the event.
    pub metadata: Metadata,
    /// The fact itself.
    pub event: Event,
}

/// What is known about an event besides itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Names this event; derived from its command.
    pub event_id: EventId,
    /// The program that recorded it, a URI reference.
    pub source: String,
    /// When it was decided.
    pub time: Timestamp,
    /// Its place in its stream.
    pub version: StreamVersion,
    /// The command it came from.
    pub command_id: CommandId,
    /// The user intent it belongs to.
    pub correlation_id: CorrelationId,
    /// What caused it: the command id for what a client asked for, an event id for a reaction.
    pub causation_id: uuid::Uuid,
    /// On whose behalf.
    pub actor: Actor,
    /// The client's name for the intent, where it gave one.
    pub idempotency: Option<Idempotency>,
    /// What recorded it, or its caller where that is not traced.
    pub traceparent: Option<TraceContext>,
}

/// The record of an idempotent command, carried by each event that it produced.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Idempotency {
    /// The key as the client sent it, unquoted.
    pub key: String,
    /// SHA-256 of the parsed request, so that another request under the same key is noticed.
    pub fingerprint: [u8; 32],
}

/// On whose behalf a command was carried out; written `user:<id>`, `admin:<id>` or `system`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Actor {
    /// A signed-in user, with the role the token gave.
    User(UserId, Role),
    /// Orderlog itself, or its operator at the command line.
    System,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id, Role::User) => write!(f, "user:{id}"),
            Self::User(id, Role::Admin) => write!(f, "admin:{id}"),
            Self::System => f.write_str("system"),
        }
    }
}

impl FromStr for Actor {
    type Err = InvalidHeader;
    fn from_str(text: &str) -> Result<Self, InvalidHeader> {
        let invalid = || InvalidHeader("ce_actor");
        match text.split_once(':') {
            None if text == "system" => Ok(Self::System),
            Some(("user", id)) => Ok(Self::User(id.parse().map_err(|_| invalid())?, Role::User)),
            Some(("admin", id)) => Ok(Self::User(id.parse().map_err(|_| invalid())?, Role::Admin)),
            None | Some(_) => Err(invalid()),
        }
    }
}

/// A header that is missing or cannot be read; the name is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("header {0} is missing or unreadable")]
pub struct InvalidHeader(pub &'static str);

/// Calls `header(name, value)` for every header of a record that carries `event`.
pub fn write_headers(
    metadata: &Metadata,
    event_type: EventType,
    stream: StreamId,
    mut header: impl FnMut(&str, &str),
) {
    let mut uuid = uuid::Uuid::encode_buffer();
    header("content-type", CONTENT_TYPE);
    header("ce_specversion", SPEC_VERSION);
    header(
        "ce_id",
        metadata.event_id.0.hyphenated().encode_lower(&mut uuid),
    );
    header("ce_type", event_type.name());
    header("ce_source", &metadata.source);
    header("ce_time", &metadata.time.to_string());
    header("ce_subject", &stream.to_string());
    header("ce_streamversion", &metadata.version.to_string());
    header(
        "ce_commandid",
        metadata.command_id.0.hyphenated().encode_lower(&mut uuid),
    );
    header(
        "ce_correlationid",
        metadata
            .correlation_id
            .0
            .hyphenated()
            .encode_lower(&mut uuid),
    );
    header(
        "ce_causationid",
        metadata.causation_id.hyphenated().encode_lower(&mut uuid),
    );
    header("ce_actor", &metadata.actor.to_string());
    if let Some(Idempotency { key, fingerprint }) = &metadata.idempotency {
        header("ce_idempotencykey", key);
        header("ce_requestdigest", &hex::encode(fingerprint));
    }
    if let Some(traceparent) = &metadata.traceparent {
        header("traceparent", &traceparent.to_string());
    }
}

/// Reads back what [`write_headers`] wrote: the type's name and the metadata.
/// Unknown headers are left alone; the error names the first header that is missing or unreadable.
pub fn read_headers<'a>(
    headers: impl Iterator<Item = (&'a str, &'a [u8])>,
) -> Result<(EventType, Metadata), InvalidHeader> {
    let mut raw = RawHeaders::default();
    for (name, value) in headers {
        if let Some(slot) = raw.slot(name) {
            *slot = std::str::from_utf8(value).ok();
        }
    }
    let fingerprint = raw.requestdigest.map(|digest| {
        let mut fingerprint = [0; 32];
        hex::decode_to_slice(digest, &mut fingerprint)
            .map(|()| fingerprint)
            .map_err(|_| InvalidHeader("ce_requestdigest"))
    });
    let idempotency = match (raw.idempotencykey, fingerprint.transpose()?) {
        (Some(key), Some(fingerprint)) => Some(Idempotency {
            key: key.to_owned(),
            fingerprint,
        }),
        (Some(_), None) => return Err(InvalidHeader("ce_requestdigest")),
        (None, _) => None,
    };
    let metadata = Metadata {
        event_id: EventId(parse(raw.id, "ce_id")?),
        source: parse(raw.source, "ce_source")?,
        time: parse(raw.time, "ce_time")?,
        version: parse(raw.streamversion, "ce_streamversion")?,
        command_id: CommandId(parse(raw.commandid, "ce_commandid")?),
        correlation_id: CorrelationId(parse(raw.correlationid, "ce_correlationid")?),
        causation_id: parse(raw.causationid, "ce_causationid")?,
        actor: parse(raw.actor, "ce_actor")?,
        idempotency,
        // Nothing depends on it: one that cannot be read is none.
        traceparent: raw.traceparent.and_then(|text| text.parse().ok()),
    };
    Ok((parse(raw.type_name, "ce_type")?, metadata))
}

#[derive(Default)]
struct RawHeaders<'a> {
    id: Option<&'a str>,
    type_name: Option<&'a str>,
    source: Option<&'a str>,
    time: Option<&'a str>,
    streamversion: Option<&'a str>,
    commandid: Option<&'a str>,
    correlationid: Option<&'a str>,
    causationid: Option<&'a str>,
    actor: Option<&'a str>,
    idempotencykey: Option<&'a str>,
    requestdigest: Option<&'a str>,
    traceparent: Option<&'a str>,
}

impl<'a> RawHeaders<'a> {
    fn slot(&mut self, name: &str) -> Option<&mut Option<&'a str>> {
        Some(match name {
            "ce_id" => &mut self.id,
            "ce_type" => &mut self.type_name,
            "ce_source" => &mut self.source,
            "ce_time" => &mut self.time,
            "ce_streamversion" => &mut self.streamversion,
            "ce_commandid" => &mut self.commandid,
            "ce_correlationid" => &mut self.correlationid,
            "ce_causationid" => &mut self.causationid,
            "ce_actor" => &mut self.actor,
            "ce_idempotencykey" => &mut self.idempotencykey,
            "ce_requestdigest" => &mut self.requestdigest,
            "traceparent" => &mut self.traceparent,
            _ => return None,
        })
    }
}

fn parse<T: FromStr>(value: Option<&str>, name: &'static str) -> Result<T, InvalidHeader> {
    value
        .and_then(|text| text.parse().ok())
        .ok_or(InvalidHeader(name))
}
