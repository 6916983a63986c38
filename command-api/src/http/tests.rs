//! What a node answers before it can serve, and where it knows no way. The rest needs the log: it is tested
//! end to end.

use std::sync::Arc;

use actix_web::{
    App,
    http::StatusCode,
    test::{TestRequest, call_service, init_service, read_body_json},
};
use runtime::auth::KeyRing;
use serde_json::Value;

use super::*;

async fn answered(request: TestRequest) -> (StatusCode, Option<String>, Value) {
    let (slot, tokens) = (
        web::Data::new(Slot::new()),
        web::Data::new(TokenVerifier::new(Arc::new(KeyRing::new(&[]).unwrap()))),
    );
    let app = init_service(App::new().configure(|config| routes(config, &slot, &tokens))).await;
    let response = call_service(&app, request.to_request()).await;
    let allow = response
        .headers()
        .get("allow")
        .map(|allow| allow.to_str().unwrap().to_owned());
    (response.status(), allow, read_body_json(response).await)
}

#[actix_web::test]
async fn before_it_can_serve_everything_is_unavailable() {
    for request in [
        TestRequest::post().uri("/register"),
        TestRequest::post().uri("/login"),
        TestRequest::post().uri("/orders"),
        TestRequest::put().uri("/orders/1"),
        TestRequest::put().uri("/orders/1/status"),
        TestRequest::post().uri("/orders/1/cancel"),
        TestRequest::patch().uri("/users/1"),
        TestRequest::get().uri("/.well-known/jwks.json"),
    ] {
        let (status, _, problem) = answered(request).await;
        assert_eq!(
            (status, &problem["type"]),
            (
                StatusCode::SERVICE_UNAVAILABLE,
                &"/problems/unavailable".into()
            )
        );
    }
}

#[actix_web::test]
async fn another_method_is_told_which_are_known() {
    for (request, allow) in [
        (TestRequest::get().uri("/orders"), "POST"),
        (TestRequest::delete().uri("/orders/1"), "PUT"),
        (TestRequest::put().uri("/users/1"), "PATCH, DELETE"),
        (TestRequest::post().uri("/users/1/password"), "PUT"),
    ] {
        let (status, found, problem) = answered(request).await;
        assert_eq!(
            (status, found.as_deref()),
            (StatusCode::METHOD_NOT_ALLOWED, Some(allow))
        );
        assert_eq!(problem["type"], "/problems/method-not-allowed");
    }
}
