//! Who takes over from whom, with the real ledger: once, for certain failures only, and the ledger says who has it.

use std::{sync::Arc, time::Duration};

use events::{Topic, ids::EventId};
use notifier::{
    channel::{Route, route::TextMessage},
    schedule::Schedule,
    store,
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    database::Database,
    sending::{ALL_SETTLED, HOLD, Running, SCHEDULE, one_mail},
    stand_in::{StandIn, fault, mail, nobody},
    world::{PHONE, User, World, recorded},
};

const ALL: [&str; 3] = ["sendgrid", "mailgun", "smtp"];

/// Status, attempts, unknown outcomes and provider of the only row.
type Row = (String, i32, i32, Option<String>);

async fn only_row(database: &Database) -> Row {
    let sql = "SELECT status, attempts, unknown_outcomes, provider FROM notifier.ledger";
    sqlx::query_as(sql).fetch_one(&database.pool).await.unwrap()
}

fn row(status: &str, attempts: i32, unknown: i32, provider: Option<&str>) -> Row {
    (
        status.to_owned(),
        attempts,
        unknown,
        provider.map(str::to_owned),
    )
}

/// Sends the one mail until it is settled while `faults` last; the row, and who took it.
async fn sent_under(schedule: Schedule, faults: &[(&str, &str)]) -> (Row, Vec<String>) {
    let (database, providers) = (one_mail().await, StandIn::start());
    for (provider, kind) in faults {
        providers.fail(fault(provider, kind)).await;
    }
    let sender = Running::start(&database, providers.mail(&ALL), schedule);
    database.until(ALL_SETTLED).await;
    sender.stop().await;
    let messages = providers.messages().await;
    let takers = messages
        .iter()
        .map(|each| each["provider"].as_str().unwrap().to_owned());
    (only_row(&database).await, takers.collect())
}

#[tokio::test]
async fn the_next_takes_over_from_who_certainly_took_nothing() {
    for kind in ["401", "403", "429", "500", "503"] {
        let (row_now, takers) = sent_under(SCHEDULE, &[("sendgrid", kind)]).await;
        assert_eq!(row_now, row("sent", 1, 0, Some("mailgun")), "{kind}");
        assert_eq!(takers, ["mailgun"], "{kind}");
    }
    let both = [("sendgrid", "503"), ("mailgun", "500")];
    let (row_now, takers) = sent_under(SCHEDULE, &both).await;
    assert_eq!(row_now, row("sent", 1, 0, Some("smtp")));
    assert_eq!(takers, ["smtp"]);
}

#[tokio::test]
async fn where_nobody_listens_the_next_takes_over() {
    let (database, providers) = (one_mail().await, StandIn::start());
    let route = mail(vec![nobody(), providers.provider("smtp")]);
    let sender = Running::start(&database, route, SCHEDULE);
    database.until(ALL_SETTLED).await;
    sender.stop().await;
    assert_eq!(only_row(&database).await, row("sent", 1, 0, Some("smtp")));
}

#[tokio::test]
async fn when_all_fail_it_is_a_failed_attempt_that_names_them() {
    let all = [("sendgrid", "500"), ("mailgun", "500"), ("smtp", "451")];
    let (row_now, takers) = sent_under(SCHEDULE, &all).await;
    assert_eq!(row_now, row("dead", 4, 0, None));
    assert!(takers.is_empty());
}

#[tokio::test]
async fn what_may_have_been_taken_is_not_handed_to_the_next() {
    for kind in ["accept_then_hang", "hang", "reset", "502"] {
        let (row_now, takers) = sent_under(HOLD, &[("sendgrid", kind)]).await;
        assert_eq!(row_now, row("dead", 1, 1, Some("sendgrid")), "{kind}");
        let taken = usize::from(kind == "accept_then_hang");
        assert_eq!(takers, ["sendgrid"].repeat(taken), "{kind}");
    }
    // The policy may say that it is sent again; then it takes the usual way, and is counted.
    let (database, providers) = (one_mail().await, StandIn::start());
    let once = json!({ "provider": "sendgrid", "kind": "accept_then_hang", "times": 1 });
    providers.fail(once).await;
    let sender = Running::start(&database, providers.mail(&ALL), SCHEDULE);
    database.until(ALL_SETTLED).await;
    sender.stop().await;
    assert_eq!(
        only_row(&database).await,
        row("sent", 2, 1, Some("sendgrid"))
    );
    assert_eq!(providers.messages().await.len(), 2);
}

#[tokio::test]
async fn a_recipient_that_is_refused_is_refused_by_all() {
    let (row_now, takers) = sent_under(SCHEDULE, &[("sendgrid", "400")]).await;
    assert_eq!(row_now, row("dead", 1, 0, None));
    assert!(takers.is_empty());
}

/// Three failures in a row, and SendGrid is asked no more for a while; that it is tried again later is shown with
/// time of its own, in `circuit.rs`.
#[tokio::test]
async fn who_keeps_failing_is_passed_over() {
    const MAILS: i64 = 12;
    let (database, providers) = (Database::fresh().await, StandIn::start());
    providers.fail(fault("sendgrid", "503")).await;
    let sender = Running::start(&database, providers.mail(&ALL), SCHEDULE);
    let mut world = World::default();
    for _ in 0..MAILS {
        let user = User::new(&database).await;
        world.happens(&database.pool, user.registers(None)).await;
        sender.wake.notify_one();
        database
            .until("SELECT bool_and(status = 'sent' AND attempts = 1 AND provider = 'mailgun') FROM notifier.ledger")
            .await;
    }
    sender.stop().await;
    assert_eq!(providers.met().await, [3], "requests to SendGrid");
    assert_eq!(providers.messages().await.len() as i64, MAILS);
}

/// Another user registers after that of [`one_mail`].
async fn another_mail(database: &Database) {
    let other = User::new(database).await;
    let step = store::Step {
        partition: 0,
        from: 1,
        to: 2,
    };
    let registered = [recorded(1, other.registers(None))];
    store::apply(&database.pool, Topic::Users, &[step], &registered)
        .await
        .unwrap();
}

/// A provider that asked for time gets it, and the others go on meanwhile.
#[tokio::test]
async fn who_asks_for_time_is_left_alone_while_others_go_on() {
    let (database, providers) = (one_mail().await, StandIn::start());
    providers
        .fail(json!({ "provider": "sendgrid", "kind": "status", "status": 429, "retry_after": 60 }))
        .await;
    let sender = Running::start(&database, providers.mail(&ALL), SCHEDULE);
    database.until(ALL_SETTLED).await;
    another_mail(&database).await;
    sender.wake.notify_one();
    database
        .until("SELECT count(*) = 2 FROM notifier.ledger WHERE status = 'sent' AND attempts = 1")
        .await;
    sender.stop().await;
    assert_eq!(providers.met().await, [1], "requests to SendGrid");
}

/// The pause of a channel ends with the first provider that may be asked again, whatever the others asked for.
#[tokio::test]
async fn who_asks_for_much_time_does_not_hold_up_who_asked_for_little() {
    let (database, providers) = (one_mail().await, StandIn::start());
    let asks_for_time = |provider: &str, seconds: u32| json!({ "provider": provider, "kind": "status", "status": 429, "retry_after": seconds, "times": 1 });
    providers.fail(asks_for_time("sendgrid", 3)).await;
    let route = providers.mail(&["sendgrid", "mailgun"]);
    let schedule = Schedule {
        retry_after_max: Duration::from_secs(60),
        ..SCHEDULE
    };
    let sender = Running::start(&database, route, schedule);
    database.until(ALL_SETTLED).await;
    providers.fail(asks_for_time("mailgun", 60)).await;
    another_mail(&database).await;
    sender.wake.notify_one();
    // 20 s at most: long before Mailgun's time is over.
    database
        .until("SELECT bool_and(status = 'sent') AND count(*) = 2 FROM notifier.ledger")
        .await;
    sender.stop().await;
    let by = "SELECT count(*) FROM notifier.ledger WHERE provider = 'sendgrid' AND attempts = 2";
    assert_eq!(database.number(by).await, 1);
}

/// Only claiming heeds what providers ask for: what a dead sender left is taken back, and what waits is counted.
#[tokio::test]
async fn while_all_ask_for_time_the_ledger_is_looked_over() {
    let (database, providers) = (one_mail().await, StandIn::start());
    providers
        .fail(json!({ "provider": "sendgrid", "kind": "status", "status": 429, "retry_after": 60 }))
        .await;
    let schedule = Schedule {
        retry_after_max: Duration::from_secs(60),
        ..SCHEDULE
    };
    let sender = Running::start(&database, providers.email(), schedule);
    database
        .until("SELECT reason IS NOT DISTINCT FROM 'sendgrid answered 429' FROM notifier.ledger")
        .await;
    let claim_of_the_dead = "UPDATE notifier.ledger
        SET status = 'sending', claims = claims + 1, lease_until = now() - interval '1 second'";
    sqlx::query(claim_of_the_dead)
        .execute(&database.pool)
        .await
        .unwrap();
    database
        .until("SELECT unknown_outcomes = 1 AND status = 'due' FROM notifier.ledger")
        .await;
    sender.stop().await;
    assert_eq!(providers.met().await, [1], "requests to SendGrid");
}

/// Nobody takes over where there is nobody else; and who keeps failing is said to be passed over when it is asked.
#[tokio::test]
async fn who_is_alone_takes_over_from_nobody() {
    // Fails only when another test was first.
    runtime::scrape::start("notifier").ok();
    let providers = StandIn::start();
    providers.fail(fault("twilio", "503")).await;
    let route = Arc::new(providers.sms());
    route.measure();
    let passed_over = |is_passed_over: u8| {
        let series = r#"notifier_provider_passed_over{channel="sms",provider="twilio"}"#;
        let line = format!("{series} {is_passed_over}\n");
        let scraped = runtime::scrape::render();
        assert!(scraped.contains(&line), "{line} {scraped}");
        scraped
    };
    passed_over(0);
    let Route::Sms(ways) = route.as_ref() else {
        panic!("a route of text messages");
    };
    for _ in 0..4 {
        let message = TextMessage {
            to: PHONE.to_owned(),
            text: "Hello".to_owned(),
        };
        let outcome = ways.send(&message, EventId(Uuid::now_v7())).await;
        assert_eq!(outcome.name(), "failed");
    }
    assert_eq!(providers.met().await, [4], "it is asked as a last resort");
    let scraped = passed_over(1);
    let to_itself = r#"from="twilio",to="twilio""#;
    assert!(!scraped.contains(to_itself), "{scraped}");
}
