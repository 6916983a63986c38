//! What the command-api is told when it starts: arguments or environment variables, secrets as files.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use event_log::{KafkaSettings, topics::TopicSettings};
use events::ids::UserId;
use runtime::{postgres::PostgresSettings, trace::TraceSettings};
use zeroize::Zeroizing;

use crate::identity::{passwords::PasswordSettings, sessions::SessionSettings};

/// Takes commands about users and orders, decides them, and appends what happened to the log.
#[derive(Debug, Parser)]
#[command(name = "command-api", version)]
pub struct Settings {
    /// What is logged: a level, or levels per module, such as info,command_api=debug.
    #[arg(long, env = "LOG_FILTER", default_value = "info", global = true)]
    pub log_filter: String,
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
    pub passwords: PasswordSettings,
    #[command(flatten)]
    pub sessions: SessionSettings,
    #[command(flatten)]
    pub tracing: TraceSettings,
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
}
