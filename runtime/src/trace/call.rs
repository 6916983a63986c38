//! The span of a gRPC call, as its server sees it.

use std::time::Instant;

use events::TraceContext;
use proto::Method;
use tonic::Code;

use super::Span;

/// The span of a call under way, if it has one. What is no method of ours (health, reflection) has none.
pub(crate) struct CallSpan {
    span: Option<Span>,
    begun: Instant,
}

impl CallSpan {
    /// Begins with the call, below the span of its caller.
    pub(crate) fn begin(method: Option<&'static Method>, caller: Option<TraceContext>) -> Self {
        let mut span =
            method.and_then(|method| Span::of_request(caller, method.path.trim_start_matches('/')));
        if let (Some(span), Some(method)) = (&mut span, method) {
            span.set("rpc.system", "grpc");
            span.set("rpc.service", method.service);
            span.set("rpc.method", method.name);
        }
        Self {
            span,
            begun: Instant::now(),
        }
    }

    /// Where it stands.
    pub(crate) fn context(&self) -> Option<TraceContext> {
        self.span.as_ref()?.context()
    }

    /// The call was answered: a line in the log leads from there to the trace.
    pub(crate) fn answered(mut self, method: Option<&'static Method>, code: Code) {
        let Some(span) = &mut self.span else { return };
        span.set("rpc.grpc.status_code", i64::from(code as i32));
        if is_failure(code) {
            span.fail((code as i32).to_string());
        }
        tracing::info!(
            method = method.map(|method| method.path),
            status = code as i32,
            duration_ms = self.begun.elapsed().as_millis() as u64,
            "answered"
        );
    }
}

/// Whether the server failed. What a client did wrong is no failure of the server.
fn is_failure(code: Code) -> bool {
    match code {
        Code::Unknown
        | Code::DeadlineExceeded
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::Ok
        | Code::Cancelled
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unauthenticated => false,
    }
}
