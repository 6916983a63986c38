//! What this service measures. Every name is entered when the process starts, so that a first increase is seen as one;
//! the hot path has its handles here and looks nothing up.

use std::{sync::LazyLock, time::Duration};

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};

use crate::shard::{Accepted, Command, Errand, Refused};

/// The handles of this process; to be touched first after the recorder was started.
pub static MEASURES: LazyLock<Measures> = LazyLock::new(Measures::enter);

const KINDS: [&str; 3] = ["order", "user", "register"];
const OUTCOMES: [&str; 11] = [
    "accepted",
    "not_found",
    "not_allowed",
    "stale",
    "rule_broken",
    "address_taken",
    "key_reused",
    "key_in_flight",
    "unavailable",
    "not_owner",
    "outcome_unknown",
];

/// What is forwarded.
const ERRANDS: [&str; 2] = ["submit", "ask"];
const FORWARDED: [&str; 6] = [
    "answered",
    "not_owner",
    "not_sent",
    "broken",
    "late",
    "stranger",
];

/// What came of one call to another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarded {
    /// The owner's answer.
    Answered,
    /// It was not the owner.
    NotOwner,
    /// It was not reached.
    NotSent,
    /// The way broke after the call was sent.
    Broken,
    /// No answer in time.
    Late,
    /// It is of another version, or does not let this node in.
    Stranger,
}

/// What is counted as it happens.
pub struct Measures {
    commands: [[Counter; OUTCOMES.len()]; KINDS.len()],
    forwarded: [[Counter; FORWARDED.len()]; ERRANDS.len()],
    /// One call to another node.
    forward: Histogram,
    /// Attempts after the first to have the owner of a shard, here or on another node, do what he is asked.
    pub routing_retries: Counter,
    /// How long the oldest command of a batch had waited in the queue.
    pub queue_wait: Histogram,
    /// Events in one transaction.
    pub batch_events: Histogram,
    /// One transaction.
    pub commit: Histogram,
    /// From confirming the ownership to serving.
    pub take_up: Histogram,
    /// Events read at take-ups.
    pub replayed: Counter,
    /// Terms of ownership that ended in an error.
    pub step_downs: Counter,
    /// Writing what is committed into a state store.
    pub state_save: Histogram,
    /// What was looked up in a state store because it was not in memory.
    pub state_reads: Counter,
    /// State stores that were not believed.
    pub stores_thrown_away: Counter,
    /// One password, without the wait for a thread.
    pub password: Histogram,
    /// Passwords that found the queue full.
    pub passwords_turned_away: Counter,
    logins: [Counter; 2],
    /// Users' events whose consequences for accounts were drawn.
    pub identity_events: Counter,
}

/// What a command is about, as an index into its counters.
#[derive(Clone, Copy)]
pub struct Kind(usize);

impl Kind {
    /// That of a command.
    pub fn of(command: &Command) -> Self {
        Self(match command {
            Command::Order { .. } => 0,
            Command::User { .. } => 1,
            Command::Register { .. } => 2,
        })
    }
}

fn outcome(answer: &Result<Accepted, Refused>) -> usize {
    match answer {
        Ok(_) => 0,
        Err(Refused::NotFound) => 1,
        Err(Refused::NotAllowed) => 2,
        Err(Refused::Stale { .. }) => 3,
        Err(Refused::Order(_) | Refused::User(_)) => 4,
        Err(Refused::AddressTaken) => 5,
        Err(Refused::KeyReused) => 6,
        Err(Refused::KeyInFlight) => 7,
        Err(Refused::Unavailable(_)) => 8,
        Err(Refused::NotOwner) => 9,
        Err(Refused::OutcomeUnknown) => 10,
    }
}

impl Measures {
    fn enter() -> Self {
        describe();
        let commands = |kind: &'static str| {
            OUTCOMES.map(|outcome: &'static str| {
                counter!("command_api_commands_total", "kind" => kind, "outcome" => outcome)
            })
        };
        let logins =
            |outcome: &'static str| counter!("command_api_logins_total", "outcome" => outcome);
        let forwarded = |errand: &'static str| {
            FORWARDED.map(|outcome: &'static str| {
                counter!("command_api_forwarded_calls_total", "errand" => errand, "outcome" => outcome)
            })
        };
        Self {
            commands: KINDS.map(commands),
            forwarded: ERRANDS.map(forwarded),
            forward: histogram!("command_api_forward_duration_seconds"),
            routing_retries: counter!("command_api_routing_retries_total"),
            queue_wait: histogram!("command_api_queue_wait_seconds"),
            batch_events: histogram!("command_api_batch_events"),
            commit: histogram!("command_api_commit_duration_seconds"),
            take_up: histogram!("command_api_take_up_duration_seconds"),
            replayed: counter!("command_api_take_up_events_total"),
            step_downs: counter!("command_api_step_downs_total"),
            state_save: histogram!("command_api_state_save_duration_seconds"),
            state_reads: counter!("command_api_state_store_reads_total"),
            stores_thrown_away: counter!("command_api_state_stores_thrown_away_total"),
            password: histogram!("command_api_password_duration_seconds"),
            passwords_turned_away: counter!("command_api_passwords_turned_away_total"),
            logins: [logins("refused"), logins("accepted")],
            identity_events: counter!("command_api_identity_events_total"),
        }
    }

    /// Counts a command that was answered.
    pub fn answered(&self, kind: Kind, answer: &Result<Accepted, Refused>) {
        let counter = self
            .commands
            .get(kind.0)
            .and_then(|of| of.get(outcome(answer)));
        if let Some(counter) = counter {
            counter.increment(1);
        }
    }

    /// Counts a call to another node, and how long it took.
    pub fn forwarded(&self, errand: Errand, outcome: Forwarded, took: Duration) {
        let of = match errand {
            Errand::Submit => 0,
            Errand::Ask => 1,
        };
        let at = match outcome {
            Forwarded::Answered => 0,
            Forwarded::NotOwner => 1,
            Forwarded::NotSent => 2,
            Forwarded::Broken => 3,
            Forwarded::Late => 4,
            Forwarded::Stranger => 5,
        };
        if let Some(counter) = self.forwarded.get(of).and_then(|of| of.get(at)) {
            counter.increment(1);
        }
        self.forward.record(took);
    }

    /// Counts an attempt to log in whose password was checked.
    pub fn login(&self, is_right: bool) {
        let [refused, accepted] = &self.logins;
        if is_right { accepted } else { refused }.increment(1);
    }
}

fn describe() {
    for (name, meaning) in [
        (
            "command_api_commands_total",
            "Commands that were answered, by what they are about and what came of them.",
        ),
        (
            "command_api_forwarded_calls_total",
            "Calls to the nodes that own other shards, by what was forwarded and what came of it.",
        ),
        (
            "command_api_routing_retries_total",
            "Attempts after the first to have the owner of a shard, here or on another node, do what he is asked.",
        ),
        (
            "command_api_step_downs_total",
            "Errors after which a shard was given up and read again.",
        ),
        (
            "command_api_take_up_events_total",
            "Events that were read from the log to take shards up.",
        ),
        (
            "command_api_state_store_reads_total",
            "Streams and keys that were looked up in a state store because they were not in memory.",
        ),
        (
            "command_api_state_stores_thrown_away_total",
            "State stores that were damaged or of another version, and made anew from the log.",
        ),
        (
            "command_api_passwords_turned_away_total",
            "Passwords that were not checked because too many waited.",
        ),
        (
            "command_api_identity_events_total",
            "Events of users whose consequences for accounts, sessions and keys were drawn.",
        ),
        (
            "command_api_logins_total",
            "Attempts to log in whose password was checked.",
        ),
    ] {
        describe_counter!(name, Unit::Count, meaning);
    }
    for (name, meaning) in [
        (
            "command_api_queue_wait_seconds",
            "How long the oldest command of each batch had waited for its shard.",
        ),
        (
            "command_api_commit_duration_seconds",
            "How long a transaction took, from the first event to the end of the commit.",
        ),
        (
            "command_api_forward_duration_seconds",
            "How long one call to another node took.",
        ),
        (
            "command_api_take_up_duration_seconds",
            "How long taking a shard up took: confirm, fence, read to the end.",
        ),
        (
            "command_api_state_save_duration_seconds",
            "How long writing what was committed into a state store took, many transactions at once.",
        ),
        (
            "command_api_password_duration_seconds",
            "How long hashing one password took, without the wait for a thread.",
        ),
    ] {
        describe_histogram!(name, Unit::Seconds, meaning);
    }
    describe_histogram!(
        "command_api_batch_events",
        Unit::Count,
        "Events in one transaction."
    );
    for (name, meaning) in [
        (
            "command_api_shard_owned",
            "1 when the group has given the shard to this node.",
        ),
        (
            "command_api_shard_serving",
            "1 when this node handles the shard's commands.",
        ),
        (
            "command_api_shard_queue_commands",
            "Commands and questions that wait for the shard.",
        ),
        (
            "command_api_shard_queue_limit_commands",
            "How many may wait for one shard; more are refused.",
        ),
        (
            "command_api_passwords_waiting",
            "Passwords that wait for a thread.",
        ),
        (
            "command_api_passwords_waiting_limit",
            "How many may wait; more are turned away.",
        ),
        (
            "command_api_password_threads",
            "Threads that hash passwords.",
        ),
    ] {
        describe_gauge!(name, Unit::Count, meaning);
    }
    describe_gauge!(
        "command_api_under_way_bytes",
        Unit::Bytes,
        "Bytes of the bodies of all commands under way."
    );
    describe_gauge!(
        "command_api_under_way_limit_bytes",
        Unit::Bytes,
        "How many bytes may be under way; more commands are refused."
    );
}

/// How one shard is, as of a scrape.
pub struct ShardGauges {
    owned: Gauge,
    serving: Gauge,
    waiting: Gauge,
}

impl ShardGauges {
    /// Those of this shard.
    pub fn of(shard: u16) -> Self {
        let of = |name: &'static str| gauge!(name, "shard" => shard.to_string());
        Self {
            owned: of("command_api_shard_owned"),
            serving: of("command_api_shard_serving"),
            waiting: of("command_api_shard_queue_commands"),
        }
    }

    /// Sets them all; `waiting` is the length of the queue of an owned shard.
    pub fn set(&self, is_serving: bool, waiting: Option<usize>) {
        self.owned.set(f64::from(waiting.is_some()));
        self.serving.set(f64::from(is_serving));
        self.waiting.set(waiting.unwrap_or(0) as f64);
    }
}

/// What may be under way at most, set once.
pub fn limits(queue_commands: usize, under_way_bytes: usize) {
    gauge!("command_api_shard_queue_limit_commands").set(queue_commands as f64);
    gauge!("command_api_under_way_limit_bytes").set(under_way_bytes as f64);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::Why;

    #[test]
    fn every_outcome_has_a_counter_of_its_own() {
        let refused = [
            Refused::NotFound,
            Refused::NotAllowed,
            Refused::Stale { current: 1 },
            Refused::AddressTaken,
            Refused::KeyReused,
            Refused::KeyInFlight,
            Refused::Unavailable(Why::QueueFull),
            Refused::NotOwner,
            Refused::OutcomeUnknown,
        ];
        let mut found: Vec<usize> = refused
            .into_iter()
            .map(|each| outcome(&Err(each)))
            .collect();
        let names: Vec<_> = found
            .iter()
            .filter_map(|index| OUTCOMES.get(*index))
            .collect();
        assert_eq!(names.len(), refused.len());
        found.dedup();
        assert_eq!(found.len(), refused.len());
    }
}
