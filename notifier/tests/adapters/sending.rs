//! What the senders do, with the real ledger and the providers' stand-in: every notification is sent once, or ends
//! as dead letter with its reason; faults are met as documented.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use events::ids::OrderId;
use notifier::{
    channel::Route,
    courier::Courier,
    schedule::{Schedule, UnknownOutcomePolicy},
    sender::{LOOK_OVER_EVERY, SendLimits, Sender},
    texts::Texts,
};
use runtime::health::Health;
use serde_json::json;
use tokio::{sync::Notify, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    database::Database,
    stand_in::{StandIn, TIMEOUT, mail, nobody, sendgrid_fails, sendgrid_status},
    world::{EMAIL, NAME, PHONE, User, World},
};

pub const SCHEDULE: Schedule = Schedule {
    attempts_max: 4,
    pause_first: Duration::from_millis(20),
    pause_max: Duration::from_millis(100),
    retry_after_max: Duration::from_secs(5),
    contact_wait_max: Duration::from_secs(1),
    unknown_outcome: UnknownOutcomePolicy::Resend,
};
pub const HOLD: Schedule = Schedule {
    unknown_outcome: UnknownOutcomePolicy::Hold,
    ..SCHEDULE
};
const LIMITS: SendLimits = SendLimits {
    concurrency: 8,
    lease: Duration::from_millis(1_500),
    attempt_time_max: Duration::from_millis(800),
};
pub const ALL_SETTLED: &str =
    "SELECT NOT EXISTS (SELECT FROM notifier.ledger WHERE status IN ('due', 'sending'))";

/// A sender that runs.
pub struct Running {
    task: JoinHandle<anyhow::Result<()>>,
    shutdown: CancellationToken,
    pub wake: Arc<Notify>,
}

impl Running {
    pub fn start(database: &Database, route: Route, schedule: Schedule) -> Self {
        Self::with_limits(database, route, schedule, LIMITS)
    }

    fn with_limits(
        database: &Database,
        route: Route,
        schedule: Schedule,
        limits: SendLimits,
    ) -> Self {
        let (shutdown, wake) = (CancellationToken::new(), Arc::new(Notify::new()));
        let texts = Arc::new(Texts::load().unwrap());
        let sender = Sender {
            pool: database.pool.clone(),
            courier: Courier {
                route: Arc::new(route),
                texts,
                keys: database.keys.clone(),
            },
            schedule,
            limits,
            wake: Arc::clone(&wake),
            component: Health::default().component("sender"),
            shutdown: shutdown.clone(),
        };
        Self {
            task: tokio::spawn(sender.run()),
            shutdown,
            wake,
        }
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// A database in which one user registered: one mail is due.
pub async fn one_mail() -> Database {
    let database = Database::fresh().await;
    let user = User::new(&database).await;
    World::default()
        .happens(&database.pool, user.registers(Some(PHONE)))
        .await;
    database
}

/// Status, attempts, unknown outcomes and reason of the only row.
async fn only_row(database: &Database) -> (String, i32, i32, Option<String>) {
    let sql = "SELECT status, attempts, unknown_outcomes, reason FROM notifier.ledger";
    sqlx::query_as(sql).fetch_one(&database.pool).await.unwrap()
}

/// Sends the one mail under `faults` until it is settled; the row, and how many messages arrived.
async fn one_mail_under(
    schedule: Schedule,
    faults: &[serde_json::Value],
) -> ((String, i32, i32, Option<String>), usize) {
    let (database, providers) = (one_mail().await, StandIn::start());
    for fault in faults {
        providers.fail(fault.clone()).await;
    }
    let sender = Running::start(&database, providers.email(), schedule);
    let begun = Instant::now();
    database.until(ALL_SETTLED).await;
    // The pauses of these tests are far shorter than the time between two looks at an idle ledger.
    assert!(
        begun.elapsed() < LOOK_OVER_EVERY,
        "tried again later than scheduled: {:?}",
        begun.elapsed()
    );
    sender.stop().await;
    (only_row(&database).await, providers.messages().await.len())
}

fn row(
    status: &str,
    attempts: i32,
    unknown: i32,
    reason: Option<&str>,
) -> (String, i32, i32, Option<String>) {
    (
        status.to_owned(),
        attempts,
        unknown,
        reason.map(str::to_owned),
    )
}

#[tokio::test]
async fn mail_and_sms_arrive_once_and_name_their_event() {
    let (database, providers) = (Database::fresh().await, StandIn::start());
    let user = User::new(&database).await;
    let order = OrderId(Uuid::now_v7());
    let mut world = World::default();
    let senders = [
        Running::start(&database, providers.email(), SCHEDULE),
        Running::start(&database, providers.sms(), SCHEDULE),
    ];
    let mut ids = Vec::new();
    for event in [
        user.registers(Some(PHONE)),
        user.orders_as(order),
        user.completes(order),
    ] {
        ids.push(world.happens(&database.pool, event).await.to_string());
        senders.iter().for_each(|sender| sender.wake.notify_one());
    }
    database.until(ALL_SETTLED).await;
    let mut told: Vec<_> = providers
        .messages()
        .await
        .into_iter()
        .map(|each| {
            let text = |name: &str| each[name].as_str().unwrap_or_default().to_owned();
            assert!(text("text").contains("12.50 EUR") || text("event_id") == ids[0]);
            (text("event_id"), text("channel"), text("to"))
        })
        .collect();
    told.sort();
    let expected = [
        (0, "email", EMAIL),
        (1, "email", EMAIL),
        (1, "sms", PHONE),
        (2, "email", EMAIL),
        (2, "sms", PHONE),
    ]
    .map(|(event, channel, to)| (ids[event].clone(), channel.to_owned(), to.to_owned()));
    assert_eq!(told, expected);
    assert_eq!(
        database
            .number("SELECT count(provider_reference) FROM notifier.ledger WHERE status = 'sent'")
            .await,
        5
    );
    for sender in senders {
        sender.stop().await;
    }
}

#[tokio::test]
async fn a_provider_that_asks_for_time_gets_it() {
    let (database, providers) = (one_mail().await, StandIn::start());
    providers.fail(json!({ "provider": "sendgrid", "kind": "status", "status": 429, "retry_after": 1, "times": 1 })).await;
    let begun = Instant::now();
    let sender = Running::start(&database, providers.email(), SCHEDULE);
    database
        .until("SELECT reason IS NOT DISTINCT FROM 'sendgrid answered 429' FROM notifier.ledger")
        .await;
    // Others have to wait as well.
    let other = User::new(&database).await;
    notifier::store::apply(
        &database.pool,
        events::Topic::Users,
        &[notifier::store::Step {
            partition: 0,
            from: 1,
            to: 2,
        }],
        &[crate::world::recorded(1, other.registers(None))],
    )
    .await
    .unwrap();
    sender.wake.notify_one();
    database
        .until("SELECT bool_or(status = 'sent') FROM notifier.ledger")
        .await;
    assert!(
        begun.elapsed() >= Duration::from_secs(1),
        "after {:?}",
        begun.elapsed()
    );
    database.until(ALL_SETTLED).await;
    assert_eq!(
        database
            .number("SELECT max(attempts)::bigint FROM notifier.ledger")
            .await,
        2
    );
    assert_eq!(providers.messages().await.len(), 2);
    sender.stop().await;
}

#[tokio::test]
async fn what_fails_for_a_while_is_sent_in_the_end() {
    let sent = one_mail_under(
        SCHEDULE,
        &[sendgrid_status(500, 2), sendgrid_status(503, 1)],
    )
    .await;
    assert_eq!(sent, (row("sent", 4, 0, None), 1));
}

#[tokio::test]
async fn what_keeps_failing_is_a_dead_letter() {
    let dead = one_mail_under(SCHEDULE, &[sendgrid_status(500, 100)]).await;
    let reason = "given up after 4 attempts; the last: sendgrid answered 500";
    assert_eq!(dead, (row("dead", 4, 0, Some(reason)), 0));
}

#[tokio::test]
async fn what_is_refused_is_a_dead_letter_at_once() {
    for status in [400, 413] {
        let dead = one_mail_under(SCHEDULE, &[sendgrid_status(status, 1)]).await;
        let reason = format!("sendgrid answered {status}");
        assert_eq!(dead, (row("dead", 1, 0, Some(&reason)), 0));
    }
}

#[tokio::test]
async fn what_is_about_our_account_is_tried_again() {
    for status in [401, 403, 302] {
        let sent = one_mail_under(SCHEDULE, &[sendgrid_status(status, 1)]).await;
        assert_eq!(sent, (row("sent", 2, 0, None), 1));
    }
}

#[tokio::test]
async fn a_wrong_key_is_a_failure_that_is_said() {
    let (database, providers) = (one_mail().await, StandIn::start());
    let sender = Running::start(&database, providers.mail(&["sendgrid stranger"]), SCHEDULE);
    database.until(ALL_SETTLED).await;
    assert_eq!(
        only_row(&database).await,
        row(
            "dead",
            4,
            0,
            Some("given up after 4 attempts; the last: sendgrid answered 401")
        )
    );
    sender.stop().await;
}

#[tokio::test]
async fn no_answer_or_a_broken_connection_is_an_unknown_outcome_and_sent_again() {
    for kind in ["hang", "reset"] {
        let sent = one_mail_under(SCHEDULE, &[sendgrid_fails(kind, 1)]).await;
        assert_eq!(sent, (row("sent", 2, 1, None), 1), "{kind}");
    }
}

#[tokio::test]
async fn what_was_taken_without_an_answer_is_sent_again_or_held_as_the_policy_says() {
    let sent_twice = one_mail_under(SCHEDULE, &[sendgrid_fails("accept_then_hang", 1)]).await;
    assert_eq!(sent_twice, (row("sent", 2, 1, None), 2));
    let held = one_mail_under(HOLD, &[sendgrid_fails("accept_then_hang", 1)]).await;
    assert_eq!(
        held,
        (
            row(
                "dead",
                1,
                1,
                Some("outcome unknown: sendgrid gave no answer in time")
            ),
            1
        )
    );
}

#[tokio::test]
async fn a_success_counts_even_with_an_unreadable_body() {
    let (database, providers) = (Database::fresh().await, StandIn::start());
    let user = User::new(&database).await;
    let mut world = World::default();
    world
        .happens(&database.pool, user.registers(Some(PHONE)))
        .await;
    world.happens(&database.pool, user.orders()).await;
    sqlx::query("DELETE FROM notifier.ledger WHERE channel = 'email'")
        .execute(&database.pool)
        .await
        .unwrap();
    // Twilio's error body under a status of success.
    providers
        .fail(json!({ "provider": "twilio", "kind": "status", "status": 200, "times": 1 }))
        .await;
    let sender = Running::start(&database, providers.sms(), SCHEDULE);
    database.until(ALL_SETTLED).await;
    assert_eq!(only_row(&database).await, row("sent", 1, 0, None));
    sender.stop().await;
}

#[tokio::test]
async fn where_nobody_listens_nothing_was_sent_for_certain() {
    let database = one_mail().await;
    let sender = Running::start(&database, mail(vec![nobody()]), HOLD);
    database.until(ALL_SETTLED).await;
    let reason = "given up after 4 attempts; the last: sendgrid cannot be reached";
    assert_eq!(only_row(&database).await, row("dead", 4, 0, Some(reason)));
    sender.stop().await;
}

#[tokio::test]
async fn the_erased_are_told_nothing() {
    let (database, providers) = (Database::fresh().await, StandIn::start());
    let (erased, keyless) = (User::new(&database).await, User::new(&database).await);
    let mut world = World::default();
    for event in [
        erased.registers(None),
        erased.is_erased(),
        keyless.registers(None),
    ] {
        world.happens(&database.pool, event).await;
    }
    database.keys.destroy(keyless.id).await.unwrap();
    let sender = Running::start(&database, providers.email(), SCHEDULE);
    database.until(ALL_SETTLED).await;
    let dead = "SELECT count(*) FROM notifier.ledger WHERE status = 'dead' AND reason = 'recipient erased' AND attempts = 0";
    assert_eq!(database.number(dead).await, 2);
    assert!(providers.messages().await.is_empty());
    sender.stop().await;
}

#[tokio::test]
async fn an_order_that_comes_before_its_customer_is_told_about_later() {
    let (database, providers) = (Database::fresh().await, StandIn::start());
    let (late, never) = (User::new(&database).await, User::new(&database).await);
    let mut world = World::default();
    world.happens(&database.pool, late.orders()).await;
    let sender = Running::start(&database, providers.email(), SCHEDULE);
    database
        .until("SELECT bool_or(deferrals > 0) FROM notifier.ledger WHERE channel = 'email'")
        .await;
    world.happens(&database.pool, late.registers(None)).await;
    database
        .until("SELECT count(*) = 2 FROM notifier.ledger WHERE status = 'sent'")
        .await;
    world.happens(&database.pool, never.orders()).await;
    sender.wake.notify_one();
    database
        .until(
            "SELECT bool_or(reason = 'recipient unknown' AND status = 'dead') FROM notifier.ledger",
        )
        .await;
    assert_eq!(providers.messages().await.len(), 2);
    sender.stop().await;
}

#[tokio::test]
async fn who_does_not_want_it_or_has_no_phone_is_left_alone() {
    let (database, providers) = (Database::fresh().await, StandIn::start());
    let (quiet, phoneless) = (User::new(&database).await, User::new(&database).await);
    let mut world = World::default();
    for event in [
        quiet.registers(None),
        quiet.prefers(false, false),
        phoneless.registers(None),
    ] {
        world.happens(&database.pool, event).await;
    }
    world.happens(&database.pool, quiet.orders()).await;
    world.happens(&database.pool, phoneless.orders()).await;
    let senders = [
        Running::start(&database, providers.email(), SCHEDULE),
        Running::start(&database, providers.sms(), SCHEDULE),
    ];
    database.until(ALL_SETTLED).await;
    let reasons: Vec<(String, String)> = sqlx::query_as(
        "SELECT channel, reason FROM notifier.ledger WHERE status = 'skipped' ORDER BY channel, reason",
    )
    .fetch_all(&database.pool)
    .await
    .unwrap();
    let expected = [
        ("email", "not wanted"),
        ("sms", "no phone number"),
        ("sms", "not wanted"),
    ];
    assert_eq!(
        reasons,
        expected.map(|(channel, reason)| (channel.to_owned(), reason.to_owned()))
    );
    assert_eq!(
        providers.messages().await.len(),
        3,
        "two welcomes and one order"
    );
    for sender in senders {
        sender.stop().await;
    }
}

#[tokio::test]
async fn at_the_end_what_is_being_sent_is_finished_and_the_rest_put_back() {
    let (database, providers) = (Database::fresh().await, StandIn::start());
    let mut world = World::default();
    for _ in 0..6 {
        world
            .happens(&database.pool, User::new(&database).await.registers(None))
            .await;
    }
    providers
        .fail(json!({ "provider": "sendgrid", "kind": "slow", "delay_ms": 200 }))
        .await;
    let two_at_once = SendLimits {
        concurrency: 2,
        ..LIMITS
    };
    let sender = Running::with_limits(&database, providers.email(), SCHEDULE, two_at_once);
    database
        .until("SELECT count(*) = 6 FROM notifier.ledger WHERE status = 'sending'")
        .await;
    sender.stop().await;
    let sent = database
        .number("SELECT count(*) FROM notifier.ledger WHERE status = 'sent'")
        .await;
    let due = database
        .number("SELECT count(*) FROM notifier.ledger WHERE status = 'due' AND attempts = 0")
        .await;
    assert!(sent <= 2, "{sent} were sent");
    assert_eq!(sent + due, 6);
    assert_eq!(providers.messages().await.len() as i64, sent);
}

#[tokio::test]
async fn a_sender_that_dies_between_sending_and_recording_leaves_an_unknown_outcome() {
    let (database, providers) = (one_mail().await, StandIn::start());
    providers.fail(sendgrid_fails("accept_then_hang", 1)).await;
    let first = Running::start(&database, providers.email(), SCHEDULE);
    let arrived = async {
        while providers.messages().await.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, arrived)
        .await
        .expect("the mail never arrived");
    first.task.abort();
    assert!(first.task.await.unwrap_err().is_cancelled());
    assert_eq!(only_row(&database).await.0, "sending");
    let second = Running::start(&database, providers.email(), SCHEDULE);
    database.until(ALL_SETTLED).await;
    assert_eq!(only_row(&database).await, row("sent", 2, 1, None));
    assert_eq!(
        providers.messages().await.len(),
        2,
        "told twice, as the policy says"
    );
    second.stop().await;
}

#[tokio::test]
async fn a_flood_is_sent_by_two_senders_without_doubling() {
    const ORDERS: i64 = 300;
    let (database, providers) = (Database::fresh().await, StandIn::start());
    let user = User::new(&database).await;
    World::default()
        .happens(&database.pool, user.registers(None))
        .await;
    let records: Vec<_> = (0..ORDERS)
        .map(|offset| crate::world::recorded(offset, user.orders()))
        .collect();
    crate::world::apply(&database.pool, events::Topic::Orders, 0, &records)
        .await
        .unwrap();
    let senders = [
        Running::start(&database, providers.email(), SCHEDULE),
        Running::start(&database, providers.email(), SCHEDULE),
    ];
    database
        .until("SELECT count(*) = 301 FROM notifier.ledger WHERE status = 'sent' AND attempts = 1")
        .await;
    assert_eq!(providers.messages().await.len() as i64, ORDERS + 1);
    for sender in senders {
        sender.stop().await;
    }
}

#[tokio::test]
async fn personal_data_is_nowhere_in_the_ledger() {
    let (database, providers) = (Database::fresh().await, StandIn::start());
    let user = User::new(&database).await;
    let mut world = World::default();
    world
        .happens(&database.pool, user.registers(Some(PHONE)))
        .await;
    world.happens(&database.pool, user.orders()).await;
    // SMS are refused, so that a reason is kept as well.
    providers
        .fail(json!({ "provider": "twilio", "kind": "status", "status": 400 }))
        .await;
    let senders = [
        Running::start(&database, providers.email(), SCHEDULE),
        Running::start(&database, providers.sms(), SCHEDULE),
    ];
    database.until(ALL_SETTLED).await;
    let dump = database.dump().await;
    assert!(dump.contains("twilio answered 400 (code "), "{dump}");
    let hex = |text: &str| {
        text.bytes()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    for secret in [NAME, EMAIL, PHONE, "Lovelace", "447700900123"] {
        assert!(
            !dump.contains(secret) && !dump.contains(&hex(secret)),
            "{secret} is in the ledger: {dump}"
        );
    }
    providers.recover().await;
    for sender in senders {
        sender.stop().await;
    }
}
