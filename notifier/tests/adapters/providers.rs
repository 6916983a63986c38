//! What each provider of e-mail makes of a mail, and what its faults mean, over the wire.

use events::ids::EventId;
use notifier::{
    channel::{
        Verdict,
        route::{Letter, Provider},
    },
    texts::Mail,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::stand_in::{StandIn, fault};

fn letter() -> Letter {
    Letter {
        to: "ada@example.com".to_owned(),
        mail: Mail {
            subject: "Ваш заказ получен, größer & <schöner>".to_owned(),
            text: "Здравствуйте!\n\n.\n..\nСумма: 1\u{a0}234,50 EUR\n".to_owned()
                + &"длинная строка ".repeat(100),
            html: "<p>Здравствуйте!</p>".to_owned(),
        },
    }
}

/// What `provider` makes of a mail under `fault`; its verdict's name, and how many mails arrived.
async fn verdict_under(provider: &str, fault: Option<Value>) -> (&'static str, usize, Verdict) {
    let stand_in = StandIn::start();
    if let Some(fault) = fault {
        stand_in.fail(fault).await;
    }
    let event = EventId(Uuid::now_v7());
    let verdict = stand_in.provider(provider).send(&letter(), event).await;
    (verdict.name(), stand_in.messages().await.len(), verdict)
}

#[tokio::test]
async fn every_provider_takes_a_mail_as_it_is_and_names_its_event() {
    let stand_in = StandIn::start();
    for name in ["sendgrid", "mailgun", "smtp", "smtps"] {
        let (letter, event) = (letter(), EventId(Uuid::now_v7()));
        let provider = stand_in.provider(name);
        let verdict = provider.send(&letter, event).await;
        let Verdict::Taken(Some(reference)) = verdict else {
            panic!("{name}: {verdict:?}");
        };
        let messages = stand_in.messages().await;
        let taken = &messages[0];
        let text = |field: &str| taken[field].as_str().unwrap().trim_end().to_owned();
        assert_eq!(text("provider"), provider.name());
        assert_eq!(text("to"), letter.to, "{name}");
        assert_eq!(text("from"), "shop@example.com", "{name}");
        assert_eq!(text("subject"), letter.mail.subject, "{name}");
        assert_eq!(text("text"), letter.mail.text.trim_end(), "{name}");
        assert_eq!(text("html"), letter.mail.html, "{name}");
        assert_eq!(text("event_id"), event.to_string(), "{name}");
        assert_eq!(text("id"), reference, "{name}");
    }
}

#[tokio::test]
async fn a_mail_by_smtp_that_is_sent_twice_has_one_message_id() {
    let stand_in = StandIn::start();
    let event = EventId(Uuid::now_v7());
    for _ in 0..2 {
        stand_in.provider("smtp").send(&letter(), event).await;
    }
    let messages = stand_in.messages().await;
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[0]["id"], messages[1]["id"]);
    assert_eq!(messages[0]["id"], format!("<email.{event}@example.com>"));
}

#[tokio::test]
async fn what_mailgun_answers_means_what_it_means() {
    for (kind, expected, arrived) in [
        ("302", "failed", 0),
        ("400", "refused", 0),
        ("401", "failed", 0),
        ("403", "failed", 0),
        ("404", "failed", 0),
        ("429", "failed", 0),
        ("500", "failed", 0),
        ("502", "unknown", 0),
        ("503", "failed", 0),
        ("504", "unknown", 0),
        ("hang", "unknown", 0),
        ("reset", "unknown", 0),
        ("accept_then_hang", "unknown", 1),
    ] {
        let (name, messages, verdict) =
            verdict_under("mailgun", Some(fault("mailgun", kind))).await;
        assert_eq!((name, messages), (expected, arrived), "{kind} {verdict:?}");
    }
}

/// Before the content went out nothing was taken for certain; afterwards nobody knows. Only what is about the
/// recipient is refused (the stand-in says 550 5.1.1, and 554 5.0.0).
#[tokio::test]
async fn the_step_says_what_became_of_a_mail_by_smtp() {
    for (at, kind, expected, arrived) in [
        ("connect", "421", "failed", 0),
        ("connect", "hang", "failed", 0),
        ("connect", "reset", "failed", 0),
        ("recipient", "451", "failed", 0),
        ("recipient", "550", "refused", 0),
        ("recipient", "hang", "failed", 0),
        ("recipient", "reset", "failed", 0),
        ("message", "451", "failed", 0),
        ("recipient", "554", "failed", 0),
        ("message", "554", "failed", 0),
        ("message", "hang", "unknown", 0),
        ("message", "reset", "unknown", 0),
        ("message", "accept_then_hang", "unknown", 1),
    ] {
        for provider in ["smtp", "smtps"] {
            let mut fault = fault("smtp", kind);
            fault["at"] = json!(at);
            let (name, messages, verdict) = verdict_under(provider, Some(fault)).await;
            assert_eq!(
                (name, messages),
                (expected, arrived),
                "{provider} {at} {kind} {verdict:?}"
            );
        }
    }
}

#[tokio::test]
async fn who_does_not_know_us_or_is_not_known_takes_nothing() {
    for provider in [
        "sendgrid stranger",
        "mailgun stranger",
        "smtp stranger",
        "smtp doubted",
    ] {
        let (name, messages, verdict) = verdict_under(provider, None).await;
        assert_eq!((name, messages), ("failed", 0), "{provider} {verdict:?}");
        let shown = format!("{verdict:?}");
        assert!(
            !shown.contains("ada@") && !shown.contains("wrong"),
            "{shown}"
        );
    }
}
