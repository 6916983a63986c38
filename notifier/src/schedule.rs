//! Schedule: what becomes of a notification after something happened to it. Pure: given where it stands and
//! the outcome, the whole change to its ledger row is decided here; the ledger carries it out without choices.

use std::time::Duration;

/// What to do about a message that may or may not have been sent: the process died, or the provider's answer
/// was lost, after the request had gone out. Providers offer no way to ask, so one of two promises must be
/// given up; which one is a setting, and each case is counted in the row (`unknown_outcomes`) and in the
/// metrics (`notifier_outcomes_total{outcome="unknown"}`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum UnknownOutcomePolicy {
    /// Send it again after the usual pause: nothing is lost, in rare cases somebody is told twice. The default.
    Resend,
    /// Set it aside as a dead letter: nobody is told twice, an operator decides about the rest.
    Hold,
}

/// The limits of trying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// Attempts to send after which a notification is given up.
    pub attempts_max: u32,
    /// The pause after the first failed attempt; it doubles from there.
    pub pause_first: Duration,
    /// The longest pause between attempts.
    pub pause_max: Duration,
    /// The longest `Retry-After` that is obeyed; a longer one counts as this.
    pub retry_after_max: Duration,
    /// How long a notification waits for its recipient's contact to become known.
    pub contact_wait_max: Duration,
    /// What to do about unknown outcomes.
    pub unknown_outcome: UnknownOutcomePolicy,
}

/// Where a notification stands before the outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Its row in the ledger; also the seed of its jitter.
    pub id: i64,
    /// Attempts made so far whose end is known or given up on.
    pub attempts: u32,
    /// Those among them whose outcome is not known.
    pub unknown_outcomes: u32,
    /// How often it was put off because the contact was not known.
    pub deferrals: u32,
    /// Time since it was entered in the ledger.
    pub age: Duration,
}

/// What a provider said when it took a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The provider.
    pub provider: &'static str,
    /// Its name for the message, where it gave one.
    pub reference: Option<String>,
}

/// What happened to a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A provider took it.
    Sent(Receipt),
    /// No provider took it, but one may later; not before the pause that was asked for.
    Failed {
        /// What happened, without personal data.
        reason: String,
        /// The providers' `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// A provider may or may not have taken it.
    Unknown {
        /// The provider, where it is known.
        provider: Option<&'static str>,
        /// What happened, without personal data.
        reason: String,
    },
    /// No provider will ever take it; what happened, without personal data.
    Refused(String),
    /// The recipient cannot or does not want to be told this way.
    Skipped(&'static str),
    /// The recipient's contact is not known yet.
    ContactUnknown,
    /// The recipient was erased.
    RecipientErased,
    /// It was not tried: the process ends, or something of our own is not available.
    NotTried,
}

impl Outcome {
    /// Every name that [`Outcome::name`] gives.
    pub const NAMES: [&'static str; 8] = [
        "sent",
        "failed",
        "unknown",
        "refused",
        "skipped",
        "contact_unknown",
        "recipient_erased",
        "not_tried",
    ];

    /// The name, as in the metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Sent(_) => "sent",
            Self::Failed { .. } => "failed",
            Self::Unknown { .. } => "unknown",
            Self::Refused(_) => "refused",
            Self::Skipped(_) => "skipped",
            Self::ContactUnknown => "contact_unknown",
            Self::RecipientErased => "recipient_erased",
            Self::NotTried => "not_tried",
        }
    }
}

/// The state of a row in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// To be sent when its time has come.
    Due,
    /// Taken by the provider. Final.
    Sent,
    /// Not to be sent: the recipient cannot or does not want to be told this way. Final.
    Skipped,
    /// A dead letter: could not be sent. Final until an operator decides otherwise.
    Dead,
}

impl Status {
    /// The name, as in the ledger.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Due => "due",
            Self::Sent => "sent",
            Self::Skipped => "skipped",
            Self::Dead => "dead",
        }
    }
}

/// The change to a row of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The new status.
    pub status: Status,
    /// When it is due, from now on; zero unless the status is due.
    pub due_in: Duration,
    /// Why, where there is something to say; without personal data.
    pub reason: Option<String>,
    /// Who took it, or may have taken it; `None` leaves what is known.
    pub provider: Option<&'static str>,
    /// The provider's name for the message.
    pub provider_reference: Option<String>,
    /// The new count of attempts.
    pub attempts: u32,
    /// The new count of unknown outcomes.
    pub unknown_outcomes: u32,
    /// The new count of deferrals.
    pub deferrals: u32,
}

/// The reason of dead letters whose recipient was erased.
pub const RECIPIENT_ERASED: &str = "recipient erased";
/// The reason of dead letters whose recipient did not become known in time.
pub const RECIPIENT_UNKNOWN: &str = "recipient unknown";
/// The pause before something that was not tried is tried.
const NOT_TRIED_PAUSE: Duration = Duration::from_secs(1);
/// The first and the longest pause before looking for a contact again.
const CONTACT_PAUSE_FIRST: Duration = Duration::from_millis(250);
const CONTACT_PAUSE_MAX: Duration = Duration::from_secs(15);
/// Jitter adds up to 1/4 of the pause, so that what failed together is not tried together.
const JITTER_PARTS: u32 = 4;

impl Schedule {
    /// What becomes of a notification that stands as `standing` after `outcome`.
    pub fn after(&self, standing: &Standing, outcome: Outcome) -> Change {
        let tried = Standing {
            attempts: standing.attempts.saturating_add(1),
            ..*standing
        };
        match outcome {
            Outcome::Sent(receipt) => Change {
                provider: Some(receipt.provider),
                provider_reference: receipt.reference,
                ..end(&tried, Status::Sent, None)
            },
            Outcome::Refused(reason) => end(&tried, Status::Dead, Some(reason)),
            Outcome::Failed {
                reason,
                retry_after,
            } => self.again(&tried, reason, retry_after),
            Outcome::Unknown { provider, reason } => {
                let unknown_outcomes = standing.unknown_outcomes.saturating_add(1);
                let tried = Standing {
                    unknown_outcomes,
                    ..tried
                };
                let reason = format!("outcome unknown: {reason}");
                let change = match self.unknown_outcome {
                    UnknownOutcomePolicy::Resend => self.again(&tried, reason, None),
                    UnknownOutcomePolicy::Hold => end(&tried, Status::Dead, Some(reason)),
                };
                Change { provider, ..change }
            }
            Outcome::Skipped(reason) => end(standing, Status::Skipped, Some(reason.to_owned())),
            Outcome::RecipientErased => {
                end(standing, Status::Dead, Some(RECIPIENT_ERASED.to_owned()))
            }
            Outcome::ContactUnknown => self.wait_for_contact(standing),
            Outcome::NotTried => Change {
                due_in: NOT_TRIED_PAUSE,
                ..end(standing, Status::Due, None)
            },
        }
    }

    fn again(&self, tried: &Standing, reason: String, retry_after: Option<Duration>) -> Change {
        if tried.attempts >= self.attempts_max {
            let reason = format!(
                "given up after {} attempts; the last: {reason}",
                tried.attempts
            );
            return end(tried, Status::Dead, Some(reason));
        }
        let asked = self.bounded(retry_after.unwrap_or_default());
        let due_in = self.pause_after(tried.attempts, tried.id).max(asked);
        Change {
            due_in,
            ..end(tried, Status::Due, Some(reason))
        }
    }

    /// A provider's `Retry-After`, as far as it is obeyed.
    pub fn bounded(&self, retry_after: Duration) -> Duration {
        retry_after.min(self.retry_after_max)
    }

    /// The pause after the `attempts`-th attempt: doubling, bounded, with jitter drawn from the row's id.
    fn pause_after(&self, attempts: u32, id: i64) -> Duration {
        let pause = doubled(self.pause_first, attempts.saturating_sub(1), self.pause_max);
        let seed = (id as u64)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(attempts % 64);
        let jitter_parts_in_256 = (seed >> 56) as u32;
        pause + pause / JITTER_PARTS * jitter_parts_in_256 / 256
    }

    fn wait_for_contact(&self, standing: &Standing) -> Change {
        if standing.age >= self.contact_wait_max {
            return end(standing, Status::Dead, Some(RECIPIENT_UNKNOWN.to_owned()));
        }
        let due_in = doubled(CONTACT_PAUSE_FIRST, standing.deferrals, CONTACT_PAUSE_MAX);
        let later = Standing {
            deferrals: standing.deferrals.saturating_add(1),
            ..*standing
        };
        Change {
            due_in,
            ..end(&later, Status::Due, Some(RECIPIENT_UNKNOWN.to_owned()))
        }
    }
}

fn end(standing: &Standing, status: Status, reason: Option<String>) -> Change {
    Change {
        status,
        due_in: Duration::ZERO,
        reason,
        provider: None,
        provider_reference: None,
        attempts: standing.attempts,
        unknown_outcomes: standing.unknown_outcomes,
        deferrals: standing.deferrals,
    }
}

/// `first`, doubled `times` times, at most `max`.
fn doubled(first: Duration, times: u32, max: Duration) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(times)).min(max)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SCHEDULE: Schedule = Schedule {
        attempts_max: 5,
        pause_first: Duration::from_secs(1),
        pause_max: Duration::from_secs(60),
        retry_after_max: Duration::from_secs(600),
        contact_wait_max: Duration::from_secs(300),
        unknown_outcome: UnknownOutcomePolicy::Resend,
    };
    const HOLD: Schedule = Schedule {
        unknown_outcome: UnknownOutcomePolicy::Hold,
        ..SCHEDULE
    };
    const FRESH: Standing = Standing {
        id: 1,
        attempts: 0,
        unknown_outcomes: 0,
        deferrals: 0,
        age: Duration::ZERO,
    };

    fn sent(reference: Option<&str>) -> Outcome {
        Outcome::Sent(Receipt {
            provider: "twilio",
            reference: reference.map(str::to_owned),
        })
    }

    fn unknown() -> Outcome {
        Outcome::Unknown {
            provider: Some("mailgun"),
            reason: "mailgun gave no answer in time".to_owned(),
        }
    }

    fn failed(retry_after_seconds: Option<u64>) -> Outcome {
        let retry_after = retry_after_seconds.map(Duration::from_secs);
        Outcome::Failed {
            reason: "answered 503".into(),
            retry_after,
        }
    }

    #[test]
    fn what_is_final_stays_final() {
        for (outcome, status, attempts) in [
            (sent(Some("SM1")), Status::Sent, 1),
            (Outcome::Refused("answered 400".into()), Status::Dead, 1),
            (Outcome::Skipped("no phone number"), Status::Skipped, 0),
            (Outcome::RecipientErased, Status::Dead, 0),
        ] {
            let change = SCHEDULE.after(&FRESH, outcome);
            assert_eq!((change.status, change.attempts), (status, attempts));
        }
        assert_eq!(
            SCHEDULE
                .after(&FRESH, Outcome::RecipientErased)
                .reason
                .as_deref(),
            Some("recipient erased")
        );
    }

    #[test]
    fn the_last_attempt_ends_as_dead_letter_with_its_reason() {
        let last = Standing {
            attempts: SCHEDULE.attempts_max - 1,
            ..FRESH
        };
        let change = SCHEDULE.after(&last, failed(Some(10)));
        assert_eq!(change.status, Status::Dead);
        assert_eq!(
            change.reason.as_deref(),
            Some("given up after 5 attempts; the last: answered 503")
        );
    }

    #[test]
    fn a_provider_that_asks_for_time_gets_it_within_bounds() {
        assert!(SCHEDULE.after(&FRESH, failed(Some(100))).due_in >= Duration::from_secs(100));
        assert_eq!(
            SCHEDULE.after(&FRESH, failed(Some(1_000_000))).due_in,
            SCHEDULE.retry_after_max
        );
    }

    #[test]
    fn the_policy_decides_about_unknown_outcomes() {
        let resend = SCHEDULE.after(&FRESH, unknown());
        assert_eq!(
            (resend.status, resend.unknown_outcomes, resend.attempts),
            (Status::Due, 1, 1)
        );
        assert_eq!(resend.provider, Some("mailgun"), "who may have it");
        let hold = HOLD.after(&FRESH, unknown());
        assert_eq!(
            (hold.status, hold.unknown_outcomes, hold.attempts),
            (Status::Dead, 1, 1)
        );
        assert_eq!(
            hold.reason.as_deref(),
            Some("outcome unknown: mailgun gave no answer in time")
        );
    }

    #[test]
    fn a_contact_is_waited_for_only_so_long() {
        let change = SCHEDULE.after(&FRESH, Outcome::ContactUnknown);
        assert_eq!(
            (change.status, change.attempts, change.deferrals),
            (Status::Due, 0, 1)
        );
        let old = Standing {
            age: SCHEDULE.contact_wait_max,
            ..FRESH
        };
        let change = SCHEDULE.after(&old, Outcome::ContactUnknown);
        assert_eq!(
            (change.status, change.reason.as_deref()),
            (Status::Dead, Some("recipient unknown"))
        );
    }

    #[test]
    fn what_failed_together_is_not_tried_together() {
        let pauses: std::collections::BTreeSet<_> = (1..=100)
            .map(|id| {
                SCHEDULE
                    .after(&Standing { id, ..FRESH }, failed(None))
                    .due_in
            })
            .collect();
        assert!(pauses.len() > 50, "{} different pauses", pauses.len());
    }

    fn outcomes() -> impl Strategy<Value = Outcome> {
        prop_oneof![
            any::<Option<u32>>().prop_map(|seconds| failed(seconds.map(u64::from))),
            Just(unknown()),
            Just(Outcome::ContactUnknown),
            Just(Outcome::NotTried),
            Just(sent(None)),
            Just(Outcome::Skipped("not wanted")),
            Just(Outcome::RecipientErased),
            Just(Outcome::Refused("answered 400".into())),
        ]
    }

    proptest! {
        #[test]
        fn pauses_grow_and_stay_within_bounds(id: i64, attempts in 0_u32..u32::MAX) {
            let patient = Schedule { attempts_max: u32::MAX, ..SCHEDULE };
            let pause = patient.pause_after(attempts, id);
            prop_assert!(pause >= SCHEDULE.pause_first);
            prop_assert!(pause <= SCHEDULE.pause_max + SCHEDULE.pause_max / JITTER_PARTS);
            if attempts < 100 {
                let without_jitter = doubled(SCHEDULE.pause_first, attempts.saturating_sub(1), SCHEDULE.pause_max);
                prop_assert!(pause >= without_jitter);
            }
            prop_assert_eq!(pause, patient.pause_after(attempts, id), "the same row pauses the same");
        }

        #[test]
        fn a_notification_comes_to_an_end(id: i64, steps in prop::collection::vec(outcomes(), 1..60)) {
            let mut standing = Standing { id, ..FRESH };
            for outcome in steps {
                let change = SCHEDULE.after(&standing, outcome.clone());
                prop_assert!(change.attempts <= SCHEDULE.attempts_max);
                prop_assert!(change.attempts >= standing.attempts && change.unknown_outcomes <= change.attempts);
                prop_assert!(change.status != Status::Dead || change.reason.is_some(), "no reason");
                if change.status != Status::Due {
                    break;
                }
                prop_assert!(change.due_in > Duration::ZERO, "tried again at once after {:?}", outcome);
                standing = Standing {
                    attempts: change.attempts,
                    unknown_outcomes: change.unknown_outcomes,
                    deferrals: change.deferrals,
                    age: standing.age + change.due_in,
                    ..standing
                };
            }
        }
    }
}
