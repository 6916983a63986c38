//! What every Prometheus client tells of its process (`process_…`), read from `/proc`. A system without it tells nothing.

use std::{fmt::Write, fs};

/// Clock ticks of a second in `/proc`: on Linux the same for every program, whatever the kernel's own clock.
const TICKS_PER_SECOND: f64 = 100.0;
const BYTES_PER_KIB: f64 = 1024.0;

/// The metrics as of now, in Prometheus' text format. Written here because a counter of seconds has fractions, which the
/// recorder's counters have not.
pub fn render() -> String {
    let mut text = String::new();
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let stat = Stat::parse(&read("/proc/self/stat"));
    let cpu = stat.as_ref().map(|stat| stat.cpu_seconds);
    let booted = number_after(&read("/proc/stat"), "btime");
    let started = stat
        .zip(booted)
        .map(|(stat, booted)| booted + stat.started_after_boot_seconds);
    let status = read("/proc/self/status");
    let resident = number_after(&status, "VmRSS:").map(|kib| kib * BYTES_PER_KIB);
    let open = fs::read_dir("/proc/self/fd").ok();
    let limits = read("/proc/self/limits");
    for (name, kind, meaning, value) in [
        (
            "process_cpu_seconds_total",
            "counter",
            "Time on a processor, of user and kernel together.",
            cpu,
        ),
        (
            "process_start_time_seconds",
            "gauge",
            "When the process was started, since 1970.",
            started,
        ),
        (
            "process_resident_memory_bytes",
            "gauge",
            "Memory that the process holds.",
            resident,
        ),
        (
            "process_threads",
            "gauge",
            "Threads of the process.",
            number_after(&status, "Threads:"),
        ),
        (
            "process_open_fds",
            "gauge",
            "Open files and connections.",
            open.map(|open| open.count() as f64),
        ),
        (
            "process_max_fds",
            "gauge",
            "How many may be open.",
            number_after(&limits, "Max open files"),
        ),
    ] {
        if let Some(value) = value {
            // Into a string it cannot fail.
            write!(
                text,
                "# HELP {name} {meaning}\n# TYPE {name} {kind}\n{name} {value}\n\n"
            )
            .ok();
        }
    }
    text
}

/// What is needed of `/proc/self/stat`.
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    started_after_boot_seconds: f64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name comes second, in brackets, and may have anything in it; the third field is the first behind it.
        let (_, behind_the_name) = text.rsplit_once(')')?;
        let fields: Vec<&str> = behind_the_name.split_whitespace().collect();
        let seconds = |number: usize| {
            let ticks: f64 = fields.get(number - 3)?.parse().ok()?;
            Some(ticks / TICKS_PER_SECOND)
        };
        Some(Self {
            cpu_seconds: seconds(14)? + seconds(15)?,
            started_after_boot_seconds: seconds(22)?,
        })
    }
}

fn number_after(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_moves_no_field() {
        let line = "4711 (a) b (c) S 1 1 1 0 -1 4194560 1 2 3 4 250 50 7 8 20 0 9 0 12345 1000 200 18446744073709551615";
        let stat = Stat {
            cpu_seconds: 3.0,
            started_after_boot_seconds: 123.45,
        };
        assert_eq!(Stat::parse(line), Some(stat));
        assert_eq!(Stat::parse("4711 (a) S 1"), None);
    }

    #[test]
    fn this_process_is_told_of() {
        let text = render();
        let value = |name| number_after(&text, &format!("{name} ")).unwrap_or(0.0);
        assert!(value("process_resident_memory_bytes") > 1e6, "{text}");
        assert!(value("process_open_fds") < value("process_max_fds"));
        assert!(value("process_threads") >= 1.0);
        assert!(text.contains("process_cpu_seconds_total "));
        let now = time::OffsetDateTime::now_utc().unix_timestamp() as f64;
        let age = now - value("process_start_time_seconds");
        assert!((-2.0..3600.0).contains(&age), "{age}");
    }
}
