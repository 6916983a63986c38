//! The request to end, as it comes from outside.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled when the process receives SIGTERM or SIGINT for the first time; a second
/// signal ends the process at once, with the exit code of a failure.
/// Must be called within a tokio runtime; fails when the signals cannot be listened to.
pub fn on_signal() -> std::io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let (terminate, interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    tokio::spawn(watch(terminate, interrupt, token.clone()));
    Ok(token)
}

async fn watch(mut terminate: Signal, mut interrupt: Signal, token: CancellationToken) {
    let mut next = async || {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    let signal = next().await;
    tracing::info!(
        signal,
        "ending: taking no new work, finishing what was begun"
    );
    token.cancel();
    let signal = next().await;
    tracing::warn!(signal, "ending at once");
    std::process::exit(1);
}
