//! Plain values whose rules do not depend on any state: parsed once at the edge, right from then on.
//!
//! Texts are trimmed and control characters refused. What is personal does not show in `Debug`.

mod attributes;
mod country;
mod lines;
mod locale;

use std::fmt;

use events::currency::UnknownCurrency;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::money::MoneyError;

pub use attributes::{ATTRIBUTES_BYTES_MAX, ATTRIBUTES_LEVELS_MAX, Attributes};
pub use lines::{LINES_MAX, Lines, NewLine};

/// How many pieces a line may order.
pub const QUANTITY_MAX: i32 = 1_000_000;
/// Why a value is not acceptable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Fewer characters than needed.
    #[error("must have at least {min} character(s)")]
    TooShort {
        /// How many are needed.
        min: usize,
    },
    /// More characters than allowed.
    #[error("must have at most {max} characters")]
    TooLong {
        /// How many are allowed.
        max: usize,
    },
    /// A control character, a line break among them.
    #[error("must not contain control characters")]
    ControlCharacter,
    /// White space or invisible characters where only visible ones may stand.
    #[error("must consist of visible characters, without spaces")]
    NotVisible,
    /// A number out of its range.
    #[error("must be between {min} and {max}")]
    OutOfRange {
        /// The least.
        min: i64,
        /// The most.
        max: i64,
    },
    /// Fewer items than needed.
    #[error("must have at least {min} item(s)")]
    TooFew {
        /// How many are needed.
        min: usize,
    },
    /// More items than allowed.
    #[error("must have at most {max} items")]
    TooMany {
        /// How many are allowed.
        max: usize,
    },
    /// More bytes than allowed.
    #[error("must have at most {max} bytes as compact JSON")]
    TooManyBytes {
        /// How many are allowed.
        max: usize,
    },
    /// Nested deeper than allowed.
    #[error("must be nested at most {max} levels deep")]
    TooDeep {
        /// How many levels are allowed.
        max: usize,
    },
    /// None of the words that may stand there.
    #[error("must be one of: {allowed}")]
    NotOneOf {
        /// The words, separated by commas.
        allowed: &'static str,
    },
    /// Not a phone number.
    #[error("must be a phone number in E.164 form such as +4915112345678")]
    NotE164,
    /// Not a language tag.
    #[error("must be a BCP 47 language tag such as de-DE")]
    NotBcp47,
    /// Not an e-mail address.
    #[error("must be an e-mail address such as ada@example.com")]
    NotEmail,
    /// Not a country.
    #[error("must be an ISO 3166-1 alpha-2 country code in upper case such as DE")]
    NotIso3166,
    /// Not a currency.
    #[error("must be an ISO 4217 currency code in upper case such as EUR")]
    NotIso4217,
    /// Not an amount of money.
    #[error(transparent)]
    Money(#[from] MoneyError),
}

impl Invalid {
    /// The stable name of the error.
    pub const fn code(self) -> &'static str {
        match self {
            Self::TooShort { .. } => "too_short",
            Self::TooLong { .. } => "too_long",
            Self::ControlCharacter => "control_character",
            Self::NotVisible => "not_visible",
            Self::OutOfRange { .. } => "out_of_range",
            Self::TooFew { .. } => "too_few",
            Self::TooMany { .. } => "too_many",
            Self::TooManyBytes { .. } => "too_many_bytes",
            Self::TooDeep { .. } => "too_deep",
            Self::NotOneOf { .. } => "not_one_of",
            Self::NotE164 => "not_e164",
            Self::NotBcp47 => "not_bcp47",
            Self::NotEmail => "not_email",
            Self::NotIso3166 => "not_iso3166",
            Self::NotIso4217 => "not_iso4217",
            Self::Money(error) => error.code(),
        }
    }
}

impl From<UnknownCurrency> for Invalid {
    fn from(_: UnknownCurrency) -> Self {
        Self::NotIso4217
    }
}

/// Which part of a value is not acceptable, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidPart {
    /// JSON pointer (RFC 6901) relative to the value; empty for the value itself.
    pub pointer: String,
    /// Why.
    pub invalid: Invalid,
}

/// `text` trimmed, if it has `min` to `max` characters and none of them is a control character.
fn trimmed(text: &str, min: usize, max: usize) -> Result<&str, Invalid> {
    let text = text.trim();
    if text.chars().any(char::is_control) {
        return Err(Invalid::ControlCharacter);
    }
    check_length(text, min, max)?;
    Ok(text)
}

fn check_length(text: &str, min: usize, max: usize) -> Result<(), Invalid> {
    let length = text.chars().count();
    if length > max {
        return Err(Invalid::TooLong { max });
    }
    if length < min {
        return Err(Invalid::TooShort { min });
    }
    Ok(())
}

macro_rules! texts {
    ($( $(#[$doc:meta])* $name:ident, $min:literal to $max:literal $(, $check:expr)?; )+) => { $(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The fewest characters.
            pub const CHARS_MIN: usize = $min;
            /// The most characters.
            pub const CHARS_MAX: usize = $max;

            /// Trims and checks `text`.
            pub fn parse(text: &str) -> Result<Self, Invalid> {
                let text = trimmed(text, Self::CHARS_MIN, Self::CHARS_MAX)?;
                $( let text = ($check)(text)?; )?
                Ok(Self(text.into()))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0
            }
        }
    )+ };
}

macro_rules! shown {
    ($($name:ident),+) => { $(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:?})", stringify!($name), self.0)
            }
        }
    )+ };
}

macro_rules! personal {
    ($($name:ident),+) => { $(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(personal)"))
            }
        }
    )+ };
}

texts! {
    /// The seller's name for an article: visible characters, no spaces.
    Sku, 1 to 64, visible;
    /// What an article is called on an order.
    LineName, 1 to 200;
    /// Why a step was taken. Not sealed: no place for personal data.
    Reason, 0 to 500;
    /// A customer's words about an order. Personal.
    Note, 0 to 2_000;
    /// What a person is called. Personal.
    PersonName, 1 to 200;
    /// A phone number in E.164 form: `+`, country code and number, at most 15 digits. Personal.
    Phone, 1 to 16, e164;
    /// A language tag (BCP 47) in its recommended letter case.
    Locale, 1 to 35, bcp47;
    /// An e-mail address that can be delivered to: an ASCII dot-atom at a domain with a dot (a subset
    /// of RFC 5321), in lower case, so that one mailbox is one text. Personal.
    EmailAddress, 1 to 254, email;
}
shown!(Sku, LineName, Reason, Locale);
personal!(Note, PersonName, Phone, EmailAddress);

impl Default for Locale {
    /// Who has not said otherwise is written to in English.
    fn default() -> Self {
        Self("en".to_owned())
    }
}

impl Locale {
    /// A locale that the log holds.
    pub(crate) fn recorded(text: &str) -> Self {
        Self(text.to_owned())
    }
}

fn visible(text: &str) -> Result<&str, Invalid> {
    let invisible = |c: char| {
        c.is_whitespace()
            || matches!(
                c,
                '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
            )
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
            || matches!(c, '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
    };
    if text.chars().any(invisible) {
        Err(Invalid::NotVisible)
    } else {
        Ok(text)
    }
}

fn e164(text: &str) -> Result<&str, Invalid> {
    let digits = text.strip_prefix('+').ok_or(Invalid::NotE164)?;
    let is_number = (2..=15).contains(&digits.len())
        && !digits.starts_with('0')
        && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_number {
        Ok(text)
    } else {
        Err(Invalid::NotE164)
    }
}

fn bcp47(text: &str) -> Result<String, Invalid> {
    locale::canonical(text).ok_or(Invalid::NotBcp47)
}

fn email(text: &str) -> Result<String, Invalid> {
    const LOCAL_BYTES_MAX: usize = 64;
    const LABEL_BYTES_MAX: usize = 63;
    let is_atom = |atom: &str| {
        let special = |byte| b"!#$%&'*+-/=?^_`{|}~".contains(&byte);
        !atom.is_empty()
            && atom
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || special(byte))
    };
    let is_label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let (local, domain) = text.split_once('@').ok_or(Invalid::NotEmail)?;
    let top_is_a_name = domain
        .rsplit_once('.')
        .is_some_and(|(_, top)| top.len() >= 2 && !top.bytes().all(|byte| byte.is_ascii_digit()));
    let is_address = local.len() <= LOCAL_BYTES_MAX
        && local.split('.').all(is_atom)
        && domain.split('.').all(is_label)
        && top_is_a_name;
    if is_address {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(Invalid::NotEmail)
    }
}

/// A password as a user chose it: neither trimmed nor shown, and wiped from memory when dropped.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// The fewest characters.
    pub const CHARS_MIN: usize = 12;
    /// The most characters.
    pub const CHARS_MAX: usize = 128;

    /// Checks `text`, which is taken as it is.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.chars().any(char::is_control) {
            return Err(Invalid::ControlCharacter);
        }
        check_length(text, Self::CHARS_MIN, Self::CHARS_MAX)?;
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// The password itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(secret)")
    }
}

/// How many pieces are ordered: 1 to [`QUANTITY_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity(i32);

impl Quantity {
    /// Checks `pieces`.
    pub fn parse(pieces: i64) -> Result<Self, Invalid> {
        match i32::try_from(pieces) {
            Ok(pieces @ 1..=QUANTITY_MAX) => Ok(Self(pieces)),
            Ok(_) | Err(_) => Err(Invalid::OutOfRange {
                min: 1,
                max: i64::from(QUANTITY_MAX),
            }),
        }
    }

    /// How many.
    pub const fn get(self) -> i32 {
        self.0
    }
}

/// The parts of an address as they were sent.
#[derive(Clone, Copy, Default)]
#[expect(missing_docs, reason = "the fields are those of Address")]
pub struct AddressParts<'a> {
    pub recipient: &'a str,
    pub street: &'a str,
    pub street2: Option<&'a str>,
    pub postal_code: &'a str,
    pub city: &'a str,
    pub region: Option<&'a str>,
    pub country: &'a str,
}

/// Where an order is sent to. Serialises to the JSON object that is sealed. Personal.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Address {
    recipient: String,
    street: String,
    street2: Option<String>,
    postal_code: String,
    city: String,
    region: Option<String>,
    country: String,
}

personal!(Address);

impl Address {
    /// The most characters of recipient, street and street2.
    pub const LINE_CHARS_MAX: usize = 200;
    /// The most characters of a city or region.
    pub const PLACE_CHARS_MAX: usize = 100;
    /// The most characters of a postal code.
    pub const POSTAL_CODE_CHARS_MAX: usize = 20;

    /// Trims and checks every part; the error has all that is wrong.
    pub fn parse(parts: AddressParts<'_>) -> Result<Self, Vec<InvalidPart>> {
        let mut errors = Vec::new();
        let mut part = |name: &str, text: &str, min, max| match trimmed(text, min, max) {
            Ok(text) => text.to_owned(),
            Err(invalid) => {
                errors.push(InvalidPart {
                    pointer: format!("/{name}"),
                    invalid,
                });
                String::new()
            }
        };
        let address = Self {
            recipient: part("recipient", parts.recipient, 1, Self::LINE_CHARS_MAX),
            street: part("street", parts.street, 1, Self::LINE_CHARS_MAX),
            street2: parts
                .street2
                .map(|text| part("street2", text, 0, Self::LINE_CHARS_MAX)),
            postal_code: part(
                "postal_code",
                parts.postal_code,
                1,
                Self::POSTAL_CODE_CHARS_MAX,
            ),
            city: part("city", parts.city, 1, Self::PLACE_CHARS_MAX),
            region: parts
                .region
                .map(|text| part("region", text, 0, Self::PLACE_CHARS_MAX)),
            country: parts.country.trim().to_owned(),
        };
        if !country::is_country(&address.country) {
            errors.push(InvalidPart {
                pointer: "/country".to_owned(),
                invalid: Invalid::NotIso3166,
            });
        }
        if errors.is_empty() {
            Ok(address)
        } else {
            Err(errors)
        }
    }
}

#[cfg(test)]
mod tests;
