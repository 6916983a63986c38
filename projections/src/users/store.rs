//! Users in Postgres: rows and checkpoint change in one transaction.

use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
    time::Duration,
};

use events::{
    UserEvent,
    ids::{StreamId, UserId},
    sealed::Sealed,
    timestamp::Timestamp,
    user::{NotificationPreferences, Role},
};
use futures_util::TryStreamExt;
use runtime::representation::UserStatus;
use sqlx::{
    AssertSqlSafe, Connection as _, FromRow, PgConnection, PgPool, Postgres, QueryBuilder,
    Row as _, Transaction, error::DatabaseError, migrate::Migrator, pool::PoolConnection,
};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    aside, copy,
    fold::{STATUSES, User, role_name, status_name},
    generations,
};
use crate::{
    aside::SetAside,
    digest::Digest,
    fold::{Advance, Folded, Round, State, continued, fold},
    model::{FoldVersion, Generation, Known, Model, Positions},
    store::{Applied, ReadModel, StoreError},
};

/// Those that a later version has applied do not keep this one from starting.
static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrations = sqlx::migrate!();
    migrations.set_ignore_missing(true);
    migrations
});

/// The columns of a row, in the order of [`Columns`].
const COLUMNS: &str = "user_id, email, name, phone, locale, role, status, email_verified, \
    order_emails, order_sms, version, created_at, updated_at";

/// So many new rows and more are copied, fewer inserted.
const COPIED_MIN: usize = 200;

/// The users read model.
#[derive(Debug, Clone)]
pub struct UserStore {
    pub(super) pool: PgPool,
    pub(super) names: Names,
}

/// Which users a list shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UserFilter {
    /// Only those who may do this.
    pub role: Option<Role>,
    /// Only those whose data is there, or not.
    pub status: Option<UserStatus>,
    /// Only those registered then or later.
    pub created_from: Option<Timestamp>,
    /// Only those registered earlier.
    pub created_to: Option<Timestamp>,
}

impl UserFilter {
    /// The list that a cursor is bound to.
    pub fn described(&self) -> [String; 5] {
        let time = |time: Option<Timestamp>| time.map(|it| it.micros().to_string());
        [
            Some("users".to_owned()),
            self.role.map(|role| role_name(role).to_owned()),
            self.status.map(|status| status_name(status).to_owned()),
            time(self.created_from),
            time(self.created_to),
        ]
        .map(Option::unwrap_or_default)
    }
}

/// Where in the database it stands.
#[derive(Debug, Clone)]
pub struct Names {
    /// The schema of tables and checkpoints.
    pub schema: String,
    /// The schema of the view `users` for other readers.
    pub view_schema: String,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            schema: "read_model".into(),
            view_schema: "public".into(),
        }
    }
}

impl UserStore {
    /// The read model in the database of `pool`. `names` are put into statements: never take them from outside.
    pub fn new(pool: PgPool, names: Names) -> Self {
        Self { pool, names }
    }

    pub(super) fn table(&self, generation: Generation) -> String {
        format!("{}.{}", self.names.schema, generation.storage(Model::Users))
    }

    /// One user of a generation.
    pub async fn user(
        &self,
        generation: Generation,
        id: UserId,
    ) -> Result<Option<User>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM {} WHERE user_id = $1",
            self.table(generation)
        );
        let row: Option<Row> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(id.0)
            .fetch_optional(&self.pool)
            .await?;
        row.map(User::try_from).transpose()
    }

    /// At most `limit` users of a generation that pass `filter`, newest first, those after `after` (created at, id).
    pub async fn users(
        &self,
        generation: Generation,
        filter: &UserFilter,
        after: Option<(Timestamp, Uuid)>,
        limit: u16,
    ) -> Result<Vec<User>, StoreError> {
        let mut query = self.list(generation, filter, after, limit)?;
        let rows = query.build_query_as::<Row>().fetch_all(&self.pool).await?;
        rows.into_iter().map(User::try_from).collect()
    }

    /// The statement behind [`UserStore::users`].
    pub fn list(
        &self,
        generation: Generation,
        filter: &UserFilter,
        after: Option<(Timestamp, Uuid)>,
        limit: u16,
    ) -> Result<QueryBuilder<Postgres>, StoreError> {
        let table = self.table(generation);
        let mut query = QueryBuilder::new(format!("SELECT {COLUMNS} FROM {table} WHERE true"));
        if let Some(role) = filter.role {
            query.push(" AND role = ").push_bind(role_name(role));
        }
        if let Some(status) = filter.status {
            query.push(" AND status = ").push_bind(status_name(status));
        }
        if let Some(from) = filter.created_from {
            query.push(" AND created_at >= ").push_bind(utc(from)?);
        }
        if let Some(to) = filter.created_to {
            query.push(" AND created_at < ").push_bind(utc(to)?);
        }
        if let Some((created_at, id)) = after {
            query
                .push(" AND (created_at, user_id) < (")
                .push_bind(utc(created_at)?);
            query.push(", ").push_bind(id).push(")");
        }
        query
            .push(" ORDER BY created_at DESC, user_id DESC LIMIT ")
            .push_bind(i64::from(limit));
        Ok(query)
    }

    async fn stored(
        &self,
        generation: Generation,
        streams: &[StreamId],
    ) -> Result<HashMap<StreamId, User>, StoreError> {
        let ids: Vec<Uuid> = streams
            .iter()
            .filter_map(|stream| match stream {
                StreamId::User(id) => Some(id.0),
                StreamId::Email(_) | StreamId::Order(_) => None,
            })
            .collect();
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let sql = format!(
            "SELECT {COLUMNS} FROM {} WHERE user_id = ANY($1)",
            self.table(generation)
        );
        let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(ids)
            .fetch_all(&self.pool)
            .await?;
        rows.into_iter()
            .map(|row| User::try_from(row).map(|user| (user.id.into(), user)))
            .collect()
    }

    /// Moves the checkpoints of `advances` if each still stands where it is said to.
    async fn advance(
        &self,
        tx: &mut PgConnection,
        generation: Generation,
        advances: &[Advance],
    ) -> Result<(), StoreError> {
        let partitions: Vec<i32> = advances.iter().map(|each| each.partition.into()).collect();
        let from: Vec<i64> = advances.iter().map(|each| each.from).collect();
        let to: Vec<i64> = advances.iter().map(|each| each.to).collect();
        let schema = &self.names.schema;
        if from.contains(&0) {
            // A checkpoint that is not there yet stands at the beginning.
            let sql = format!(
                "INSERT INTO {schema}.checkpoints (model, generation, partition, position) \
                 SELECT $1, $2, partition, 0 FROM UNNEST($3::int[], $4::bigint[]) AS began (partition, position) \
                 WHERE began.position = 0 ON CONFLICT DO NOTHING"
            );
            sqlx::query(AssertSqlSafe(sql))
                .bind(Model::Users.name())
                .bind(generation.0)
                .bind(&partitions)
                .bind(&from)
                .execute(&mut *tx)
                .await?;
        }
        let sql = format!(
            "UPDATE {schema}.checkpoints AS c SET position = step.target \
             FROM UNNEST($3::int[], $4::bigint[], $5::bigint[]) AS step (partition, origin, target) \
             WHERE c.model = $1 AND c.generation = $2 AND c.partition = step.partition AND c.position = step.origin"
        );
        let moved = sqlx::query(AssertSqlSafe(sql))
            .bind(Model::Users.name())
            .bind(generation.0)
            .bind(partitions)
            .bind(from)
            .bind(to)
            .execute(tx)
            .await?
            .rows_affected();
        if moved == advances.len() as u64 {
            Ok(())
        } else {
            Err(StoreError::Moved(Model::Users))
        }
    }

    /// Applies a round; new rows are copied when there are so many of them.
    async fn apply_copying(
        &self,
        generation: Generation,
        round: &Round<UserEvent>,
        copied_min: usize,
    ) -> Result<Applied, StoreError> {
        let stored = self.stored(generation, &continued::<User>(round)).await?;
        let known: HashSet<StreamId> = stored.keys().copied().collect();
        let Folded {
            states,
            advances,
            halts,
        } = fold(stored, round);
        let count = states.len();
        let is_known = |user: &User| known.contains(&user.stream());
        let (mut known, new): (Vec<User>, Vec<User>) = states.into_iter().partition(is_known);
        let mut connection = Unfinished(Some(self.pool.acquire().await?));
        let mut tx = connection.begin().await?;
        // First the checkpoints, in one order for all: a second writer waits here and then finds them moved.
        self.advance(&mut tx, generation, &advances).await?;
        if new.len() >= copied_min {
            copy::add(&mut tx, &self.table(generation), COLUMNS, &new).await?;
        } else {
            known.extend(new);
        }
        if !known.is_empty() {
            self.upsert(&mut tx, generation, &known).await?;
        }
        tx.commit().await?;
        connection.finished();
        Ok(Applied::of(&advances, count, halts))
    }

    async fn upsert(
        &self,
        tx: &mut PgConnection,
        generation: Generation,
        users: &[User],
    ) -> Result<(), StoreError> {
        let columns = Columns::of(users)?;
        let sql = format!(
            "INSERT INTO {} AS t ({COLUMNS}) \
             SELECT * FROM UNNEST($1::uuid[], $2::bytea[], $3::bytea[], $4::bytea[], $5::text[], $6::text[], \
                $7::text[], $8::bool[], $9::bool[], $10::bool[], $11::bigint[], $12::timestamptz[], $13::timestamptz[]) \
             ON CONFLICT (user_id) DO UPDATE SET \
                email = EXCLUDED.email, name = EXCLUDED.name, phone = EXCLUDED.phone, locale = EXCLUDED.locale, \
                role = EXCLUDED.role, status = EXCLUDED.status, email_verified = EXCLUDED.email_verified, \
                order_emails = EXCLUDED.order_emails, order_sms = EXCLUDED.order_sms, version = EXCLUDED.version, \
                created_at = EXCLUDED.created_at, updated_at = EXCLUDED.updated_at \
             WHERE t.version < EXCLUDED.version",
            self.table(generation)
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(columns.user_id)
            .bind(columns.email)
            .bind(columns.name)
            .bind(columns.phone)
            .bind(columns.locale)
            .bind(columns.role)
            .bind(columns.status)
            .bind(columns.email_verified)
            .bind(columns.order_emails)
            .bind(columns.order_sms)
            .bind(columns.version)
            .bind(columns.created_at)
            .bind(columns.updated_at)
            .execute(tx)
            .await?;
        Ok(())
    }
}

impl ReadModel for UserStore {
    const MODEL: Model = Model::Users;
    const VERSION: FoldVersion = FoldVersion(2);
    type State = User;
    type Digest = User<Digest>;

    async fn prepare(&self) -> Result<(), StoreError> {
        generations::migrate(self, &MIGRATIONS).await?;
        generations::prepare(self).await
    }

    async fn live(&self) -> Result<Generation, StoreError> {
        generations::live(self).await
    }

    async fn mend_view(&self) -> Result<(), StoreError> {
        // Pointer and view change in one transaction: there is nothing to mend.
        Ok(())
    }

    async fn checkpoint(&self, generation: Generation) -> Result<Positions, StoreError> {
        generations::checkpoint(self, generation).await
    }

    async fn apply(
        &self,
        generation: Generation,
        round: &Round<UserEvent>,
    ) -> Result<Applied, StoreError> {
        let applied = match self.apply_copying(generation, round, COPIED_MIN).await {
            // A stream that begins twice is there already, which changes nothing.
            Err(StoreError::Postgres(error)) if is_there_already(&error) => {
                self.apply_copying(generation, round, usize::MAX).await
            }
            applied => applied,
        };
        applied.map_err(|error| generations::gone(error, generation))
    }

    async fn followed(&self) -> Result<(), StoreError> {
        generations::followed(self).await
    }

    async fn generations(&self) -> Result<Vec<Known>, StoreError> {
        generations::known(self).await
    }

    async fn begin_generation(&self) -> Result<Generation, StoreError> {
        generations::begin(self).await
    }

    async fn mend_generation(&self, _: Generation) -> Result<(), StoreError> {
        // It is entered and made in one transaction: there is nothing to mend.
        Ok(())
    }

    async fn index(&self, generation: Generation) -> Result<(), StoreError> {
        generations::index(self, generation).await
    }

    async fn swap(
        &self,
        from: Option<Generation>,
        to: Generation,
        keep: Duration,
    ) -> Result<(), StoreError> {
        generations::swap(self, from, to, keep)
            .await
            .map_err(generations::in_use)
    }

    async fn drop_generation(&self, generation: Generation) -> Result<(), StoreError> {
        generations::drop_generation(self, generation)
            .await
            .map_err(generations::in_use)
    }

    async fn scan(
        &self,
        generation: Generation,
        wanted: impl Fn(StreamId) -> bool + Send,
        mut each: impl FnMut(User<Digest>) + Send,
    ) -> Result<(), StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM {}", self.table(generation));
        let mut rows = sqlx::query(AssertSqlSafe(sql)).fetch(&self.pool);
        while let Some(row) = rows.try_next().await? {
            if wanted(UserId(row.try_get("user_id")?).into()) {
                each(User::try_from(Row::from_row(&row)?)?.digested());
            }
        }
        Ok(())
    }

    async fn states(
        &self,
        generation: Generation,
        streams: &[StreamId],
    ) -> Result<HashMap<StreamId, User>, StoreError> {
        self.stored(generation, streams).await
    }

    async fn set_aside(&self, record: &SetAside) -> Result<bool, StoreError> {
        aside::enter(self, record).await
    }

    async fn all_set_aside(&self) -> Result<Vec<SetAside>, StoreError> {
        aside::all(self).await
    }

    async fn stored_as(
        &self,
        generation: Generation,
        stream: StreamId,
    ) -> Result<Option<serde_json::Value>, StoreError> {
        let stored = self.stored(generation, &[stream]).await?;
        Ok(stored.get(&stream).map(shown))
    }

    async fn newest(
        &self,
        generation: Generation,
        limit: u16,
    ) -> Result<Vec<serde_json::Value>, StoreError> {
        let users = self
            .users(generation, &UserFilter::default(), None, limit)
            .await?;
        Ok(users.iter().map(shown).collect())
    }
}

/// A row as it is stored, for people; personal data by its length.
fn shown(user: &User) -> serde_json::Value {
    let sealed = |sealed: &Option<Sealed>| {
        sealed
            .as_ref()
            .map(|it| format!("sealed({} bytes)", it.as_bytes().len()))
    };
    serde_json::json!({
        "user_id": user.id.to_string(),
        "email": sealed(&user.email),
        "name": sealed(&user.name),
        "phone": sealed(&user.phone),
        "locale": user.locale,
        "role": role_name(user.role),
        "status": status_name(user.status),
        "email_verified": user.email_verified,
        "order_emails": user.preferences.order_emails,
        "order_sms": user.preferences.order_sms,
        "version": user.version,
        "created_at": user.created_at.to_string(),
        "updated_at": user.updated_at.to_string(),
    })
}

#[derive(FromRow)]
struct Row {
    user_id: Uuid,
    email: Option<Vec<u8>>,
    name: Option<Vec<u8>>,
    phone: Option<Vec<u8>>,
    locale: String,
    role: String,
    status: String,
    email_verified: bool,
    order_emails: bool,
    order_sms: bool,
    version: i64,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl TryFrom<Row> for User {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let damaged = |what: &str| StoreError::Damaged(format!("{what} of user {}", row.user_id));
        Ok(Self {
            id: UserId(row.user_id),
            role: [Role::User, Role::Admin]
                .into_iter()
                .find(|role| role_name(*role) == row.role)
                .ok_or_else(|| damaged("role"))?,
            status: STATUSES
                .into_iter()
                .find(|status| status_name(*status) == row.status)
                .ok_or_else(|| damaged("status"))?,
            version: u64::try_from(row.version).map_err(|_| damaged("version"))?,
            email: row.email.map(Sealed::from_bytes),
            name: row.name.map(Sealed::from_bytes),
            phone: row.phone.map(Sealed::from_bytes),
            locale: row.locale,
            email_verified: row.email_verified,
            preferences: NotificationPreferences {
                order_emails: row.order_emails,
                order_sms: row.order_sms,
            },
            created_at: row.created_at.into(),
            updated_at: row.updated_at.into(),
        })
    }
}

fn is_there_already(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(DatabaseError::is_unique_violation)
}

/// A connection that is closed when it is given up in the middle of a round: COPY leaves answers behind that others would take
/// for theirs.
struct Unfinished(Option<PoolConnection<Postgres>>);

impl Unfinished {
    async fn begin(&mut self) -> Result<Transaction<'_, Postgres>, sqlx::Error> {
        match &mut self.0 {
            Some(connection) => connection.begin().await,
            None => Err(sqlx::Error::PoolClosed),
        }
    }

    /// The pool may have it back.
    fn finished(mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

/// Users by columns, as UNNEST takes them.
#[derive(Default)]
struct Columns {
    user_id: Vec<Uuid>,
    email: Vec<Option<Vec<u8>>>,
    name: Vec<Option<Vec<u8>>>,
    phone: Vec<Option<Vec<u8>>>,
    locale: Vec<String>,
    role: Vec<&'static str>,
    status: Vec<&'static str>,
    email_verified: Vec<bool>,
    order_emails: Vec<bool>,
    order_sms: Vec<bool>,
    version: Vec<i64>,
    created_at: Vec<OffsetDateTime>,
    updated_at: Vec<OffsetDateTime>,
}

impl Columns {
    fn of(users: &[User]) -> Result<Self, StoreError> {
        let bytes =
            |sealed: &Option<Sealed>| sealed.as_ref().map(|sealed| sealed.as_bytes().to_vec());
        let mut columns = Self::default();
        for user in users {
            columns.user_id.push(user.id.0);
            columns.email.push(bytes(&user.email));
            columns.name.push(bytes(&user.name));
            columns.phone.push(bytes(&user.phone));
            columns.locale.push(user.locale.clone());
            columns.role.push(role_name(user.role));
            columns.status.push(status_name(user.status));
            columns.email_verified.push(user.email_verified);
            columns.order_emails.push(user.preferences.order_emails);
            columns.order_sms.push(user.preferences.order_sms);
            columns
                .version
                .push(i64::try_from(user.version).unwrap_or(i64::MAX));
            columns.created_at.push(utc(user.created_at)?);
            columns.updated_at.push(utc(user.updated_at)?);
        }
        Ok(columns)
    }
}

/// The instant as Postgres takes it. The fold has let only representable ones through.
fn utc(at: Timestamp) -> Result<OffsetDateTime, StoreError> {
    at.to_utc()
        .map_err(|error| StoreError::Damaged(error.to_string()))
}
