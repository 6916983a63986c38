//! Tables in Markdown, and the figures in them.

use std::{fmt::Write, time::Duration};

use benchmarks::statistics::Spread;

/// A table: its head, and rows that are added.
pub struct Table(String);

impl Table {
    /// The first column says what, the others are figures.
    pub fn new(title: &str, columns: &[&str]) -> Self {
        let mut table = Self(format!("### {title}\n\n"));
        table.row(columns.iter().map(|column| (*column).to_owned()));
        table.row(columns.iter().enumerate().map(|(index, _)| match index {
            0 => "---".to_owned(),
            _ => "---:".to_owned(),
        }));
        table
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<String> = cells.into_iter().collect();
        // Writing into a string does not fail.
        writeln!(self.0, "| {} |", cells.join(" | ")).ok();
    }

    /// The table.
    pub fn end(self) -> String {
        self.0
    }

    /// The table, and a sentence below it.
    pub fn note(mut self, text: &str) -> String {
        writeln!(self.0, "\n{text}").ok();
        self.0
    }
}

/// What all rounds came to.
pub fn spread<T>(rounds: &[T], value: impl Fn(&T) -> f64) -> Spread {
    Spread::of(rounds.iter().map(value))
}

/// `time`, taken for `done` of something, for each in milliseconds.
pub fn each_ms(time: Duration, done: u64) -> f64 {
    time.as_secs_f64() * 1_000.0 / done.max(1) as f64
}

/// Milliseconds.
pub fn ms(value: f64) -> String {
    match value {
        small if small < 10.0 => format!("{small:.2}"),
        large => format!("{large:.1}"),
    }
}

/// A figure with this many decimals, lowest and highest in brackets.
pub fn fine(spread: Spread, decimals: usize) -> String {
    let Spread { median, min, max } = spread;
    format!("{median:.decimals$} ({min:.decimals$}–{max:.decimals$})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_line_below_its_head() {
        let mut table = Table::new("T", &["what", "a"]);
        table.row(["x".to_owned(), "1".to_owned()]);
        assert_eq!(
            table.end(),
            "### T\n\n| what | a |\n| --- | ---: |\n| x | 1 |\n"
        );
    }
}
