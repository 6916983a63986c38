//! The settings of the notifier. `notifier serve --help` is the reference.

mod providers;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::ensure;
use clap::{Args, Parser, Subcommand};
use event_log::KafkaSettings;
use runtime::{
    postgres::{PostgresSettings, QUERY_TIMEOUT},
    telemetry::LogSettings,
    trace::TraceSettings,
};

pub use providers::{
    Encryption, MailChoice, ProviderSettings, ProviderUrl, Secret, SmsChoice, SmtpUrl,
};

use crate::{
    channel::{Bounds, route::RouteLimits},
    schedule::{Schedule, UnknownOutcomePolicy},
    sender::SendLimits,
};

/// Time an attempt takes besides the providers': getting a key and recording, each as long as a query may take.
const ATTEMPT_MARGIN: Duration = QUERY_TIMEOUT.saturating_mul(2);

/// Tells people what happened to their account and orders, by e-mail and SMS.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Follows the log and sends notifications until told to end.
    Serve(Box<Settings>),
    /// Lists what could not be sent, with the reason, and records of the log that could not be read.
    DeadLetters(Box<DeadLetterSettings>),
}

/// Settings of `notifier dead-letters`.
#[derive(Debug, Args)]
pub struct DeadLetterSettings {
    /// Where the ledger is.
    #[command(flatten)]
    pub postgres: PostgresSettings,
    /// One JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
    /// List only rows after this one.
    #[arg(long, default_value_t = 0)]
    pub after: i64,
    /// List at most so many.
    #[arg(long, default_value_t = 1_000)]
    pub rows_max: u32,
}

/// Settings of `notifier serve`.
#[derive(Debug, Args)]
pub struct Settings {
    /// Where the log is.
    #[command(flatten)]
    pub kafka: KafkaSettings,
    /// Where the ledger is.
    #[command(flatten)]
    pub postgres: PostgresSettings,
    /// Where the providers are.
    #[command(flatten)]
    pub providers: ProviderSettings,
    /// How it sends.
    #[command(flatten)]
    pub sending: SendingSettings,
    /// Address to listen on, host:port.
    #[arg(long, env = "NOTIFIER_LISTEN", default_value = "127.0.0.1:21009")]
    pub listen: SocketAddr,
    /// File with the key that the users' data keys are wrapped with.
    #[arg(long, env = "DATA_KEY_WRAPPING_KEY_FILE")]
    pub data_key_wrapping_key_file: PathBuf,
    /// Where spans go.
    #[command(flatten)]
    pub tracing: TraceSettings,
    /// What is logged.
    #[command(flatten)]
    pub log: LogSettings,
}

/// How often, how long and how many at once.
#[derive(Debug, Clone, Args)]
pub struct SendingSettings {
    /// Time a provider has for a whole call, in milliseconds; half of it for connecting. An attempt, with others
    /// that take over, may take twice as long.
    #[arg(long, env = "PROVIDER_TIMEOUT_MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub provider_timeout_ms: u64,
    /// Most bytes of a provider's answer that are read.
    #[arg(long, env = "PROVIDER_ANSWER_BYTES_MAX", default_value_t = 1_048_576)]
    pub provider_answer_bytes_max: usize,
    /// Messages that are being sent at the same time, per channel.
    #[arg(long, env = "SEND_CONCURRENCY_MAX", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub send_concurrency_max: u16,
    /// How long a claim of a message holds, in seconds. When its sender dies, the outcome counts as unknown
    /// after this time.
    #[arg(long, env = "SEND_LEASE_SECONDS", default_value_t = 40, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub send_lease_seconds: u64,
    /// Attempts to send after which a message is a dead letter.
    #[arg(long, env = "SEND_ATTEMPTS_MAX", default_value_t = 14, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub send_attempts_max: u32,
    /// The pause after the first failed attempt, in milliseconds; it doubles from there.
    #[arg(long, env = "SEND_PAUSE_FIRST_MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    pub send_pause_first_ms: u64,
    /// The longest pause between attempts, in seconds.
    #[arg(long, env = "SEND_PAUSE_MAX_SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub send_pause_max_seconds: u64,
    /// The longest Retry-After of a provider that is obeyed, in seconds; a longer one counts as this.
    #[arg(long, env = "RETRY_AFTER_MAX_SECONDS", default_value_t = 3_600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub retry_after_max_seconds: u64,
    /// How long a message waits for its recipient to become known, in seconds.
    #[arg(long, env = "CONTACT_WAIT_MAX_SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub contact_wait_max_seconds: u64,
    /// What to do about a message that may or may not have been sent.
    #[arg(
        long,
        env = "UNKNOWN_OUTCOME_POLICY",
        value_enum,
        default_value = "resend"
    )]
    pub unknown_outcome_policy: UnknownOutcomePolicy,
}

impl SendingSettings {
    /// The bounds of a call to a provider.
    pub const fn bounds(&self) -> Bounds {
        Bounds {
            timeout: Duration::from_millis(self.provider_timeout_ms),
            answer_bytes_max: self.provider_answer_bytes_max,
        }
    }

    /// The bounds of an attempt.
    pub const fn route_limits(&self) -> RouteLimits {
        RouteLimits {
            provider_timeout: Duration::from_millis(self.provider_timeout_ms),
            retry_after_max: Duration::from_secs(self.retry_after_max_seconds),
        }
    }

    /// The limits of trying.
    pub const fn schedule(&self) -> Schedule {
        Schedule {
            attempts_max: self.send_attempts_max,
            pause_first: Duration::from_millis(self.send_pause_first_ms),
            pause_max: Duration::from_secs(self.send_pause_max_seconds),
            retry_after_max: Duration::from_secs(self.retry_after_max_seconds),
            contact_wait_max: Duration::from_secs(self.contact_wait_max_seconds),
            unknown_outcome: self.unknown_outcome_policy,
        }
    }

    /// The bounds of sending; refused when a lease would run out while its message is being sent.
    pub fn limits(&self) -> anyhow::Result<SendLimits> {
        let lease = Duration::from_secs(self.send_lease_seconds);
        let attempt_time_max = self.route_limits().attempt_time_max() + ATTEMPT_MARGIN;
        ensure!(
            lease > attempt_time_max,
            "SEND_LEASE_SECONDS must be more than twice PROVIDER_TIMEOUT_MS and {} s for what is around it",
            ATTEMPT_MARGIN.as_secs()
        );
        Ok(SendLimits {
            concurrency: usize::from(self.send_concurrency_max),
            lease,
            attempt_time_max,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_outlasts_the_attempt() {
        let settings = |arguments: &[&str]| {
            #[derive(Parser)]
            struct Only {
                #[command(flatten)]
                sending: SendingSettings,
            }
            Only::parse_from(std::iter::once(&"test").chain(arguments)).sending
        };
        assert!(settings(&[]).limits().is_ok());
        assert!(settings(&["--send-lease-seconds", "30"]).limits().is_err());
        assert!(settings(&["--send-lease-seconds", "31"]).limits().is_ok());
        let attempt = settings(&[]).limits().unwrap().attempt_time_max;
        let providers = Duration::from_secs(20);
        assert!(
            attempt >= providers + 2 * QUERY_TIMEOUT,
            "a key is got and the outcome recorded as well: {attempt:?}"
        );
    }
}
