//! The providers' stand-in, one of a test's own, over HTTP.

use std::{net::TcpListener, time::Duration};

use notifier::{
    channel::{self, Bounds, SendGrid, Twilio, twilio::Account},
    courier::Provider,
    settings::ProviderUrl,
};
use serde_json::{Value, json};

const API_KEY: &str = "SG.test";
const ACCOUNT: &str = "AC00000000000000000000000000000000";
const AUTH_TOKEN: &str = "token";
const PUBLIC_URL: &str = "http://127.0.0.1/hooks";

/// What a provider has for a call in these tests.
pub const TIMEOUT: Duration = Duration::from_millis(400);

/// A running stand-in. Its thread ends with the test process.
pub struct StandIn {
    base: String,
    http: reqwest::Client,
}

impl StandIn {
    pub fn start() -> Self {
        // Fails only when another test was first.
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let credentials = providers::Credentials {
            sendgrid_api_key: API_KEY.into(),
            twilio_account_sid: ACCOUNT.into(),
            twilio_auth_token: AUTH_TOKEN.into(),
        };
        let settings = providers::Settings {
            credentials,
            messages_count_max: providers::MESSAGES_COUNT_MAX,
        };
        std::thread::spawn(|| {
            let served = async { providers::serve(listener, settings).unwrap().await };
            actix_web::rt::System::new().block_on(served)
        });
        Self {
            base,
            http: reqwest::Client::new(),
        }
    }

    /// Orders a fault, as `POST /faults` takes it.
    pub async fn fail(&self, fault: Value) {
        let answer = self
            .http
            .post(format!("{}/faults", self.base))
            .json(&fault)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 201, "{fault}");
    }

    pub async fn recover(&self) {
        self.http
            .delete(format!("{}/faults", self.base))
            .send()
            .await
            .unwrap();
    }

    /// The messages received, newest first.
    pub async fn messages(&self) -> Vec<Value> {
        let url = format!("{}/messages?limit=10000", self.base);
        let listed: Value = self
            .http
            .get(url)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        listed["items"].as_array().unwrap().clone()
    }

    pub fn email(&self) -> Provider {
        self.email_with(API_KEY)
    }

    pub fn email_with(&self, api_key: &str) -> Provider {
        let client = channel::client(bounds()).unwrap();
        Provider::SendGrid(SendGrid::new(
            client,
            bounds(),
            &url(&self.base),
            api_key.into(),
            "shop@example.com".into(),
        ))
    }

    pub fn sms(&self) -> Provider {
        let client = channel::client(bounds()).unwrap();
        let account = Account {
            sid: ACCOUNT.into(),
            auth_token: AUTH_TOKEN.into(),
        };
        let from = "+15005550006".to_owned();
        Provider::Twilio(Twilio::new(
            client,
            bounds(),
            &url(&self.base),
            account,
            from,
            &url(PUBLIC_URL),
        ))
    }
}

/// SendGrid where nobody listens.
pub fn nobody() -> Provider {
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let client = channel::client(bounds()).unwrap();
    let base = url(&format!("http://{free}"));
    Provider::SendGrid(SendGrid::new(
        client,
        bounds(),
        &base,
        API_KEY.into(),
        "shop@example.com".into(),
    ))
}

/// A fault of SendGrid's that meets `times` requests.
pub fn sendgrid(kind: &str, times: u32) -> Value {
    json!({ "provider": "sendgrid", "kind": kind, "times": times })
}

/// A fault of SendGrid's that answers with a status.
pub fn sendgrid_status(status: u16, times: u32) -> Value {
    json!({ "provider": "sendgrid", "kind": "status", "status": status, "times": times })
}

fn bounds() -> Bounds {
    Bounds {
        timeout: TIMEOUT,
        answer_bytes_max: 1024 * 1024,
    }
}

fn url(text: &str) -> ProviderUrl {
    text.parse().unwrap()
}
