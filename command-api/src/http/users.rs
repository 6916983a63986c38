//! Commands about users.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header::LOCATION},
    web,
};
use events::ids::UserId;
use runtime::{
    auth::Caller,
    json::{self, JSON, MERGE_PATCH},
    openapi::schema,
    problem::Problem,
};
use serde::Serialize;
use utoipa::{
    ToSchema,
    openapi::{KnownFormat, ObjectBuilder},
};

use super::{Serving, answer, conditional, context, path_id};
use crate::commands::users;

/// What a registration is answered with.
#[derive(Serialize, ToSchema)]
pub struct Registered {
    /// The new user's id.
    #[schema(schema_with = id)]
    id: UserId,
}

fn id() -> ObjectBuilder {
    schema::formatted(KnownFormat::Uuid, "The new user's id.")
}

/// `POST /register`
pub async fn register(
    request: HttpRequest,
    payload: web::Payload,
    api: Serving,
) -> Result<HttpResponse, Problem> {
    let body = json::body(&request, payload, JSON).await?;
    let context = context(&request, &body)?;
    let registered = users::register(&api, context, json::parse(&body)?).await?;
    let mut response = answer::head(StatusCode::CREATED, registered.version, registered.token);
    response.insert_header((LOCATION, format!("/users/{}", registered.id)));
    Ok(response.json(Registered { id: registered.id }))
}

/// `PATCH /users/{id}`
pub async fn update_profile(
    request: HttpRequest,
    payload: web::Payload,
    api: Serving,
) -> Result<HttpResponse, Problem> {
    let caller = Caller::of_request(&request)?;
    let body = json::body(&request, payload, MERGE_PATCH).await?;
    let context = conditional(&request, &body)?;
    let (id, body) = (path_id(&request), json::parse(&body)?);
    let changed = users::update_profile(&api, caller, context, id, body).await?;
    answer::user(StatusCode::OK, &changed)
}

/// `PUT /users/{id}/role`
pub async fn change_role(
    request: HttpRequest,
    payload: web::Payload,
    api: Serving,
) -> Result<HttpResponse, Problem> {
    let caller = Caller::of_request(&request)?;
    let body = json::body(&request, payload, JSON).await?;
    let context = conditional(&request, &body)?;
    let (id, body) = (path_id(&request), json::parse(&body)?);
    let changed = users::change_role(&api, caller, context, id, body).await?;
    answer::user(StatusCode::OK, &changed)
}
