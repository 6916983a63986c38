//! Currencies and amounts as text: the one place that knows how many decimals a currency has.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An ISO 4217 currency with a defined number of decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency(iso_currency::Currency);

/// A text that is not the upper-case code of a currency one can order in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an ISO 4217 currency code in upper case")]
pub struct UnknownCurrency;

impl Currency {
    /// The three-letter code.
    pub fn code(self) -> &'static str {
        self.0.code()
    }

    /// How many decimals an amount has.
    pub fn decimals(self) -> u32 {
        // `from_str` admits only currencies that have an exponent.
        self.0.exponent().map_or(0, u32::from)
    }

    /// `minor` units as a decimal string with exactly this currency's decimals.
    pub fn format_minor(self, minor: i64) -> String {
        let scale = 10_u64.pow(self.decimals());
        let sign = if minor < 0 { "-" } else { "" };
        let (whole, fraction) = (minor.unsigned_abs() / scale, minor.unsigned_abs() % scale);
        match self.decimals() as usize {
            0 => format!("{sign}{whole}"),
            width => format!("{sign}{whole}.{fraction:0width$}"),
        }
    }
}

impl std::str::FromStr for Currency {
    type Err = UnknownCurrency;
    fn from_str(code: &str) -> Result<Self, UnknownCurrency> {
        iso_currency::Currency::from_code(code)
            .filter(|currency| currency.exponent().is_some() && currency.code() == code)
            .map(Self)
            .ok_or(UnknownCurrency)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Code;
        impl de::Visitor<'_> for Code {
            type Value = Currency;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an ISO 4217 currency code")
            }
            fn visit_str<E: de::Error>(self, code: &str) -> Result<Currency, E> {
                code.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_exactly_the_currencys_decimals() {
        let format = |code: &str, minor| code.parse::<Currency>().unwrap().format_minor(minor);
        assert_eq!(format("EUR", 1250), "12.50");
        assert_eq!(format("EUR", 5), "0.05");
        assert_eq!(format("EUR", -5), "-0.05");
        assert_eq!(format("JPY", 1250), "1250");
        assert_eq!(format("KWD", 1250), "1.250");
        assert_eq!(format("EUR", i64::MIN), "-92233720368547758.08");
    }

    #[test]
    fn only_upper_case_codes_of_money_count() {
        for code in ["eur", "EURO", "", "XXX", "ZZZ"] {
            assert_eq!(code.parse::<Currency>(), Err(UnknownCurrency), "{code}");
        }
    }
}
