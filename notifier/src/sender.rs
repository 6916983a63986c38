//! The sender of one channel: claims what is due, hands it to the courier, records what became of it.
//!
//! It looks when it is woken (something new was entered), when the next row is due, and now and then for what a
//! dead sender left behind. A send begins only while its lease outlasts the longest attempt, so that
//! a row is never in two hands unless a process was stopped for longer than that.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use runtime::{
    health::Component,
    postgres::in_time,
    retry::Backoff,
    trace::{self, Span, SpanKind},
};
use sqlx::PgPool;
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    courier::Courier,
    ledger::{self, Claimed, Recorded},
    measures,
    react::Channel,
    schedule::{Outcome, Schedule, Status},
};

/// The longest time between two looks at the ledger; also how often it is looked over for what a dead sender left.
pub const LOOK_OVER_EVERY: Duration = Duration::from_secs(5);
/// The shortest time between two looks that found less than there was room for.
const LOOK_PAUSE_MIN: Duration = Duration::from_millis(20);
/// Rows claimed for each one that may be sent at the same time.
const CLAIMS_PER_SEND: usize = 4;
/// How long outcomes are tried to be recorded once the process is to end.
const RECORD_AT_END_MAX: Duration = Duration::from_secs(10);

/// The bounds of sending.
#[derive(Debug, Clone, Copy)]
pub struct SendLimits {
    /// Messages that are being sent at the same time.
    pub concurrency: usize,
    /// How long a claim holds.
    pub lease: Duration,
    /// The longest that one attempt takes, with every provider that takes over.
    pub attempt_time_max: Duration,
}

/// The sender of one channel.
pub struct Sender {
    /// Where the ledger is.
    pub pool: PgPool,
    /// Brings messages to the providers.
    pub courier: Courier,
    /// When to try again, and when to give up.
    pub schedule: Schedule,
    /// The bounds.
    pub limits: SendLimits,
    /// Told when something new was entered for this channel.
    pub wake: Arc<Notify>,
    /// How it is.
    pub component: Component,
    /// Cancelled when the process is to end.
    pub shutdown: CancellationToken,
}

/// What is in the sender's hands.
struct Hands {
    sending: JoinSet<(Claimed, Outcome)>,
    slots: Arc<Semaphore>,
    /// Claimed and not yet recorded.
    ids: BTreeSet<i64>,
    /// Until then every provider asked to be left alone.
    paused_until: watch::Sender<Instant>,
    /// When the ledger is to be looked over next.
    look_over_at: Instant,
    backoff: Backoff,
}

impl Sender {
    /// Sends until the process is to end; then finishes what is being sent, and puts back what is not.
    ///
    /// # Errors
    /// When a delivery panicked, or outcomes could not be recorded at the end.
    pub async fn run(self) -> anyhow::Result<()> {
        let mut hands = Hands {
            sending: JoinSet::new(),
            slots: Arc::new(Semaphore::new(self.limits.concurrency)),
            ids: BTreeSet::new(),
            paused_until: watch::Sender::new(Instant::now()),
            look_over_at: Instant::now(),
            backoff: Backoff::default(),
        };
        let mut look_at = Instant::now();
        let claimed_max = self.limits.concurrency.saturating_mul(CLAIMS_PER_SEND);
        loop {
            let stopping = self.shutdown.is_cancelled();
            if stopping && hands.sending.is_empty() {
                return Ok(());
            }
            let room = claimed_max.saturating_sub(hands.ids.len());
            let has_room = room >= claimed_max.div_ceil(2);
            let look_at_earliest = look_at.max(*hands.paused_until.borrow());
            tokio::select! {
                Some(done) = hands.sending.join_next() => {
                    let mut finished = vec![done?];
                    while let Some(done) = hands.sending.try_join_next() {
                        finished.push(done?);
                    }
                    let due_in = self.settle(&mut hands, finished).await?;
                    look_at = due_in.map_or(look_at, |due_in| look_at.min(Instant::now() + due_in));
                }
                () = self.shutdown.cancelled(), if !stopping => {}
                () = self.wake.notified(), if !stopping => look_at = Instant::now(),
                () = sleep_until(look_at_earliest), if has_room && !stopping => {
                    look_at = self.look(&mut hands, room).await;
                }
                // Also while the providers asked to be left alone, and while there is no room.
                () = sleep_until(hands.look_over_at), if !stopping => {
                    if self.look_over(&mut hands).await {
                        look_at = Instant::now();
                    }
                }
            }
        }
    }

    /// Claims what is due and begins to send it; when to look again.
    async fn look(&self, hands: &mut Hands, room: usize) -> Instant {
        match self.claim(hands, room).await {
            Ok(look_at) => {
                self.component.ready();
                hands.backoff = Backoff::default();
                look_at
            }
            Err(error) => {
                self.ledger_is_away(&error);
                Instant::now() + hands.backoff.next_pause()
            }
        }
    }

    fn ledger_is_away(&self, error: &sqlx::Error) {
        tracing::warn!(channel = self.channel().name(), %error, "the ledger is away, trying again");
        self.component
            .waiting(format!("the ledger is away: {error}"));
    }

    async fn claim(&self, hands: &mut Hands, room: usize) -> Result<Instant, sqlx::Error> {
        let lease_ends = Instant::now() + self.limits.lease;
        let claimed = in_time(ledger::claim(
            &self.pool,
            self.channel(),
            room,
            self.limits.lease,
        ))
        .await?;
        let is_all = claimed.len() < room;
        self.courier.prepare(&claimed).await;
        for each in claimed {
            hands.ids.insert(each.standing.id);
            let begin_before = lease_ends
                .checked_sub(self.limits.attempt_time_max)
                .unwrap_or(lease_ends);
            hands.sending.spawn(deliver(
                self.courier.clone(),
                each,
                Arc::clone(&hands.slots),
                begin_before,
                hands.paused_until.subscribe(),
                self.shutdown.clone(),
            ));
        }
        if !is_all {
            return Ok(Instant::now());
        }
        let next_due_in = in_time(ledger::next_due_in(&self.pool, self.channel()))
            .await?
            .unwrap_or(LOOK_OVER_EVERY);
        Ok(Instant::now() + next_due_in.clamp(LOOK_PAUSE_MIN, LOOK_OVER_EVERY))
    }

    /// Looks the ledger over; whether something was taken back.
    async fn look_over(&self, hands: &mut Hands) -> bool {
        let taken_back = self.take_back_and_count(hands).await;
        hands.look_over_at = Instant::now() + LOOK_OVER_EVERY;
        match taken_back {
            Ok(count) => {
                self.component.ready();
                count > 0
            }
            Err(error) => {
                self.ledger_is_away(&error);
                false
            }
        }
    }

    /// Takes back what a dead sender left behind, and counts what waits. Returns how much was taken back.
    async fn take_back_and_count(&self, hands: &Hands) -> Result<usize, sqlx::Error> {
        let own: Vec<i64> = hands.ids.iter().copied().collect();
        let expired = in_time(ledger::expire(
            &self.pool,
            self.channel(),
            &self.schedule,
            &own,
        ))
        .await?;
        for each in &expired {
            tracing::warn!(
                id = each.id,
                channel = self.channel().name(),
                "a lease ran out: outcome unknown"
            );
            self.count("unknown", ledger::is_dead(&each.change));
        }
        let backlog = in_time(ledger::backlog(&self.pool, self.channel())).await?;
        measures::backlog(self.channel(), backlog);
        Ok(expired.len())
    }

    /// Records what became of messages, trying until it succeeds: only then there is room for others.
    /// Returns the shortest time until one of them is due again.
    async fn settle(
        &self,
        hands: &mut Hands,
        finished: Vec<(Claimed, Outcome)>,
    ) -> anyhow::Result<Option<Duration>> {
        let mut changes = Vec::with_capacity(finished.len());
        let mut names = Vec::with_capacity(finished.len());
        for (claimed, outcome) in finished {
            self.mind(hands, &claimed, &outcome);
            names.push(outcome.name());
            let (id, claim) = (claimed.standing.id, claimed.claim);
            changes.push(Recorded {
                id,
                claim,
                change: self.schedule.after(&claimed.standing, outcome),
            });
        }
        let recorded = self.record(&changes).await?;
        for (change, name) in changes.iter().zip(names) {
            hands.ids.remove(&change.id);
            if recorded.contains(&change.id) {
                self.count(name, ledger::is_dead(&change.change));
            } else {
                tracing::warn!(
                    id = change.id,
                    outcome = name,
                    "came too late: the row was claimed again"
                );
                self.count(measures::TOO_LATE, false);
            }
        }
        let due_again = changes
            .iter()
            .filter(|each| each.change.status == Status::Due);
        Ok(due_again.map(|each| each.change.due_in).min())
    }

    /// Heeds a provider's `Retry-After`, and says what went wrong.
    fn mind(&self, hands: &mut Hands, claimed: &Claimed, outcome: &Outcome) {
        let (id, event_id, channel) =
            (claimed.standing.id, claimed.event_id, self.channel().name());
        let _log = claimed.origin.log_span(None).entered();
        match outcome {
            Outcome::Failed {
                reason,
                retry_after,
            } => {
                tracing::warn!(id, %event_id, channel, reason, retry_after_seconds = retry_after.map(|pause| pause.as_secs()), "not sent, trying again later");
                if let Some(pause) = retry_after {
                    let until = Instant::now() + self.schedule.bounded(*pause);
                    hands
                        .paused_until
                        .send_modify(|paused| *paused = until.max(*paused));
                }
            }
            Outcome::Unknown { reason, .. } => {
                tracing::warn!(id, %event_id, channel, reason, "outcome unknown")
            }
            Outcome::Refused(reason) => {
                tracing::error!(id, %event_id, channel, reason, "cannot be sent")
            }
            // One line that leads from the log to the trace.
            Outcome::Sent(_) if claimed.origin.is_sampled() => {
                tracing::info!(id, %event_id, channel, "sent")
            }
            Outcome::Sent(_)
            | Outcome::Skipped(_)
            | Outcome::ContactUnknown
            | Outcome::RecipientErased
            | Outcome::NotTried => {
                tracing::debug!(id, %event_id, channel, outcome = outcome.name())
            }
        }
    }

    async fn record(&self, changes: &[Recorded]) -> anyhow::Result<BTreeSet<i64>> {
        let mut backoff = Backoff::default();
        let mut give_up_at = None;
        loop {
            let attempt = in_time(async {
                let mut connection = self.pool.acquire().await?;
                ledger::record(&mut connection, changes).await
            });
            if self.shutdown.is_cancelled() {
                give_up_at.get_or_insert(Instant::now() + RECORD_AT_END_MAX);
            }
            let result = match give_up_at {
                Some(at) => timeout_at(at, attempt)
                    .await
                    .unwrap_or(Err(sqlx::Error::PoolTimedOut)),
                None => attempt.await,
            };
            match result {
                Ok(recorded) => return Ok(recorded.into_iter().collect()),
                Err(error) if give_up_at.is_some_and(|at| Instant::now() >= at) => {
                    let count = changes.len();
                    return Err(anyhow::Error::new(error)
                        .context(format!("{count} outcomes are not recorded")));
                }
                Err(error) => {
                    tracing::warn!(channel = self.channel().name(), %error, "outcomes not recorded, trying again");
                    self.component
                        .waiting(format!("the ledger is away: {error}"));
                    sleep(backoff.next_pause()).await;
                }
            }
        }
    }

    fn count(&self, outcome: &'static str, is_dead: bool) {
        measures::outcome(self.channel(), outcome, is_dead);
    }

    fn channel(&self) -> Channel {
        self.courier.route.channel()
    }
}

/// Delivers one notification as soon as there is a free slot; not at all when that is too late, or when the provider
/// has asked to be left alone meanwhile.
async fn deliver(
    courier: Courier,
    claimed: Claimed,
    slots: Arc<Semaphore>,
    begin_before: Instant,
    paused_until: watch::Receiver<Instant>,
    shutdown: CancellationToken,
) -> (Claimed, Outcome) {
    let slot = tokio::select! {
        biased;
        () = shutdown.cancelled() => None,
        slot = slots.acquire() => slot.ok(),
    };
    let outcome = match slot {
        Some(_slot) if (*paused_until.borrow()..begin_before).contains(&Instant::now()) => {
            traced(&courier, &claimed).await
        }
        Some(_) | None => Outcome::NotTried,
    };
    (claimed, outcome)
}

/// Delivers one notification within a span of its own, where it belongs to a sampled trace.
async fn traced(courier: &Courier, claimed: &Claimed) -> Outcome {
    let name = match courier.route.channel() {
        Channel::Email => "send email",
        Channel::Sms => "send sms",
    };
    let mut span = Span::below(claimed.origin.trace, name, SpanKind::Consumer);
    let own = span.as_ref().and_then(Span::context);
    let outcome = trace::within(own, courier.deliver(claimed))
        .instrument(claimed.origin.log_span(own))
        .await;
    if let Some(span) = &mut span {
        span.set("messaging.message.id", claimed.event_id.to_string());
        span.set("orderlog.ledger.id", claimed.standing.id);
        let attempt = claimed.standing.attempts.saturating_add(1);
        span.set("orderlog.attempt", i64::from(attempt));
        span.set("orderlog.outcome", outcome.name());
        match outcome {
            Outcome::Failed { .. } | Outcome::Unknown { .. } | Outcome::Refused(_) => {
                span.fail(outcome.name());
            }
            Outcome::Sent(_)
            | Outcome::Skipped(_)
            | Outcome::ContactUnknown
            | Outcome::RecipientErased
            | Outcome::NotTried => {}
        }
    }
    outcome
}
