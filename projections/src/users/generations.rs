//! Generations of the users table: pointer, checkpoints, making, swapping and dropping.

use std::time::Duration;

use sqlx::{AssertSqlSafe, FromRow, PgConnection, migrate::Migrator, postgres::PgPoolOptions};

use super::store::UserStore;
use crate::{
    model::{FoldVersion, Generation, Known, Model, Positions, Stage},
    store::{ReadModel, StoreError},
};

/// Serialises whoever makes or changes generations; a key of Postgres' advisory locks ("orders" in ASCII and 1).
const STRUCTURE_LOCK: i64 = 0x6f72_6465_7273_0001;
const UNDEFINED_TABLE: &str = "42P01";
const LOCK_NOT_AVAILABLE: &str = "55P03";
/// How long a table or the view for other readers is waited for that somebody reads: whoever wants to read it meanwhile waits as well.
const READERS_AWAITED_MS: u64 = 5_000;

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
    structure_lock(&mut tx).await?;
    let sql = format!("SELECT EXISTS (SELECT FROM {schema}.live_generations WHERE model = $1)");
    let (exists,): (bool,) = sqlx::query_as(AssertSqlSafe(sql))
        .bind(Model::Users.name())
        .fetch_one(&mut *tx)
        .await?;
    if !exists {
        let first = enter(store, &mut tx).await?;
        create_table(store, &mut tx, first).await?;
        create_index(store, &mut tx, first).await?;
        let sql = format!(
            "INSERT INTO {schema}.live_generations (model, version, generation) VALUES ($1, $2, $3)"
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(Model::Users.name())
            .bind(version())
            .bind(first.0)
            .execute(&mut *tx)
            .await?;
        point_view(store, &mut tx).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Serialises whoever makes, swaps or drops generations, until the transaction ends.
async fn structure_lock(tx: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(STRUCTURE_LOCK)
        .execute(&mut *tx)
        .await?;
    sqlx::query("SELECT set_config('lock_timeout', $1, true)")
        .bind(READERS_AWAITED_MS.to_string())
        .execute(tx)
        .await?;
    Ok(())
}

/// Enters the next generation of this version.
async fn enter(store: &UserStore, tx: &mut PgConnection) -> Result<Generation, StoreError> {
    let sql = format!(
        "INSERT INTO {0}.generations (model, generation, version) \
         SELECT $1, coalesce(max(generation), 0) + 1, $2 FROM {0}.generations WHERE model = $1 RETURNING generation",
        store.names.schema
    );
    let (number,) = sqlx::query_as(AssertSqlSafe(sql))
        .bind(Model::Users.name())
        .bind(version())
        .fetch_one(tx)
        .await?;
    Ok(Generation(number))
}

pub(super) async fn live(store: &UserStore) -> Result<Generation, StoreError> {
    let sql = format!(
        "SELECT generation FROM {}.live_generations WHERE model = $1 AND version = $2",
        store.names.schema
    );
    let live: Option<(i32,)> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(Model::Users.name())
        .bind(version())
        .fetch_optional(&store.pool)
        .await?;
    let (number,) = live.ok_or(StoreError::NotBuilt(Model::Users, UserStore::VERSION))?;
    Ok(Generation(number))
}

pub(super) async fn followed(store: &UserStore) -> Result<(), StoreError> {
    let sql = format!(
        "UPDATE {}.live_generations SET followed_at = now() WHERE model = $1 AND version = $2",
        store.names.schema
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(Model::Users.name())
        .bind(version())
        .execute(&store.pool)
        .await?;
    Ok(())
}

#[derive(FromRow)]
struct GenerationRow {
    generation: i32,
    version: i32,
    begun_ago_s: i64,
    followed_ago_s: Option<i64>,
    since_s: Option<i64>,
    rest_s: Option<i64>,
}

pub(super) async fn known(store: &UserStore) -> Result<Vec<Known>, StoreError> {
    let sql = format!(
        "SELECT g.generation, g.version, EXTRACT(EPOCH FROM now() - g.begun_at)::bigint AS begun_ago_s, \
            EXTRACT(EPOCH FROM now() - r.followed_at)::bigint AS followed_ago_s, \
            EXTRACT(EPOCH FROM now() - g.kept_since)::bigint AS since_s, \
            EXTRACT(EPOCH FROM g.kept_until - now())::bigint AS rest_s \
         FROM {0}.generations g LEFT JOIN {0}.live_generations r ON r.model = g.model AND r.generation = g.generation \
         WHERE g.model = $1 AND g.dropped_at IS NULL ORDER BY g.generation",
        store.names.schema
    );
    let rows: Vec<GenerationRow> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(Model::Users.name())
        .fetch_all(&store.pool)
        .await?;
    rows.into_iter()
        .map(|row| {
            let version = u16::try_from(row.version)
                .map_err(|_| StoreError::Damaged(format!("version {} of users", row.version)))?;
            let stage = match (row.followed_ago_s, row.since_s, row.rest_s) {
                (Some(followed_ago_s), ..) => Stage::Live { followed_ago_s },
                (None, Some(since_s), Some(rest_s)) => Stage::Kept { since_s, rest_s },
                (None, ..) => Stage::Filling {
                    begun_ago_s: row.begun_ago_s,
                },
            };
            Ok(Known {
                generation: Generation(row.generation),
                version: FoldVersion(version),
                stage,
            })
        })
        .collect()
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
    let mut tx = store.pool.begin().await?;
    structure_lock(&mut tx).await?;
    let generation = enter(store, &mut tx).await?;
    create_table(store, &mut tx, generation).await?;
    tx.commit().await?;
    Ok(generation)
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
    from: Option<Generation>,
    to: Generation,
    keep: Duration,
) -> Result<(), StoreError> {
    let schema = &store.names.schema;
    let mut tx = store.pool.begin().await?;
    structure_lock(&mut tx).await?;
    // First what others may have to be waited for: meanwhile nobody waits for anything but the view.
    let sql = format!(
        "SELECT EXISTS (SELECT FROM {schema}.live_generations WHERE model = $1 AND version > $2)"
    );
    let (shows_a_later_version,): (bool,) = sqlx::query_as(AssertSqlSafe(sql))
        .bind(Model::Users.name())
        .bind(version())
        .fetch_one(&mut *tx)
        .await?;
    if !shows_a_later_version {
        let shown = show(store, &mut tx, to).await;
        shown.map_err(|error| gone(error, to))?;
    }
    let sql = format!(
        "UPDATE {schema}.generations SET kept_since = NULL, kept_until = NULL \
         WHERE model = $1 AND generation = $2 AND version = $3 AND dropped_at IS NULL"
    );
    let there = sqlx::query(AssertSqlSafe(sql))
        .bind(Model::Users.name())
        .bind(to.0)
        .bind(version())
        .execute(&mut *tx)
        .await?
        .rows_affected();
    let swapped = match from {
        Some(from) => {
            let sql = format!(
                "UPDATE {schema}.generations SET kept_since = now(), kept_until = now() + make_interval(secs => $3) \
                 WHERE model = $1 AND generation = $2"
            );
            sqlx::query(AssertSqlSafe(sql))
                .bind(Model::Users.name())
                .bind(from.0)
                .bind(keep.as_secs_f64())
                .execute(&mut *tx)
                .await?;
            let sql = format!(
                "UPDATE {schema}.live_generations SET generation = $3, live_since = now() \
                 WHERE model = $1 AND version = $2 AND generation = $4"
            );
            sqlx::query(AssertSqlSafe(sql))
                .bind(Model::Users.name())
                .bind(version())
                .bind(to.0)
                .bind(from.0)
        }
        None => {
            let sql = format!(
                "INSERT INTO {schema}.live_generations (model, version, generation) VALUES ($1, $2, $3) \
                 ON CONFLICT DO NOTHING"
            );
            sqlx::query(AssertSqlSafe(sql))
                .bind(Model::Users.name())
                .bind(version())
                .bind(to.0)
        }
    };
    let swapped = swapped.execute(&mut *tx).await?.rows_affected();
    if (there, swapped) != (1, 1) {
        return Err(StoreError::Gone(Model::Users, to));
    }
    tx.commit().await?;
    Ok(())
}

pub(super) async fn drop_generation(
    store: &UserStore,
    generation: Generation,
) -> Result<(), StoreError> {
    let schema = &store.names.schema;
    let mut tx = store.pool.begin().await?;
    structure_lock(&mut tx).await?;
    let sql = format!(
        "DELETE FROM {schema}.live_generations WHERE model = $1 AND generation = $2 RETURNING version"
    );
    let live_for: Option<(i32,)> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(Model::Users.name())
        .bind(generation.0)
        .fetch_optional(&mut *tx)
        .await?;
    if live_for == Some((version(),)) {
        return Err(StoreError::IsLive(Model::Users, generation));
    }
    for sql in [
        format!(
            "UPDATE {schema}.generations SET dropped_at = now() WHERE model = $1 AND generation = $2"
        ),
        format!("DELETE FROM {schema}.checkpoints WHERE model = $1 AND generation = $2"),
    ] {
        sqlx::query(AssertSqlSafe(sql))
            .bind(Model::Users.name())
            .bind(generation.0)
            .execute(&mut *tx)
            .await?;
    }
    if live_for.is_some() {
        point_view(store, &mut tx).await?;
    }
    let sql = format!("DROP TABLE IF EXISTS {}", store.table(generation));
    sqlx::query(AssertSqlSafe(sql)).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(())
}

fn version() -> i32 {
    UserStore::VERSION.0.into()
}

/// The error that a missing table stands for.
pub(super) fn gone(error: StoreError, generation: Generation) -> StoreError {
    match is_refused(&error, UNDEFINED_TABLE) {
        true => StoreError::Gone(Model::Users, generation),
        false => error,
    }
}

/// The error that a table or view stands for which others read for long.
pub(super) fn in_use(error: StoreError) -> StoreError {
    match is_refused(&error, LOCK_NOT_AVAILABLE) {
        true => StoreError::InUse(Model::Users),
        false => error,
    }
}

fn is_refused(error: &StoreError, wanted: &str) -> bool {
    let StoreError::Postgres(refused) = error else {
        return false;
    };
    let code = refused
        .as_database_error()
        .and_then(|refused| refused.code());
    code.is_some_and(|code| code == wanted)
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
    for (name, columns) in [
        ("newest", "created_at, user_id"),
        ("role_newest", "role, created_at, user_id"),
        ("status_newest", "status, created_at, user_id"),
    ] {
        let sql = format!(
            "CREATE INDEX IF NOT EXISTS {}_{name} ON {} ({columns})",
            generation.storage(Model::Users),
            store.table(generation)
        );
        sqlx::query(AssertSqlSafe(sql)).execute(&mut *tx).await?;
    }
    Ok(())
}

/// Lets the view for other readers show what the latest version serves.
async fn point_view(store: &UserStore, tx: &mut PgConnection) -> Result<(), StoreError> {
    let sql = format!(
        "SELECT generation FROM {}.live_generations WHERE model = $1 ORDER BY version DESC LIMIT 1",
        store.names.schema
    );
    let live: Option<(i32,)> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(Model::Users.name())
        .fetch_optional(&mut *tx)
        .await?;
    match live {
        Some((live,)) => show(store, tx, Generation(live)).await,
        None => Ok(()),
    }
}

/// Lets the view for other readers show a generation.
async fn show(
    store: &UserStore,
    tx: &mut PgConnection,
    generation: Generation,
) -> Result<(), StoreError> {
    let (view, table) = (
        format!("{}.users", store.names.view_schema),
        store.table(generation),
    );
    // Another version's may have other columns; only then it is made anew, without what was granted on it.
    sqlx::raw_sql(AssertSqlSafe(format!(
        "DO $$ BEGIN CREATE OR REPLACE VIEW {view} AS SELECT * FROM {table}; \
         EXCEPTION WHEN invalid_table_definition THEN DROP VIEW {view}; CREATE VIEW {view} AS SELECT * FROM {table}; END $$"
    )))
    .execute(tx)
    .await?;
    Ok(())
}
