//! What a batch of events changes: contacts, totals of orders, and new notifications. Pure: everything is
//! decided here, from what was known before; the store then writes it without choices.

use std::collections::{BTreeMap, BTreeSet};

use event_log::Recorded;
use events::{
    Event,
    ids::{OrderId, StreamId, UserId},
};

use crate::{
    contacts::{self, Contact},
    react::{self, Amount, Notification},
};

/// What the notifier knows about the streams of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// How to reach users.
    pub contacts: BTreeMap<UserId, Contact>,
    /// The totals of orders.
    pub totals: BTreeMap<OrderId, Amount>,
}

/// The users and the orders that events are about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    /// Users.
    pub users: BTreeSet<UserId>,
    /// Orders.
    pub orders: BTreeSet<OrderId>,
}

impl Touched {
    /// The users and the orders that `records` are about.
    pub fn by(records: &[Recorded]) -> Self {
        let mut touched = Self::default();
        for record in records {
            match record.envelope.event.stream_id() {
                StreamId::User(id) => drop(touched.users.insert(id)),
                StreamId::Order(id) => drop(touched.orders.insert(id)),
                StreamId::Email(_) => {}
            }
        }
        touched
    }
}

/// Applies `records` to what was known about their streams, and collects the notifications they call for.
pub fn fold(mut known: Known, records: &[Recorded]) -> (Known, Vec<Notification>) {
    let mut notifications = Vec::new();
    for record in records {
        let event: &Event = &record.envelope.event;
        let mut total_before = None;
        match event.stream_id() {
            StreamId::User(id) => {
                let before = known.contacts.remove(&id);
                known
                    .contacts
                    .extend(contacts::evolve(before, event).map(|after| (id, after)));
            }
            StreamId::Order(id) => {
                total_before = known.totals.remove(&id);
                known
                    .totals
                    .extend(react::total_after(total_before, event).map(|after| (id, after)));
            }
            StreamId::Email(_) => {}
        }
        notifications.extend(react::react(
            record.envelope.metadata.event_id,
            event,
            total_before,
        ));
    }
    (known, notifications)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        react::Channel,
        samples::{self, ORDER, USER, recorded},
    };

    #[test]
    fn a_batch_is_folded_in_order() {
        let records = [
            recorded(1, samples::user_registered()),
            recorded(2, samples::user_email_claimed()),
            recorded(3, samples::order_created(1250)),
            recorded(4, samples::order_updated(1300)),
            recorded(5, samples::order_completed()),
            recorded(6, samples::user_erased()),
        ];
        let touched = Touched::by(&records);
        assert_eq!(
            (touched.users, touched.orders),
            ([USER].into(), [ORDER].into())
        );
        let (known, notifications) = fold(Known::default(), &records);
        assert_eq!(known.contacts, [(USER, Contact::Erased)].into());
        assert!(
            known.totals.is_empty(),
            "a completed order's total is not kept"
        );
        let told: Vec<_> = notifications
            .iter()
            .map(|each| {
                (
                    each.channel,
                    each.occasion
                        .order()
                        .and_then(|order| order.total)
                        .map(|t| t.minor),
                )
            })
            .collect();
        let both = |minor| [(Channel::Email, Some(minor)), (Channel::Sms, Some(minor))];
        assert_eq!(
            told,
            [
                vec![(Channel::Email, None)],
                both(1250).to_vec(),
                both(1300).to_vec()
            ]
            .concat()
        );
    }

    #[test]
    fn two_batches_are_the_same_as_one() {
        let records = [
            recorded(1, samples::user_registered()),
            recorded(2, samples::order_created(1250)),
            recorded(3, samples::order_in_progress()),
            recorded(4, samples::order_cancelled()),
        ];
        let whole = fold(Known::default(), &records);
        for cut in 0..=records.len() {
            let (first, second) = records.split_at(cut);
            let (known, mut notifications) = fold(Known::default(), first);
            let (known, more) = fold(known, second);
            notifications.extend(more);
            assert_eq!((known, notifications), whole, "cut at {cut}");
        }
    }
}
