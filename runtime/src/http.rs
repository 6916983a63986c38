//! How every service listens: limits, headers, the pages all of them have, and how it stops.

mod described;

use std::{net::SocketAddr, time::Duration};

use actix_web::{
    App, Error, HttpRequest, HttpResponse, HttpServer, Resource, Route,
    body::MessageBody,
    dev::{Server, ServiceRequest, ServiceResponse},
    guard,
    http::{
        KeepAlive, Method,
        header::{CACHE_CONTROL, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS},
    },
    middleware::{Next, from_fn},
    web,
};
use anyhow::{Context, bail};
use metrics::{Unit, describe_gauge, gauge};
use tokio_util::sync::CancellationToken;

use crate::{
    apart::apart,
    health::{self, Health},
    openapi::{self, Endpoint},
    problem::{self, Problem},
    request_id, request_metrics, scrape,
};

/// `Cache-Control: no-store`, on every answer that is somebody's own.
pub const NO_STORE: (HeaderName, HeaderValue) =
    (CACHE_CONTROL, HeaderValue::from_static("no-store"));

const READY: &str = "orderlog_ready";
/// A request head must arrive within this time.
const REQUEST_HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that are idle for longer are closed.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long requests that have begun may take once the process is to end.
const SHUTDOWN_TIMEOUT_S: u64 = 15;
const CONNECTIONS_MAX: usize = 10_000;
/// The media type of metrics.
const METRICS_TEXT: &str = "text/plain; version=0.0.4";

/// Where and with how many threads to listen.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Address and port; port 0 takes a free one.
    pub address: SocketAddr,
    /// Threads that serve requests.
    pub workers: usize,
}

/// Serves `routes` plus `/healthz`, `/readyz`, `/metrics` and `/problems/{name}` until `shutdown` is
/// cancelled; then takes no new requests and finishes those that have begun. An error when the address
/// cannot be listened on. `routes` runs once per worker thread.
pub async fn serve<F>(
    listener: Listener,
    health: Health,
    shutdown: CancellationToken,
    routes: F,
) -> anyhow::Result<()>
where
    F: Fn(&mut web::ServiceConfig) + Clone + Send + 'static,
{
    describe_gauge!(
        READY,
        Unit::Count,
        "1 when the process does all of its work, as /readyz says."
    );
    let asked = health.clone();
    scrape::before_each(move || gauge!(READY).set(f64::from(asked.is_ready())));
    let ending = health.component("process");
    ending.ready();
    let mut server = start(listener, health, routes)?;
    let handle = server.handle();
    tokio::select! {
        ended = &mut server => {
            ended.context("HTTP server")?;
            bail!("the HTTP server ended unasked");
        }
        () = shutdown.cancelled() => ending.waiting("ending"),
    }
    let (served, ()) = tokio::join!(server, handle.stop(true));
    served.context("HTTP server")
}

/// [`serve`] on a thread and a runtime of its own, for services whose work must not wait for requests.
pub async fn serve_apart<F>(
    listener: Listener,
    health: Health,
    shutdown: CancellationToken,
    routes: F,
) -> anyhow::Result<()>
where
    F: Fn(&mut web::ServiceConfig) + Clone + Send + 'static,
{
    apart("http", move || {
        actix_web::rt::System::new().block_on(serve(listener, health, shutdown, routes))
    })
    .await
}

fn start<F>(listener: Listener, health: Health, routes: F) -> anyhow::Result<Server>
where
    F: Fn(&mut web::ServiceConfig) + Clone + Send + 'static,
{
    let server = HttpServer::new(move || {
        App::new()
            .wrap(from_fn(finish))
            .wrap(from_fn(request_id::name_request))
            .app_data(web::Data::new(health.clone()))
            .configure(common_routes)
            .configure(routes.clone())
            .default_service(web::to(not_found))
    })
    .workers(listener.workers.max(1))
    .max_connections(CONNECTIONS_MAX)
    .client_request_timeout(REQUEST_HEAD_TIMEOUT)
    .keep_alive(KeepAlive::Timeout(KEEP_ALIVE))
    .shutdown_timeout(SHUTDOWN_TIMEOUT_S)
    .disable_signals()
    .bind(listener.address)
    .with_context(|| format!("cannot listen on {}: is the port taken?", listener.address))?;
    tracing::info!(addresses = ?server.addrs(), "listening");
    Ok(server.run())
}

/// A path and its methods; what answers GET answers HEAD as well. Every other method is the problem
/// `method-not-allowed` with an Allow header.
pub(crate) fn resource(path: &str, routes: impl IntoIterator<Item = (Method, Route)>) -> Resource {
    let routes: Vec<_> = routes.into_iter().collect();
    let allow: Vec<_> = routes
        .iter()
        .map(|(method, _)| {
            if method == Method::GET {
                "GET, HEAD"
            } else {
                method.as_str()
            }
        })
        .collect();
    let allow = allow.join(", ");
    let refuse = move || {
        let allow = allow.clone();
        async move { Err::<HttpResponse, _>(Problem::method_not_allowed(allow)) }
    };
    routes
        .into_iter()
        .fold(web::resource(path), |resource, (method, route)| {
            resource.route(if method == Method::GET {
                route.guard(guard::Any(guard::Get()).or(guard::Head()))
            } else {
                route.method(method)
            })
        })
        .default_service(web::to(refuse))
}

fn common_routes(config: &mut web::ServiceConfig) {
    openapi::register(config, endpoints());
}

/// What every service answers.
pub fn endpoints() -> Vec<Endpoint> {
    let mut endpoints: Vec<_> = health::endpoints().into();
    endpoints.extend([
        Endpoint::get("/metrics", web::to(metrics), described::metrics),
        Endpoint::get(
            "/problems/{name}",
            web::to(problem_page),
            described::problem_page,
        ),
    ]);
    endpoints
}

async fn metrics() -> HttpResponse {
    HttpResponse::Ok()
        .content_type(METRICS_TEXT)
        .body(scrape::render())
}

async fn problem_page(request: HttpRequest) -> Result<HttpResponse, Problem> {
    problem::page(request.match_info().get("name").unwrap_or_default())
}

async fn not_found() -> Result<HttpResponse, Problem> {
    Err(Problem::not_found())
}

/// Middleware: the headers every answer has, and the count of requests.
async fn finish(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let begun = std::time::Instant::now();
    let mut response = next.call(request).await?;
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(NO_STORE.0, NO_STORE.1);
    }
    // One that is sent on to the owner of its shard is counted there.
    if !response.headers().contains_key(problem::NOT_OWNER) {
        request_metrics::record(response.request(), response.status(), begun.elapsed());
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::{TestRequest, call_service, init_service};

    #[actix_web::test]
    async fn every_answer_has_its_headers_and_every_path_its_methods() {
        let app = App::new()
            .wrap(from_fn(finish))
            .wrap(from_fn(request_id::name_request))
            .app_data(web::Data::new(Health::default()))
            .configure(common_routes)
            .default_service(web::to(not_found));
        let app = init_service(app).await;
        for (method, path, status, allow) in [
            (Method::GET, "/healthz", 200, None),
            (Method::HEAD, "/healthz", 200, None),
            (Method::POST, "/healthz", 405, Some("GET, HEAD")),
            (Method::GET, "/readyz", 200, None),
            (Method::GET, "/metrics", 200, None),
            (Method::GET, "/problems/not-found", 200, None),
            (Method::GET, "/problems/unheard-of", 404, None),
            (Method::GET, "/elsewhere", 404, None),
        ] {
            let request = TestRequest::default()
                .method(method.clone())
                .uri(path)
                .insert_header(("x-request-id", "not a uuid"));
            let response = call_service(&app, request.to_request()).await;
            let header = |name| {
                let value = response.headers().get(name);
                value.map(|value| value.to_str().unwrap().to_owned())
            };
            assert_eq!(response.status().as_u16(), status, "{method} {path}");
            assert_eq!(header("allow").as_deref(), allow, "{method} {path}");
            assert_eq!(header("x-content-type-options").as_deref(), Some("nosniff"));
            assert_eq!(header("cache-control").as_deref(), Some("no-store"));
            assert!(
                header("x-request-id")
                    .unwrap()
                    .parse::<uuid::Uuid>()
                    .is_ok()
            );
            assert!(header("server").is_none());
        }
    }

    #[actix_web::test]
    async fn a_request_keeps_the_name_that_it_came_with() {
        let app = App::new()
            .wrap(from_fn(request_id::name_request))
            .configure(common_routes);
        let app = init_service(app).await;
        let id = uuid::Uuid::now_v7().to_string();
        let request = TestRequest::get().uri("/healthz");
        let request = request.insert_header(("x-request-id", id.as_str()));
        let response = call_service(&app, request.to_request()).await;
        assert_eq!(response.headers().get("x-request-id").unwrap(), id.as_str());
    }
}
