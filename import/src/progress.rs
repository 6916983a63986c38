//! Progress on standard error: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;

const PLAIN_LINE_EVERY: Duration = Duration::from_secs(5);

/// The progress of one step.
pub struct Progress {
    what: &'static str,
    total: u64,
    done: AtomicU64,
    shown: Shown,
}

enum Shown {
    Bar(ProgressBar),
    Lines {
        next: Mutex<Instant>,
        started: Instant,
    },
}

impl Progress {
    /// Begins a step of so many items (0: not known).
    #[must_use]
    pub fn begin(what: &'static str, total: u64) -> Self {
        let shown = if std::io::stderr().is_terminal() {
            Shown::Bar(bar(what, total))
        } else {
            let now = Instant::now();
            eprintln!("{what}: begun{}", of_total(total));
            Shown::Lines {
                next: Mutex::new(now + PLAIN_LINE_EVERY),
                started: now,
            }
        };
        Self {
            what,
            total,
            done: AtomicU64::new(0),
            shown,
        }
    }

    /// So many items more are done.
    pub fn advance(&self, count: u64) {
        let done = self.done.fetch_add(count, Ordering::Relaxed) + count;
        match &self.shown {
            Shown::Bar(bar) => bar.inc(count),
            Shown::Lines { next, .. } => {
                let mut next = next.lock();
                let now = Instant::now();
                if now >= *next {
                    *next = now + PLAIN_LINE_EVERY;
                    eprintln!("{}: {done}{}", self.what, of_total(self.total));
                }
            }
        }
    }

    /// The step has ended, completely or not.
    pub fn end(&self) {
        match &self.shown {
            Shown::Bar(bar) => bar.abandon(),
            Shown::Lines { started, .. } => {
                let done = self.done.load(Ordering::Relaxed);
                let seconds = started.elapsed().as_secs_f64();
                eprintln!(
                    "{}: ended after {done}{} in {seconds:.1} s",
                    self.what,
                    of_total(self.total)
                );
            }
        }
    }
}

fn of_total(total: u64) -> String {
    if total == 0 {
        String::new()
    } else {
        format!(" of {total}")
    }
}

fn bar(what: &'static str, total: u64) -> ProgressBar {
    let (bar, template) = if total == 0 {
        (
            ProgressBar::new_spinner(),
            "{spinner} {msg:<22} {pos} {per_sec}",
        )
    } else {
        let template = "{msg:<24} {wide_bar} {pos}/{len} {per_sec} {eta}";
        (ProgressBar::new(total), template)
    };
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style).with_message(what)
}
