//! `import-orders`: order lines from a CSV file into Orderlog, through its HTTP API like any client.
//!
//! Read the file, register the customers, place one order per invoice, read all back and compare.
//! See `--help`; [`file`] says what is skipped.

mod api;
mod args;
mod customers;
mod file;
#[cfg(test)]
mod file_tests;
mod listing;
mod money;
mod orders;
mod progress;
mod reconcile;
mod refusals;
mod report;
mod stop;
mod tokens;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Context, anyhow};
use clap::Parser;

use crate::api::{Access, Api, NoAnswer};
use crate::args::Args;
use crate::orders::Settings;
use crate::reconcile::Wanted;
use crate::report::{Run, Step};
use crate::stop::Stop;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    match import(&args).await {
        Ok(run) => {
            print!("{}", run.text(args.currency));
            u8::try_from(run.verdict().code()).map_or(ExitCode::FAILURE, ExitCode::from)
        }
        Err(error) => {
            eprintln!("import-orders: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn import(args: &Args) -> anyhow::Result<Run> {
    let mut run = Run {
        dry_run: args.dry_run,
        ..Run::default()
    };
    let started = Instant::now();
    run.file = file::read_path(&args.file, args.currency)?;
    if let Some(limit) = args.limit {
        run.left_out_count = run.file.invoices.len().saturating_sub(limit) as u64;
        run.file.invoices.truncate(limit);
    }
    run.step("reading the file", "rows", run.file.rows_count, started);
    if args.dry_run {
        return Ok(run);
    }
    let stop = Stop::default();
    stop.on_signals().context("signals cannot be listened to")?;
    let api = connect(args, &stop)?;
    let ended = call_all(args, &api, &stop, &mut run).await;
    run.stopped = stop.reason();
    run.retries_count = api.retries_count.load(Ordering::Relaxed);
    match ended {
        // The report says where it stopped.
        Err(error) if run.stopped.is_some() && error.is::<NoAnswer>() => Ok(run),
        Err(error) => Err(error),
        Ok(()) => Ok(run),
    }
}

fn connect(args: &Args, stop: &Stop) -> anyhow::Result<Api> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow!("TLS cannot be set up"))?;
    let access = Access {
        url: args.url.clone().context("--url is missing")?,
        authorities: match &args.ca_file {
            Some(file) => std::fs::read(file).with_context(|| file.display().to_string())?,
            None => Vec::new(),
        },
        admin_email: args
            .admin_email
            .clone()
            .context("--admin-email is missing")?,
        admin_password: args
            .admin_password
            .clone()
            .context("--admin-password is missing")?,
    };
    Api::new(access, args.concurrency.get(), stop.clone())
}

/// Everything that calls somebody. What was done before an error is in `run`.
async fn call_all(args: &Args, api: &Api, stop: &Stop, run: &mut Run) -> anyhow::Result<()> {
    let concurrency = args.concurrency.get();
    api.log_in_admin().await?;

    let started = Instant::now();
    let numbers: BTreeSet<u64> = run.file.invoices.iter().map(|i| i.customer).collect();
    let seed = args
        .seed
        .as_ref()
        .or(args.admin_password.as_ref())
        .context("no seed")?;
    run.customers =
        customers::register_all(api, &numbers, seed.as_bytes(), concurrency, stop).await?;
    run.step(
        "registering customers",
        "customers",
        run.customers.ids.len() as u64,
        started,
    );

    let reconciles = !args.no_reconcile;
    if reconciles && stop.reason().is_none() {
        let started = Instant::now();
        orders::find_placed(api, &run.file.invoices, &run.customers.ids, &mut run.placed).await?;
        run.step(
            "looking for orders already there",
            "orders",
            run.placed.found_count,
            started,
        );
    }

    if stop.reason().is_none() {
        let started = Instant::now();
        let settings = Settings {
            unit: args.currency,
            concurrency,
        };
        let Run {
            file,
            customers,
            placed,
            ..
        } = run;
        orders::place_all(api, &file.invoices, &customers.ids, settings, stop, placed).await?;
        run.step(
            "placing orders",
            "orders",
            run.placed.accepted_count,
            started,
        );
    }

    if reconciles && stop.reason().is_none() {
        let started = Instant::now();
        let Run {
            file,
            customers,
            placed,
            ..
        } = run;
        let (invoices, customers, unit) = (&file.invoices, &customers.ids, args.currency);
        let wanted = Wanted {
            invoices,
            customers,
            placed,
            unit,
        };
        let comparison = reconcile::reconcile(api, &wanted, stop).await?;
        let count = comparison.api.orders_count;
        run.comparison = Some(comparison);
        run.step("reading back and comparing", "orders", count, started);
    }
    Ok(())
}

impl Run {
    fn step(&mut self, name: &'static str, things: &'static str, count: u64, started: Instant) {
        self.steps.push(Step {
            name,
            things,
            count,
            took: started.elapsed(),
        });
    }
}
