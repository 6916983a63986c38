//! The orders read model, in MongoDB.

pub mod answers;
mod attributes;
mod document;
pub mod fold;
mod generations;
pub mod http;
pub mod list;
pub mod store;
