//! The route of a channel: its providers in the order of the settings, and who takes over from whom.
//!
//! The next provider is asked only when the one before certainly did not take the message, for a reason of its own.
//! What may have been taken, or would be taken by nobody, goes no further: that is the schedule's to decide.

use std::{sync::Arc, time::Duration};

use events::ids::EventId;
use parking_lot::Mutex;
use runtime::scrape;
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

    /// Has it said at each scrape who is passed over: that changes with time, also while nobody sends.
    pub fn measure(self: &Arc<Self>) {
        let route = Arc::clone(self);
        scrape::before_each(move || match route.as_ref() {
            Self::Mail(ways) => ways.report(Instant::now()),
            Self::Sms(ways) => ways.report(Instant::now()),
        });
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
    /// Who did not take it last.
    last: Option<&'static str>,
}

impl Tried {
    fn add(&mut self, provider: &'static str, reason: &str) {
        self.reasons.push(format!("{provider} {reason}"));
        self.last = Some(provider);
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
        let has_time =
            || begun.elapsed() + self.limits.provider_timeout <= self.limits.attempt_time_max();
        let mut tried = Tried::default();
        let mut passed_over = Vec::new();
        for (at, way) in self.ways.iter().enumerate() {
            if !has_time() {
                break;
            }
            let turn = way.circuit.lock().turn(Instant::now());
            match turn {
                Turn::InOrder => {
                    let asked = self.ask(at, way, message, event_id, &mut tried).await;
                    if let Some(outcome) = asked {
                        return outcome;
                    }
                }
                Turn::LastResort => passed_over.push((at, way)),
                Turn::NotNow => {}
            }
        }
        for (at, way) in passed_over {
            if !has_time() {
                break;
            }
            if let Some(outcome) = self.ask(at, way, message, event_id, &mut tried).await {
                return outcome;
            }
        }
        if tried.reasons.is_empty() {
            return Outcome::NotTried;
        }
        Outcome::Failed {
            reason: tried.reasons.join("; "),
            retry_after: self.free_in(Instant::now()),
        }
    }

    /// How long it is until the first provider may be asked again; `None` when one may be asked now, which is also
    /// one that there was no time left for.
    fn free_in(&self, now: Instant) -> Option<Duration> {
        let left_alone = |way: &Way<P>| way.circuit.lock().left_alone_for(now);
        let pauses: Option<Vec<_>> = self.ways.iter().map(left_alone).collect();
        pauses?.into_iter().min()
    }

    /// Whose place a provider takes, by where it is in the order: that of the last who did not take the message; if
    /// nobody was asked, that of the one before it, which was passed by. `None` when it is its own.
    fn place_of(&self, at: usize, tried: &Tried) -> Option<&'static str> {
        let before = || self.ways.get(at.checked_sub(1)?);
        tried
            .last
            .or_else(|| before().map(|way| way.provider.name()))
    }

    /// Asks one provider; `None` when the next one is to be asked.
    async fn ask(
        &self,
        at: usize,
        way: &Way<P>,
        message: &P::Message,
        event_id: EventId,
        tried: &mut Tried,
    ) -> Option<Outcome> {
        let provider = way.provider.name();
        if let Some(from) = self.place_of(at, tried) {
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
            Verdict::Unable { reason, .. } => {
                tried.add(provider, &reason);
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
        let was_open = circuit.is_open(Instant::now());
        match verdict {
            Verdict::Taken(_) | Verdict::Refused(_) => circuit.worked(),
            Verdict::Unable { retry_after, .. } => {
                let pause = retry_after.map(|pause| pause.min(self.limits.retry_after_max));
                circuit.failed(Instant::now(), pause);
            }
            Verdict::Unknown(_) => circuit.failed(Instant::now(), None),
        }
        let is_open = circuit.is_open(Instant::now());
        if is_open != was_open {
            tracing::warn!(
                channel = self.channel.name(),
                provider,
                is_open,
                "a provider is passed over, or not any more"
            );
        }
    }

    fn report(&self, now: Instant) {
        for way in &self.ways {
            let is_open = way.circuit.lock().is_open(now);
            measures::passed_over(self.channel, way.provider.name(), is_open);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::{self, Bounds};

    const SECOND: Duration = Duration::from_secs(1);
    const LIMITS: RouteLimits = RouteLimits {
        provider_timeout: SECOND,
        retry_after_max: Duration::from_secs(3_600),
    };

    /// SendGrid, Mailgun and a mail server, in this order; nobody is asked.
    fn ways() -> Ways<MailProvider> {
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        let bounds = Bounds {
            timeout: SECOND,
            answer_bytes_max: 0,
        };
        let client = channel::client(bounds).unwrap();
        let (url, key) = ("https://api.example.com".parse().unwrap(), String::new);
        let from = || "shop@example.com".to_owned();
        let smtp_url = "smtps://mail.example.com".parse().unwrap();
        let providers = vec![
            MailProvider::SendGrid(SendGrid::new(client.clone(), bounds, &url, key(), from())),
            MailProvider::Mailgun(Mailgun::new(
                client,
                bounds,
                &url,
                "mg.example.com",
                key(),
                from(),
            )),
            MailProvider::Smtp(Smtp::new(bounds, smtp_url, None, &from()).unwrap()),
        ];
        Ways::new(Channel::Email, providers, LIMITS)
    }

    fn fails(ways: &Ways<MailProvider>, at: usize, retry_after: Option<u64>) {
        let verdict = Verdict::Unable {
            reason: "answered 429".to_owned(),
            retry_after: retry_after.map(Duration::from_secs),
        };
        ways.remember(&ways.ways[at], &verdict);
    }

    #[test]
    fn all_wait_only_until_the_first_may_be_asked_again() {
        let ways = ways();
        fails(&ways, 0, Some(30));
        fails(&ways, 1, Some(7_200));
        let now = Instant::now();
        assert_eq!(ways.free_in(now), None, "one was never asked");
        fails(&ways, 2, Some(600));
        let wait = ways.free_in(now).unwrap();
        assert!((29 * SECOND..=31 * SECOND).contains(&wait), "{wait:?}");
        assert_eq!(ways.free_in(now + 40 * SECOND), None);
        fails(&ways, 0, Some(5_000));
        let wait = ways.free_in(now).unwrap();
        assert!((599 * SECOND..=601 * SECOND).contains(&wait), "{wait:?}");
    }

    #[test]
    fn who_asked_for_no_time_makes_nobody_wait() {
        let ways = ways();
        fails(&ways, 0, Some(30));
        fails(&ways, 1, None);
        fails(&ways, 2, Some(30));
        assert_eq!(ways.free_in(Instant::now()), None);
    }

    #[test]
    fn a_place_is_taken_only_from_somebody_else() {
        let ways = ways();
        let nobody_yet = Tried::default();
        assert_eq!(ways.place_of(0, &nobody_yet), None, "it is its own");
        assert_eq!(ways.place_of(2, &nobody_yet), Some(mailgun::NAME));
        let mut tried = Tried::default();
        tried.add(smtp::NAME, "answered 451");
        assert_eq!(ways.place_of(0, &tried), Some(smtp::NAME));
    }
}
