//! The servers that Orderlog is measured against, each a process of its own.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{bench::Bench, processes::Stack};
use anyhow::{Context, ensure};

/// How long one may take to end when it is asked to.
const END_WITHIN: Duration = Duration::from_secs(40);
const END_CHECK: Duration = Duration::from_millis(10);
const PROGRAM: &str = "peers";

/// What a peer does with an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// Answers with it.
    Echo,
    /// The bare path to the log.
    BarePath,
    /// `cqrs-es` in Postgres.
    CqrsEs,
    /// The same, where a commit is answered before it is on disk.
    CqrsEsAsync,
}

impl Peer {
    /// In tables, and among the processes whose time is told.
    pub fn name(self) -> &'static str {
        match self {
            Self::Echo => "actix echo",
            Self::BarePath => "bare path",
            Self::CqrsEs => "cqrs-es",
            Self::CqrsEsAsync => "cqrs-es, asynchronous commit",
        }
    }
}

/// A peer that runs; ends when dropped.
pub struct Running {
    child: Child,
    name: &'static str,
    /// host:port.
    pub address: String,
}

impl Running {
    /// Starts a peer, and counts its processor time among those of the stack. The bare path writes to `topic`.
    pub fn start(peer: Peer, bench: &mut Bench, topic: &str) -> anyhow::Result<Self> {
        let (kafka, connections) = (&bench.settings.kafka, bench.settings.peer_connections);
        let own = std::env::current_exe()?;
        let program = own.parent().context("no directory")?.join(PROGRAM);
        let mut command = Command::new(&program);
        match peer {
            Peer::Echo => command.arg("echo"),
            Peer::BarePath => command
                .args(["bare", "--topic", topic])
                .args(["--writers", &bench.writers().to_string()])
                .args(["--kafka", &kafka.kafka_bootstrap_servers]),
            Peer::CqrsEs | Peer::CqrsEsAsync => command
                .args(["cqrs-es", "--connections", &connections.to_string()])
                .args((peer == Peer::CqrsEsAsync).then_some("--asynchronous-commit")),
        };
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} cannot be run", program.display()))?;
        let mut address = String::new();
        let output = child.stdout.take().context("no output")?;
        BufReader::new(output).read_line(&mut address)?;
        let (name, address) = (peer.name(), address.trim().to_owned());
        bench.stack.processes.push((name.to_owned(), child.id()));
        // From here on it is ended when this is dropped.
        let running = Self {
            child,
            name,
            address,
        };
        ensure!(!running.address.is_empty(), "{name} did not start");
        Ok(running)
    }

    /// Ends it, and forgets it among the processes of the stack.
    pub fn end(self, stack: &mut Stack) {
        stack.processes.retain(|(name, _)| name != self.name);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let asked = Instant::now();
        while asked.elapsed() < END_WITHIN {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            std::thread::sleep(END_CHECK);
        }
        eprintln!("bench: {} does not end, and is killed", self.name);
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
