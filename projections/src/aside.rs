//! Records that an operator has set aside: the read models go on as if they were not in the log, where they stay. Kept where
//! the read model is, for all its generations, so that each says the same.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use events::{
    StreamVersion, Topic,
    ids::{OrderId, StreamId, UserId},
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

/// A record that was set aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAside {
    /// The partition of the read model's topic.
    pub partition: u16,
    /// The offset in it.
    pub offset: i64,
    /// The gap that it leaves in its stream; none where it is of no stream that the read model folds.
    pub gap: Option<Gap>,
    /// Why it could not be applied.
    pub error: String,
    /// Why it was set aside, as the operator says.
    pub reason: String,
    /// Who set it aside.
    pub operator: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

impl SetAside {
    /// Whether it stands there.
    pub fn is_at(&self, partition: u16, offset: i64) -> bool {
        (self.partition, self.offset) == (partition, offset)
    }
}

/// A version that a stream has in the log and not in the read model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The id of the stream.
    #[serde(with = "uuid::serde::hyphenated")]
    pub stream: Uuid,
    /// The version of the read model before the gap.
    pub after: StreamVersion,
    /// The version that was set aside.
    pub version: StreamVersion,
}

/// What is stepped over by whoever folds a topic.
#[derive(Debug, Clone, Default)]
pub struct Aside {
    places: Arc<BTreeSet<(u16, i64)>>,
    gaps: HashMap<(StreamId, StreamVersion), StreamVersion>,
}

impl Aside {
    /// What these records leave out of `topic`.
    pub fn of(topic: Topic, records: &[SetAside]) -> Self {
        let gaps = records.iter().filter_map(|record| record.gap);
        Self {
            places: Arc::new(
                records
                    .iter()
                    .map(|record| (record.partition, record.offset))
                    .collect(),
            ),
            gaps: gaps
                .map(|gap| ((stream(topic, gap.stream), gap.version), gap.after))
                .collect(),
        }
    }

    /// Where they stand: partition and offset.
    pub fn places(&self) -> &Arc<BTreeSet<(u16, i64)>> {
        &self.places
    }

    /// The version that the read model must have before it comes to `version` of this stream.
    pub fn before(&self, stream: StreamId, version: StreamVersion) -> StreamVersion {
        let before = version.saturating_sub(1);
        match self.gaps.is_empty() {
            true => before,
            false => self.gaps.get(&(stream, before)).copied().unwrap_or(before),
        }
    }
}

fn stream(topic: Topic, id: Uuid) -> StreamId {
    match topic {
        Topic::Users => UserId(id).into(),
        Topic::Orders => OrderId(id).into(),
    }
}

/// The stream that a record of `topic` under this key is of, where it is one that read models fold.
pub fn stream_of_key(topic: Topic, key: &[u8]) -> Option<StreamId> {
    let id = std::str::from_utf8(key).ok()?.parse().ok()?;
    Some(stream(topic, id))
}

/// The id of a stream that read models fold.
pub fn id_of(stream: StreamId) -> Option<Uuid> {
    match stream {
        StreamId::User(id) => Some(id.0),
        StreamId::Order(id) => Some(id.0),
        StreamId::Email(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::order;

    fn aside(offset: i64, gap: Option<(StreamVersion, StreamVersion)>) -> SetAside {
        SetAside {
            partition: 3,
            offset,
            gap: gap.map(|(after, version)| Gap {
                stream: order(1).0,
                after,
                version,
            }),
            error: "no headers".to_owned(),
            reason: "a test".to_owned(),
            operator: "me".to_owned(),
            at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn what_follows_a_gap_follows_what_is_before_it() {
        let records = [
            aside(5, Some((4, 5))),
            aside(9, Some((4, 6))),
            aside(7, None),
        ];
        let aside = Aside::of(Topic::Orders, &records);
        assert_eq!(
            aside.places().iter().collect::<Vec<_>>(),
            [&(3, 5), &(3, 7), &(3, 9)]
        );
        for (version, before) in [(1, 0), (4, 3), (5, 4), (6, 4), (7, 4), (8, 7)] {
            assert_eq!(aside.before(order(1).into(), version), before, "{version}");
        }
        assert_eq!(aside.before(order(2).into(), 7), 6);
    }

    #[test]
    fn only_ids_are_keys_of_streams() {
        let id = order(1);
        let key = id.to_string();
        assert_eq!(
            stream_of_key(Topic::Orders, key.as_bytes()),
            Some(id.into())
        );
        assert_eq!(stream_of_key(Topic::Orders, b"no id"), None);
        assert_eq!(stream_of_key(Topic::Orders, &[0xff]), None);
    }
}
