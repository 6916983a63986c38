//! What is to be reached, and whether it was: a ratio counts as reached only when every round shows it.

use benchmarks::statistics::Spread;

use crate::table::{Table, fine};

/// Which side of the bound is wanted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// No less than this.
    AtLeast(f64),
    /// No more than this.
    AtMost(f64),
}

/// A goal and what the rounds came to.
#[derive(Debug, Clone)]
pub struct Goal {
    /// What is compared with what.
    pub what: String,
    /// What is wanted.
    pub bound: Bound,
    /// What was measured.
    pub measured: Spread,
}

impl Goal {
    fn verdict(&self) -> &'static str {
        let Spread { min, max, .. } = self.measured;
        let (all, any) = match self.bound {
            Bound::AtLeast(bound) => (min >= bound, max >= bound),
            Bound::AtMost(bound) => (max <= bound, min <= bound),
        };
        match (all, any) {
            (true, _) => "reached",
            (false, true) => "in some rounds",
            (false, false) => "not reached",
        }
    }
}

/// The table of goals.
pub fn table(title: &str, goals: &[Goal]) -> String {
    let mut table = Table::new(title, &["what", "goal", "measured", ""]);
    for goal in goals {
        let bound = match goal.bound {
            Bound::AtLeast(bound) => format!("≥ {bound:.2}"),
            Bound::AtMost(bound) => format!("≤ {bound:.2}"),
        };
        let measured = fine(goal.measured, 2);
        table.row([
            goal.what.clone(),
            bound,
            measured,
            goal.verdict().to_owned(),
        ]);
    }
    table.end()
}

/// The ratio of two figures of the same round, over all rounds.
pub fn ratio<A, B>(
    ours: &[A],
    theirs: &[B],
    of_ours: impl Fn(&A) -> f64,
    of_theirs: impl Fn(&B) -> f64,
) -> Spread {
    let pairs = ours.iter().zip(theirs);
    Spread::of(pairs.map(|(ours, theirs)| of_ours(ours) / of_theirs(theirs).max(f64::EPSILON)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_reached_when_every_round_shows_it() {
        let goal = |bound, values: [f64; 2]| Goal {
            what: String::new(),
            bound,
            measured: Spread::of(values),
        };
        let verdicts = [
            goal(Bound::AtLeast(5.0), [5.0, 7.0]),
            goal(Bound::AtLeast(5.0), [4.9, 7.0]),
            goal(Bound::AtMost(1.5), [1.0, 1.6]),
            goal(Bound::AtMost(1.5), [1.6, 2.0]),
        ]
        .map(|goal| goal.verdict());
        assert_eq!(
            verdicts,
            ["reached", "in some rounds", "in some rounds", "not reached"]
        );
    }
}
