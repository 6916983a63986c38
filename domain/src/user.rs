//! Users: registered, then active until erased, which is for good.
//!
//! A user may change his own things; an admin may change anyone's profile and role, and erase, but never
//! another's password or e-mail address. Who registers himself does so with the role `user`.

use std::sync::Arc;

use events::{
    Actor, UserEvent,
    ids::{CredentialId, EmailHash, UserId},
    sealed::Sealed,
    timestamp::Timestamp,
    user::{
        NotificationPreferences, Role, UserEmailChanged, UserErased, UserPasswordChanged,
        UserProfileUpdated, UserRegistered, UserRoleChanged,
    },
};
use serde::{Deserialize, Serialize};

use crate::{
    Decider, Refusal, is_oneself, may_do_everything,
    values::{Invalid, Locale},
};

/// What may be done to a user, by whom and when.
pub type Command = crate::Command<Action>;

/// What may be done to a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Sign up. The claim of the address is a stream of its own: `email.rs`.
    Register(Registration),
    /// Change the profile or the preferences.
    UpdateProfile(ProfilePatch),
    /// Take a new password.
    ChangePassword {
        /// The row that holds the new password's hash.
        credential_id: CredentialId,
        /// The row that the old password was compared with.
        replaces: CredentialId,
    },
    /// Take a new e-mail address, already claimed and confirmed.
    ChangeEmail {
        /// The address, sealed with the user's key.
        email: Sealed,
        /// Its keyed hash.
        email_hash: EmailHash,
    },
    /// Give another role.
    ChangeRole {
        /// The role from now on.
        role: Role,
    },
    /// Erase the user.
    Erase,
}

/// Reads the name of a role.
pub fn parse_role(name: &str) -> Result<Role, Invalid> {
    match name {
        "user" => Ok(Role::User),
        "admin" => Ok(Role::Admin),
        _ => Err(Invalid::NotOneOf {
            allowed: "user, admin",
        }),
    }
}

/// All that is known about a new user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The new user.
    pub user_id: UserId,
    /// The address, sealed with the user's key.
    pub email: Sealed,
    /// Its keyed hash.
    pub email_hash: EmailHash,
    /// The name, sealed with the user's key.
    pub name: Sealed,
    /// The phone number, sealed with the user's key.
    pub phone: Option<Sealed>,
    /// The language to write to the user in.
    pub locale: Locale,
    /// What the user may do.
    pub role: Role,
    /// The row that holds the password's hash.
    pub credential_id: CredentialId,
}

/// What changes of a profile; `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfilePatch {
    /// The new name, sealed.
    pub name: Option<Sealed>,
    /// The new phone number, sealed; `Some(None)` removes it.
    pub phone: Option<Option<Sealed>>,
    /// The new language.
    pub locale: Option<Locale>,
    /// Whether e-mails about orders are wanted.
    pub order_emails: Option<bool>,
    /// Whether SMS about orders are wanted.
    pub order_sms: Option<bool>,
}

/// The phases of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// There is no such user.
    NotRegistered,
    /// A user who can sign in. Shared, so that clones are cheap.
    Active(Arc<User>),
    /// A user whose data is gone.
    Erased(ErasedUser),
}

impl State {
    /// The user, while there is one who can sign in.
    pub fn user(&self) -> Option<&User> {
        match self {
            Self::Active(user) => Some(user),
            Self::NotRegistered | Self::Erased(_) => None,
        }
    }

    fn change(self, change: impl FnOnce(&mut User)) -> Self {
        match self {
            Self::Active(mut user) => {
                change(Arc::make_mut(&mut user));
                Self::Active(user)
            }
            Self::NotRegistered => Self::NotRegistered,
            Self::Erased(erased) => Self::Erased(erased),
        }
    }
}

/// A user who can sign in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The id.
    pub id: UserId,
    /// The address, sealed with the user's key.
    pub email: Sealed,
    /// Its keyed hash.
    pub email_hash: EmailHash,
    /// The row that holds the password's hash.
    pub credential_id: CredentialId,
    /// What the user may do.
    pub role: Role,
    /// What the user can change freely.
    pub profile: Profile,
    /// When the user was registered.
    pub created_at: Timestamp,
    /// When the latest event was decided.
    pub updated_at: Timestamp,
}

/// What a user can change freely about himself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// The name, sealed with the user's key.
    pub name: Sealed,
    /// The phone number, sealed with the user's key.
    pub phone: Option<Sealed>,
    /// The language to write to the user in.
    pub locale: Locale,
    /// Which notifications are wanted.
    pub preferences: NotificationPreferences,
}

/// What remains of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasedUser {
    /// The id.
    pub id: UserId,
    /// The address that is still to be released, in case that did not happen yet.
    pub email_hash: EmailHash,
    /// When the user was erased.
    pub erased_at: Timestamp,
}

/// Why a command broke a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Rejection {
    /// The id is taken.
    #[error("this user is registered already")]
    AlreadyRegistered,
    /// There is no such user; whoever asks [`Decider::permit`] first never sees this.
    #[error("there is no such user")]
    NotRegistered,
    /// Erasure is for good.
    #[error("this user was erased")]
    Erased,
    /// The old password was right when it was looked at, and is not any more.
    #[error("the password was changed meanwhile")]
    PasswordChangedMeanwhile,
}

impl Rejection {
    /// The stable name of the broken rule.
    pub const fn rule(self) -> &'static str {
        match self {
            Self::AlreadyRegistered => "user-registered-already",
            Self::NotRegistered => "user-does-not-exist",
            Self::Erased => "user-erased",
            Self::PasswordChangedMeanwhile => "password-changed-meanwhile",
        }
    }
}

/// The streams of users.
#[derive(Debug, Clone, Copy)]
pub enum UserStream {}

impl Decider for UserStream {
    type Command = Command;
    type Event = UserEvent;
    type State = State;
    type Rejection = Rejection;

    fn initial() -> State {
        State::NotRegistered
    }

    fn permit(state: &State, command: &Command) -> Result<(), Refusal> {
        permit(state, command.actor, &command.action)
    }

    fn decide(state: &State, command: Command) -> Result<Vec<UserEvent>, Rejection> {
        let crate::Command {
            actor: _,
            at,
            action,
        } = command;
        match (state, action) {
            (State::NotRegistered, Action::Register(new)) => Ok(vec![registered(new, at)]),
            (State::Active(_), Action::Register(_)) => Err(Rejection::AlreadyRegistered),
            (
                State::NotRegistered,
                Action::UpdateProfile(_)
                | Action::ChangePassword { .. }
                | Action::ChangeEmail { .. }
                | Action::ChangeRole { .. }
                | Action::Erase,
            ) => Err(Rejection::NotRegistered),
            (State::Active(user), Action::UpdateProfile(patch)) => {
                Ok(update_profile(user, patch, at))
            }
            (
                State::Active(user),
                Action::ChangePassword {
                    credential_id,
                    replaces,
                },
            ) => change_password(user, credential_id, replaces, at),
            (State::Active(user), Action::ChangeEmail { email, email_hash }) => {
                Ok(change_email(user, email, email_hash, at))
            }
            (State::Active(user), Action::ChangeRole { role }) => Ok(change_role(user, role, at)),
            (State::Active(user), Action::Erase) => Ok(vec![UserEvent::Erased(UserErased {
                user_id: user.id,
                occurred_at: at,
            })]),
            (State::Erased(_), Action::Erase) => Ok(vec![]),
            (
                State::Erased(_),
                Action::Register(_)
                | Action::UpdateProfile(_)
                | Action::ChangePassword { .. }
                | Action::ChangeEmail { .. }
                | Action::ChangeRole { .. },
            ) => Err(Rejection::Erased),
        }
    }

    fn evolve(state: State, event: &UserEvent) -> State {
        let state = match event {
            UserEvent::Registered(fact) => State::Active(Arc::new(user(fact))),
            UserEvent::ProfileUpdated(fact) => state.change(|user| {
                user.profile = Profile {
                    name: fact.name.clone(),
                    phone: fact.phone.clone(),
                    locale: Locale::recorded(&fact.locale),
                    preferences: fact.preferences,
                };
            }),
            UserEvent::PasswordChanged(fact) => {
                state.change(|user| user.credential_id = fact.credential_id)
            }
            UserEvent::EmailChanged(fact) => state.change(|user| {
                user.email = fact.email.clone();
                user.email_hash = fact.email_hash;
            }),
            UserEvent::RoleChanged(fact) => state.change(|user| user.role = fact.role),
            UserEvent::Erased(fact) => erased(state, fact),
        };
        state.change(|user| user.updated_at = event.occurred_at())
    }
}

/// Unknown and foreign users are not found. Passwords and addresses are changed by their user alone,
/// roles by admins.
fn permit(state: &State, actor: Actor, action: &Action) -> Result<(), Refusal> {
    let everything = may_do_everything(actor);
    let subject = match (state, action) {
        (_, Action::Register(new)) => {
            let oneself = is_oneself(actor, new.user_id) && new.role == Role::User;
            return if oneself || everything {
                Ok(())
            } else {
                Err(Refusal::NotAllowed)
            };
        }
        (State::NotRegistered, _) => return Err(Refusal::NotFound),
        (State::Active(user), _) => user.id,
        (State::Erased(user), _) => user.id,
    };
    let oneself = is_oneself(actor, subject);
    if !oneself && !everything {
        return Err(Refusal::NotFound);
    }
    let may = match action {
        Action::Register(_) | Action::UpdateProfile(_) | Action::Erase => true,
        Action::ChangePassword { .. } | Action::ChangeEmail { .. } => {
            oneself || actor == Actor::System
        }
        Action::ChangeRole { .. } => everything,
    };
    if may {
        Ok(())
    } else {
        Err(Refusal::NotAllowed)
    }
}

fn registered(new: Registration, at: Timestamp) -> UserEvent {
    UserEvent::Registered(UserRegistered {
        user_id: new.user_id,
        email: new.email,
        email_hash: new.email_hash,
        name: new.name,
        phone: new.phone,
        locale: new.locale.into(),
        role: new.role,
        credential_id: new.credential_id,
        occurred_at: at,
    })
}

fn update_profile(user: &User, patch: ProfilePatch, at: Timestamp) -> Vec<UserEvent> {
    let old = &user.profile;
    let profile = Profile {
        name: patch.name.unwrap_or_else(|| old.name.clone()),
        phone: patch.phone.unwrap_or_else(|| old.phone.clone()),
        locale: patch.locale.unwrap_or_else(|| old.locale.clone()),
        preferences: NotificationPreferences {
            order_emails: patch.order_emails.unwrap_or(old.preferences.order_emails),
            order_sms: patch.order_sms.unwrap_or(old.preferences.order_sms),
        },
    };
    if profile == *old {
        return vec![];
    }
    vec![UserEvent::ProfileUpdated(UserProfileUpdated {
        user_id: user.id,
        name: profile.name,
        phone: profile.phone,
        locale: profile.locale.into(),
        preferences: profile.preferences,
        occurred_at: at,
    })]
}

fn change_password(
    user: &User,
    credential_id: CredentialId,
    replaces: CredentialId,
    at: Timestamp,
) -> Result<Vec<UserEvent>, Rejection> {
    if user.credential_id == credential_id {
        return Ok(vec![]);
    }
    if user.credential_id != replaces {
        return Err(Rejection::PasswordChangedMeanwhile);
    }
    Ok(vec![UserEvent::PasswordChanged(UserPasswordChanged {
        user_id: user.id,
        credential_id,
        occurred_at: at,
    })])
}

fn change_email(
    user: &User,
    email: Sealed,
    email_hash: EmailHash,
    at: Timestamp,
) -> Vec<UserEvent> {
    if user.email_hash == email_hash && user.email == email {
        return vec![];
    }
    vec![UserEvent::EmailChanged(UserEmailChanged {
        user_id: user.id,
        email,
        email_hash,
        occurred_at: at,
    })]
}

fn change_role(user: &User, role: Role, at: Timestamp) -> Vec<UserEvent> {
    if user.role == role {
        return vec![];
    }
    vec![UserEvent::RoleChanged(UserRoleChanged {
        user_id: user.id,
        role,
        occurred_at: at,
    })]
}

fn user(fact: &UserRegistered) -> User {
    User {
        id: fact.user_id,
        email: fact.email.clone(),
        email_hash: fact.email_hash,
        credential_id: fact.credential_id,
        role: fact.role,
        profile: Profile {
            name: fact.name.clone(),
            phone: fact.phone.clone(),
            locale: Locale::recorded(&fact.locale),
            preferences: NotificationPreferences::default(),
        },
        created_at: fact.occurred_at,
        updated_at: fact.occurred_at,
    }
}

fn erased(state: State, fact: &UserErased) -> State {
    match state {
        State::NotRegistered => State::NotRegistered,
        State::Active(user) => State::Erased(ErasedUser {
            id: user.id,
            email_hash: user.email_hash,
            erased_at: fact.occurred_at,
        }),
        State::Erased(erased) => State::Erased(erased),
    }
}

#[cfg(test)]
mod tests;
