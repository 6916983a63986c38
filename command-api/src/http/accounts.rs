//! A user's account: its password, and its end.

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use runtime::{
    auth::Caller,
    json::{self, JSON},
    problem::Problem,
};

use super::{Serving, answer, conditional, path_id};
use crate::commands::{Done, accounts};

/// `PUT /users/{id}/password`
pub async fn change_password(
    request: HttpRequest,
    payload: web::Payload,
    api: Serving,
) -> Result<HttpResponse, Problem> {
    let caller = Caller::of_request(&request)?;
    let body = json::body(&request, payload, JSON).await?;
    let context = conditional(&request, &body)?;
    let (id, body) = (path_id(&request), json::parse(&body)?);
    let done = accounts::change_password(&api, caller, context, id, body).await?;
    Ok(no_content(&done))
}

/// `DELETE /users/{id}`
pub async fn erase(request: HttpRequest, api: Serving) -> Result<HttpResponse, Problem> {
    let caller = Caller::of_request(&request)?;
    let context = conditional(&request, &[])?;
    let done = accounts::erase(&api, caller, context, path_id(&request)).await?;
    Ok(no_content(&done))
}

fn no_content(done: &Done) -> HttpResponse {
    answer::head(StatusCode::NO_CONTENT, done.version, done.token).finish()
}
