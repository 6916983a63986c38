//! One name for all that a request causes: taken from the client or made, returned, logged, and recorded
//! with the events as correlation id.

use actix_web::{
    Error, HttpMessage, HttpRequest,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::header::{HeaderMap, HeaderName, HeaderValue},
    middleware::Next,
};
use events::ids::CorrelationId;
use tracing::Instrument;
use uuid::Uuid;

/// The header, in both directions.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The header that names the caller's place in a trace.
pub(crate) const TRACEPARENT: &str = "traceparent";
/// `00-<32 hex>-<16 hex>-<2 hex>` (W3C Trace Context).
const TRACEPARENT_BYTES: usize = 55;

/// The correlation id of a request: its X-Request-Id where that is a UUID, else one made for it.
pub fn correlation_id(request: &HttpRequest) -> CorrelationId {
    let known = request.extensions().get::<CorrelationId>().copied();
    known.unwrap_or_else(|| CorrelationId(Uuid::now_v7()))
}

/// The caller's trace context, where it is well-formed.
pub fn traceparent(headers: &HeaderMap) -> Option<&str> {
    well_formed(headers.get(TRACEPARENT)?.to_str().ok()?)
}

/// A trace context, if it is one.
pub(crate) fn well_formed(text: &str) -> Option<&str> {
    let mut parts = text.split('-');
    let mut hex = |digits: usize| {
        let part = parts.next()?;
        let good = part.len() == digits
            && part
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        good.then_some(part)
    };
    let (version, trace, parent, _flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
    let is_zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    (text.len() == TRACEPARENT_BYTES && version != "ff" && !is_zero(trace) && !is_zero(parent))
        .then_some(text)
}

/// Middleware: names the request, answers with the name, and logs all that happens in it under that name.
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
    let trace_id = traceparent(request.headers()).and_then(|text| text.get(3..35));
    let span = tracing::info_span!("request", correlation_id = %id, trace_id);
    let mut response = next.call(request).instrument(span).await?;
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_well_formed_trace_context_is_continued() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        for (text, accepted) in [
            (good, true),
            (
                "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                false,
            ),
            (
                "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
                false,
            ),
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
                false,
            ),
            (
                "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
                false,
            ),
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
                false,
            ),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(
                HeaderName::from_static(TRACEPARENT),
                HeaderValue::from_static(text),
            );
            assert_eq!(traceparent(&headers), accepted.then_some(text), "{text}");
        }
    }
}
