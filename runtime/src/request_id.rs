//! One name for all that a request causes: taken from the client or made, returned, logged, and recorded
//! with the events as correlation id.

use actix_web::{
    Error, HttpMessage, HttpRequest,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::header::{HeaderMap, HeaderName, HeaderValue},
    middleware::Next,
};
use events::{TraceContext, ids::CorrelationId};
use tracing::{Instrument, field};
use uuid::Uuid;

use crate::trace::{self, RequestSpan};

/// The header, in both directions.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The header that names the caller's place in a trace.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// The correlation id of a request: its X-Request-Id where that is a UUID, else one made for it.
pub fn correlation_id(request: &HttpRequest) -> CorrelationId {
    let known = request.extensions().get::<CorrelationId>().copied();
    known.unwrap_or_else(|| CorrelationId(Uuid::now_v7()))
}

/// The caller's place in a trace, where the header is well-formed.
pub fn traceparent(headers: &HeaderMap) -> Option<TraceContext> {
    headers.get(TRACEPARENT)?.to_str().ok()?.parse().ok()
}

/// Middleware: names the request, answers with the name, logs all that happens in it under that name, and traces it.
pub async fn name_request(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let sent = request
        .headers()
        .get(X_REQUEST_ID)
        .and_then(|value| Uuid::try_parse_ascii(value.as_bytes()).ok());
    let id = CorrelationId(sent.unwrap_or_else(Uuid::now_v7));
    request.extensions_mut().insert(id);
    let caller = traceparent(request.headers());
    let traced = RequestSpan::begin(&request, caller);
    let own = traced.context();
    let log = tracing::info_span!(
        "request",
        correlation_id = %id,
        trace_id = own.or(caller).map(|place| field::display(place.trace_id())),
        span_id = own.map(|place| field::display(place.span_id())),
    );
    let answered = trace::within(own, next.call(request))
        .instrument(log.clone())
        .await;
    match answered {
        Ok(mut response) => {
            log.in_scope(|| traced.answered(&response));
            if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
                response.headers_mut().insert(X_REQUEST_ID, value);
            }
            Ok(response)
        }
        Err(error) => {
            traced.failed(error.as_response_error().status_code());
            Err(error)
        }
    }
}
