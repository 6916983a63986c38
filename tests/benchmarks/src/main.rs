//! Measures Orderlog on the machine it runs on. `scripts/bench` brings a system up and runs this; the tables go into
//! docs/benchmarks.md. Nothing here fails because something is slow.

mod bench;
mod echo;
mod gateway;
mod http;
mod load;
mod orders;
mod people;
mod processes;
mod producer;
mod read_side;
mod replay;
mod report;
mod settings;
mod statistics;
mod traces;

use std::process::ExitCode;

use clap::Parser;
use settings::Settings;

fn main() -> ExitCode {
    // Fails only when a provider is installed already, which is as good.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    match measure(Settings::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(settings: Settings) -> anyhow::Result<()> {
    // One thread: the load shares the cores with what it loads.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    if let Some(clients) = settings.load {
        return runtime.block_on(bench::load(settings, clients.into()));
    }
    if settings.traces {
        return runtime.block_on(bench::traces(settings));
    }
    if settings.gateway {
        return runtime.block_on(bench::gateway(settings));
    }
    let document = (!settings.quick && !settings.print_only).then(|| settings.document.clone());
    let tables = report::tables(&runtime.block_on(bench::run(settings))?);
    println!("{tables}");
    match document {
        Some(document) => report::write(&document, &tables),
        None => Ok(()),
    }
}
