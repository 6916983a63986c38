//! Rows are claimed by one sender at a time, and outcomes are recorded only by who holds the claim.

use std::{collections::BTreeSet, time::Duration};

use events::Topic;
use notifier::{
    ledger::{self, Claimed, Recorded},
    react::Channel,
    schedule::{Outcome, Receipt, Schedule, UnknownOutcomePolicy},
};

use crate::{
    database::Database,
    world::{User, World, apply, recorded},
};

const LEASE: Duration = Duration::from_secs(60);
const SCHEDULE: Schedule = Schedule {
    attempts_max: 5,
    pause_first: Duration::from_millis(1),
    pause_max: Duration::from_millis(1),
    retry_after_max: Duration::from_secs(1),
    contact_wait_max: Duration::from_secs(1),
    unknown_outcome: UnknownOutcomePolicy::Resend,
};

async fn with_one_mail() -> Database {
    let database = Database::fresh().await;
    let user = User::new(&database).await;
    World::default()
        .happens(&database.pool, user.registers(None))
        .await;
    database
}

async fn claim_one(database: &Database, lease: Duration) -> Claimed {
    let mut claimed = ledger::claim(&database.pool, Channel::Email, 10, lease)
        .await
        .unwrap();
    assert_eq!(claimed.len(), 1);
    claimed.remove(0)
}

async fn record(database: &Database, claimed: &Claimed, outcome: Outcome) -> Vec<i64> {
    let change = SCHEDULE.after(&claimed.standing, outcome);
    let recorded = Recorded {
        id: claimed.standing.id,
        claim: claimed.claim,
        change,
    };
    let mut connection = database.pool.acquire().await.unwrap();
    ledger::record(&mut connection, &[recorded]).await.unwrap()
}

fn sent(reference: Option<&str>) -> Outcome {
    Outcome::Sent(Receipt {
        provider: "mailgun",
        reference: reference.map(str::to_owned),
    })
}

#[tokio::test]
async fn two_senders_never_take_the_same_row() {
    const ROWS: usize = 400;
    let database = Database::fresh().await;
    let user = User::new(&database).await;
    let records: Vec<_> = (0..ROWS)
        .map(|offset| recorded(offset as i64, user.orders()))
        .collect();
    apply(&database.pool, Topic::Orders, 0, &records)
        .await
        .unwrap();
    let sender = async || {
        let mut taken = Vec::new();
        loop {
            let claimed = ledger::claim(&database.pool, Channel::Email, 7, LEASE)
                .await
                .unwrap();
            if claimed.is_empty() {
                return taken;
            }
            taken.extend(claimed.into_iter().map(|each| each.standing.id));
        }
    };
    let (a, b, c, d) = tokio::join!(sender(), sender(), sender(), sender());
    let taken = [a, b, c, d].concat();
    assert_eq!(taken.len(), ROWS);
    assert_eq!(
        taken.iter().collect::<BTreeSet<_>>().len(),
        ROWS,
        "a row was taken twice"
    );
    assert!(
        ledger::claim(&database.pool, Channel::Sms, 1, LEASE)
            .await
            .unwrap()
            .len()
            == 1,
        "SMS are untouched"
    );
}

#[tokio::test]
async fn a_lease_that_ran_out_is_an_unknown_outcome() {
    let database = with_one_mail().await;
    claim_one(&database, Duration::ZERO).await;
    let mut expired = Vec::new();
    while expired.is_empty() {
        expired = ledger::expire(&database.pool, Channel::Email, &SCHEDULE, &[])
            .await
            .unwrap();
    }
    database
        .until("SELECT status = 'due' AND due_at <= now() FROM notifier.ledger")
        .await;
    let again = claim_one(&database, LEASE).await;
    assert_eq!(
        (again.standing.attempts, again.standing.unknown_outcomes),
        (1, 1)
    );
}

#[tokio::test]
async fn a_lease_that_runs_or_is_ones_own_is_left_alone() {
    let database = with_one_mail().await;
    let claimed = claim_one(&database, LEASE).await;
    assert!(
        ledger::expire(&database.pool, Channel::Email, &SCHEDULE, &[])
            .await
            .unwrap()
            .is_empty()
    );
    sqlx::query("UPDATE notifier.ledger SET lease_until = now() - interval '1 hour'")
        .execute(&database.pool)
        .await
        .unwrap();
    let own = [claimed.standing.id];
    assert!(
        ledger::expire(&database.pool, Channel::Email, &SCHEDULE, &own)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn where_the_policy_holds_an_unknown_outcome_is_a_dead_letter() {
    let database = with_one_mail().await;
    claim_one(&database, Duration::ZERO).await;
    let hold = Schedule {
        unknown_outcome: UnknownOutcomePolicy::Hold,
        ..SCHEDULE
    };
    while ledger::expire(&database.pool, Channel::Email, &hold, &[])
        .await
        .unwrap()
        .is_empty()
    {}
    let dead = ledger::dead_letters(&database.pool, 0, 10).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!(
        dead[0].reason,
        "outcome unknown: its sender did not come back"
    );
    assert_eq!(
        (dead[0].occasion.as_str(), dead[0].unknown_outcomes),
        ("welcome", 1)
    );
}

#[tokio::test]
async fn a_late_outcome_counts_unless_the_row_was_claimed_again() {
    let database = with_one_mail().await;
    let first = claim_one(&database, Duration::ZERO).await;
    while ledger::expire(&database.pool, Channel::Email, &SCHEDULE, &[])
        .await
        .unwrap()
        .is_empty()
    {}
    database
        .until("SELECT due_at <= now() FROM notifier.ledger")
        .await;
    let second = claim_one(&database, LEASE).await;
    assert!(
        record(&database, &first, sent(None)).await.is_empty(),
        "a fenced sender recorded"
    );
    assert_eq!(
        record(&database, &second, sent(Some("id"))).await,
        [second.standing.id]
    );
    assert_eq!(database.number("SELECT count(*) FROM notifier.ledger WHERE status = 'sent' AND provider = 'mailgun' AND provider_reference = 'id'").await, 1);

    let database = with_one_mail().await;
    let first = claim_one(&database, Duration::ZERO).await;
    while ledger::expire(&database.pool, Channel::Email, &SCHEDULE, &[])
        .await
        .unwrap()
        .is_empty()
    {}
    assert_eq!(
        record(&database, &first, sent(None)).await,
        [first.standing.id]
    );
    assert!(
        ledger::claim(&database.pool, Channel::Email, 1, LEASE)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn what_is_put_off_is_not_due_before_its_time() {
    let database = with_one_mail().await;
    let claimed = claim_one(&database, LEASE).await;
    let patient = Schedule {
        pause_first: LEASE,
        pause_max: LEASE,
        ..SCHEDULE
    };
    let change = patient.after(
        &claimed.standing,
        Outcome::Failed {
            reason: "answered 503".into(),
            retry_after: None,
        },
    );
    let recorded = Recorded {
        id: claimed.standing.id,
        claim: claimed.claim,
        change,
    };
    let mut connection = database.pool.acquire().await.unwrap();
    ledger::record(&mut connection, &[recorded]).await.unwrap();
    assert!(
        ledger::claim(&database.pool, Channel::Email, 1, LEASE)
            .await
            .unwrap()
            .is_empty()
    );
    let next = ledger::next_due_in(&database.pool, Channel::Email)
        .await
        .unwrap()
        .unwrap();
    assert!(next > LEASE / 2, "{next:?}");
    let backlog = ledger::backlog(&database.pool, Channel::Email)
        .await
        .unwrap();
    assert_eq!((backlog.waiting, backlog.overdue_seconds), (1, 0.0));
    assert_eq!(
        ledger::next_due_in(&database.pool, Channel::Sms)
            .await
            .unwrap(),
        None
    );
}

#[tokio::test]
async fn the_backlog_is_what_waits_and_since_when_and_what_was_given_up() {
    let database = with_one_mail().await;
    let backlog = async || {
        ledger::backlog(&database.pool, Channel::Email)
            .await
            .unwrap()
    };
    let due = backlog().await;
    assert_eq!((due.waiting, due.dead), (1, 0));
    assert!(due.overdue_seconds > 0.0 && due.oldest_seconds >= due.overdue_seconds);
    let claimed = claim_one(&database, LEASE).await;
    let sending = backlog().await;
    assert_eq!((sending.waiting, sending.overdue_seconds), (1, 0.0));
    assert!(sending.oldest_seconds > due.oldest_seconds);
    record(
        &database,
        &claimed,
        Outcome::Refused("no such mailbox".into()),
    )
    .await;
    let given_up = ledger::Backlog {
        dead: 1,
        ..Default::default()
    };
    assert_eq!(backlog().await, given_up);
    let elsewhere = ledger::backlog(&database.pool, Channel::Sms).await.unwrap();
    assert_eq!(elsewhere, ledger::Backlog::default());
}
