//! `notifier`: the program.

use clap::Parser;
use notifier::{
    dead_letters,
    serve::serve,
    settings::{Cli, Command},
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Serve(settings) => serve(*settings).await,
        Command::DeadLetters(settings) => dead_letters::list(&settings).await,
    }
}
