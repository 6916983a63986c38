//! What queries see: the live generation and how far it is; and the waiting for it to get further.

use std::time::Duration;

use runtime::consistency::ConsistencyToken;
use tokio::sync::watch;

use crate::model::{Generation, Positions, has_reached};

/// The generation that queries are answered from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Which.
    pub generation: Generation,
    /// How far it is, at least.
    pub positions: Positions,
}

/// Where the worker of a read model tells how far it is.
#[derive(Debug)]
pub struct Live(watch::Sender<Option<View>>);

/// Where queries learn it.
#[derive(Debug, Clone)]
pub struct Served(watch::Receiver<Option<View>>);

/// The read model has not got there in the time given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotReached;

/// A channel from the worker to queries; nothing is served yet.
pub fn channel() -> (Live, Served) {
    let (sender, receiver) = watch::channel(None);
    (Live(sender), Served(receiver))
}

impl Live {
    /// Tells how far `generation` is. One that is behind what was told before is held back until it has caught
    /// up, so that nobody reads what is older than what he has read.
    pub fn tell(&self, generation: Generation, positions: &Positions) {
        self.0.send_if_modified(|view| match view {
            Some(view) if !has_reached(positions, &view.positions) => false,
            Some(view) if view.generation == generation && view.positions == *positions => false,
            Some(_) | None => {
                *view = Some(View {
                    generation,
                    positions: positions.clone(),
                });
                true
            }
        });
    }

    /// How far `generation` is known to be, if it is the one that is served.
    pub fn known(&self, generation: Generation) -> Option<Positions> {
        let view = self.0.borrow();
        let view = view.as_ref().filter(|view| view.generation == generation);
        view.map(|view| view.positions.clone())
    }
}

impl Served {
    /// What is served now; `None` before the worker has told anything.
    pub fn view(&self) -> Option<View> {
        self.0.borrow().clone()
    }

    /// Waits until another generation than `known` is served; `None` when the worker has ended.
    pub async fn other_than(&mut self, known: Option<Generation>) -> Option<Generation> {
        let is_other = |view: &Option<View>| {
            let served = view.as_ref().map(|view| view.generation);
            served.is_some() && served != known
        };
        let view = self.0.wait_for(is_other).await.ok()?;
        view.as_ref().map(|view| view.generation)
    }

    /// Waits until the read model reflects `token`.
    pub async fn reached(
        &mut self,
        token: ConsistencyToken,
        patience: Duration,
    ) -> Result<(), NotReached> {
        let is_reached = |view: &Option<View>| {
            let position = view
                .as_ref()
                .and_then(|view| view.positions.get(&token.partition));
            position.is_some_and(|position| token.is_reached_by(*position))
        };
        let waiting = self.0.wait_for(is_reached);
        match tokio::time::timeout(patience, waiting).await {
            Ok(Ok(_)) => Ok(()),
            // The worker has ended, and the process is about to.
            Ok(Err(_)) | Err(_) => Err(NotReached),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use events::Topic;

    const FIRST: Generation = Generation(1);
    const SECOND: Generation = Generation(2);

    fn token(offset: i64) -> ConsistencyToken {
        ConsistencyToken {
            topic: Topic::Orders,
            partition: 3,
            offset,
        }
    }

    #[tokio::test]
    async fn a_query_waits_until_its_token_is_reached_and_no_longer() {
        let (live, mut served) = channel();
        live.tell(FIRST, &Positions::from([(3, 5)]));
        assert_eq!(served.reached(token(4), Duration::ZERO).await, Ok(()));
        assert_eq!(
            served.reached(token(5), Duration::ZERO).await,
            Err(NotReached)
        );
        let waiting =
            tokio::spawn(async move { served.reached(token(5), Duration::from_secs(60)).await });
        live.tell(FIRST, &Positions::from([(3, 6)]));
        assert_eq!(waiting.await.unwrap(), Ok(()));
    }

    #[test]
    fn a_new_generation_is_served_once_it_has_caught_up() {
        let (live, served) = channel();
        live.tell(FIRST, &Positions::from([(0, 7), (3, 5)]));
        live.tell(SECOND, &Positions::from([(0, 7), (3, 4)]));
        assert_eq!(served.view().unwrap().generation, FIRST);
        live.tell(SECOND, &Positions::from([(0, 7), (3, 5)]));
        assert_eq!(served.view().unwrap().generation, SECOND);
    }

    #[tokio::test]
    async fn another_generation_is_noticed() {
        let (live, mut served) = channel();
        live.tell(FIRST, &Positions::new());
        assert_eq!(served.other_than(None).await, Some(FIRST));
        let waiting = tokio::spawn(async move { served.other_than(Some(FIRST)).await });
        live.tell(FIRST, &Positions::from([(0, 7)]));
        live.tell(SECOND, &Positions::from([(0, 7)]));
        assert_eq!(waiting.await.unwrap(), Some(SECOND));
    }
}
