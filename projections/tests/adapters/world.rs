//! Databases for a test alone.

use std::time::Duration;

use projections::{
    model::Generation,
    orders::store::OrderStore,
    settings::MongoSettings,
    store::ReadModel,
    users::store::{Names, UserStore},
};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, postgres::PgConnectOptions};
use uuid::Uuid;

pub const LIVE: Generation = Generation::FIRST;
/// How long a generation is kept whose place another takes.
pub const KEPT: Duration = Duration::from_secs(60);

fn from_environment(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run scripts/stack up"))
}

fn own_name() -> String {
    format!("projections_test_{}", Uuid::now_v7().simple())
}

/// Runs clean-up on a thread of its own: it may be called while the test's runtime unwinds.
fn clean_up<F: Future<Output = Result<(), String>> + Send + 'static>(name: &str, work: F) {
    let worker = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(work)
    });
    if let Ok(Err(error)) = worker.join() {
        eprintln!("{name} is left behind: {error}");
    }
}

/// The users read model in a schema of its own.
pub struct Users {
    pub store: UserStore,
    pub pool: PgPool,
    pub schema: String,
    options: PgConnectOptions,
}

impl Users {
    pub async fn fresh() -> Self {
        let users = Self::unprepared().await;
        users.store.prepare().await.unwrap();
        users
    }

    pub async fn unprepared() -> Self {
        let options: PgConnectOptions = from_environment("DATABASE_URL")
            .parse()
            .expect("DATABASE_URL is no connection URL");
        let pool = PgPool::connect_with(options.clone())
            .await
            .expect("Postgres is not there: run scripts/stack up");
        let schema = own_name();
        let names = Names {
            schema: schema.clone(),
            view_schema: schema.clone(),
        };
        Self {
            store: UserStore::new(pool.clone(), names),
            pool,
            schema,
            options,
        }
    }

    /// A statement in which `{s}` stands for the test's schema.
    pub async fn execute(&self, sql: &str) {
        let sql = sql.replace("{s}", &self.schema);
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&self.pool)
            .await
            .unwrap();
    }

    /// The rows of a query as text, in which `{s}` stands for the test's schema.
    pub async fn rows(&self, sql: &str) -> Vec<String> {
        let sql = sql.replace("{s}", &self.schema);
        sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        let (options, schema) = (self.options.clone(), self.schema.clone());
        clean_up(&self.schema, async move {
            let mut connection = PgConnection::connect_with(&options)
                .await
                .map_err(|error| error.to_string())?;
            let sql = AssertSqlSafe(format!("DROP SCHEMA IF EXISTS {schema} CASCADE"));
            sqlx::raw_sql(sql)
                .execute(&mut connection)
                .await
                .map(|_| ())
                .map_err(|error| error.to_string())
        });
    }
}

/// The orders read model in a database of its own.
pub struct Orders {
    pub store: OrderStore,
    pub database: mongodb::Database,
    settings: MongoSettings,
}

impl Orders {
    pub async fn fresh() -> Self {
        let orders = Self::unprepared().await;
        orders
            .store
            .prepare()
            .await
            .expect("MongoDB is not there: run scripts/stack up");
        orders
    }

    pub async fn unprepared() -> Self {
        let settings = MongoSettings {
            mongodb_uri: from_environment("MONGODB_URI"),
            mongodb_database: own_name(),
        };
        let database = settings.database().await.unwrap();
        Self {
            store: OrderStore::new(database.clone(), &["a.b".parse().unwrap()]),
            database,
            settings,
        }
    }

    pub fn collection(&self, name: &str) -> mongodb::Collection<mongodb::bson::Document> {
        self.database.collection(name)
    }
}

impl Drop for Orders {
    fn drop(&mut self) {
        let settings = self.settings.clone();
        clean_up(&self.settings.mongodb_database, async move {
            let database = settings.database().await.map_err(|e| e.to_string())?;
            database.drop().await.map_err(|error| error.to_string())
        });
    }
}
