//! Contacts: the notifier's own fold of topic `users`, just what is needed to reach somebody.
//! Personal data stays sealed; it is opened when a notification is sent.

use events::{Event, sealed::Sealed, user::NotificationPreferences};

/// What is known about how to reach a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contact {
    /// Can be reached.
    Active(Details),
    /// Was erased; nothing is kept.
    Erased,
}

/// How to reach a user, and what the user wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Details {
    /// E-mail address.
    pub email: Sealed,
    /// Name.
    pub name: Sealed,
    /// Phone number, if there is one.
    pub phone: Option<Sealed>,
    /// BCP 47 language tag that the texts shall be in.
    pub locale: String,
    /// Which notifications about orders are wanted.
    pub preferences: NotificationPreferences,
}

/// The contact after `event`, an event of the same user; `None` when nothing is known (yet).
/// Interprets, never judges: what cannot be applied changes nothing.
pub fn evolve(contact: Option<Contact>, event: &Event) -> Option<Contact> {
    match event {
        Event::UserRegistered(fact) => Some(Contact::Active(Details {
            email: fact.email.clone(),
            name: fact.name.clone(),
            phone: fact.phone.clone(),
            locale: fact.locale.replace('\0', ""),
            preferences: NotificationPreferences::default(),
        })),
        Event::UserProfileUpdated(fact) => with_details(contact, |details| Details {
            email: details.email,
            name: fact.name.clone(),
            phone: fact.phone.clone(),
            locale: fact.locale.replace('\0', ""),
            preferences: fact.preferences,
        }),
        Event::UserEmailChanged(fact) => with_details(contact, |details| Details {
            email: fact.email.clone(),
            ..details
        }),
        Event::UserErased(_) => Some(Contact::Erased),
        Event::UserPasswordChanged(_)
        | Event::UserRoleChanged(_)
        | Event::UserEmailClaimed(_)
        | Event::UserEmailReleased(_)
        | Event::OrderCreated(_)
        | Event::OrderUpdated(_)
        | Event::OrderStatusChanged(_)
        | Event::OrderCancelled(_) => contact,
    }
}

fn with_details(
    contact: Option<Contact>,
    change: impl FnOnce(Details) -> Details,
) -> Option<Contact> {
    match contact {
        Some(Contact::Active(details)) => Some(Contact::Active(change(details))),
        Some(Contact::Erased) => Some(Contact::Erased),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use events::sealed::Field;

    use super::*;
    use crate::samples;

    fn fold(events: &[Event]) -> Option<Contact> {
        events.iter().fold(None, evolve)
    }

    #[test]
    fn who_registers_can_be_reached_and_wants_everything() {
        let expected = Details {
            email: samples::sealed(Field::Email, "ada@example.com"),
            name: samples::sealed(Field::Name, "Ada"),
            phone: None,
            locale: "en".into(),
            preferences: NotificationPreferences {
                order_emails: true,
                order_sms: true,
            },
        };
        assert_eq!(
            fold(&[samples::user_registered()]),
            Some(Contact::Active(expected))
        );
    }

    #[test]
    fn changes_of_profile_and_address_are_followed() {
        let events = [
            samples::user_registered(),
            samples::user_profile_updated(),
            samples::user_email_changed(),
        ];
        let expected = Details {
            email: samples::sealed(Field::Email, "ada@example.org"),
            name: samples::sealed(Field::Name, "Ada L."),
            phone: Some(samples::sealed(Field::Phone, "+447700900123")),
            locale: "de-AT".into(),
            preferences: NotificationPreferences {
                order_emails: true,
                order_sms: false,
            },
        };
        assert_eq!(fold(&events), Some(Contact::Active(expected)));
    }

    #[test]
    fn nothing_is_left_of_the_erased() {
        let events = [
            samples::user_registered(),
            samples::user_erased(),
            samples::user_profile_updated(),
        ];
        assert_eq!(fold(&events), Some(Contact::Erased));
    }

    #[test]
    fn other_events_change_nothing() {
        let registered = fold(&[samples::user_registered()]);
        for event in [
            samples::user_password_changed(),
            samples::user_role_changed(),
            samples::order_created(1),
        ] {
            assert_eq!(
                evolve(registered.clone(), &event),
                registered,
                "{:?}",
                event.event_type()
            );
        }
        assert_eq!(fold(&[samples::user_profile_updated()]), None);
    }
}
