//! Facts about users, and about the e-mail addresses they claim. One struct per `.avsc` of `schemas/users/`;
//! what each field means is documented there, for us and for downstream teams alike.
#![expect(
    missing_docs,
    reason = "fields are documented in the Avro schemas, the contract"
)]

use serde::{Deserialize, Serialize};

use crate::{
    ids::{CredentialId, EmailHash, UserId},
    sealed::Sealed,
    timestamp::Timestamp,
};

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// May do what concerns his own things.
    User,
    /// May do everything.
    Admin,
}

/// Which notifications about orders a user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NotificationPreferences {
    pub order_emails: bool,
    pub order_sms: bool,
}

impl Default for NotificationPreferences {
    /// Who has not said otherwise wants both.
    fn default() -> Self {
        Self {
            order_emails: true,
            order_sms: true,
        }
    }
}

/// A user signed up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRegistered {
    pub user_id: UserId,
    pub email: Sealed,
    pub email_hash: EmailHash,
    pub name: Sealed,
    pub phone: Option<Sealed>,
    pub locale: String,
    pub role: Role,
    pub credential_id: CredentialId,
    pub occurred_at: Timestamp,
}

/// A user's profile or preferences changed; the whole profile after the change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserProfileUpdated {
    pub user_id: UserId,
    pub name: Sealed,
    pub phone: Option<Sealed>,
    pub locale: String,
    pub preferences: NotificationPreferences,
    pub occurred_at: Timestamp,
}

/// A user has a new password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserPasswordChanged {
    pub user_id: UserId,
    pub credential_id: CredentialId,
    pub occurred_at: Timestamp,
}

/// A user's confirmed new e-mail address took effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserEmailChanged {
    pub user_id: UserId,
    pub email: Sealed,
    pub email_hash: EmailHash,
    pub occurred_at: Timestamp,
}

/// An admin changed a user's role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRoleChanged {
    pub user_id: UserId,
    pub role: Role,
    pub occurred_at: Timestamp,
}

/// A user was erased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserErased {
    pub user_id: UserId,
    pub occurred_at: Timestamp,
}

/// An e-mail address was claimed by a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserEmailClaimed {
    pub email_hash: EmailHash,
    pub user_id: UserId,
    pub occurred_at: Timestamp,
}

/// An e-mail address is free again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserEmailReleased {
    pub email_hash: EmailHash,
    pub user_id: UserId,
    pub occurred_at: Timestamp,
}
