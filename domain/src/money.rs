//! Amounts of money: exact, in minor units, checked. Never a float.

use events::currency::Currency;

use crate::values::Quantity;

/// The most decimals that a currency of ISO 4217 has.
pub const DECIMALS_MAX: u32 = 4;

/// A text that is not an amount of money, or an amount too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Not digits, or digits, a point and digits.
    #[error("must be a decimal number such as \"12.50\": no sign, no exponent, no leading zeros")]
    NotDecimal,
    /// More decimals than the currency has.
    #[error("must have at most {max} decimals in this currency")]
    TooManyDecimals {
        /// How many the currency has.
        max: u32,
    },
    /// Does not fit 64 bits of minor units.
    #[error("is too large an amount")]
    TooLarge,
}

impl MoneyError {
    /// The stable name of the error.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotDecimal => "not_decimal",
            Self::TooManyDecimals { .. } => "too_many_decimals",
            Self::TooLarge => "too_large",
        }
    }
}

/// A price in minor units, at least zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Price(i64);

impl Price {
    /// The minor units.
    pub const fn minor(self) -> i64 {
        self.0
    }
}

/// A non-negative decimal number, exact, not yet of any currency: what a price is while its currency
/// is still to be looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Decimal {
    digits: i64,
    decimals: u32,
}

impl Decimal {
    /// Reads `12` or `12.50`. The text is not trimmed.
    pub fn parse(text: &str) -> Result<Self, MoneyError> {
        let (whole, fraction) = match text.split_once('.') {
            Some((whole, fraction)) if is_digits(fraction) => (whole, fraction),
            Some(_) => return Err(MoneyError::NotDecimal),
            None => (text, ""),
        };
        if !is_digits(whole) || (whole.len() > 1 && whole.starts_with('0')) {
            return Err(MoneyError::NotDecimal);
        }
        let decimals = u32::try_from(fraction.len()).unwrap_or(u32::MAX);
        if decimals > DECIMALS_MAX {
            return Err(MoneyError::TooManyDecimals { max: DECIMALS_MAX });
        }
        let digits = whole
            .bytes()
            .chain(fraction.bytes())
            .try_fold(0_i64, |digits, digit| {
                digits.checked_mul(10)?.checked_add(i64::from(digit - b'0'))
            });
        Ok(Self {
            digits: digits.ok_or(MoneyError::TooLarge)?,
            decimals,
        })
    }

    /// This number as a price in `currency`.
    pub fn in_currency(self, currency: Currency) -> Result<Price, MoneyError> {
        let max = currency.decimals();
        let missing = max
            .checked_sub(self.decimals)
            .ok_or(MoneyError::TooManyDecimals { max })?;
        let scale = 10_i64.checked_pow(missing).ok_or(MoneyError::TooLarge)?;
        self.digits
            .checked_mul(scale)
            .map(Price)
            .ok_or(MoneyError::TooLarge)
    }
}

/// Reads a decimal string with at most the currency's decimals. The text is not trimmed.
pub fn parse_minor(text: &str, currency: Currency) -> Result<Price, MoneyError> {
    Decimal::parse(text)?.in_currency(currency)
}

/// Minor units of `quantity` pieces at `unit_price` each.
pub fn amount(quantity: Quantity, unit_price: Price) -> Result<i64, MoneyError> {
    unit_price
        .0
        .checked_mul(i64::from(quantity.get()))
        .ok_or(MoneyError::TooLarge)
}

/// The sum of amounts in minor units.
pub fn total(amounts_minor: impl IntoIterator<Item = i64>) -> Result<i64, MoneyError> {
    amounts_minor
        .into_iter()
        .try_fold(0_i64, i64::checked_add)
        .ok_or(MoneyError::TooLarge)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn currency(code: &str) -> Currency {
        code.parse().unwrap()
    }

    fn minor(text: &str, code: &str) -> Result<i64, MoneyError> {
        parse_minor(text, currency(code)).map(Price::minor)
    }

    #[test]
    fn a_decimal_string_is_read_exactly() {
        for (text, code, expected) in [
            ("12.50", "EUR", 1250),
            ("12.5", "EUR", 1250),
            ("12", "EUR", 1200),
            ("0", "EUR", 0),
            ("0.01", "EUR", 1),
            ("0.00", "EUR", 0),
            ("1250", "JPY", 1250),
            ("1.250", "KWD", 1250),
            ("0.0001", "CLF", 1),
            ("92233720368547758.07", "EUR", i64::MAX),
        ] {
            assert_eq!(minor(text, code), Ok(expected), "{text} {code}");
        }
    }

    #[test]
    fn what_is_no_plain_decimal_is_refused() {
        for text in [
            "", " ", ".", "-1", "+1", "1e3", "1E3", " 1", "1 ", "1,5", ".5", "5.", "1.2.3", "0x1",
            "01", "00.5", "NaN", "inf", "١", "1_000", "1.-1", "1.5 ", "twelve", "\u{ff11}",
        ] {
            assert_eq!(minor(text, "EUR"), Err(MoneyError::NotDecimal), "{text:?}");
        }
    }

    #[test]
    fn more_decimals_than_the_currency_has_are_refused() {
        for (text, code, max) in [
            ("1.234", "EUR", 2),
            ("1.230", "EUR", 2),
            ("1.0", "JPY", 0),
            ("1.2345", "KWD", 3),
        ] {
            let expected = Err(MoneyError::TooManyDecimals { max });
            assert_eq!(minor(text, code), expected, "{text} {code}");
        }
        let endless = format!("1.{}", "0".repeat(100_000));
        assert_eq!(
            minor(&endless, "EUR"),
            Err(MoneyError::TooManyDecimals { max: 4 })
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let endless = "9".repeat(100_000);
        for text in [
            "92233720368547758.08",
            "9223372036854775807",
            endless.as_str(),
        ] {
            assert_eq!(minor(text, "EUR"), Err(MoneyError::TooLarge));
        }
    }

    #[test]
    fn no_currency_has_more_decimals_than_we_read() {
        for a in 'A'..='Z' {
            for b in 'A'..='Z' {
                for c in 'A'..='Z' {
                    if let Ok(currency) = format!("{a}{b}{c}").parse::<Currency>() {
                        assert!(currency.decimals() <= DECIMALS_MAX, "{currency}");
                    }
                }
            }
        }
    }

    #[test]
    fn amounts_and_totals_are_checked() {
        let quantity = Quantity::parse(1_000_000).unwrap();
        let price = parse_minor("92233720368.54", currency("EUR")).unwrap();
        assert_eq!(amount(quantity, price), Ok(9_223_372_036_854_000_000));
        let price = parse_minor("92233720368.55", currency("EUR")).unwrap();
        assert_eq!(amount(quantity, price), Err(MoneyError::TooLarge));
        assert_eq!(total([i64::MAX, 0]), Ok(i64::MAX));
        assert_eq!(total([i64::MAX, 1]), Err(MoneyError::TooLarge));
        assert_eq!(total([]), Ok(0));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            minor in 0..=i64::MAX,
            code in prop::sample::select(vec!["EUR", "JPY", "KWD", "CLF"]),
        ) {
            let currency = currency(code);
            prop_assert_eq!(parse_minor(&currency.format_minor(minor), currency), Ok(Price(minor)));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*", digits in "[0-9]{0,30}(\\.[0-9]{0,6})?") {
            for text in [text, digits] {
                if let Ok(price) = parse_minor(&text, currency("EUR")) {
                    prop_assert!(price.minor() >= 0);
                }
            }
        }
    }
}
