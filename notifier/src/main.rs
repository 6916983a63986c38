//! `notifier`: the program.

use std::process::ExitCode;

use clap::Parser;
use notifier::{
    dead_letters,
    serve::serve,
    settings::{Cli, Command},
};
use runtime::one_line::one_line;

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve(settings) => serve(*settings).await,
        Command::DeadLetters(settings) => dead_letters::list(&settings).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("notifier: {}", one_line(error.chain()));
            ExitCode::FAILURE
        }
    }
}
