//! What commands are answered with: the new state, its version, and how far a read model must be to show it.

use actix_web::{
    HttpResponse, HttpResponseBuilder,
    http::{
        StatusCode,
        header::{ETAG, LOCATION},
    },
};
use domain::{
    order::{self, Status},
    user,
};
use events::{StreamVersion, sealed::DataKey};
use runtime::{
    consistency::{CONSISTENCY_TOKEN, ConsistencyToken},
    data_keys::DataKeys,
    etag,
    problem::Problem,
    representation::{OrderStatus, StoredOrder, StoredUser, UserStatus},
};

use super::error;
use crate::shard::Answer;

/// Answers with an order. What is sealed in it is opened with `key`, which was had before anything was done; where
/// nothing was sealed then, the key is looked up now.
pub async fn order(
    status: StatusCode,
    answer: &Answer<order::State>,
    key: Option<DataKey>,
    keys: &DataKeys,
) -> Result<HttpResponse, Problem> {
    // An accepted command always leaves an order.
    let stored = stored_order(&answer.state, answer.version).ok_or_else(Problem::not_found)?;
    let key = match key {
        None if stored.is_sealed() => keys
            .get(stored.customer_id)
            .await
            .map_err(|error| error::not_shown(&error))?,
        known => known,
    };
    let shown = stored.open(key.as_ref()).map_err(error::of_not_shown)?;
    let mut response = head(status, answer.version, answer.token);
    if status == StatusCode::CREATED {
        response.insert_header((LOCATION, format!("/orders/{}", shown.id)));
    }
    Ok(response.json(shown))
}

/// Answers with a user, whose `key` was had before anything was done.
pub fn user(
    status: StatusCode,
    answer: &Answer<user::State>,
    key: &DataKey,
) -> Result<HttpResponse, Problem> {
    let user = answer.state.user().ok_or_else(Problem::not_found)?;
    let shown = stored_user(user, answer.version)
        .open(Some(key))
        .map_err(error::of_not_shown)?;
    Ok(head(status, answer.version, answer.token).json(shown))
}

/// The head of an answer to a command.
pub fn head(
    status: StatusCode,
    version: StreamVersion,
    token: Option<ConsistencyToken>,
) -> HttpResponseBuilder {
    let mut response = HttpResponseBuilder::new(status);
    response.insert_header((ETAG, etag::of_version(version)));
    if let Some(token) = token {
        response.insert_header((CONSISTENCY_TOKEN, token.to_string()));
    }
    response
}

fn stored_order(state: &order::State, version: StreamVersion) -> Option<StoredOrder<'_>> {
    let (order, status) = (state.order()?, state.status()?);
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
        version,
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
