//! Reads that follow writes: a command names how far the log is with it, a query waits for that point.

use std::{fmt, str::FromStr};

use actix_web::http::header::HeaderMap;
use events::Topic;
use serde::{Deserialize, Serialize};

use crate::problem::Problem;

/// The header that carries a token, in answers of commands and in requests of queries.
pub const CONSISTENCY_TOKEN: &str = "consistency-token";

/// What a token looks like, for the API description.
pub(crate) const CONSISTENCY_TOKEN_PATTERN: &str = "^(users|orders)-[0-9]{1,5}-[0-9]{1,19}$";

/// "At least this far": the read model of `topic` reflects the record at `offset` of `partition` when its
/// checkpoint there, the next offset to read, is greater than `offset`.
/// Written `users-3-17`; clients must take it as opaque.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ConsistencyToken {
    /// The topic that the command appended to.
    pub topic: Topic,
    /// The partition in it.
    pub partition: u16,
    /// The offset of the last event of the command.
    pub offset: i64,
}

/// A text that no answer carried as consistency token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a consistency token of this service")]
pub struct InvalidConsistencyToken;

impl ConsistencyToken {
    /// The token of a request, `None` where it sends none; the problem `invalid-consistency-token` otherwise.
    pub fn of_request(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let Some(value) = headers.get(CONSISTENCY_TOKEN) else {
            return Ok(None);
        };
        let token = value
            .to_str()
            .ok()
            .and_then(|text| text.trim().parse().ok());
        token
            .map(Some)
            .ok_or_else(Problem::invalid_consistency_token)
    }

    /// Whether a read model whose checkpoint is `position` (the next offset to read) reflects the command.
    pub const fn is_reached_by(self, position: i64) -> bool {
        position > self.offset
    }
}

impl fmt::Display for ConsistencyToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}-{}-{}",
            self.topic.name(),
            self.partition,
            self.offset
        )
    }
}

impl FromStr for ConsistencyToken {
    type Err = InvalidConsistencyToken;

    fn from_str(text: &str) -> Result<Self, InvalidConsistencyToken> {
        let mut parts = text.splitn(3, '-');
        let mut part = || parts.next().ok_or(InvalidConsistencyToken);
        let (topic, partition, offset) = (part()?, part()?, part()?);
        let topic = Topic::ALL
            .into_iter()
            .find(|each| each.name() == topic)
            .ok_or(InvalidConsistencyToken)?;
        let offset = offset
            .parse()
            .ok()
            .filter(|offset| *offset >= 0)
            .ok_or(InvalidConsistencyToken)?;
        Ok(Self {
            topic,
            partition: partition.parse().map_err(|_| InvalidConsistencyToken)?,
            offset,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_round_trips() {
        let token = ConsistencyToken {
            topic: Topic::Orders,
            partition: 5,
            offset: i64::MAX,
        };
        assert_eq!(token.to_string().parse(), Ok(token));
        assert!(!token.is_reached_by(i64::MAX));
        // What the description says of tokens is said of each topic.
        for topic in Topic::ALL {
            assert!(CONSISTENCY_TOKEN_PATTERN.contains(topic.name()));
        }
    }

    #[test]
    fn what_no_answer_carried_is_refused() {
        for text in [
            "",
            "orders",
            "orders-1",
            "orders-1-",
            "orders-1--2",
            "orders-70000-1",
            "mail-1-1",
            "orders-1-1-1",
        ] {
            assert_eq!(
                text.parse::<ConsistencyToken>(),
                Err(InvalidConsistencyToken),
                "{text}"
            );
        }
    }
}
