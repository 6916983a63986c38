//! Who is told what: once, by each channel, and naming the event.

use std::collections::BTreeMap;

use end_to_end::{
    beside_others, eventually,
    log::{events_of, name},
    orders::order_request,
    people::{User, admin, registered_user, registered_user_with_phone},
    postbox::{DELIVERED_WITHIN, Message, sent_to, settled},
};
use events::{Event, Topic, ids::StreamId};
use reqwest::Method;
use serde_json::json;

/// The events of these streams: their ids by name, in order.
async fn events_about(streams: &[&str]) -> Vec<(String, &'static str)> {
    let mut events = Vec::new();
    for topic in Topic::ALL {
        events.extend(events_of(topic).await);
    }
    let is_one = |stream: StreamId| streams.contains(&stream.to_string().as_str());
    events
        .iter()
        .filter(|each| is_one(each.envelope.event.stream_id()))
        .map(|each| {
            (
                each.envelope.metadata.event_id.to_string(),
                name(&each.envelope.event),
            )
        })
        .collect()
}

fn about(messages: &[Message]) -> BTreeMap<(String, String), usize> {
    let mut counts = BTreeMap::new();
    for message in messages {
        *counts.entry(message.about()).or_default() += 1;
    }
    counts
}

async fn steps(id: &str, statuses: &[&str]) {
    for status in statuses {
        let call = admin()
            .await
            .command(Method::PUT, &format!("/orders/{id}/status"));
        call.json(&json!({"status": status})).send().await.is(200);
    }
}

async fn all_settled(user: &User, events: &[(String, &'static str)]) {
    let told = ["user_registered", "order_created", "order_cancelled"];
    let ids: Vec<uuid::Uuid> = events
        .iter()
        .filter(|(_, name)| told.contains(name))
        .map(|(id, _)| id.parse().unwrap())
        .collect();
    settled(&user.id, &ids, DELIVERED_WITHIN).await;
}

#[test]
fn each_occasion_is_told_once_by_mail_and_by_sms() {
    beside_others(async {
        let (user, phone) = registered_user_with_phone().await;
        let one = user.creates(&order_request()).await.text("id");
        let other = user.creates(&order_request()).await.text("id");
        steps(&one, &["in_progress", "completed"]).await;
        let cancel = user.command(Method::POST, &format!("/orders/{other}/cancel"));
        cancel
            .json(&json!({"reason": "too late"}))
            .send()
            .await
            .is(200);
        let events = events_about(&[&user.id, &one, &other]).await;
        eventually("five mails and four SMS", DELIVERED_WITHIN, async || {
            let (mails, texts) = (sent_to(&user.email).await, sent_to(&phone).await);
            if mails.len() >= 5 && texts.len() >= 4 {
                Ok(())
            } else {
                Err(format!("{mails:?} {texts:?}"))
            }
        })
        .await;
        all_settled(&user, &events).await;

        let mut wanted = BTreeMap::new();
        for (id, name) in &events {
            let channels: &[&str] = match *name {
                "user_registered" => &["email"],
                "order_created" | "order_cancelled" => &["email", "sms"],
                // Of the steps only the last is told.
                _ => &[],
            };
            for channel in channels {
                wanted.insert(((*channel).to_owned(), id.clone()), 1);
            }
        }
        let (last_step, _) = events
            .iter()
            .rfind(|(_, name)| *name == "order_status_changed")
            .unwrap();
        for channel in ["email", "sms"] {
            wanted.insert((channel.to_owned(), last_step.clone()), 1);
        }
        let mut found = about(&sent_to(&user.email).await);
        found.extend(about(&sent_to(&phone).await));
        assert_eq!(found, wanted);
    });
}

#[test]
fn a_mail_says_what_it_is_about() {
    beside_others(async {
        let user = registered_user().await;
        let id = user.creates(&order_request()).await.text("id");
        let mails = eventually("two mails", DELIVERED_WITHIN, async || {
            let mails = sent_to(&user.email).await;
            if mails.len() == 2 {
                Ok(mails)
            } else {
                Err(format!("{mails:?}"))
            }
        })
        .await;
        let mail = mails
            .iter()
            .find(|mail| mail.text.as_deref().unwrap_or_default().contains(&id))
            .unwrap();
        for part in [&mail.text, &mail.html] {
            let part = part.as_deref().unwrap();
            assert!(
                part.contains("25.00") && part.contains("EUR") && part.contains("Ada Lovelace"),
                "{part}"
            );
        }
        assert!(
            mails
                .iter()
                .all(|mail| !mail.subject.as_deref().unwrap_or_default().is_empty())
        );
    });
}

#[test]
fn who_has_no_phone_or_wants_nothing_is_left_alone() {
    beside_others(async {
        let (user, phone) = registered_user_with_phone().await;
        user.prefers(false, false).await;
        let id = user.creates(&order_request()).await.text("id");
        let no_phone = registered_user().await;
        let other = no_phone.creates(&order_request()).await.text("id");
        all_settled(&user, &events_about(&[&user.id, &id]).await).await;
        all_settled(&no_phone, &events_about(&[&no_phone.id, &other]).await).await;
        assert_eq!(
            sent_to(&user.email).await.len(),
            1,
            "the welcome, which is no preference"
        );
        assert!(sent_to(&phone).await.is_empty());
        let rows = settled(&no_phone.id, &[], DELIVERED_WITHIN).await;
        assert!(
            rows.iter()
                .all(|row| row.channel == "email" || row.status == "skipped"),
            "{rows:?}"
        );
    });
}

#[test]
fn what_changes_nothing_is_not_told() {
    beside_others(async {
        let user = registered_user().await;
        let id = user.creates(&order_request()).await.text("id");
        for _ in 0..3 {
            let cancel = user.command(Method::POST, &format!("/orders/{id}/cancel"));
            cancel.json(&json!({})).send().await.is(200);
        }
        let events = events_of(Topic::Orders).await;
        let cancelled = events.iter().filter(|each| matches!(&each.envelope.event, Event::OrderCancelled(fact) if fact.order_id.to_string() == id));
        assert_eq!(cancelled.count(), 1);
        all_settled(&user, &events_about(&[&user.id, &id]).await).await;
        assert_eq!(
            sent_to(&user.email).await.len(),
            3,
            "welcome, created, cancelled"
        );
    });
}
