//! Receiving: OTLP over gRPC, as the OpenTelemetry protocol says.

use std::{collections::BTreeMap, sync::Arc};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{AnyValue, KeyValue, any_value},
    trace::v1::{self, span::SpanKind, status::StatusCode},
};
use serde_json::Value;
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

use crate::kept::{Event, Kept, Span};

/// Largest message read.
const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Attributes kept of one span at most.
const ATTRIBUTES_MAX: usize = 64;
/// Events kept of one span at most.
const EVENTS_MAX: usize = 32;
/// Characters kept of a text at most.
const TEXT_CHARS_MAX: usize = 512;
/// W3C's sizes.
const TRACE_ID_BYTES: usize = 16;
const SPAN_ID_BYTES: usize = 8;

/// Receives until the process ends.
///
/// # Errors
/// When the listener fails.
pub async fn serve(incoming: TcpIncoming, kept: Arc<Kept>) -> Result<(), tonic::transport::Error> {
    let service =
        TraceServiceServer::new(Receiver(kept)).max_decoding_message_size(MESSAGE_BYTES_MAX);
    Server::builder()
        .add_service(service)
        .serve_with_incoming(incoming)
        .await
}

/// The trace service of OTLP.
struct Receiver(Arc<Kept>);

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for of_resource in request.into_inner().resource_spans {
            let resource = of_resource.resource.unwrap_or_default().attributes;
            let about = |name: &str| {
                let found = resource.iter().find(|attribute| attribute.key == name);
                let value = found.and_then(|attribute| attribute.value.clone());
                let value = value.map(json)?;
                value.as_str().map(str::to_owned)
            };
            let service = about("service.name").unwrap_or_default();
            let instance = about("service.instance.id").unwrap_or_default();
            let version = about("service.version").unwrap_or_default();
            for span in of_resource
                .scope_spans
                .into_iter()
                .flat_map(|scope| scope.spans)
            {
                let span = read(span, &service, &instance, &version);
                self.0.add(span.map_err(Status::invalid_argument)?);
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn read(span: v1::Span, service: &str, instance: &str, version: &str) -> Result<Span, String> {
    if span.trace_id.len() != TRACE_ID_BYTES || span.span_id.len() != SPAN_ID_BYTES {
        return Err("an id has not the length it must have".to_owned());
    }
    let kind = match span.kind() {
        SpanKind::Unspecified => "unspecified",
        SpanKind::Internal => "internal",
        SpanKind::Server => "server",
        SpanKind::Client => "client",
        SpanKind::Producer => "producer",
        SpanKind::Consumer => "consumer",
    };
    let status = span.status.as_ref().map(v1::Status::code);
    let status = match status.unwrap_or_default() {
        StatusCode::Unset => "unset",
        StatusCode::Ok => "ok",
        StatusCode::Error => "error",
    };
    let events = span.events.into_iter().take(EVENTS_MAX).map(|event| Event {
        name: cut(event.name),
        after_ms: millis(event.time_unix_nano, span.start_time_unix_nano),
    });
    Ok(Span {
        trace_id: hex::encode(span.trace_id),
        span_id: hex::encode(span.span_id),
        parent_span_id: Some(hex::encode(span.parent_span_id)).filter(|id| !id.is_empty()),
        service: cut(service.to_owned()),
        instance: cut(instance.to_owned()),
        version: cut(version.to_owned()),
        name: cut(span.name),
        kind,
        started_at_ns: span.start_time_unix_nano,
        duration_ms: millis(span.end_time_unix_nano, span.start_time_unix_nano),
        status,
        attributes: attributes(span.attributes),
        events: events.collect(),
    })
}

fn millis(end_ns: u64, begin_ns: u64) -> f64 {
    end_ns.saturating_sub(begin_ns) as f64 / 1e6
}

fn attributes(attributes: Vec<KeyValue>) -> BTreeMap<String, Value> {
    attributes
        .into_iter()
        .take(ATTRIBUTES_MAX)
        .filter_map(|attribute| Some((cut(attribute.key), json(attribute.value?))))
        .collect()
}

fn json(value: AnyValue) -> Value {
    match value.value {
        Some(any_value::Value::StringValue(text)) => cut(text).into(),
        Some(any_value::Value::BoolValue(value)) => value.into(),
        Some(any_value::Value::IntValue(value)) => value.into(),
        Some(any_value::Value::DoubleValue(value)) => value.into(),
        // Nobody of ours sends these.
        Some(
            any_value::Value::ArrayValue(_)
            | any_value::Value::KvlistValue(_)
            | any_value::Value::BytesValue(_)
            | any_value::Value::StringValueStrindex(_),
        )
        | None => Value::Null,
    }
}

fn cut(text: String) -> String {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some(_) => text.chars().take(TEXT_CHARS_MAX).collect(),
        None => text,
    }
}
