//! Tasks without which a process is of no use: the first that ends unasked ends the process.

use std::{future::Future, time::Duration};

use anyhow::{Context, anyhow};
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

/// How long tasks may take to finish what they began once the process is to end.
pub const SHUTDOWN_WAIT: Duration = Duration::from_secs(25);

/// The vital tasks of a process.
///
/// Each is given the shutdown token by its maker, and returns `Ok` soon after that is cancelled.
#[derive(Debug)]
pub struct Vital {
    shutdown: CancellationToken,
    tasks: JoinSet<anyhow::Result<()>>,
    names: Vec<(Id, String)>,
}

impl Vital {
    /// No tasks yet; they end when `shutdown` is cancelled.
    pub fn new(shutdown: CancellationToken) -> Self {
        Self {
            shutdown,
            tasks: JoinSet::new(),
            names: Vec::new(),
        }
    }

    /// Starts a task under a name that tells people what it does.
    pub fn spawn<F>(&mut self, name: impl Into<String>, task: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let id = self.tasks.spawn(task).id();
        self.names.push((id, name.into()));
    }

    /// Waits until every task has ended. An error when one failed, panicked, or ended without being asked
    /// to (the others are then asked to end), or when they take longer than [`SHUTDOWN_WAIT`].
    pub async fn run(mut self) -> anyhow::Result<()> {
        let mut failure = None;
        while !self.shutdown.is_cancelled() && !self.tasks.is_empty() {
            tokio::select! {
                () = self.shutdown.cancelled() => {}
                Some(ended) = self.tasks.join_next_with_id() => {
                    if let Err(error) = self.verdict(ended) {
                        tracing::error!(error = format!("{error:#}"), "a vital task ended; the process ends");
                        self.shutdown.cancel();
                        failure = Some(error);
                    }
                }
            }
        }
        let rest = async {
            while let Some(ended) = self.tasks.join_next_with_id().await {
                if let Err(error) = self.verdict(ended) {
                    tracing::error!(
                        error = format!("{error:#}"),
                        "a task failed while the process was ending"
                    );
                    failure.get_or_insert(error);
                }
            }
        };
        let in_time = tokio::time::timeout(SHUTDOWN_WAIT, rest).await.is_ok();
        match failure {
            Some(error) => Err(error),
            None if in_time => Ok(()),
            None => Err(anyhow!(
                "not everything ended within {} s",
                SHUTDOWN_WAIT.as_secs()
            )),
        }
    }

    fn verdict(
        &self,
        ended: Result<(Id, anyhow::Result<()>), tokio::task::JoinError>,
    ) -> anyhow::Result<()> {
        let (id, result) = match ended {
            Ok((id, result)) => (id, result),
            Err(error) => (error.id(), Err(anyhow!("panicked: {error}"))),
        };
        let name = self
            .names
            .iter()
            .find(|(each, _)| *each == id)
            .map_or("unnamed", |(_, name)| name);
        match result {
            Ok(()) if self.shutdown.is_cancelled() => Ok(()),
            Ok(()) => Err(anyhow!("{name}: ended unasked")),
            Err(error) => Err(error).with_context(|| name.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_unasked_ends_all_with_an_error() {
        let shutdown = CancellationToken::new();
        let mut vital = Vital::new(shutdown.clone());
        vital.spawn("ends", async { Ok(()) });
        vital.spawn("waits", {
            let shutdown = shutdown.clone();
            async move {
                shutdown.cancelled().await;
                Ok(())
            }
        });
        let error = vital.run().await.unwrap_err();
        assert_eq!(error.to_string(), "ends: ended unasked");
        assert!(shutdown.is_cancelled());
    }

    #[tokio::test]
    async fn a_panic_is_an_error_with_the_name_of_the_task() {
        let mut vital = Vital::new(CancellationToken::new());
        vital.spawn("panics", async { panic!("on purpose") });
        assert!(format!("{:#}", vital.run().await.unwrap_err()).starts_with("panics: panicked"));
    }

    #[tokio::test]
    async fn tasks_that_end_when_asked_are_a_success() {
        let shutdown = CancellationToken::new();
        let mut vital = Vital::new(shutdown.clone());
        vital.spawn("waits", {
            let shutdown = shutdown.clone();
            async move {
                shutdown.cancelled().await;
                Ok(())
            }
        });
        shutdown.cancel();
        vital.run().await.unwrap();
    }
}
