//! The vital task that makes the indexes which the served generation lacks: those that an operator has declared since it was
//! filled, or that whoever filled it did not know of.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::{live::Served, store::ReadModel};

/// The pause before it is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Makes them until `shutdown` is cancelled. Queries that need none of them are served meanwhile.
pub async fn make<M: ReadModel>(
    model: M,
    mut served: Served,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let make_on = async {
        let mut made = None;
        while let Some(generation) = served.other_than(made).await {
            match model.index(generation).await {
                Ok(()) => made = Some(generation),
                Err(error) => {
                    tracing::debug!(%error, "the indexes are not made yet");
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        }
        // The worker has ended, and the process is about to.
        std::future::pending::<()>().await;
    };
    shutdown.run_until_cancelled(make_on).await;
    Ok(())
}
