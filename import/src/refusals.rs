//! What the server refused, counted by kind.

use std::collections::BTreeMap;

/// Most kinds told apart; further ones are counted together.
pub const KINDS_COUNT_MAX: usize = 50;
const OTHERS: &str = "of further kinds";

/// Refusals by kind, each with its first example.
#[derive(Debug, Default)]
pub struct Refusals(BTreeMap<String, Refused>);

/// One kind of refusal.
#[derive(Debug)]
pub struct Refused {
    /// How often.
    pub count: u64,
    /// The first thing refused.
    pub example: String,
}

impl Refusals {
    /// Counts a refusal.
    pub fn add(&mut self, kind: String, example: &str) {
        let is_new = !self.0.contains_key(&kind);
        let kind = if is_new && self.0.len() >= KINDS_COUNT_MAX {
            OTHERS.to_owned()
        } else {
            kind
        };
        let refused = self.0.entry(kind).or_insert_with(|| Refused {
            count: 0,
            example: example.to_owned(),
        });
        refused.count += 1;
    }

    /// All together.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.values().map(|refused| refused.count).sum()
    }

    /// By kind.
    pub fn kinds(&self) -> impl Iterator<Item = (&str, &Refused)> {
        self.0
            .iter()
            .map(|(kind, refused)| (kind.as_str(), refused))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_bounded_and_none_is_lost() {
        let mut refusals = Refusals::default();
        for number in 0..200 {
            refusals.add(format!("kind {number}"), "x");
        }
        assert_eq!(refusals.count(), 200);
        assert_eq!(refusals.kinds().count(), KINDS_COUNT_MAX + 1);
    }
}
