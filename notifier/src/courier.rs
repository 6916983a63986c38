//! The courier: brings one claimed notification to the providers of its channel. Personal data is opened here, at the last
//! moment, and not kept.

use std::{sync::Arc, time::Instant};

use events::{
    sealed::{DataKey, Field, Sealed},
    user::NotificationPreferences,
};
use runtime::data_keys::{DataKeyError, DataKeys};

use crate::{
    channel::route::{Letter, Route, TextMessage},
    contacts::{Contact, Details},
    ledger::Claimed,
    measures,
    react::{Channel, Occasion},
    schedule::Outcome,
    texts::Texts,
};

/// Brings notifications of one channel to the providers of its channel.
#[derive(Clone)]
pub struct Courier {
    /// The providers, and who takes over from whom.
    pub route: Arc<Route>,
    /// The words.
    pub texts: Arc<Texts>,
    /// The keys that contacts are sealed with.
    pub keys: DataKeys,
}

impl Courier {
    /// Gets the keys of all recipients at once, so that [`Courier::deliver`] has them at hand.
    pub async fn prepare(&self, claimed: &[Claimed]) {
        let mut recipients: Vec<_> = claimed.iter().map(|each| each.recipient).collect();
        recipients.sort_unstable();
        recipients.dedup();
        if let Err(error) = self.keys.get_many(&recipients).await {
            // Each delivery asks again for its own, and deals with what it gets.
            tracing::debug!(%error, "keys are not at hand");
        }
    }

    /// Sends one notification, if its recipient is there and wants it.
    pub async fn deliver(&self, claimed: &Claimed) -> Outcome {
        let Some(occasion) = &claimed.occasion else {
            return Outcome::Refused("this version cannot read the notification".to_owned());
        };
        let details = match &claimed.contact {
            Some(Contact::Active(details)) => details,
            Some(Contact::Erased) => return Outcome::RecipientErased,
            None => return Outcome::ContactUnknown,
        };
        if !is_wanted(occasion, self.route.channel(), details.preferences) {
            return Outcome::Skipped("not wanted");
        }
        if self.route.channel() == Channel::Sms && details.phone.is_none() {
            return Outcome::Skipped("no phone number");
        }
        match self.keys.get(claimed.recipient).await {
            Ok(Some(key)) => self
                .send(claimed, occasion, details, &key)
                .await
                .unwrap_or_else(Outcome::Refused),
            Ok(None) => Outcome::RecipientErased,
            Err(DataKeyError::Unreachable(_)) => Outcome::NotTried,
            Err(DataKeyError::NotUnwrapped(_)) => Outcome::Failed {
                reason: "data key does not open".to_owned(),
                retry_after: None,
            },
        }
    }

    async fn send(
        &self,
        claimed: &Claimed,
        occasion: &Occasion,
        details: &Details,
        key: &DataKey,
    ) -> Result<Outcome, String> {
        let open = |field: Field, sealed: &Sealed| {
            key.open(claimed.recipient, field, sealed)
                .map_err(|_| "contact does not open".to_owned())
        };
        match self.route.as_ref() {
            Route::Mail(ways) => {
                let (to, name) = (
                    open(Field::Email, &details.email)?,
                    open(Field::Name, &details.name)?,
                );
                let mail = self
                    .texts
                    .mail(&details.locale, occasion, &name)
                    .map_err(|error| error.to_string())?;
                let letter = Letter { to, mail };
                Ok(self.timed(ways.send(&letter, claimed.event_id)).await)
            }
            Route::Sms(ways) => {
                let Some(phone) = &details.phone else {
                    return Ok(Outcome::Skipped("no phone number"));
                };
                let to = open(Field::Phone, phone)?;
                let text = self
                    .texts
                    .sms(&details.locale, occasion)
                    .map_err(|error| error.to_string())?;
                let message = TextMessage { to, text };
                Ok(self.timed(ways.send(&message, claimed.event_id)).await)
            }
        }
    }

    async fn timed(&self, attempt: impl Future<Output = Outcome>) -> Outcome {
        let begun = Instant::now();
        let outcome = attempt.await;
        metrics::histogram!(measures::ATTEMPT, "channel" => self.route.channel().name())
            .record(begun.elapsed());
        outcome
    }
}

/// Whether somebody of these preferences wants to be told about `occasion` this way.
fn is_wanted(occasion: &Occasion, channel: Channel, preferences: NotificationPreferences) -> bool {
    match (occasion, channel) {
        (Occasion::Welcome, Channel::Email | Channel::Sms) => true,
        (
            Occasion::OrderCreated(_) | Occasion::OrderCompleted(_) | Occasion::OrderCancelled(_),
            Channel::Email,
        ) => preferences.order_emails,
        (
            Occasion::OrderCreated(_) | Occasion::OrderCompleted(_) | Occasion::OrderCancelled(_),
            Channel::Sms,
        ) => preferences.order_sms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{react::OrderNotice, samples::ORDER};

    #[test]
    fn preferences_are_about_orders() {
        let created = Occasion::OrderCreated(OrderNotice {
            order_id: ORDER,
            total: None,
            lines: None,
            at: None,
            reason: None,
        });
        let only_mail = NotificationPreferences {
            order_emails: true,
            order_sms: false,
        };
        let only_sms = NotificationPreferences {
            order_emails: false,
            order_sms: true,
        };
        for (occasion, channel, preferences, wanted) in [
            (&created, Channel::Email, only_mail, true),
            (&created, Channel::Sms, only_mail, false),
            (&created, Channel::Email, only_sms, false),
            (&created, Channel::Sms, only_sms, true),
            (&Occasion::Welcome, Channel::Email, only_sms, true),
        ] {
            assert_eq!(
                is_wanted(occasion, channel, preferences),
                wanted,
                "{occasion:?} {channel:?}"
            );
        }
    }
}
