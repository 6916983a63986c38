//! The words that orders are found by: those of the articles' skus and names, in lower case. Pure.

use std::collections::BTreeSet;

use events::order::OrderLine;

/// Words of one order at most; of an order with more, the later lines are not found by theirs.
const WORDS_MAX: usize = 5_000;
/// Characters of a word that count.
const WORD_CHARACTERS_MAX: usize = 64;
/// Words of one search at most.
pub const SEARCH_WORDS_MAX: usize = 10;

/// Every word of an order once, in alphabetical order.
pub fn of_lines(lines: &[OrderLine]) -> Vec<String> {
    let mut words = BTreeSet::new();
    for line in lines {
        let texts = [Some(line.sku.as_str()), line.name.as_deref()];
        for part in texts.into_iter().flatten().flat_map(str::split_whitespace) {
            if words.len() >= WORDS_MAX {
                return words.into_iter().collect();
            }
            words.extend(word(part));
            // TEA-250 is found as that, and as tea and as 250.
            words.extend(
                part.split(|it: char| !it.is_alphanumeric())
                    .filter_map(word),
            );
        }
    }
    words.into_iter().collect()
}

/// The words of a search; `None` when there are none, or too many.
pub fn of_search(text: &str) -> Option<Vec<String>> {
    let words: BTreeSet<String> = text.split_whitespace().filter_map(word).collect();
    let count = 1..=SEARCH_WORDS_MAX;
    count
        .contains(&words.len())
        .then(|| words.into_iter().collect())
}

fn word(part: &str) -> Option<String> {
    let part = part.trim_matches(|it: char| !it.is_alphanumeric());
    let word: String = part
        .to_lowercase()
        .chars()
        .take(WORD_CHARACTERS_MAX)
        .collect();
    (!word.is_empty()).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(sku: &str, name: &str) -> OrderLine {
        OrderLine {
            sku: sku.into(),
            name: Some(name.into()),
            quantity: 1,
            unit_price_minor: 1,
            amount_minor: 1,
        }
    }

    #[test]
    fn an_order_is_found_by_what_its_lines_say() {
        let words = of_lines(&[
            line("TEA-250", "Assam leaf tea, 250 g"),
            line("85123A", "WHITE HÄNGER"),
        ]);
        assert_eq!(
            words,
            [
                "250", "85123a", "assam", "g", "hänger", "leaf", "tea", "tea-250", "white"
            ]
        );
        for (search, expected) in [
            ("tea-250", Some(vec!["tea-250"])),
            (" White, hÄNGER ", Some(vec!["hänger", "white"])),
            ("tea tea", Some(vec!["tea"])),
            ("", None),
            ("- !", None),
            ("a b c d e f g h i j k", None),
        ] {
            let found = of_search(search);
            assert_eq!(
                found.as_deref(),
                expected
                    .as_ref()
                    .map(|words| words.iter().map(ToString::to_string).collect::<Vec<_>>())
                    .as_deref(),
                "{search}"
            );
        }
    }

    #[test]
    fn an_order_has_a_limited_number_of_words_of_limited_length() {
        let lines: Vec<_> = (0..2_000)
            .map(|number| {
                line(
                    &format!("{number}a"),
                    &format!("{number}b {number}c {}", "x".repeat(200)),
                )
            })
            .collect();
        let words = of_lines(&lines);
        assert_eq!(words.len(), WORDS_MAX);
        assert!(
            words
                .iter()
                .all(|word| word.chars().count() <= WORD_CHARACTERS_MAX)
        );
    }
}
