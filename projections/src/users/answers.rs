//! What queries for users are answered with, through whatever door they come.

use std::{collections::HashMap, sync::LazyLock};

use events::{
    ids::UserId,
    sealed::{DataKey, Sealed},
    timestamp::Timestamp,
    user::Role,
};
use runtime::{
    auth::Caller,
    problem::Problem,
    representation::{self, StoredUser, UserStatus},
};

use super::{
    fold::{STATUSES, User, role_name, status_name},
    store::UserFilter,
};
use crate::{
    fields::Fields,
    model::Model,
    queries::{After, Queries, ask, not_shown},
    query::{Cursor, Parameters},
};

/// What a user has, for `fields`.
pub const FIELDS: [&str; 12] = [
    "id",
    "email",
    "name",
    "phone",
    "locale",
    "role",
    "status",
    "email_verified",
    "preferences",
    "version",
    "created_at",
    "updated_at",
];
const RETRY_AFTER_S: u32 = 1;
/// What stands in for the personal data of an erased user; no key opens it.
static NOTHING: LazyLock<Sealed> = LazyLock::new(|| Sealed::from_bytes(Vec::new()));

/// A user as the read model has him, and the key that he is shown with.
pub struct FoundUser {
    user: User,
    key: Option<DataKey>,
}

impl FoundUser {
    /// The user as clients get him.
    pub fn shown(&self) -> Result<representation::User<'_>, Problem> {
        shown(&self.user, self.key.as_ref())
    }
}

/// The caller himself.
pub async fn me(queries: &Queries, caller: Caller, awaited: After) -> Result<FoundUser, Problem> {
    found(queries, caller, awaited, caller.user_id).await
}

/// The user of this id; what is no id names nothing, as an unknown one.
pub async fn one(
    queries: &Queries,
    caller: Caller,
    awaited: After,
    id: &str,
) -> Result<FoundUser, Problem> {
    let id: UserId = id.parse().map_err(|_| Problem::not_found())?;
    if !caller.may_see(id) {
        return Err(Problem::not_found());
    }
    found(queries, caller, awaited, id).await
}

async fn found(
    queries: &Queries,
    caller: Caller,
    awaited: After,
    id: UserId,
) -> Result<FoundUser, Problem> {
    let generation = queries.generation(Model::Users, awaited).await?;
    let user = ask(queries.users.user(generation, id)).await?;
    let user = match user {
        Some(user) => user,
        // Whoever is signed in exists: the read model has just not seen his registration.
        None if id == caller.user_id => return Err(Problem::not_yet_consistent(RETRY_AFTER_S)),
        None => return Err(Problem::not_found()),
    };
    let key = match user.status {
        UserStatus::Active => queries.key(id).await?,
        UserStatus::Erased => None,
    };
    Ok(FoundUser { user, key })
}

/// A page of users, newest first.
pub struct UserPage {
    users: Vec<User>,
    keys: HashMap<UserId, DataKey>,
    /// Where the next page begins, where there is one.
    pub next_cursor: Option<String>,
    /// What is wanted of each.
    pub fields: Fields,
}

impl UserPage {
    /// The users as clients get them.
    pub fn shown(&self) -> Result<Vec<representation::User<'_>>, Problem> {
        let users = self.users.iter();
        users
            .map(|user| shown(user, self.keys.get(&user.id)))
            .collect()
    }
}

/// A page of all users, for admins.
pub async fn list(
    queries: &Queries,
    caller: Caller,
    awaited: After,
    mut parameters: Parameters,
) -> Result<UserPage, Problem> {
    let (limit, cursor) = (parameters.limit(), parameters.cursor()?);
    let fields = Fields::of(&mut parameters, &FIELDS);
    let roles = [Role::User, Role::Admin];
    let role = parameters.optional("role", "user or admin", |text| {
        roles.into_iter().find(|role| role_name(*role) == text)
    });
    let status = parameters.optional("status", "active or erased", |text| {
        STATUSES
            .into_iter()
            .find(|status| status_name(*status) == text)
    });
    let mut time = |name| parameters.optional(name, "an RFC 3339 time", |text| text.parse().ok());
    let filter = UserFilter {
        role,
        status,
        created_from: time("created_from"),
        created_to: time("created_to"),
    };
    parameters.finish()?;
    if !caller.is_admin() {
        return Err(Problem::not_allowed("only an admin may list users"));
    }
    let described = filter.described();
    let described: Vec<&str> = described.iter().map(String::as_str).collect();
    let after = cursor.map(|cursor| cursor.place(&described)).transpose()?;
    let after = after
        .map(|(created_at, id)| {
            let created_at = Timestamp::from_micros(created_at);
            // No answer carried a time that Postgres cannot hold.
            let is_real = created_at.to_utc().is_ok();
            is_real.then_some((created_at, id))
        })
        .map(|place| place.ok_or_else(Problem::invalid_cursor))
        .transpose()?;
    let generation = queries.generation(Model::Users, awaited).await?;
    // One more than asked for tells whether there is a next page.
    let mut users = ask(queries.users.users(generation, &filter, after, limit + 1)).await?;
    let more = users.len() > usize::from(limit);
    users.truncate(limit.into());
    let ids: Vec<UserId> = users
        .iter()
        .filter(|user| user.status == UserStatus::Active)
        .map(|user| user.id)
        .collect();
    let keys = queries.keys_of(&ids).await?;
    let last = users.last().filter(|_| more);
    let next_cursor =
        last.map(|user| Cursor::new(&described, user.created_at.micros(), user.id.0).to_string());
    Ok(UserPage {
        users,
        keys,
        next_cursor,
        fields,
    })
}

fn shown<'a>(user: &'a User, key: Option<&DataKey>) -> Result<representation::User<'a>, Problem> {
    let stored = StoredUser {
        id: user.id,
        email: user.email.as_ref().unwrap_or(&NOTHING),
        name: user.name.as_ref().unwrap_or(&NOTHING),
        phone: user.phone.as_ref(),
        locale: &user.locale,
        role: user.role,
        status: user.status,
        email_verified: user.email_verified,
        preferences: user.preferences,
        version: user.version,
        created_at: user.created_at,
        updated_at: user.updated_at,
    };
    let key = key.filter(|_| user.status == UserStatus::Active);
    stored
        .open(key)
        .map_err(|error| not_shown(format_args!("user {}", user.id), error))
}

#[cfg(test)]
mod tests {
    use runtime::openapi::examples::{self, UserNow};

    use super::*;
    use crate::fields;

    #[test]
    fn every_field_of_a_user_can_be_asked_for() {
        fields::are_those_of(&FIELDS, &examples::user(UserNow::Promoted));
    }
}
