//! The route of a channel: its providers in the order of the settings, and who takes over from whom.
//!
//! The next provider is asked only when the one before certainly did not take the message, for a reason of its own.
//! What may have been taken, or would be taken by nobody, goes no further: that is the schedule's to decide.

use std::time::Duration;

use events::ids::EventId;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    Mailgun, SendGrid, Smtp, Twilio, Verdict,
    circuit::{Circuit, Turn},
    mailgun, sendgrid, smtp, twilio,
};
use crate::{
    measures,
    react::Channel,
    schedule::{Outcome, Receipt},
    texts::Mail,
};

/// An attempt may take this many times as long as one provider has: so much time others have to take over.
const ATTEMPT_TIMEOUTS: u32 = 2;

/// The bounds of an attempt.
#[derive(Debug, Clone, Copy)]
pub struct RouteLimits {
    /// Time a provider has for a whole call.
    pub provider_timeout: Duration,
    /// The longest `Retry-After` that is obeyed; a longer one counts as this.
    pub retry_after_max: Duration,
}

impl RouteLimits {
    /// The longest that an attempt takes, with whoever takes over.
    pub fn attempt_time_max(&self) -> Duration {
        self.provider_timeout * ATTEMPT_TIMEOUTS
    }
}

/// A provider of a channel: asked with messages of one kind, known by name.
pub trait Provider {
    /// What it takes.
    type Message: Sync;
    /// The name, as in the settings, the ledger and the metrics.
    fn name(&self) -> &'static str;
    /// Asks it to take a message about an event.
    fn send(
        &self,
        message: &Self::Message,
        event_id: EventId,
    ) -> impl Future<Output = Verdict> + Send;
}

/// A mail and where it goes.
pub struct Letter {
    /// The recipient's address.
    pub to: String,
    /// The words.
    pub mail: Mail,
}

/// A text message and where it goes.
pub struct TextMessage {
    /// The recipient's number.
    pub to: String,
    /// The words.
    pub text: String,
}

/// A provider of e-mail.
pub enum MailProvider {
    /// SendGrid's API.
    SendGrid(SendGrid),
    /// Mailgun's API.
    Mailgun(Mailgun),
    /// Any server that takes mail for others.
    Smtp(Smtp),
}

impl Provider for MailProvider {
    type Message = Letter;

    fn name(&self) -> &'static str {
        match self {
            Self::SendGrid(_) => sendgrid::NAME,
            Self::Mailgun(_) => mailgun::NAME,
            Self::Smtp(_) => smtp::NAME,
        }
    }

    async fn send(&self, letter: &Letter, event_id: EventId) -> Verdict {
        let Letter { to, mail } = letter;
        match self {
            Self::SendGrid(sendgrid) => sendgrid.send(to, mail, event_id).await,
            Self::Mailgun(mailgun) => mailgun.send(to, mail, event_id).await,
            Self::Smtp(smtp) => smtp.send(to, mail, event_id).await,
        }
    }
}

/// A provider of text messages.
pub enum SmsProvider {
    /// Twilio's API.
    Twilio(Twilio),
}

impl Provider for SmsProvider {
    type Message = TextMessage;

    fn name(&self) -> &'static str {
        match self {
            Self::Twilio(_) => twilio::NAME,
        }
    }

    async fn send(&self, message: &TextMessage, event_id: EventId) -> Verdict {
        match self {
            Self::Twilio(twilio) => twilio.send(&message.to, &message.text, event_id).await,
        }
    }
}

/// The way of a channel's messages.
pub enum Route {
    /// Of e-mail.
    Mail(Ways<MailProvider>),
    /// Of text messages.
    Sms(Ways<SmsProvider>),
}

impl Route {
    /// E-mail through these providers, in this order.
    pub fn mail(providers: Vec<MailProvider>, limits: RouteLimits) -> Self {
        Self::Mail(Ways::new(Channel::Email, providers, limits))
    }

    /// Text messages through these providers, in this order.
    pub fn sms(providers: Vec<SmsProvider>, limits: RouteLimits) -> Self {
        Self::Sms(Ways::new(Channel::Sms, providers, limits))
    }

    /// The channel.
    pub const fn channel(&self) -> Channel {
        match self {
            Self::Mail(_) => Channel::Email,
            Self::Sms(_) => Channel::Sms,
        }
    }
}

/// The providers of a channel in their order.
pub struct Ways<P> {
    channel: Channel,
    ways: Vec<Way<P>>,
    limits: RouteLimits,
}

struct Way<P> {
    provider: P,
    circuit: Mutex<Circuit>,
}

/// What an attempt has come to so far.
#[derive(Default)]
struct Tried {
    /// Who would not take it, and why.
    reasons: Vec<String>,
    /// Whose turn it was before.
    last: Option<&'static str>,
    /// The shortest time that was asked for; `None` as soon as somebody asked for none.
    retry_after: Option<Duration>,
}

impl Tried {
    fn add(&mut self, provider: &'static str, reason: &str, retry_after: Option<Duration>) {
        let is_first = self.reasons.is_empty();
        self.reasons.push(format!("{provider} {reason}"));
        self.last = Some(provider);
        self.retry_after = match (self.retry_after, retry_after) {
            (before, Some(pause)) if is_first => Some(before.unwrap_or(pause)),
            (Some(before), Some(pause)) => Some(before.min(pause)),
            (_, None) | (None, _) => None,
        };
    }

    fn told(mut self, provider: &str, reason: &str) -> String {
        self.reasons.push(format!("{provider} {reason}"));
        self.reasons.join("; ")
    }
}

impl<P: Provider> Ways<P> {
    fn new(channel: Channel, providers: Vec<P>, limits: RouteLimits) -> Self {
        let names: Vec<_> = providers.iter().map(Provider::name).collect();
        measures::providers(channel, &names);
        let way = |provider| Way {
            provider,
            circuit: Mutex::default(),
        };
        Self {
            channel,
            ways: providers.into_iter().map(way).collect(),
            limits,
        }
    }

    /// Sends a message through the first provider that takes it.
    pub async fn send(&self, message: &P::Message, event_id: EventId) -> Outcome {
        let begun = Instant::now();
        let mut tried = Tried::default();
        let mut passed_over = Vec::new();
        for way in &self.ways {
            match way.circuit.lock().turn(Instant::now()) {
                Turn::InOrder => {}
                Turn::LastResort => {
                    tried.last = Some(way.provider.name());
                    passed_over.push(way);
                    continue;
                }
                Turn::NotNow => {
                    tried.last = Some(way.provider.name());
                    continue;
                }
            }
            if let Some(outcome) = self.ask(way, message, event_id, begun, &mut tried).await {
                return outcome;
            }
        }
        for way in passed_over {
            if let Some(outcome) = self.ask(way, message, event_id, begun, &mut tried).await {
                return outcome;
            }
        }
        if tried.reasons.is_empty() {
            return Outcome::NotTried;
        }
        Outcome::Failed {
            reason: tried.reasons.join("; "),
            retry_after: tried.retry_after,
        }
    }

    /// Asks one provider, unless there is not enough time left for it; `None` when the next one is to be asked.
    async fn ask(
        &self,
        way: &Way<P>,
        message: &P::Message,
        event_id: EventId,
        begun: Instant,
        tried: &mut Tried,
    ) -> Option<Outcome> {
        let provider = way.provider.name();
        if begun.elapsed() + self.limits.provider_timeout > self.limits.attempt_time_max() {
            return None;
        }
        if let Some(from) = tried.last {
            let reason = tried
                .reasons
                .last()
                .map_or("it is passed over", String::as_str);
            tracing::warn!(%event_id, channel = self.channel.name(), from, to = provider, reason, "the next provider is asked");
            measures::failed_over(self.channel, from, provider);
        }
        let verdict = way.provider.send(message, event_id).await;
        measures::asked(self.channel, provider, &verdict);
        self.remember(way, &verdict);
        match verdict {
            Verdict::Taken(reference) => Some(Outcome::Sent(Receipt {
                provider,
                reference,
            })),
            Verdict::Unable {
                reason,
                retry_after,
            } => {
                tried.add(provider, &reason, retry_after);
                None
            }
            Verdict::Unknown(reason) => Some(Outcome::Unknown {
                provider: Some(provider),
                reason: std::mem::take(tried).told(provider, &reason),
            }),
            Verdict::Refused(reason) => Some(Outcome::Refused(
                std::mem::take(tried).told(provider, &reason),
            )),
        }
    }

    fn remember(&self, way: &Way<P>, verdict: &Verdict) {
        let provider = way.provider.name();
        let mut circuit = way.circuit.lock();
        let was_open = circuit.is_open();
        match verdict {
            Verdict::Taken(_) | Verdict::Refused(_) => circuit.worked(),
            Verdict::Unable { retry_after, .. } => {
                let pause = retry_after.map(|pause| pause.min(self.limits.retry_after_max));
                circuit.failed(Instant::now(), pause);
            }
            Verdict::Unknown(_) => circuit.failed(Instant::now(), None),
        }
        if circuit.is_open() != was_open {
            let is_open = circuit.is_open();
            tracing::warn!(
                channel = self.channel.name(),
                provider,
                is_open,
                "a provider is passed over, or not any more"
            );
        }
        measures::passed_over(self.channel, provider, circuit.is_open());
    }
}
