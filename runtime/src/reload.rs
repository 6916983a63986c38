//! SIGHUP: a service reads the files that it was told of anew, while it serves. Environment and arguments stay as they
//! were when it started.

use std::io;

use metrics::{Unit, describe_counter, describe_gauge};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::telemetry;

/// SIGHUPs, as they come.
pub struct Hangups(Signal);

impl Hangups {
    /// To be called early, within a tokio runtime: a SIGHUP before that ends the process. Fails when the signal cannot be
    /// listened to.
    pub fn expect() -> io::Result<Self> {
        describe_counter!(
            "orderlog_reloads_total",
            Unit::Count,
            "Times that files were read anew at SIGHUP, by what came of it."
        );
        describe_gauge!(
            "orderlog_last_reload_successful",
            Unit::Count,
            "1, or 0 when the last SIGHUP found a file that cannot be used, and all that was known before was kept."
        );
        metrics::gauge!("orderlog_last_reload_successful").set(1.0);
        for outcome in [DONE, FAILED] {
            metrics::counter!("orderlog_reloads_total", "outcome" => outcome).absolute(0);
        }
        Ok(Self(signal(SignalKind::hangup())?))
    }

    /// At each of them, until `shutdown`, reads anew what is to be logged, and calls `read_anew`, which exchanges all of what
    /// it reads or, with an error, nothing. What is logged is exchanged only with the rest.
    pub async fn follow(
        mut self,
        read_anew: impl Fn() -> anyhow::Result<()>,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        while let Some(()) = shutdown.run_until_cancelled(self.0.recv()).await.flatten() {
            // Small files, and the threads of requests are others.
            let outcome = tokio::task::block_in_place(|| {
                let exchange_filter = telemetry::read_filter_anew()?;
                read_anew()?;
                exchange_filter()
            });
            let is_done = outcome.is_ok();
            match outcome {
                Ok(()) => tracing::info!("read files anew"),
                Err(error) => tracing::error!(
                    error = format!("{error:#}"),
                    "a file cannot be used; all that was known before is kept"
                ),
            }
            let outcome = if is_done { DONE } else { FAILED };
            metrics::counter!("orderlog_reloads_total", "outcome" => outcome).increment(1);
            metrics::gauge!("orderlog_last_reload_successful").set(f64::from(u8::from(is_done)));
        }
        Ok(())
    }
}

const DONE: &str = "done";
const FAILED: &str = "failed";
