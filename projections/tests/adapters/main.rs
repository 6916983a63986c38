//! The read models in their real databases: Postgres (DATABASE_URL, each test in a schema of its own) and
//! MongoDB (MONGODB_URI, each test in a database of its own), dropped when the test ends, also when it fails.
//! `scripts/stack up` starts both.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "this is a test, also outside of functions marked as one"
)]

mod aside;
mod generations;
mod lock;
mod orders;
mod queries;
mod users;
mod world;

#[path = "../../src/samples.rs"]
mod samples;
