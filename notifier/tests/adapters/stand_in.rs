//! The providers' stand-in, one of a test's own, over HTTP.

use std::{net::TcpListener, time::Duration};

use notifier::{
    channel::{
        self, Bounds, MailProvider, Mailgun, Route, SendGrid, SmsProvider, Smtp, Twilio,
        route::RouteLimits, twilio::Account,
    },
    settings::ProviderUrl,
};
use providers::{
    certificate::Certificate,
    smtp::{Door, Start},
};
use serde_json::{Value, json};

const API_KEY: &str = "SG.test";
const MAILGUN_KEY: &str = "mailgun-key";
const MAILGUN_DOMAIN: &str = "mg.example.com";
const SMTP_USERNAME: &str = "shop@example.com";
const SMTP_PASSWORD: &str = "p/w";
const FROM: &str = "shop@example.com";
const ACCOUNT: &str = "AC00000000000000000000000000000000";
const AUTH_TOKEN: &str = "token";
const PUBLIC_URL: &str = "http://127.0.0.1/hooks";

/// What a provider has for a call in these tests.
pub const TIMEOUT: Duration = Duration::from_millis(400);

/// A running stand-in. Its thread ends with the test process.
pub struct StandIn {
    base: String,
    smtp_port: u16,
    smtps_port: u16,
    certificate_pem: String,
    http: reqwest::Client,
}

impl StandIn {
    pub fn start() -> Self {
        // Fails only when another test was first.
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        let listener = free();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let credentials = providers::Credentials {
            sendgrid_api_key: API_KEY.into(),
            mailgun_api_key: MAILGUN_KEY.into(),
            mailgun_domain: MAILGUN_DOMAIN.into(),
            smtp_username: SMTP_USERNAME.into(),
            smtp_password: SMTP_PASSWORD.into(),
            twilio_account_sid: ACCOUNT.into(),
            twilio_auth_token: AUTH_TOKEN.into(),
        };
        let certificate = Certificate::new().unwrap();
        let (smtp, smtps) = (free(), free());
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let (smtp_port, smtps_port) = (port(&smtp), port(&smtps));
        let settings = providers::Settings {
            smtp: vec![
                Door::new(smtp, Start::Plain, &certificate).unwrap(),
                Door::new(smtps, Start::Encrypted, &certificate).unwrap(),
            ],
            credentials,
            messages_count_max: providers::MESSAGES_COUNT_MAX,
        };
        std::thread::spawn(|| {
            let served = async { providers::serve(listener, settings).unwrap().await };
            actix_web::rt::System::new().block_on(served)
        });
        Self {
            base,
            smtp_port,
            smtps_port,
            certificate_pem: certificate.pem,
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

    /// How many requests each ordered fault has met.
    pub async fn met(&self) -> Vec<u64> {
        let answer = self.http.get(format!("{}/faults", self.base)).send().await;
        let listed: Value = answer.unwrap().json().await.unwrap();
        let faults = listed["items"].as_array().unwrap();
        faults
            .iter()
            .map(|fault| fault["met"].as_u64().unwrap())
            .collect()
    }

    /// E-mail through SendGrid alone.
    pub fn email(&self) -> Route {
        self.mail(&["sendgrid"])
    }

    /// E-mail through these providers, in this order.
    pub fn mail(&self, names: &[&str]) -> Route {
        mail(names.iter().map(|name| self.provider(name)).collect())
    }

    /// A provider of e-mail by its name; `smtps` is SMTP under TLS from the start, `… stranger` one that does not
    /// know us, `smtp doubted` one whose certificate we do not know.
    pub fn provider(&self, name: &str) -> MailProvider {
        let with_key = |name: &str, key: &str| {
            if name.ends_with("stranger") {
                "wrong".to_owned()
            } else {
                key.to_owned()
            }
        };
        match name {
            "sendgrid" | "sendgrid stranger" => sendgrid(&self.base, &with_key(name, API_KEY)),
            "mailgun" | "mailgun stranger" => MailProvider::Mailgun(Mailgun::new(
                channel::client(bounds()).unwrap(),
                bounds(),
                &url(&self.base),
                MAILGUN_DOMAIN,
                with_key(name, MAILGUN_KEY),
                FROM.into(),
            )),
            "smtps" => self.smtp(
                &format!(
                    "smtps://shop%40example.com:p%2Fw@127.0.0.1:{}",
                    self.smtps_port
                ),
                true,
            ),
            "smtp" => self.smtp(
                &format!(
                    "smtp://shop%40example.com:p%2Fw@127.0.0.1:{}?tls=required",
                    self.smtp_port
                ),
                true,
            ),
            "smtp stranger" => self.smtp(
                &format!(
                    "smtp://shop%40example.com:x@127.0.0.1:{}?tls=required",
                    self.smtp_port
                ),
                true,
            ),
            "smtp doubted" => self.smtp(
                &format!(
                    "smtp://shop%40example.com:p%2Fw@127.0.0.1:{}?tls=required",
                    self.smtp_port
                ),
                false,
            ),
            _ => panic!("there is no {name}"),
        }
    }

    fn smtp(&self, at: &str, is_trusted: bool) -> MailProvider {
        let ca_pem = is_trusted.then_some(self.certificate_pem.as_bytes());
        MailProvider::Smtp(Smtp::new(bounds(), at.parse().unwrap(), ca_pem, FROM).unwrap())
    }

    pub fn sms(&self) -> Route {
        let client = channel::client(bounds()).unwrap();
        let account = Account {
            sid: ACCOUNT.into(),
            auth_token: AUTH_TOKEN.into(),
        };
        let from = "+15005550006".to_owned();
        let twilio = Twilio::new(
            client,
            bounds(),
            &url(&self.base),
            account,
            from,
            &url(PUBLIC_URL),
        );
        Route::sms(vec![SmsProvider::Twilio(twilio)], LIMITS)
    }
}

const LIMITS: RouteLimits = RouteLimits {
    provider_timeout: TIMEOUT,
    retry_after_max: Duration::from_secs(60),
};

/// E-mail through these providers.
pub fn mail(providers: Vec<MailProvider>) -> Route {
    Route::mail(providers, LIMITS)
}

/// SendGrid where nobody listens.
pub fn nobody() -> MailProvider {
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let address = free().local_addr().unwrap();
    sendgrid(&format!("http://{address}"), API_KEY)
}

fn sendgrid(base: &str, key: &str) -> MailProvider {
    let client = channel::client(bounds()).unwrap();
    MailProvider::SendGrid(SendGrid::new(
        client,
        bounds(),
        &url(base),
        key.into(),
        FROM.into(),
    ))
}

/// A listener of a free port.
fn free() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// A fault that meets all requests: `kind` is a status, or the name of a kind.
pub fn fault(provider: &str, kind: &str) -> Value {
    match kind.parse::<u16>() {
        Ok(status) => json!({ "provider": provider, "kind": "status", "status": status }),
        Err(_) => json!({ "provider": provider, "kind": kind }),
    }
}

/// A fault of SendGrid's that meets `times` requests.
pub fn sendgrid_fails(kind: &str, times: u32) -> Value {
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
