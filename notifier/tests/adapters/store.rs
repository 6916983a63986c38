//! What the log brings is applied as a whole or not at all, and only once.

use events::{Topic, ids::OrderId};
use notifier::store::StoreError;
use uuid::Uuid;

use crate::{
    database::Database,
    world::{PHONE, User, World, apply, recorded},
};

const LEDGER_ROWS: &str = "SELECT count(*) FROM notifier.ledger";

#[tokio::test]
async fn a_replay_from_the_beginning_enters_nothing_again() {
    let database = Database::fresh().await;
    let user = User::new(&database).await;
    let order = OrderId(Uuid::now_v7());
    let users = [recorded(0, user.registers(Some(PHONE)))];
    let orders = [
        recorded(0, user.orders_as(order)),
        recorded(1, user.completes(order)),
    ];
    apply(&database.pool, Topic::Users, 0, &users)
        .await
        .unwrap();
    let newly_due = apply(&database.pool, Topic::Orders, 0, &orders)
        .await
        .unwrap();
    assert_eq!(newly_due.len(), 2, "both channels have something to send");
    assert_eq!(database.number(LEDGER_ROWS).await, 5);

    sqlx::query("UPDATE notifier.ledger SET status = 'sent'")
        .execute(&database.pool)
        .await
        .unwrap();
    sqlx::query("DELETE FROM notifier.checkpoint")
        .execute(&database.pool)
        .await
        .unwrap();
    apply(&database.pool, Topic::Users, 0, &users)
        .await
        .unwrap();
    let newly_due = apply(&database.pool, Topic::Orders, 0, &orders)
        .await
        .unwrap();
    assert!(newly_due.is_empty(), "nobody is woken for {newly_due:?}");
    assert_eq!(
        database
            .number("SELECT count(*) FROM notifier.ledger WHERE status = 'sent'")
            .await,
        5
    );
    assert_eq!(database.number(LEDGER_ROWS).await, 5);
}

#[tokio::test]
async fn one_event_twice_in_a_batch_is_one_notification_per_channel() {
    let database = Database::fresh().await;
    let user = User::new(&database).await;
    let record = recorded(0, user.orders());
    apply(&database.pool, Topic::Orders, 0, &[record.clone(), record])
        .await
        .unwrap();
    assert_eq!(database.number(LEDGER_ROWS).await, 2);
}

#[tokio::test]
async fn all_of_a_batch_is_applied_or_nothing() {
    let database = Database::fresh().await;
    let user = User::new(&database).await;
    apply(
        &database.pool,
        Topic::Users,
        0,
        &[recorded(0, user.registers(None))],
    )
    .await
    .unwrap();
    let before = database.dump().await;
    // The last thing a transaction writes fails.
    let refuse = "ALTER TABLE notifier.ledger ADD CONSTRAINT refuse CHECK (occasion ->> 'occasion' <> 'welcome') NOT VALID";
    sqlx::raw_sql(refuse).execute(&database.pool).await.unwrap();
    let batch = [
        recorded(1, user.prefers(false, false)),
        recorded(2, User::new(&database).await.registers(None)),
    ];
    let refused = apply(&database.pool, Topic::Users, 1, &batch).await;
    assert!(
        matches!(refused, Err(StoreError::Postgres(_))),
        "{refused:?}"
    );
    assert_eq!(
        database.dump().await,
        before,
        "contacts, ledger and checkpoint are as before"
    );

    sqlx::raw_sql("ALTER TABLE notifier.ledger DROP CONSTRAINT refuse")
        .execute(&database.pool)
        .await
        .unwrap();
    apply(&database.pool, Topic::Users, 1, &batch)
        .await
        .unwrap();
    assert_eq!(
        database
            .number("SELECT position FROM notifier.checkpoint WHERE topic = 'users'")
            .await,
        3
    );
    assert_eq!(
        database
            .number("SELECT count(*) FROM notifier.contact WHERE NOT order_emails")
            .await,
        1
    );
}

#[tokio::test]
async fn of_two_notifiers_only_one_advances() {
    let database = Database::fresh().await;
    let user = User::new(&database).await;
    let records = [recorded(0, user.orders())];
    let attempts = (0..8).map(|_| apply(&database.pool, Topic::Orders, 0, &records));
    let outcomes = futures_util::future::join_all(attempts).await;
    let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let told = outcomes
        .iter()
        .filter(|o| matches!(o, Err(StoreError::CheckpointMoved(Topic::Orders))))
        .count();
    assert_eq!((won, told), (1, 7), "{outcomes:?}");
    assert_eq!(database.number(LEDGER_ROWS).await, 2);
}

#[tokio::test]
async fn a_step_that_does_not_start_at_the_checkpoint_changes_nothing() {
    let database = Database::fresh().await;
    let user = User::new(&database).await;
    World::default()
        .happens(&database.pool, user.registers(None))
        .await;
    let before = database.dump().await;
    for from in [0, 2] {
        let outcome = apply(
            &database.pool,
            Topic::Users,
            from,
            &[recorded(from, user.is_erased())],
        )
        .await;
        assert!(
            matches!(outcome, Err(StoreError::CheckpointMoved(Topic::Users))),
            "{outcome:?}"
        );
    }
    assert_eq!(database.dump().await, before);
}

#[tokio::test]
async fn what_no_database_stores_does_not_stop_the_notifier() {
    let database = Database::fresh().await;
    let user = User::new(&database).await;
    let mut world = World::default();
    world
        .happens(
            &database.pool,
            user.cancels(OrderId(Uuid::now_v7()), "a\0b \u{1F600}"),
        )
        .await;
    assert_eq!(
        database
            .number("SELECT count(*) FROM notifier.ledger WHERE occasion ->> 'reason' = 'ab 😀'")
            .await,
        2
    );
}
