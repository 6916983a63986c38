//! Signing in and out.

use domain::values::EmailAddress;
use events::ids::CredentialId;
use runtime::{json::Json, problem::Problem};
use uuid::Uuid;

use super::{Api, error, read};
use crate::{
    identity::{
        sessions::{Begun, RefreshToken},
        tokens::ACCESS_TOKEN_SECONDS,
    },
    measures::MEASURES,
    shard::KnownUser,
};

/// What opens an account to whoever holds it.
pub struct Tokens {
    /// Says who sends a request.
    pub access_token: String,
    /// For how long, in seconds.
    pub expires_in: u64,
    /// Gets the next pair, once.
    pub refresh_token: RefreshToken,
}

/// Signs a user in. `body` is that of `POST /login`. Whatever is wrong, the answer is the same and takes the same time.
pub async fn login(api: &Api, body: Json<'_>) -> Result<Tokens, Problem> {
    let credentials = read::credentials(body)?;
    let user = match &credentials.email {
        Some(email) => find_user(api, email).await?,
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
    MEASURES.login(is_right);
    let user = user
        .filter(|_| is_right)
        .ok_or_else(Problem::wrong_credentials)?;
    let refresh_token = api
        .sessions
        .begin(Begun {
            user_id: user.id,
            user_version: user.version,
            credential_id: user.credential_id,
        })
        .await
        .map_err(error::of_identity)?;
    tokens(api, &user, refresh_token)
}

/// A new pair of tokens. `body` is that of `POST /token/refresh`.
pub async fn refresh(api: &Api, body: Json<'_>) -> Result<Tokens, Problem> {
    let token = read::refresh_token(body)?;
    // First all that can fail for other reasons: a token used for nothing would cost the user his session.
    let session = api
        .sessions
        .session(&token)
        .await
        .map_err(error::of_identity)?;
    let session = session.ok_or_else(Problem::wrong_credentials)?;
    let user = api.shards.user(session.user_id).await;
    // A login that was under way while the password changed began a session that nothing else ends.
    let user = user
        .map_err(error::of_refused)?
        .filter(|user| user.credential_id == session.credential_id);
    let refreshed = api
        .sessions
        .refresh(&token)
        .await
        .map_err(error::of_identity)?;
    let (user, (_, next)) = user.zip(refreshed).ok_or_else(Problem::wrong_credentials)?;
    // With the role of now, not the one of the login.
    tokens(api, &user, next)
}

/// Ends a session. `body` is that of `POST /logout`. Also for one that is over: what was asked for is so.
pub async fn logout(api: &Api, body: Json<'_>) -> Result<(), Problem> {
    let token = read::refresh_token(body)?;
    api.sessions.end(&token).await.map_err(error::of_identity)
}

/// The user of an address. Nobody's takes as many steps as somebody's.
async fn find_user(api: &Api, email: &EmailAddress) -> Result<Option<KnownUser>, Problem> {
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

fn tokens(api: &Api, user: &KnownUser, refresh_token: RefreshToken) -> Result<Tokens, Problem> {
    let access_token = api.token_signer.sign(user.id, user.role, user.version);
    Ok(Tokens {
        access_token: access_token.map_err(error::of_identity)?,
        expires_in: ACCESS_TOKEN_SECONDS,
        refresh_token,
    })
}
