//! The notifier's adapters against the real thing: Postgres (DATABASE_URL; each test makes a database of its own
//! and drops it) and the providers' stand-in over HTTP. `scripts/stack up` starts a Postgres.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod database;
mod failover;
mod ledger;
mod providers;
mod sending;
mod stand_in;
mod store;
mod world;
