//! The users read model, in Postgres.

pub mod answers;
mod aside;
pub mod fold;
mod generations;
pub mod http;
pub mod store;
