//! The document: each section stands between markers of its own.

use std::{fs, path::Path};

use anyhow::{Context, ensure};
use time::OffsetDateTime;

use crate::{sections::Section, settings::Extent};

/// When, where and how long it was measured: the first line of every section.
pub fn stamp(extent: Extent, partitions: u16, versions: &[(&str, String)]) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    let gib = kib.unwrap_or(0.0) / 1024.0 / 1024.0;
    let versions: Vec<String> = versions
        .iter()
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    format!(
        "*{}: {cores} cores and {gib:.0} GB of memory for everything; {}; release build; one broker, {partitions} partitions per \
         topic. {} rounds of {} s; medians, lowest and highest in brackets.*\n",
        OffsetDateTime::now_utc().date(),
        versions.join(", "),
        extent.rounds,
        extent.measured_for.as_secs(),
    )
}

/// Replaces what stands between the section's markers in `document`.
pub fn write(document: &Path, section: Section, text: &str) -> anyhow::Result<()> {
    let before = fs::read_to_string(document)
        .with_context(|| format!("{} cannot be read", document.display()))?;
    fs::write(document, replaced(&before, &section.name(), text)?)
        .with_context(|| format!("{} cannot be written", document.display()))
}

fn replaced(text: &str, section: &str, new: &str) -> anyhow::Result<String> {
    let begin = format!("<!-- {section}: begin, written by scripts/bench -->");
    let end = format!("<!-- {section}: end -->");
    let (before, rest) = text
        .split_once(&begin)
        .with_context(|| format!("the document has no place for {section}"))?;
    let (_, after) = rest
        .split_once(&end)
        .with_context(|| format!("the place for {section} has no end"))?;
    ensure!(
        !new.contains("<!-- "),
        "the tables contain what might be a marker"
    );
    Ok(format!("{before}{begin}\n\n{new}\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn only_what_stands_between_the_markers_is_replaced() {
        let begin = "<!-- cpu: begin, written by scripts/bench -->";
        let text = format!("before\n{begin}\nold\n<!-- cpu: end -->\nafter\n");
        let new = replaced(&text, "cpu", "new\n").unwrap();
        assert_eq!(
            new,
            format!("before\n{begin}\n\nnew\n\n<!-- cpu: end -->\nafter\n")
        );
        assert_eq!(replaced(&new, "cpu", "new\n").unwrap(), new);
        assert!(replaced("no markers", "cpu", "new").is_err());
    }

    #[test]
    fn the_document_has_a_place_for_every_section() {
        let text = include_str!("../../../docs/benchmarks.md");
        for section in Section::value_variants() {
            replaced(text, &section.name(), "new").unwrap();
        }
    }
}
