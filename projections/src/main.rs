//! The read side as a program; the library says what it does.

use std::process::ExitCode;

use clap::Parser;
use projections::{
    operate,
    settings::{Cli, Command},
};
use runtime::one_line::one_line;

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve(settings) => projections::serve::serve(*settings).await.map(|()| true),
        Command::Prepare(settings) => operate::prepare(&settings).await.map(|()| true),
        Command::Rebuild(settings) => operate::rebuild(&settings).await.map(|()| true),
        Command::Cancel(settings) => operate::cancel(&settings).await.map(|()| true),
        Command::Rollback(settings) => operate::rollback(&settings).await.map(|()| true),
        Command::Verify(settings) => operate::verify(&settings).await,
        Command::Status(settings) => operate::status(&settings).await.map(|()| true),
        Command::Inspect(settings) => operate::inspect(&settings).await.map(|()| true),
        Command::Skip(settings) => operate::skip(&settings).await.map(|()| true),
        Command::Skipped(settings) => operate::skipped(&settings).await.map(|()| true),
        Command::Show(settings) => operate::show(&settings).await.map(|()| true),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("projections: {}", one_line(error.chain()));
            ExitCode::FAILURE
        }
    }
}
