//! (being written)
mod shard;
fn main() {}
