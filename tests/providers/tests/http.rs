//! The stand-in over real HTTP, as its clients meet it.

#![cfg(test)]

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use providers::{Credentials, Settings};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

const KEY: &str = "SG.key";
const MAILGUN_KEY: &str = "mailgun-key";
const MAILGUN_DOMAIN: &str = "mg.example.com";
const SID: &str = "AC0123456789abcdef0123456789abcdef";
const TOKEN: &str = "token";

struct Providers {
    address: SocketAddr,
    client: Client,
}

/// Starts the stand-in on a free port.
fn start(messages_count_max: usize) -> Providers {
    // Another test of this process may have installed it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let credentials = Credentials {
        sendgrid_api_key: KEY.to_owned(),
        mailgun_api_key: MAILGUN_KEY.to_owned(),
        mailgun_domain: MAILGUN_DOMAIN.to_owned(),
        smtp_username: String::new(),
        smtp_password: String::new(),
        twilio_account_sid: SID.to_owned(),
        twilio_auth_token: TOKEN.to_owned(),
    };
    let server = providers::serve(
        listener,
        Settings {
            credentials,
            messages_count_max,
            smtp: Vec::new(),
        },
    )
    .unwrap();
    actix_web::rt::spawn(server);
    let client = Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    Providers { address, client }
}

impl Providers {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn mail(&self, to: &str) -> RequestBuilder {
        let body = json!({
            "personalizations": [{ "to": [{ "email": to }], "custom_args": { "event_id": "e1" } }],
            "from": { "email": "shop@example.com" },
            "subject": "Welcome <b>",
            "content": [{ "type": "text/plain", "value": "hi" }, { "type": "text/html", "value": "<p>hi</p>" }],
        });
        self.client
            .post(self.url("/v3/mail/send"))
            .bearer_auth(KEY)
            .json(&body)
    }

    fn mailgun(&self, domain: &str, key: &str, fields: &[(&str, &str)]) -> RequestBuilder {
        self.client
            .post(self.url(&format!("/v3/{domain}/messages")))
            .basic_auth("api", Some(key))
            .form(fields)
    }

    fn sms(&self, to: &str) -> RequestBuilder {
        let form = [
            ("To", to),
            ("From", "+15005550006"),
            ("Body", "Your order is complete"),
            ("StatusCallback", "http://127.0.0.1:1/sms?event_id=e2"),
        ];
        self.client
            .post(self.url(&format!("/2010-04-01/Accounts/{SID}/Messages.json")))
            .basic_auth(SID, Some(TOKEN))
            .form(&form)
    }

    async fn get(&self, path: &str) -> Response {
        self.client.get(self.url(path)).send().await.unwrap()
    }

    async fn messages(&self, query: &str) -> Value {
        let answer = self.get(&format!("/messages{query}")).await;
        assert_eq!(answer.status(), StatusCode::OK);
        answer.json().await.unwrap()
    }

    async fn fault(&self, fault: Value) -> StatusCode {
        let request = self.client.post(self.url("/faults")).json(&fault);
        request.send().await.unwrap().status()
    }
}

async fn status_and_json(request: RequestBuilder) -> (StatusCode, Value) {
    let answer = request.send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

#[actix_web::test]
async fn a_mail_is_accepted_and_kept() {
    let providers = start(10);
    let answer = providers.mail("jo@example.com").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    let id = answer
        .headers()
        .get("X-Message-Id")
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    assert_eq!(answer.text().await.unwrap(), "");
    let kept = providers.messages("").await;
    assert_eq!(kept["total"], 1);
    let mut item = kept["items"][0].clone();
    assert!(item["received_at"].take().as_str().unwrap().ends_with('Z'));
    let expected = json!({
        "id": id, "provider": "sendgrid", "channel": "email", "to": "jo@example.com",
        "from": "shop@example.com", "subject": "Welcome <b>", "text": "hi", "html": "<p>hi</p>",
        "event_id": "e1", "received_at": null,
    });
    assert_eq!(item, expected);
}

#[actix_web::test]
async fn an_sms_is_created_and_kept() {
    let providers = start(10);
    let (status, created) = status_and_json(providers.sms("+447700900123")).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(created["status"], "queued");
    assert_eq!(created["account_sid"], SID);
    assert_eq!(created["num_segments"], "1");
    let kept = providers
        .messages("?channel=sms&to=%2B447700900123&event_id=e2")
        .await;
    assert_eq!(kept["total"], 1);
    assert_eq!(kept["items"][0]["id"], created["sid"]);
    assert_eq!(kept["items"][0]["text"], "Your order is complete");
    assert_eq!(providers.messages("?channel=email").await["total"], 0);
}

#[actix_web::test]
async fn sendgrid_refuses_as_sendgrid_does() {
    let providers = start(10);
    let url = providers.url("/v3/mail/send");
    let post = || providers.client.post(&url);
    let cases = [
        (
            post().json(&json!({})),
            StatusCode::UNAUTHORIZED,
            Value::Null,
        ),
        (
            post().bearer_auth("other").json(&json!({})),
            StatusCode::UNAUTHORIZED,
            Value::Null,
        ),
        (
            post().bearer_auth(KEY).body("{}"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Value::Null,
        ),
        (
            post()
                .bearer_auth(KEY)
                .header("content-type", "application/json")
                .body("{"),
            StatusCode::BAD_REQUEST,
            Value::Null,
        ),
        (
            post().bearer_auth(KEY).json(&json!({})),
            StatusCode::BAD_REQUEST,
            json!("personalizations"),
        ),
        (
            post()
                .bearer_auth(KEY)
                .body(vec![b'x'; providers::BODY_BYTES_MAX + 1]),
            StatusCode::PAYLOAD_TOO_LARGE,
            Value::Null,
        ),
        (
            providers.client.get(&url),
            StatusCode::METHOD_NOT_ALLOWED,
            Value::Null,
        ),
    ];
    for (request, expected, field) in cases {
        let (status, body) = status_and_json(request).await;
        assert_eq!(status, expected);
        let error = &body["errors"][0];
        assert!(error["message"].is_string(), "{body}");
        assert_eq!(error["field"], field, "{body}");
        assert_eq!(error["help"].is_string(), field.is_string(), "{body}");
    }
    assert_eq!(providers.messages("").await["total"], 0);
}

#[actix_web::test]
async fn twilio_refuses_as_twilio_does() {
    let providers = start(10);
    let url = providers.url(&format!("/2010-04-01/Accounts/{SID}/Messages.json"));
    let other = providers.url("/2010-04-01/Accounts/ACother/Messages.json");
    let post = |url: &str| providers.client.post(url);
    let cases = [
        (post(&url), 401, 20003),
        (post(&url).basic_auth(SID, Some("other")), 401, 20003),
        (post(&other).basic_auth(SID, Some(TOKEN)), 404, 20404),
        (post(&url).basic_auth(SID, Some(TOKEN)), 400, 21604),
        (
            post(&url)
                .basic_auth(SID, Some(TOKEN))
                .form(&[("To", "1"), ("From", "Shop")]),
            400,
            21602,
        ),
        (providers.sms("nobody"), 400, 21211),
    ];
    for (request, status, code) in cases {
        let (answered, body) = status_and_json(request).await;
        assert_eq!(
            (answered.as_u16(), &body["code"], &body["status"]),
            (status, &json!(code), &json!(status))
        );
        assert_eq!(
            body["more_info"],
            format!("https://www.twilio.com/docs/errors/{code}")
        );
        assert!(body["message"].is_string());
    }
    assert_eq!(providers.messages("").await["total"], 0);
}

#[actix_web::test]
async fn messages_are_bounded_listed_newest_first_and_deleted() {
    let providers = start(2);
    for to in ["a@x.example", "b@x.example", "c@x.example"] {
        providers.mail(to).send().await.unwrap();
    }
    let kept = providers.messages("?limit=1").await;
    assert_eq!(
        (&kept["total"], &kept["items"][0]["to"]),
        (&json!(2), &json!("c@x.example"))
    );
    assert_eq!(kept["items"].as_array().unwrap().len(), 1);
    assert_eq!(
        providers.get("/messages?chanel=sms").await.status(),
        StatusCode::BAD_REQUEST
    );
    let deleted = providers
        .client
        .delete(providers.url("/messages"))
        .send()
        .await
        .unwrap();
    assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
    assert_eq!(providers.messages("").await["total"], 0);
}

#[actix_web::test]
async fn a_status_fault_meets_as_many_requests_as_told() {
    let providers = start(10);
    let fault = json!({ "provider": "sendgrid", "kind": "status", "status": 429, "retry_after": 7, "times": 1 });
    assert_eq!(providers.fault(fault).await, StatusCode::CREATED);
    let refused = providers.mail("jo@example.com").send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers().get("Retry-After").unwrap(), "7");
    let body: Value = refused.json().await.unwrap();
    assert!(body["errors"][0]["message"].is_string());
    assert_eq!(providers.messages("").await["total"], 0);
    assert_eq!(
        providers
            .mail("jo@example.com")
            .send()
            .await
            .unwrap()
            .status(),
        StatusCode::ACCEPTED
    );
    let faults: Value = providers.get("/faults").await.json().await.unwrap();
    assert_eq!(faults["items"][0]["met"], 1);
}

#[actix_web::test]
async fn a_reset_gives_no_answer_and_keeps_nothing() {
    let providers = start(10);
    let fault = json!({ "provider": "twilio", "kind": "reset", "times": 1 });
    assert_eq!(providers.fault(fault).await, StatusCode::CREATED);
    assert!(providers.sms("+447700900123").send().await.is_err());
    assert_eq!(providers.messages("").await["total"], 0);
    assert_eq!(
        providers
            .sms("+447700900123")
            .send()
            .await
            .unwrap()
            .status(),
        StatusCode::CREATED
    );
}

#[actix_web::test]
async fn hanging_gives_no_answer_and_accept_then_hang_keeps_the_message() {
    let providers = start(10);
    for (kind, total) in [("hang", 0), ("accept_then_hang", 1)] {
        let fault =
            json!({ "provider": "sendgrid", "kind": kind, "delay_ms": 300_000, "times": 1 });
        assert_eq!(providers.fault(fault).await, StatusCode::CREATED);
        let impatient = providers
            .mail("jo@example.com")
            .timeout(Duration::from_millis(300));
        assert!(impatient.send().await.unwrap_err().is_timeout());
        assert_eq!(providers.messages("").await["total"], total, "{kind}");
    }
}

#[actix_web::test]
async fn a_hang_ends_with_a_closed_connection_and_a_slow_answer_comes_late() {
    let providers = start(10);
    let hang = json!({ "provider": "sendgrid", "kind": "hang", "delay_ms": 100, "times": 1 });
    assert_eq!(providers.fault(hang).await, StatusCode::CREATED);
    let error = providers.mail("jo@example.com").send().await.unwrap_err();
    assert!(!error.is_timeout(), "{error}");
    let slow = json!({ "provider": "sendgrid", "kind": "slow", "delay_ms": 200, "times": 1 });
    assert_eq!(providers.fault(slow).await, StatusCode::CREATED);
    let started = Instant::now();
    assert_eq!(
        providers
            .mail("jo@example.com")
            .send()
            .await
            .unwrap()
            .status(),
        StatusCode::ACCEPTED
    );
    assert!(started.elapsed() >= Duration::from_millis(200));
}

#[actix_web::test]
async fn faults_are_cleared_and_bad_orders_refused() {
    let providers = start(10);
    assert_eq!(
        providers
            .fault(json!({ "provider": "twilio", "kind": "status" }))
            .await,
        StatusCode::CREATED
    );
    assert_eq!(
        providers
            .sms("+447700900123")
            .send()
            .await
            .unwrap()
            .status(),
        StatusCode::INTERNAL_SERVER_ERROR
    );
    let cleared = providers
        .client
        .delete(providers.url("/faults"))
        .send()
        .await
        .unwrap();
    assert_eq!(cleared.status(), StatusCode::NO_CONTENT);
    assert_eq!(
        providers
            .sms("+447700900123")
            .send()
            .await
            .unwrap()
            .status(),
        StatusCode::CREATED
    );
    for bad in [
        json!({}),
        json!({ "provider": "twilio", "kind": "slow" }),
        json!({ "provider": "post", "kind": "reset" }),
    ] {
        assert_eq!(providers.fault(bad).await, StatusCode::UNPROCESSABLE_ENTITY);
    }
}

#[actix_web::test]
async fn the_page_shows_messages_escaped_and_lets_nothing_in() {
    let providers = start(10);
    providers.mail("jo@example.com").send().await.unwrap();
    providers.sms("+447700900123").send().await.unwrap();
    let page = providers.get("/").await;
    assert_eq!(page.status(), StatusCode::OK);
    let policy = page
        .headers()
        .get("Content-Security-Policy")
        .unwrap()
        .to_str()
        .unwrap();
    assert!(policy.contains("default-src 'none'"));
    let html = page.text().await.unwrap();
    assert!(
        html.contains("Welcome &lt;b&gt;") && html.contains("srcdoc=\"&lt;p&gt;hi&lt;/p&gt;\"")
    );
    assert!(html.contains("+447700900123"));
    let filtered = providers
        .get("/?to=&channel=email")
        .await
        .text()
        .await
        .unwrap();
    assert!(filtered.contains("jo@example.com") && !filtered.contains("+447700900123"));
}

#[actix_web::test]
async fn it_says_that_it_is_healthy_and_what_is_not_there() {
    let providers = start(10);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(providers.get(path).await.status(), StatusCode::OK);
    }
    let nothing = providers.get("/nothing").await;
    assert_eq!(nothing.status(), StatusCode::NOT_FOUND);
    assert_eq!(
        nothing.headers().get("Content-Type").unwrap(),
        "application/problem+json"
    );
}

const MAIL: [(&str, &str); 6] = [
    ("from", "shop@example.com"),
    ("to", "jo@example.com"),
    ("subject", "Заказ"),
    ("text", "да & нет"),
    ("html", "<p>да</p>"),
    ("v:event_id", "e3"),
];

#[actix_web::test]
async fn a_mail_is_taken_and_refused_as_mailgun_does_it() {
    let providers = start(10);
    let (status, queued) =
        status_and_json(providers.mailgun(MAILGUN_DOMAIN, MAILGUN_KEY, &MAIL)).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(queued["message"], "Queued. Thank you.");
    let kept = providers.messages("").await;
    let item = &kept["items"][0];
    for (name, expected) in [
        ("id", queued["id"].as_str().unwrap()),
        ("provider", "mailgun"),
        ("to", "jo@example.com"),
        ("subject", "Заказ"),
        ("text", "да & нет"),
        ("html", "<p>да</p>"),
        ("event_id", "e3"),
    ] {
        assert_eq!(item[name], expected, "{name}");
    }
    let other = providers.mailgun("other.example.com", MAILGUN_KEY, &MAIL);
    assert_eq!(status_and_json(other).await.0, StatusCode::NOT_FOUND);
    let (status, why) =
        status_and_json(providers.mailgun(MAILGUN_DOMAIN, MAILGUN_KEY, &MAIL[..1])).await;
    assert_eq!(
        (status, &why["message"]),
        (StatusCode::BAD_REQUEST, &json!("to parameter is missing"))
    );
    let stranger = providers
        .mailgun(MAILGUN_DOMAIN, "wrong", &MAIL)
        .send()
        .await
        .unwrap();
    assert_eq!(stranger.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(stranger.text().await.unwrap(), "Forbidden");
    assert_eq!(providers.messages("").await["total"], 1);
}
