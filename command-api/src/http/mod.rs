//! HTTP: a handler reads the request, asks who sends it, has it decided, and answers. What may be asked for,
//! and how it is answered, is written down in the API's contract; nothing here decides anything.

mod answer;
mod error;
mod idempotency;
mod orders;
mod read;
mod sessions;
mod users;

use std::{
    future::{Ready, ready},
    sync::{Arc, OnceLock},
};

use actix_web::{FromRequest, HttpRequest, HttpResponse, dev::Payload, http::Method, web};
use events::timestamp::Timestamp;
use runtime::{
    auth::{PublicKey, TokenVerifier},
    data_keys::DataKeys,
    etag::IfMatch,
    http::resource,
    problem::Problem,
    request_id,
};
use serde_json::json;
use time::OffsetDateTime;

use crate::{
    identity::{
        credentials::Credentials, email_hash::EmailHasher, passwords::Passwords,
        sessions::Sessions, tokens::TokenSigner,
    },
    shard::{Command, IdempotencyRequest, Request, Shards},
};

/// All that handlers need.
pub struct Api {
    /// The way to the writers.
    pub shards: Shards,
    /// What personal data is sealed with.
    pub data_keys: DataKeys,
    /// Password hashes.
    pub credentials: Credentials,
    /// Sessions.
    pub sessions: Sessions,
    /// The threads that hash passwords.
    pub passwords: Passwords,
    /// What stands for e-mail addresses in the log.
    pub email_hasher: EmailHasher,
    /// Signs access tokens.
    pub token_signer: TokenSigner,
    /// The keys that access tokens are checked with, for everyone to see.
    pub published_keys: Vec<PublicKey>,
}

/// All that handlers need, once it is there: a process listens before it can serve, and says what it waits for.
pub type Slot = OnceLock<Arc<Api>>;

/// The [`Api`] as a handler's argument; before it is there, requests are answered `unavailable`.
pub struct Serving(Arc<Api>);

impl std::ops::Deref for Serving {
    type Target = Api;
    fn deref(&self) -> &Api {
        &self.0
    }
}

impl FromRequest for Serving {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let slot = request.app_data::<web::Data<Slot>>();
        let api = slot.and_then(|slot| slot.get().cloned()).map(Self);
        ready(api.ok_or_else(error::starting))
    }
}

/// Adds every path of this service.
pub fn routes(
    config: &mut web::ServiceConfig,
    slot: &web::Data<Slot>,
    tokens: &web::Data<TokenVerifier>,
) {
    config
        .app_data(slot.clone())
        .app_data(tokens.clone())
        .service(resource(
            "/register",
            [(Method::POST, web::to(users::register))],
        ))
        .service(resource(
            "/login",
            [(Method::POST, web::to(sessions::login))],
        ))
        .service(resource(
            "/token/refresh",
            [(Method::POST, web::to(sessions::refresh))],
        ))
        .service(resource(
            "/logout",
            [(Method::POST, web::to(sessions::logout))],
        ))
        .service(resource(
            "/users/{id}",
            [(Method::PATCH, web::to(users::update_profile))],
        ))
        .service(resource(
            "/users/{id}/role",
            [(Method::PUT, web::to(users::change_role))],
        ))
        .service(resource(
            "/orders",
            [(Method::POST, web::to(orders::create))],
        ))
        .service(resource(
            "/orders/{id}",
            [(Method::PUT, web::to(orders::replace))],
        ))
        .service(resource(
            "/orders/{id}/status",
            [(Method::PUT, web::to(orders::set_status))],
        ))
        .service(resource(
            "/orders/{id}/cancel",
            [(Method::POST, web::to(orders::cancel))],
        ))
        .service(resource(
            "/.well-known/jwks.json",
            [(Method::GET, web::to(jwks))],
        ));
}

/// The public keys as a JSON Web Key Set (RFC 7517).
async fn jwks(api: Serving) -> HttpResponse {
    const CACHEABLE: (&str, &str) = ("cache-control", "public, max-age=300");
    let keys: Vec<_> = api
        .published_keys
        .iter()
        .map(|key| {
            json!({
                "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig",
                "kid": key.id, "x": key.x, "y": key.y,
            })
        })
        .collect();
    HttpResponse::Ok()
        .insert_header(CACHEABLE)
        .json(json!({ "keys": keys }))
}

/// The id in the path; one that is no id names nothing (`not-found`).
fn path_id<T: std::str::FromStr>(request: &HttpRequest) -> Result<T, Problem> {
    let id = request
        .match_info()
        .get("id")
        .and_then(|id| id.parse().ok());
    id.ok_or_else(Problem::not_found)
}

/// The time that commands carry.
fn now() -> Timestamp {
    OffsetDateTime::now_utc().into()
}

/// A command together with what the request's headers say about it, and what its `body` weighs.
fn request(
    request: &HttpRequest,
    body: &[u8],
    command: Command,
    expected: Option<IfMatch>,
    idempotency: Option<IdempotencyRequest>,
) -> Request {
    Request {
        bytes: body.len(),
        command,
        expected,
        idempotency,
        correlation_id: request_id::correlation_id(request),
        traceparent: request_id::traceparent(request.headers()).map(str::to_owned),
    }
}

#[cfg(test)]
mod tests;
