//! What the command-api is told when it starts: arguments or environment variables, secrets as files.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::ensure;
use clap::{Args, Parser, Subcommand};
use event_log::{KafkaSettings, topics::TopicSettings};
use events::ids::UserId;
use runtime::{postgres::PostgresSettings, telemetry::LogSettings, trace::TraceSettings};
use tonic::codegen::http::Uri;
use zeroize::Zeroizing;

use crate::{
    identity::{passwords::PasswordSettings, sessions::SessionSettings},
    shard::StateDirectory,
};

/// More characters than any name of a host and its port have.
const ADDRESS_CHARS_MAX: usize = 262;

/// Takes commands about users and orders, decides them, and appends what happened to the log.
#[derive(Debug, Parser)]
#[command(name = "command-api", version)]
pub struct Settings {
    #[command(flatten)]
    pub log: LogSettings,
    /// What to do.
    #[command(subcommand)]
    pub task: Task,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Task {
    /// Serve commands until told to end (SIGTERM).
    Serve(Box<ServeSettings>),
    /// Make topics, schemas and identity tables, or check that they are as they must be. Safe to repeat.
    Prepare(Box<PrepareSettings>),
    /// Write the secret files that a new installation needs. Keeps those that are there.
    CreateSecrets {
        /// The directory to write to.
        #[arg(long)]
        dir: PathBuf,
    },
    /// Make a user with the role admin, or give an existing one that role. Needs a serving command-api and,
    /// as proof of who asks, the signing key. Safe to repeat.
    CreateAdmin(CreateAdminSettings),
    /// Print what the log and the identity tables say about an erased user, as JSON. Reads the whole log; fails when
    /// he is not erased completely.
    ErasureReport(Box<ErasureReportSettings>),
    /// Compare the state stores of a node that does not run with the log. Reads the whole log; fails when one differs.
    VerifyState {
        #[command(flatten)]
        kafka: KafkaSettings,
        /// The directory with the node's state stores.
        #[arg(long, env = "COMMAND_API_STATE_DIR")]
        command_api_state_dir: PathBuf,
    },
}

/// What `serve` needs to know.
#[derive(Debug, Args)]
pub struct ServeSettings {
    /// Address and port to listen on.
    #[arg(long, env = "COMMAND_API_LISTEN", default_value = "127.0.0.1:21010")]
    pub command_api_listen: SocketAddr,
    /// Address and port to listen on for gRPC.
    #[arg(
        long,
        env = "COMMAND_API_GRPC_LISTEN",
        default_value = "127.0.0.1:21030"
    )]
    pub command_api_grpc_listen: SocketAddr,
    /// Address and port to listen on for other nodes, which forward what is for the shards of this one. Never public.
    #[arg(
        long,
        env = "COMMAND_API_NODE_LISTEN",
        default_value = "127.0.0.1:21060"
    )]
    pub command_api_node_listen: SocketAddr,
    /// Where other nodes reach that address: host:port. Default: the address itself.
    #[arg(long, env = "COMMAND_API_NODE_ADDRESS", value_parser = node_address)]
    pub command_api_node_address: Option<String>,
    /// The name of this node among all of them.
    #[arg(long, env = "COMMAND_API_INSTANCE", default_value = "command-api-1")]
    pub command_api_instance: String,
    /// Threads that serve requests.
    #[arg(long, env = "COMMAND_API_WORKERS", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub command_api_workers: u16,
    #[command(flatten)]
    pub kafka: KafkaSettings,
    #[command(flatten)]
    pub postgres: PostgresSettings,
    #[command(flatten)]
    pub keys: KeyFiles,
    #[command(flatten)]
    pub state: StateDirectory,
    #[command(flatten)]
    pub passwords: PasswordSettings,
    #[command(flatten)]
    pub sessions: SessionSettings,
    #[command(flatten)]
    pub tracing: TraceSettings,
}

impl ServeSettings {
    /// Where other nodes reach this one.
    pub fn node_address(&self) -> anyhow::Result<String> {
        if let Some(address) = &self.command_api_node_address {
            return Ok(address.clone());
        }
        let listen = self.command_api_node_listen;
        ensure!(
            !listen.ip().is_unspecified(),
            "COMMAND_API_NODE_LISTEN is {listen}, which says nothing about where other nodes reach this one: set \
             COMMAND_API_NODE_ADDRESS to HOST:PORT"
        );
        Ok(listen.to_string())
    }
}

fn is_host_and_port(uri: &Uri, text: &str) -> bool {
    let is_named = uri.host().is_some_and(|host| !host.is_empty());
    let is_all = uri.authority().is_some_and(|authority| authority == text);
    is_named && is_all && uri.port().is_some() && !text.contains('@')
}

/// `host:port` that is a part of a URL.
fn node_address(text: &str) -> Result<String, String> {
    let is_address = text.len() <= ADDRESS_CHARS_MAX
        && format!("http://{text}")
            .parse::<Uri>()
            .is_ok_and(|uri| is_host_and_port(&uri, text));
    match is_address {
        true => Ok(text.to_owned()),
        false => Err("must be HOST:PORT".to_owned()),
    }
}

/// Where the secrets are. `command-api create-secrets` writes such files.
#[derive(Debug, Args)]
pub struct KeyFiles {
    /// The P-256 private key that access tokens are signed with: PKCS#8 in PEM form.
    #[arg(long, env = "TOKEN_SIGNING_KEY_FILE")]
    pub token_signing_key_file: PathBuf,
    /// The public keys that access tokens are checked with: the signing key's and former ones, in PEM form.
    #[arg(long, env = "TOKEN_PUBLIC_KEY_FILE")]
    pub token_public_key_file: PathBuf,
    /// The key that users' data keys are wrapped with: 32 bytes in base64.
    #[arg(long, env = "DATA_KEY_WRAPPING_KEY_FILE")]
    pub data_key_wrapping_key_file: PathBuf,
    /// The key that e-mail addresses are hashed with: 32 bytes in base64.
    #[arg(long, env = "EMAIL_HASH_KEY_FILE")]
    pub email_hash_key_file: PathBuf,
}

/// What `prepare` needs to know.
#[derive(Debug, Args)]
pub struct PrepareSettings {
    #[command(flatten)]
    pub kafka: KafkaSettings,
    #[command(flatten)]
    pub topics: TopicSettings,
    #[command(flatten)]
    pub postgres: PostgresSettings,
}

/// What `create-admin` needs to know.
#[derive(Debug, Args)]
pub struct CreateAdminSettings {
    /// Base URLs of the command-api's nodes, separated by commas.
    #[arg(
        long,
        env = "ORDERLOG_COMMAND_URLS",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:21010"
    )]
    pub command_urls: Vec<String>,
    /// The admin's e-mail address.
    #[arg(long, env = "ORDERLOG_ADMIN_EMAIL")]
    pub admin_email: String,
    /// The admin's password. From the environment only: arguments show in lists of processes.
    #[arg(skip = admin_password())]
    pub admin_password: Option<Zeroizing<String>>,
    /// As for `serve`.
    #[arg(long, env = "TOKEN_SIGNING_KEY_FILE")]
    pub token_signing_key_file: PathBuf,
    /// As for `serve`.
    #[arg(long, env = "TOKEN_PUBLIC_KEY_FILE")]
    pub token_public_key_file: PathBuf,
}

/// What `erasure-report` needs to know.
#[derive(Debug, Args)]
pub struct ErasureReportSettings {
    /// The user's id.
    pub user_id: UserId,
    #[command(flatten)]
    pub kafka: KafkaSettings,
    #[command(flatten)]
    pub postgres: PostgresSettings,
    /// As for `serve`.
    #[arg(long, env = "DATA_KEY_WRAPPING_KEY_FILE")]
    pub data_key_wrapping_key_file: PathBuf,
}

fn admin_password() -> Option<Zeroizing<String>> {
    std::env::var("ORDERLOG_ADMIN_PASSWORD")
        .ok()
        .map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_settings_fit_together() {
        Settings::command().debug_assert();
    }

    #[test]
    fn a_node_is_reached_at_a_host_and_a_port() {
        for (text, good) in [
            ("10.0.0.1:8082", true),
            ("command-api:8082", true),
            ("[::1]:8082", true),
            ("command-api", false),
            ("command-api:", false),
            (":8082", false),
            ("command-api:8082/path", false),
            ("name@command-api:8082", false),
            ("http://command-api:8082", false),
            ("", false),
        ] {
            assert_eq!(node_address(text).is_ok(), good, "{text}");
        }
    }
}
