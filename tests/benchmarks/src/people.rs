//! The users who order, and what they send.

use std::time::Duration;

use anyhow::Context;
use events::ids::UserId;
use serde_json::json;
use uuid::Uuid;

use crate::{
    http::{Connection, request},
    load::{Template, send_all},
};

const PASSWORD: &str = "correct horse battery staple";
/// Fewer than the queue of passwords holds, so that none is turned away.
const REGISTERING_AT_ONCE: usize = 16;

/// An order of three lines, all in the clear.
pub const ORDER: &str = concat!(
    r#"{"currency":"EUR","lines":["#,
    r#"{"sku":"TEA-0001","name":"Darjeeling, first flush, 250 g","quantity":2,"unit_price":"12.50"},"#,
    r#"{"sku":"CUP-0042","name":"Cup with saucer, white","quantity":6,"unit_price":"7.95"},"#,
    r#"{"sku":"POT-0007","name":"Teapot, cast iron, 1.2 l","quantity":1,"unit_price":"49.00"}]}"#
);

/// Somebody who is logged in.
#[derive(Debug, Clone)]
pub struct Person {
    /// `authorization` header.
    authorization: String,
    /// Whose orders they are.
    pub id: UserId,
}

/// Somebody who is registered.
#[derive(Debug, Clone)]
pub struct Account {
    /// The address.
    email: String,
    /// The id.
    pub id: UserId,
}

/// Registers `count` users; returns how long it took.
pub async fn register(address: &str, count: usize) -> anyhow::Result<Duration> {
    let requests = (0..count)
        .map(|_| request("POST", "/register", &[], &registration(&unique_email())))
        .collect();
    send_all(address, REGISTERING_AT_ONCE, requests, 201).await
}

fn registration(email: &str) -> String {
    json!({"email": email, "password": PASSWORD, "name": "Ada Lovelace", "locale": "en-GB"})
        .to_string()
}

fn unique_email() -> String {
    format!("b{}@example.com", Uuid::now_v7().simple())
}

impl Account {
    /// Logs in.
    pub fn login(&self) -> Vec<u8> {
        let body = json!({"email": self.email, "password": PASSWORD}).to_string();
        request("POST", "/login", &[], &body)
    }
}

impl Person {
    /// Registers somebody who wants no mails about orders: they would load the stand-in for the providers more than
    /// anything of ours.
    pub async fn register_quiet(address: &str) -> anyhow::Result<Account> {
        let mut connection = Connection::open(address).await?;
        let email = unique_email();
        let register = request("POST", "/register", &[], &registration(&email));
        let registered = connection.exchange(&register).await?.json(201)?;
        let id = registered["id"].as_str().context("no id")?;
        let id = id.parse()?;
        let account = Account { email, id };
        let person = Self::log_in(address, &account).await?;
        let headers = [("authorization", person.authorization.as_str())];
        let body = json!({"preferences": {"order_emails": false, "order_sms": false}}).to_string();
        let change = request("PATCH", &format!("/users/{id}"), &headers, &body);
        connection.exchange(&change).await?.json(200)?;
        Ok(account)
    }

    /// Logs in. Tokens are short-lived: do it before each round.
    pub async fn log_in(address: &str, account: &Account) -> anyhow::Result<Self> {
        let mut connection = Connection::open(address).await?;
        let answer = connection.exchange(&account.login()).await?.json(200)?;
        let token = answer["access_token"].as_str().context("no token")?;
        Ok(Self {
            authorization: format!("Bearer {token}"),
            id: account.id,
        })
    }

    /// Somebody whom only a server that does nothing lets in; his token is as long as the others'.
    pub fn nobody() -> Self {
        const TOKEN_BYTES_USUAL: usize = 420;
        Self {
            authorization: format!("Bearer {}", "x".repeat(TOKEN_BYTES_USUAL)),
            id: UserId(Uuid::nil()),
        }
    }

    /// Creates an order.
    pub fn order(&self) -> Vec<u8> {
        let headers = [("authorization", self.authorization.as_str())];
        request("POST", "/orders", &headers, ORDER)
    }

    /// Creates an order again and again.
    pub fn orders(&self) -> Template {
        Template::fixed(self.order())
    }

    /// Creates an order again and again, each under a key.
    pub fn orders_with_keys(&self) -> Template {
        Template::with_key(|key| self.order_with_key(key))
    }

    /// The same, where the keys fall on `shards` of `count`.
    pub fn orders_with_keys_on(&self, shards: &[u16], count: u16) -> Template {
        self.orders_with_keys().with_keys_on(self.id, shards, count)
    }

    /// Creates an order under a key, which decides on its partition.
    pub fn order_with_key(&self, key: &str) -> Vec<u8> {
        let key = format!("\"{key}\"");
        let headers = [
            ("authorization", self.authorization.as_str()),
            ("idempotency-key", &key),
        ];
        request("POST", "/orders", &headers, ORDER)
    }

    /// Asks for an order.
    pub fn look_at(&self, id: &str) -> Vec<u8> {
        let headers = [("authorization", self.authorization.as_str())];
        request("GET", &format!("/orders/{id}"), &headers, "")
    }

    /// Asks for an order, once the read model has reached `token`.
    pub fn look_for(&self, id: &str, token: &str) -> Vec<u8> {
        let headers = [
            ("authorization", self.authorization.as_str()),
            ("consistency-token", token),
            ("prefer", "wait=30"),
        ];
        request("GET", &format!("/orders/{id}"), &headers, "")
    }
}
