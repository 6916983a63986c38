//! The databases themselves, past every service.

use sqlx::{Connection, PgConnection};

use crate::environment::variable;

/// A connection to Postgres.
pub async fn postgres() -> PgConnection {
    let connected = PgConnection::connect(&variable("DATABASE_URL")).await;
    connected.expect("Postgres")
}

/// The database of the orders read model.
pub async fn orders_database() -> mongodb::Database {
    let client = mongodb::Client::with_uri_str(variable("MONGODB_URI")).await;
    client.expect("MongoDB").database("orderlog")
}
