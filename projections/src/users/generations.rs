//! Generations of the users table: pointer, checkpoints, making, swapping and dropping.

use sqlx::{AssertSqlSafe, PgConnection, migrate::Migrator, postgres::PgPoolOptions};

use super::store::UserStore;
use crate::{
    model::{Generation, Model, Pointer, Positions},
    store::StoreError,
};

/// Serialises whoever makes or changes generations; a key of Postgres' advisory locks ("orders" in ASCII and 1).
const STRUCTURE_LOCK: i64 = 0x6f72_6465_7273_0001;
const UNDEFINED_TABLE: &str = "42P01";

/// Makes the schema and applies the migrations in it; their table stands in it, too.
pub(super) async fn migrate(store: &UserStore, migrations: &Migrator) -> Result<(), StoreError> {
    let schema = &store.names.schema;
    let options = store
        .pool
        .connect_options()
        .as_ref()
        .clone()
        .options([("search_path", schema)]);
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(store.pool.options().get_acquire_timeout())
        .connect_with(options)
        .await?;
    sqlx::query(AssertSqlSafe(format!(
        "CREATE SCHEMA IF NOT EXISTS {schema}"
    )))
    .execute(&pool)
    .await?;
    let migrated = migrations.run(&pool).await;
    pool.close().await;
    Ok(migrated?)
}

pub(super) async fn prepare(store: &UserStore) -> Result<(), StoreError> {
    let schema = &store.names.schema;
    let mut tx = store.pool.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(STRUCTURE_LOCK)
        .execute(&mut *tx)
        .await?;
    let sql = format!(
        "INSERT INTO {schema}.read_models (model, live_generation, last_generation) VALUES ($1, $2, $2) \
         ON CONFLICT DO NOTHING"
    );
    let first = Generation::FIRST;
    let made = sqlx::query(AssertSqlSafe(sql))
        .bind(Model::Users.name())
        .bind(first.0)
        .execute(&mut *tx)
        .await?
        .rows_affected();
    if made == 1 {
        create_table(store, &mut tx, first).await?;
        create_index(store, &mut tx, first).await?;
        point_view(store, &mut tx, first).await?;
    }
    tx.commit().await?;
    Ok(())
}

pub(super) async fn pointer(store: &UserStore) -> Result<Pointer, StoreError> {
    let sql = format!(
        "SELECT live_generation, last_generation, EXTRACT(EPOCH FROM now() - live_since)::bigint \
         FROM {}.read_models WHERE model = $1",
        store.names.schema
    );
    let (live, last, live_for_s) = sqlx::query_as(AssertSqlSafe(sql))
        .bind(Model::Users.name())
        .fetch_one(&store.pool)
        .await?;
    Ok(Pointer {
        live: Generation(live),
        last: Generation(last),
        live_for_s,
    })
}

pub(super) async fn checkpoint(
    store: &UserStore,
    generation: Generation,
) -> Result<Positions, StoreError> {
    // One statement, one moment: whether the table is there, and how far it is.
    let sql = format!(
        "SELECT to_regclass($3) IS NOT NULL, \
            (SELECT array_agg(partition ORDER BY partition) FROM {0}.checkpoints WHERE model = $1 AND generation = $2), \
            (SELECT array_agg(position ORDER BY partition) FROM {0}.checkpoints WHERE model = $1 AND generation = $2)",
        store.names.schema
    );
    let (exists, partitions, positions): (bool, Option<Vec<i32>>, Option<Vec<i64>>) =
        sqlx::query_as(AssertSqlSafe(sql))
            .bind(Model::Users.name())
            .bind(generation.0)
            .bind(store.table(generation))
            .fetch_one(&store.pool)
            .await?;
    if !exists {
        return Err(StoreError::Gone(Model::Users, generation));
    }
    let partitions = partitions.unwrap_or_default().into_iter().map(|partition| {
        u16::try_from(partition)
            .map_err(|_| StoreError::Damaged(format!("checkpoint of partition {partition}")))
    });
    partitions
        .zip(positions.unwrap_or_default())
        .map(|(partition, position)| Ok((partition?, position)))
        .collect()
}

pub(super) async fn begin(store: &UserStore) -> Result<Generation, StoreError> {
    let schema = &store.names.schema;
    let mut tx = store.pool.begin().await?;
    let sql = format!(
        "UPDATE {schema}.read_models SET last_generation = last_generation + 1 WHERE model = $1 \
         RETURNING last_generation"
    );
    let (number,) = sqlx::query_as(AssertSqlSafe(sql))
        .bind(Model::Users.name())
        .fetch_one(&mut *tx)
        .await?;
    create_table(store, &mut tx, Generation(number)).await?;
    tx.commit().await?;
    Ok(Generation(number))
}

pub(super) async fn index(store: &UserStore, generation: Generation) -> Result<(), StoreError> {
    let mut tx = store.pool.begin().await?;
    create_index(store, &mut tx, generation).await?;
    tx.commit().await?;
    sqlx::query(AssertSqlSafe(format!(
        "ANALYZE {}",
        store.table(generation)
    )))
    .execute(&store.pool)
    .await?;
    Ok(())
}

pub(super) async fn swap(
    store: &UserStore,
    from: Generation,
    to: Generation,
) -> Result<(), StoreError> {
    let mut tx = store.pool.begin().await?;
    let sql = format!(
        "UPDATE {}.read_models SET live_generation = $3, live_since = now() \
         WHERE model = $1 AND live_generation = $2 AND last_generation = $3",
        store.names.schema
    );
    let swapped = sqlx::query(AssertSqlSafe(sql))
        .bind(Model::Users.name())
        .bind(from.0)
        .bind(to.0)
        .execute(&mut *tx)
        .await?
        .rows_affected();
    if swapped != 1 {
        return Err(StoreError::Gone(Model::Users, to));
    }
    point_view(store, &mut tx, to).await?;
    tx.commit().await?;
    Ok(())
}

pub(super) async fn drop_others(
    store: &UserStore,
    begun: Generation,
) -> Result<Vec<Generation>, StoreError> {
    let schema = &store.names.schema;
    let mut tx = store.pool.begin().await?;
    let sql =
        format!("SELECT live_generation FROM {schema}.read_models WHERE model = $1 FOR UPDATE");
    let (live,): (i32,) = sqlx::query_as(AssertSqlSafe(sql))
        .bind(Model::Users.name())
        .fetch_one(&mut *tx)
        .await?;
    let tables: Vec<(String,)> =
        sqlx::query_as("SELECT tablename::text FROM pg_tables WHERE schemaname = $1")
            .bind(schema)
            .fetch_all(&mut *tx)
            .await?;
    let mut dropped = Vec::new();
    for generation in tables
        .iter()
        .filter_map(|(table,)| Generation::of_storage(Model::Users, table))
    {
        if generation.0 != live && generation != begun {
            let sql = format!("DROP TABLE {}", store.table(generation));
            sqlx::query(AssertSqlSafe(sql)).execute(&mut *tx).await?;
            dropped.push(generation);
        }
    }
    let sql =
        format!("DELETE FROM {schema}.checkpoints WHERE model = $1 AND generation NOT IN ($2, $3)");
    sqlx::query(AssertSqlSafe(sql))
        .bind(Model::Users.name())
        .bind(live)
        .bind(begun.0)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    dropped.sort_unstable();
    Ok(dropped)
}

/// The error that a missing table stands for.
pub(super) fn gone(error: StoreError, generation: Generation) -> StoreError {
    if let StoreError::Postgres(refused) = &error
        && let Some(refused) = refused.as_database_error()
        && refused.code().is_some_and(|code| code == UNDEFINED_TABLE)
    {
        return StoreError::Gone(Model::Users, generation);
    }
    error
}

async fn create_table(
    store: &UserStore,
    tx: &mut PgConnection,
    generation: Generation,
) -> Result<(), StoreError> {
    let sql = format!(
        "CREATE TABLE {} (
            user_id uuid PRIMARY KEY,
            email bytea,
            name bytea,
            phone bytea,
            locale text NOT NULL,
            role text NOT NULL,
            status text NOT NULL,
            email_verified boolean NOT NULL,
            order_emails boolean NOT NULL,
            order_sms boolean NOT NULL,
            version bigint NOT NULL,
            created_at timestamptz NOT NULL,
            updated_at timestamptz NOT NULL
        )",
        store.table(generation)
    );
    sqlx::query(AssertSqlSafe(sql)).execute(tx).await?;
    Ok(())
}

async fn create_index(
    store: &UserStore,
    tx: &mut PgConnection,
    generation: Generation,
) -> Result<(), StoreError> {
    let sql = format!(
        "CREATE INDEX IF NOT EXISTS {}_newest ON {} (created_at, user_id)",
        generation.storage(Model::Users),
        store.table(generation)
    );
    sqlx::query(AssertSqlSafe(sql)).execute(tx).await?;
    Ok(())
}

async fn point_view(
    store: &UserStore,
    tx: &mut PgConnection,
    generation: Generation,
) -> Result<(), StoreError> {
    let sql = format!(
        "CREATE OR REPLACE VIEW {}.users AS SELECT * FROM {}",
        store.names.view_schema,
        store.table(generation)
    );
    sqlx::query(AssertSqlSafe(sql)).execute(tx).await?;
    Ok(())
}
