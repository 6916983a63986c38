//! The whole system as its clients and operators see it: typed calls, the log, the databases, the processes.
//!
//! Whatever is not as expected fails the test on the spot, with the request and the answer. Every test makes its
//! own users; a test waits for a condition ([`eventually`]) or for a `Consistency-Token`, never for a time.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "what tests are made of: a failure here is a failed test"
)]

pub mod checker;
pub mod client;
pub mod databases;
pub mod described;
pub mod doors;
pub mod environment;
pub mod facts;
pub mod fault;
pub mod gateway;
pub mod grpc;
pub mod history;
pub mod http;
pub mod kafka_proxy;
pub mod log;
pub mod nodes;
pub mod orders;
pub mod own_node;
pub mod own_stack;
pub mod people;
pub mod postbox;
pub mod prometheus;
pub mod promql;
pub mod proxied;
pub mod refusing;
pub mod searched;
pub mod stack;
pub mod stranger;
pub mod tls;
pub mod traces;
pub mod workload;

use std::{
    future::Future,
    sync::{LazyLock, PoisonError, RwLock},
    time::{Duration, Instant},
};

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// One runtime for all tests, so that they can share connections.
static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    // Fails only when a provider is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
});

/// Held for reading by tests that need the system to be well, for writing by those that break it.
static SYSTEM: RwLock<()> = RwLock::new(());

/// Runs a test that leaves all processes alone; others of its kind may run beside it.
pub fn beside_others<T>(test: impl Future<Output = T>) -> T {
    let _well = SYSTEM.read().unwrap_or_else(PoisonError::into_inner);
    RUNTIME.block_on(test)
}

/// Runs a test that stops, kills or starts processes: nothing else runs meanwhile, and whatever it left broken
/// is mended, also when it fails.
pub fn alone<T>(test: impl Future<Output = T>) -> T {
    let _mine = SYSTEM.write().unwrap_or_else(PoisonError::into_inner);
    let _mended = MendedAtTheEnd;
    RUNTIME.block_on(test)
}

/// When dropped, mends the system.
struct MendedAtTheEnd;

impl Drop for MendedAtTheEnd {
    fn drop(&mut self) {
        // After a failed test nothing may fail here: a second panic would hide the first.
        let mended = std::panic::catch_unwind(|| RUNTIME.block_on(stack::mend()));
        if mended.is_err() && !std::thread::panicking() {
            panic!("the stack could not be mended, see above");
        }
    }
}

/// Waits until `look` finds what it looks for; fails after `patience` with what it found last.
pub async fn eventually<T>(
    what: &str,
    patience: Duration,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let begun = Instant::now();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(found) if begun.elapsed() > patience => {
                panic!("{what}: not within {patience:?}; at last: {found}")
            }
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}
