//! Waiting for a component at start: patiently, and saying which one and how it is started.

use std::{fmt, future::Future, time::Duration};

use rand::RngExt;
use tokio_util::sync::CancellationToken;

use crate::health::Component;

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Pauses between attempts: doubling from 200 ms up to 5 s, each drawn from the upper half.
#[derive(Debug)]
pub struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST_PAUSE)
    }
}

impl Backoff {
    /// The length of the next pause.
    pub fn next_pause(&mut self) -> Duration {
        let pause = self.0.mul_f64(rand::rng().random_range(0.5..=1.0));
        self.0 = (self.0 * 2).min(PAUSE_MAX);
        pause
    }
}

/// Tries `attempt` until it succeeds; while it fails, `component` waits and each failure is one line in the
/// log that says what is missing and, in `hint`, how to start it. `None` when `shutdown` is cancelled before.
pub async fn until_ready<T, E, F>(
    component: &Component,
    hint: &str,
    shutdown: &CancellationToken,
    mut attempt: impl FnMut() -> F,
) -> Option<T>
where
    E: fmt::Display,
    F: Future<Output = Result<T, E>>,
{
    let mut backoff = Backoff::default();
    loop {
        let outcome = tokio::select! {
            () = shutdown.cancelled() => return None,
            outcome = attempt() => outcome,
        };
        match outcome {
            Ok(value) => {
                component.ready();
                return Some(value);
            }
            Err(error) => {
                let pause = backoff.next_pause();
                tracing::warn!(component = component.name(), %error, hint, "not there yet, trying again");
                component.waiting(format!("{error} ({hint})"));
                tokio::select! {
                    () = shutdown.cancelled() => return None,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Health;

    #[tokio::test]
    async fn it_tries_until_it_is_there() {
        let health = Health::default();
        let component = health.component("postgres");
        let mut attempts = 0;
        let value = until_ready(
            &component,
            "scripts/stack start postgres",
            &CancellationToken::new(),
            || {
                attempts += 1;
                let outcome = if attempts < 3 {
                    Err("connection refused")
                } else {
                    Ok(attempts)
                };
                async move { outcome }
            },
        )
        .await;
        assert_eq!(value, Some(3));
        assert!(health.is_ready());
    }

    #[tokio::test]
    async fn it_stops_when_the_process_is_to_end() {
        let health = Health::default();
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        let attempt = || async { Err::<(), _>("never") };
        assert_eq!(
            until_ready(&health.component("kafka"), "", &shutdown, attempt).await,
            None
        );
    }

    #[test]
    fn pauses_grow_and_stay_bounded() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..20).map(|_| backoff.next_pause()).collect();
        assert!(
            pauses
                .iter()
                .all(|pause| *pause <= PAUSE_MAX && *pause >= FIRST_PAUSE / 2)
        );
        assert!(pauses[10] >= PAUSE_MAX / 2);
    }
}
