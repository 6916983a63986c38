//! The real Prometheus with the configuration and the rules of `deploy/prometheus`, asking the stack under test.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    environment, eventually,
    gateway::free_address,
    http::{Answer, call},
};

/// Starting, and asking everybody and evaluating every rule twice.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
/// Where the files are that are tested.
const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");

/// A rule that it has loaded.
#[derive(Debug, Deserialize)]
pub struct Rule {
    /// The alert, or the metric that is recorded.
    pub name: String,
    /// The expression.
    pub query: String,
    health: String,
    #[serde(default, rename = "lastError")]
    last_error: String,
}

/// The labels of each series, by metric.
pub type Series = BTreeMap<String, BTreeSet<BTreeSet<String>>>;

/// One of a test's own; ended when dropped.
pub struct Prometheus {
    url: String,
    directory: PathBuf,
    process: Child,
}

impl Prometheus {
    /// Starts one, and waits until it has asked every process and evaluated every rule without an error.
    pub async fn start() -> Self {
        let listen = free_address();
        let directory =
            std::env::temp_dir().join(format!("orderlog-prometheus-{}", listen.replace(':', "-")));
        configure(&directory);
        let log = environment::home().join("logs/prometheus.log");
        let log = fs::File::create(log).expect("a log file");
        let process = Command::new(program("prometheus"))
            .arg(format!(
                "--config.file={}",
                directory.join("prometheus.yml").display()
            ))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.join("data").display()
            ))
            .arg(format!("--web.listen-address={listen}"))
            .stdin(Stdio::null())
            .stderr(log.try_clone().expect("a log file"))
            .stdout(log)
            .spawn()
            .expect("prometheus");
        let own = Self {
            url: format!("http://{listen}"),
            directory,
            process,
        };
        own.settled().await;
        own
    }

    async fn settled(&self) {
        eventually(
            "Prometheus to have asked everybody",
            SETTLED_WITHIN,
            async || {
                let answer = self.ask("/api/v1/targets?state=active").await?;
                let targets = answer["data"]["activeTargets"]
                    .as_array()
                    .cloned()
                    .unwrap_or_default();
                let jobs: BTreeSet<_> = targets
                    .iter()
                    .map(|each| each["labels"]["job"].to_string())
                    .collect();
                let away = targets.iter().find(|target| target["health"] != "up");
                match away {
                    Some(target) => {
                        Err(format!("{}: {}", target["scrapeUrl"], target["lastError"]))
                    }
                    None if jobs.len() < addresses().len() => Err(format!("only {jobs:?}")),
                    None => Ok(()),
                }
            },
        )
        .await;
        eventually("every rule to be evaluated", SETTLED_WITHIN, async || {
            let rules = self.rules().await?;
            match rules.iter().find(|rule| rule.health != "ok") {
                Some(rule) => Err(format!(
                    "{} is {}: {}",
                    rule.name, rule.health, rule.last_error
                )),
                None => Ok(()),
            }
        })
        .await;
    }

    /// All rules.
    ///
    /// # Errors
    /// What it says instead.
    pub async fn rules(&self) -> Result<Vec<Rule>, String> {
        let answer = self.ask("/api/v1/rules").await?;
        let groups = answer["data"]["groups"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let rules: Vec<Value> = groups
            .into_iter()
            .flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default())
            .collect();
        serde_json::from_value(json!(rules)).map_err(|error| error.to_string())
    }

    /// Evaluates an expression.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn evaluate(&self, expression: &str) -> Result<Value, String> {
        let mut url = reqwest::Url::parse(&self.url).expect("its address");
        url.query_pairs_mut().append_pair("query", expression);
        self.ask(&format!(
            "/api/v1/query?{}",
            url.query().unwrap_or_default()
        ))
        .await
    }

    /// Every series that it has.
    ///
    /// # Errors
    /// What it says instead.
    pub async fn series(&self) -> Result<Series, String> {
        let answer = self
            .ask("/api/v1/series?match[]=%7B__name__!%3D%22%22%7D")
            .await?;
        let all: Vec<BTreeMap<String, String>> =
            serde_json::from_value(answer["data"].clone()).map_err(|error| error.to_string())?;
        let mut series = Series::new();
        for mut labels in all {
            let name = labels.remove("__name__").unwrap_or_default();
            let labels = labels.into_keys().collect();
            series.entry(name).or_default().insert(labels);
        }
        Ok(series)
    }

    async fn ask(&self, path: &str) -> Result<Value, String> {
        let answer = call(Method::GET, &self.url, path)
            .patient()
            .try_send()
            .await;
        let answer: Answer = answer.map_err(|error| error.to_string())?;
        match answer.status {
            200 => Ok(answer.json()),
            _ => Err(String::from_utf8_lossy(&answer.body).into_owned()),
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// What `promtool` thinks of the names and descriptions in a scrape; nothing when all is as it should be.
pub fn advice(scraped: &str) -> String {
    let mut promtool = Command::new(program("promtool"))
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool");
    let mut stdin = promtool.stdin.take().expect("its standard input");
    stdin.write_all(scraped.as_bytes()).expect("to write to it");
    drop(stdin);
    let told = promtool.wait_with_output().expect("its end");
    String::from_utf8_lossy(&[told.stdout, told.stderr].concat()).into_owned()
}

/// What the panels of the dashboards ask Prometheus: the panel, and the expression.
pub fn panels() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for path in files(&Path::new(DEPLOY).join("grafana/dashboards")) {
        let text = fs::read_to_string(&path).expect("a dashboard");
        let dashboard: Value = serde_json::from_str(&text).expect("a dashboard");
        for panel in dashboard["panels"].as_array().expect("panels") {
            for target in panel["targets"].as_array().unwrap_or(&Vec::new()) {
                if target["datasource"]["type"] == "prometheus" {
                    let place = format!("{}: panel {}", dashboard["title"], panel["title"]);
                    found.push((
                        place,
                        target["expr"].as_str().unwrap_or_default().to_owned(),
                    ));
                }
            }
        }
    }
    found
}

/// The tested files with the addresses of this stack; who does not run here is not asked.
fn configure(directory: &Path) {
    let deploy = Path::new(DEPLOY).join("prometheus");
    for part in ["rules", "targets"] {
        fs::create_dir_all(directory.join(part)).expect("a directory");
    }
    fs::copy(
        deploy.join("prometheus.yml"),
        directory.join("prometheus.yml"),
    )
    .expect("a copy");
    for path in files(&deploy.join("rules")) {
        let name = path.file_name().unwrap_or_default();
        fs::copy(&path, directory.join("rules").join(name)).expect("a copy");
    }
    for (job, addresses) in addresses() {
        let groups = json!([{ "targets": addresses }]).to_string();
        fs::write(directory.join(format!("targets/{job}.json")), groups).expect("a file");
    }
}

/// Where the processes of this stack are, by job.
fn addresses() -> BTreeMap<&'static str, Vec<String>> {
    let of = |variable: &str| {
        environment::variable(variable)
            .split(',')
            .map(|url| url.trim_start_matches("http://").to_owned())
            .collect()
    };
    BTreeMap::from([
        ("command-api", of("ORDERLOG_COMMAND_URLS")),
        ("projections", of("ORDERLOG_QUERY_URL")),
        ("notifier", of("ORDERLOG_NOTIFIER_URL")),
        ("gateway", of("ORDERLOG_GATEWAY_ADMIN_URL")),
    ])
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("a directory");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    files
}

/// The system's, or Debian's, as the scripts get it.
fn program(name: &str) -> String {
    let found = Command::new("python3")
        .args(["-B", "-m", "orderlog_stack.tools", name])
        .env(
            "PYTHONPATH",
            concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts"),
        )
        .output()
        .expect("python3");
    assert!(
        found.status.success(),
        "{}",
        String::from_utf8_lossy(&found.stderr)
    );
    let printed = String::from_utf8_lossy(&found.stdout).into_owned();
    printed.lines().last().unwrap_or_default().to_owned()
}
