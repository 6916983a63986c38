//! How what shards are asked, and what they answer, is written as bytes: postcard, which says nothing about itself. So a
//! number says which program's types it is, and nodes of different numbers do not talk.

use prost::bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::request::Refused;

/// Raised with every change of what is carried, of the types within included; a test says so.
pub const FORMAT: u32 = 1;

/// What a node answers to what was carried to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply<T> {
    /// The shard is this node's, and this is what became of it.
    Done(Result<T, Refused>),
    /// The shard is another node's, and nothing was done.
    NotOwner {
        /// Where to go instead, where this node knows.
        owner: Option<String>,
    },
}

/// The bytes of a value; none when it cannot be written.
pub fn written<T: Serialize>(value: &T) -> Option<Bytes> {
    postcard::to_stdvec(value).ok().map(Bytes::from)
}

/// The value of these bytes; none when they are not exactly one.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    match postcard::take_from_bytes(bytes).ok()? {
        (value, []) => Some(value),
        (_, [_, ..]) => None,
    }
}
