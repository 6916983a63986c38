//! The settings of the read side. `projections serve --help` is the reference.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use event_log::{KafkaSettings, record::Place};
use mongodb::{
    Client, Database,
    options::{Acknowledgment, ClientOptions, WriteConcern},
};
use runtime::{postgres::PostgresSettings, telemetry::LogSettings, trace::TraceSettings};
use uuid::Uuid;

use crate::{
    model::{Generation, KEEP_MIN, Model},
    orders::list::AttributePaths,
};

/// How long MongoDB may take to be found before it counts as away.
const SERVER_SELECTION_TIMEOUT: Duration = Duration::from_secs(3);

/// Characters of a reason or a name.
const SAID_MAX: usize = 500;

/// A year.
const KEEP_SECONDS_MAX: u64 = 365 * 24 * 60 * 60;

/// The read side: folds the log into read models and answers queries from them.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Follows the log and answers queries until told to end.
    Serve(Box<ServeSettings>),
    /// Makes what this version of the program needs: read models that it stores otherwise than the version before are
    /// rebuilt. To be run before its `serve`, while the version before goes on serving.
    Prepare(PrepareSettings),
    /// Fills a new generation of a read model from the log, compares it, and swaps it in. Queries go on. One that was
    /// interrupted is gone on with.
    Rebuild(RebuildSettings),
    /// Drops a generation that is being filled, or that an interrupted rebuild has left.
    Cancel(CancelSettings),
    /// Goes back to the generation that was live before, once that has caught up with the log. Queries go on.
    Rollback(RollbackSettings),
    /// Compares read models with a fold of the log; exit code 1 when they differ.
    Verify(VerifySettings),
    /// Says which generations are live and how far behind the log they are.
    Status(StatusSettings),
    /// Prints every event of a user or an order, with places and metadata, and what is stored of it.
    Inspect(InspectSettings),
    /// Sets a record aside at which a partition has stopped, so that it goes on: the read model is from then on as if the record
    /// were not in the log. To be decided by somebody who has read what `status` says of it.
    Skip(SkipSettings),
    /// Lists the records that were set aside.
    Skipped(SkippedSettings),
    /// Prints the newest rows or documents as they are stored.
    Show(ShowSettings),
}

/// Where the log and the read models are.
#[derive(Debug, Clone, Args)]
pub struct Places {
    /// Where the log is.
    #[command(flatten)]
    pub kafka: KafkaSettings,
    /// Where users are.
    #[command(flatten)]
    pub postgres: PostgresSettings,
    /// Where orders are.
    #[command(flatten)]
    pub mongo: MongoSettings,
    /// What of the orders' attributes they are found by, `?attributes.<path>=<value>`: dotted paths with commas between
    /// them, 10 at most. Each costs an index; a new one is made when the service starts.
    #[arg(long, env = "ORDER_ATTRIBUTE_INDEXES", default_value = "")]
    pub order_attribute_indexes: AttributePaths,
}

/// Where MongoDB is.
#[derive(Clone, Args)]
pub struct MongoSettings {
    /// Connection string of MongoDB, mongodb://HOST:PORT.
    #[arg(long, env = "MONGODB_URI", hide_env_values = true)]
    pub mongodb_uri: String,
    /// The database in it.
    #[arg(long, env = "MONGODB_DATABASE", default_value = "orderlog")]
    pub mongodb_database: String,
}

impl std::fmt::Debug for MongoSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The connection string may hold a password.
        write!(f, "MongoSettings({})", self.mongodb_database)
    }
}

impl MongoSettings {
    /// The database, written with majority concern. Connects when it is first used; an error only when the
    /// connection string is none.
    pub async fn database(&self) -> anyhow::Result<Database> {
        let mut options = ClientOptions::parse(&self.mongodb_uri)
            .await
            .context("MONGODB_URI is not a connection string")?;
        options.app_name = Some("projections".into());
        options.server_selection_timeout = Some(SERVER_SELECTION_TIMEOUT);
        options.connect_timeout = Some(SERVER_SELECTION_TIMEOUT);
        options.write_concern = Some(WriteConcern::builder().w(Acknowledgment::Majority).build());
        Ok(Client::with_options(options)
            .context("MONGODB_URI")?
            .database(&self.mongodb_database))
    }
}

/// Settings of `projections serve`.
#[derive(Debug, Args)]
pub struct ServeSettings {
    /// Where the log and the read models are.
    #[command(flatten)]
    pub places: Places,
    /// Address to listen on, host:port.
    #[arg(long, env = "PROJECTIONS_LISTEN", default_value = "127.0.0.1:21008")]
    pub listen: SocketAddr,
    /// Address to listen on for gRPC, host:port.
    #[arg(
        long,
        env = "PROJECTIONS_GRPC_LISTEN",
        default_value = "127.0.0.1:21007"
    )]
    pub grpc_listen: SocketAddr,
    /// Threads that serve requests.
    #[arg(long, env = "PROJECTIONS_HTTP_WORKERS", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub http_workers: u8,
    /// File with the public key that access tokens are checked with, PEM.
    #[arg(long, env = "TOKEN_PUBLIC_KEY_FILE")]
    pub token_public_key_file: PathBuf,
    /// File with the key that the users' data keys are wrapped with.
    #[arg(long, env = "DATA_KEY_WRAPPING_KEY_FILE")]
    pub data_key_wrapping_key_file: PathBuf,
    /// Where spans go.
    #[command(flatten)]
    pub tracing: TraceSettings,
    /// What is logged.
    #[command(flatten)]
    pub log: LogSettings,
}

/// Settings of `projections prepare`.
#[derive(Debug, Args)]
pub struct PrepareSettings {
    /// Where the log and the read models are.
    #[command(flatten)]
    pub places: Places,
}

/// Settings of `projections cancel`.
#[derive(Debug, Args)]
pub struct CancelSettings {
    /// Which read model.
    pub model: Model,
    /// Where the log and the read models are.
    #[command(flatten)]
    pub places: Places,
}

/// Settings of `projections rollback`.
#[derive(Debug, Args)]
pub struct RollbackSettings {
    /// Which read model.
    pub model: Model,
    /// Which generation, as `projections status` lists them; the newest that is kept when none is named.
    #[arg(long, value_name = "gN")]
    pub to: Option<Generation>,
    /// For how long the generation that is live now is kept.
    #[command(flatten)]
    pub keep: Keep,
    /// Where the log and the read models are.
    #[command(flatten)]
    pub places: Places,
}

/// For how long one can go back.
#[derive(Debug, Clone, Copy, Args)]
pub struct Keep {
    /// For how long the generation that was live is kept, in seconds, so that one can go back to it.
    #[arg(long, value_name = "SECONDS", default_value_t = 24 * 60 * 60, value_parser = clap::value_parser!(u64).range(KEEP_MIN.as_secs()..=KEEP_SECONDS_MAX))]
    pub keep: u64,
}

impl Keep {
    /// The same as a duration.
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.keep)
    }
}

/// Settings of `projections rebuild`.
#[derive(Debug, Args)]
pub struct RebuildSettings {
    /// Which read model.
    pub model: Model,
    /// Begin another generation, and drop one that was begun and not finished.
    #[arg(long)]
    pub anew: bool,
    /// For how long the generation that is live now is kept.
    #[command(flatten)]
    pub keep: Keep,
    /// Where the log and the read models are.
    #[command(flatten)]
    pub places: Places,
}

/// Settings of `projections verify`.
#[derive(Debug, Args)]
pub struct VerifySettings {
    /// Which read model; every one when none is named.
    pub model: Option<Model>,
    /// One JSON object instead of text.
    #[arg(long)]
    pub json: bool,
    /// Where the log and the read models are.
    #[command(flatten)]
    pub places: Places,
}

/// Settings of `projections status`.
#[derive(Debug, Args)]
pub struct StatusSettings {
    /// One JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Where the log and the read models are.
    #[command(flatten)]
    pub places: Places,
}

/// Settings of `projections skip`.
#[derive(Debug, Args)]
pub struct SkipSettings {
    /// The record: <topic>/<partition>@<offset>, as `projections status` prints it.
    pub place: Place,
    /// Why, for those who find it set aside later.
    #[arg(long, value_parser = said)]
    pub reason: String,
    /// Who decides it.
    #[arg(long, env = "USER", value_parser = said)]
    pub operator: String,
    /// Where the log and the read models are.
    #[command(flatten)]
    pub places: Places,
}

/// What somebody says in a line.
fn said(text: &str) -> Result<String, String> {
    let text = text.trim();
    match text.chars().count() {
        0 => Err("it says nothing".to_owned()),
        1..=SAID_MAX if !text.chars().any(char::is_control) => Ok(text.to_owned()),
        _ => Err(format!("one line of {SAID_MAX} characters at most")),
    }
}

/// Settings of `projections skipped`.
#[derive(Debug, Args)]
pub struct SkippedSettings {
    /// One JSON object instead of text.
    #[arg(long)]
    pub json: bool,
    /// Where the log and the read models are.
    #[command(flatten)]
    pub places: Places,
}

/// Settings of `projections inspect`.
#[derive(Debug, Args)]
pub struct InspectSettings {
    /// What kind of thing.
    pub kind: Kind,
    /// Its id.
    pub id: Uuid,
    /// One JSON object instead of text.
    #[arg(long)]
    pub json: bool,
    /// Where the log and the read models are.
    #[command(flatten)]
    pub places: Places,
}

/// A kind of thing that there are streams of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// A user.
    User,
    /// An order.
    Order,
}

/// Settings of `projections show`.
#[derive(Debug, Args)]
pub struct ShowSettings {
    /// Which read model.
    pub model: Model,
    /// How many.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub limit: u16,
    /// Where the log and the read models are.
    #[command(flatten)]
    pub places: Places,
}
