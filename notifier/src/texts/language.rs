//! The languages of the texts: what each makes of amounts, dates and counts. Rules and names are those of the
//! Unicode CLDR, written out for the few languages there are.

use events::timestamp::Timestamp;
use time::Month;

use crate::react::Amount;

/// Digits before the decimal sign stand in groups of so many.
const GROUP_DIGITS: usize = 3;
/// A space at which no line is broken.
const NO_BREAK_SPACE: char = '\u{a0}';

/// A language that there are texts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// English, also for whoever has none of these.
    English,
    /// German.
    German,
    /// Russian.
    Russian,
}

impl Language {
    /// Every language there is.
    pub const ALL: [Self; 3] = [Self::English, Self::German, Self::Russian];

    /// The language to answer a BCP 47 tag in: the one its first subtag names.
    pub fn of(locale: &str) -> Self {
        let subtag = locale.split(['-', '_']).next().unwrap_or_default();
        Self::ALL
            .into_iter()
            .find(|language| language.tag().eq_ignore_ascii_case(subtag))
            .unwrap_or(Self::English)
    }

    /// Its BCP 47 tag; also the folder of its templates.
    pub const fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::German => "de",
            Self::Russian => "ru",
        }
    }

    /// An amount with its currency: `1,234.50 EUR`, `1.234,50 EUR`, `1 234,50 EUR`.
    pub fn amount(self, amount: Amount) -> String {
        let Amount { currency, minor } = amount;
        let plain = currency.format_minor(minor);
        let (sign, digits) = match plain.strip_prefix('-') {
            Some(digits) => ("-", digits),
            None => ("", plain.as_str()),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let whole = self.grouped(whole);
        if fraction.is_empty() {
            format!("{sign}{whole} {currency}")
        } else {
            let decimal = self.decimal_sign();
            format!("{sign}{whole}{decimal}{fraction} {currency}")
        }
    }

    /// A count.
    pub fn count(self, count: u64) -> String {
        self.grouped(&count.to_string())
    }

    /// Which form of a noun goes with a count: `one`, `few`, `many` or `other`.
    pub const fn plural(self, count: u64) -> &'static str {
        match self {
            Self::English | Self::German => {
                if count == 1 {
                    "one"
                } else {
                    "other"
                }
            }
            Self::Russian => match (count % 10, count % 100) {
                (_, 11..=14) => "many",
                (1, _) => "one",
                (2..=4, _) => "few",
                _ => "many",
            },
        }
    }

    /// Date and time of day: `22 November 2025, 08:26 UTC`; `None` for what no calendar has.
    pub fn date(self, instant: Timestamp) -> Option<String> {
        let at = instant.to_utc().ok()?;
        let (day, month, year) = (at.day(), self.month(at.month()), at.year());
        let (hour, minute) = (at.hour(), at.minute());
        Some(match self {
            Self::English => format!("{day} {month} {year}, {hour:02}:{minute:02} UTC"),
            Self::German => format!("{day}. {month} {year}, {hour:02}:{minute:02} Uhr (UTC)"),
            Self::Russian => {
                format!("{day} {month} {year}{NO_BREAK_SPACE}г., {hour:02}:{minute:02} (UTC)")
            }
        })
    }

    fn grouped(self, digits: &str) -> String {
        let count = digits.len();
        let mut grouped = String::with_capacity(count + count / GROUP_DIGITS * 2);
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (count - at).is_multiple_of(GROUP_DIGITS) {
                grouped.push(self.group_sign());
            }
            grouped.push(digit);
        }
        grouped
    }

    const fn decimal_sign(self) -> char {
        match self {
            Self::English => '.',
            Self::German | Self::Russian => ',',
        }
    }

    const fn group_sign(self) -> char {
        match self {
            Self::English => ',',
            Self::German => '.',
            Self::Russian => NO_BREAK_SPACE,
        }
    }

    /// The name of a month as it stands in a date.
    const fn month(self, month: Month) -> &'static str {
        let names = match self {
            Self::English => [
                "January",
                "February",
                "March",
                "April",
                "May",
                "June",
                "July",
                "August",
                "September",
                "October",
                "November",
                "December",
            ],
            Self::German => [
                "Januar",
                "Februar",
                "März",
                "April",
                "Mai",
                "Juni",
                "Juli",
                "August",
                "September",
                "Oktober",
                "November",
                "Dezember",
            ],
            Self::Russian => [
                "января",
                "февраля",
                "марта",
                "апреля",
                "мая",
                "июня",
                "июля",
                "августа",
                "сентября",
                "октября",
                "ноября",
                "декабря",
            ],
        };
        let [jan, feb, mar, apr, may, jun, jul, aug, sep, oct, nov, dec] = names;
        match month {
            Month::January => jan,
            Month::February => feb,
            Month::March => mar,
            Month::April => apr,
            Month::May => may,
            Month::June => jun,
            Month::July => jul,
            Month::August => aug,
            Month::September => sep,
            Month::October => oct,
            Month::November => nov,
            Month::December => dec,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_is_chosen_by_its_first_subtag_and_is_english_otherwise() {
        for (locale, expected) in [
            ("en", Language::English),
            ("EN", Language::English),
            ("en-GB-oxendict", Language::English),
            ("de", Language::German),
            ("de-AT", Language::German),
            ("DE-1996", Language::German),
            ("ru-Cyrl-RU", Language::Russian),
            ("rue", Language::English),
            ("den", Language::English),
            ("fr-CA", Language::English),
            ("", Language::English),
        ] {
            assert_eq!(Language::of(locale), expected, "{locale}");
        }
    }

    #[test]
    fn amounts_stand_as_each_language_writes_them() {
        let amount = |currency: &str, minor| Amount {
            currency: currency.parse().unwrap(),
            minor,
        };
        for (amount, english, german, russian) in [
            (amount("EUR", 1250), "12.50 EUR", "12,50 EUR", "12,50 EUR"),
            (amount("EUR", 5), "0.05 EUR", "0,05 EUR", "0,05 EUR"),
            (
                amount("EUR", 123_456),
                "1,234.56 EUR",
                "1.234,56 EUR",
                "1\u{a0}234,56 EUR",
            ),
            (
                amount("EUR", -12_345_678_900),
                "-123,456,789.00 EUR",
                "-123.456.789,00 EUR",
                "-123\u{a0}456\u{a0}789,00 EUR",
            ),
            (
                amount("JPY", 1_000),
                "1,000 JPY",
                "1.000 JPY",
                "1\u{a0}000 JPY",
            ),
            (amount("KWD", 1), "0.001 KWD", "0,001 KWD", "0,001 KWD"),
            (
                amount("USD", i64::MAX),
                "92,233,720,368,547,758.07 USD",
                "92.233.720.368.547.758,07 USD",
                "92\u{a0}233\u{a0}720\u{a0}368\u{a0}547\u{a0}758,07 USD",
            ),
        ] {
            assert_eq!(Language::English.amount(amount), english);
            assert_eq!(Language::German.amount(amount), german);
            assert_eq!(Language::Russian.amount(amount), russian);
        }
    }

    #[test]
    fn nouns_follow_their_count() {
        for (count, two_forms, russian) in [
            (0, "other", "many"),
            (1, "one", "one"),
            (2, "other", "few"),
            (4, "other", "few"),
            (5, "other", "many"),
            (11, "other", "many"),
            (12, "other", "many"),
            (14, "other", "many"),
            (20, "other", "many"),
            (21, "other", "one"),
            (22, "other", "few"),
            (111, "other", "many"),
            (1_002, "other", "few"),
            (1_011, "other", "many"),
        ] {
            assert_eq!(Language::English.plural(count), two_forms, "{count}");
            assert_eq!(Language::German.plural(count), two_forms, "{count}");
            assert_eq!(Language::Russian.plural(count), russian, "{count}");
        }
        assert_eq!(Language::German.count(2_000), "2.000");
    }

    #[test]
    fn dates_have_the_names_of_their_language() {
        let at = Timestamp::from_micros(1_772_355_960_000_000);
        let date = |language: Language| language.date(at).unwrap();
        assert_eq!(date(Language::English), "1 March 2026, 09:06 UTC");
        assert_eq!(date(Language::German), "1. März 2026, 09:06 Uhr (UTC)");
        assert_eq!(date(Language::Russian), "1 марта 2026\u{a0}г., 09:06 (UTC)");
        assert_eq!(
            Language::English.date(Timestamp::from_micros(i64::MAX)),
            None
        );
    }
}
