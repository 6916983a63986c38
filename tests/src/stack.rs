//! The processes of the system under test: stopped, killed, paused and started again.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use reqwest::Method;

use crate::{environment, eventually, http::call};

/// After a fault ends, service is back within this time.
pub const BACK_WITHIN: Duration = Duration::from_secs(30);
/// Every process that a test may break, in the order they are started.
const BREAKABLE: [&str; 6] = [
    "postgres",
    "mongodb",
    "kafka",
    "command-api-1",
    "projections",
    "notifier",
];

/// Runs `scripts/stack`; the answer is what it printed.
pub async fn stack(arguments: &[&str]) -> String {
    let arguments: Vec<String> = arguments.iter().map(|each| (*each).to_owned()).collect();
    tokio::task::spawn_blocking(move || stack_now(&arguments))
        .await
        .expect("scripts/stack ran")
}

fn stack_now(arguments: &[String]) -> String {
    let script = std::env::var_os("ORDERLOG_STACK_BIN").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/stack"),
        PathBuf::from,
    );
    let ran = Command::new(&script)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", script.display()));
    assert!(
        ran.status.success(),
        "scripts/stack {arguments:?}: {}",
        String::from_utf8_lossy(&ran.stderr)
    );
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

/// What `scripts/stack env` says now.
pub async fn current_environment() -> BTreeMap<String, String> {
    stack(&["env"])
        .await
        .lines()
        .filter_map(|line| {
            let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
            Some((name.to_owned(), value.trim_matches('\'').to_owned()))
        })
        .collect()
}

/// When dropped, starts whatever does not run, and ends additional nodes and ordered faults.
pub struct MendedAtTheEnd;

impl Drop for MendedAtTheEnd {
    fn drop(&mut self) {
        // After a failed test nothing may fail here: a second panic would hide the first.
        let mend = || {
            for name in BREAKABLE {
                stack_now(&["start".to_owned(), name.to_owned()]);
            }
            stack_now(&["stop".to_owned(), "command-api-2".to_owned()]);
        };
        if std::panic::catch_unwind(mend).is_err() && !std::thread::panicking() {
            panic!("the stack could not be mended, see above");
        }
    }
}

/// A program of ours, started by a test with settings of its own; killed when dropped.
pub struct OwnProcess {
    name: String,
    child: Child,
}

impl OwnProcess {
    /// Starts `program` with the settings of the stack and those given.
    pub async fn start(
        name: &str,
        program: &str,
        arguments: &[&str],
        settings: &[(&str, &str)],
    ) -> Self {
        let log = environment::home().join("logs").join(format!("{name}.log"));
        let log = File::options()
            .create(true)
            .append(true)
            .open(log)
            .expect("a log file");
        let child = Command::new(binary(program))
            .args(arguments)
            .envs(current_environment().await)
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stderr(log.try_clone().expect("a log file"))
            .stdout(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        Self {
            name: name.to_owned(),
            child,
        }
    }

    /// Ends it with SIGKILL.
    pub fn kill(mut self) {
        assert!(
            self.child.try_wait().expect("its state").is_none(),
            "{} ended by itself",
            self.name
        );
        self.end();
    }

    fn end(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for OwnProcess {
    fn drop(&mut self) {
        self.end();
    }
}

/// Runs a program of ours to its end with the settings of the stack; success or not, and what it printed.
pub async fn run(program: &str, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(binary(program));
    command
        .args(arguments)
        .envs(current_environment().await)
        .stdin(Stdio::null());
    let ran = tokio::task::spawn_blocking(move || command.output())
        .await
        .expect("it ran")
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let printed = [ran.stdout, ran.stderr].concat();
    (
        ran.status.success(),
        String::from_utf8_lossy(&printed).into_owned(),
    )
}

/// `projections verify`: the read models equal the fold of the log.
pub async fn read_models_equal_the_log() {
    let (equal, printed) = run("projections", &["verify"]).await;
    assert!(equal, "projections verify: {printed}");
}

/// The program as this stack runs it.
fn binary(program: &str) -> PathBuf {
    let file = environment::home().join("stack.json");
    let chosen = std::fs::read_to_string(&file)
        .ok()
        .and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok())
        .and_then(|choices| Some(choices.get("binaries")?.as_str()?.to_owned()));
    match chosen {
        Some(directory) => Path::new(&directory).join(program),
        None => panic!("{}: not of a stack that is up", file.display()),
    }
}

/// Waits until a service says that it is ready.
pub async fn ready(base: &str) {
    eventually(
        &format!("{base} to be ready"),
        BACK_WITHIN,
        async || match call(Method::GET, base, "/readyz").try_send().await {
            Ok(answer) if answer.status == 200 => Ok(()),
            Ok(answer) => Err(format!("{answer:?}")),
            Err(error) => Err(error.to_string()),
        },
    )
    .await;
}
