//! Commands about orders.

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use runtime::{
    auth::Caller,
    json::{self, JSON},
    problem::Problem,
};

use super::{Serving, answer, conditional, path_id};
use crate::commands::orders;

/// `POST /orders`
pub async fn create(
    request: HttpRequest,
    payload: web::Payload,
    api: Serving,
) -> Result<HttpResponse, Problem> {
    let caller = Caller::of_request(&request)?;
    let body = json::body(&request, payload, JSON).await?;
    let context = conditional(&request, &body)?;
    let created = orders::create(&api, caller, context, json::parse(&body)?).await?;
    answer::order(StatusCode::CREATED, &created)
}

/// `PUT /orders/{id}`
pub async fn replace(
    request: HttpRequest,
    payload: web::Payload,
    api: Serving,
) -> Result<HttpResponse, Problem> {
    let caller = Caller::of_request(&request)?;
    let body = json::body(&request, payload, JSON).await?;
    let context = conditional(&request, &body)?;
    let (id, body) = (path_id(&request), json::parse(&body)?);
    let replaced = orders::replace(&api, caller, context, id, body).await?;
    answer::order(StatusCode::OK, &replaced)
}

/// `PUT /orders/{id}/status`
pub async fn set_status(
    request: HttpRequest,
    payload: web::Payload,
    api: Serving,
) -> Result<HttpResponse, Problem> {
    let caller = Caller::of_request(&request)?;
    let body = json::body(&request, payload, JSON).await?;
    let context = conditional(&request, &body)?;
    let (id, body) = (path_id(&request), json::parse(&body)?);
    let moved = orders::set_status(&api, caller, context, id, body).await?;
    answer::order(StatusCode::OK, &moved)
}

/// `POST /orders/{id}/cancel`, also without a body.
pub async fn cancel(
    request: HttpRequest,
    payload: web::Payload,
    api: Serving,
) -> Result<HttpResponse, Problem> {
    let caller = Caller::of_request(&request)?;
    let body = json::body_or_empty_object(&request, payload, JSON).await?;
    let context = conditional(&request, &body)?;
    let (id, body) = (path_id(&request), json::parse(&body)?);
    let cancelled = orders::cancel(&api, caller, context, id, body).await?;
    answer::order(StatusCode::OK, &cancelled)
}
