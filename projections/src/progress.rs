//! How far a long command is, on standard error: a bar on a terminal, a line now and then elsewhere.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::model::Positions;

const PLAIN_LINE_EVERY: Duration = Duration::from_secs(1);
const TEMPLATE: &str = "{msg} {wide_bar} {percent} %";

/// The progress of reading the log for something.
pub struct Progress {
    what: String,
    begun: Instant,
    /// How many records had been read when it began.
    before: i64,
    shown: Shown,
}

enum Shown {
    Bar(ProgressBar),
    Lines { last: Instant },
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// Records up to where it is; transaction markers count.
    pub done: i64,
    /// Records up to the end of the log.
    pub total: i64,
    /// Records a second since it began.
    pub per_s: f64,
    /// Until it is done at that rate; `None` where there is no rate.
    pub left: Option<Duration>,
}

impl Figures {
    /// Of what was `done` of `total` when it was `before` so long ago.
    pub fn of(done: i64, total: i64, before: i64, elapsed: Duration) -> Self {
        let per_s = done.saturating_sub(before) as f64 / elapsed.as_secs_f64().max(0.001);
        let left = total.saturating_sub(done).max(0) as f64 / per_s;
        Self {
            done,
            total,
            per_s,
            left: Duration::try_from_secs_f64(left).ok(),
        }
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} of {} records, {:.0}/s",
            self.done, self.total, self.per_s
        )?;
        match self.left {
            Some(left) => write!(f, ", {} s left", left.as_secs_f64().ceil()),
            None => Ok(()),
        }
    }
}

impl Progress {
    /// Begins where it is.
    pub fn begin(what: String, reached: &Positions, end: &Positions) -> Self {
        let shown = match std::io::stderr().is_terminal() {
            true => Shown::Bar(bar()),
            false => Shown::Lines {
                last: Instant::now(),
            },
        };
        Self {
            what,
            begun: Instant::now(),
            before: done(reached, end),
            shown,
        }
    }

    /// Shows how far it is, if it is time to.
    pub fn show(&mut self, reached: &Positions, end: &Positions) {
        match &mut self.shown {
            Shown::Bar(_) => {}
            Shown::Lines { last } if last.elapsed() >= PLAIN_LINE_EVERY => *last = Instant::now(),
            Shown::Lines { .. } => return,
        }
        let total = end.values().sum();
        let figures = Figures::of(done(reached, end), total, self.before, self.begun.elapsed());
        let line = format!("{}: {figures}", self.what);
        match &self.shown {
            Shown::Bar(bar) => {
                bar.set_length(total.unsigned_abs());
                bar.set_position(figures.done.unsigned_abs());
                bar.set_message(line);
            }
            Shown::Lines { .. } => eprintln!("{line}"),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

/// The records before `reached`, none counted beyond `end`.
pub fn done(reached: &Positions, end: &Positions) -> i64 {
    let done = end.iter().map(|(partition, end)| {
        let position = reached.get(partition).copied().unwrap_or(0);
        position.clamp(0, *end)
    });
    done.sum()
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template(TEMPLATE);
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_follows_from_the_rate_since_it_began() {
        let figures = Figures::of(600, 1_000, 400, Duration::from_secs(2));
        assert_eq!(figures.left, Some(Duration::from_secs(4)));
        assert_eq!(figures.to_string(), "600 of 1000 records, 100/s, 4 s left");
        let begun = Figures::of(400, 1_000, 400, Duration::ZERO);
        assert_eq!(begun.to_string(), "400 of 1000 records, 0/s");
    }

    #[test]
    fn nothing_is_done_beyond_the_end() {
        let end = Positions::from([(0, 60), (1, 40), (2, 0)]);
        for (reached, expected) in [
            (Positions::new(), 0),
            (Positions::from([(0, 30)]), 30),
            (Positions::from([(0, 90), (1, 40)]), 100),
        ] {
            assert_eq!(done(&reached, &end), expected, "{reached:?}");
        }
    }
}
