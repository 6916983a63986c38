//! The stand-in's own API: what was received, what shall fail, whether it runs.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use serde_json::json;

use crate::Shared;
use crate::faults::Fault;
use crate::kept::{Filter, Message};

/// How many messages are listed unless the query says otherwise.
pub const MESSAGES_LIMIT_DEFAULT: usize = 100;

#[derive(Serialize)]
struct Messages {
    items: Vec<Arc<Message>>,
    total: usize,
}

/// Adds the routes of this module.
pub fn routes(config: &mut web::ServiceConfig) {
    config
        .service(
            web::resource("/messages")
                .route(web::get().to(messages))
                .route(web::delete().to(clear_messages)),
        )
        .service(
            web::resource("/faults")
                .route(web::post().to(order_fault))
                .route(web::get().to(faults))
                .route(web::delete().to(clear_faults)),
        )
        .route("/healthz", web::get().to(healthy))
        .route("/readyz", web::get().to(healthy));
}

async fn messages(request: HttpRequest, shared: web::Data<Shared>) -> HttpResponse {
    let filter = match web::Query::<Filter>::from_query(request.query_string()) {
        Ok(filter) => filter.into_inner(),
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let limit = filter.limit.unwrap_or(MESSAGES_LIMIT_DEFAULT);
    let found = shared.kept.find(&filter, limit);
    HttpResponse::Ok().json(Messages {
        items: found.items,
        total: found.total,
    })
}

async fn clear_messages(shared: web::Data<Shared>) -> HttpResponse {
    shared.kept.clear();
    HttpResponse::NoContent().finish()
}

async fn order_fault(shared: web::Data<Shared>, body: web::Bytes) -> HttpResponse {
    let fault = match serde_json::from_slice::<Fault>(&body) {
        Ok(fault) => fault,
        Err(error) if error.is_data() => {
            return problem(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string());
        }
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    match shared.faults.order(fault) {
        Ok(ordered) => {
            tracing::info!(provider = ?ordered.fault.provider, kind = ?ordered.fault.kind, times = ordered.fault.times, "fault ordered");
            HttpResponse::Created().json(ordered)
        }
        Err(complaint) => problem(StatusCode::UNPROCESSABLE_ENTITY, &complaint),
    }
}

async fn faults(shared: web::Data<Shared>) -> HttpResponse {
    HttpResponse::Ok().json(json!({ "items": shared.faults.list() }))
}

async fn clear_faults(shared: web::Data<Shared>) -> HttpResponse {
    shared.faults.clear();
    tracing::info!("faults cleared");
    HttpResponse::NoContent().finish()
}

async fn healthy() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

/// What is answered where there is nothing.
pub async fn not_found(request: HttpRequest) -> HttpResponse {
    problem(
        StatusCode::NOT_FOUND,
        &format!("nothing at {}", request.path()),
    )
}

fn problem(status: StatusCode, detail: &str) -> HttpResponse {
    let title = status.canonical_reason().unwrap_or("error");
    let body = json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail });
    HttpResponse::build(status)
        .content_type("application/problem+json")
        .body(body.to_string())
}
