//! The circuit of one provider: whether it is its turn. Pure but for what it remembers; time is given.
//!
//! A provider that keeps failing is passed over for a while in favour of the others; then one message tries it
//! again, and more follow when that was taken. One that asked for time gets it.

use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row after which a provider is passed over.
pub const FAILURES_MAX: u32 = 3;
/// How long a provider is passed over before one message tries it again.
pub const PASSED_OVER_FOR: Duration = Duration::from_secs(30);

/// What is remembered about a provider.
#[derive(Debug, Default)]
pub struct Circuit {
    failures: u32,
    passed_over_until: Option<Instant>,
    left_alone_until: Option<Instant>,
}

/// When a provider may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// At its place in the order.
    InOrder,
    /// When nobody else would take the message: it keeps failing.
    LastResort,
    /// Not at all: it asked for time.
    NotNow,
}

impl Circuit {
    /// When the provider may be asked. Once it was passed over for long enough, one caller is told that it is its
    /// turn, and the others that it is not, until that one has come back.
    pub fn turn(&mut self, now: Instant) -> Turn {
        if self.left_alone_for(now).is_some() {
            return Turn::NotNow;
        }
        match self.passed_over_until {
            None => Turn::InOrder,
            Some(until) if now < until => Turn::LastResort,
            Some(_) => {
                self.passed_over_until = Some(now + PASSED_OVER_FOR);
                Turn::InOrder
            }
        }
    }

    /// It answered about a message: it works. The time it asked for earlier it keeps.
    pub const fn worked(&mut self) {
        self.failures = 0;
        self.passed_over_until = None;
    }

    /// It took nothing, or did not say so; it asks to be left alone for `retry_after`.
    pub fn failed(&mut self, now: Instant, retry_after: Option<Duration>) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES_MAX {
            self.passed_over_until = Some(now + PASSED_OVER_FOR);
        }
        if let Some(pause) = retry_after {
            self.left_alone_until = self.left_alone_until.max(Some(now + pause));
        }
    }

    /// Whether it is passed over; not any more once it is to be tried again, even if nobody has come to try it.
    pub fn is_open(&self, now: Instant) -> bool {
        self.passed_over_until.is_some_and(|until| now < until)
    }

    /// How long it is still to be left alone; `None` when it is not.
    pub fn left_alone_for(&self, now: Instant) -> Option<Duration> {
        let left = self.left_alone_until?.checked_duration_since(now)?;
        (!left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn failed_times(times: u32, now: Instant) -> Circuit {
        let mut circuit = Circuit::default();
        for _ in 0..times {
            circuit.failed(now, None);
        }
        circuit
    }

    #[test]
    fn who_fails_now_and_then_keeps_its_place() {
        let now = Instant::now();
        let mut circuit = failed_times(FAILURES_MAX - 1, now);
        assert_eq!(circuit.turn(now), Turn::InOrder);
        circuit.worked();
        circuit.failed(now, None);
        assert_eq!(circuit.turn(now), Turn::InOrder);
    }

    #[test]
    fn who_keeps_failing_is_passed_over_and_then_tried_by_one() {
        let now = Instant::now();
        let mut circuit = failed_times(FAILURES_MAX, now);
        assert!(circuit.is_open(now));
        assert_eq!(circuit.turn(now), Turn::LastResort);
        assert_eq!(
            circuit.turn(now + PASSED_OVER_FOR - SECOND),
            Turn::LastResort
        );
        let later = now + PASSED_OVER_FOR;
        assert_eq!(circuit.turn(later), Turn::InOrder);
        assert_eq!(
            circuit.turn(later),
            Turn::LastResort,
            "one tries it, not all"
        );
        circuit.failed(later, None);
        assert_eq!(
            circuit.turn(later + SECOND),
            Turn::LastResort,
            "it failed again"
        );
        circuit.worked();
        assert_eq!(circuit.turn(later + SECOND), Turn::InOrder);
        assert!(!circuit.is_open(later + SECOND));
    }

    #[test]
    fn who_was_passed_over_for_long_enough_is_so_no_more_though_nobody_tries_it() {
        let now = Instant::now();
        let mut circuit = failed_times(FAILURES_MAX, now);
        assert!(circuit.is_open(now + PASSED_OVER_FOR - SECOND));
        let later = now + PASSED_OVER_FOR;
        assert!(!circuit.is_open(later));
        assert_eq!(circuit.turn(later), Turn::InOrder);
        assert!(circuit.is_open(later), "while one tries it");
    }

    #[test]
    fn who_never_comes_back_from_the_trial_does_not_close_the_way_for_ever() {
        let now = Instant::now();
        let mut circuit = failed_times(FAILURES_MAX, now);
        assert_eq!(circuit.turn(now + PASSED_OVER_FOR), Turn::InOrder);
        assert_eq!(circuit.turn(now + 2 * PASSED_OVER_FOR), Turn::InOrder);
    }

    #[test]
    fn who_asked_for_time_gets_it() {
        let now = Instant::now();
        let mut circuit = Circuit::default();
        circuit.failed(now, Some(10 * SECOND));
        circuit.failed(now, Some(SECOND));
        assert_eq!(circuit.left_alone_for(now + SECOND), Some(9 * SECOND));
        assert_eq!(circuit.left_alone_for(now + 10 * SECOND), None);
        assert_eq!(circuit.turn(now + 9 * SECOND), Turn::NotNow);
        assert_eq!(circuit.turn(now + 10 * SECOND), Turn::InOrder);
    }
}
