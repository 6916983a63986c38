//! What a process says about itself: JSON lines on standard output, and metrics.

use std::{io, sync::OnceLock, time::Duration};

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// Histograms whose name ends in `_seconds` count into these.
const SECONDS_BUCKETS: [f64; 16] = [
    0.0005, 0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.12, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0,
];
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();

/// Starts logging and metrics, and names the cryptography that TLS uses. `filter` is an env-filter such as
/// `info` or `info,rdkafka=debug`. To be called once, first thing, within a tokio runtime.
pub fn init(service: &'static str, filter: &str) -> anyhow::Result<()> {
    let filter =
        EnvFilter::try_new(filter).context("LOG_FILTER is not a filter such as info,sqlx=warn")?;
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_env_filter(filter)
        .with_writer(io::stdout)
        .try_init()
        .map_err(|error| anyhow::anyhow!("logging cannot be started: {error}"))?;
    let handle = PrometheusBuilder::new()
        .add_global_label("service", service)
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS_BUCKETS)?
        .install_recorder()
        .context("metrics cannot be started")?;
    tokio::spawn(upkeep(METRICS.get_or_init(|| handle)));
    // Fails only when a provider is installed already, which is as good.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    tracing::info!(service, version = env!("CARGO_PKG_VERSION"), "starting");
    Ok(())
}

/// The metrics in Prometheus' text format; empty before [`init`].
pub fn render_metrics() -> String {
    METRICS
        .get()
        .map(PrometheusHandle::render)
        .unwrap_or_default()
}

async fn upkeep(handle: &PrometheusHandle) {
    let mut ticks = tokio::time::interval(UPKEEP_EVERY);
    loop {
        ticks.tick().await;
        handle.run_upkeep();
    }
}
