//! What is measured, for how long, and where the system is.

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use clap::Parser;
use event_log::KafkaSettings;

use crate::{http::Server, sections::Section};

const ORDERS_IN_LOG: &[u64] = &[10_000, 100_000, 1_000_000];
const QUICK_ORDERS_IN_LOG: &[u64] = &[2_000, 20_000];
const KEYS: u64 = 10_000_000;
const QUICK_KEYS: u64 = 20_000;

/// Measures a running Orderlog and writes what it found. Run it through scripts/bench, which brings the system up.
#[derive(Debug, Parser)]
pub struct Settings {
    /// How long each load is measured, in seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=600))]
    pub seconds: u16,
    /// How often everything is measured; the tables show medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub rounds: u8,
    /// One short round, to see that it works. Nothing is written.
    #[arg(long)]
    pub quick: bool,
    /// Prints the tables and leaves the document alone.
    #[arg(long)]
    pub print_only: bool,
    /// Only this: so many clients create orders for --seconds. Prints the rate; for looking at the system with a
    /// profiler meanwhile.
    #[arg(long, value_name = "CLIENTS", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub load: Option<u16>,
    /// Only these parts, separated by commas; by default all.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAME")]
    pub section: Vec<Section>,
    /// The same as --section traces --print-only.
    #[arg(long)]
    pub traces: bool,
    /// The same as --section gateway --print-only.
    #[arg(long)]
    pub gateway: bool,
    /// The document whose tables are replaced.
    #[arg(long, default_value = "docs/benchmarks.md")]
    pub document: PathBuf,
    /// Base URL of the gateway.
    #[arg(long, env = "ORDERLOG_URL")]
    pub url: String,
    /// Whom to trust there.
    #[arg(long, env = "ORDERLOG_CA_FILE")]
    pub ca_file: PathBuf,
    /// Base URLs of the command-api's nodes; the first is measured.
    #[arg(long, env = "ORDERLOG_COMMAND_URLS", value_delimiter = ',')]
    pub command_urls: Vec<String>,
    /// Base URL of the query API.
    #[arg(long, env = "ORDERLOG_QUERY_URL")]
    pub query_url: String,
    /// Connections of cqrs-es to Postgres; the default is that of postgres-es.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=150))]
    pub peer_connections: u16,
    /// The program that knows the processes of the stack.
    #[arg(long, env = "ORDERLOG_STACK_BIN", default_value = "scripts/stack")]
    pub stack: PathBuf,
    /// Where the built services are; by default where this program is.
    #[arg(long, env = "ORDERLOG_BINARIES")]
    pub binaries: Option<PathBuf>,
    #[command(flatten)]
    pub kafka: KafkaSettings,
}

impl Settings {
    /// What is to be measured.
    pub fn sections(&self) -> Vec<Section> {
        let mut sections = self.section.clone();
        sections.extend(self.traces.then_some(Section::Traces));
        sections.extend(self.gateway.then_some(Section::Gateway));
        match sections.is_empty() {
            true => Section::all(),
            false => sections,
        }
    }

    /// Whether what is measured goes into the document.
    pub fn writes(&self) -> bool {
        !(self.quick || self.print_only || self.traces || self.gateway)
    }

    /// How much is measured.
    pub fn extent(&self) -> Extent {
        if self.quick {
            Extent {
                measured_for: Duration::from_secs(2),
                warm_up: Duration::from_millis(500),
                rounds: 1,
                users: 100,
                orders_first: 1_000,
                orders_looked_for: 50,
                orders_in_log: QUICK_ORDERS_IN_LOG,
                keys: QUICK_KEYS,
                overload: Duration::from_secs(5),
            }
        } else {
            Extent {
                measured_for: Duration::from_secs(self.seconds.into()),
                warm_up: Duration::from_secs(1),
                rounds: self.rounds.into(),
                users: 1_000,
                orders_first: 10_000,
                orders_looked_for: 200,
                orders_in_log: ORDERS_IN_LOG,
                keys: KEYS,
                overload: Duration::from_secs(60),
            }
        }
    }

    /// host:port of the measured command node.
    pub fn command_address(&self) -> anyhow::Result<&str> {
        address(self.command_urls.first().map_or("", String::as_str))
    }

    /// The gateway.
    pub fn gateway_server(&self) -> anyhow::Result<Server> {
        let address = self.url.strip_prefix("https://");
        let address = address.map(|rest| rest.trim_end_matches('/'));
        let address =
            address.with_context(|| format!("{:?} does not begin with https://", self.url))?;
        Server::with_tls(address, &self.ca_file)
    }

    /// host:port of the query API.
    pub fn query_address(&self) -> anyhow::Result<&str> {
        address(&self.query_url)
    }
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// How long each load is measured.
    pub measured_for: Duration,
    /// How long each load runs before that.
    pub warm_up: Duration,
    /// How often.
    pub rounds: usize,
    /// Users that are registered.
    pub users: usize,
    /// Orders after which memory is looked at.
    pub orders_first: usize,
    /// Orders of which it is measured when they become visible.
    pub orders_looked_for: usize,
    /// Orders in the log at which a restart is measured; the largest is also what is read and rebuilt.
    pub orders_in_log: &'static [u64],
    /// Idempotency keys that are remembered at the same time.
    pub keys: u64,
    /// How long the system is overloaded.
    pub overload: Duration,
}

/// host:port of a URL.
pub fn address(url: &str) -> anyhow::Result<&str> {
    url.strip_prefix("http://")
        .map(|rest| rest.trim_end_matches('/'))
        .with_context(|| format!("{url:?} does not begin with http://"))
}
