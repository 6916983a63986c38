//! Rows of users in PostgreSQL's binary COPY format (PostgreSQL manual, COPY, "Binary Format"), for many at once.

use events::sealed::Sealed;
use sqlx::PgConnection;

use super::fold::{User, role_name, status_name};
use crate::store::StoreError;

/// Signature, no flags, no header extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const FIELDS: i16 = 13;
const NULL: i32 = -1;
const END: i16 = -1;
/// From 1970 to 2000, where PostgreSQL's time begins.
const EPOCH_MICROS: i64 = 946_684_800 * 1_000_000;
/// About what a row takes.
const ROW_BYTES: usize = 300;

/// Adds rows that are not there to a table with these columns, those of [`super::store`].
pub(super) async fn add(
    connection: &mut PgConnection,
    table: &str,
    columns: &str,
    users: &[User],
) -> Result<(), StoreError> {
    let sql = format!("COPY {table} ({columns}) FROM STDIN (FORMAT binary)");
    let mut copy = connection.copy_in_raw(&sql).await?;
    if let Err(error) = copy.send(rows(users)?).await {
        copy.abort("the rows were not sent").await?;
        return Err(error.into());
    }
    copy.finish().await?;
    Ok(())
}

fn rows(users: &[User]) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::with_capacity(HEADER.len() + users.len() * ROW_BYTES);
    bytes.extend_from_slice(HEADER);
    for user in users {
        row(&mut bytes, user)?;
    }
    bytes.extend_from_slice(&END.to_be_bytes());
    Ok(bytes)
}

fn row(bytes: &mut Vec<u8>, user: &User) -> Result<(), StoreError> {
    bytes.extend_from_slice(&FIELDS.to_be_bytes());
    field(bytes, user.id.0.as_bytes())?;
    for sealed in [&user.email, &user.name, &user.phone] {
        match sealed.as_ref().map(Sealed::as_bytes) {
            Some(sealed) => field(bytes, sealed)?,
            None => bytes.extend_from_slice(&NULL.to_be_bytes()),
        }
    }
    field(bytes, user.locale.as_bytes())?;
    field(bytes, role_name(user.role).as_bytes())?;
    field(bytes, status_name(user.status).as_bytes())?;
    for flag in [
        user.email_verified,
        user.preferences.order_emails,
        user.preferences.order_sms,
    ] {
        field(bytes, &[flag.into()])?;
    }
    field(bytes, &user.version.to_be_bytes())?;
    for time in [user.created_at, user.updated_at] {
        field(bytes, &(time.micros() - EPOCH_MICROS).to_be_bytes())?;
    }
    Ok(())
}

fn field(bytes: &mut Vec<u8>, value: &[u8]) -> Result<(), StoreError> {
    let length = i32::try_from(value.len())
        .map_err(|_| StoreError::Damaged("a field of more than 2 GB".into()))?;
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(value);
    Ok(())
}
