//! Queries over HTTP, answered from MongoDB. None of these orders holds sealed data, so no key is asked for.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use actix_web::{
    App,
    http::{StatusCode, header::HeaderMap},
    test::{TestRequest, call_service, init_service, read_body},
    web,
};
use events::{ids::UserId, user::Role};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use p256::{
    elliptic_curve::Generate,
    pkcs8::{EncodePrivateKey, EncodePublicKey, LineEnding},
};
use projections::{
    horizon::horizon,
    live::{self, Live},
    model::Positions,
    queries::Queries,
    store::ReadModel,
};
use runtime::{
    auth::{Claims, KeyRing, PublicKey, TOKEN_PARTY, TOKEN_TYPE, TokenVerifier},
    data_keys::{DataKeys, WrappingKey},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    samples::{cancelled, created, order, round, user},
    world::{LIVE, Orders, Users},
};

/// The query service on databases of its own.
struct Api {
    queries: web::Data<Queries>,
    verifier: web::Data<TokenVerifier>,
    signer: p256::SecretKey,
    key_id: String,
    orders: Orders,
    _users: Users,
    orders_live: Live,
    _users_live: Live,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    fn problem(&self) -> (u16, &str) {
        (
            self.status.as_u16(),
            self.body["type"].as_str().unwrap_or_default(),
        )
    }

    fn ids(&self) -> Vec<u128> {
        let items = self.body["items"].as_array().unwrap();
        items
            .iter()
            .map(|item| {
                item["id"]
                    .as_str()
                    .unwrap()
                    .parse::<Uuid>()
                    .unwrap()
                    .as_u128()
            })
            .collect()
    }
}

impl Api {
    async fn fresh() -> Self {
        let (orders, users) = (Orders::fresh().await, Users::fresh().await);
        let ((users_live, users_served), (orders_live, orders_served)) =
            (live::channel(), live::channel());
        let queries = web::Data::new(Queries {
            users: users.store.clone(),
            orders: orders.store.clone(),
            keys: DataKeys::new(users.pool.clone(), WrappingKey::new(&[9; 32])),
            users_served,
            orders_served,
            users_horizon: horizon().1,
            orders_horizon: horizon().1,
            log: Arc::default(),
            lookup: Arc::default(),
        });
        let signer = p256::SecretKey::generate();
        let pem = signer
            .public_key()
            .to_public_key_pem(LineEnding::LF)
            .unwrap();
        let key = PublicKey::from_pem(&pem).unwrap();
        let verifier = web::Data::new(TokenVerifier::new(Arc::new(
            KeyRing::new(std::slice::from_ref(&key)).unwrap(),
        )));
        orders_live.tell(LIVE, &Positions::new());
        users_live.tell(LIVE, &Positions::new());
        let key_id = key.id;
        Self {
            queries,
            verifier,
            signer,
            key_id,
            orders,
            _users: users,
            orders_live,
            _users_live: users_live,
        }
    }

    fn bearer(&self, id: UserId, role: Role) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some(TOKEN_TYPE.into());
        header.kid = Some(self.key_id.clone());
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let party = || TOKEN_PARTY.to_owned();
        let (iat, nbf, exp) = (now, now, now + 900);
        let claims = Claims {
            iss: party(),
            aud: party(),
            sub: id,
            role,
            user_version: 1,
            iat,
            nbf,
            exp,
            jti: Uuid::now_v7(),
        };
        let key = self.signer.to_pkcs8_pem(LineEnding::LF).unwrap();
        let key = EncodingKey::from_ec_pem(key.as_bytes()).unwrap();
        format!("Bearer {}", encode(&header, &claims, &key).unwrap())
    }

    async fn send(&self, request: TestRequest) -> Answer {
        let app = App::new().configure(|config| {
            config
                .app_data(self.queries.clone())
                .app_data(self.verifier.clone());
            runtime::openapi::register(config, projections::described::endpoints());
        });
        let response = call_service(&init_service(app).await, request.to_request()).await;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = serde_json::from_slice(&read_body(response).await).unwrap_or(Value::Null);
        Answer {
            status,
            headers,
            body,
        }
    }

    async fn get(&self, path: &str, caller: u128, role: Role) -> Answer {
        let bearer = self.bearer(user(caller), role);
        self.send(TestRequest::with_uri(path).insert_header(("authorization", bearer)))
            .await
    }

    async fn get_with(&self, path: &str, header: (&str, &str), wait: &str) -> Answer {
        let bearer = self.bearer(user(1), Role::User);
        let request = TestRequest::with_uri(path).insert_header(("authorization", bearer));
        self.send(
            request
                .insert_header(header)
                .insert_header(("prefer", wait)),
        )
        .await
    }

    /// Orders 1 to 10, the even ones of user 1, the odd ones of user 2; order 2 is cancelled.
    async fn with_orders() -> Self {
        let api = Self::fresh().await;
        let customer = |number: u128| user(1 + number % 2);
        let mut events: Vec<_> = (1..=10)
            .map(|n| (1, created(order(n), customer(n), n as i64)))
            .collect();
        events.push((2, cancelled(order(2), user(1), 20)));
        let applied = api
            .orders
            .store
            .apply(LIVE, &round(0, 0, events))
            .await
            .unwrap();
        api.orders_live.tell(LIVE, &applied.positions);
        api
    }
}

#[actix_web::test]
async fn an_order_is_answered_with_its_version_as_strong_tag() {
    let api = Api::with_orders().await;
    let answer = api
        .get(&format!("/orders/{}", order(2)), 1, Role::User)
        .await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers.get("etag").unwrap(), "\"2\"");
    assert_eq!(
        answer.body,
        json!({
            "id": order(2), "customer_id": user(1), "status": "cancelled", "currency": "EUR",
            "lines": [
                { "sku": "A", "name": null, "quantity": 1, "unit_price": "2.50", "amount": "2.50" },
                { "sku": "A", "name": null, "quantity": 2, "unit_price": "2.50", "amount": "5.00" },
            ],
            "total": "7.50", "shipping_address": null, "note": null, "attributes": {}, "version": 2,
            "created_at": "2025-11-22T08:26:42.000001Z", "updated_at": "2025-11-22T08:27:00.000001Z",
        })
    );
}

#[actix_web::test]
async fn unknown_and_foreign_ids_are_the_same_404() {
    let api = Api::with_orders().await;
    let foreign = api
        .get(&format!("/orders/{}", order(1)), 1, Role::User)
        .await;
    let unknown = api
        .get(&format!("/orders/{}", order(77)), 1, Role::User)
        .await;
    let nonsense = api.get("/orders/77", 1, Role::User).await;
    assert_eq!(foreign.problem(), (404, "/problems/not-found"));
    assert_eq!(
        (&foreign.body, &foreign.body),
        (&unknown.body, &nonsense.body)
    );
    assert_eq!(
        api.get(&format!("/orders/{}", order(1)), 1, Role::Admin)
            .await
            .status,
        StatusCode::OK
    );
    let somebody = api.get(&format!("/users/{}", user(2)), 1, Role::User).await;
    assert_eq!(somebody.body, foreign.body);
}

#[actix_web::test]
async fn without_a_token_nothing_is_answered() {
    let api = Api::with_orders().await;
    for path in [
        "/orders",
        "/orders/x",
        "/users",
        "/users/me",
        "/users/x",
        "/orders?limit=0",
    ] {
        let answer = api.send(TestRequest::with_uri(path)).await;
        assert_eq!(
            answer.problem(),
            (401, "/problems/not-authenticated"),
            "{path}"
        );
    }
}

#[actix_web::test]
async fn lists_show_only_ones_own_and_admins_see_all() {
    let api = Api::with_orders().await;
    assert_eq!(
        api.get("/orders", 1, Role::User).await.ids(),
        [10, 8, 6, 4, 2]
    );
    assert_eq!(
        api.get("/orders?status=cancelled", 1, Role::User)
            .await
            .ids(),
        [2]
    );
    let foreign = format!("/orders?customer_id={}", user(2));
    assert_eq!(
        api.get(&foreign, 1, Role::User).await.body,
        json!({ "items": [], "next_cursor": null })
    );
    assert_eq!(
        api.get(&foreign, 2, Role::User).await.ids(),
        [9, 7, 5, 3, 1]
    );
    assert_eq!(
        api.get(&foreign, 1, Role::Admin).await.ids(),
        [9, 7, 5, 3, 1]
    );
    assert_eq!(
        api.get("/orders", 1, Role::Admin).await.ids(),
        [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]
    );
    let users = api.get("/users", 1, Role::User).await;
    assert_eq!(users.problem(), (403, "/problems/not-allowed"));
    assert_eq!(
        api.get("/users", 1, Role::Admin).await.body,
        json!({ "items": [], "next_cursor": null })
    );
}

#[actix_web::test]
async fn a_cursor_leads_through_its_own_list_only() {
    let api = Api::with_orders().await;
    let first = api.get("/orders?limit=3", 1, Role::Admin).await;
    assert_eq!(first.ids(), [10, 9, 8]);
    let cursor = first.body["next_cursor"].as_str().unwrap();
    let second = api
        .get(&format!("/orders?limit=7&cursor={cursor}"), 1, Role::Admin)
        .await;
    assert_eq!(second.ids(), [7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(second.body["next_cursor"], Value::Null);
    for (path, caller, role) in [
        (
            format!("/orders?status=created&cursor={cursor}"),
            1,
            Role::Admin,
        ),
        (format!("/orders?cursor={cursor}"), 2, Role::User),
        (format!("/users?cursor={cursor}"), 1, Role::Admin),
        ("/orders?cursor=abc".into(), 1, Role::Admin),
        ("/orders?cursor=".into(), 1, Role::Admin),
    ] {
        let answer = api.get(&path, caller, role).await;
        assert_eq!(
            answer.problem(),
            (400, "/problems/invalid-cursor"),
            "{path}"
        );
    }
}

#[actix_web::test]
async fn wrong_parameters_are_all_said_at_once() {
    let api = Api::with_orders().await;
    let answer = api
        .get("/orders?limit=201&status=lost&customer_id=7", 1, Role::User)
        .await;
    assert_eq!(answer.problem(), (422, "/problems/invalid"));
    let pointers: Vec<_> = answer.body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| &error["pointer"])
        .collect();
    assert_eq!(pointers, ["/limit", "/status", "/customer_id"]);
    let one = format!("/orders/{}", order(2));
    for (path, pointer) in [
        (format!("{one}?as=x"), "/as"),
        (format!("{one}?fields=id,colour"), "/fields"),
        ("/orders?limit=0&page=2".to_owned(), "/page"),
        (
            "/orders?attributes.channel=web".to_owned(),
            "/attributes.channel",
        ),
        (format!("{one}/history?as_of=1"), "/as_of"),
    ] {
        let answer = api.get(&path, 1, Role::User).await;
        assert_eq!(answer.problem(), (400, "/problems/unreadable"), "{path}");
        assert_eq!(answer.body["errors"][0]["pointer"], pointer, "{path}");
    }
    let refused = api.send(TestRequest::post().uri("/users/me")).await;
    assert_eq!(refused.problem(), (405, "/problems/method-not-allowed"));
}

#[actix_web::test]
async fn a_query_with_a_token_waits_for_the_read_model() {
    let api = Api::with_orders().await;
    let path = format!("/orders/{}", order(2));
    let reached = api
        .get_with(&path, ("consistency-token", "orders-0-10"), "wait=0")
        .await;
    assert_eq!(reached.status, StatusCode::OK);
    for token in ["orders-0-12", "orders-1-0", "users-0-0"] {
        let late = api
            .get_with(&path, ("consistency-token", token), "wait=0")
            .await;
        assert_eq!(
            late.problem(),
            (503, "/problems/not-yet-consistent"),
            "{token}"
        );
        assert!(late.headers.contains_key("retry-after"));
    }
    let waiting = api.get_with(&path, ("consistency-token", "orders-0-12"), "wait=20");
    let progress = async {
        let more = round(0, 12, vec![(1, created(order(11), user(1), 30))]);
        let applied = api.orders.store.apply(LIVE, &more).await.unwrap();
        api.orders_live.tell(LIVE, &applied.positions);
    };
    let begun = Instant::now();
    let (answer, ()) = tokio::join!(waiting, progress);
    assert_eq!(answer.status, StatusCode::OK);
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "woken, not timed out"
    );
    for token in [
        "",
        "orders",
        "orders-0",
        "orders-0-x",
        "lines-0-1",
        "orders-0-1-",
    ] {
        let answer = api
            .get_with(&path, ("consistency-token", token), "wait=0")
            .await;
        assert_eq!(
            answer.problem(),
            (400, "/problems/invalid-consistency-token"),
            "{token}"
        );
    }
}

#[actix_web::test]
async fn who_is_not_projected_yet_is_told_to_come_back() {
    let api = Api::fresh().await;
    for path in ["/users/me".to_owned(), format!("/users/{}", user(1))] {
        let answer = api.get(&path, 1, Role::User).await;
        assert_eq!(
            answer.problem(),
            (503, "/problems/not-yet-consistent"),
            "{path}"
        );
    }
}
