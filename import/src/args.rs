//! The command line, which `--help` explains.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Parser;

use crate::money::Unit;

/// Most requests under way at once.
const CONCURRENCY_COUNT_MAX: usize = 1_024;

/// Imports order lines from a CSV file through Orderlog's HTTP API.
///
/// The columns InvoiceNo, StockCode, Description, Quantity, UnitPrice, CustomerID and Country are
/// found by their names in the header; others are ignored. All lines of the file are held in
/// memory (at most 5,000,000), because the lines of an invoice need not stand together.
///
/// Every customer is registered as customer-ID@retail.example, every invoice becomes one order
/// placed by an admin. A line that is a return, has no customer, no positive price, or a price
/// with too many decimals is skipped alone; an invoice without any line left is skipped. Both are
/// counted in the report.
///
/// A run may be interrupted (Ctrl-C) and repeated: an invoice whose order is already there is not
/// sent again, and each order carries an Idempotency-Key made of its invoice number.
///
/// At the end the orders are read back through the query API and compared with the file.
/// Exit code: 0 all there and equal; 1 something refused, missing or different; 130 interrupted.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Args {
    /// The file, plain or gzip.
    pub file: PathBuf,

    /// Base URL of the gateway.
    #[arg(long, env = "ORDERLOG_URL", value_parser = base_url)]
    #[arg(required_unless_present = "dry_run")]
    pub url: Option<String>,

    /// Certificates (PEM) of the authorities to trust, instead of the system's.
    #[arg(long, env = "ORDERLOG_CA_FILE")]
    pub ca_file: Option<PathBuf>,

    /// The admin who places the orders.
    #[arg(
        long,
        env = "ORDERLOG_ADMIN_EMAIL",
        required_unless_present = "dry_run"
    )]
    pub admin_email: Option<String>,

    /// The admin's password; better given through the environment than on the command line.
    #[arg(long, env = "ORDERLOG_ADMIN_PASSWORD", hide_env_values = true)]
    #[arg(required_unless_present = "dry_run")]
    pub admin_password: Option<String>,

    /// What the customers' passwords are derived from; the admin's password unless given. A later
    /// run needs the same one to recognise the customers.
    #[arg(long, env = "IMPORT_SEED", hide_env_values = true)]
    pub seed: Option<String>,

    /// Requests under way at once, 1 to 1024.
    #[arg(long, default_value = "64", value_parser = concurrency)]
    pub concurrency: NonZeroUsize,

    /// Currency of the prices, an ISO 4217 code.
    #[arg(long, default_value = "GBP", value_parser = Unit::of_code)]
    pub currency: Unit,

    /// Import only the first so many invoices that can be ordered.
    #[arg(long)]
    pub limit: Option<usize>,

    /// Neither look for orders already there nor compare at the end. Repeating such a run is safe
    /// only as long as the server keeps idempotency keys (24 hours).
    #[arg(long)]
    pub no_reconcile: bool,

    /// Only read the file and print what would be imported; nobody is called.
    #[arg(long)]
    pub dry_run: bool,
}

fn concurrency(text: &str) -> Result<NonZeroUsize, String> {
    let count: Option<NonZeroUsize> = text.parse().ok();
    count
        .filter(|count| count.get() <= CONCURRENCY_COUNT_MAX)
        .ok_or_else(|| format!("must be a whole number from 1 to {CONCURRENCY_COUNT_MAX}"))
}

fn base_url(text: &str) -> Result<String, String> {
    let url = reqwest::Url::parse(text.trim()).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err("must be an http or https URL".to_owned());
    }
    Ok(text.trim().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn a_dry_run_needs_nothing_but_the_file() {
        let args = Args::try_parse_from(["import-orders", "x.csv", "--dry-run"]).unwrap();
        assert_eq!((args.concurrency.get(), args.currency.code()), (64, "GBP"));
    }

    #[test]
    fn urls_and_numbers_are_checked() {
        assert_eq!(
            base_url(" http://127.0.0.1:1/ "),
            Ok("http://127.0.0.1:1".to_owned())
        );
        assert!(base_url("127.0.0.1:1").is_err());
        assert!(concurrency("0").is_err());
        assert!(concurrency("1025").is_err());
    }
}
