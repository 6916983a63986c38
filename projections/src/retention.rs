//! The vital task that drops the generations of a read model that nobody needs any more.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::{
    rebuild::drop_outdated,
    store::{ReadModel, StoreError, within},
};

/// How often it is looked for them.
const EVERY: Duration = Duration::from_secs(60);
/// How long dropping may take.
const DROP_TIMEOUT_S: u64 = 60;

/// Drops them until `shutdown` is cancelled. Several processes may do it at once.
pub async fn keep<M: ReadModel>(model: M, shutdown: CancellationToken) -> anyhow::Result<()> {
    let dropped = |line: String| tracing::info!(model = M::MODEL.name(), "{line}");
    while shutdown
        .run_until_cancelled(tokio::time::sleep(EVERY))
        .await
        .is_some()
    {
        match within(DROP_TIMEOUT_S, drop_outdated(&model, &mut { dropped })).await {
            Ok(()) => {}
            // The worker says that the database is away, and more often.
            Err(StoreError::Late(_) | StoreError::NotBuilt(..)) => {}
            Err(error) => {
                tracing::warn!(model = M::MODEL.name(), %error, "nothing is dropped now");
            }
        }
    }
    Ok(())
}
