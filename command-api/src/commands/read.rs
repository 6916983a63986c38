//! Bodies as the contract describes them, read into values that cannot be wrong. One file per kind of thing.

/// Gives types of bodies their schemas: `Type as "Name", function, [types that the schema refers to];`
macro_rules! described {
    ($( $type:ty as $name:literal, $schema:ident, [$( $below:ty ),*]; )+) => { $(
        impl utoipa::PartialSchema for $type {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                $schema().into()
            }
        }

        impl utoipa::ToSchema for $type {
            fn name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn schemas(
                schemas: &mut Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::Schema>)>,
            ) {
                let _ = &schemas;
                $(
                    let name = <$below as utoipa::ToSchema>::name().into_owned();
                    schemas.push((name, <$below as utoipa::PartialSchema>::schema()));
                )*
            }
        }
    )+ };
}

mod order;
mod user;

use std::{borrow::Cow, fmt};

use domain::values::Invalid;
use runtime::json::{self, Json, Place};

pub use order::{
    Contents, NewOrder, Reasoned, StatusChange, new_order, reasoned, replacement, status_change,
};
pub use user::{
    Credentials, NewRole, PasswordChange, Profile, RefreshToken, Registration, credentials,
    new_role, password_change, profile, refresh_token, registration,
};

/// A reader of texts that `parse` accepts.
fn parsed<'a, T>(
    parse: impl FnOnce(&str) -> Result<T, Invalid>,
) -> impl FnOnce(Json<'a>, &Place<'_>) -> Option<T> {
    move |value, place| {
        let text = json::text(value, place)?;
        valid(parse(&text), place)
    }
}

/// The value, or its error reported at `place`.
fn valid<T>(outcome: Result<T, Invalid>, place: &Place<'_>) -> Option<T> {
    match outcome {
        Ok(value) => Some(value),
        Err(invalid) => place.fail(invalid.code(), invalid),
    }
}

/// Reads a text without the blanks around it, as all that is no secret is read.
fn trimmed<'a>(value: Json<'a>, place: &Place<'_>) -> Option<Cow<'a, str>> {
    Some(match json::text(value, place)? {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    })
}

/// A reader of ids.
fn id<T: std::str::FromStr<Err: fmt::Display>>(value: Json<'_>, place: &Place<'_>) -> Option<T> {
    match trimmed(value, place)?.parse() {
        Ok(id) => Some(id),
        Err(_) => place.fail("not_uuid", "must be a UUID such as 0192f3a4-…, hyphenated"),
    }
}
