//! HTTP: a handler asks who sends a request, takes its conditions from its headers, has it carried out, and answers.
//! What may be asked for, and how it is answered, is written down in the API's contract; nothing here decides anything.

mod accounts;
mod answer;
mod described;
mod docs;
mod idempotency;
mod orders;
mod sessions;
mod users;

use std::{
    future::{Ready, ready},
    sync::Arc,
};

use actix_web::{FromRequest, HttpRequest, HttpResponse, dev::Payload, web};
use runtime::{
    auth::TokenVerifier,
    etag::IfMatch,
    openapi::{self, Endpoint},
    problem::Problem,
    request_id,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::commands::{Api, Context, Slot, error};

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
    config.app_data(slot.clone()).app_data(tokens.clone());
    openapi::register(config, endpoints());
}

/// Every operation of this service, described.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::post("/register", web::to(users::register), described::register),
        Endpoint::post("/login", web::to(sessions::login), described::login),
        Endpoint::post(
            "/token/refresh",
            web::to(sessions::refresh),
            described::refresh,
        ),
        Endpoint::post("/logout", web::to(sessions::logout), described::logout),
        Endpoint::patch(
            "/users/{id}",
            web::to(users::update_profile),
            described::update_profile,
        ),
        Endpoint::delete(
            "/users/{id}",
            web::to(accounts::erase),
            described::erase_user,
        ),
        Endpoint::put(
            "/users/{id}/password",
            web::to(accounts::change_password),
            described::change_password,
        ),
        Endpoint::put(
            "/users/{id}/role",
            web::to(users::change_role),
            described::change_role,
        ),
        Endpoint::post("/orders", web::to(orders::create), described::create_order),
        Endpoint::put(
            "/orders/{id}",
            web::to(orders::replace),
            described::replace_order,
        ),
        Endpoint::put(
            "/orders/{id}/status",
            web::to(orders::set_status),
            described::set_order_status,
        ),
        Endpoint::post(
            "/orders/{id}/cancel",
            web::to(orders::cancel),
            described::cancel_order,
        ),
        Endpoint::get("/.well-known/jwks.json", web::to(jwks), described::jwks),
        Endpoint::get(
            "/openapi.json",
            web::to(docs::document),
            docs::describe_document,
        ),
        Endpoint::get("/docs", web::to(docs::page), docs::describe_page),
    ]
}

/// A JSON Web Key Set (RFC 7517).
#[derive(Serialize, ToSchema)]
pub struct KeySet {
    /// The keys.
    keys: Vec<Key>,
}

/// A public key.
#[derive(Serialize, ToSchema)]
struct Key {
    /// `EC`.
    kty: &'static str,
    /// `P-256`.
    crv: &'static str,
    /// `ES256`.
    alg: &'static str,
    /// `sig`.
    r#use: &'static str,
    /// Which key it is: its RFC 7638 thumbprint.
    kid: String,
    /// The first coordinate.
    x: String,
    /// The second coordinate.
    y: String,
}

/// `GET /.well-known/jwks.json`
async fn jwks(api: Serving) -> HttpResponse {
    const CACHEABLE: (&str, &str) = ("cache-control", "public, max-age=300");
    let keys = api.keys.published().into_iter().map(|key| Key {
        kty: "EC",
        crv: "P-256",
        alg: "ES256",
        r#use: "sig",
        kid: key.id,
        x: key.x,
        y: key.y,
    });
    HttpResponse::Ok().insert_header(CACHEABLE).json(KeySet {
        keys: keys.collect(),
    })
}

/// The id in the path, whatever it is.
fn path_id(request: &HttpRequest) -> &str {
    request.match_info().get("id").unwrap_or_default()
}

/// What a request says besides who asks for what, without conditions.
fn context(request: &HttpRequest, body: &[u8]) -> Result<Context, Problem> {
    Ok(Context {
        expected: None,
        idempotency_key: idempotency::key(request.headers())?,
        correlation_id: request_id::correlation_id(request),
        traceparent: request_id::traceparent(request.headers()),
        bytes: body.len(),
    })
}

/// The same, on the condition of its `If-Match`.
fn conditional(request: &HttpRequest, body: &[u8]) -> Result<Context, Problem> {
    Ok(Context {
        expected: IfMatch::of_request(request.headers())?,
        ..context(request, body)?
    })
}

#[cfg(test)]
mod tests;
