//! Waiting for a Kafka that is away: for commands of operators, which have nothing else to do meanwhile.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use event_log::LogError;
use runtime::retry::Backoff;

/// For so long it is waited for at most.
const AWAY_MAX: Duration = Duration::from_mins(5);

/// For how long Kafka has been away, and when it is asked again.
#[derive(Debug, Default)]
pub struct Patience {
    since: Option<Instant>,
    backoff: Backoff,
}

impl Patience {
    /// Waits a little after a failure and says so. The failure itself where it does not pass, or has lasted for too long.
    pub async fn wait(&mut self, error: LogError) -> Result<(), LogError> {
        let since = *self.since.get_or_insert_with(Instant::now);
        if !error.is_passing() || since.elapsed() >= AWAY_MAX {
            return Err(error);
        }
        let left = AWAY_MAX.saturating_sub(since.elapsed()).as_secs();
        eprintln!("projections: Kafka is away ({error}); waiting for it, for {left} s at most");
        tokio::time::sleep(self.backoff.next_pause()).await;
        Ok(())
    }

    /// It was there.
    pub fn end(&mut self) {
        *self = Self::default();
    }
}

/// Asks until there is an answer.
pub async fn ask<T, F>(question: impl Fn() -> F) -> Result<T, LogError>
where
    F: Future<Output = Result<T, LogError>>,
{
    let mut patience = Patience::default();
    loop {
        match question().await {
            Err(error) => patience.wait(error).await?,
            answered => return answered,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn away() -> LogError {
        LogError::Stalled(Duration::ZERO, "reading".to_owned())
    }

    #[tokio::test]
    async fn it_is_asked_until_it_answers() {
        let asked = Cell::new(0);
        let answer = ask(|| async {
            asked.set(asked.get() + 1);
            match asked.get() {
                3 => Ok(7),
                _ => Err(away()),
            }
        });
        assert_eq!(answer.await.unwrap(), 7);
    }

    #[tokio::test]
    async fn what_does_not_pass_is_told_at_once() {
        let wrong = ask(async || Err::<(), _>(LogError::Topic("wrong".to_owned())));
        assert!(matches!(wrong.await, Err(LogError::Topic(_))));
    }

    #[tokio::test]
    async fn it_is_waited_for_so_long_and_anew_when_it_was_there() {
        let long_ago = Instant::now().checked_sub(AWAY_MAX).unwrap();
        let mut patience = Patience {
            since: Some(long_ago),
            ..Patience::default()
        };
        assert!(patience.wait(away()).await.is_err());
        patience.end();
        assert!(patience.wait(away()).await.is_ok());
    }
}
