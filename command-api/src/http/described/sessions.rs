//! Signing in and out.

use actix_web::http::StatusCode;
use runtime::{
    json::JSON,
    openapi::{Answer, Description, Tag, examples},
    problem::NOT_AUTHENTICATED,
};
use serde_json::{Value, json};

use super::body;
use crate::{
    commands::read,
    http::{KeySet, sessions::Tokens},
    identity::tokens::ACCESS_TOKEN_SECONDS,
};

/// The refresh token that the login of the examples answers, and the one that takes its place.
const REFRESH_TOKENS: [&str; 2] = [
    "kRWVpcQ5mSqXvHLuIYsJTgdyGfB1aNPeZbMo0tUw8c4",
    "3fDxE9hJkLmN2pQrStUvWxYzA5bCdEfGhIjKlMnOpQ0",
];

pub fn login() -> Description {
    let accepted = json!({"email": examples::EMAIL, "password": examples::PASSWORD});
    Description::new("login", Tag::Sessions, "Begins a session")
        .text("Whatever is wrong with address or password, the answer is the same, and as slow.")
        .body(body::<read::Credentials, _>(
            JSON,
            accepted,
            json!({"email": examples::EMAIL}),
            read::credentials,
        ))
        .answer(tokens(0))
        .problems(&[&NOT_AUTHENTICATED])
}

pub fn refresh() -> Description {
    Description::new(
        "refresh",
        Tag::Sessions,
        "Exchanges a refresh token for new tokens",
    )
    .text("A refresh token is used once; a second use ends the session.")
    .body(body::<read::RefreshToken, _>(
        JSON,
        refresh_token(0),
        json!({}),
        read::refresh_token,
    ))
    .answer(tokens(1))
    .problems(&[&NOT_AUTHENTICATED])
}

pub fn logout() -> Description {
    Description::new("logout", Tag::Sessions, "Ends a session")
        .text("Its access tokens live on for the rest of their 15 minutes. A session that is over is no mistake.")
        .body(body::<read::RefreshToken, _>(
            JSON,
            refresh_token(1),
            json!({}),
            read::refresh_token,
        ))
        .answer(Answer::empty(StatusCode::NO_CONTENT, "It has ended."))
}

pub fn jwks() -> Description {
    let example = json!({"keys": [{
        "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig",
        "kid": "bKcw2jLJp8rIBtrCeKkPqzMpJqHbN0kGGcQcVYlhTxk",
        "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
    }]});
    Description::new(
        "getKeys",
        Tag::Service,
        "Gets the keys that access tokens are checked with",
    )
    .answer(Answer::json::<KeySet>(
        StatusCode::OK,
        "A JSON Web Key Set (RFC 7517).",
        example,
    ))
}

fn refresh_token(which: usize) -> Value {
    json!({"refresh_token": REFRESH_TOKENS.get(which)})
}

fn tokens(which: usize) -> Answer {
    let access_token = format!("eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJvcmRlcmxvZyJ9.{which}");
    Answer::json::<Tokens<'_>>(
        StatusCode::OK,
        "The tokens.",
        json!({
            "access_token": access_token,
            "token_type": "Bearer",
            "expires_in": ACCESS_TOKEN_SECONDS,
            "refresh_token": REFRESH_TOKENS.get(which),
        }),
    )
}
