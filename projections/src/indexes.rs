//! The vital task that makes the indexes which the live generation lacks: those that an operator has declared since it was
//! filled, or that whoever filled it did not know of.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::{
    model::Generation,
    store::{ReadModel, StoreError},
};

/// How often it is looked whether another generation is live, or tried again.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Makes them until `shutdown` is cancelled. Queries that need none of them are served meanwhile.
pub async fn make<M: ReadModel>(model: M, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut made = None;
    loop {
        let attempt = shutdown.run_until_cancelled(make_once(&model, made)).await;
        match attempt {
            None => return Ok(()),
            Some(Ok(generation)) => made = Some(generation),
            Some(Err(error)) => tracing::debug!(%error, "the indexes are not made yet"),
        }
        shutdown
            .run_until_cancelled(tokio::time::sleep(LOOK_EVERY))
            .await;
    }
}

async fn make_once<M: ReadModel>(
    model: &M,
    made: Option<Generation>,
) -> Result<Generation, StoreError> {
    let live = model.live().await?;
    if made != Some(live) {
        model.index(live).await?;
    }
    Ok(live)
}
