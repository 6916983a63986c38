//! What there is to be read: two read models, each in generations.

use std::{collections::BTreeMap, fmt};

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

/// Which generation of a read model is served, and which was begun last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pointer {
    /// The one that queries are answered from.
    pub live: Generation,
    /// The one that was begun last; higher than `live` during a rebuild and after one that was given up.
    pub last: Generation,
    /// How long `live` has been live, by the database's clock, in whole seconds.
    pub live_for_s: i64,
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
}
