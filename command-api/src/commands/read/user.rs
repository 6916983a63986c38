//! Bodies about users and sessions.

use domain::values::{EmailAddress, Locale, Password, PersonName, Phone};
use events::user::Role;
use runtime::{
    json::{self, Change, Fields, Json},
    problem::Problem,
};
use zeroize::Zeroizing;

use super::{parsed, trimmed};

/// A body of `POST /register`.
#[derive(Debug)]
pub struct Registration {
    /// The address.
    pub email: EmailAddress,
    /// The password.
    pub password: Password,
    /// What the user is called.
    pub name: PersonName,
    /// Where SMS go.
    pub phone: Option<Phone>,
    /// The language to write to the user in.
    pub locale: Locale,
}

/// A body of `POST /login`. Any texts: what cannot be an address or a password is just not right.
pub struct Credentials {
    /// The address, if it can be one.
    pub email: Option<EmailAddress>,
    /// The password.
    pub password: Zeroizing<String>,
}

/// A body of `PUT /users/{id}/password`.
pub struct PasswordChange {
    /// What is said to be the password now: any text.
    pub current_password: Zeroizing<String>,
    /// The password from now on.
    pub new_password: Password,
}

/// A body of `PATCH /users/{id}`; `None` stays as it is.
#[derive(Debug, Default)]
pub struct Profile {
    /// The new name.
    pub name: Option<PersonName>,
    /// The new phone number; `Some(None)` removes it.
    pub phone: Option<Option<Phone>>,
    /// The new language.
    pub locale: Option<Locale>,
    /// Whether e-mails about orders are wanted.
    pub order_emails: Option<bool>,
    /// Whether SMS about orders are wanted.
    pub order_sms: Option<bool>,
}

/// Reads a body of `POST /register`.
pub fn registration(body: Json<'_>) -> Result<Registration, Problem> {
    json::check(|place| {
        let mut fields = Fields::of(body, place)?;
        let email = fields.required("email", parsed(EmailAddress::parse));
        let password = fields.required("password", parsed(Password::parse));
        let name = fields.required("name", parsed(PersonName::parse));
        let phone = fields.optional("phone", parsed(Phone::parse));
        let locale = fields.optional("locale", parsed(Locale::parse));
        fields.refuse_others();
        Some(Registration {
            email: email?,
            password: password?,
            name: name?,
            phone: phone?,
            locale: locale?.unwrap_or_default(),
        })
    })
}

/// Reads a body of `POST /login`.
pub fn credentials(body: Json<'_>) -> Result<Credentials, Problem> {
    json::check(|place| {
        let mut fields = Fields::of(body, place)?;
        let email = fields.required("email", json::text);
        let password = fields.required("password", json::text);
        fields.refuse_others();
        Some(Credentials {
            email: EmailAddress::parse(&email?).ok(),
            password: Zeroizing::new(password?.into_owned()),
        })
    })
}

/// Reads a body of `POST /token/refresh` or `POST /logout`.
pub fn refresh_token(body: Json<'_>) -> Result<Zeroizing<String>, Problem> {
    json::check(|place| {
        let mut fields = Fields::of(body, place)?;
        let token = fields.required("refresh_token", json::text);
        fields.refuse_others();
        Some(Zeroizing::new(token?.into_owned()))
    })
}

/// Reads a body of `PUT /users/{id}/password`.
pub fn password_change(body: Json<'_>) -> Result<PasswordChange, Problem> {
    json::check(|place| {
        let mut fields = Fields::of(body, place)?;
        let current = fields.required("current_password", json::text);
        let new = fields.required("new_password", parsed(Password::parse));
        fields.refuse_others();
        Some(PasswordChange {
            current_password: Zeroizing::new(current?.into_owned()),
            new_password: new?,
        })
    })
}

/// Reads a body of `PUT /users/{id}/role`.
pub fn new_role(body: Json<'_>) -> Result<Role, Problem> {
    json::check(|place| {
        let mut fields = Fields::of(body, place)?;
        let role = fields.required("role", |value, place| match &*trimmed(value, place)? {
            "user" => Some(Role::User),
            "admin" => Some(Role::Admin),
            _ => place.fail("not_a_role", "must be user or admin"),
        });
        fields.refuse_others();
        role
    })
}

/// Reads a body of `PATCH /users/{id}`. `null` takes back what the user said: no phone number, and the
/// language and preferences of somebody who never said anything.
pub fn profile(body: Json<'_>) -> Result<Profile, Problem> {
    json::check(|place| {
        let mut fields = Fields::of(body, place)?;
        let name = match fields.change("name", parsed(PersonName::parse)) {
            Some(Change::Remove) => place
                .member("name")
                .fail("not_removable", "can be changed but not removed"),
            Some(Change::Keep) => Some(None),
            Some(Change::Set(name)) => Some(Some(name)),
            None => None,
        };
        let phone = fields
            .change("phone", parsed(Phone::parse))
            .map(|change| match change {
                Change::Keep => None,
                Change::Remove => Some(None),
                Change::Set(phone) => Some(Some(phone)),
            });
        let locale = fields
            .change("locale", parsed(Locale::parse))
            .map(|change| or_default(change, Locale::default()));
        let preferences = fields.change("preferences", |value, place| {
            let mut fields = Fields::of(value, place)?;
            let emails = fields
                .change("order_emails", json::boolean)
                .map(|change| or_default(change, true));
            let sms = fields
                .change("order_sms", json::boolean)
                .map(|change| or_default(change, true));
            fields.refuse_others();
            Some((emails?, sms?))
        });
        fields.refuse_others();
        let (order_emails, order_sms) = match preferences? {
            Change::Keep => (None, None),
            Change::Remove => (Some(true), Some(true)),
            Change::Set(preferences) => preferences,
        };
        Some(Profile {
            name: name?,
            phone: phone?,
            locale: locale?,
            order_emails,
            order_sms,
        })
    })
}

fn or_default<T>(change: Change<T>, default: T) -> Option<T> {
    match change {
        Change::Keep => None,
        Change::Remove => Some(default),
        Change::Set(value) => Some(value),
    }
}

mod schema;

pub use schema::{NewRole, RefreshToken};

#[cfg(test)]
mod tests;
