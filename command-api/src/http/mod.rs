//! HTTP: a handler asks who sends a request, takes its conditions from its headers, has it carried out, and answers.
//! What may be asked for, and how it is answered, is written down in the API's contract; nothing here decides anything.

mod accounts;
mod answer;
mod idempotency;
mod orders;
mod sessions;
mod users;

use std::{
    future::{Ready, ready},
    sync::Arc,
};

use actix_web::{FromRequest, HttpRequest, HttpResponse, dev::Payload, http::Method, web};
use runtime::{auth::TokenVerifier, http::resource, problem::Problem, request_id};
use serde_json::json;

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
            [
                (Method::PATCH, web::to(users::update_profile)),
                (Method::DELETE, web::to(accounts::erase)),
            ],
        ))
        .service(resource(
            "/users/{id}/password",
            [(Method::PUT, web::to(accounts::change_password))],
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

/// The id in the path, whatever it is.
fn path_id(request: &HttpRequest) -> &str {
    request.match_info().get("id").unwrap_or_default()
}

/// What a request says besides who asks for what, without conditions.
fn context(request: &HttpRequest, body: &[u8]) -> Context {
    Context {
        expected: None,
        idempotency_key: None,
        correlation_id: request_id::correlation_id(request),
        traceparent: request_id::traceparent(request.headers()),
        bytes: body.len(),
    }
}

#[cfg(test)]
mod tests;
