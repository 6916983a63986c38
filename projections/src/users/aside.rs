//! Records of the users' topic that were set aside, in a table beside those of generations.

use sqlx::{AssertSqlSafe, FromRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::store::UserStore;
use crate::{
    aside::{Gap, SetAside},
    model::Model,
    store::StoreError,
};

/// Enters a record; whether it was not there.
pub(super) async fn enter(store: &UserStore, record: &SetAside) -> Result<bool, StoreError> {
    let sql = format!(
        "INSERT INTO {}.set_aside \
            (model, partition, position, stream, after_version, version, error, reason, operator, at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING",
        store.names.schema
    );
    let entered = sqlx::query(AssertSqlSafe(sql))
        .bind(Model::Users.name())
        .bind(i32::from(record.partition))
        .bind(record.offset)
        .bind(record.gap.map(|gap| gap.stream))
        .bind(record.gap.map(|gap| gap.after.cast_signed()))
        .bind(record.gap.map(|gap| gap.version.cast_signed()))
        .bind(&record.error)
        .bind(&record.reason)
        .bind(&record.operator)
        .bind(record.at)
        .execute(&store.pool)
        .await?;
    Ok(entered.rows_affected() == 1)
}

/// Every record, in the order of their places.
pub(super) async fn all(store: &UserStore) -> Result<Vec<SetAside>, StoreError> {
    let sql = format!(
        "SELECT partition, position, stream, after_version, version, error, reason, operator, at \
         FROM {}.set_aside WHERE model = $1 ORDER BY partition, position",
        store.names.schema
    );
    let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(Model::Users.name())
        .fetch_all(&store.pool)
        .await?;
    rows.into_iter().map(SetAside::try_from).collect()
}

#[derive(FromRow)]
struct Row {
    partition: i32,
    position: i64,
    stream: Option<Uuid>,
    after_version: Option<i64>,
    version: Option<i64>,
    error: String,
    reason: String,
    operator: String,
    at: OffsetDateTime,
}

impl TryFrom<Row> for SetAside {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let damaged = |_| StoreError::Damaged("a record that was set aside".into());
        let gap = match (row.stream, row.after_version, row.version) {
            (Some(stream), Some(after), Some(version)) => Some(Gap {
                stream,
                after: after.try_into().map_err(damaged)?,
                version: version.try_into().map_err(damaged)?,
            }),
            _ => None,
        };
        Ok(Self {
            partition: row.partition.try_into().map_err(damaged)?,
            offset: row.position,
            gap,
            error: row.error,
            reason: row.reason,
            operator: row.operator,
            at: row.at,
        })
    }
}
