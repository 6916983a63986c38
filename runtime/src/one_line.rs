//! Failures for people: one line.

use std::error::Error;

/// An error and its causes on one line. What a cause says that was said already is left out: libraries like to repeat it.
pub fn one_line<'a>(chain: impl IntoIterator<Item = &'a (dyn Error + 'static)>) -> String {
    let mut line = String::new();
    for cause in chain {
        let said = cause.to_string();
        if line.contains(&said) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&said);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Said(&'static str);

    #[test]
    fn what_was_said_is_not_said_again() {
        let chain = ["asking Kafka", "metadata: away", "away", "no route"].map(Said);
        let chain = chain.iter().map(|said| said as &(dyn Error + 'static));
        assert_eq!(one_line(chain), "asking Kafka: metadata: away: no route");
    }
}
