//! Identities: UUIDs that say what they identify, and the ids of streams.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

/// A text that is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a {kind}: must be {expected}")]
pub struct InvalidId {
    /// The kind of id that was wanted.
    pub kind: &'static str,
    /// What its text looks like.
    pub expected: &'static str,
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                // Only the hyphenated form: one id has one text, and that text is the Kafka key.
                if text.len() != uuid::fmt::Hyphenated::LENGTH {
                    return Err(InvalidId { kind: stringify!($name), expected: "a hyphenated UUID" });
                }
                Uuid::try_parse(text)
                    .map(Self)
                    .map_err(|_| InvalidId { kind: stringify!($name), expected: "a hyphenated UUID" })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut buffer = Uuid::encode_buffer();
                serializer.serialize_str(self.0.hyphenated().encode_lower(&mut buffer))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl de::Visitor<'_> for Text {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a hyphenated UUID")
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }
    };
}

uuid_id!(
    /// A user; also the id of the user's stream.
    UserId
);
uuid_id!(
    /// An order; also the id of the order's stream.
    OrderId
);
uuid_id!(
    /// An immutable row that holds one password hash.
    CredentialId
);
uuid_id!(
    /// One recorded event (`ce_id`).
    EventId
);
uuid_id!(
    /// One accepted command (`ce_commandid`).
    CommandId
);
uuid_id!(
    /// One user intent across all that it causes (`ce_correlationid`).
    CorrelationId
);

impl EventId {
    /// The id of the `index`-th event that `command` produced: derived (UUIDv5), so that
    /// whoever decides the same command again names its events the same.
    pub fn derived(command: CommandId, index: usize) -> Self {
        Self(Uuid::new_v5(&command.0, &(index as u64).to_be_bytes()))
    }
}

/// Keyed hash of a normalised e-mail address; id of the stream that holds its claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EmailHash(pub [u8; 32]);

impl fmt::Display for EmailHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::str::FromStr for EmailHash {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash).map_err(|_| InvalidId {
            kind: "EmailHash",
            expected: "64 hex digits",
        })?;
        Ok(Self(hash))
    }
}

impl Serialize for EmailHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EmailHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// The id of a stream: the Kafka key and `ce_subject` of its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StreamId {
    /// A user's stream, topic `users`.
    User(UserId),
    /// An e-mail address's claim, topic `users`.
    Email(EmailHash),
    /// An order's stream, topic `orders`.
    Order(OrderId),
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => id.fmt(f),
            Self::Email(hash) => hash.fmt(f),
            Self::Order(id) => id.fmt(f),
        }
    }
}

impl From<UserId> for StreamId {
    fn from(id: UserId) -> Self {
        Self::User(id)
    }
}

impl From<OrderId> for StreamId {
    fn from(id: OrderId) -> Self {
        Self::Order(id)
    }
}

impl From<EmailHash> for StreamId {
    fn from(hash: EmailHash) -> Self {
        Self::Email(hash)
    }
}
