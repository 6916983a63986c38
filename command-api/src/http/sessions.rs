//! Signing in and out.

use actix_web::{HttpRequest, HttpResponse, web};
use runtime::{json, problem::Problem};
use serde::Serialize;

use super::Serving;
use crate::commands::sessions;

#[derive(Serialize)]
struct Tokens<'a> {
    access_token: &'a str,
    token_type: &'static str,
    expires_in: u64,
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
