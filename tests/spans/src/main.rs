//! `spans`: the stand-in for a collector of traces, as a process.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use anyhow::{Context, anyhow};
use clap::Parser;
use spans::{http, kept::Kept, otlp};
use tonic::transport::server::TcpIncoming;
use tracing_subscriber::EnvFilter;

/// Receives spans by OTLP over gRPC, keeps the latest traces, and shows each as a tree.
///
/// For tests and demonstrations only.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Address to receive spans on, host:port.
    #[arg(long, env = "SPANS_OTLP_LISTEN", default_value = "127.0.0.1:21052")]
    otlp_listen: SocketAddr,

    /// Address to show traces on, host:port.
    #[arg(long, env = "SPANS_LISTEN", default_value = "127.0.0.1:21053")]
    listen: SocketAddr,

    /// What is logged, as a tracing filter.
    #[arg(long, env = "LOG_FILTER", default_value = "info")]
    log_filter: String,
}

#[actix_web::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let filter = EnvFilter::try_new(&args.log_filter).context("LOG_FILTER cannot be read")?;
    tracing_subscriber::fmt()
        .json()
        .with_env_filter(filter)
        .init();
    let kept = Arc::new(Kept::default());
    let receives = TcpIncoming::bind(args.otlp_listen)
        .with_context(|| format!("cannot listen on {}", args.otlp_listen))?;
    let shows = TcpListener::bind(args.listen)
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    let server = http::serve(shows, Arc::clone(&kept))?;
    tracing::info!(otlp = %args.otlp_listen, http = %args.listen, "listening");
    // Told to end, the one that shows ends; the other has nothing to finish.
    tokio::select! {
        shown = server => shown?,
        received = otlp::serve(receives, kept) => {
            received?;
            return Err(anyhow!("the receiver ended unasked"));
        }
    }
    tracing::info!("stopped");
    Ok(())
}
