//! What the stand-in for the providers received, and how it is made to fail.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use reqwest::Method;
use serde_json::Value;

use crate::{
    databases::postgres, environment, eventually, http::call, people::User, stack::BACK_WITHIN,
};

/// Longest that a notification may take when nothing is broken.
pub const DELIVERED_WITHIN: Duration = Duration::from_secs(20);
/// More than any test receives.
const MESSAGES_MAX: usize = 50_000;

/// A message that was received.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct Message {
    /// Who took it: `sendgrid`, `mailgun`, `smtp` or `twilio`.
    pub provider: String,
    /// `email` or `sms`.
    pub channel: String,
    /// Address or number.
    pub to: String,
    /// Of a mail.
    pub subject: Option<String>,
    /// The plain text.
    pub text: Option<String>,
    /// Of a mail.
    pub html: Option<String>,
    /// The event it is about.
    pub event_id: Option<String>,
}

impl Message {
    /// Channel and event, for counting.
    pub fn about(&self) -> (String, String) {
        (
            self.channel.clone(),
            self.event_id.clone().unwrap_or_default(),
        )
    }
}

/// Everything that was sent to an address or number, oldest first.
pub async fn sent_to(recipient: &str) -> Vec<Message> {
    let recipient = recipient.replace('+', "%2B");
    let path = format!("/messages?limit={MESSAGES_MAX}&to={recipient}");
    let answer = call(Method::GET, &environment::providers_url(), &path)
        .send()
        .await
        .is(200);
    let mut messages: Vec<Message> =
        serde_json::from_value(answer.json()["items"].clone()).expect("messages");
    messages.reverse();
    messages
}

/// Orders a fault, as the stand-in's description says.
pub async fn break_provider(fault: &Value) {
    call(Method::POST, &environment::providers_url(), "/faults")
        .json(fault)
        .send()
        .await
        .is(201);
}

/// Clears all faults.
pub async fn mend_providers() {
    call(Method::DELETE, &environment::providers_url(), "/faults")
        .send()
        .await
        .is(204);
}

/// How many requests each ordered fault has met, oldest order first.
pub async fn met_faults() -> Vec<u64> {
    let answer = call(Method::GET, &environment::providers_url(), "/faults");
    let answer = answer.send().await.is(200).json();
    let faults = answer["items"].as_array().expect("the ordered faults");
    faults
        .iter()
        .filter_map(|fault| fault["met"].as_u64())
        .collect()
}

/// What the ledger says about one notification.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct LedgerRow {
    /// The event.
    pub event_id: uuid::Uuid,
    /// The channel.
    pub channel: String,
    /// Where it stands.
    pub status: String,
    /// Who took it, or may have taken it.
    pub provider: Option<String>,
    /// How often it may have been sent without our knowing.
    pub unknown_outcomes: i32,
}

/// The ledger's rows about a user.
pub async fn ledger_of(user_id: &str) -> Vec<LedgerRow> {
    let mut postgres = postgres().await;
    sqlx::query_as(
        "SELECT event_id, channel, status, provider, unknown_outcomes FROM notifier.ledger
         WHERE recipient = $1::uuid ORDER BY id",
    )
    .bind(user_id)
    .fetch_all(&mut postgres)
    .await
    .expect("the ledger")
}

/// Waits until the notifier is done with these events for this user: nothing more will be sent about them.
pub async fn settled(user_id: &str, events: &[uuid::Uuid], patience: Duration) -> Vec<LedgerRow> {
    eventually("the ledger to be settled", patience, async || {
        let rows = ledger_of(user_id).await;
        let missing = events
            .iter()
            .filter(|event| !rows.iter().any(|row| row.event_id == **event))
            .count();
        let open: Vec<&LedgerRow> = rows
            .iter()
            .filter(|row| row.status == "due" || row.status == "sending")
            .collect();
        if missing == 0 && open.is_empty() {
            Ok(rows)
        } else {
            Err(format!(
                "{missing} events not entered, {} rows open, first {:?}",
                open.len(),
                open.first()
            ))
        }
    })
    .await
}

/// Fails unless each event was told the customer by mail: once, or once more for each outcome that the ledger
/// says was unknown (the policy `resend`).
pub async fn sent_once(customer: &User, announced: &[uuid::Uuid]) {
    let rows = settled(&customer.id, announced, BACK_WITHIN * 2).await;
    let mut counts: HashMap<String, i32> = HashMap::new();
    for message in sent_to(&customer.email).await {
        *counts
            .entry(message.event_id.unwrap_or_default())
            .or_default() += 1;
    }
    let announced: HashSet<_> = announced.iter().collect();
    for row in rows
        .iter()
        .filter(|row| row.channel == "email" && announced.contains(&row.event_id))
    {
        let count = counts
            .get(&row.event_id.to_string())
            .copied()
            .unwrap_or_default();
        assert_eq!(row.status, "sent", "{row:?}");
        assert!(
            (1..=1 + row.unknown_outcomes).contains(&count),
            "{count} mails for {row:?}"
        );
    }
}
