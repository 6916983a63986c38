//! The orders read model, in MongoDB.

pub mod answers;
mod aside;
mod attributes;
mod document;
pub mod fold;
mod generations;
pub mod history;
pub mod http;
pub mod list;
pub mod steps;
pub mod store;
mod words;
