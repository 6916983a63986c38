//! Who may sign in, and with what: the private tables in Postgres and the secrets of this service. None of it
//! ever enters the log.

pub mod consequences;
pub mod credentials;
pub mod email_hash;
pub mod node_tokens;
pub mod passwords;
pub mod secrets;
pub mod sessions;
pub mod token_keys;
pub mod tokens;

use sqlx::PgPool;

/// A part of the identity tables did what it should not: nothing of it is told to clients.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Postgres did not answer, or refused.
    #[error("the identity tables in Postgres cannot be reached: {0}")]
    Unreachable(#[from] sqlx::Error),
    /// More passwords wait to be checked than are let wait.
    #[error("too many passwords wait to be checked")]
    Busy,
    /// A stored hash is damaged, or signing failed.
    #[error("{0}")]
    Broken(String),
}

/// Makes and alters the tables. Several processes may do so at the same time.
pub async fn migrate(pool: &PgPool) -> Result<(), sqlx::migrate::MigrateError> {
    let mut migrations = sqlx::migrate!("./migrations");
    // A schema and a list of migrations of its own: several services share the database.
    migrations.create_schema("identity");
    migrations.dangerous_set_table_name("identity.migrations");
    migrations.run(pool).await
}

#[cfg(test)]
mod tests;
