//! What a process says about itself: JSON lines on standard output, and metrics.

use std::io;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::scrape;

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
    scrape::start(service)?;
    // Fails only when a provider is installed already, which is as good.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    tracing::info!(service, version = env!("CARGO_PKG_VERSION"), "starting");
    Ok(())
}
