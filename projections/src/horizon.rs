//! How far the log reaches, asked for when somebody waits long: a consistency token beyond its end was never given out.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use event_log::{KafkaSettings, topics::high_watermarks};
use events::Topic;
use runtime::consistency::ConsistencyToken;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::model::Positions;

/// Whoever waits longer than this wants to know whether there is anything to wait for.
const WANTED_AFTER: Duration = Duration::from_millis(300);
/// Whoever has not been told wants to know it still.
const WANTED_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// The pause between two questions to Kafka, however many wait.
const PAUSE: Duration = Duration::from_millis(500);

/// When Kafka was asked, and what it said.
type Ends = Option<(Instant, Positions)>;

/// Where queries learn it.
#[derive(Debug, Clone)]
pub struct Horizon {
    wanted: Arc<Notify>,
    ends: watch::Receiver<Ends>,
}

/// What asks for it.
#[derive(Debug)]
pub struct Lookout {
    wanted: Arc<Notify>,
    ends: watch::Sender<Ends>,
}

/// Both ends.
pub fn horizon() -> (Lookout, Horizon) {
    let wanted = Arc::new(Notify::new());
    let (sender, ends) = watch::channel(None);
    let lookout = Lookout {
        wanted: Arc::clone(&wanted),
        ends: sender,
    };
    (lookout, Horizon { wanted, ends })
}

impl Lookout {
    /// The vital task: asks for the ends of `topic` whenever that is wanted, until `shutdown` is cancelled.
    pub async fn run(
        self,
        topic: Topic,
        kafka: KafkaSettings,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        while shutdown
            .run_until_cancelled(self.wanted.notified())
            .await
            .is_some()
        {
            let asked = Instant::now();
            match high_watermarks(&kafka, topic).await {
                Ok(ends) => drop(self.ends.send_replace(Some((asked, ends)))),
                Err(error) => tracing::debug!(%error, "the end of the log is not known"),
            }
            shutdown
                .run_until_cancelled(tokio::time::sleep(PAUSE))
                .await;
        }
        Ok(())
    }
}

impl Horizon {
    /// Returns when it is known that the log does not reach as far as `token`; else never.
    pub async fn is_short_of(&mut self, token: ConsistencyToken) {
        // What is known from before may be from before the command.
        let begun = Instant::now();
        tokio::time::sleep(WANTED_AFTER).await;
        loop {
            let known = self.ends.borrow_and_update().clone();
            if let Some((asked, ends)) = known
                && asked >= begun
            {
                let end = ends.get(&token.partition).copied().unwrap_or(0);
                if token.offset >= end {
                    return;
                }
                return std::future::pending().await;
            }
            self.wanted.notify_one();
            match tokio::time::timeout(WANTED_AGAIN_AFTER, self.ends.changed()).await {
                // Known, or not yet: Kafka may have been away.
                Ok(Ok(())) | Err(_) => {}
                Ok(Err(_)) => return std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn is_short(ends: Ends, offset: i64) -> bool {
        let (lookout, mut horizon) = horizon();
        let token = ConsistencyToken {
            topic: Topic::Orders,
            partition: 3,
            offset,
        };
        let asked = async {
            lookout.wanted.notified().await;
            lookout.ends.send_replace(ends);
            std::future::pending::<()>().await;
        };
        let short = tokio::time::timeout(Duration::from_secs(2), horizon.is_short_of(token));
        tokio::select! {
            short = short => short.is_ok(),
            () = asked => false,
        }
    }

    #[tokio::test]
    async fn a_token_that_the_log_does_not_reach_was_never_given_out() {
        let later = || Instant::now() + Duration::from_secs(1);
        assert!(is_short(Some((later(), Positions::from([(3, 7)]))), 7).await);
        assert!(
            is_short(Some((later(), Positions::from([(0, 7)]))), 0).await,
            "no such partition"
        );
        assert!(!is_short(Some((later(), Positions::from([(3, 8)]))), 7).await);
        // Asked before the query came: the command may be later.
        let before = Instant::now();
        assert!(!is_short(Some((before, Positions::from([(3, 7)]))), 7).await);
        assert!(!is_short(None, 7).await, "Kafka is away");
    }
}
