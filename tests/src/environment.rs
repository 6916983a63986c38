//! Where the system under test is: the variables that `scripts/stack env` prints.

use std::{env, path::PathBuf};

use event_log::KafkaSettings;

const HOW_TO: &str =
    "run scripts/test, or scripts/stack up and `eval \"$(scripts/stack env)\"` before cargo test";
/// The shortest that Kafka accepts; the tests join no group.
const SESSION_TIMEOUT_SECONDS: u16 = 6;

/// The value of a variable.
pub fn variable(name: &str) -> String {
    match env::var(name) {
        Ok(value) if !value.is_empty() => value,
        Ok(_) | Err(_) => panic!("{name} is not set: {HOW_TO}"),
    }
}

/// Base URL of the gateway.
pub fn url() -> String {
    variable("ORDERLOG_URL")
}

/// The authorities that the gateway's certificate is signed by.
pub fn authorities() -> Vec<reqwest::Certificate> {
    let file = variable("ORDERLOG_CA_FILE");
    let pem = std::fs::read(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
    reqwest::Certificate::from_pem_bundle(&pem).expect("certificates")
}

/// Base URL of the first command node.
pub fn command_url() -> String {
    let all = variable("ORDERLOG_COMMAND_URLS");
    all.split(',').next().unwrap_or_default().to_owned()
}

/// Base URL of a command node, whether it runs or not: they listen on ports that follow on each other.
pub fn node_url(number: u16) -> String {
    let first = command_url();
    let (host, port) = first.rsplit_once(':').expect("a port");
    let port: u16 = port.parse().expect("a port");
    format!("{host}:{}", port + number - 1)
}

/// Base URL of the query API.
pub fn query_url() -> String {
    variable("ORDERLOG_QUERY_URL")
}

/// Base URL of the notifier.
pub fn notifier_url() -> String {
    variable("ORDERLOG_NOTIFIER_URL")
}

/// Base URL of the stand-in for the providers.
pub fn providers_url() -> String {
    variable("ORDERLOG_PROVIDERS_URL")
}

/// Where the stack keeps its state and logs.
pub fn home() -> PathBuf {
    variable("ORDERLOG_HOME").into()
}

/// How to reach the log.
pub fn kafka() -> KafkaSettings {
    KafkaSettings {
        kafka_bootstrap_servers: variable("KAFKA_BOOTSTRAP_SERVERS"),
        schema_registry_url: variable("SCHEMA_REGISTRY_URL"),
        ownership_session_timeout_seconds: SESSION_TIMEOUT_SECONDS,
    }
}
