//! What a read model keeps of each event, beside the states of streams. There is more of it than memory, so it is compared by sums of
//! hashes, one for each share of the streams; only a share that differs is looked at stream by stream.

use events::ids::StreamId;

use super::part;
use crate::digest::Digest;

/// Shares of the streams, by the hash of their ids.
pub const SHARES: usize = 1_024;

/// What is kept of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The stream of the event.
    pub stream: StreamId,
    /// Where in its partition the log has the event.
    pub offset: i64,
    /// Hash of all that is kept.
    pub digest: Digest,
}

/// The sums of the hashes of entries, one for each share of the streams.
#[derive(Debug)]
pub struct Sums(Vec<Digest>);

impl Default for Sums {
    fn default() -> Self {
        Self(vec![Digest::NOTHING; SHARES])
    }
}

impl Sums {
    /// Adds an entry; in which order does not matter.
    pub fn add(&mut self, entry: &Entry) {
        if let Some(sum) = self.0.get_mut(share_of(entry.stream)) {
            *sum = sum.plus(entry.digest);
        }
    }

    /// The shares in which the others are other.
    pub fn differing(&self, others: &Self) -> Vec<usize> {
        let pairs = self.0.iter().zip(&others.0).enumerate();
        pairs
            .filter_map(|(share, (one, other))| (one != other).then_some(share))
            .collect()
    }
}

/// The share that a stream is in.
pub fn share_of(stream: StreamId) -> usize {
    usize::try_from(part::share_of(stream, SHARES as u64)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{digest::Hasher, samples::order};

    fn entry(number: u128, offset: i64) -> Entry {
        let digest = Hasher::default().number(offset).finish();
        let stream = order(number).into();
        Entry {
            stream,
            offset,
            digest,
        }
    }

    fn sums(entries: &[Entry]) -> Sums {
        let mut sums = Sums::default();
        entries.iter().for_each(|entry| sums.add(entry));
        sums
    }

    #[test]
    fn sums_differ_where_an_entry_is_missing_doubled_or_other() {
        let all: Vec<Entry> = (0..100)
            .map(|n| entry(n % 7, n.try_into().unwrap()))
            .collect();
        let mut backwards = all.clone();
        backwards.reverse();
        let whole = sums(&all);
        assert!(whole.differing(&sums(&backwards)).is_empty());
        let (last, rest) = all.split_last().unwrap();
        let doubled = [&all[..], &[*last]].concat();
        let other = [rest, &[entry(99 % 7, 1_000)]].concat();
        for wrong in [rest, &doubled[..], &other[..]] {
            assert_eq!(whole.differing(&sums(wrong)), [share_of(last.stream)]);
        }
    }
}
