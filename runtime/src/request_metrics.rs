//! How long requests take, over HTTP and over gRPC, as OpenTelemetry names it.

use std::{cell::RefCell, collections::HashMap, time::Duration};

use actix_web::{HttpRequest, http::StatusCode};
use metrics::{Histogram, Label, Unit, describe_histogram, histogram};

use crate::trace::method_label;

/// How long calls over gRPC take, by service, method and status.
pub const RPC_CALL: &str = "rpc_server_call_duration_seconds";
const HTTP_REQUEST: &str = "http_server_request_duration_seconds";

/// One series: a bounded set, whatever clients send.
#[derive(PartialEq, Eq, Hash)]
struct Series {
    method: &'static str,
    /// The pattern of the path; `None` where no route has it.
    route: Option<String>,
    status: u16,
}

thread_local! {
    /// The series that this thread has met, so that a request costs no look-up in the recorder.
    static MET: RefCell<HashMap<Series, Histogram>> = RefCell::default();
}

/// Says what they are.
pub fn describe() {
    describe_histogram!(
        RPC_CALL,
        Unit::Seconds,
        "How long calls over gRPC took, also those whose caller went away."
    );
    describe_histogram!(
        HTTP_REQUEST,
        Unit::Seconds,
        "How long HTTP requests took, from the head to the beginning of the answer."
    );
}

/// Counts one HTTP request that was answered.
pub fn record(request: &HttpRequest, status: StatusCode, took: Duration) {
    let series = Series {
        method: method_label(request.method()),
        route: request.match_pattern(),
        status: status.as_u16(),
    };
    MET.with_borrow_mut(|met| {
        let histogram = match met.get(&series) {
            Some(histogram) => histogram,
            None => {
                let histogram = enter(&series);
                met.entry(series).or_insert(histogram)
            }
        };
        histogram.record(took);
    });
}

fn enter(series: &Series) -> Histogram {
    let mut labels = vec![
        Label::from_static_parts("http_request_method", series.method),
        Label::new("http_response_status_code", series.status.to_string()),
    ];
    if let Some(route) = &series.route {
        labels.push(Label::new("http_route", route.clone()));
    }
    histogram!(HTTP_REQUEST, labels)
}
