//! Access tokens, and all that is not one.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use end_to_end::{
    alone, beside_others,
    environment::{command_url, query_url, variable},
    gateway::{OwnGateway, service_that_repeats},
    http::{Call, call, command, query},
    orders::order_request,
    people::{PASSWORD, admin, is_cut_off, log_in, registered_user, stays_good, try_refresh},
    stack::{ready, recovers, stack},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::Method;
use serde_json::{Value, json};

/// The parts of a token that was issued.
struct Issued {
    header: Value,
    claims: Value,
}

impl Issued {
    fn read(token: &str) -> Self {
        let part = |index: usize| {
            let part = token.split('.').nth(index).unwrap();
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
        };
        Self {
            header: part(0),
            claims: part(1),
        }
    }

    fn signed(&self, algorithm: Algorithm, key: &EncodingKey) -> String {
        let text = |name: &str| self.header[name].as_str().map(str::to_owned);
        let header = Header {
            typ: text("typ"),
            kid: text("kid"),
            ..Header::new(algorithm)
        };
        jsonwebtoken::encode(&header, &self.claims, key).unwrap()
    }

    fn with(&self, member: &str, value: impl Into<Value>) -> Self {
        let mut claims = self.claims.clone();
        claims[member] = value.into();
        Self {
            header: self.header.clone(),
            claims,
        }
    }

    fn with_header(&self, member: &str, value: &str) -> Self {
        let mut header = self.header.clone();
        header[member] = value.into();
        Self {
            header,
            claims: self.claims.clone(),
        }
    }

    fn unsigned(&self) -> String {
        let mut header = self.header.clone();
        header["alg"] = json!("none");
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.", part(&header), part(&self.claims))
    }
}

/// Through the gateway, and round it: the services check again themselves.
fn doors() -> [Call; 6] {
    [
        call(Method::POST, &command_url(), "/orders").json(&order_request()),
        call(Method::GET, &query_url(), "/orders"),
        command(Method::POST, "/orders").json(&order_request()),
        command(
            Method::POST,
            "/orders/0199c0de-0000-7000-8000-000000000000/cancel",
        )
        .json(&json!({})),
        query("/orders"),
        query("/users/me"),
    ]
}

async fn is_refused(why: &str, authorization: Option<&str>) {
    for door in doors() {
        let call = match authorization {
            Some(value) => door.header("authorization", value),
            None => door,
        };
        let answer = call.send().await;
        assert_eq!(answer.status, 401, "{why}: {answer:?}");
        answer.problem(401, "not-authenticated");
    }
}

#[test]
fn whoever_does_not_say_who_he_is_gets_a_401() {
    beside_others(async {
        is_refused("nothing", None).await;
        for value in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer x.y.z",
            "Basic dXNlcjpwYXNz",
        ] {
            is_refused(value, Some(value)).await;
        }
    });
}

#[test]
fn forged_and_expired_tokens_are_refused_and_say_nothing_more() {
    beside_others(async {
        let user = registered_user().await;
        let issued = Issued::read(&user.token);
        let signing = std::fs::read(variable("TOKEN_SIGNING_KEY_FILE")).unwrap();
        let public = std::fs::read(variable("TOKEN_PUBLIC_KEY_FILE")).unwrap();
        let own = EncodingKey::from_ec_pem(&signing).unwrap();
        let now = issued.claims["iat"].as_u64().unwrap();

        // The forger's tools work: a token made the same way with nothing wrong is accepted.
        let good = issued.signed(Algorithm::ES256, &own);
        query("/orders").token(&good).send().await.is(200);

        let tampered = {
            let mut parts: Vec<String> = user.token.split('.').map(str::to_owned).collect();
            parts[1] = URL_SAFE_NO_PAD.encode(issued.with("role", "admin").claims.to_string());
            parts.join(".")
        };
        let es256 = |token: &Issued| token.signed(Algorithm::ES256, &own);
        // The gateway alone, before a service that would let everybody in.
        let anything = service_that_repeats();
        let gateway = OwnGateway::start(&[("PROJECTIONS_ADDRESS", &anything)]).await;
        let at_gateway = |token: &str| call(Method::GET, &gateway.url, "/orders").token(token);
        at_gateway(&good).send().await.is(200);
        for (why, token) in [
            ("alg none", issued.unsigned()),
            (
                "HS256 with the public key",
                issued.signed(Algorithm::HS256, &EncodingKey::from_secret(&public)),
            ),
            ("another role under the old signature", tampered),
            ("expired", es256(&issued.with("exp", now - 3_600))),
            ("not valid yet", es256(&issued.with("nbf", now + 3_600))),
            (
                "for another audience",
                es256(&issued.with("aud", "elsewhere")),
            ),
            (
                "from another issuer",
                es256(&issued.with("iss", "elsewhere")),
            ),
            ("an unknown role", es256(&issued.with("role", "root"))),
            ("another type", es256(&issued.with_header("typ", "JWT"))),
            ("an unknown key", es256(&issued.with_header("kid", "mine"))),
        ] {
            is_refused(why, Some(&format!("Bearer {token}"))).await;
            // Type and role are the services' to check.
            if !matches!(why, "an unknown role" | "another type") {
                let answer = at_gateway(&token).send().await;
                assert_eq!(answer.status, 401, "{why}: {answer:?}");
                answer.problem(401, "not-authenticated");
            }
        }
    });
}

#[test]
fn an_answer_to_a_bad_token_does_not_repeat_it() {
    beside_others(async {
        let answer = query("/orders")
            .token("Zanzibar.Zanzibar.Zanzibar")
            .send()
            .await;
        answer.problem(401, "not-authenticated");
        assert!(!String::from_utf8_lossy(&answer.body).contains("Zanzibar"));
    });
}

async fn set_role(id: &str, role: &str) {
    let admin = admin().await;
    let call = admin.command(Method::PUT, &format!("/users/{id}/role"));
    call.json(&json!({ "role": role })).send().await.is(200);
}

async fn lists_users(token: &str) -> u16 {
    query("/users?limit=1").token(token).send().await.status
}

#[test]
fn a_changed_role_takes_effect_everywhere_within_5_s() {
    beside_others(async {
        let user = registered_user().await;
        let login = log_in(&user.email, PASSWORD).await;
        for (role, lists) in [("admin", 200), ("user", 403)] {
            let before = log_in(&user.email, PASSWORD).await;
            set_role(&user.id, role).await;
            // Who logs in now has the new role, at once and for good, however close the two are.
            let after = log_in(&user.email, PASSWORD).await.text("access_token");
            assert_eq!(lists_users(&after).await, lists);
            is_cut_off(&before.text("access_token")).await;
            stays_good(&after).await;
            try_refresh(&before.text("refresh_token"))
                .await
                .problem(401, "not-authenticated");
        }
        is_cut_off(&login.text("access_token")).await;
    });
}

#[test]
fn a_role_that_was_the_users_already_ends_nothing() {
    beside_others(async {
        let user = registered_user().await;
        let login = log_in(&user.email, PASSWORD).await;
        set_role(&user.id, "user").await;
        stays_good(&user.token).await;
        try_refresh(&login.text("refresh_token")).await.is(200);
    });
}

#[test]
fn what_is_cut_off_stays_so_while_postgres_is_away_and_orders_go_on() {
    alone(async {
        let (user, other) = (registered_user().await, registered_user().await);
        set_role(&user.id, "admin").await;
        is_cut_off(&user.token).await;
        let since = log_in(&user.email, PASSWORD).await.text("access_token");
        stack(&["stop", "postgres"]).await;
        is_cut_off(&user.token).await;
        stays_good(&since).await;
        other.creates(&order_request()).await;
        is_cut_off(&user.token).await;
        recovers("postgres", async || ready(&query_url()).await).await;
        is_cut_off(&user.token).await;
    });
}
