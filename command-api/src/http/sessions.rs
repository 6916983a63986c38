//! Signing in and out.

use actix_web::{HttpRequest, HttpResponse, web};
use runtime::{json, problem::Problem};
use serde::Serialize;
use utoipa::ToSchema;

use super::Serving;
use crate::commands::sessions;

/// What a session is continued with.
#[derive(Serialize, ToSchema)]
pub struct Tokens<'a> {
    /// Signs requests: `Authorization: Bearer <access_token>`.
    access_token: &'a str,
    /// `Bearer`.
    token_type: &'static str,
    /// For how many seconds the access token is valid.
    expires_in: u64,
    /// Is exchanged for new tokens, once.
    refresh_token: &'a str,
}

/// `POST /login`
pub async fn login(
    request: HttpRequest,
    payload: web::Payload,
    api: Serving,
) -> Result<HttpResponse, Problem> {
    let body = json::body(&request, payload, json::JSON).await?;
    let tokens = sessions::login(&api, json::parse(&body)?).await?;
    Ok(answer(&tokens))
}

/// `POST /token/refresh`
pub async fn refresh(
    request: HttpRequest,
    payload: web::Payload,
    api: Serving,
) -> Result<HttpResponse, Problem> {
    let body = json::body(&request, payload, json::JSON).await?;
    let tokens = sessions::refresh(&api, json::parse(&body)?).await?;
    Ok(answer(&tokens))
}

/// `POST /logout`
pub async fn logout(
    request: HttpRequest,
    payload: web::Payload,
    api: Serving,
) -> Result<HttpResponse, Problem> {
    let body = json::body(&request, payload, json::JSON).await?;
    sessions::logout(&api, json::parse(&body)?).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn answer(tokens: &sessions::Tokens) -> HttpResponse {
    HttpResponse::Ok().json(Tokens {
        access_token: &tokens.access_token,
        token_type: "Bearer",
        expires_in: tokens.expires_in,
        refresh_token: tokens.refresh_token.expose(),
    })
}
