//! Users in Postgres.

use events::{UserEvent, user::Role};
use projections::{
    fold::{Part, Round, State},
    model::{Generation, Positions, outdated},
    store::{ReadModel, StoreError},
    users::store::{UserFilter, UserStore},
};

use runtime::representation::UserStatus;
use sqlx::{AssertSqlSafe, Execute};
use uuid::Uuid;

use crate::{
    samples::{
        at, email_changed, erased, password_changed, profile_updated, registered, role_changed,
        round, user,
    },
    world::{KEPT, LIVE, Users},
};

const ALL_ROWS: &str = "SELECT xmin::text || t::text FROM {s}.users_g1 t ORDER BY user_id";

fn life() -> Vec<(u64, UserEvent)> {
    vec![
        (1, registered(user(1), 0)),
        (1, registered(user(2), 1)),
        (2, profile_updated(user(1), 2)),
        (3, email_changed(user(1), 3)),
    ]
}

async fn restart_checkpoint(users: &Users) {
    users
        .execute("UPDATE {s}.checkpoints SET position = 0")
        .await;
}

#[tokio::test]
async fn preparing_again_changes_nothing() {
    let users = Users::fresh().await;
    users.store.apply(LIVE, &round(0, 0, life())).await.unwrap();
    let before = users.rows(ALL_ROWS).await;
    users.store.prepare().await.unwrap();
    assert_eq!(users.store.live().await.unwrap(), LIVE);
    assert_eq!(users.rows(ALL_ROWS).await, before);
    assert_eq!(
        users.rows("SELECT count(*)::text FROM {s}.users").await,
        ["2"]
    );
}

#[tokio::test]
async fn a_batch_leaves_the_last_state_of_each_stream_and_the_checkpoint() {
    let users = Users::fresh().await;
    let applied = users.store.apply(LIVE, &round(3, 0, life())).await.unwrap();
    assert_eq!((applied.states, applied.halts), (2, vec![]));
    assert_eq!(applied.positions, Positions::from([(3, 5)]));
    assert_eq!(
        users.store.checkpoint(LIVE).await.unwrap(),
        applied.positions
    );
    let stored = users.store.user(LIVE, user(1)).await.unwrap().unwrap();
    assert_eq!(
        (stored.version, stored.created_at, stored.updated_at),
        (3, at(0), at(3))
    );
    assert_eq!(
        (stored.phone, stored.locale.as_str(), stored.email_verified),
        (None, "de-AT", true)
    );
}

#[tokio::test]
async fn applying_a_batch_twice_changes_nothing() {
    let users = Users::fresh().await;
    users.store.apply(LIVE, &round(0, 0, life())).await.unwrap();
    let before = users.rows(ALL_ROWS).await;
    let again = users.store.apply(LIVE, &round(0, 0, life())).await;
    assert!(matches!(again, Err(StoreError::Moved(_))), "{again:?}");
    // Even when the checkpoint does not protect the rows, their versions do.
    restart_checkpoint(&users).await;
    users.store.apply(LIVE, &round(0, 0, life())).await.unwrap();
    assert_eq!(users.rows(ALL_ROWS).await, before);
}

#[tokio::test]
async fn an_older_version_never_overwrites_a_newer_one() {
    let users = Users::fresh().await;
    users.store.apply(LIVE, &round(0, 0, life())).await.unwrap();
    let before = users.rows(ALL_ROWS).await;
    restart_checkpoint(&users).await;
    users
        .store
        .apply(LIVE, &round(0, 0, vec![(1, registered(user(1), 0))]))
        .await
        .unwrap();
    users
        .store
        .apply(LIVE, &round(0, 2, vec![(2, profile_updated(user(1), 2))]))
        .await
        .unwrap();
    assert_eq!(users.rows(ALL_ROWS).await, before);
}

#[tokio::test]
async fn a_later_batch_goes_on_from_what_is_stored() {
    let users = Users::fresh().await;
    users.store.apply(LIVE, &round(0, 0, life())).await.unwrap();
    let more = vec![
        (4, password_changed(user(1), 7)),
        (5, role_changed(user(1), 8)),
        (2, erased(user(2), 9)),
    ];
    users.store.apply(LIVE, &round(0, 5, more)).await.unwrap();
    let rows = users
        .rows("SELECT version || role || status || (email IS NULL AND name IS NULL AND phone IS NULL) FROM {s}.users ORDER BY user_id")
        .await;
    assert_eq!(rows, ["5adminactivefalse", "2usererasedtrue"]);
}

#[tokio::test]
async fn a_gap_stops_its_partition_there_and_no_other() {
    let users = Users::fresh().await;
    let mut gap = round(
        0,
        0,
        vec![(1, registered(user(1), 0)), (3, email_changed(user(1), 1))],
    );
    gap.append(&mut round(1, 10, vec![(1, registered(user(2), 2))]));
    users
        .execute("INSERT INTO {s}.checkpoints VALUES ('users', 1, 1, 10)")
        .await;
    let applied = users.store.apply(LIVE, &gap).await.unwrap();
    assert_eq!(applied.positions, Positions::from([(0, 1), (1, 12)]));
    assert_eq!(applied.halts.len(), 1);
    assert_eq!(
        (applied.halts[0].partition, applied.halts[0].offset),
        (0, 1)
    );
    assert!(
        applied.halts[0].reason.contains("version 3"),
        "{}",
        applied.halts[0].reason
    );
    assert_eq!(
        users.rows("SELECT version::text FROM {s}.users").await,
        ["1", "1"]
    );
}

#[tokio::test]
async fn rows_and_checkpoint_change_together_or_not_at_all() {
    let users = Users::fresh().await;
    users
        .store
        .apply(LIVE, &round(0, 0, vec![(1, registered(user(1), 0))]))
        .await
        .unwrap();
    // The rows are refused after the checkpoint was moved in the transaction.
    users
        .execute("ALTER TABLE {s}.users_g1 ADD CONSTRAINT sabotage CHECK (version < 2)")
        .await;
    let more = round(0, 2, vec![(2, profile_updated(user(1), 1))]);
    assert!(users.store.apply(LIVE, &more).await.is_err());
    assert_eq!(
        users.store.checkpoint(LIVE).await.unwrap(),
        Positions::from([(0, 2)])
    );
    assert_eq!(
        users.rows("SELECT version::text FROM {s}.users").await,
        ["1"]
    );
    users
        .execute("ALTER TABLE {s}.users_g1 DROP CONSTRAINT sabotage")
        .await;
    // The checkpoint is refused: the rows must not stay.
    users
        .execute("ALTER TABLE {s}.checkpoints ADD CONSTRAINT sabotage CHECK (position < 3)")
        .await;
    assert!(users.store.apply(LIVE, &more).await.is_err());
    assert_eq!(
        users.rows("SELECT version::text FROM {s}.users").await,
        ["1"]
    );
    users
        .execute("ALTER TABLE {s}.checkpoints DROP CONSTRAINT sabotage")
        .await;
    users.store.apply(LIVE, &more).await.unwrap();
    assert_eq!(
        users.rows("SELECT version::text FROM {s}.users").await,
        ["2"]
    );
}

// The pool rolls the loser's transaction back in a task of its own, which must run while the fixture drops the tables.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn of_two_writers_only_one_advances() {
    let users = Users::fresh().await;
    for turn in 0..10 {
        let from = turn * 2;
        let events = vec![(1, registered(user(100 + turn as u128), turn))];
        let (one, other) = (round(0, from, events.clone()), round(0, from, events));
        let (one, other) = tokio::join!(
            users.store.apply(LIVE, &one),
            users.store.apply(LIVE, &other)
        );
        let moved = [&one, &other]
            .into_iter()
            .filter(|each| matches!(each, Err(StoreError::Moved(_))))
            .count();
        assert!(
            one.is_ok() != other.is_ok() && moved == 1,
            "{one:?} {other:?}"
        );
    }
    assert_eq!(
        users.rows("SELECT count(*)::text FROM {s}.users").await,
        ["10"]
    );
}

#[tokio::test]
async fn a_new_generation_is_seen_by_nobody_until_the_swap_and_by_everybody_then() {
    let users = Users::fresh().await;
    users.store.apply(LIVE, &round(0, 0, life())).await.unwrap();
    let next = users.store.begin_generation().await.unwrap();
    assert_eq!(next, Generation(2));
    assert_eq!(
        users.store.checkpoint(next).await.unwrap(),
        Positions::new()
    );
    let mut more = life();
    more.push((1, registered(user(3), 4)));
    users.store.apply(next, &round(0, 0, more)).await.unwrap();
    users.store.index(next).await.unwrap();
    let seen = "SELECT count(*)::text FROM {s}.users";
    assert_eq!(users.rows(seen).await, ["2"]);
    swap(&users, LIVE, next).await.unwrap();
    assert_eq!(users.rows(seen).await, ["3"]);
    assert_eq!(users.store.live().await.unwrap(), next);
    // The old one can still be read and written until it is dropped.
    users
        .store
        .apply(LIVE, &round(0, 5, vec![(2, erased(user(2), 5))]))
        .await
        .unwrap();
    users.store.drop_generation(LIVE).await.unwrap();
    assert!(matches!(
        users.store.checkpoint(LIVE).await,
        Err(StoreError::Gone(_, LIVE))
    ));
    let late = users
        .store
        .apply(LIVE, &round(0, 7, vec![(3, erased(user(2), 6))]))
        .await;
    assert!(
        matches!(late, Err(StoreError::Gone(_, LIVE) | StoreError::Moved(_))),
        "{late:?}"
    );
    let late = users
        .store
        .apply(LIVE, &round(0, 0, vec![(1, registered(user(9), 6))]))
        .await;
    assert!(matches!(late, Err(StoreError::Gone(_, LIVE))), "{late:?}");
    assert_eq!(
        users
            .rows("SELECT DISTINCT generation::text FROM {s}.checkpoints")
            .await,
        ["2"]
    );
}

async fn swap(users: &Users, from: Generation, to: Generation) -> Result<(), StoreError> {
    users.store.swap(Some(from), to, KEPT).await
}

#[tokio::test]
async fn two_versions_of_the_fold_serve_side_by_side() {
    let users = Users::fresh().await;
    users.store.apply(LIVE, &round(0, 0, life())).await.unwrap();
    // What there is becomes that of the version before, which knew another column first.
    for table in ["generations", "live_generations"] {
        users
            .execute(&format!("UPDATE {{s}}.{table} SET version = 0"))
            .await;
    }
    users
        .execute(
            "DROP VIEW {s}.users; CREATE VIEW {s}.users AS SELECT 1 AS former, * FROM {s}.users_g1",
        )
        .await;
    users.store.prepare().await.unwrap();
    let live = users.store.live().await;
    assert!(matches!(live, Err(StoreError::NotBuilt(..))), "{live:?}");
    let next = users.store.begin_generation().await.unwrap();
    users.store.swap(None, next, KEPT).await.unwrap();
    assert_eq!(users.store.live().await.unwrap(), next);
    let seen = "SELECT count(*)::text FROM {s}.users";
    assert_eq!(users.rows(seen).await, ["0"], "the later version's");
    let known = users.store.generations().await.unwrap();
    assert_eq!(outdated(&known, UserStore::VERSION), []);
    let more = round(0, 5, vec![(1, registered(user(3), 5))]);
    users.store.apply(LIVE, &more).await.unwrap();
    users
        .execute(
            "UPDATE {s}.live_generations SET followed_at = now() - interval '25 h' WHERE version = 0",
        )
        .await;
    let known = users.store.generations().await.unwrap();
    assert_eq!(outdated(&known, UserStore::VERSION), [LIVE]);
    users.store.drop_generation(LIVE).await.unwrap();
    assert_eq!(users.store.generations().await.unwrap().len(), 1);
}

async fn many(users: &Users) {
    let events = (1..=3_000_u128)
        .map(|number| (1, registered(user(number), (number / 2) as i64)))
        .collect();
    users.store.apply(LIVE, &round(0, 0, events)).await.unwrap();
    users.store.index(LIVE).await.unwrap();
}

#[tokio::test]
async fn pages_show_everybody_once_newest_first_while_others_register() {
    let users = Users::fresh().await;
    many(&users).await;
    let (mut seen, mut after) = (Vec::new(), None);
    for turn in 0.. {
        let page = users
            .store
            .users(LIVE, &UserFilter::default(), after, 200)
            .await
            .unwrap();
        let Some(last) = page.last() else { break };
        after = Some((last.created_at, last.id.0));
        seen.extend(page.iter().map(|user| (user.created_at, user.id)));
        let newcomer = vec![(1, registered(user(10_000 + turn as u128), 10_000 + turn))];
        let from = users.store.checkpoint(LIVE).await.unwrap()[&0];
        users
            .store
            .apply(LIVE, &round(0, from, newcomer))
            .await
            .unwrap();
    }
    assert_eq!(seen.len(), 3_000);
    assert!(seen.windows(2).all(|pair| pair[0] > pair[1]));
}

#[tokio::test]
async fn lists_walk_an_index() {
    let users = Users::fresh().await;
    many(&users).await;
    // Without statistics Postgres takes 3,000 rows for a few.
    users.execute("ANALYZE {s}.users_g1").await;
    let all = UserFilter::default();
    let (created_from, created_to) = (Some(at(500)), Some(at(2_500)));
    for (filter, index) in [
        (all, "newest"),
        (
            UserFilter {
                created_from,
                created_to,
                ..all
            },
            "newest",
        ),
        (
            UserFilter {
                role: Some(Role::Admin),
                ..all
            },
            "role_newest",
        ),
        (
            UserFilter {
                status: Some(UserStatus::Erased),
                ..all
            },
            "status_newest",
        ),
        (
            UserFilter {
                role: Some(Role::Admin),
                created_from,
                ..all
            },
            "role_newest",
        ),
    ] {
        for after in [None, Some((at(2_000), Uuid::max()))] {
            let mut query = users.store.list(LIVE, &filter, after, 51).unwrap();
            let explain = format!("EXPLAIN {}", query.sql().as_str());
            let arguments = query.build().take_arguments().unwrap().unwrap();
            let plan: Vec<String> = sqlx::query_scalar_with(AssertSqlSafe(explain), arguments)
                .fetch_all(&users.pool)
                .await
                .unwrap();
            let plan = plan.join("\n");
            let walks = format!("Index Scan Backward using users_g1_{index} ");
            assert!(
                plan.contains(&walks) && !plan.contains("Sort"),
                "{filter:?} {plan}"
            );
        }
    }
}

#[tokio::test]
async fn a_scan_shows_what_the_fold_says() {
    let users = Users::fresh().await;
    users.store.apply(LIVE, &round(0, 0, life())).await.unwrap();
    let mut scanned = Vec::new();
    users
        .store
        .scan(LIVE, |_| true, |user| scanned.push(user))
        .await
        .unwrap();
    let stored = users
        .store
        .user(LIVE, user(1))
        .await
        .unwrap()
        .unwrap()
        .digested();
    assert_eq!(scanned.len(), 2);
    assert!(scanned.contains(&stored));
    assert_eq!(stored.version(), 3);
}

#[tokio::test]
async fn many_rows_are_stored_as_few_are() {
    const USERS: u128 = 900;
    let users = Users::fresh().await;
    let filled = users.store.begin_generation().await.unwrap();
    let (mut offset, mut all) = (0, Vec::new());
    for number in 0..USERS {
        let mut events = vec![(1, registered(user(number), 0))];
        match number % 3 {
            0 => events.push((2, profile_updated(user(number), 1))),
            1 => events.push((2, erased(user(number), 1))),
            _ => {}
        }
        // One by one they are inserted.
        let each = round(0, offset, events.clone());
        offset = each[&0].to;
        users.store.apply(LIVE, &each).await.unwrap();
        all.extend(events);
    }
    // All at once they are copied; what changes one that is there is not.
    let all = round(0, 0, all);
    let end = all[&0].to;
    users.store.apply(filled, &all).await.unwrap();
    let changed = vec![
        (3, email_changed(user(0), 2)),
        (1, registered(user(USERS), 2)),
    ];
    users
        .store
        .apply(filled, &round(0, end, changed.clone()))
        .await
        .unwrap();
    users
        .store
        .apply(LIVE, &round(0, offset, changed))
        .await
        .unwrap();
    let rows = async |table: &str| {
        let sql = format!("SELECT t::text FROM {{s}}.{table} t ORDER BY user_id");
        users.rows(&sql).await
    };
    let (one_by_one, at_once) = (rows("users_g1").await, rows("users_g2").await);
    assert_eq!(one_by_one.len(), usize::try_from(USERS).unwrap() + 1);
    assert_eq!(at_once, one_by_one);

    // One that begins twice is there already, among many as among few.
    let begins = (USERS..2 * USERS).map(|number| (1, registered(user(number), 3)));
    let applied = users
        .store
        .apply(filled, &round(1, 0, begins.collect()))
        .await;
    assert_eq!(applied.unwrap().positions[&1], USERS as i64 + 1);
    let rows = users
        .rows("SELECT created_at::text FROM {s}.users_g2 WHERE user_id::text LIKE '%384'")
        .await;
    let first = users
        .rows("SELECT created_at::text FROM {s}.users_g1 WHERE user_id::text LIKE '%384'")
        .await;
    assert_eq!(rows, first);
}

#[tokio::test]
async fn a_step_over_nothing_moves_the_checkpoint_alone() {
    let users = Users::fresh().await;
    let step: Round<UserEvent> = Round::from([(
        4,
        Part {
            from: 0,
            to: 9,
            facts: Vec::new(),
        },
    )]);
    users.store.apply(LIVE, &step).await.unwrap();
    assert_eq!(
        users.store.checkpoint(LIVE).await.unwrap(),
        Positions::from([(4, 9)])
    );
}
