//! What a process says about itself: JSON lines on standard output, and metrics.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use anyhow::{Context, anyhow, ensure};
use clap::Args;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::scrape;

/// Larger than any filter.
const FILTER_BYTES_MAX: u64 = 64 * 1024;

/// What is logged.
#[derive(Debug, Clone, Args)]
pub struct LogSettings {
    /// What is logged: a level for everything, and levels per module, such as info,rdkafka=debug.
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
                let text = text_of(file);
                let text = text.with_context(|| format!("LOG_FILTER_FILE {}", file.display()));
                ("LOG_FILTER_FILE", text?)
            }
            None => ("LOG_FILTER", self.log_filter.clone()),
        };
        filter(&text).with_context(|| format!("{name} is not a filter such as info,sqlx=warn"))
    }
}

fn text_of(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let file = File::open(file)?;
    file.take(FILTER_BYTES_MAX + 1).read_to_string(&mut text)?;
    let is_small = text.len() as u64 <= FILTER_BYTES_MAX;
    ensure!(is_small, "it has more than {FILTER_BYTES_MAX} bytes");
    Ok(text)
}

/// The filter of this text. It must name a level for all that it does not name: without one nothing else would be logged,
/// neither with an empty text nor with a level that is misspelt, which could be a module's name.
fn filter(text: &str) -> anyhow::Result<EnvFilter> {
    let text = text.trim();
    // An empty part would count as a level, and one with a blank before or behind it as a module.
    let names_a_level = |part: &str| !part.is_empty() && part.parse::<LevelFilter>().is_ok();
    ensure!(
        text.split(',').any(names_a_level),
        "it names no level for everything"
    );
    Ok(EnvFilter::try_new(text)?)
}

/// Puts a filter that was read in the place of the one before.
pub type Exchange = Box<dyn FnOnce() -> anyhow::Result<()> + Send>;
type ReadAnew = Box<dyn Fn() -> anyhow::Result<Exchange> + Send + Sync>;

static READ_ANEW: OnceLock<ReadAnew> = OnceLock::new();

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
    let read_anew = move || {
        let (handle, filter) = (handle.clone(), settings.filter()?);
        Ok(Box::new(move || Ok(handle.reload(filter)?)) as Exchange)
    };
    logging
        .try_init()
        .map_err(|error| anyhow!("logging cannot be started: {error}"))?;
    READ_ANEW.set(Box::new(read_anew)).ok();
    scrape::start(service)?;
    // Fails only when a provider is installed already, which is as good.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    tracing::info!(service, version = env!("CARGO_PKG_VERSION"), "starting");
    Ok(())
}

/// Reads anew what is to be logged; what is logged stays as it is until the exchange is called.
pub fn read_filter_anew() -> anyhow::Result<Exchange> {
    let read_anew = READ_ANEW.get().context("logging was not started")?;
    read_anew()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_names_a_level_for_everything() {
        for good in [
            "info",
            "off",
            " warn,sqlx=debug\n",
            "rdkafka=info,INFO",
            "error,a[span{field=b}]=trace",
        ] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for wrong in [
            "",
            "\n",
            "inf",
            "sqlx=debug",
            "info,sqlx=loudly",
            "sqlx=warn, info",
            "info ,sqlx=warn",
        ] {
            assert!(filter(wrong).is_err(), "{wrong}");
        }
    }
}
