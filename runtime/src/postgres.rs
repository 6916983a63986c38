//! How every service reaches Postgres.

use std::{io, str::FromStr, time::Duration};

use metrics::{Unit, describe_gauge, gauge};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio_util::sync::CancellationToken;

use crate::{health::Component, retry, scrape, setting::confidential};

/// How long a query may wait for a connection before the database counts as away.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a query of a request may take before the database counts as away.
pub const QUERY_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTIONS: &str = "orderlog_postgres_connections";
const CONNECTIONS_IDLE: &str = "orderlog_postgres_connections_idle";
const CONNECTIONS_LIMIT: &str = "orderlog_postgres_connections_limit";
/// What to do when it is not there.
pub const START_HINT: &str = "scripts/stack start postgres";

/// Where Postgres is.
#[derive(Debug, Clone, clap::Args)]
pub struct PostgresSettings {
    /// Connection URL of Postgres, postgres://USER:PASSWORD@HOST:PORT/DATABASE.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_parser = confidential::<DatabaseUrl>())]
    pub database_url: DatabaseUrl,
    /// Connections that this process opens at most.
    #[arg(long, env = "DATABASE_CONNECTIONS_MAX", default_value_t = 8)]
    pub database_connections_max: u32,
}

/// A connection URL; never shown, since it holds a password.
#[derive(Clone)]
pub struct DatabaseUrl(PgConnectOptions);

impl FromStr for DatabaseUrl {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        // sqlx's own error could repeat the URL.
        url.parse()
            .map(Self)
            .map_err(|_: sqlx::Error| "not a Postgres connection URL".to_owned())
    }
}

impl std::fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "DatabaseUrl({}:{})",
            self.0.get_host(),
            self.0.get_port()
        )
    }
}

/// A pool that connects when it is first used; `application` shows in Postgres' own lists.
/// Safe to make while Postgres is away.
pub fn pool(settings: &PostgresSettings, application: &str) -> PgPool {
    PgPoolOptions::new()
        .max_connections(settings.database_connections_max)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_lazy_with(
            settings
                .database_url
                .0
                .clone()
                .application_name(application),
        )
}

/// Has the connections of a pool counted at each scrape.
pub fn measure(pool: &PgPool) {
    for (name, meaning) in [
        (CONNECTIONS, "Connections to Postgres that are open."),
        (CONNECTIONS_IDLE, "Those among them that nobody uses."),
        (
            CONNECTIONS_LIMIT,
            "How many may be open; whoever finds none waits.",
        ),
    ] {
        describe_gauge!(name, Unit::Count, meaning);
    }
    gauge!(CONNECTIONS_LIMIT).set(pool.options().get_max_connections());
    let pool = pool.clone();
    scrape::before_each(move || {
        gauge!(CONNECTIONS).set(pool.size());
        gauge!(CONNECTIONS_IDLE).set(pool.num_idle() as f64);
    });
}

/// The outcome of a query of a request, or an error when it takes too long: a server that hangs must not
/// keep requests hanging.
pub async fn in_time<T>(
    query: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(QUERY_TIMEOUT, query).await {
        Ok(outcome) => outcome,
        Err(_) => Err(sqlx::Error::Io(io::Error::new(
            io::ErrorKind::TimedOut,
            "no answer in time",
        ))),
    }
}

/// Waits until Postgres answers; meanwhile says so in the log and in `component`.
/// `None` when `shutdown` is cancelled before.
pub async fn wait_until_there(
    pool: &PgPool,
    component: &Component,
    shutdown: &CancellationToken,
) -> Option<()> {
    retry::until_ready(component, START_HINT, shutdown, || async {
        sqlx::query("SELECT 1").execute(pool).await.map(|_| ())
    })
    .await
}
