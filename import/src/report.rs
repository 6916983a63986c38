//! What happened, as a table for people.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::time::Duration;

use crate::customers::Customers;
use crate::file::{Invoice, OrdersFile, Skip};
use crate::money::Unit;
use crate::orders::Placed;
use crate::reconcile::{Comparison, Figures};
use crate::refusals::Refusals;
use crate::stop::Reason;

const LABEL_WIDTH: usize = 52;
const VALUE_WIDTH: usize = 16;

/// Everything the report tells.
#[derive(Default)]
pub struct Run {
    /// What was read.
    pub file: OrdersFile,
    /// Invoices left out by `--limit`.
    pub left_out_count: u64,
    /// Who was registered.
    pub customers: Customers,
    /// What was placed.
    pub placed: Placed,
    /// What the comparison found; none if it was not made.
    pub comparison: Option<Comparison>,
    /// How long each step took and how many things it handled.
    pub steps: Vec<Step>,
    /// How many attempts failed and were repeated.
    pub retries_count: u64,
    /// Why the run stopped early, if it did.
    pub stopped: Option<Reason>,
    /// Only the file was read.
    pub dry_run: bool,
}

/// One step of the run.
pub struct Step {
    /// Its name.
    pub name: &'static str,
    /// What it handled.
    pub things: &'static str,
    /// How many of them.
    pub count: u64,
    /// How long it took.
    pub took: Duration,
}

/// How the run ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All there and equal.
    Complete,
    /// Placed, but not compared.
    NotCompared,
    /// Only the file was read.
    DryRun,
    /// Something refused, missing or different.
    Incomplete(String),
    /// Stopped by a signal.
    Interrupted,
}

impl Verdict {
    /// The exit code of the process.
    #[must_use]
    pub fn code(&self) -> i32 {
        match self {
            Self::Complete | Self::NotCompared | Self::DryRun => 0,
            Self::Incomplete(_) => 1,
            Self::Interrupted => crate::stop::INTERRUPTED_CODE,
        }
    }
}

impl Run {
    /// How the run ended.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match &self.stopped {
            Some(Reason::Interrupted) => return Verdict::Interrupted,
            Some(Reason::NoAnswer(why)) => {
                return Verdict::Incomplete(format!("stopped: {why}; run it again to go on"));
            }
            None if self.dry_run => return Verdict::DryRun,
            None => {}
        }
        let refused = self.placed.refusals.count();
        let unsent = self.unsent_count();
        let differences = self.comparison.as_ref().map_or(0, |c| c.differences_count);
        if refused + unsent + differences > 0 {
            return Verdict::Incomplete(format!(
                "{refused} invoices refused, {unsent} without an answer, {differences} differences"
            ));
        }
        if self.comparison.is_none() {
            return Verdict::NotCompared;
        }
        Verdict::Complete
    }

    fn unsent_count(&self) -> u64 {
        let settled = self.placed.ids.len() + self.placed.refused.len();
        (self.file.invoices.len() as u64).saturating_sub(settled as u64)
    }

    /// The whole report.
    #[must_use]
    pub fn text(&self, unit: Unit) -> String {
        let mut table = Table::default();
        self.tell_file(&mut table, unit);
        if !self.dry_run {
            self.tell_sent(&mut table);
        }
        if let Some(comparison) = &self.comparison {
            tell_comparison(&mut table, comparison);
        }
        self.tell_times(&mut table);
        let result = match self.verdict() {
            Verdict::Complete => "complete: every order is there and equal to the file".to_owned(),
            Verdict::NotCompared => {
                "every order was accepted; not compared (--no-reconcile)".to_owned()
            }
            Verdict::DryRun => "dry run: nobody was called".to_owned(),
            Verdict::Incomplete(why) => format!("INCOMPLETE: {why}"),
            Verdict::Interrupted => {
                "INTERRUPTED: run it again to go on where it stopped".to_owned()
            }
        };
        table.line(format_args!("\n{result}"));
        table.0
    }

    fn tell_file(&self, table: &mut Table, unit: Unit) {
        let file = &self.file;
        table.heading("The file");
        table.count("rows", file.rows_count);
        let lines_count: usize = file
            .invoices
            .iter()
            .map(|invoice| invoice.lines.len())
            .sum();
        table.count("lines to order", lines_count as u64);
        table.skipped("lines skipped", &file.skipped_lines);
        table.count("invoices", file.invoices_seen_count);
        table.count("invoices to order", file.invoices.len() as u64);
        table.skipped("invoices skipped", &file.skipped_invoices);
        if self.left_out_count > 0 {
            table.count("invoices left out (--limit)", self.left_out_count);
        }
        let total: i128 = file.invoices.iter().map(Invoice::total_minor).sum();
        table.row(&format!("total to order, {unit}"), &unit.text(total));
    }

    fn tell_sent(&self, table: &mut Table) {
        table.heading("Customers");
        table.count("registered now", self.customers.registered_count);
        table.count("already there", self.customers.known_count);
        table.refusals(&self.customers.refusals);
        table.heading("Orders");
        table.count("accepted now", self.placed.accepted_count);
        table.count("already there", self.placed.found_count);
        table.refusals(&self.placed.refusals);
        if self.unsent_count() > 0 {
            table.count("not sent, or without an answer", self.unsent_count());
        }
        table.count("attempts repeated", self.retries_count);
    }

    fn tell_times(&self, table: &mut Table) {
        table.heading("Times");
        for Step {
            name,
            things,
            count,
            took,
        } in &self.steps
        {
            let seconds = took.as_secs_f64();
            let rate = if seconds > 0.0 {
                *count as f64 / seconds
            } else {
                0.0
            };
            let value = format!("{seconds:.2} s");
            table.line(format_args!(
                "  {name:<LABEL_WIDTH$}{value:>VALUE_WIDTH$}   {rate:.0} {things}/s"
            ));
        }
        let seconds: f64 = self.steps.iter().map(|step| step.took.as_secs_f64()).sum();
        table.row("all", &format!("{seconds:.2} s"));
    }
}

fn tell_comparison(table: &mut Table, comparison: &Comparison) {
    let Comparison {
        file,
        api,
        differences_count,
        differences,
    } = comparison;
    table.heading("Accepted orders: file | query API");
    table.pair("orders", &file.orders_count, &api.orders_count);
    table.pair("lines", &file.lines_count, &api.lines_count);
    let mut codes: Vec<&String> = file
        .totals_minor
        .keys()
        .chain(api.totals_minor.keys())
        .collect();
    codes.sort();
    codes.dedup();
    for code in codes {
        let text = |figures: &Figures| {
            let minor = figures.totals_minor.get(code).copied().unwrap_or(0);
            Unit::of_code(code).map_or_else(|_| minor.to_string(), |unit| unit.text(minor))
        };
        table.pair(&format!("total, {code}"), &text(file), &text(api));
    }
    table.count("differences", *differences_count);
    for difference in differences {
        table.line(format_args!("    {difference}"));
    }
    let unlisted = differences_count.saturating_sub(differences.len() as u64);
    if unlisted > 0 {
        table.line(format_args!("    and {unlisted} more"));
    }
}

#[derive(Default)]
struct Table(String);

impl Table {
    fn line(&mut self, what: fmt::Arguments<'_>) {
        // Writing into a String cannot fail.
        let _ = self.0.write_fmt(what);
        self.0.push('\n');
    }

    fn heading(&mut self, text: &str) {
        let gap = if self.0.is_empty() { "" } else { "\n" };
        self.line(format_args!("{gap}{text}"));
    }

    fn row(&mut self, label: &str, value: &str) {
        self.line(format_args!("  {label:<LABEL_WIDTH$}{value:>VALUE_WIDTH$}"));
    }

    fn pair(&mut self, label: &str, left: &dyn fmt::Display, right: &dyn fmt::Display) {
        let mark = if left.to_string() == right.to_string() {
            "equal"
        } else {
            "DIFFERENT"
        };
        let (left, right) = (left.to_string(), right.to_string());
        self.line(format_args!(
            "  {label:<LABEL_WIDTH$}{left:>VALUE_WIDTH$} | {right:>VALUE_WIDTH$}   {mark}"
        ));
    }

    fn count(&mut self, label: &str, count: u64) {
        self.row(label, &count.to_string());
    }

    fn skipped(&mut self, label: &str, by_reason: &BTreeMap<Skip, u64>) {
        self.count(label, by_reason.values().sum());
        let reasons: BTreeSet<Skip> = Skip::EXPECTED
            .iter()
            .chain(by_reason.keys())
            .copied()
            .collect();
        for skip in reasons {
            let count = by_reason.get(&skip).copied().unwrap_or(0);
            self.count(&format!("  {}", skip.words()), count);
        }
    }

    fn refusals(&mut self, refusals: &Refusals) {
        self.count("refused by the server", refusals.count());
        for (kind, refused) in refusals.kinds() {
            self.line(format_args!(
                "    {} × {kind} (first: {})",
                refused.count, refused.example
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_of(rows: &str) -> Run {
        let text = format!(
            "InvoiceNo,StockCode,Description,Quantity,UnitPrice,CustomerID,Country\n{rows}"
        );
        let file = crate::file::read(text.as_bytes(), Unit::of_code("GBP").unwrap()).unwrap();
        Run {
            file,
            ..Run::default()
        }
    }

    #[test]
    fn the_verdict_says_what_is_wrong() {
        let mut run = run_of("1,A,a,1,1.00,7,EIRE\n");
        assert_eq!(run.verdict().code(), 1, "nothing was sent");
        run.placed.ids.insert(0, uuid::Uuid::now_v7());
        assert_eq!(run.verdict(), Verdict::NotCompared);
        run.comparison = Some(Comparison::default());
        assert_eq!(run.verdict(), Verdict::Complete);
        run.comparison = Some(Comparison {
            differences_count: 1,
            ..Comparison::default()
        });
        assert_eq!(run.verdict().code(), 1);
        run.stopped = Some(Reason::Interrupted);
        assert_eq!(run.verdict().code(), 130);
    }

    #[test]
    fn the_report_names_what_was_skipped_and_refused() {
        let mut run = run_of("1,A,a,2,1.25,7,EIRE\nC2,A,a,-1,1.00,7,EIRE\n");
        run.placed
            .refusals
            .add("422 invalid /lines/*/sku too-long".to_owned(), "invoice 1");
        let text = run.text(Unit::of_code("GBP").unwrap());
        for part in [
            "return (invoice number begins with C)",
            "2.50",
            "1 × 422 invalid",
            "(first: invoice 1)",
            "INCOMPLETE",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }
}
