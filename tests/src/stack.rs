//! The processes of the system under test: stopped, killed, paused and started again.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use event_log::topics::{end_positions, partition_count};
use events::{Topic, partition::partition_of};
use reqwest::Method;

use crate::{
    environment, eventually,
    http::call,
    people::{self, User},
    postbox::mend_providers,
    refusing,
};

/// After a fault ends, service is back within this time.
pub const BACK_WITHIN: Duration = Duration::from_secs(30);
/// After the worst of faults the read side has caught up within this time.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(180);
/// How long a command of the stack or of ours may take: longer than `scripts/stack` waits for anything.
const COMMAND_WITHIN: Duration = Duration::from_secs(240);
/// Every process that a test may break, in the order they are started.
const BREAKABLE: [&str; 9] = [
    "spans",
    "postgres",
    "mongodb",
    "kafka",
    "registry",
    "command-api-1",
    "projections",
    "notifier",
    "gateway",
];

/// Runs `scripts/stack`; the answer is what it printed.
pub async fn stack(arguments: &[&str]) -> String {
    let mut command = Command::new(script());
    command.args(arguments);
    let ran = run_to_its_end(command).await;
    assert!(
        ran.status.success(),
        "scripts/stack {arguments:?}: {}",
        String::from_utf8_lossy(&ran.stderr)
    );
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

/// `scripts/stack` itself.
pub(crate) fn script() -> PathBuf {
    std::env::var_os("ORDERLOG_STACK_BIN").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/stack"),
        PathBuf::from,
    )
}

/// Runs a command with nothing to read; fails when it takes longer than [`COMMAND_WITHIN`], and ends it then.
pub(crate) async fn run_to_its_end(mut command: Command) -> Output {
    command.stdin(Stdio::null());
    let shown = format!("{command:?}");
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true);
    tokio::time::timeout(COMMAND_WITHIN, command.output())
        .await
        .unwrap_or_else(|_| panic!("{shown}: not within {COMMAND_WITHIN:?}"))
        .unwrap_or_else(|error| panic!("{shown}: {error}"))
}

/// What `scripts/stack env` says now.
pub async fn current_environment() -> BTreeMap<String, String> {
    exported(&stack(&["env"]).await)
}

/// The variables in lines of `export NAME='value'`.
pub(crate) fn exported(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| {
            let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
            Some((name.to_owned(), value.trim_matches('\'').to_owned()))
        })
        .collect()
}

/// Starts whatever does not run, ends additional nodes and ordered faults, and waits until every shard is at home.
pub async fn mend() {
    for name in BREAKABLE {
        stack(&["start", name]).await;
    }
    for added in ["command-api-2", "command-api-3"] {
        stack(&["stop", added]).await;
    }
    refusing::take_writes().await;
    mend_providers().await;
    for base in [
        environment::command_url(),
        environment::query_url(),
        environment::notifier_url(),
        environment::url(),
    ] {
        ready(&base).await;
    }
    all_partitions_are_followed().await;
    let admin = people::admin().await;
    every_shard_is_at_home(&admin).await;
    read_models_have_caught_up(&admin).await;
}

/// Waits until the stack's process of the read side has every partition: one that a test killed beside it is waited for by the
/// group.
async fn all_partitions_are_followed() {
    let partitions = partition_count(&environment::kafka()).await;
    let all = f64::from(2 * partitions.expect("the number of partitions"));
    eventually("all partitions to be followed", BACK_WITHIN, async || {
        let own = counter(&environment::query_url(), "projections_own_partitions").await;
        match (own - all).abs() < f64::EPSILON {
            true => Ok(()),
            false => Err(format!("{own} of {all}")),
        }
    })
    .await;
}

/// Waits until queries see all that is in the log, so that no later test waits for what an earlier one ordered.
async fn read_models_have_caught_up(admin: &User) {
    for (topic, path) in [(Topic::Users, "/users"), (Topic::Orders, "/orders")] {
        let ends = end_positions(&environment::kafka(), topic).await;
        for (partition, end) in ends.expect("the ends of the log") {
            // What lies there last is the marker of a transaction, behind the last event.
            let last = end - 2;
            if last < 0 {
                continue;
            }
            let token = format!("{}-{partition}-{last}", topic.name());
            eventually("read models to catch up", CAUGHT_UP_WITHIN, async || {
                let query = admin.query(path).after(&token).header("prefer", "wait=10");
                match query.try_send().await {
                    Ok(answer) if answer.status == 200 => Ok(()),
                    other => Err(format!("{token}: {other:?}")),
                }
            })
            .await;
        }
    }
}

/// Waits until every shard is answered for: an order that does not exist is not found there.
async fn every_shard_is_at_home(admin: &User) {
    let partitions = partition_count(&environment::kafka())
        .await
        .expect("the number of partitions");
    for shard in 0..partitions {
        let id = std::iter::repeat_with(uuid::Uuid::now_v7)
            .find(|id| partition_of(id.to_string().as_bytes(), partitions) == shard);
        let path = format!("/orders/{}/cancel", id.expect("an id on the shard"));
        eventually("every shard to be at home", BACK_WITHIN, async || {
            // A connection that was kept from before the fault may be closed by now.
            match admin.command(Method::POST, &path).try_send().await {
                Ok(answer) if answer.status == 404 => Ok(()),
                other => Err(format!("shard {shard}: {other:?}")),
            }
        })
        .await;
    }
}

/// Starts a process after a fault, which ends with that; returns when it is ready and `serves` says that service
/// is back. Fails when both together take longer than [`BACK_WITHIN`].
pub async fn recovers(name: &str, serves: impl AsyncFnOnce()) {
    let begun = Instant::now();
    stack(&["start", name]).await;
    serves().await;
    let took = begun.elapsed();
    assert!(
        took <= BACK_WITHIN,
        "{name}: service was back after {took:?}"
    );
}

/// The value of a counter that a service shows, all its series together; fails when it shows none.
pub async fn counter(base: &str, name: &str) -> f64 {
    counter_of(base, name, &[]).await
}

/// The same of those of its series that have these labels.
pub async fn counter_of(base: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let answer = call(Method::GET, base, "/metrics").send().await.is(200);
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let labels: Vec<String> = labels
        .iter()
        .map(|(label, value)| format!("{label}=\"{value}\""))
        .collect();
    let values: Vec<f64> = text
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix([' ', '{']))
        .filter(|rest| labels.iter().all(|label| rest.contains(label)))
        .filter_map(|rest| rest.rsplit(' ').next()?.parse().ok())
        .collect();
    assert!(
        !values.is_empty(),
        "{base}/metrics has no {name} {labels:?}"
    );
    values.iter().sum()
}

/// Resident memory of a process, in bytes.
pub async fn memory_of(name: &str) -> u64 {
    let status = stack(&["status"]).await;
    let pid = status.lines().find_map(|line| {
        let mut columns = line.split_whitespace();
        (columns.next()? == name).then(|| columns.nth(1))?
    });
    let pid = pid.expect("a process that runs");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its state");
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
    let kilobytes: u64 = resident
        .and_then(|text| text.parse().ok())
        .expect("its memory");
    kilobytes * 1024
}

/// A program of ours, started by a test with settings of its own; killed when dropped.
pub struct OwnProcess {
    name: String,
    child: Child,
    log: PathBuf,
    /// How long the log was when it was started.
    said_before: usize,
}

impl OwnProcess {
    /// Starts `program` with the settings of the stack and those given.
    pub async fn start(
        name: &str,
        program: &str,
        arguments: &[&str],
        settings: &[(&str, &str)],
    ) -> Self {
        let path = environment::home().join("logs").join(format!("{name}.log"));
        let log = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .expect("a log file");
        let said_before = std::fs::read(&path).expect("the log").len();
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
            log: path,
            said_before,
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

    /// Tells it to end, and waits until it has.
    pub async fn ends(mut self) {
        self.signal("-TERM").await;
        let name = self.name.clone();
        eventually(&format!("{name} to end"), BACK_WITHIN, async || match self
            .child
            .try_wait()
            .expect("its state")
        {
            Some(_) => Ok(()),
            None => Err("it runs".to_owned()),
        })
        .await;
    }

    /// Waits until it says something.
    pub async fn says(&self, what: &str, within: Duration) {
        let looked = format!("{} to say {what:?}", self.name);
        eventually(&looked, within, async || {
            let said = std::fs::read(&self.log).expect("the log");
            let said = String::from_utf8_lossy(said.get(self.said_before..).unwrap_or_default());
            match said.contains(what) {
                true => Ok(()),
                false => Err(said.into_owned()),
            }
        })
        .await;
    }

    /// Waits until it has ended by itself, and well.
    pub async fn succeeds(mut self, within: Duration) {
        let name = self.name.clone();
        let ended = async || match self.child.try_wait().expect("its state") {
            Some(status) => Ok(status),
            None => Err("it runs".to_owned()),
        };
        let status = eventually(&format!("{name} to end"), within, ended).await;
        assert!(status.success(), "{name}: {status}, see its log");
    }

    /// Sends it a signal, such as `-STOP`.
    pub fn signal(&self, signal: &str) -> impl Future<Output = ()> + use<> {
        let mut command = Command::new("kill");
        command.args([signal, &self.child.id().to_string()]);
        async move {
            let ran = run_to_its_end(command).await;
            assert!(ran.status.success(), "{ran:?}");
        }
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
    command.args(arguments).envs(current_environment().await);
    printed(command).await
}

/// Runs a command to its end; success or not, and what it printed.
pub(crate) async fn printed(command: Command) -> (bool, String) {
    let ran = run_to_its_end(command).await;
    let printed = [ran.stdout, ran.stderr].concat();
    (
        ran.status.success(),
        String::from_utf8_lossy(&printed).into_owned(),
    )
}

/// Runs a program of ours as [`run`] does, and kills it after so long; whether it had not ended yet.
pub async fn killed_after(program: &str, arguments: &[&str], time: Duration) -> bool {
    let mut command = tokio::process::Command::new(binary(program));
    command
        .args(arguments)
        .envs(current_environment().await)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().expect("a process");
    let is_running = tokio::time::timeout(time, child.wait()).await.is_err();
    child.kill().await.expect("killed, or ended");
    is_running
}

/// `projections verify`: the read models equal the fold of the log.
pub async fn read_models_equal_the_log() {
    let (equal, printed) = run("projections", &["verify"]).await;
    assert!(equal, "projections verify: {printed}");
}

/// The number of the generation that serves a read model.
pub async fn live(model: &str) -> i64 {
    let (done, printed) = run("projections", &["status", "--json"]).await;
    assert!(done, "{printed}");
    let status: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
    status[model]["generation"].as_i64().expect("a number")
}

/// The program as this stack runs it.
pub(crate) fn binary(program: &str) -> PathBuf {
    let directory = remembered("binaries");
    Path::new(directory.as_str().expect("a directory")).join(program)
}

/// What this stack remembers of how it was brought up.
pub(crate) fn remembered(name: &str) -> serde_json::Value {
    let file = environment::home().join("stack.json");
    let choices = std::fs::read_to_string(&file)
        .ok()
        .and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    match choices.and_then(|mut choices| Some(choices.get_mut(name)?.take())) {
        Some(choice) => choice,
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
