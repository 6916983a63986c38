//! Queries for users.

use std::sync::LazyLock;

use actix_web::{HttpRequest, HttpResponse, http::Method, http::header::ETAG, web};
use events::{
    ids::UserId,
    sealed::{DataKey, Sealed},
    timestamp::Timestamp,
};
use runtime::{
    auth::Caller,
    etag,
    http::resource,
    problem::Problem,
    representation::{self, StoredUser, UserStatus},
};
use serde::Serialize;

use super::fold::User;
use crate::{
    model::Model,
    queries::{After, Queries, ask, not_shown},
    query::{Cursor, Parameters},
};

const LIST: &str = "users";
const RETRY_AFTER_S: u32 = 1;
/// What stands in for the personal data of an erased user; no key opens it.
static NOTHING: LazyLock<Sealed> = LazyLock::new(|| Sealed::from_bytes(Vec::new()));

/// `GET /users`, `/users/me`, `/users/{id}`
pub fn routes(config: &mut web::ServiceConfig) {
    config
        .service(resource("/users", [(Method::GET, web::to(list))]))
        .service(resource("/users/me", [(Method::GET, web::to(me))]))
        .service(resource("/users/{id}", [(Method::GET, web::to(one))]));
}

async fn me(
    caller: Caller,
    request: HttpRequest,
    queries: web::Data<Queries>,
) -> Result<HttpResponse, Problem> {
    let awaited = After::of_request(request.headers())?;
    Parameters::of(&request)?.finish()?;
    answer(awaited, &queries, caller, caller.user_id).await
}

async fn one(
    caller: Caller,
    request: HttpRequest,
    id: web::Path<String>,
    queries: web::Data<Queries>,
) -> Result<HttpResponse, Problem> {
    let awaited = After::of_request(request.headers())?;
    Parameters::of(&request)?.finish()?;
    // What is no id names nothing, as an unknown one.
    let id: UserId = id.parse().map_err(|_| Problem::not_found())?;
    if !caller.may_see(id) {
        return Err(Problem::not_found());
    }
    answer(awaited, &queries, caller, id).await
}

async fn answer(
    awaited: After,
    queries: &Queries,
    caller: Caller,
    id: UserId,
) -> Result<HttpResponse, Problem> {
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
    let shown = shown(&user, key.as_ref())?;
    Ok(HttpResponse::Ok()
        .insert_header((ETAG, etag::of_version(user.version)))
        .json(shown))
}

#[derive(Serialize)]
struct List<'a> {
    items: Vec<representation::User<'a>>,
    next_cursor: Option<String>,
}

async fn list(
    caller: Caller,
    request: HttpRequest,
    queries: web::Data<Queries>,
) -> Result<HttpResponse, Problem> {
    let awaited = After::of_request(request.headers())?;
    let mut parameters = Parameters::of(&request)?;
    let (limit, cursor) = (parameters.limit(), parameters.cursor()?);
    parameters.finish()?;
    if !caller.is_admin() {
        return Err(Problem::not_allowed("only an admin may list users"));
    }
    let after = cursor.map(|cursor| cursor.place(&[LIST])).transpose()?;
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
    let mut users = ask(queries.users.users(generation, after, limit + 1)).await?;
    let more = users.len() > usize::from(limit);
    users.truncate(limit.into());
    let ids: Vec<UserId> = users
        .iter()
        .filter(|user| user.status == UserStatus::Active)
        .map(|user| user.id)
        .collect();
    let keys = queries.keys_of(&ids).await?;
    let items = users
        .iter()
        .map(|user| shown(user, keys.get(&user.id)))
        .collect::<Result<_, _>>()?;
    let last = users.last().filter(|_| more);
    let next_cursor =
        last.map(|user| Cursor::new(&[LIST], user.created_at.micros(), user.id.0).to_string());
    Ok(HttpResponse::Ok().json(List { items, next_cursor }))
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
