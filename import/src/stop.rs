//! Stopping early: on Ctrl-C or SIGTERM, or when the service does not answer any more.
//!
//! Nothing new is begun after a stop; what is under way ends. A second signal ends at once.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Exit code after an interruption, as shells know it.
pub const INTERRUPTED_CODE: i32 = 130;

/// Why a run stops early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// A signal.
    Interrupted,
    /// A request got no usable answer in spite of all attempts.
    NoAnswer(String),
}

/// Tells everyone whether to stop.
#[derive(Clone)]
pub struct Stop(Arc<watch::Sender<Option<Reason>>>);

impl Default for Stop {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl Stop {
    /// Stops at the first signal and ends the process at the second.
    ///
    /// # Errors
    /// When signals cannot be listened to.
    pub fn on_signals(&self) -> std::io::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let stop = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if stop.reason() == Some(Reason::Interrupted) {
                    std::process::exit(INTERRUPTED_CODE);
                }
                eprintln!("stopping: what is under way ends first; once more to end at once");
                stop.order(Reason::Interrupted);
            }
        });
        Ok(())
    }

    /// Orders everyone to stop; the first reason other than an interruption stays.
    pub fn order(&self, reason: Reason) {
        self.0.send_if_modified(|current| {
            let replace = current.is_none() || reason == Reason::Interrupted;
            if replace {
                *current = Some(reason);
            }
            replace
        });
    }

    /// Why to stop, if so.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        self.0.borrow().clone()
    }

    /// Ends when a stop is ordered.
    pub async fn ordered(&self) {
        // The sender lives as long as self, so waiting cannot fail.
        let _ = self.0.subscribe().wait_for(Option::is_some).await;
    }
}
