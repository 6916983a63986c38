//! What commands are answered with: the new state, its version, and how far a read model must be to show it.

use actix_web::{
    HttpResponse, HttpResponseBuilder,
    http::{
        StatusCode,
        header::{ETAG, LOCATION},
    },
};
use events::StreamVersion;
use runtime::{
    consistency::{CONSISTENCY_TOKEN, ConsistencyToken},
    etag,
    problem::Problem,
};

use crate::commands::{ChangedOrder, ChangedUser};

/// Answers with an order.
pub fn order(status: StatusCode, changed: &ChangedOrder) -> Result<HttpResponse, Problem> {
    let shown = changed.shown()?;
    let mut response = head(status, changed.version(), changed.token());
    if status == StatusCode::CREATED {
        response.insert_header((LOCATION, format!("/orders/{}", shown.id)));
    }
    Ok(response.json(shown))
}

/// Answers with a user.
pub fn user(status: StatusCode, changed: &ChangedUser) -> Result<HttpResponse, Problem> {
    let shown = changed.shown()?;
    Ok(head(status, changed.version(), changed.token()).json(shown))
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
