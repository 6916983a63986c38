//! What a process says about itself: JSON lines on standard output, and metrics.

use std::{io, path::PathBuf, sync::OnceLock};

use anyhow::{Context, anyhow};
use clap::Args;
use tracing_subscriber::EnvFilter;

use crate::scrape;

/// What is logged.
#[derive(Debug, Clone, Args)]
pub struct LogSettings {
    /// What is logged: a level, or levels per module, such as info,rdkafka=debug.
    #[arg(long, env = "LOG_FILTER", default_value = "info", global = true)]
    pub log_filter: String,
    /// A file that says so instead; read anew at SIGHUP.
    #[arg(long, env = "LOG_FILTER_FILE", global = true)]
    pub log_filter_file: Option<PathBuf>,
}

impl LogSettings {
    fn filter(&self) -> anyhow::Result<EnvFilter> {
        let (name, text) = match &self.log_filter_file {
            Some(file) => {
                let text = std::fs::read_to_string(file);
                let text = text.with_context(|| format!("LOG_FILTER_FILE {}", file.display()));
                ("LOG_FILTER_FILE", text?)
            }
            None => ("LOG_FILTER", self.log_filter.clone()),
        };
        EnvFilter::try_new(text.trim())
            .with_context(|| format!("{name} is not a filter such as info,sqlx=warn"))
    }
}

type Reload = Box<dyn Fn() -> anyhow::Result<()> + Send + Sync>;

static RELOAD: OnceLock<Reload> = OnceLock::new();

/// Starts logging and metrics, and names the cryptography that TLS uses. To be called once, first thing, within a tokio
/// runtime.
pub fn init(service: &'static str, settings: &LogSettings) -> anyhow::Result<()> {
    let logging = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_env_filter(settings.filter()?)
        .with_writer(io::stdout)
        .with_filter_reloading();
    let (handle, settings) = (logging.reload_handle(), settings.clone());
    let reload = move || Ok(handle.reload(settings.filter()?)?);
    logging
        .try_init()
        .map_err(|error| anyhow!("logging cannot be started: {error}"))?;
    RELOAD.set(Box::new(reload)).ok();
    scrape::start(service)?;
    // Fails only when a provider is installed already, which is as good.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    tracing::info!(service, version = env!("CARGO_PKG_VERSION"), "starting");
    Ok(())
}

/// Reads what is logged anew. With an error it stays as it was.
pub fn read_filter_anew() -> anyhow::Result<()> {
    RELOAD.get().map_or(Ok(()), |reload| reload())
}
