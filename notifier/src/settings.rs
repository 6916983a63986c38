//! The settings of the notifier. `notifier serve --help` is the reference.

use std::{net::IpAddr, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use anyhow::ensure;
use clap::{Args, Parser, Subcommand};
use event_log::KafkaSettings;
use reqwest::Url;
use runtime::{postgres::PostgresSettings, trace::TraceSettings};

use crate::{
    channel::Bounds,
    schedule::{Schedule, UnknownOutcomePolicy},
    sender::SendLimits,
};

/// Time an attempt takes besides the provider's: getting keys, making texts, recording.
const ATTEMPT_MARGIN: Duration = Duration::from_secs(4);

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
    /// What is logged, as a tracing filter.
    #[arg(long, env = "LOG_FILTER", default_value = "info")]
    pub log_filter: String,
}

/// Where the providers are, and who we are there.
#[derive(Debug, Args)]
pub struct ProviderSettings {
    /// Base of SendGrid's API, without the version path.
    #[arg(
        long,
        env = "SENDGRID_API_URL",
        default_value = "https://api.sendgrid.com"
    )]
    pub sendgrid_api_url: ProviderUrl,
    /// Key of SendGrid's API.
    #[arg(long, env = "SENDGRID_API_KEY", hide_env_values = true, value_parser = filled)]
    pub sendgrid_api_key: Secret,
    /// Base of Twilio's API, without the version path.
    #[arg(long, env = "TWILIO_API_URL", default_value = "https://api.twilio.com")]
    pub twilio_api_url: ProviderUrl,
    /// Account of Twilio's API.
    #[arg(long, env = "TWILIO_ACCOUNT_SID")]
    pub twilio_account_sid: String,
    /// Password of the account of Twilio's API.
    #[arg(long, env = "TWILIO_AUTH_TOKEN", hide_env_values = true, value_parser = filled)]
    pub twilio_auth_token: Secret,
    /// Address that mails come from.
    #[arg(long, env = "MAIL_FROM")]
    pub mail_from: String,
    /// Number or name that text messages come from.
    #[arg(long, env = "SMS_FROM")]
    pub sms_from: String,
    /// Base of the URL that Twilio is told to report to; the report's query names the event.
    #[arg(long, env = "PUBLIC_URL", default_value = "http://127.0.0.1")]
    pub public_url: ProviderUrl,
}

/// How often, how long and how many at once.
#[derive(Debug, Clone, Args)]
pub struct SendingSettings {
    /// Time a provider has for a whole call, in milliseconds.
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
    #[arg(long, env = "SEND_LEASE_SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3_600))]
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
        let attempt_time_max = Duration::from_millis(self.provider_timeout_ms) + ATTEMPT_MARGIN;
        ensure!(
            lease > attempt_time_max,
            "SEND_LEASE_SECONDS must be more than PROVIDER_TIMEOUT_MS and {} s for what is around it",
            ATTEMPT_MARGIN.as_secs()
        );
        Ok(SendLimits {
            concurrency: usize::from(self.send_concurrency_max),
            lease,
            attempt_time_max,
        })
    }
}

/// A secret; never shown.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Its text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

fn filled(text: &str) -> Result<Secret, String> {
    if text.is_empty() {
        Err("must not be empty".to_owned())
    } else {
        Ok(Secret(text.to_owned()))
    }
}

/// The base of an API: https, or http on this machine only; without credentials, query and fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderUrl(Url);

impl ProviderUrl {
    /// The URL of a path below the base.
    pub fn join(&self, segments: &[&str]) -> Url {
        let mut url = self.0.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            // An error only for URLs that cannot be a base, which http and https can.
            path.pop_if_empty().extend(segments);
        }
        url
    }
}

impl FromStr for ProviderUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| error.to_string())?;
        let is_bare = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if !is_bare {
            return Err("must have no credentials, query or fragment".to_owned());
        }
        match url.scheme() {
            "https" => Ok(Self(url)),
            "http" if is_loopback(&url) => Ok(Self(url)),
            "http" => {
                Err("plain http is only for this machine's own address: use https".to_owned())
            }
            _ => Err("must be an https URL".to_owned()),
        }
    }
}

fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else {
        return false;
    };
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_only() {
        for good in [
            "https://api.sendgrid.com",
            "http://127.0.0.1:21005",
            "http://127.1.2.3/",
            "http://[::1]:80/base/",
            "http://localhost:1",
        ] {
            assert!(good.parse::<ProviderUrl>().is_ok(), "{good}");
        }
        for bad in [
            "http://api.sendgrid.com",
            "http://10.0.0.1",
            "http://localhost.evil.example",
            "http://127.0.0.1.evil.example",
            "http://127.0.0.1@evil.example",
            "https://u:p@api.sendgrid.com",
            "https://api.sendgrid.com/?a=b",
            "ftp://127.0.0.1",
            "api.sendgrid.com",
            "",
        ] {
            assert!(bad.parse::<ProviderUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_are_joined_and_escaped() {
        let join = |base: &str, segments: &[&str]| {
            base.parse::<ProviderUrl>()
                .unwrap()
                .join(segments)
                .to_string()
        };
        assert_eq!(
            join("https://x.example", &["v3", "mail"]),
            "https://x.example/v3/mail"
        );
        assert_eq!(
            join("https://x.example/base/", &["a/b"]),
            "https://x.example/base/a%2Fb"
        );
    }

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
        assert!(settings(&["--send-lease-seconds", "14"]).limits().is_err());
        assert!(settings(&["--send-lease-seconds", "15"]).limits().is_ok());
    }

    #[test]
    fn secrets_are_not_shown() {
        assert!(!format!("{:?}", filled("hunter2").unwrap()).contains("hunter2"));
        assert!(filled("").is_err());
    }
}
