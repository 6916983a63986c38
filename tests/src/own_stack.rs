//! A stack of a test's own, for what cannot be undone in the one that all share.

use std::{collections::BTreeMap, path::PathBuf, process::Command};

use crate::{
    environment,
    stack::{binary, exported, printed, remembered, script},
};

/// From the first port of the shared stack to that of this one.
const PORTS_BESIDE: u64 = 500;

/// A stack in a home of its own, gone when dropped.
pub struct OwnStack {
    home: PathBuf,
    port_base: u64,
}

impl OwnStack {
    /// Brings one up, and stops again what is not needed.
    pub async fn without(name: &str, not_needed: &[&str]) -> Self {
        let own = Self {
            home: environment::home().join(name),
            port_base: remembered("port_base").as_u64().expect("a port") + PORTS_BESIDE,
        };
        own.works(&["up"]).await;
        for each in not_needed {
            own.works(&["stop", each]).await;
        }
        own
    }

    /// Runs `scripts/stack` for it; what it printed, in success or failure.
    pub async fn run(&self, arguments: &[&str]) -> Result<String, String> {
        said(self.command(arguments)).await
    }

    /// The same, and fails unless that succeeds.
    pub async fn works(&self, arguments: &[&str]) -> String {
        match self.run(arguments).await {
            Ok(said) => said,
            Err(said) => panic!("scripts/stack {arguments:?}: {said}"),
        }
    }

    /// Runs a program of ours to its end with its settings; what it printed, in success or failure.
    pub async fn program(&self, program: &str, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(binary(program));
        command.args(arguments).envs(self.environment().await);
        said(command).await
    }

    /// What `scripts/stack env` says of it.
    pub async fn environment(&self) -> BTreeMap<String, String> {
        exported(&self.works(&["env"]).await)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(script());
        command
            .args(arguments)
            .env("ORDERLOG_HOME", &self.home)
            .env("ORDERLOG_PORT_BASE", self.port_base.to_string())
            .env(
                "ORDERLOG_BINARIES",
                remembered("binaries").as_str().expect("a directory"),
            );
        command
    }
}

/// Runs a command to its end; what it printed, in success or failure.
async fn said(command: Command) -> Result<String, String> {
    match printed(command).await {
        (true, printed) => Ok(printed),
        (false, printed) => Err(printed),
    }
}

impl Drop for OwnStack {
    fn drop(&mut self) {
        let ended = self.command(&["reset"]).output();
        // After a failed test a second panic would hide the first.
        if !std::thread::panicking() {
            let ended = ended.expect("scripts/stack");
            assert!(ended.status.success(), "{ended:?}");
        }
    }
}
