//! What can be measured, part by part; each part by itself, on a system that was just brought up.

mod cpu;
mod gateway;
mod keys;
mod latency;
mod logins;
mod nodes;
mod orders;
mod orders_report;
mod overload;
mod peers;
mod profile;
mod queries;
mod rebuild;
mod replay;
mod restart;
mod traces;

use clap::ValueEnum;

use crate::bench::Bench;

/// A part of the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Section {
    /// Orders per second, processor time, memory; with the read side held still and at work.
    Orders,
    /// Orders per second beside cqrs-es, the bare path and a bare producer.
    Peers,
    /// How long orders take at the rate that cqrs-es can just hold.
    Latency,
    /// Processor time per order beside an actix echo, and where it goes.
    Cpu,
    /// Starting with the state store and without, as the log grows.
    Restart,
    /// Millions of idempotency keys: memory, disk, and how long it takes to find one.
    Keys,
    /// What forwarding to another node costs.
    Nodes,
    /// Four times as many orders as can be taken.
    Overload,
    /// Orders while logins flood.
    Logins,
    /// What tracing costs.
    Traces,
    /// What the gateway adds.
    Gateway,
    /// Reading the log.
    Replay,
    /// Rebuilding the read models.
    Rebuild,
    /// Reading one order.
    Queries,
}

impl Section {
    /// In the document's markers and on the command line.
    pub fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Measures it; what comes of it is Markdown.
    pub async fn measure(self, bench: &mut Bench) -> anyhow::Result<String> {
        match self {
            Self::Orders => orders::measure(bench).await,
            Self::Peers => peers::measure(bench).await,
            Self::Latency => latency::measure(bench).await,
            Self::Cpu => cpu::measure(bench).await,
            Self::Restart => restart::measure(bench).await,
            Self::Keys => keys::measure(bench).await,
            Self::Nodes => nodes::measure(bench).await,
            Self::Overload => overload::measure(bench).await,
            Self::Logins => logins::measure(bench).await,
            Self::Traces => traces::measure(bench).await,
            Self::Gateway => gateway::measure(bench).await,
            Self::Replay => replay::measure(bench).await,
            Self::Rebuild => rebuild::measure(bench).await,
            Self::Queries => queries::measure(bench).await,
        }
    }
}
