//! A command node that reaches Kafka through a proxy of the test's.

use std::sync::{Mutex, PoisonError};

use crate::{
    environment::command_url,
    kafka_proxy::KafkaProxy,
    own_node::first_node,
    stack::{OwnProcess, ready, stack},
};

/// The shortest that Kafka accepts, so that a successor is soon there.
const SESSION_TIMEOUT_SECONDS: &str = "6";
/// Nothing listens on the first of all ports.
const NOBODY: &str = "127.0.0.1:1";

/// The first command node, started by the test in the place of the stack's own.
pub struct ProxiedNode {
    // Before the proxy, so that it is gone when the proxy goes.
    process: Mutex<Option<OwnProcess>>,
    settings: Vec<(&'static str, &'static str)>,
    /// What it reaches Kafka through.
    pub proxy: KafkaProxy,
}

impl ProxiedNode {
    /// Stops the stack's first node and starts one in its place, behind a proxy; returns when it is ready.
    pub async fn start() -> Self {
        Self::start_with(Vec::new()).await
    }

    /// The same; other nodes are told of an address where nobody is, so that they cannot forward anything to it.
    pub async fn start_out_of_reach() -> Self {
        Self::start_with(vec![("COMMAND_API_NODE_ADDRESS", NOBODY)]).await
    }

    async fn start_with(settings: Vec<(&'static str, &'static str)>) -> Self {
        stack(&["stop", "command-api-1"]).await;
        let node = Self {
            process: Mutex::default(),
            settings,
            proxy: KafkaProxy::start().await,
        };
        node.start_again().await;
        ready(&node.url()).await;
        node
    }

    /// Its base URL, that of the stack's first node.
    pub fn url(&self) -> String {
        command_url()
    }

    /// Ends it with SIGKILL. The proxy stays, and what it holds.
    pub fn kill(&self) {
        let killed = self.lock().take();
        killed.expect("a process").kill();
    }

    /// Starts it after it was killed; does not wait until it is ready.
    pub async fn start_again(&self) {
        let proxy = KafkaProxy::address();
        let mut settings = self.settings.clone();
        settings.extend([
            ("KAFKA_BOOTSTRAP_SERVERS", proxy.as_str()),
            ("OWNERSHIP_SESSION_TIMEOUT_SECONDS", SESSION_TIMEOUT_SECONDS),
        ]);
        let process = first_node("command-api-proxied", &settings).await;
        *self.lock() = Some(process);
    }

    /// Makes it stand still (SIGSTOP).
    pub async fn pause(&self) {
        self.signal("-STOP").await;
    }

    /// Lets it go on (SIGCONT).
    pub async fn resume(&self) {
        self.signal("-CONT").await;
    }

    async fn signal(&self, signal: &str) {
        let sent = self.lock().as_ref().map(|process| process.signal(signal));
        sent.expect("a process").await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<OwnProcess>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
