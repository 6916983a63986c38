//! What there is to be read: two read models, each in generations.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use events::Topic;

/// A read model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum)]
pub enum Model {
    /// Users, in Postgres.
    Users,
    /// Orders, in MongoDB.
    Orders,
}

impl Model {
    /// Every read model.
    pub const ALL: [Self; 2] = [Self::Users, Self::Orders];

    /// The name, also of its view for other readers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Orders => "orders",
        }
    }

    /// The topic it is folded from.
    pub const fn topic(self) -> Topic {
        match self {
            Self::Users => Topic::Users,
            Self::Orders => Topic::Orders,
        }
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One filling of a read model; the number of a later one is higher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation(pub i32);

impl Generation {
    /// The generation that a read model begins with.
    pub const FIRST: Self = Self(1);

    /// The name of the table or collection that holds this generation of `model`.
    pub fn storage(self, model: Model) -> String {
        format!("{model}_{self}")
    }

    /// Reads back what [`Generation::storage`] wrote.
    pub fn of_storage(model: Model, name: &str) -> Option<Self> {
        let number = name
            .strip_prefix(model.name())?
            .strip_prefix("_g")?
            .parse()
            .ok()?;
        Some(Self(number)).filter(|generation| number > 0 && generation.storage(model) == name)
    }
}

impl FromStr for Generation {
    type Err = NotAGeneration;
    fn from_str(text: &str) -> Result<Self, NotAGeneration> {
        let number = text
            .strip_prefix('g')
            .and_then(|number| number.parse().ok());
        number.map(Self).ok_or(NotAGeneration)
    }
}

/// What is no generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("generations are g1, g2 and so on")]
pub struct NotAGeneration;

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "g{}", self.0)
    }
}

/// The next offset to read, by partition; a partition that is missing was not begun.
pub type Positions = BTreeMap<u16, i64>;

/// Whether `positions` has reached every position of `target`.
pub fn has_reached(positions: &Positions, target: &Positions) -> bool {
    target
        .iter()
        .all(|(partition, wanted)| *wanted <= positions.get(partition).copied().unwrap_or(0))
}

/// Moves `positions` on to where `others` are further.
pub fn reach(positions: &mut Positions, others: &Positions) {
    for (partition, further) in others {
        let position = positions.entry(*partition).or_insert(0);
        *position = (*position).max(*further);
    }
}

/// A number that is raised whenever the same events would be stored otherwise. Each version has generations of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FoldVersion(pub u16);

impl fmt::Display for FoldVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

/// A generation as its database knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Which.
    pub generation: Generation,
    /// Of the fold that fills it.
    pub version: FoldVersion,
    /// Where it stands.
    pub stage: Stage,
}

/// Where a generation stands. Times are the database's, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It was begun and has never been live.
    Filling {
        /// How long ago.
        begun_ago_s: i64,
    },
    /// Programs of its version serve it.
    Live {
        /// How long ago one of them last said so.
        followed_ago_s: i64,
    },
    /// Another has taken its place; one can go back to it.
    Kept {
        /// How long ago it was live.
        since_s: i64,
        /// For so long; negative when that is over.
        rest_s: i64,
    },
}

/// What a program of version `own` has begun and not finished.
pub fn unfinished(
    known: &[Known],
    own: FoldVersion,
) -> impl DoubleEndedIterator<Item = Generation> {
    let is_begun =
        move |each: &&Known| matches!(each.stage, Stage::Filling { .. }) && each.version == own;
    known.iter().filter(is_begun).map(|each| each.generation)
}

/// How long a generation is kept that programs of an earlier version have served, after the last of them has ended.
pub const FORMER_VERSION_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a generation is kept at least that was live: by then every service has noticed that it is not, so no query
/// reads what is dropped.
pub const KEEP_MIN: Duration = Duration::from_secs(10);

/// The generation that was live last for this version.
pub fn kept_last(known: &[Known], own: FoldVersion) -> Option<Generation> {
    let since = |each: &Known| match each.stage {
        Stage::Kept { since_s, .. } if each.version == own => Some((since_s, each.generation)),
        Stage::Kept { .. } | Stage::Live { .. } | Stage::Filling { .. } => None,
    };
    known
        .iter()
        .filter_map(since)
        .min()
        .map(|(_, generation)| generation)
}

/// The generations that nobody needs any more, as a program of version `own` sees it: those whose time is over; those that were
/// live before the one that is kept (one is enough to go back to); and, once there is one of its own, what is left of versions
/// before its own. What it is filling is not among them, nor is anything of a later version.
pub fn outdated(known: &[Known], own: FoldVersion) -> Vec<Generation> {
    let seconds = |duration: Duration| duration.as_secs().cast_signed();
    let is_served = known
        .iter()
        .any(|each| each.version == own && matches!(each.stage, Stage::Live { .. }));
    let last = kept_last(known, own);
    let is_outdated = |each: &&Known| match each.stage {
        Stage::Kept { since_s, rest_s } => {
            let is_superseded = each.version == own && Some(each.generation) != last;
            let is_noticed = since_s >= seconds(KEEP_MIN);
            each.version <= own && is_noticed && (rest_s <= 0 || is_superseded)
        }
        Stage::Live {
            followed_ago_s: age_s,
        }
        | Stage::Filling { begun_ago_s: age_s } => {
            is_served && each.version < own && age_s > seconds(FORMER_VERSION_KEPT)
        }
    };
    known
        .iter()
        .filter(is_outdated)
        .map(|each| each.generation)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_names_are_read_back_and_others_are_not() {
        assert_eq!(
            Generation::of_storage(Model::Users, "users_g12"),
            Some(Generation(12))
        );
        for name in [
            "users",
            "users_g",
            "users_g01",
            "users_g-1",
            "users_gx",
            "orders_g1",
            "users_g1_old",
        ] {
            assert_eq!(Generation::of_storage(Model::Users, name), None, "{name}");
        }
    }

    #[test]
    fn an_empty_partition_is_reached_without_having_begun() {
        let target = Positions::from([(0, 0), (1, 5)]);
        assert!(has_reached(&Positions::from([(1, 5)]), &target));
        assert!(!has_reached(&Positions::from([(0, 9), (1, 4)]), &target));
    }

    const FORMER: FoldVersion = FoldVersion(1);
    const OWN: FoldVersion = FoldVersion(2);
    const LATER: FoldVersion = FoldVersion(3);
    const DAY: i64 = 24 * 60 * 60;

    fn known(number: i32, version: FoldVersion, stage: Stage) -> Known {
        Known {
            generation: Generation(number),
            version,
            stage,
        }
    }

    fn live(followed_ago_s: i64) -> Stage {
        Stage::Live { followed_ago_s }
    }

    fn filling(begun_ago_s: i64) -> Stage {
        Stage::Filling { begun_ago_s }
    }

    fn kept(since_s: i64, rest_s: i64) -> Stage {
        Stage::Kept { since_s, rest_s }
    }

    #[test]
    fn what_is_live_kept_or_being_filled_is_not_outdated() {
        for (version, stage, is_outdated) in [
            (OWN, filling(9 * DAY), false),
            (OWN, live(9 * DAY), false),
            (OWN, kept(60, 1), false),
            (OWN, kept(60, 0), true),
            (OWN, kept(9, 0), false),
            (FORMER, filling(DAY), false),
            (FORMER, filling(DAY + 1), true),
            (FORMER, live(DAY), false),
            (FORMER, live(DAY + 1), true),
            (FORMER, kept(60, -1), true),
            (LATER, filling(9 * DAY), false),
            (LATER, live(9 * DAY), false),
            (LATER, kept(60, -1), false),
        ] {
            let all = [known(7, version, stage), known(9, OWN, live(0))];
            let found = outdated(&all, OWN) == [Generation(7)];
            assert_eq!(found, is_outdated, "{version} {stage:?}");
        }
    }

    #[test]
    fn what_a_version_before_serves_stays_until_there_is_something_else() {
        let former = [known(7, FORMER, live(9 * DAY)), known(8, OWN, filling(0))];
        assert_eq!(outdated(&former, OWN), []);
    }

    #[test]
    fn of_those_that_were_live_the_last_is_kept() {
        let all = [
            known(3, OWN, kept(60, 5 * DAY)),
            known(4, OWN, kept(20, DAY)),
            known(5, OWN, kept(70, DAY)),
            known(6, OWN, live(0)),
        ];
        assert_eq!(kept_last(&all, OWN), Some(Generation(4)));
        assert_eq!(outdated(&all, OWN), [Generation(3), Generation(5)]);
        let just_now = [known(3, OWN, kept(9, DAY)), known(4, OWN, kept(1, DAY))];
        assert_eq!(outdated(&just_now, OWN), [], "somebody may read it still");
    }
}
