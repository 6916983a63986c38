//! The read side: folds the topics into read models, answers queries from them, and lets operators rebuild
//! and verify them. The only room that knows the read models' databases.

pub mod aside;
pub mod described;
pub mod digest;
pub mod fields;
pub mod fold;
pub mod follower;
pub mod grpc;
pub mod halts;
pub mod horizon;
pub mod indexes;
pub mod inspect;
pub mod lag;
pub mod live;
pub mod lock;
pub mod measures;
pub mod model;
pub mod news;
pub mod operate;
pub mod orders;
pub mod patience;
pub mod progress;
pub mod queries;
pub mod query;
pub mod rebuild;
pub mod retention;
pub mod serve;
pub mod settings;
pub mod share;
pub mod skip;
pub mod source;
pub mod status;
pub mod store;
pub mod traced;
pub mod users;
pub mod verify;
pub mod worker;

#[cfg(test)]
extern crate self as projections;
#[cfg(test)]
mod samples;
