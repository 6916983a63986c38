//! The messages received: bounded, the oldest dropped first.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// Which way a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// SendGrid's mail send.
    Sendgrid,
    /// Mailgun's messages.
    Mailgun,
    /// SMTP submission.
    Smtp,
    /// Twilio's programmable messaging.
    Twilio,
}

impl Provider {
    /// The name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sendgrid => "SendGrid",
            Self::Mailgun => "Mailgun",
            Self::Smtp => "SMTP",
            Self::Twilio => "Twilio",
        }
    }
}

/// How a message would reach its recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// An e-mail.
    Email,
    /// A text message.
    Sms,
}

/// One message to one recipient, as accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// The provider's id of the message; of one that came by SMTP its Message-ID.
    pub id: String,
    /// Whose API it came through.
    pub provider: Provider,
    /// How it would reach its recipient.
    pub channel: Channel,
    /// The recipient's address or number.
    pub to: String,
    /// The sender's address or number.
    pub from: String,
    /// Only of e-mails.
    pub subject: Option<String>,
    /// The plain text.
    pub text: Option<String>,
    /// Only of e-mails.
    pub html: Option<String>,
    /// The event the sender named as the reason of the message.
    pub event_id: Option<String>,
    /// When it was accepted.
    #[serde(with = "time::serde::rfc3339")]
    pub received_at: OffsetDateTime,
}

impl Message {
    fn bytes(&self) -> usize {
        let optional = [&self.subject, &self.text, &self.html, &self.event_id];
        let optional_bytes: usize = optional
            .iter()
            .filter_map(|o| o.as_ref())
            .map(String::len)
            .sum();
        size_of::<Self>() + self.id.len() + self.to.len() + self.from.len() + optional_bytes
    }
}

/// Which messages are asked for; what is absent does not restrict.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Only of this channel.
    pub channel: Option<Channel>,
    /// Only to this recipient, upper and lower case alike.
    pub to: Option<String>,
    /// Only for this event.
    pub event_id: Option<String>,
    /// At most so many items.
    pub limit: Option<usize>,
}

impl Filter {
    fn admits(&self, message: &Message) -> bool {
        self.channel
            .is_none_or(|channel| channel == message.channel)
            && self
                .to
                .as_ref()
                .is_none_or(|to| to.eq_ignore_ascii_case(&message.to))
            && self
                .event_id
                .as_ref()
                .is_none_or(|id| Some(id) == message.event_id.as_ref())
    }
}

/// What [`Kept::find`] found.
pub struct Found {
    /// The newest first, at most as many as asked for.
    pub items: Vec<Arc<Message>>,
    /// How many there are without the limit.
    pub total: usize,
}

/// The messages received, within bounds.
pub struct Kept {
    count_max: usize,
    bytes_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    messages: VecDeque<Arc<Message>>,
    bytes: usize,
    dropped: u64,
}

impl Kept {
    /// Nothing kept yet; never more than the given count and bytes.
    #[must_use]
    pub fn new(count_max: usize, bytes_max: usize) -> Self {
        Self {
            count_max,
            bytes_max,
            inner: Mutex::default(),
        }
    }

    /// Keeps the messages, dropping the oldest ones beyond the bounds.
    pub fn keep(&self, messages: Vec<Message>) {
        let mut inner = self.inner.lock();
        for message in messages {
            inner.bytes += message.bytes();
            inner.messages.push_back(Arc::new(message));
        }
        while inner.messages.len() > self.count_max || inner.bytes > self.bytes_max {
            let Some(oldest) = inner.messages.pop_front() else {
                break;
            };
            inner.bytes -= oldest.bytes();
            inner.dropped += 1;
        }
    }

    /// The messages the filter admits, newest first.
    #[must_use]
    pub fn find(&self, filter: &Filter, limit: usize) -> Found {
        let inner = self.inner.lock();
        let mut found = Found {
            items: Vec::new(),
            total: 0,
        };
        for message in inner
            .messages
            .iter()
            .rev()
            .filter(|message| filter.admits(message))
        {
            found.total += 1;
            if found.items.len() < limit {
                found.items.push(Arc::clone(message));
            }
        }
        found
    }

    /// Forgets all messages.
    pub fn clear(&self) {
        *self.inner.lock() = Inner::default();
    }

    /// How many were dropped to stay within the bounds since the last [`Kept::clear`].
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.inner.lock().dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str, to: &str) -> Message {
        Message {
            id: id.to_owned(),
            provider: Provider::Twilio,
            channel: Channel::Sms,
            to: to.to_owned(),
            from: "+15005550006".to_owned(),
            subject: None,
            text: Some("hello".to_owned()),
            html: None,
            event_id: Some(format!("event of {id}")),
            received_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    fn ids(kept: &Kept, filter: &Filter) -> Vec<String> {
        kept.find(filter, 10)
            .items
            .iter()
            .map(|m| m.id.clone())
            .collect()
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let kept = Kept::new(2, usize::MAX);
        kept.keep(vec![
            message("1", "a"),
            message("2", "a"),
            message("3", "a"),
        ]);
        assert_eq!(ids(&kept, &Filter::default()), ["3", "2"]);
        assert_eq!(kept.dropped(), 1);
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many_bytes() {
        let kept = Kept::new(100, message("1", "a").bytes() * 2);
        kept.keep(vec![
            message("1", "a"),
            message("2", "a"),
            message("3", "a"),
        ]);
        assert_eq!(ids(&kept, &Filter::default()), ["3", "2"]);
        kept.clear();
        kept.keep(vec![message("4", "a"), message("5", "a")]);
        assert_eq!(ids(&kept, &Filter::default()), ["5", "4"]);
    }

    #[test]
    fn a_filter_restricts_the_items_and_the_total() {
        let kept = Kept::new(100, usize::MAX);
        kept.keep(vec![
            message("1", "A@x.example"),
            message("2", "b"),
            message("3", "b"),
        ]);
        let to = Filter {
            to: Some("a@X.example".to_owned()),
            ..Filter::default()
        };
        assert_eq!(ids(&kept, &to), ["1"]);
        let event = Filter {
            event_id: Some("event of 2".to_owned()),
            ..Filter::default()
        };
        assert_eq!(ids(&kept, &event), ["2"]);
        let email = Filter {
            channel: Some(Channel::Email),
            ..Filter::default()
        };
        assert!(ids(&kept, &email).is_empty());
        let found = kept.find(&Filter::default(), 1);
        assert_eq!((found.items.len(), found.total), (1, 3));
    }
}
