//! The span of an HTTP request, as its server sees it.

use std::time::Instant;

use actix_web::{
    dev::{ServiceRequest, ServiceResponse},
    http::{Method, StatusCode},
};
use events::TraceContext;

use super::Span;

/// Asked all the time by whoever watches the process; nobody wants to read their traces.
const NOT_TRACED: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// The span of a request under way, if it has one.
pub(crate) struct RequestSpan {
    span: Option<Span>,
    method: &'static str,
    begun: Instant,
}

impl RequestSpan {
    /// Begins with the request, below the span of its caller.
    pub(crate) fn begin(request: &ServiceRequest, caller: Option<TraceContext>) -> Self {
        let method = method_label(request.method());
        let is_traced = !NOT_TRACED.contains(&request.path());
        Self {
            span: is_traced
                .then(|| Span::of_request(caller, method))
                .flatten(),
            method,
            begun: Instant::now(),
        }
    }

    /// Where it stands.
    pub(crate) fn context(&self) -> Option<TraceContext> {
        self.span.as_ref()?.context()
    }

    /// The request was answered: it gets its name, and a line in the log that leads from there to the trace.
    pub(crate) fn answered<B>(mut self, response: &ServiceResponse<B>) {
        let Some(span) = &mut self.span else { return };
        // The path as it is declared: the one that was asked for has ids in it, or whatever a client likes to ask.
        let route = response.request().match_pattern();
        let status = response.status();
        span.set("http.request.method", self.method);
        if let Some(route) = &route {
            span.rename(format!("{} {route}", self.method));
            span.set("http.route", route.clone());
        }
        set_status(span, status);
        tracing::info!(
            method = self.method,
            route,
            status = status.as_u16(),
            duration_ms = self.begun.elapsed().as_millis() as u64,
            "answered"
        );
    }

    /// The request failed before there was an answer to it.
    pub(crate) fn failed(mut self, status: StatusCode) {
        if let Some(span) = &mut self.span {
            span.set("http.request.method", self.method);
            set_status(span, status);
        }
    }
}

fn set_status(span: &mut Span, status: StatusCode) {
    span.set("http.response.status_code", i64::from(status.as_u16()));
    // What a client did wrong is no failure of the server.
    if status.is_server_error() {
        span.fail(status.as_u16().to_string());
    }
}

/// Methods as names: a bounded set, whatever clients send. What is none of HTTP's own is `_OTHER`, as OpenTelemetry says.
pub(crate) fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "_OTHER",
    }
}
