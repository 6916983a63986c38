//! What is drawn from facts, and that drawing it twice, late or out of turn does no harm.

use events::{
    Actor, Envelope, EventType, Metadata,
    ids::{CommandId, CorrelationId, CredentialId, EventId},
    sealed::Field,
    timestamp::Timestamp,
    user::{Role, UserErased, UserPasswordChanged, UserRoleChanged},
};
use uuid::Uuid;

use super::*;
use crate::identity::{
    credentials::Credentials,
    sessions::{Begun, Sessions},
    tests::Database,
};

const AT: Timestamp = Timestamp::from_micros(1);

fn recorded(event: Event, version: StreamVersion) -> Recorded {
    let id = Uuid::now_v7();
    let place = Place {
        topic: Topic::Users,
        partition: 0,
        offset: 0,
    };
    let metadata = Metadata {
        event_id: EventId(id),
        source: "test".to_owned(),
        time: AT,
        version,
        command_id: CommandId(id),
        correlation_id: CorrelationId(id),
        causation_id: id,
        actor: Actor::System,
        idempotency: None,
        traceparent: None,
    };
    Recorded {
        place,
        envelope: Envelope { metadata, event },
    }
}

fn role_changed(user_id: UserId) -> Event {
    Event::UserRoleChanged(UserRoleChanged {
        user_id,
        role: Role::Admin,
        occurred_at: AT,
    })
}

fn erased(user_id: UserId) -> Event {
    Event::UserErased(UserErased {
        user_id,
        occurred_at: AT,
    })
}

fn user() -> UserId {
    UserId(Uuid::now_v7())
}

async fn session(sessions: &Sessions, user_id: UserId, user_version: StreamVersion) -> String {
    let session = Begun {
        user_id,
        user_version,
        credential_id: CredentialId(Uuid::nil()),
    };
    sessions.begin(session).await.unwrap().expose().to_owned()
}

async fn is_open(sessions: &Sessions, token: &str) -> bool {
    sessions.session(token).await.unwrap().is_some()
}

async fn cutoff(pool: &PgPool, user_id: UserId) -> Option<i64> {
    sqlx::query_scalar("SELECT user_version FROM identity.token_cutoffs WHERE user_id = $1")
        .bind(user_id.0)
        .fetch_optional(pool)
        .await
        .unwrap()
}

#[test]
fn only_changes_of_role_and_password_and_erasure_mean_something() {
    let (ada, bob) = (user(), user());
    let password_changed = Event::UserPasswordChanged(UserPasswordChanged {
        user_id: bob,
        credential_id: CredentialId(Uuid::nil()),
        occurred_at: AT,
    });
    let meant = Meant::by(&[
        recorded(role_changed(ada), 2),
        recorded(password_changed, 5),
        recorded(erased(ada), 3),
    ]);
    let expected = Meant {
        erased: [ada].into(),
        cut: [(ada, 3), (bob, 5)].into(),
        replacing: vec![CredentialId(Uuid::nil())],
    };
    assert_eq!(meant, expected);
    assert_eq!(
        EventType::ALL.len(),
        12,
        "another event: what does it mean here?"
    );
}

#[tokio::test]
async fn a_change_of_role_ends_what_was_begun_before_it_and_nothing_else() {
    let database = Database::create().await;
    let (pool, sessions) = (&database.pool, database.sessions());
    let (ada, bob) = (user(), user());
    let (before, others) = (
        session(&sessions, ada, 2).await,
        session(&sessions, bob, 1).await,
    );
    let meant = Meant::by(&[recorded(role_changed(ada), 3)]);
    record(pool, &meant, 0, 10).await.unwrap();
    assert!(!is_open(&sessions, &before).await);
    assert!(is_open(&sessions, &others).await);
    assert_eq!(
        (cutoff(pool, ada).await, cutoff(pool, bob).await),
        (Some(3), None)
    );

    // Another node comes to the same fact later: who has logged in since stays.
    let since = session(&sessions, ada, 3).await;
    record(pool, &meant, 0, 9).await.unwrap();
    assert!(is_open(&sessions, &since).await);
    assert_eq!(
        checkpoint(pool).await.unwrap(),
        Positions::from([(0, 10)]),
        "never back"
    );
    let earlier = Meant::by(&[recorded(role_changed(ada), 2)]);
    record(pool, &earlier, 0, 9).await.unwrap();
    assert_eq!(cutoff(pool, ada).await, Some(3), "never back");
    database.drop().await;
}

#[tokio::test]
async fn an_erasure_leaves_nothing_to_open_or_sign_in_with() {
    let database = Database::create().await;
    let (pool, sessions, keys) = (&database.pool, database.sessions(), database.data_keys(1));
    let credentials = Credentials::new(pool.clone());
    let (ada, bob) = (user(), user());
    let names = [CredentialId(Uuid::now_v7()), CredentialId(Uuid::now_v7())];
    let mut sealed = Vec::new();
    for (user_id, name) in [ada, bob].into_iter().zip(names) {
        let key = keys.create(user_id).await.unwrap();
        sealed.push(key.seal(user_id, Field::Name, "Atlantis").unwrap());
        let added = credentials.add(name, user_id, None, "hash").await;
        added.unwrap();
    }
    let token = session(&sessions, ada, 1).await;
    record(pool, &Meant::by(&[recorded(erased(ada), 2)]), 4, 1)
        .await
        .unwrap();
    assert!(!is_open(&sessions, &token).await);
    assert_eq!(credentials.password_hash(names[0]).await.unwrap(), None);
    assert!(credentials.password_hash(names[1]).await.unwrap().is_some());
    // Whoever comes now with the right wrapping key opens his own, and nothing opens hers.
    let keys = database.data_keys(1);
    assert!(keys.get(ada).await.unwrap().is_none());
    let his = keys.get(bob).await.unwrap().unwrap();
    assert!(his.open(bob, Field::Name, &sealed[1]).is_ok());
    for subject in [ada, bob] {
        assert!(his.open(subject, Field::Name, &sealed[0]).is_err());
    }
    // A new key for the same user would open nothing either.
    let hers = keys.create(ada).await.unwrap();
    assert!(hers.open(ada, Field::Name, &sealed[0]).is_err());
    assert_eq!(cutoff(pool, ada).await, Some(2));
    database.drop().await;
}

#[tokio::test]
async fn a_new_password_takes_the_row_of_the_old_one_with_it_and_no_other() {
    let database = Database::create().await;
    let credentials = Credentials::new(database.pool.clone());
    let ada = user();
    let [first, second, third] = [1, 2, 3].map(|_| CredentialId(Uuid::now_v7()));
    for (id, replaces) in [(first, None), (second, Some(first)), (third, Some(second))] {
        credentials.add(id, ada, replaces, "hash").await.unwrap();
    }
    let changed = |credential_id, version| {
        let fact = UserPasswordChanged {
            user_id: ada,
            credential_id,
            occurred_at: AT,
        };
        Meant::by(&[recorded(Event::UserPasswordChanged(fact), version)])
    };
    // The third is only being stored. Drawn again, late, nothing more goes.
    for _ in 0..2 {
        let drawn = record(&database.pool, &changed(second, 2), 0, 1).await;
        drawn.unwrap();
        for (id, stays) in [(first, false), (second, true), (third, true)] {
            let hash = credentials.password_hash(id).await.unwrap();
            assert_eq!(hash.is_some(), stays, "{id:?}");
        }
    }
    database.drop().await;
}

#[tokio::test]
async fn whoever_waits_is_told_when_it_is_done() {
    let (sender, receiver) = watch::channel(Positions::from([(1, 5)]));
    let drawn = Drawn(receiver);
    let token = |topic, offset| ConsistencyToken {
        topic,
        partition: 1,
        offset,
    };
    assert!(drawn.up_to(None).await.is_ok());
    assert!(drawn.up_to(Some(token(Topic::Users, 4))).await.is_ok());
    assert!(drawn.up_to(Some(token(Topic::Orders, 99))).await.is_ok());
    let waiting = tokio::spawn(async move { drawn.up_to(Some(token(Topic::Users, 5))).await });
    sender.send_modify(|positions| {
        positions.insert(1, 6);
    });
    assert!(waiting.await.unwrap().is_ok());
}
