//! Who is told what: once, by each channel, and naming the event.

use std::collections::BTreeMap;

use end_to_end::{
    alone, beside_others,
    environment::notifier_url,
    eventually,
    log::{events_of, name},
    orders::order_request,
    people::{
        User, admin, register, registered_user, registered_user_with_phone, registration,
        unique_email, unique_phone,
    },
    postbox::{
        DELIVERED_WITHIN, Message, break_provider, ledger_of, mend_providers, sent_to, settled,
    },
    stack::counter_of,
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

/// Somebody of this locale registers, orders and cancels; the three mails, the two texts.
async fn told_in(locale: &str, reason: &str) -> (String, Vec<Message>, Vec<Message>) {
    let (email, phone) = (unique_email(), unique_phone());
    let mut body = registration(&email);
    body["locale"] = json!(locale);
    body["phone"] = json!(phone);
    let user = register(&body).await;
    let id = user.creates(&order_request()).await.text("id");
    let cancel = user.command(Method::POST, &format!("/orders/{id}/cancel"));
    cancel.json(&json!({"reason": reason})).send().await.is(200);
    let found = eventually("three mails and two SMS", DELIVERED_WITHIN, async || {
        let (mails, texts) = (sent_to(&email).await, sent_to(&phone).await);
        if (mails.len(), texts.len()) == (3, 2) {
            Ok((mails, texts))
        } else {
            Err(format!("{mails:?} {texts:?}"))
        }
    });
    let (mails, texts) = found.await;
    (id, mails, texts)
}

#[test]
fn everybody_is_told_in_his_own_language() {
    beside_others(async {
        // Tags and templates in what a user wrote come out as he wrote them.
        let reason = "<b>zu spät</b> {{ order.id }}";
        for (locale, subjects, words, sms) in [
            (
                "de-AT",
                [
                    "Willkommen bei Orderlog",
                    "Ihre Bestellung {} ist eingegangen",
                    "Ihre Bestellung {} wurde storniert",
                ],
                [
                    "Guten Tag Ada Lovelace,",
                    "Umfang: 1 Position\n",
                    "Summe: 25,00 EUR\n",
                    "Grund: ",
                ],
                "Orderlog: Ihre Bestellung {} (25,00 EUR) wurde storniert.",
            ),
            (
                "ru",
                [
                    "Добро пожаловать в Orderlog",
                    "Ваш заказ {} получен",
                    "Ваш заказ {} отменён",
                ],
                [
                    "Здравствуйте, Ada Lovelace!",
                    "Состав: 1 позиция\n",
                    "Сумма: 25,00 EUR\n",
                    "Причина: ",
                ],
                "Orderlog: Ваш заказ {} (25,00 EUR) отменён.",
            ),
            (
                "fr-CA",
                [
                    "Welcome to Orderlog",
                    "Your order {} has been received",
                    "Your order {} has been cancelled",
                ],
                [
                    "Hello Ada Lovelace,",
                    "Contents: 1 item\n",
                    "Total: 25.00 EUR\n",
                    "Reason: ",
                ],
                "Orderlog: your order {} (25.00 EUR) has been cancelled.",
            ),
        ] {
            let (id, mails, texts) = told_in(locale, reason).await;
            let all: String = mails
                .iter()
                .filter_map(|mail| mail.text.as_deref())
                .collect();
            for subject in subjects {
                let subject = subject.replace("{}", &id);
                assert!(
                    mails
                        .iter()
                        .any(|mail| mail.subject.as_ref() == Some(&subject)),
                    "{subject}: {mails:?}"
                );
            }
            for word in words {
                assert!(all.contains(word), "{word:?}: {all}");
            }
            assert!(all.contains(reason), "{all}");
            let html: String = mails
                .iter()
                .filter_map(|mail| mail.html.as_deref())
                .collect();
            assert!(
                html.contains("&lt;b&gt;zu spät") && !html.contains("<b>"),
                "{html}"
            );
            let sms = sms.replace("{}", &id);
            assert!(
                texts.iter().any(|text| text.text.as_ref() == Some(&sms)),
                "{sms}: {texts:?}"
            );
        }
    });
}

/// An order's mail while providers fail; who took it, as the stand-in and the ledger say.
async fn taken_by(user: &User) -> (Vec<String>, Option<String>) {
    let id = user.creates(&order_request()).await.text("id");
    let events = events_about(&[&id]).await;
    let event: uuid::Uuid = events[0].0.parse().unwrap();
    settled(&user.id, &[event], DELIVERED_WITHIN).await;
    let mails = sent_to(&user.email).await;
    let about_it = mails
        .into_iter()
        .filter(|mail| mail.event_id == Some(event.to_string()));
    let rows = ledger_of(&user.id).await;
    let row = rows
        .into_iter()
        .find(|row| row.event_id == event && row.channel == "email");
    (
        about_it.map(|mail| mail.provider).collect(),
        row.unwrap().provider,
    )
}

#[test]
fn when_a_provider_of_mail_fails_the_next_sends_it_once() {
    alone(async {
        let user = registered_user().await;
        all_settled(&user, &events_about(&[&user.id]).await).await;
        let failovers = async |from: &str, to: &str| {
            let labels = [("channel", "email"), ("from", from), ("to", to)];
            counter_of(&notifier_url(), "notifier_failovers_total", &labels).await
        };
        let before = (
            failovers("sendgrid", "mailgun").await,
            failovers("mailgun", "smtp").await,
        );
        let by = |name: &str| (vec![name.to_owned()], Some(name.to_owned()));

        break_provider(&json!({"provider": "sendgrid", "kind": "status", "status": 503})).await;
        assert_eq!(taken_by(&user).await, by("mailgun"));
        break_provider(&json!({"provider": "mailgun", "kind": "status", "status": 500})).await;
        assert_eq!(taken_by(&user).await, by("smtp"));
        mend_providers().await;

        let after = (
            failovers("sendgrid", "mailgun").await,
            failovers("mailgun", "smtp").await,
        );
        // Others' mails may have been due meanwhile.
        let counted = (after.0 - before.0, after.1 - before.1);
        assert!(counted.0 >= 2.0 && counted.1 >= 1.0, "{counted:?}");
    });
}
