//! How far the read model must be before it is compared.
//!
//! A `Consistency-Token` stands for one shard, but which one is not a client's business. So the
//! last few tokens are kept: together they cover every shard that was written lately, and a query
//! waits for each in turn, which takes no time for those already reached.

use std::collections::VecDeque;

/// How many tokens are kept.
pub const TOKENS_COUNT_MAX: usize = 128;

/// The last tokens received, oldest first.
#[derive(Debug, Default)]
pub struct ConsistencyTokens(VecDeque<String>);

impl ConsistencyTokens {
    /// Takes a token from an answer.
    pub fn take(&mut self, token: &str) {
        if self.0.len() >= TOKENS_COUNT_MAX {
            self.0.pop_front();
        }
        self.0.push_back(token.to_owned());
    }

    /// The tokens to show, one request each; the latest first, as it makes the others short.
    #[must_use]
    pub fn latest_first(&self) -> Vec<String> {
        self.0.iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_kept() {
        let mut tokens = ConsistencyTokens::default();
        for number in 0..=TOKENS_COUNT_MAX {
            tokens.take(&number.to_string());
        }
        let kept = tokens.latest_first();
        assert_eq!(kept.len(), TOKENS_COUNT_MAX);
        assert_eq!(kept.first(), Some(&TOKENS_COUNT_MAX.to_string()));
        assert_eq!(kept.last().map(String::as_str), Some("1"));
    }
}
