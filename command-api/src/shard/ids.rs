//! Ids that fall on a wanted shard: UUIDv7 whose random bits are drawn until they do.

use events::{
    ids::{OrderId, UserId},
    partition::partition_of,
};
use uuid::Uuid;

/// The shard of a stream, by its id's text.
pub fn shard_of(id: impl std::fmt::Display, shards: u16) -> u16 {
    partition_of(id.to_string().as_bytes(), shards)
}

/// The shard where the commands of a caller under this key meet each other, on whatever node.
pub fn shard_of_key(caller: UserId, key: &str, shards: u16) -> u16 {
    partition_of(format!("{caller} {key}").as_bytes(), shards)
}

/// A new id on `shard`, which must be one of `shards`.
pub fn draw(shard: u16, shards: u16) -> Uuid {
    let mut text = Uuid::encode_buffer();
    // Ends with probability 1, on average after `shards` draws.
    loop {
        let id = Uuid::now_v7();
        if partition_of(id.hyphenated().encode_lower(&mut text).as_bytes(), shards) == shard {
            return id;
        }
    }
}

/// [`draw`] for an order.
pub fn draw_order(shard: u16, shards: u16) -> OrderId {
    OrderId(draw(shard, shards))
}

/// [`draw`] for a user.
pub fn draw_user(shard: u16, shards: u16) -> UserId {
    UserId(draw(shard, shards))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_ids_fall_on_the_wanted_shard() {
        for shards in [1, 2, 6, 64] {
            for shard in 0..shards {
                assert_eq!(shard_of(draw_order(shard, shards), shards), shard);
            }
        }
    }
}
