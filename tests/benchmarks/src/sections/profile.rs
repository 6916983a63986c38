//! Where the processor time of a process goes: `perf` samples its threads, and what it was doing is counted by kind.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};

use crate::table::Table;

/// Samples a second and thread; not a divisor of what timers do.
const SAMPLES_PER_S: &str = "997";
/// Kinds and functions that take less than this of the whole are left out.
const SHARE_MIN: f64 = 0.01;
const FUNCTIONS_SHOWN: usize = 25;
/// Shorter words in hexadecimal may belong to a thread's name.
const ADDRESS_DIGITS_MIN: usize = 6;

/// What was on a processor in one sample.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sample {
    thread: String,
    function: String,
    is_kernel: bool,
}

/// How often each was seen.
pub type Samples = BTreeMap<Sample, u64>;

/// A kind of work, and what functions of that kind have in their names, or begin with after `^`.
type Kind = (&'static str, &'static [&'static str]);

/// What is done outside of the kernel; the first that matches.
const KINDS: [Kind; 12] = [
    (
        "checking the token (ECDSA, SHA-2)",
        &[
            "p256",
            "ecdsa",
            "primeorder",
            "elliptic",
            "crypto_bigint",
            "sha2",
            "jsonwebtoken",
            "::auth",
            "base64",
            "primefield",
            "signature",
            "hmac",
        ],
    ),
    (
        "librdkafka",
        &["^rd_", "^crc32", "rdkafka", "^rwlock", "^mtx_", "^cnd_"],
    ),
    (
        "memory: allocating, copying, comparing",
        &[
            "malloc",
            "^_int_",
            "^free",
            "cfree",
            "calloc",
            "realloc",
            "^__mem",
            "memcpy",
            "alloc::",
            "unlink_chunk",
            "__rust_",
            "__rdl_",
        ],
    ),
    ("JSON", &["serde_json", "json", "ryu", "itoa", "zmij"]),
    (
        "Avro and the record's headers",
        &["avro", "events::codec", "write_headers", "events::metadata"],
    ),
    (
        "spans and logging",
        &[
            "tracing",
            "opentelemetry",
            "command_api::shard::span",
            "runtime::trace",
        ],
    ),
    ("metrics", &["metrics", "measures", "quanta"]),
    (
        "ids, times, partitions",
        &[
            "uuid",
            "OffsetDateTime",
            "Timestamp",
            "sha1",
            "partition_of",
            "rand",
            "chacha",
            "getrandom",
        ],
    ),
    (
        "HTTP (actix-web)",
        &[
            "actix",
            "httparse",
            "http::",
            "mime",
            "httpdate",
            "runtime::http",
            "request_id",
            "bytes::",
            "percent_encoding",
        ],
    ),
    (
        "deciding, and the shard's state",
        &[
            "command_api::shard",
            "domain::",
            "command_api::commands",
            "hashbrown",
            "btree",
            "Hasher",
            "sip::",
        ],
    ),
    ("the clock", &["clock_gettime", "Instant", "SystemTime"]),
    (
        "tokio, channels, locks",
        &[
            "tokio",
            "crossbeam",
            "parking_lot",
            "mio::",
            "futures",
            "std::sync",
            "pthread",
            "__lll",
            "std::thread",
            "epoll",
            "syscall",
        ],
    ),
];
const OTHER: &str = "other";

/// What is done in the kernel.
const KERNEL_KINDS: [Kind; 3] = [
    (
        "kernel: waiting and waking (epoll, futex, scheduler)",
        &[
            "epoll",
            "^ep_",
            "futex",
            "sched",
            "wake",
            "switch",
            "hrtimer",
            "dequeue",
            "enqueue",
            "pick_next",
            "psi_",
            "idle",
            "unlock_irqrestore",
            "eventfd",
        ],
    ),
    (
        "kernel: sockets",
        &[
            "tcp",
            "sock",
            "skb",
            "inet",
            "^ip_",
            "^__ip_",
            "^net",
            "__net",
            "loopback",
            "^nf_",
            "sendto",
            "recvfrom",
            "sendmsg",
            "recvmsg",
            "^dev_",
            "ipv4",
            "csum",
            "^sk_",
            "^__sk_",
            "softirq",
            "copy_user",
        ],
    ),
    ("kernel: other", &["^"]),
];

fn kind(sample: &Sample) -> &'static str {
    let kinds: &[Kind] = if sample.is_kernel {
        &KERNEL_KINDS
    } else {
        &KINDS
    };
    let is_named = |part: &&str| match part.strip_prefix('^') {
        Some(begin) => sample.function.starts_with(begin),
        None => sample.function.contains(*part),
    };
    let found = kinds.iter().find(|(_, parts)| parts.iter().any(is_named));
    found.map_or(OTHER, |(kind, _)| *kind)
}

/// Samples a process for that long.
pub async fn samples(pid: u32, lasting: Duration) -> anyhow::Result<Samples> {
    let file = std::env::temp_dir().join(format!("orderlog-bench-{}.perf", std::process::id()));
    // Apart, because the load runs on this thread.
    tokio::task::spawn_blocking(move || {
        let sampled = sample_into(&file, pid, lasting);
        // Nothing is lost with it.
        std::fs::remove_file(&file).ok();
        sampled
    })
    .await
    .context("sampling broke")?
}

fn sample_into(file: &Path, pid: u32, lasting: Duration) -> anyhow::Result<Samples> {
    let recorded = Command::new("perf")
        .args(["record", "--event", "cpu-clock", "--freq", SAMPLES_PER_S])
        .args(["--pid", &pid.to_string(), "--output"])
        .arg(file)
        .args(["--", "sleep", &lasting.as_secs_f64().to_string()])
        .stdout(Stdio::null())
        .output()
        .context("perf record")?;
    let said = String::from_utf8_lossy(&recorded.stderr);
    ensure!(recorded.status.success(), "perf record: {said}");
    let told = Command::new("perf")
        .args(["script", "--fields", "comm,ip,sym,dso", "--input"])
        .arg(file)
        .stderr(Stdio::null())
        .output()
        .context("perf script")?;
    ensure!(told.status.success(), "perf script failed");
    let samples = parse(&String::from_utf8_lossy(&told.stdout));
    ensure!(!samples.is_empty(), "no samples");
    Ok(samples)
}

/// `actix-server wo  55d0c0 serde_json::de::from_slice+0x1 (/path/command-api)`, one a line.
fn parse(text: &str) -> Samples {
    let mut samples = Samples::new();
    for line in text.lines() {
        let Some((rest, library)) = line.trim().rsplit_once(" (") else {
            continue;
        };
        // The thread's name may have spaces in it; the address that follows has none and is in hexadecimal.
        let mut words: Vec<&str> = rest.split_whitespace().collect();
        let address = words.iter().position(|word| {
            word.len() >= ADDRESS_DIGITS_MIN && word.chars().all(|c| c.is_ascii_hexdigit())
        });
        let Some(address) = address else {
            continue;
        };
        let function = words.split_off(address).split_off(1).join(" ");
        let thread = words.join(" ");
        let thread = thread.trim_end_matches(|c: char| !c.is_alphabetic());
        let sample = Sample {
            thread: thread.to_owned(),
            is_kernel: library.starts_with("[kernel") || library.starts_with("[unknown"),
            function,
        };
        *samples.entry(sample).or_insert(0) += 1;
    }
    samples
}

/// The kinds, and the functions that are seen most; `each_ms` is what the process took for an order.
pub fn table(samples: &Samples, clients: usize, each_ms: f64) -> String {
    let all: u64 = samples.values().sum();
    let share = |count: u64| count as f64 / all.max(1) as f64;
    let mut kinds = BTreeMap::<&str, u64>::new();
    let mut functions = BTreeMap::<(&str, &str, &str), u64>::new();
    for (sample, count) in samples {
        *kinds.entry(kind(sample)).or_insert(0) += count;
        let function = sample.function.as_str();
        let function = function
            .split_once("+0x")
            .map_or(function, |(name, _)| name);
        let key = (function, sample.thread.as_str(), kind(sample));
        *functions.entry(key).or_insert(0) += count;
    }
    let title = format!("Where the time goes, {clients} clients");
    let mut by_kind = Table::new(&title, &["what", "ms per order", "share"]);
    for (kind, count) in most(kinds, all) {
        by_kind.row([
            kind.to_owned(),
            format!("{:.4}", each_ms * share(count)),
            format!("{:.1} %", share(count) * 100.0),
        ]);
    }
    let by_kind = by_kind.note(&format!(
        "{all} samples of the command-api's threads, {SAMPLES_PER_S} a second of running, taken by `perf record`; a sample counts for \
         the innermost function, by its name, so that what a library lets others do (copying, allocating, waiting) stands there. \
         What was inlined counts for where it was inlined.",
    ));
    let columns = ["function", "thread", "what", "share"];
    let mut by_function = Table::new("The functions seen most", &columns);
    for ((function, thread, kind), count) in most(functions, all).into_iter().take(FUNCTIONS_SHOWN)
    {
        by_function.row([
            format!("`{}`", function.replace('|', "\\|")),
            format!("`{thread}`"),
            kind.to_owned(),
            format!("{:.1} %", share(count) * 100.0),
        ]);
    }
    format!("{by_kind}\n{}", by_function.end())
}

/// The most frequent first.
fn most<Key: Ord>(counts: BTreeMap<Key, u64>, all: u64) -> Vec<(Key, u64)> {
    let mut counts: Vec<_> = counts
        .into_iter()
        .filter(|(_, count)| *count as f64 >= all as f64 * SHARE_MIN)
        .collect();
    counts.sort_by(|(_, one), (_, other)| other.cmp(one));
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_perf_is_a_sample() {
        let text = "actix-server wo      55d0c0ff serde_json::de::from_slice+0x1f (/x/command-api)\n\
                    shard-1  ffffffff8100 tcp_sendmsg_locked+0x20 ([kernel.kallsyms])\n";
        let samples = parse(text);
        let kinds: Vec<_> = samples
            .keys()
            .map(|sample| (sample.thread.as_str(), kind(sample)))
            .collect();
        assert_eq!(
            kinds,
            [("actix-server wo", "JSON"), ("shard", "kernel: sockets")]
        );
    }
}
