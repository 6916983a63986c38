//! The read models in their real databases: Postgres (DATABASE_URL, each test in a schema of its own) and
//! MongoDB (MONGODB_URI, each test in a database of its own), dropped when the test ends, also when it fails.
//! `scripts/stack up` starts both.

mod lock;
mod orders;
mod queries;
mod users;
mod world;

#[path = "../../src/samples.rs"]
mod samples;
