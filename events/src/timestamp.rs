//! Instants as the log stores them.

use std::fmt;

use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// An instant: microseconds since 1970-01-01T00:00:00Z (Avro `timestamp-micros`).
/// Serde writes the number; [`fmt::Display`] writes RFC 3339 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

/// A number or text that is no instant between the years 1 and 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 time between the years 1 and 9999")]
pub struct InvalidTimestamp;

impl Timestamp {
    /// From microseconds since the epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// The same instant as a calendar date and time in UTC; [`InvalidTimestamp`] outside of years 1 to 9999.
    pub fn to_utc(self) -> Result<OffsetDateTime, InvalidTimestamp> {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000)
            .ok()
            .filter(|utc| (1..=9999).contains(&utc.year()))
            .ok_or(InvalidTimestamp)
    }
}

impl From<OffsetDateTime> for Timestamp {
    fn from(instant: OffsetDateTime) -> Self {
        // Within the years 1 to 9999 microseconds fit an i64 with room to spare.
        Self((instant.unix_timestamp_nanos() / 1_000) as i64)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_utc().map(|utc| utc.format(&Rfc3339)) {
            Ok(Ok(text)) => f.write_str(&text),
            Ok(Err(_)) | Err(InvalidTimestamp) => write!(f, "invalid timestamp {}", self.0),
        }
    }
}

impl std::str::FromStr for Timestamp {
    type Err = InvalidTimestamp;
    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        let instant = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| InvalidTimestamp)?;
        let instant = Self::from(instant);
        instant.to_utc().map(|_| instant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        for micros in [0, 1, 1_763_800_000_123_456, -62_135_596_800_000_000] {
            let instant = Timestamp::from_micros(micros);
            assert_eq!(instant.to_string().parse(), Ok(instant));
        }
    }

    #[test]
    fn an_impossible_instant_is_said_to_be_one() {
        assert_eq!(
            Timestamp::from_micros(i64::MAX).to_utc(),
            Err(InvalidTimestamp)
        );
        for text in [
            "yesterday",
            "0000-01-01T00:00:00Z",
            "9999-12-31T23:59:59-01:00",
        ] {
            assert_eq!(text.parse::<Timestamp>(), Err(InvalidTimestamp), "{text}");
        }
    }
}
