//! A comparison in parts, where the hashes of all streams would be too many for the memory.

use std::{
    fmt,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
};

use events::{ids::StreamId, partition::partition_of};

/// Times as many parts as before are tried next at most.
const PARTS_TIMES_MAX: u64 = 100;

/// A part of the streams: those of some partitions; where there are more parts than partitions, of one, by the hash of their
/// ids. So no record is read for a part that is of none of its streams, as long as a partition's fit into memory.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    number: u64,
    of: u64,
    /// Of the topic.
    partitions: u16,
}

impl Part {
    /// All streams.
    pub fn whole(partitions: u16) -> Self {
        Self {
            number: 0,
            of: 1,
            partitions,
        }
    }

    /// Whether it is one of its streams.
    pub fn holds(self, stream: StreamId) -> bool {
        self.of <= 1
            || (self.reads(partition_of(stream.to_string().as_bytes(), self.partitions))
                && self.is_of_share(stream))
    }

    /// Whether it reads the partition.
    pub fn reads(self, partition: u16) -> bool {
        u64::from(partition) % self.groups() == self.number % self.groups()
    }

    /// How many groups of partitions there are.
    fn groups(self) -> u64 {
        self.of.clamp(1, self.partitions.max(1).into())
    }

    /// Whether it holds a stream of a partition that it reads.
    pub fn is_of_share(self, stream: StreamId) -> bool {
        let shares = self.of.div_ceil(self.groups());
        if shares == 1 {
            return true;
        }
        share_of(stream, shares) == self.number / self.groups()
    }

    /// All that there are when there are at least `wanted`.
    pub fn all(wanted: u64, partitions: u16) -> impl Iterator<Item = Self> {
        let many: u64 = partitions.max(1).into();
        // Each partition in as many shares as the others.
        let of = match wanted <= many {
            true => wanted.max(1),
            false => wanted.next_multiple_of(many),
        };
        (0..of).map(move |number| Self {
            number,
            of,
            partitions,
        })
    }

    /// How many parts may do where this did not fit when `done` of `all` records were read: at least twice as many.
    pub fn more(self, done: u64, all: u64) -> u64 {
        let wanted = self.of.saturating_mul(all).div_ceil(done.max(1));
        wanted.clamp(self.of * 2, self.of * PARTS_TIMES_MAX)
    }
}

/// The share that a stream is in, of so many, by the hash of its id.
pub fn share_of(stream: StreamId, shares: u64) -> u64 {
    BuildHasherDefault::<DefaultHasher>::new().hash_one(stream) % shares
}

impl fmt::Display for Part {
    /// Nothing, where there is only one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.of {
            0 | 1 => Ok(()),
            of => write!(f, " part {} of {of}", self.number + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::order;

    #[test]
    fn what_does_not_fit_is_tried_in_as_many_parts_as_may_do() {
        let part = Part {
            number: 0,
            of: 2,
            partitions: 6,
        };
        for (done, all, parts) in [
            (50, 100, 4),
            (30, 100, 7),
            (99, 100, 4),
            (0, 100, 200),
            (0, 0, 4),
        ] {
            assert_eq!(part.more(done, all), parts, "{done} of {all}");
        }
    }

    #[test]
    fn every_stream_is_in_one_part_that_reads_its_partition() {
        for (wanted, partitions, of) in [
            (1, 6, 1),
            (4, 6, 4),
            (6, 6, 6),
            (7, 6, 12),
            (13, 6, 18),
            (3, 1, 3),
        ] {
            let parts: Vec<Part> = Part::all(wanted, partitions).collect();
            assert_eq!(parts.len(), of);
            let mut held = vec![0; of];
            for number in 0..1_000 {
                let stream = StreamId::from(order(number));
                let partition = partition_of(stream.to_string().as_bytes(), partitions);
                let holds: Vec<usize> = (0..of).filter(|at| parts[*at].holds(stream)).collect();
                assert_eq!(holds.len(), 1, "{stream} of {of}");
                let part = parts[holds[0]];
                assert!(part.reads(partition) && part.is_of_share(stream));
                held[holds[0]] += 1;
            }
            assert!(held.iter().all(|held| *held > 0), "{held:?}");
        }
    }
}
