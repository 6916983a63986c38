//! The users read model, in Postgres.

pub mod answers;
mod aside;
mod copy;
pub mod fold;
mod generations;
pub mod http;
pub mod store;
