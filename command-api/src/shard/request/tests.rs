//! Whatever is asked of a shard, and whatever it answers, is the same after it was carried as bytes.

use std::fmt::Debug;

use domain::{
    order::{self, NewStatus, Status},
    user,
    values::{Attributes, Lines, Locale, NewLine, Quantity, Reason, Sku},
};
use events::{
    Actor, Topic, TraceContext,
    ids::{CorrelationId, CredentialId, EmailHash, OrderId, UserId},
    sealed::Sealed,
    timestamp::Timestamp,
    user::{NotificationPreferences, Role},
};
use runtime::{consistency::ConsistencyToken, etag::IfMatch};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::*;
use crate::shard::{
    known::{KeyName, Resource, Versioned},
    question::{Question, Told},
    wire::{self, Reply},
};

const USER: UserId = UserId(Uuid::from_u128(1));
const ORDER: OrderId = OrderId(Uuid::from_u128(3));
const ADDRESS: EmailHash = EmailHash([4; 32]);
const ROW: CredentialId = CredentialId(Uuid::from_u128(5));

/// The sum of the bytes of all that is in this file. What is carried between nodes has changed when it does: then raise
/// `FORMAT` in `wire.rs`, and write the new sum here.
const SUM: &str = "914e31b150778b5ddf1b0962c39f4213f1ac3529ae6cc204792c09436a5ae2de";

#[track_caller]
fn survives<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T) {
    let bytes = postcard::to_stdvec(&value).unwrap();
    assert_eq!(postcard::from_bytes::<T>(&bytes).unwrap(), value);
}

fn sealed() -> Sealed {
    Sealed::from_bytes(vec![0, 1, 255])
}

fn contents() -> order::Contents {
    let line = |name| NewLine {
        sku: Sku::parse("85123A").unwrap(),
        name,
        quantity: Quantity::parse(6).unwrap(),
        unit_price: domain::money::parse_minor("2.55", "GBP".parse().unwrap()).unwrap(),
    };
    let mut attributes = serde_json::Map::new();
    attributes.insert(
        "gift".to_owned(),
        serde_json::json!({"a": [1.5, null, "é"]}),
    );
    order::Contents {
        lines: Lines::parse(vec![line(None)]).unwrap(),
        shipping_address: Some(sealed()),
        note: None,
        attributes: Attributes::parse(attributes).unwrap(),
    }
}

fn registration() -> user::Registration {
    user::Registration {
        user_id: USER,
        email: sealed(),
        email_hash: ADDRESS,
        name: sealed(),
        phone: None,
        locale: Locale::parse("en-GB").unwrap(),
        role: Role::Admin,
        credential_id: ROW,
    }
}

fn requests() -> Vec<Request> {
    let reason = || Some(Reason::parse("why not").unwrap());
    let of_orders = [
        order::Action::Create {
            order_id: ORDER,
            customer_id: USER,
            currency: "GBP".parse().unwrap(),
            contents: contents(),
        },
        order::Action::Update {
            contents: contents(),
        },
        order::Action::SetStatus {
            status: NewStatus::InProgress,
            reason: reason(),
        },
        order::Action::Cancel { reason: None },
    ];
    let of_users = [
        user::Action::Register(registration()),
        user::Action::UpdateProfile(user::ProfilePatch {
            phone: Some(None),
            order_sms: Some(false),
            ..user::ProfilePatch::default()
        }),
        user::Action::ChangePassword {
            credential_id: ROW,
            replaces: ROW,
        },
        user::Action::ChangeEmail {
            email: sealed(),
            email_hash: ADDRESS,
        },
        user::Action::ChangeRole { role: Role::User },
        user::Action::Erase,
    ];
    let (actor, at) = (
        Actor::User(USER, Role::User),
        Timestamp::from_micros(1_795_000_000_000_001),
    );
    let orders = of_orders.into_iter().map(|action| Command::Order {
        id: ORDER,
        command: order::Command { actor, at, action },
    });
    let users = of_users.into_iter().map(|action| Command::User {
        id: USER,
        command: user::Command { actor, at, action },
    });
    let register = Command::Register {
        email_hash: ADDRESS,
        id: USER,
        command: user::Command {
            actor,
            at,
            action: user::Action::Register(registration()),
        },
    };
    let commands = orders.chain(users).chain([register]);
    commands.map(request).collect()
}

fn request(command: Command) -> Request {
    Request {
        command,
        expected: Some(IfMatch::Versions(vec![1, u64::MAX])),
        idempotency: Some(IdempotencyRequest {
            name: KeyName {
                caller: Some(USER),
                resource: Resource::Order(ORDER),
                key: "k".to_owned(),
            },
            fingerprint: [7; 32],
        }),
        correlation_id: CorrelationId(Uuid::from_u128(9)),
        traceparent: TraceContext::new([1; 16], [2; 8], true),
        bytes: 1_048_576,
    }
}

fn user() -> user::User {
    let at = Timestamp::from_micros(1);
    user::User {
        id: USER,
        email: sealed(),
        email_hash: ADDRESS,
        credential_id: ROW,
        role: Role::User,
        profile: user::Profile {
            name: sealed(),
            phone: Some(sealed()),
            locale: Locale::parse("de").unwrap(),
            preferences: NotificationPreferences {
                order_emails: true,
                order_sms: false,
            },
        },
        created_at: at,
        updated_at: at,
    }
}

fn users() -> [user::State; 3] {
    let erased = user::ErasedUser {
        id: USER,
        email_hash: ADDRESS,
        erased_at: Timestamp::from_micros(-1),
    };
    [
        user::State::NotRegistered,
        user::State::Active(user().into()),
        user::State::Erased(erased),
    ]
}

fn orders() -> [order::State; 5] {
    let order = || order::Order {
        id: ORDER,
        customer_id: USER,
        currency: "JPY".parse().unwrap(),
        contents: contents().into(),
        created_at: Timestamp::from_micros(1),
        updated_at: Timestamp::from_micros(2),
    };
    [
        order::State::NotCreated,
        order::State::Created(order()),
        order::State::InProgress(order()),
        order::State::Completed(order()),
        order::State::Cancelled(order()),
    ]
}

fn answer<State>(state: State) -> Answer<State> {
    Answer {
        state,
        version: 3,
        token: Some(ConsistencyToken {
            topic: Topic::Orders,
            partition: 5,
            offset: i64::MAX,
        }),
    }
}

/// Each leads to the next, so that none that is added can be forgotten.
fn next(refused: Refused) -> Option<Refused> {
    Some(match refused {
        Refused::NotFound => Refused::NotAllowed,
        Refused::NotAllowed => Refused::Stale { current: u64::MAX },
        Refused::Stale { .. } => Refused::Order(order::Rejection::AlreadyExists),
        Refused::Order(rejection) => match rejection {
            order::Rejection::AlreadyExists => Refused::Order(order::Rejection::NotCreated),
            order::Rejection::NotCreated => Refused::Order(order::Rejection::ContentsSettled {
                status: Status::Completed,
            }),
            order::Rejection::ContentsSettled { .. } => {
                Refused::Order(order::Rejection::StepNotPossible {
                    from: Status::Cancelled,
                    to: Status::InProgress,
                })
            }
            order::Rejection::StepNotPossible { .. } => {
                Refused::Order(order::Rejection::CancelledTooLate)
            }
            order::Rejection::CancelledTooLate => Refused::User(user::Rejection::AlreadyRegistered),
        },
        Refused::User(rejection) => match rejection {
            user::Rejection::AlreadyRegistered => Refused::User(user::Rejection::NotRegistered),
            user::Rejection::NotRegistered => Refused::User(user::Rejection::Erased),
            user::Rejection::Erased => Refused::User(user::Rejection::PasswordChangedMeanwhile),
            user::Rejection::PasswordChangedMeanwhile => Refused::AddressTaken,
        },
        Refused::AddressTaken => Refused::KeyReused,
        Refused::KeyReused => Refused::KeyInFlight,
        Refused::KeyInFlight => Refused::Unavailable(Why::QueueFull),
        Refused::Unavailable(why) => match why {
            Why::QueueFull => Refused::Unavailable(Why::TooLate),
            Why::TooLate => Refused::Unavailable(Why::ReadAgain),
            Why::ReadAgain => Refused::Unavailable(Why::NotConfirmed),
            Why::NotConfirmed => Refused::Unavailable(Why::Moves),
            Why::Moves => Refused::Unavailable(Why::NotRecorded),
            Why::NotRecorded => Refused::Unavailable(Why::NoOwner),
            Why::NoOwner => Refused::NotOwner,
        },
        Refused::NotOwner => Refused::OutcomeUnknown,
        Refused::OutcomeUnknown => return None,
    })
}

fn outcomes() -> Vec<Reply<Accepted>> {
    let orders = orders().map(|state| Accepted::Order(answer(state)));
    let users = users().map(|state| Accepted::User(answer(state)));
    let accepted = orders.into_iter().chain(users).map(Ok);
    let refused = std::iter::successors(Some(Refused::NotFound), |last| next(*last)).map(Err);
    let not_owner = [None, Some("command-api-2:8082".to_owned())];
    let not_owner = not_owner.map(|owner| Reply::NotOwner { owner });
    let done = accepted.chain(refused).map(Reply::Done);
    done.chain(not_owner).collect()
}

fn questions() -> [Question; 3] {
    [
        Question::User(USER),
        Question::Claimant(ADDRESS),
        Question::Order(ORDER),
    ]
}

fn told() -> Vec<Reply<Told>> {
    let users = users().map(|state| Told::User(Versioned { version: 1, state }));
    let claimants = [None, Some(USER)].map(Told::Claimant);
    let told = users.into_iter().chain(claimants);
    let told = told.chain(orders().map(Told::Order));
    told.map(|told| Reply::Done(Ok(told))).collect()
}

#[test]
fn all_that_is_carried_survives() {
    requests().into_iter().for_each(survives);
    outcomes().into_iter().for_each(survives);
    questions().into_iter().for_each(survives);
    told().into_iter().for_each(survives);
}

#[test]
fn bytes_are_exactly_one_value_or_none() {
    let mut bytes = wire::written(&questions()).unwrap().to_vec();
    assert_eq!(wire::read(&bytes), Some(questions()));
    bytes.push(0);
    assert_eq!(wire::read::<[Question; 3]>(&bytes), None);
    assert_eq!(wire::read::<[Question; 3]>(&bytes[..9]), None);
}

#[test]
fn what_is_carried_changes_with_the_number_of_its_format() {
    let all = (requests(), outcomes(), questions(), told());
    let sum = Sha256::digest(wire::written(&(wire::FORMAT, all)).unwrap());
    let sum = sum.iter().map(|byte| format!("{byte:02x}"));
    assert_eq!(sum.collect::<String>(), SUM);
}
