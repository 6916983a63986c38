//! Signing in and out.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use domain::{user::User, values::EmailAddress};
use events::ids::CredentialId;
use runtime::{json, problem::Problem};
use serde::Serialize;
use uuid::Uuid;

use super::{Api, Serving, error, read};
use crate::identity::{sessions::RefreshToken, tokens::ACCESS_TOKEN_SECONDS};

#[derive(Serialize)]
struct Tokens<'a> {
    access_token: String,
    token_type: &'static str,
    expires_in: u64,
    refresh_token: &'a str,
}

/// `POST /login`. Whatever is wrong, the answer is the same and takes the same time.
pub async fn login(
    request: HttpRequest,
    payload: web::Payload,
    api: Serving,
) -> Result<HttpResponse, Problem> {
    let body = json::body(&request, payload, json::JSON).await?;
    let credentials = read::credentials(&body)?;
    let user = match &credentials.email {
        Some(email) => find_user(&api, email).await?,
        None => None,
    };
    // Somebody unknown costs as much as somebody known: a look into the table, and a comparison.
    let credential_id = user
        .as_ref()
        .map_or(CredentialId(Uuid::nil()), |user| user.credential_id);
    let stored = api
        .credentials
        .password_hash(credential_id)
        .await
        .map_err(error::of_identity)?;
    let is_right = api
        .passwords
        .is_right(&credentials.password, stored)
        .await
        .map_err(error::of_identity)?;
    let user = user
        .filter(|_| is_right)
        .ok_or_else(Problem::wrong_credentials)?;
    let refresh_token = api
        .sessions
        .begin(user.id)
        .await
        .map_err(error::of_identity)?;
    tokens(&api, &user, &refresh_token)
}

/// `POST /token/refresh`
pub async fn refresh(
    request: HttpRequest,
    payload: web::Payload,
    api: Serving,
) -> Result<HttpResponse, Problem> {
    let body = json::body(&request, payload, json::JSON).await?;
    let token = read::refresh_token(&body)?;
    // First all that can fail for other reasons: a token used for nothing would cost the user his session.
    let owner = api
        .sessions
        .owner(&token)
        .await
        .map_err(error::of_identity)?;
    let owner = owner.ok_or_else(Problem::wrong_credentials)?;
    let user = api.shards.user(owner).await.map_err(error::of_refused)?;
    let refreshed = api
        .sessions
        .refresh(&token)
        .await
        .map_err(error::of_identity)?;
    let (user, (_, next)) = user.zip(refreshed).ok_or_else(Problem::wrong_credentials)?;
    // With the role of now, not the one of the login.
    tokens(&api, &user, &next)
}

/// `POST /logout`. Also for a session that is over: what was asked for is so.
pub async fn logout(
    request: HttpRequest,
    payload: web::Payload,
    api: Serving,
) -> Result<HttpResponse, Problem> {
    let body = json::body(&request, payload, json::JSON).await?;
    let token = read::refresh_token(&body)?;
    api.sessions.end(&token).await.map_err(error::of_identity)?;
    Ok(HttpResponse::NoContent().finish())
}

/// The user of an address. Nobody's takes as many steps as somebody's.
async fn find_user(api: &Api, email: &EmailAddress) -> Result<Option<Arc<User>>, Problem> {
    let email_hash = api.email_hasher.hash(email);
    let found = api
        .shards
        .user_of(email_hash)
        .await
        .map_err(error::of_refused)?;
    if found.is_none() {
        let nobody = api.shards.new_user_id(email_hash);
        api.shards.user(nobody).await.map_err(error::of_refused)?;
    }
    Ok(found)
}

fn tokens(api: &Api, user: &User, refresh_token: &RefreshToken) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(Tokens {
        access_token: api
            .token_signer
            .sign(user.id, user.role)
            .map_err(error::of_identity)?,
        token_type: "Bearer",
        expires_in: ACCESS_TOKEN_SECONDS,
        refresh_token: refresh_token.expose(),
    }))
}
