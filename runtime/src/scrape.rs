//! What Prometheus reads from a process: the recorder and its buckets, what every service measures, and values that
//! are worth looking up only when somebody asks.
//!
//! Names: standard ones where there is a standard (`http_server_…` and `rpc_server_…` of OpenTelemetry, `process_…` of
//! Prometheus); else they begin with the name of the service that has them, or with `orderlog_` where all have them. The
//! unit is in the name, a counter ends in `_total`, label values are a bounded set.

use std::{
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use anyhow::Context;
use metrics::{Unit, describe_gauge, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::{process, request_metrics};

/// Histograms whose name ends in `_seconds` count into these.
const SECONDS_BUCKETS: [f64; 16] = [
    0.0005, 0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.12, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0,
];
/// Histograms whose name ends in `_events` count into these.
const EVENTS_BUCKETS: [f64; 12] = [
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0,
];
/// What histograms have gathered is counted into their buckets this often, so that it never grows.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

type Look = Box<dyn Fn() + Send>;

static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
static LOOKS: Mutex<Vec<Look>> = Mutex::new(Vec::new());

/// Begins to record. To be called once, before anything is measured, within a tokio runtime.
pub fn start(service: &'static str) -> anyhow::Result<()> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS_BUCKETS)?
        .set_buckets_for_metric(Matcher::Suffix("_events".into()), &EVENTS_BUCKETS)?
        .install_recorder()
        .context("metrics cannot be started")?;
    tokio::spawn(upkeep(RECORDER.get_or_init(|| handle)));
    describe_gauge!(
        "orderlog_build_info",
        Unit::Count,
        "Which build this is; always 1."
    );
    let profile = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    gauge!(
        "orderlog_build_info",
        "service" => service, "version" => env!("CARGO_PKG_VERSION"), "profile" => profile
    )
    .set(1.0);
    request_metrics::describe();
    Ok(())
}

/// Has `look` called before each scrape: for values that are cheap to look up and change all the time.
pub fn before_each(look: impl Fn() + Send + 'static) {
    looks().push(Box::new(look));
}

/// All metrics in Prometheus' text format; of the process only before [`start`].
pub fn render() -> String {
    looks().iter().for_each(|look| look());
    let mut text = RECORDER
        .get()
        .map(PrometheusHandle::render)
        .unwrap_or_default();
    text.push_str(&process::render());
    text
}

fn looks() -> MutexGuard<'static, Vec<Look>> {
    // A panic elsewhere leaves the list whole.
    LOOKS.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn upkeep(handle: &PrometheusHandle) {
    let mut ticks = tokio::time::interval(UPKEEP_EVERY);
    loop {
        ticks.tick().await;
        handle.run_upkeep();
    }
}
