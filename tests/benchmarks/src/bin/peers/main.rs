//! What Orderlog's command-api is measured against: servers that take the same orders over the same HTTP layer and do less
//! with them. The benchmarks start them, each as a process of its own, so that its processor time can be told.
//!
//! They say where they listen on standard output, and end when their standard input does, which is when the benchmarks do.

mod bare;
mod echo;
mod order;
mod stored;

use std::{
    io::{Read, Write, stdin, stdout},
    net::SocketAddr,
    process::ExitCode,
    time::Duration,
};

use actix_web::{App, HttpServer, http::KeepAlive, web};
use anyhow::Context;
use clap::{Parser, Subcommand};

/// As many as the command-api has by default.
const WORKERS_DEFAULT: u16 = 2;
/// As the services of Orderlog have it.
const CONNECTIONS_MAX: usize = 10_000;
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// More than any order that is sent here.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Serves POST /orders in one of the ways that Orderlog is measured against.
#[derive(Debug, Parser)]
struct Settings {
    /// Address and port to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0", global = true)]
    listen: SocketAddr,
    /// Threads that serve requests.
    #[arg(long, default_value_t = WORKERS_DEFAULT, value_parser = clap::value_parser!(u16).range(1..=256), global = true)]
    workers: u16,
    #[command(subcommand)]
    way: Way,
}

#[derive(Debug, Subcommand)]
enum Way {
    /// Reads the order, and answers with it.
    Echo,
    /// The same, after the transaction that holds it: a queue, and one transaction for all that waits in it.
    Bare(bare::Settings),
    /// Stores the event with cqrs-es and postgres-es.
    CqrsEs(stored::Settings),
}

#[actix_web::main]
async fn main() -> ExitCode {
    match serve(Settings::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let Settings {
        listen,
        workers,
        way,
    } = settings;
    match way {
        Way::Echo => run(listen, workers, echo::routes).await,
        Way::Bare(settings) => {
            let queues = bare::Queues::start(&settings)?;
            run(listen, workers, move |config| bare::routes(config, &queues)).await
        }
        Way::CqrsEs(settings) => {
            let store = stored::Store::open(&settings).await?;
            let kept = store.clone();
            let ended = run(listen, workers, move |config| {
                stored::routes(config, &store);
            });
            ended.await?;
            kept.close().await;
            Ok(())
        }
    }
}

async fn run<F>(listen: SocketAddr, workers: u16, routes: F) -> anyhow::Result<()>
where
    F: Fn(&mut web::ServiceConfig) + Clone + Send + 'static,
{
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::PayloadConfig::new(BODY_BYTES_MAX))
            .configure(routes.clone())
    })
    .workers(workers.into())
    .max_connections(CONNECTIONS_MAX)
    .keep_alive(KeepAlive::Timeout(KEEP_ALIVE))
    .disable_signals()
    .bind(listen)
    .with_context(|| format!("{listen} cannot be listened on"))?;
    let address = server.addrs().first().copied().context("no address")?;
    let server = server.run();
    let handle = server.handle();
    writeln!(stdout(), "{address}")?;
    std::thread::Builder::new()
        .name("parent".into())
        .spawn(move || {
            // Whether it ends or breaks, nobody asks any more.
            stdin().read_to_end(&mut Vec::new()).ok();
            drop(handle.stop(false));
        })?;
    server.await.context("HTTP server")
}
