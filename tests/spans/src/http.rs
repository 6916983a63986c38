//! Showing: the latest traces, and each as a tree.

use std::{collections::BTreeSet, net::TcpListener, sync::Arc};

use actix_web::{App, HttpResponse, HttpServer, dev::Server, web};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{kept::Kept, tree};

/// Traces listed unless the query says otherwise.
const TRACES_LIMIT_DEFAULT: usize = 50;
/// Traces listed at most.
const TRACES_LIMIT_MAX: usize = 1_000;
const WORKERS_COUNT: usize = 1;
const SHUTDOWN_SECONDS_MAX: u64 = 2;

#[derive(Deserialize)]
struct Limit {
    limit: Option<usize>,
}

/// One line about a trace.
#[derive(Serialize)]
struct Summary {
    trace_id: String,
    /// Its first span.
    name: String,
    services: BTreeSet<String>,
    spans: usize,
}

/// Starts showing what is kept.
///
/// # Errors
/// When the listener cannot be taken over.
pub fn serve(listener: TcpListener, kept: Arc<Kept>) -> std::io::Result<Server> {
    let kept = web::Data::from(kept);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(kept.clone())
            .route("/healthz", web::get().to(healthy))
            .route("/readyz", web::get().to(healthy))
            .route("/traces", web::get().to(traces))
            .route("/traces/{trace_id}", web::get().to(trace))
            .default_service(web::to(not_found))
    })
    .workers(WORKERS_COUNT)
    .shutdown_timeout(SHUTDOWN_SECONDS_MAX)
    .listen(listener)?;
    Ok(server.run())
}

async fn healthy(kept: web::Data<Kept>) -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ok", "spans": kept.spans() }))
}

async fn traces(kept: web::Data<Kept>, query: web::Query<Limit>) -> HttpResponse {
    let limit = query.limit.unwrap_or(TRACES_LIMIT_DEFAULT);
    let items: Vec<Summary> = kept
        .latest(limit.min(TRACES_LIMIT_MAX))
        .into_iter()
        .map(|(trace_id, spans)| Summary {
            trace_id,
            name: spans
                .iter()
                .min_by_key(|span| span.started_at_ns)
                .map(|span| span.name.clone())
                .unwrap_or_default(),
            services: spans.iter().map(|span| span.service.clone()).collect(),
            spans: spans.len(),
        })
        .collect();
    HttpResponse::Ok().json(json!({ "items": items }))
}

async fn trace(kept: web::Data<Kept>, id: web::Path<String>) -> HttpResponse {
    let spans = kept.trace(&id);
    if spans.is_empty() {
        return not_found().await;
    }
    let body = json!({ "trace_id": *id, "spans": spans.len(), "roots": tree::of(&spans) });
    HttpResponse::Ok().json(body)
}

async fn not_found() -> HttpResponse {
    let body = json!({ "type": "about:blank", "title": "Not Found", "status": 404 });
    HttpResponse::NotFound()
        .content_type("application/problem+json")
        .body(body.to_string())
}
