//! Reaction: which notifications an event calls for. Pure; whether and where they can be delivered is
//! decided when they are sent.

use events::{
    Event,
    currency::Currency,
    ids::{EventId, OrderId, UserId},
    order::OrderStep,
    timestamp::Timestamp,
};
use serde::{Deserialize, Serialize};

/// A way to reach somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Channel {
    /// E-mail.
    Email,
    /// Text message.
    Sms,
}

impl Channel {
    /// Every channel there is.
    pub const ALL: [Self; 2] = [Self::Email, Self::Sms];

    /// The name, as in the ledger and in the metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Sms => "sms",
        }
    }
}

/// Somebody must be told something: one row of the ledger, unique by event, channel and recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// The event it is about.
    pub event_id: EventId,
    /// The way it goes.
    pub channel: Channel,
    /// Who is told.
    pub recipient: UserId,
    /// What it is about.
    pub occasion: Occasion,
}

/// What a notification is about. Stored in the ledger as JSON, so names and shapes are add-only;
/// holds no personal data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "occasion", rename_all = "snake_case")]
pub enum Occasion {
    /// The recipient signed up.
    Welcome,
    /// The recipient's order was taken.
    OrderCreated(OrderNotice),
    /// The recipient's order is done.
    OrderCompleted(OrderNotice),
    /// The recipient's order was cancelled.
    OrderCancelled(OrderNotice),
}

impl Occasion {
    /// The name; also that of its templates.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Welcome => "welcome",
            Self::OrderCreated(_) => "order_created",
            Self::OrderCompleted(_) => "order_completed",
            Self::OrderCancelled(_) => "order_cancelled",
        }
    }

    /// The order it is about, if it is about one.
    pub const fn order(&self) -> Option<&OrderNotice> {
        match self {
            Self::Welcome => None,
            Self::OrderCreated(order)
            | Self::OrderCompleted(order)
            | Self::OrderCancelled(order) => Some(order),
        }
    }
}

/// What is said about an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderNotice {
    /// The order.
    pub order_id: OrderId,
    /// Its total at the time of the event, where it is known.
    pub total: Option<Amount>,
    /// How many lines it has, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<u64>,
    /// When the event happened; rows of older versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Why, where a reason was given.
    pub reason: Option<String>,
}

/// An amount of money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// The currency.
    pub currency: Currency,
    /// In the currency's minor units.
    pub minor: i64,
}

/// The notifications that `event` calls for. `total` is the total of the order it happened to, before it.
pub fn react(event_id: EventId, event: &Event, total: Option<Amount>) -> Vec<Notification> {
    let notify = |channels: &[Channel], recipient: UserId, occasion: &Occasion| {
        let one = |channel: &Channel| Notification {
            event_id,
            channel: *channel,
            recipient,
            occasion: occasion.clone(),
        };
        channels.iter().map(one).collect()
    };
    match event {
        Event::UserRegistered(fact) => notify(&[Channel::Email], fact.user_id, &Occasion::Welcome),
        Event::OrderCreated(fact) => {
            let total = Some(Amount {
                currency: fact.currency,
                minor: fact.total_minor,
            });
            let notice = OrderNotice {
                order_id: fact.order_id,
                total,
                lines: u64::try_from(fact.lines.len()).ok(),
                at: Some(fact.occurred_at),
                reason: None,
            };
            notify(
                &Channel::ALL,
                fact.customer_id,
                &Occasion::OrderCreated(notice),
            )
        }
        Event::OrderStatusChanged(fact) => match fact.status {
            OrderStep::Completed => {
                let notice = OrderNotice {
                    order_id: fact.order_id,
                    total,
                    lines: None,
                    at: Some(fact.occurred_at),
                    reason: storable(fact.reason.as_ref()),
                };
                notify(
                    &Channel::ALL,
                    fact.customer_id,
                    &Occasion::OrderCompleted(notice),
                )
            }
            OrderStep::InProgress => Vec::new(),
        },
        Event::OrderCancelled(fact) => {
            let notice = OrderNotice {
                order_id: fact.order_id,
                total,
                lines: None,
                at: Some(fact.occurred_at),
                reason: storable(fact.reason.as_ref()),
            };
            notify(
                &Channel::ALL,
                fact.customer_id,
                &Occasion::OrderCancelled(notice),
            )
        }
        Event::UserProfileUpdated(_)
        | Event::UserPasswordChanged(_)
        | Event::UserEmailChanged(_)
        | Event::UserRoleChanged(_)
        | Event::UserErased(_)
        | Event::UserEmailClaimed(_)
        | Event::UserEmailReleased(_)
        | Event::OrderUpdated(_) => Vec::new(),
    }
}

/// Postgres stores every text but one with a NUL in it; such a one must not stop the notifier.
fn storable(text: Option<&String>) -> Option<String> {
    text.map(|text| text.replace('\0', ""))
}

/// The total of an order after `event`; `None` when no later text will need it.
pub fn total_after(total: Option<Amount>, event: &Event) -> Option<Amount> {
    match event {
        Event::OrderCreated(fact) => Some(Amount {
            currency: fact.currency,
            minor: fact.total_minor,
        }),
        Event::OrderUpdated(fact) => Some(Amount {
            currency: fact.currency,
            minor: fact.total_minor,
        }),
        Event::OrderStatusChanged(fact) => match fact.status {
            OrderStep::InProgress => total,
            OrderStep::Completed => None,
        },
        Event::OrderCancelled(_) => None,
        Event::UserRegistered(_)
        | Event::UserProfileUpdated(_)
        | Event::UserPasswordChanged(_)
        | Event::UserEmailChanged(_)
        | Event::UserRoleChanged(_)
        | Event::UserErased(_)
        | Event::UserEmailClaimed(_)
        | Event::UserEmailReleased(_) => total,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use events::EventType;

    use super::*;
    use crate::samples::{self, AT, EVENT, ORDER, USER};

    fn euros(minor: i64) -> Amount {
        Amount {
            currency: "EUR".parse().unwrap(),
            minor,
        }
    }

    /// Channel and occasion of every reaction, in order.
    fn reactions(event: &Event) -> Vec<(Channel, Occasion)> {
        let notifications = react(EVENT, event, Some(euros(999)));
        for notification in &notifications {
            assert_eq!(
                (notification.event_id, notification.recipient),
                (EVENT, USER)
            );
        }
        notifications
            .into_iter()
            .map(|each| (each.channel, each.occasion))
            .collect()
    }

    fn both(occasion: &Occasion) -> Vec<(Channel, Occasion)> {
        Channel::ALL
            .iter()
            .map(|channel| (*channel, occasion.clone()))
            .collect()
    }

    #[test]
    fn every_event_calls_for_exactly_these_notifications() {
        let order = |minor, lines, reason: Option<&str>| OrderNotice {
            order_id: ORDER,
            total: Some(euros(minor)),
            lines,
            at: Some(AT),
            reason: reason.map(str::to_owned),
        };
        let table = [
            (
                samples::user_registered(),
                vec![(Channel::Email, Occasion::Welcome)],
            ),
            (samples::user_profile_updated(), vec![]),
            (samples::user_password_changed(), vec![]),
            (samples::user_email_changed(), vec![]),
            (samples::user_role_changed(), vec![]),
            (samples::user_erased(), vec![]),
            (samples::user_email_claimed(), vec![]),
            (samples::user_email_released(), vec![]),
            (
                samples::order_created(1250),
                both(&Occasion::OrderCreated(order(1250, Some(1), None))),
            ),
            (samples::order_updated(1300), vec![]),
            (samples::order_in_progress(), vec![]),
            (
                samples::order_completed(),
                both(&Occasion::OrderCompleted(order(999, None, None))),
            ),
            (
                samples::order_cancelled(),
                both(&Occasion::OrderCancelled(order(
                    999,
                    None,
                    Some("changed my mind"),
                ))),
            ),
        ];
        let seen: BTreeSet<EventType> = table.iter().map(|(event, _)| event.event_type()).collect();
        assert_eq!(
            seen.len(),
            EventType::ALL.len(),
            "an event type has no row in this table"
        );
        for (event, expected) in table {
            assert_eq!(reactions(&event), expected, "{:?}", event.event_type());
        }
    }

    #[test]
    fn an_orders_total_is_followed_until_its_last_text() {
        let steps = [
            (samples::order_created(1250), Some(1250)),
            (samples::order_updated(1300), Some(1300)),
            (samples::order_in_progress(), Some(1300)),
            (samples::order_completed(), None),
        ];
        let mut total = None;
        for (event, expected) in steps {
            total = total_after(total, &event);
            assert_eq!(
                total.map(|amount| amount.minor),
                expected,
                "{:?}",
                event.event_type()
            );
        }
        assert_eq!(
            total_after(Some(euros(1)), &samples::order_cancelled()),
            None
        );
    }

    #[test]
    fn a_completed_order_whose_total_is_not_known_is_announced_all_the_same() {
        let notifications = react(EVENT, &samples::order_completed(), None);
        assert_eq!(notifications.len(), 2);
        assert_eq!(notifications[0].occasion.order().unwrap().total, None);
    }

    /// Rows written by an older notifier must be readable by a newer one.
    #[test]
    fn stored_occasions_stay_readable() {
        let order = OrderNotice {
            order_id: ORDER,
            total: Some(euros(1250)),
            lines: None,
            at: None,
            reason: Some("late".into()),
        };
        let id = ORDER.to_string();
        let stored = [
            (Occasion::Welcome, r#"{"occasion":"welcome"}"#.to_owned()),
            (
                Occasion::OrderCreated(order.clone()),
                format!(
                    r#"{{"occasion":"order_created","order_id":"{id}","total":{{"currency":"EUR","minor":1250}},"reason":"late"}}"#
                ),
            ),
            (
                Occasion::OrderCreated(OrderNotice {
                    lines: Some(3),
                    at: Some(AT),
                    ..order.clone()
                }),
                format!(
                    r#"{{"occasion":"order_created","order_id":"{id}","total":{{"currency":"EUR","minor":1250}},"lines":3,"at":1763800000000000,"reason":"late"}}"#
                ),
            ),
            (
                Occasion::OrderCompleted(order.clone()),
                format!(
                    r#"{{"occasion":"order_completed","order_id":"{id}","total":{{"currency":"EUR","minor":1250}},"reason":"late"}}"#
                ),
            ),
            (
                Occasion::OrderCancelled(OrderNotice {
                    total: None,
                    reason: None,
                    ..order
                }),
                format!(
                    r#"{{"occasion":"order_cancelled","order_id":"{id}","total":null,"reason":null}}"#
                ),
            ),
        ];
        for (occasion, json) in stored {
            assert_eq!(serde_json::to_string(&occasion).unwrap(), json);
            assert_eq!(serde_json::from_str::<Occasion>(&json).unwrap(), occasion);
        }
    }
}
