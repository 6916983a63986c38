//! Medians, spreads and percentiles.

use std::fmt;

/// How long requests took, sorted.
#[derive(Debug, Clone, Default)]
pub struct Latencies(Vec<u32>);

impl Latencies {
    /// Of single times in microseconds.
    pub fn of(mut micros: Vec<u32>) -> Self {
        micros.sort_unstable();
        Self(micros)
    }

    /// How many there were.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The time in milliseconds that `share` of all requests (0.5 is the median) did not exceed; 0 without any.
    pub fn percentile_ms(&self, share: f64) -> f64 {
        let rank = (self.0.len() as f64 * share).ceil() as usize;
        let micros = self.0.get(rank.saturating_sub(1)).copied().unwrap_or(0);
        f64::from(micros) / 1_000.0
    }
}

/// What several rounds came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The middle one; of an even number of rounds the mean of both in the middle.
    pub median: f64,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
}

impl Spread {
    /// Of all rounds; all zero when there were none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let middle = |index: usize| values.get(index).copied().unwrap_or(0.0);
        let half = values.len() / 2;
        let median = match values.len() % 2 {
            0 => f64::midpoint(middle(half.saturating_sub(1)), middle(half)),
            _ => middle(half),
        };
        Self {
            median,
            min: middle(0),
            max: values.last().copied().unwrap_or(0.0),
        }
    }
}

/// As a count: `12,345 (11,900–12,800)`.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median, min, max } = *self;
        write!(f, "{} ({}–{})", count(median), count(min), count(max))
    }
}

/// A whole number with commas between thousands.
pub fn count(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let latencies = Latencies::of((1..=100).rev().map(|each| each * 1_000).collect());
        assert_eq!(latencies.percentile_ms(0.5), 50.0);
        assert_eq!(latencies.percentile_ms(0.99), 99.0);
        assert_eq!(latencies.percentile_ms(1.0), 100.0);
        assert_eq!(Latencies::default().percentile_ms(0.5), 0.0);
    }

    #[test]
    fn a_spread_is_median_lowest_and_highest() {
        let spread = Spread::of([3_000.0, 1_000.0, 12_345.4]);
        assert_eq!(spread.to_string(), "3,000 (1,000–12,345)");
        assert_eq!(Spread::of([1.0, 2.0]).median, 1.5);
        assert_eq!(Spread::of([]).median, 0.0);
    }
}
