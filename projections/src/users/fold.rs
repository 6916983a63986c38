//! What a user is to queries, folded from the user's events. Pure.

use events::{
    StreamVersion, UserEvent,
    ids::{StreamId, UserId},
    sealed::Sealed,
    timestamp::Timestamp,
    user::{NotificationPreferences, Role, UserRegistered},
};
use runtime::representation::UserStatus;

use crate::{
    digest::{Digest, Hasher},
    fold::{Digested, Misfit, State},
};

/// A user; personal data as `S`: sealed in the read model, hashed where the model is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User<S = Sealed> {
    /// Who.
    pub id: UserId,
    /// E-mail address; none once erased.
    pub email: Option<S>,
    /// Name; none once erased.
    pub name: Option<S>,
    /// Phone number, where there is one.
    pub phone: Option<S>,
    /// BCP 47.
    pub locale: String,
    /// What the user may do.
    pub role: Role,
    /// Whether there still is one.
    pub status: UserStatus,
    /// Whether the address was confirmed from the address.
    pub email_verified: bool,
    /// Which notifications the user wants.
    pub preferences: NotificationPreferences,
    /// Version of the stream.
    pub version: StreamVersion,
    /// When the user registered.
    pub created_at: Timestamp,
    /// When anything last happened to the user.
    pub updated_at: Timestamp,
}

/// Every status of a user.
pub const STATUSES: [UserStatus; 2] = [UserStatus::Active, UserStatus::Erased];

/// The text of a status in rows.
pub const fn status_name(status: UserStatus) -> &'static str {
    match status {
        UserStatus::Active => "active",
        UserStatus::Erased => "erased",
    }
}

/// The text of a role in rows.
pub const fn role_name(role: Role) -> &'static str {
    match role {
        Role::User => "user",
        Role::Admin => "admin",
    }
}

impl<S: From<Sealed> + Clone + Send + Sync + 'static> State for User<S> {
    type Event = UserEvent;

    fn stream_of(event: &UserEvent) -> StreamId {
        event.stream_id()
    }

    fn stream(&self) -> StreamId {
        self.id.into()
    }

    fn version(&self) -> StreamVersion {
        self.version
    }

    fn evolve(
        state: Option<Self>,
        version: StreamVersion,
        event: &UserEvent,
    ) -> Result<Self, Misfit> {
        let at = event.occurred_at();
        at.to_utc()
            .map_err(|error| Misfit(format!("occurred_at: {error}")))?;
        let mut user = match (state, event) {
            (Some(user), _) => user,
            (None, UserEvent::Registered(fact)) => return Ok(register(version, fact)),
            (None, other) => return Err(Misfit::not_begun(other.event_type().name())),
        };
        match event {
            UserEvent::Registered(_) => {
                return Err(Misfit::begun_already(event.event_type().name()));
            }
            UserEvent::ProfileUpdated(fact) => {
                user.name = Some(fact.name.clone().into());
                user.phone = fact.phone.clone().map(S::from);
                user.locale.clone_from(&fact.locale);
                user.preferences = fact.preferences;
            }
            // A credential is no one's to read: only the version tells.
            UserEvent::PasswordChanged(_) => {}
            UserEvent::EmailChanged(fact) => {
                user.email = Some(fact.email.clone().into());
                user.email_verified = true;
            }
            UserEvent::RoleChanged(fact) => user.role = fact.role,
            UserEvent::Erased(_) => {
                (user.email, user.name, user.phone) = (None, None, None);
                user.email_verified = false;
                user.status = UserStatus::Erased;
            }
        }
        Ok(Self {
            version,
            updated_at: at,
            ..user
        })
    }
}

fn register<S: From<Sealed>>(version: StreamVersion, fact: &UserRegistered) -> User<S> {
    User {
        id: fact.user_id,
        email: Some(fact.email.clone().into()),
        name: Some(fact.name.clone().into()),
        phone: fact.phone.clone().map(S::from),
        locale: fact.locale.clone(),
        role: fact.role,
        status: UserStatus::Active,
        email_verified: false,
        preferences: NotificationPreferences::default(),
        version,
        created_at: fact.occurred_at,
        updated_at: fact.occurred_at,
    }
}

impl User {
    /// The same user with hashes for the personal data.
    pub fn digested(self) -> User<Digest> {
        User {
            id: self.id,
            email: self.email.map(Digest::from),
            name: self.name.map(Digest::from),
            phone: self.phone.map(Digest::from),
            locale: self.locale,
            role: self.role,
            status: self.status,
            email_verified: self.email_verified,
            preferences: self.preferences,
            version: self.version,
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }
}

impl Digested for User<Digest> {
    fn digest(&self) -> Digest {
        Hasher::default()
            .bytes(self.id.0.as_bytes())
            .optional(self.email)
            .optional(self.name)
            .optional(self.phone)
            .bytes(&self.locale)
            .bytes(role_name(self.role))
            .bytes(status_name(self.status))
            .bytes([
                self.email_verified.into(),
                self.preferences.order_emails.into(),
                self.preferences.order_sms.into(),
            ])
            .number(self.version as i64)
            .number(self.created_at.micros())
            .number(self.updated_at.micros())
            .finish()
    }

    fn differing_fields(&self, other: &Self) -> Vec<&'static str> {
        [
            ("email", self.email != other.email),
            ("name", self.name != other.name),
            ("phone", self.phone != other.phone),
            ("locale", self.locale != other.locale),
            ("role", self.role != other.role),
            ("status", self.status != other.status),
            (
                "email_verified",
                self.email_verified != other.email_verified,
            ),
            ("preferences", self.preferences != other.preferences),
            ("version", self.version != other.version),
            ("created_at", self.created_at != other.created_at),
            ("updated_at", self.updated_at != other.updated_at),
        ]
        .into_iter()
        .filter_map(|(field, differs)| differs.then_some(field))
        .collect()
    }
}
