//! The users read model, in Postgres.

pub mod fold;
mod generations;
pub mod http;
pub mod store;
