//! The identity tables against a real Postgres.

use std::str::FromStr;

use events::{
    ids::{CredentialId, UserId},
    sealed::Field,
};
use runtime::data_keys::{DataKeys, WrappingKey};
use sqlx::{
    Connection, Executor, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use uuid::Uuid;

use super::{
    credentials::Credentials,
    migrate,
    sessions::{Begun, SessionSettings, Sessions},
};

/// A database of a test's own, dropped when the test is over.
pub struct Database {
    name: String,
    server: PgConnectOptions,
    pub pool: PgPool,
}

impl Database {
    pub async fn create() -> Self {
        let url = std::env::var("DATABASE_URL").expect(
            "DATABASE_URL is not set: run scripts/stack up, then eval \"$(scripts/stack env)\"",
        );
        let server = PgConnectOptions::from_str(&url).unwrap();
        let name = format!("identity_test_{}", Uuid::now_v7().simple());
        let mut connection = PgConnection::connect_with(&server)
            .await
            .expect("Postgres does not answer: run scripts/stack up");
        connection
            .execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .await
            .unwrap();
        let pool = PgPoolOptions::new()
            .max_connections(4)
            .connect_with(server.clone().database(&name))
            .await
            .unwrap();
        migrate(&pool).await.unwrap();
        Self { name, server, pool }
    }

    pub async fn drop(self) {
        self.pool.close().await;
        let mut connection = PgConnection::connect_with(&self.server).await.unwrap();
        connection
            .execute(sqlx::AssertSqlSafe(format!(
                "DROP DATABASE {} WITH (FORCE)",
                self.name
            )))
            .await
            .unwrap();
    }

    pub fn sessions(&self) -> Sessions {
        let settings = SessionSettings {
            refresh_token_seconds: 60,
            session_seconds: 60,
        };
        Sessions::new(self.pool.clone(), settings)
    }

    pub fn data_keys(&self, wrapping_key: u8) -> DataKeys {
        DataKeys::new(self.pool.clone(), WrappingKey::new(&[wrapping_key; 32]))
    }
}

fn user() -> UserId {
    UserId(Uuid::now_v7())
}

/// A session begun at the first version of a user.
fn of(user_id: UserId) -> Begun {
    Begun {
        user_id,
        user_version: 1,
        credential_id: CredentialId(Uuid::from_u128(9)),
    }
}

#[tokio::test]
async fn migrating_again_changes_nothing() {
    let database = Database::create().await;
    migrate(&database.pool).await.unwrap();
    let table: Option<String> =
        sqlx::query_scalar("SELECT to_regclass('public._sqlx_migrations')::text")
            .fetch_one(&database.pool)
            .await
            .unwrap();
    assert_eq!(table, None, "the list of migrations is this service's own");
    database.drop().await;
}

#[tokio::test]
async fn a_credential_is_found_by_its_id_and_never_replaced() {
    let database = Database::create().await;
    let credentials = Credentials::new(database.pool.clone());
    let id = CredentialId(Uuid::now_v7());
    assert_eq!(credentials.password_hash(id).await.unwrap(), None);
    credentials.add(id, user(), None, "one").await.unwrap();
    assert!(credentials.add(id, user(), None, "other").await.is_err());
    assert_eq!(
        credentials.password_hash(id).await.unwrap(),
        Some("one".into())
    );
    credentials.discard(id).await.unwrap();
    assert_eq!(credentials.password_hash(id).await.unwrap(), None);
    database.drop().await;
}

#[tokio::test]
async fn a_refresh_token_is_good_once_and_a_second_use_ends_the_family() {
    let database = Database::create().await;
    let sessions = database.sessions();
    let user = user();
    let first = sessions.begin(of(user)).await.unwrap();
    let other_family = sessions.begin(of(user)).await.unwrap();
    let (owner, second) = sessions.refresh(first.expose()).await.unwrap().unwrap();
    assert_eq!(owner, user);
    let (_, third) = sessions.refresh(second.expose()).await.unwrap().unwrap();
    assert!(
        sessions.refresh(first.expose()).await.unwrap().is_none(),
        "used before"
    );
    assert!(
        sessions.refresh(third.expose()).await.unwrap().is_none(),
        "its family has ended"
    );
    assert!(
        sessions
            .refresh(other_family.expose())
            .await
            .unwrap()
            .is_some()
    );
    assert!(sessions.refresh("unknown").await.unwrap().is_none());
    database.drop().await;
}

#[tokio::test]
async fn of_two_uses_at_the_same_time_one_succeeds_and_the_family_ends() {
    let database = Database::create().await;
    let sessions = database.sessions();
    for _ in 0..20 {
        let token = sessions.begin(of(user())).await.unwrap();
        let (one, other) = tokio::join!(
            sessions.refresh(token.expose()),
            sessions.refresh(token.expose())
        );
        let next: Vec<_> = [one.unwrap(), other.unwrap()]
            .into_iter()
            .flatten()
            .collect();
        assert_eq!(next.len(), 1);
        assert!(
            sessions
                .refresh(next[0].1.expose())
                .await
                .unwrap()
                .is_none()
        );
    }
    database.drop().await;
}

#[tokio::test]
async fn logout_ends_one_session_and_leaves_the_others() {
    let database = Database::create().await;
    let sessions = database.sessions();
    let user = user();
    let (one, other) = (
        sessions.begin(of(user)).await.unwrap(),
        sessions.begin(of(user)).await.unwrap(),
    );
    sessions.end(one.expose()).await.unwrap();
    assert!(sessions.refresh(one.expose()).await.unwrap().is_none());
    assert!(sessions.refresh(other.expose()).await.unwrap().is_some());
    database.drop().await;
}

#[tokio::test]
async fn a_refresh_under_way_does_not_survive_the_end_of_its_session() {
    const TRIES: usize = 50;
    let database = Database::create().await;
    let sessions = database.sessions();
    for _ in 0..TRIES {
        let first = sessions.begin(of(user())).await.unwrap();
        let (refreshed, ended) = tokio::join!(
            sessions.refresh(first.expose()),
            sessions.end(first.expose())
        );
        ended.unwrap();
        if let Some((_, next)) = refreshed.unwrap() {
            let after = sessions.refresh(next.expose()).await.unwrap();
            assert!(after.is_none(), "a token outlived its session");
        }
    }
    database.drop().await;
}

#[tokio::test]
async fn tokens_are_stored_hashed() {
    let database = Database::create().await;
    let token = database.sessions().begin(of(user())).await.unwrap();
    let found: i64 =
        sqlx::query_scalar("SELECT count(*) FROM identity.sessions WHERE refresh_token_hash = $1")
            .bind(token.expose().as_bytes())
            .fetch_one(&database.pool)
            .await
            .unwrap();
    assert_eq!(found, 0);
    database.drop().await;
}

#[tokio::test]
async fn a_data_key_is_made_once_found_by_others_and_destroyed_for_good() {
    let database = Database::create().await;
    let (keys, elsewhere) = (database.data_keys(1), database.data_keys(1));
    let (user, other) = (user(), user());
    assert!(keys.get(user).await.unwrap().is_none());
    let sealed = keys
        .create(user)
        .await
        .unwrap()
        .seal(user, Field::Name, "Ada")
        .unwrap();
    keys.create(user).await.unwrap();
    keys.create(other).await.unwrap();
    let found = elsewhere
        .get_many(&[user, other, UserId(Uuid::now_v7())])
        .await
        .unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(
        found[&user].open(user, Field::Name, &sealed).unwrap(),
        "Ada"
    );
    assert!(
        database.data_keys(2).get(user).await.is_err(),
        "another wrapping key"
    );
    keys.destroy(user).await.unwrap();
    assert!(keys.get(user).await.unwrap().is_none());
    assert!(database.data_keys(1).get(user).await.unwrap().is_none());
    database.drop().await;
}

#[tokio::test]
async fn while_postgres_is_away_remembered_keys_are_still_there() {
    let database = Database::create().await;
    let keys = database.data_keys(1);
    let user = user();
    keys.create(user).await.unwrap();
    database.pool.close().await;
    assert!(keys.get(user).await.unwrap().is_some());
    assert!(keys.get(UserId(Uuid::now_v7())).await.is_err());
    database.drop().await;
}
