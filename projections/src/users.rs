//! The users read model, in Postgres.

pub mod answers;
pub mod fold;
mod generations;
pub mod http;
pub mod store;
