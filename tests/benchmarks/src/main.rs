//! Measures Orderlog on the machine it runs on. `scripts/bench` brings a system up and runs this; the tables go into
//! docs/benchmarks.md. Nothing here fails because something is slow.

mod bare_databases;
mod bench;
mod costs;
mod document;
mod echo;
mod filling;
mod goals;
mod http;
mod load;
mod metrics;
mod orders;
mod paced;
mod peer;
mod people;
mod processes;
mod read_side;
mod reading;
mod sections;
mod settings;
mod table;

use std::process::ExitCode;

use bench::{Bench, say};
use benchmarks::{producer, statistics};
use clap::Parser;
use sections::Section;
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
    match settings.load {
        Some(clients) => runtime.block_on(bench::load(settings, clients.into())),
        None => runtime.block_on(sections(settings)),
    }
}

async fn sections(settings: Settings) -> anyhow::Result<()> {
    let sections = settings.sections();
    let document = settings.writes().then(|| settings.document.clone());
    let mut bench = Bench::prepare(settings).await?;
    let all = sections.len();
    for (number, section) in sections.into_iter().enumerate() {
        let name = section.name();
        say(&format!("{name} ({} of {all})", number + 1));
        let text = section.measure(&mut bench).await?;
        let stamp = document::stamp(bench.extent, bench.partitions, &bench.versions());
        let text = format!("{stamp}\n{text}");
        println!("{text}");
        if let Some(document) = &document {
            document::write(document, section, &text)?;
            say(&format!("{name} is written into {}", document.display()));
        }
    }
    Ok(())
}

impl Section {
    /// All of them, in the order of the document.
    fn all() -> Vec<Self> {
        clap::ValueEnum::value_variants().to_vec()
    }
}
