//! Password hashes: immutable rows, named by events.

use events::ids::{CredentialId, UserId};
use runtime::postgres::in_time;
use sqlx::PgPool;

use super::IdentityError;

/// The table of password hashes; clones are the same thing.
#[derive(Clone)]
pub struct Credentials(PgPool);

impl Credentials {
    /// The table in this database.
    pub fn new(pool: PgPool) -> Self {
        Self(pool)
    }

    /// Stores a new hash, and which row it takes the place of. It counts once an event names it.
    pub async fn add(
        &self,
        credential_id: CredentialId,
        user_id: UserId,
        replaces: Option<CredentialId>,
        password_hash: &str,
    ) -> Result<(), IdentityError> {
        let insert = sqlx::query(
            "INSERT INTO identity.credentials (credential_id, user_id, replaces, password_hash)
             VALUES ($1, $2, $3, $4)",
        );
        let insert = insert
            .bind(credential_id.0)
            .bind(user_id.0)
            .bind(replaces.map(|id| id.0))
            .bind(password_hash);
        in_time(insert.execute(&self.0)).await?;
        Ok(())
    }

    /// The hash of a row, if there is one.
    pub async fn password_hash(
        &self,
        credential_id: CredentialId,
    ) -> Result<Option<String>, IdentityError> {
        let found = in_time(
            sqlx::query_scalar(
                "SELECT password_hash FROM identity.credentials WHERE credential_id = $1",
            )
            .bind(credential_id.0)
            .fetch_optional(&self.0),
        )
        .await?;
        Ok(found)
    }

    /// Deletes a row that no event names.
    pub async fn discard(&self, credential_id: CredentialId) -> Result<(), IdentityError> {
        in_time(
            sqlx::query("DELETE FROM identity.credentials WHERE credential_id = $1")
                .bind(credential_id.0)
                .execute(&self.0),
        )
        .await?;
        Ok(())
    }
}
