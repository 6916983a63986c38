//! What every call passes: it gets its name, its span and its deadline, is turned away where the other side has its
//! method, and is counted.

use std::{convert::Infallible, time::Instant};

use proto::Method;
use tokio::time::timeout_at;
use tonic::{
    Code, Status,
    body::Body,
    codegen::{
        BoxFuture, Context, Poll, Service,
        http::{HeaderValue, Request, Response},
    },
    service::Routes,
};
use tracing::{Instrument, field};

use super::{Call, MESSAGE_BYTES_MAX, call::REQUEST_ID};
use crate::{
    problem::Problem,
    request_metrics,
    trace::{self, CallSpan},
};

const STATUS: &str = "grpc-status";
/// Stands for every method that is not one of ours: a bounded set of labels, whatever clients send.
const OTHER: &str = "other";
const RETRY_AFTER_S: u32 = 1;

/// Which half of the methods a process answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// All that changes something.
    Commands,
    /// `Get…` and `List…`.
    Queries,
}

impl Side {
    /// Why this side does not answer a method, where it does not.
    fn refuses(self, method: &Method) -> Option<Status> {
        let text = match (self, method.is_query()) {
            (Self::Commands, false) | (Self::Queries, true) => return None,
            (Self::Commands, true) => {
                "this is the command side; projections answers queries, and the gateway knows which is where"
            }
            (Self::Queries, false) => {
                "this is the read side; command-api takes commands, and the gateway knows which is where"
            }
        };
        Some(Status::unimplemented(format!("{}: {text}", method.name)))
    }
}

/// The way to the methods.
#[derive(Clone)]
pub(super) struct Door {
    routes: Routes,
    side: Side,
}

impl Door {
    pub(super) fn new(routes: Routes, side: Side) -> Self {
        Self { routes, side }
    }
}

impl Service<Request<Body>> for Door {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<Body>>::poll_ready(&mut self.routes, context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let method = Method::of_path(request.uri().path());
        let call = Call::begun(request.headers());
        let traced = CallSpan::begin(method, call.traceparent);
        let own = traced.context();
        let log = tracing::info_span!(
            "request",
            correlation_id = %call.correlation_id,
            trace_id = own.or(call.traceparent).map(|place| field::display(place.trace_id())),
            span_id = own.map(|place| field::display(place.span_id())),
        );
        request.extensions_mut().insert(call.clone());
        let counted = Counted::begin(method);
        let answer = match method.and_then(|method| self.side.refuses(method)) {
            Some(status) => Err(status),
            None => Ok(self.routes.call(request)),
        };
        let answered = async move {
            let mut response = match answer {
                Err(status) => status.into_http(),
                Ok(answer) => match timeout_at(call.deadline, answer).await {
                    Ok(Ok(response)) => response,
                    Ok(Err(never)) => match never {},
                    Err(_) => late(method).into_http(),
                },
            };
            if code(&response) == Code::OutOfRange {
                // No method of ours says so: this is what too large a message is answered with.
                response = Status::from(Problem::too_large(MESSAGE_BYTES_MAX)).into_http();
            }
            if let Ok(id) = HeaderValue::from_str(&call.correlation_id.to_string()) {
                response.headers_mut().insert(REQUEST_ID, id);
            }
            let code = code(&response);
            counted.end(code);
            traced.answered(method, code);
            Ok(response)
        };
        Box::pin(trace::within(own, answered).instrument(log))
    }
}

/// The answer when the deadline has passed.
fn late(method: Option<&'static Method>) -> Status {
    match method {
        Some(method) if !method.is_query() => Problem::outcome_unknown(RETRY_AFTER_S).into(),
        Some(_) | None => Status::deadline_exceeded("the deadline has passed"),
    }
}

/// The status of an answer: in its head when there is nothing else.
fn code(response: &Response<Body>) -> Code {
    let status = response.headers().get(STATUS);
    status.map_or(Code::Ok, |status| Code::from_bytes(status.as_bytes()))
}

/// Counts a call when it is over, also when its caller went away.
struct Counted {
    begun: Instant,
    method: Option<&'static Method>,
    code: Code,
}

impl Counted {
    fn begin(method: Option<&'static Method>) -> Self {
        Self {
            begun: Instant::now(),
            method,
            code: Code::Cancelled,
        }
    }

    fn end(mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let (service, method) = self
            .method
            .map_or((OTHER, OTHER), |method| (method.service, method.name));
        let labels = [
            ("rpc_service", metrics::SharedString::from(service)),
            ("rpc_method", method.into()),
            (
                "rpc_grpc_status_code",
                (self.code as i32).to_string().into(),
            ),
        ];
        metrics::histogram!(request_metrics::RPC_CALL, &labels).record(self.begun.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_answered_by_one_side() {
        for method in proto::METHODS {
            let refusing = [Side::Commands, Side::Queries]
                .iter()
                .filter_map(|side| side.refuses(method));
            let codes: Vec<_> = refusing.map(|status| status.code()).collect();
            assert_eq!(codes, [Code::Unimplemented], "{}", method.path);
        }
    }
}
