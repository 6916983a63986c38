//! Sessions: a login begins a family of refresh tokens, each used once and replaced by the next. Whoever
//! uses one twice ends the family: one of the two has stolen it.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use events::{
    StreamVersion,
    ids::{CredentialId, UserId},
};
use runtime::postgres::in_time;
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::IdentityError;

const TOKEN_BYTES: usize = 32;
/// Sessions that are over and forgotten with a new login, at most.
const FORGOTTEN_AT_ONCE_MAX: i64 = 20;

/// How long sessions last.
#[derive(Debug, Clone, clap::Args)]
pub struct SessionSettings {
    /// How long a refresh token can be used, in seconds.
    #[arg(long, env = "REFRESH_TOKEN_SECONDS", default_value_t = 7 * 24 * 3600, value_parser = clap::value_parser!(u32).range(60..))]
    pub refresh_token_seconds: u32,
    /// How long a session lasts, however often it is refreshed, in seconds.
    #[arg(long, env = "SESSION_SECONDS", default_value_t = 30 * 24 * 3600, value_parser = clap::value_parser!(u32).range(60..))]
    pub session_seconds: u32,
}

/// The table of sessions; clones are the same thing.
#[derive(Clone)]
pub struct Sessions {
    pool: PgPool,
    settings: SessionSettings,
}

/// Whose session it is, and what it was begun with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begun {
    /// The user.
    pub user_id: UserId,
    /// His version then: a later change of role or password ends the session.
    pub user_version: StreamVersion,
    /// The credential that he signed in with.
    pub credential_id: CredentialId,
}

/// A refresh token: opaque, secret, good for one use.
pub struct RefreshToken(Zeroizing<String>);

impl RefreshToken {
    fn draw() -> Self {
        let bytes = Zeroizing::new(rand::random::<[u8; TOKEN_BYTES]>());
        Self(Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes)))
    }

    /// The token itself, for its owner only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// What is stored of a token. It is random, so a plain hash does.
fn hashed(token: &str) -> Vec<u8> {
    Sha256::digest(token).to_vec()
}

impl Sessions {
    /// The table in this database.
    pub fn new(pool: PgPool, settings: SessionSettings) -> Self {
        Self { pool, settings }
    }

    /// Begins a session and returns its first refresh token. Forgets some sessions that are over, whosever they were.
    pub async fn begin(&self, session: Begun) -> Result<RefreshToken, IdentityError> {
        let token = RefreshToken::draw();
        in_time(
            sqlx::query(
                "WITH over AS (
                     DELETE FROM identity.session_families WHERE family_id IN
                         (SELECT family_id FROM identity.session_families WHERE expires_at < now()
                          ORDER BY expires_at LIMIT $6 FOR UPDATE SKIP LOCKED)
                 ), family AS (
                     INSERT INTO identity.session_families
                         (family_id, user_id, user_version, credential_id, expires_at)
                     VALUES ($2, $3, $7, $8, now() + make_interval(secs => $5))
                 )
                 INSERT INTO identity.sessions (refresh_token_hash, family_id, expires_at)
                 VALUES ($1, $2, now() + make_interval(secs => $4))",
            )
            .bind(hashed(token.expose()))
            .bind(Uuid::now_v7())
            .bind(session.user_id.0)
            .bind(f64::from(
                self.settings
                    .refresh_token_seconds
                    .min(self.settings.session_seconds),
            ))
            .bind(f64::from(self.settings.session_seconds))
            .bind(FORGOTTEN_AT_ONCE_MAX)
            .bind(i64::try_from(session.user_version).unwrap_or(i64::MAX))
            .bind(session.credential_id.0)
            .execute(&self.pool),
        )
        .await?;
        Ok(token)
    }

    /// The session that a refresh token belongs to, used or not.
    pub async fn session(&self, token: &str) -> Result<Option<Begun>, IdentityError> {
        let found: Option<(Uuid, i64, Uuid)> = in_time(
            sqlx::query_as(
                "SELECT user_id, user_version, credential_id
                 FROM identity.sessions JOIN identity.session_families USING (family_id)
                 WHERE refresh_token_hash = $1",
            )
            .bind(hashed(token))
            .fetch_optional(&self.pool),
        )
        .await?;
        Ok(found.map(|(user_id, user_version, credential_id)| Begun {
            user_id: UserId(user_id),
            user_version: user_version.unsigned_abs(),
            credential_id: CredentialId(credential_id),
        }))
    }

    /// Uses a refresh token: whose session it is, and the next token. `None` for a token that is unknown,
    /// over, or used before; the last ends the whole family, also when two uses race.
    pub async fn refresh(
        &self,
        token: &str,
    ) -> Result<Option<(UserId, RefreshToken)>, IdentityError> {
        let next = RefreshToken::draw();
        // One statement: of two uses at the same time, the row's lock lets one be the first. Whoever ends a session locks
        // its family first, and so does this: they wait for each other and never crosswise.
        let user_id: Option<Uuid> = in_time(
            sqlx::query_scalar(
                "WITH family AS MATERIALIZED (
                     SELECT family_id, user_id, expires_at FROM identity.session_families
                     WHERE family_id =
                         (SELECT family_id FROM identity.sessions WHERE refresh_token_hash = $1)
                     FOR KEY SHARE
                 ), used AS (
                     UPDATE identity.sessions SET used_at = now() FROM family
                     WHERE refresh_token_hash = $1 AND sessions.family_id = family.family_id
                       AND used_at IS NULL AND sessions.expires_at > now()
                     RETURNING family.family_id, family.user_id, family.expires_at
                 ), over AS (
                     DELETE FROM identity.sessions USING used
                     WHERE sessions.family_id = used.family_id AND sessions.expires_at < now()
                 ), next AS (
                     INSERT INTO identity.sessions (refresh_token_hash, family_id, expires_at)
                     SELECT $2, family_id, least(now() + make_interval(secs => $3), expires_at)
                     FROM used RETURNING family_id
                 )
                 SELECT user_id FROM used JOIN next USING (family_id)",
            )
            .bind(hashed(token))
            .bind(hashed(next.expose()))
            .bind(f64::from(self.settings.refresh_token_seconds))
            .fetch_optional(&self.pool),
        )
        .await?;
        match user_id {
            Some(user_id) => Ok(Some((UserId(user_id), next))),
            None => {
                // Used before: by its owner or by a thief, and nobody can tell which.
                in_time(
                    sqlx::query(
                        "DELETE FROM identity.session_families WHERE family_id IN
                         (SELECT family_id FROM identity.sessions
                          WHERE refresh_token_hash = $1 AND used_at IS NOT NULL)",
                    )
                    .bind(hashed(token))
                    .execute(&self.pool),
                )
                .await?;
                Ok(None)
            }
        }
    }

    /// Ends the session that a refresh token belongs to. Does nothing when there is none.
    pub async fn end(&self, token: &str) -> Result<(), IdentityError> {
        in_time(
            sqlx::query(
                "DELETE FROM identity.session_families WHERE family_id IN
                 (SELECT family_id FROM identity.sessions WHERE refresh_token_hash = $1)",
            )
            .bind(hashed(token))
            .execute(&self.pool),
        )
        .await?;
        Ok(())
    }
}
