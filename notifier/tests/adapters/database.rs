//! A database of a test's own.

use std::time::Duration;

use notifier::store;
use runtime::data_keys::{DataKeys, WrappingKey};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, postgres::PgConnectOptions};
use uuid::Uuid;

/// Longer than anything a test waits for.
const PATIENCE: Duration = Duration::from_secs(20);

/// A fresh database with the notifier's schema and the users' data keys; dropped with this.
pub struct Database {
    pub pool: PgPool,
    pub keys: DataKeys,
    admin: PgConnectOptions,
    name: String,
}

impl Database {
    pub async fn fresh() -> Self {
        let url = std::env::var("DATABASE_URL")
            .expect("DATABASE_URL names no Postgres: run scripts/stack up");
        let admin: PgConnectOptions = url.parse().expect("DATABASE_URL is no connection URL");
        let name = format!("notifier_test_{}", Uuid::now_v7().simple());
        let mut connection = PgConnection::connect_with(&admin)
            .await
            .expect("Postgres is not there: run scripts/stack up");
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .execute(&mut connection)
            .await
            .unwrap();
        let pool = PgPool::connect_with(admin.clone().database(&name))
            .await
            .unwrap();
        store::migrate(&pool).await.unwrap();
        sqlx::raw_sql(
            "CREATE SCHEMA identity;
             CREATE TABLE identity.data_keys (user_id uuid PRIMARY KEY, wrapped_key bytea NOT NULL,
                                              created_at timestamptz NOT NULL DEFAULT now())",
        )
        .execute(&pool)
        .await
        .unwrap();
        let keys = DataKeys::new(pool.clone(), WrappingKey::new(&[9; 32]));
        Self {
            pool,
            keys,
            admin,
            name,
        }
    }

    /// One number from a query.
    pub async fn number(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    /// Waits until `sql`, a query of one boolean, says yes.
    pub async fn until(&self, sql: &'static str) {
        let holds = async {
            while !sqlx::query_scalar::<_, bool>(sql)
                .fetch_one(&self.pool)
                .await
                .unwrap()
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, holds).await.is_err() {
            panic!("never came true: {sql}\n{}", self.dump().await);
        }
    }

    /// Everything in the notifier's tables, as text.
    pub async fn dump(&self) -> String {
        let mut all = String::new();
        for table in [
            "checkpoint",
            "contact",
            "order_total",
            "ledger",
            "set_aside",
        ] {
            let sql = AssertSqlSafe(format!("SELECT row::text FROM notifier.{table} AS row"));
            let rows: Vec<String> = sqlx::query_scalar(sql).fetch_all(&self.pool).await.unwrap();
            all += &format!("{table}: {rows:#?}\n");
        }
        all
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (admin, name) = (self.admin.clone(), self.name.clone());
        let drop_it = async move {
            let mut connection = PgConnection::connect_with(&admin).await?;
            let sql = AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"));
            sqlx::raw_sql(sql).execute(&mut connection).await
        };
        // A thread of its own: this may run while the test's runtime unwinds.
        let dropped = std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(drop_it)
        });
        if let Ok(Err(error)) = dropped.join() {
            eprintln!("the test's database {} is left behind: {error}", self.name);
        }
    }
}
