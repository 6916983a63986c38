//! Faults of the command side that strike two at a time, as a seed says.

use std::{fmt, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use crate::{
    kafka_proxy::{Kind, Rule},
    proxied::ProxiedNode,
    stack::stack,
};

/// How long a fault lasts.
const LASTS_MS: std::ops::RangeInclusive<u64> = 500..=9_000;
/// How much later than the first the second begins.
const LATER_MS: std::ops::RangeInclusive<u64> = 0..=3_000;
/// How long what was killed is away.
const AWAY_MS: std::ops::RangeInclusive<u64> = 0..=2_000;

/// Something that breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Commits are held up, and arrive late.
    LateCommits,
    /// Commits arrive, and nobody is told.
    LostAnswersToCommits,
    /// Records arrive, and nobody is told.
    LostAnswersToRecords,
    /// Connections break instead of an answer to a commit.
    BrokenConnections,
    /// There is no network between a node and Kafka.
    CutNetwork,
    /// Nothing passes between them.
    SilentNetwork,
    /// A node is killed and started again.
    KilledNode,
    /// A node stands still for a while.
    PausedNode,
    /// Another node joins and leaves.
    PassingNode,
    /// Another node joins and is killed.
    DyingNode,
    /// Kafka is killed and started again.
    KilledKafka,
    /// Kafka stands still for a while.
    PausedKafka,
    /// Kafka is stopped and started again.
    RestartedKafka,
}

impl Fault {
    /// All of them, by what they break: two of one row would get into each other's way.
    const ALL: [&'static [Self]; 5] = [
        &[
            Self::LateCommits,
            Self::LostAnswersToCommits,
            Self::LostAnswersToRecords,
            Self::BrokenConnections,
        ],
        &[Self::CutNetwork, Self::SilentNetwork],
        &[Self::KilledNode, Self::PausedNode],
        &[Self::PassingNode, Self::DyingNode],
        &[Self::KilledKafka, Self::PausedKafka, Self::RestartedKafka],
    ];

    async fn strikes(self, node: &ProxiedNode, strike: Strike) {
        let proxy = &node.proxy;
        // The fault itself, not the waiting for something.
        let lasts = || tokio::time::sleep(strike.lasts);
        let stays_away = || tokio::time::sleep(strike.away);
        match self {
            Self::LateCommits => {
                proxy.set(Kind::EndTxn, Rule::Hold);
                lasts().await;
                proxy.pass(Kind::EndTxn);
                stays_away().await;
                proxy.deliver();
            }
            Self::LostAnswersToCommits => {
                proxy.set(Kind::EndTxn, Rule::LoseAnswers);
                lasts().await;
                proxy.pass(Kind::EndTxn);
            }
            Self::LostAnswersToRecords => {
                proxy.set(Kind::Produce, Rule::LoseAnswers);
                lasts().await;
                proxy.pass(Kind::Produce);
            }
            Self::BrokenConnections => {
                proxy.set(Kind::EndTxn, Rule::CutInsteadOfAnswer);
                lasts().await;
                proxy.pass(Kind::EndTxn);
            }
            Self::CutNetwork => {
                proxy.cut();
                lasts().await;
                proxy.reconnect();
            }
            Self::SilentNetwork => {
                proxy.fall_silent();
                lasts().await;
                proxy.reconnect();
            }
            Self::KilledNode => {
                node.kill();
                stays_away().await;
                node.start_again().await;
            }
            Self::PausedNode => {
                node.pause().await;
                lasts().await;
                node.resume().await;
            }
            Self::PassingNode => {
                stack(&["start", "command-api-2"]).await;
                lasts().await;
                stack(&["stop", "command-api-2"]).await;
            }
            Self::DyingNode => {
                stack(&["start", "command-api-2"]).await;
                lasts().await;
                stack(&["kill", "command-api-2"]).await;
            }
            Self::KilledKafka | Self::RestartedKafka => {
                let ends = if self == Self::KilledKafka {
                    "kill"
                } else {
                    "stop"
                };
                stack(&[ends, "kafka"]).await;
                stays_away().await;
                stack(&["start", "kafka"]).await;
            }
            Self::PausedKafka => {
                stack(&["pause", "kafka"]).await;
                lasts().await;
                stack(&["resume", "kafka"]).await;
            }
        }
    }
}

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Strike {
    fault: Fault,
    after: Duration,
    lasts: Duration,
    away: Duration,
}

/// What a seed says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    seed: u64,
    strikes: [Strike; 2],
}

impl Plan {
    /// The same seed is the same plan.
    pub fn of(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let rows: Vec<_> = Fault::ALL.sample(&mut random, 2).copied().collect();
        let mut strike = |row: usize, after: Duration| {
            let row = rows.get(row).copied().unwrap_or(Fault::ALL[0]);
            let fault = row.choose(&mut random).copied();
            let mut milliseconds = |range| Duration::from_millis(random.random_range(range));
            Strike {
                fault: fault.unwrap_or(Fault::CutNetwork),
                after,
                lasts: milliseconds(LASTS_MS),
                away: milliseconds(AWAY_MS),
            }
        };
        let first = strike(0, Duration::ZERO);
        let mut second = strike(1, Duration::ZERO);
        second.after = Duration::from_millis(random.random_range(LATER_MS));
        Self {
            seed,
            strikes: [first, second],
        }
    }

    /// Both faults; returns when both have ended and nothing is held any more.
    pub async fn strikes(&self, node: &ProxiedNode) {
        let strikes = self.strikes.map(async |strike| {
            tokio::time::sleep(strike.after).await;
            strike.fault.strikes(node, strike).await;
        });
        futures_util::future::join_all(strikes).await;
        node.proxy.mend();
        node.proxy.deliver();
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second] = self.strikes;
        write!(
            f,
            "{:?} ({} ms) and, {} ms later, {:?} ({} ms); ORDERLOG_FAULT_SEED={}",
            first.fault,
            first.lasts.as_millis(),
            second.after.as_millis(),
            second.fault,
            second.lasts.as_millis(),
            self.seed
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_plan_and_every_fault_has_one() {
        let mut drawn = Vec::new();
        for seed in 0..1_000 {
            let plan = Plan::of(seed);
            assert_eq!(plan, Plan::of(seed));
            let [first, second] = plan.strikes;
            assert_ne!(first.fault, second.fault);
            drawn.extend([first.fault, second.fault]);
        }
        for fault in Fault::ALL.concat() {
            assert!(drawn.contains(&fault), "{fault:?}");
        }
    }
}
