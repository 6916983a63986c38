//! What this service measures: every name with its meaning, entered at zero when the process starts, so that a first
//! increase is seen as one.

use event_log::lag::Lag;
use events::Topic;
use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use crate::{channel::Verdict, ledger::Backlog, react::Channel, schedule::Outcome};

const EVENTS: &str = "notifier_events_total";
const SET_ASIDE: &str = "notifier_set_aside_total";
const OUTCOMES: &str = "notifier_outcomes_total";
const DEAD_LETTERS: &str = "notifier_dead_letters_total";
const POSITION: &str = "notifier_position";
const LAG_EVENTS: &str = "notifier_lag_events";
const LAG_SECONDS: &str = "notifier_lag_seconds";
const WAITING: &str = "notifier_ledger_waiting";
const DEAD: &str = "notifier_ledger_dead";
const OVERDUE: &str = "notifier_ledger_overdue_seconds";
const OLDEST: &str = "notifier_ledger_oldest_seconds";
const ATTEMPTS: &str = "notifier_attempts_total";
const FAILOVERS: &str = "notifier_failovers_total";
const PASSED_OVER: &str = "notifier_provider_passed_over";

/// How long an attempt took.
pub const ATTEMPT: &str = "notifier_attempt_duration_seconds";
/// The outcome of a row that was claimed again before it could be recorded.
pub const TOO_LATE: &str = "too_late";

/// Enters everything; to be called once the recorder was started.
pub fn enter() {
    for (name, meaning) in [
        (
            EVENTS,
            "Events that were folded into contacts and notifications.",
        ),
        (
            SET_ASIDE,
            "Records that could not be read and were passed over.",
        ),
        (
            OUTCOMES,
            "What became of notifications that were claimed for sending, each time.",
        ),
        (DEAD_LETTERS, "Notifications that were given up."),
        (
            ATTEMPTS,
            "What providers made of messages, each time one was asked.",
        ),
        (
            FAILOVERS,
            "Messages that a provider was asked to take instead of another.",
        ),
    ] {
        describe_counter!(name, Unit::Count, meaning);
    }
    for (name, meaning) in [
        (POSITION, "The next offset that will be read."),
        (
            LAG_EVENTS,
            "Records from there to the end of the log; transaction markers count.",
        ),
        (
            WAITING,
            "Notifications that are not settled: due now or later, or being sent.",
        ),
        (DEAD, "Dead letters in the ledger."),
        (
            PASSED_OVER,
            "1 while a provider that keeps failing is passed over.",
        ),
    ] {
        describe_gauge!(name, Unit::Count, meaning);
    }
    for (name, meaning) in [
        (
            LAG_SECONDS,
            "How long the log has held the first record that was not read.",
        ),
        (
            OVERDUE,
            "How long the notification that is due longest has been due.",
        ),
        (
            OLDEST,
            "How long ago the oldest notification that is not settled was entered.",
        ),
    ] {
        describe_gauge!(name, Unit::Seconds, meaning);
    }
    describe_histogram!(
        ATTEMPT,
        Unit::Seconds,
        "How long one attempt to hand a notification to a provider took."
    );
    for topic in Topic::ALL {
        events(topic, 0);
        counter!(SET_ASIDE, "topic" => topic.name()).absolute(0);
    }
    for channel in Channel::ALL {
        for outcome in Outcome::NAMES.into_iter().chain([TOO_LATE]) {
            counter!(OUTCOMES, "channel" => channel.name(), "outcome" => outcome).absolute(0);
        }
        counter!(DEAD_LETTERS, "channel" => channel.name()).absolute(0);
        drop(histogram!(ATTEMPT, "channel" => channel.name()));
        backlog(channel, Backlog::default());
    }
}

/// Enters the providers of a channel, in their order.
pub fn providers(channel: Channel, names: &[&'static str]) {
    for provider in names {
        for outcome in Verdict::NAMES {
            counter!(ATTEMPTS, "channel" => channel.name(), "provider" => *provider, "outcome" => outcome)
                .absolute(0);
        }
        for from in names.iter().filter(|from| *from != provider) {
            counter!(FAILOVERS, "channel" => channel.name(), "from" => *from, "to" => *provider)
                .absolute(0);
        }
    }
}

/// A provider was asked to take a message, and this is what it made of it.
pub fn asked(channel: Channel, provider: &'static str, verdict: &Verdict) {
    counter!(ATTEMPTS, "channel" => channel.name(), "provider" => provider, "outcome" => verdict.name())
        .increment(1);
}

/// A provider is asked instead of another.
pub fn failed_over(channel: Channel, from: &'static str, to: &'static str) {
    counter!(FAILOVERS, "channel" => channel.name(), "from" => from, "to" => to).increment(1);
}

/// Whether a provider is passed over now.
pub fn passed_over(channel: Channel, provider: &'static str, is_passed_over: bool) {
    gauge!(PASSED_OVER, "channel" => channel.name(), "provider" => provider)
        .set(f64::from(is_passed_over));
}

/// So many events of a topic were folded.
pub fn events(topic: Topic, count: usize) {
    counter!(EVENTS, "topic" => topic.name()).increment(count as u64);
}

/// A record was passed over.
pub fn set_aside(topic: Topic) {
    counter!(SET_ASIDE, "topic" => topic.name()).increment(1);
}

/// How far a topic is.
pub fn lag(topic: Topic, lag: Lag) {
    let set = |name: &'static str, value: f64| {
        gauge!(name, "topic" => topic.name(), "partition" => lag.partition.to_string()).set(value);
    };
    set(POSITION, lag.position as f64);
    set(LAG_EVENTS, lag.records as f64);
    set(LAG_SECONDS, lag.delay.as_secs_f64());
}

/// A claimed notification has come to something, for good when it `is_dead`.
pub fn outcome(channel: Channel, outcome: &'static str, is_dead: bool) {
    counter!(OUTCOMES, "channel" => channel.name(), "outcome" => outcome).increment(1);
    if is_dead {
        counter!(DEAD_LETTERS, "channel" => channel.name()).increment(1);
    }
}

/// What the ledger holds of a channel.
pub fn backlog(channel: Channel, backlog: Backlog) {
    let set = |name: &'static str, value: f64| {
        gauge!(name, "channel" => channel.name()).set(value);
    };
    set(WAITING, backlog.waiting as f64);
    set(DEAD, backlog.dead as f64);
    set(OVERDUE, backlog.overdue_seconds);
    set(OLDEST, backlog.oldest_seconds);
}
