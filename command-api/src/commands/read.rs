//! Bodies as the contract describes them, read into values that cannot be wrong. One file per kind of thing.

mod order;
mod user;

use std::{borrow::Cow, fmt};

use domain::values::Invalid;
use runtime::json::{self, Json, Place};

pub use order::{Contents, new_order, reasoned, replacement, status_change};
pub use user::{
    Registration, credentials, new_role, password_change, profile, refresh_token, registration,
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
