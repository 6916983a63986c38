//! What the benchmarks and the servers that they measure Orderlog against have in common.

pub mod producer;
pub mod statistics;
