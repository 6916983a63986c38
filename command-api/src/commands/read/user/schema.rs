//! What bodies about users and sessions look like, for the API description: the limits are those that the reader
//! keeps.

use domain::values::{EmailAddress, Locale, Password, PersonName};
use runtime::openapi::schema::{self, boolean, closed_object, or_null, text};
use utoipa::openapi::{KnownFormat, ObjectBuilder, SchemaFormat, Type};

use super::{Credentials, PasswordChange, Profile, Registration};

/// A body that holds a refresh token.
pub enum RefreshToken {}
/// A body that holds a role.
pub enum NewRole {}

described! {
    Registration as "Registration", registration, [];
    Credentials as "Credentials", credentials, [];
    RefreshToken as "RefreshToken", refresh_token, [];
    NewRole as "NewRole", new_role, [];
    PasswordChange as "PasswordChange", password_change, [];
    Profile as "ProfilePatch", profile, [];
}

fn registration() -> ObjectBuilder {
    closed_object("Somebody who registers.")
        .property("email", email("The address to write to. Sealed."))
        .required("email")
        .property("password", password("The password, any characters."))
        .required("password")
        .property("name", name())
        .required("name")
        .property("phone", or_null(phone(), Type::String))
        .property("locale", or_null(locale(), Type::String))
}

fn credentials() -> ObjectBuilder {
    let any = |description: &str| {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some(description))
    };
    closed_object("What opens an account.")
        .property("email", any("The address that was registered."))
        .required("email")
        .property(
            "password",
            any("The password.").format(Some(SchemaFormat::KnownFormat(KnownFormat::Password))),
        )
        .required("password")
}

fn refresh_token() -> ObjectBuilder {
    let token = ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some("As it was answered, to be used once."));
    closed_object("A refresh token.")
        .property("refresh_token", token)
        .required("refresh_token")
}

fn new_role() -> ObjectBuilder {
    closed_object("What a user may do from now on.")
        .property("role", schema::one_of(&["user", "admin"], "The role."))
        .required("role")
}

fn password_change() -> ObjectBuilder {
    let current = ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some("The password that opens the account now."))
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Password)));
    closed_object("What opens the account from now on.")
        .property("current_password", current)
        .required("current_password")
        .property(
            "new_password",
            password("The new password, any characters."),
        )
        .required("new_password")
}

fn profile() -> ObjectBuilder {
    let choice = |description| or_null(boolean(description), Type::Boolean);
    let preferences = closed_object("What the user wants to be told; `null` for everything.")
        .property("order_emails", choice("E-mails about orders."))
        .property("order_sms", choice("SMS about orders."));
    closed_object(
        "What changes, as a JSON merge patch (RFC 7396). `null` takes back what the user said; a name has to be.",
    )
    .property("name", name())
    .property("phone", or_null(phone(), Type::String))
    .property("locale", or_null(locale(), Type::String))
    .property("preferences", or_null(preferences, Type::Object))
}

fn email(description: &str) -> ObjectBuilder {
    let atom = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+";
    let label = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?";
    text(
        EmailAddress::CHARS_MIN,
        EmailAddress::CHARS_MAX,
        description,
    )
    .pattern(Some(format!(r"^{atom}(\.{atom})*@({label}\.)+{label}$")))
}

fn password(description: &str) -> ObjectBuilder {
    text(Password::CHARS_MIN, Password::CHARS_MAX, description)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Password)))
}

fn name() -> ObjectBuilder {
    text(
        PersonName::CHARS_MIN,
        PersonName::CHARS_MAX,
        "What the user is called. Sealed.",
    )
}

fn phone() -> ObjectBuilder {
    schema::pattern(
        r"^\+[1-9][0-9]{1,14}$",
        "Where SMS go, E.164. Sealed. Without one there are none.",
    )
}

fn locale() -> ObjectBuilder {
    text(
        Locale::CHARS_MIN,
        Locale::CHARS_MAX,
        "The language to write to the user in, a BCP 47 tag; `en` unless it is said.",
    )
    .pattern(Some("^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$"))
}
