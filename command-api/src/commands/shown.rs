//! What became of a command that was carried out, ready to be shown: the new state, its version, and how far a read
//! model must be to show the same.

use domain::{
    order::{self, Status},
    user,
};
use events::{StreamVersion, ids::UserId, sealed::DataKey};
use runtime::{
    consistency::ConsistencyToken,
    data_keys::DataKeys,
    problem::Problem,
    representation::{self, OrderStatus, StoredOrder, StoredUser, UserStatus},
};

use super::error;
use crate::shard::Answer;

/// An order after a command.
pub struct ChangedOrder {
    answer: Answer<order::State>,
    key: Option<DataKey>,
}

impl ChangedOrder {
    /// What is sealed in it is opened with `key`, which was had before anything was done; where nothing was sealed
    /// then, the key is looked up now.
    pub(super) async fn of(
        answer: Answer<order::State>,
        key: Option<DataKey>,
        keys: &DataKeys,
    ) -> Result<Self, Problem> {
        // An accepted command always leaves an order.
        let stored = stored_order(&answer).ok_or_else(Problem::not_found)?;
        let key = match key {
            None if stored.is_sealed() => keys
                .get(stored.customer_id)
                .await
                .map_err(|error| error::not_shown(&error))?,
            known => known,
        };
        Ok(Self { answer, key })
    }

    /// The order as clients get it.
    pub fn shown(&self) -> Result<representation::Order<'_>, Problem> {
        let stored = stored_order(&self.answer).ok_or_else(Problem::not_found)?;
        stored.open(self.key.as_ref()).map_err(error::of_not_shown)
    }

    /// Its version.
    pub fn version(&self) -> StreamVersion {
        self.answer.version
    }

    /// How far a read model must be to show it.
    pub fn token(&self) -> Option<ConsistencyToken> {
        self.answer.token
    }
}

/// A user after a command.
pub struct ChangedUser {
    answer: Answer<user::State>,
    key: DataKey,
}

impl ChangedUser {
    /// `key` was had before anything was done.
    pub(super) fn of(answer: Answer<user::State>, key: DataKey) -> Self {
        Self { answer, key }
    }

    /// The user as clients get him.
    pub fn shown(&self) -> Result<representation::User<'_>, Problem> {
        let user = self.answer.state.user().ok_or_else(Problem::not_found)?;
        let stored = stored_user(user, self.answer.version);
        stored.open(Some(&self.key)).map_err(error::of_not_shown)
    }

    /// The version.
    pub fn version(&self) -> StreamVersion {
        self.answer.version
    }

    /// How far a read model must be to show it.
    pub fn token(&self) -> Option<ConsistencyToken> {
        self.answer.token
    }
}

/// A change of an account that shows nothing but that it was made.
pub struct Done {
    /// The user's version after it.
    pub version: StreamVersion,
    /// How far a read model must be to know it.
    pub token: Option<ConsistencyToken>,
}

impl Done {
    pub(super) fn of(answer: &Answer<user::State>) -> Self {
        Self {
            version: answer.version,
            token: answer.token,
        }
    }
}

/// A user who was registered.
pub struct Registered {
    /// The id.
    pub id: UserId,
    /// The version.
    pub version: StreamVersion,
    /// How far a read model must be to show him.
    pub token: Option<ConsistencyToken>,
}

fn stored_order(answer: &Answer<order::State>) -> Option<StoredOrder<'_>> {
    let (order, status) = (answer.state.order()?, answer.state.status()?);
    Some(StoredOrder {
        id: order.id,
        customer_id: order.customer_id,
        status: match status {
            Status::Created => OrderStatus::Created,
            Status::InProgress => OrderStatus::InProgress,
            Status::Completed => OrderStatus::Completed,
            Status::Cancelled => OrderStatus::Cancelled,
        },
        currency: order.currency,
        lines: order.lines(),
        total_minor: order.total_minor(),
        shipping_address: order.contents.shipping_address.as_ref(),
        note: order.contents.note.as_ref(),
        attributes: order.contents.attributes.as_str(),
        version: answer.version,
        created_at: order.created_at,
        updated_at: order.updated_at,
    })
}

fn stored_user(user: &user::User, version: StreamVersion) -> StoredUser<'_> {
    StoredUser {
        id: user.id,
        email: &user.email,
        name: &user.profile.name,
        phone: user.profile.phone.as_ref(),
        locale: user.profile.locale.as_str(),
        role: user.role,
        status: UserStatus::Active,
        email_verified: false,
        preferences: user.profile.preferences,
        version,
        created_at: user.created_at,
        updated_at: user.updated_at,
    }
}
