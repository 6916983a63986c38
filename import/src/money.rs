//! Amounts of money: decimal text to and from minor units. No floats anywhere.

use std::fmt;

use iso_currency::Currency;

/// Most digits before the point that are read; more than any price needs, and no overflow.
const WHOLE_DIGITS_MAX: usize = 15;

/// A currency and how many decimals its amounts have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit {
    currency: Currency,
    decimals: u32,
}

/// Why a text is no amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAmount {
    /// Not a plain decimal number, or too long a one.
    NotDecimal,
    /// A decimal number that is no whole number of minor units.
    TooManyDecimals,
}

impl Unit {
    /// The unit of an ISO 4217 code in upper case.
    ///
    /// # Errors
    /// A sentence, when there is no such currency or it has no minor unit defined.
    pub fn of_code(code: &str) -> Result<Self, String> {
        let currency = Currency::from_code(code).filter(|currency| currency.code() == code);
        let currency = currency.ok_or_else(|| format!("{code} is no ISO 4217 currency code"))?;
        let decimals = currency
            .exponent()
            .ok_or_else(|| format!("{code} has no minor unit"))?;
        Ok(Self {
            currency,
            decimals: u32::from(decimals),
        })
    }

    /// The code of the currency.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.currency.code()
    }

    /// The minor units of a decimal text. Zeros behind the last decimal change nothing, so `2.500`
    /// is read as `2.50`; any other digit there is refused, never rounded.
    ///
    /// # Errors
    /// [`NoAmount`] when the text is no decimal number or has too many decimals.
    pub fn parse(self, text: &str) -> Result<i128, NoAmount> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !all_digits(whole) || !all_digits(fraction) || whole.len() > WHOLE_DIGITS_MAX {
            return Err(NoAmount::NotDecimal);
        }
        let fraction = fraction.trim_end_matches('0');
        let missing = (self.decimals as usize).checked_sub(fraction.len());
        let missing = missing.ok_or(NoAmount::TooManyDecimals)?;
        let minor = whole
            .bytes()
            .chain(fraction.bytes())
            .chain(std::iter::repeat_n(b'0', missing))
            .fold(0_i128, |minor, digit| minor * 10 + i128::from(digit - b'0'));
        Ok(if negative { -minor } else { minor })
    }

    /// The amount as decimal text with exactly the currency's decimals.
    #[must_use]
    pub fn text(self, minor: i128) -> String {
        let scale = 10_u128.pow(self.decimals);
        let sign = if minor < 0 { "-" } else { "" };
        let (whole, fraction) = (minor.unsigned_abs() / scale, minor.unsigned_abs() % scale);
        match self.decimals as usize {
            0 => format!("{sign}{whole}"),
            width => format!("{sign}{whole}.{fraction:0width$}"),
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gbp() -> Unit {
        Unit::of_code("GBP").unwrap()
    }

    #[test]
    fn decimal_text_becomes_minor_units_exactly() {
        let cases = [
            ("4.15", 415),
            ("4.1", 410),
            ("4", 400),
            ("0.0", 0),
            ("0.29", 29),
            ("1.500", 150),
            ("-2.55", -255),
            ("+1.10", 110),
            ("007.50", 750),
            ("90071992547409.93", 9_007_199_254_740_993),
        ];
        for (text, minor) in cases {
            assert_eq!(gbp().parse(text), Ok(minor), "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in [
            "",
            "-",
            ".5",
            "5.",
            "1,50",
            "1e3",
            "NaN",
            " 1",
            "1.2.3",
            "£1",
            "١",
            "9999999999999999",
        ] {
            assert_eq!(gbp().parse(text), Err(NoAmount::NotDecimal), "{text}");
        }
        for text in ["0.001", "1.005", "1.2345"] {
            assert_eq!(gbp().parse(text), Err(NoAmount::TooManyDecimals), "{text}");
        }
    }

    #[test]
    fn every_currency_has_its_own_decimals() {
        let yen = Unit::of_code("JPY").unwrap();
        assert_eq!(yen.parse("100.0"), Ok(100));
        assert_eq!(yen.parse("100.5"), Err(NoAmount::TooManyDecimals));
        assert_eq!(yen.text(100), "100");
        assert_eq!(Unit::of_code("KWD").unwrap().parse("1.234"), Ok(1234));
        assert!(Unit::of_code("gbp").is_err());
        assert!(Unit::of_code("ABC").is_err());
    }

    #[test]
    fn minor_units_become_text_with_all_decimals() {
        for (minor, text) in [(0, "0.00"), (5, "0.05"), (-5, "-0.05"), (410, "4.10")] {
            assert_eq!(gbp().text(minor), text);
        }
    }
}
