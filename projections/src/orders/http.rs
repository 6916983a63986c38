//! Queries for orders over HTTP.

use actix_web::{HttpRequest, HttpResponse, http::Method, http::header::ETAG, web};
use runtime::{auth::Caller, etag, http::resource, problem::Problem, representation};
use serde::Serialize;

use super::answers;
use crate::{
    queries::{After, Queries},
    query::Parameters,
};

/// `GET /orders`, `/orders/{id}`
pub fn routes(config: &mut web::ServiceConfig) {
    config
        .service(resource("/orders", [(Method::GET, web::to(list))]))
        .service(resource("/orders/{id}", [(Method::GET, web::to(one))]));
}

async fn one(
    caller: Caller,
    request: HttpRequest,
    id: web::Path<String>,
    queries: web::Data<Queries>,
) -> Result<HttpResponse, Problem> {
    let awaited = After::of_request(request.headers())?;
    Parameters::of(&request)?.finish()?;
    let found = answers::one(&queries, caller, awaited, &id).await?;
    let shown = found.shown()?;
    Ok(HttpResponse::Ok()
        .insert_header((ETAG, etag::of_version(shown.version)))
        .json(shown))
}

#[derive(Serialize)]
struct List<'a> {
    items: Vec<representation::Order<'a>>,
    next_cursor: Option<&'a str>,
}

async fn list(
    caller: Caller,
    request: HttpRequest,
    queries: web::Data<Queries>,
) -> Result<HttpResponse, Problem> {
    let awaited = After::of_request(request.headers())?;
    let parameters = Parameters::of(&request)?;
    let page = answers::list(&queries, caller, awaited, parameters).await?;
    Ok(HttpResponse::Ok().json(List {
        items: page.shown()?,
        next_cursor: page.next_cursor.as_deref(),
    }))
}
