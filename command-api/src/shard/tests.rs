//! Deciding, with a shard's state and nothing else: versions, keys, order of checks, and that the log alone
//! rebuilds all of it.

use domain::{
    order::{self, Action, Contents},
    user,
    values::{Attributes, Lines, Locale, NewLine, Quantity, Sku},
};
use events::{
    Actor, Envelope,
    ids::{CommandId, CorrelationId, CredentialId, EmailHash, OrderId, UserId},
    sealed::Sealed,
    timestamp::Timestamp,
    user::Role,
};
use runtime::etag::IfMatch;
use uuid::Uuid;

use super::{
    decide::{Decision, decide},
    known::{KeyName, Resource},
    request::{Accepted, Command, IdempotencyRequest, Refused, Request},
    state::ShardState,
    store::{Opening, Reflected},
};

pub(super) const OWNER: UserId = UserId(Uuid::from_u128(1));
const STRANGER: UserId = UserId(Uuid::from_u128(2));
const ORDER: OrderId = OrderId(Uuid::from_u128(3));
const ADDRESS: EmailHash = EmailHash([4; 32]);
const DAY_MICROS: i64 = 24 * 60 * 60 * 1_000_000;

fn user_actor(id: UserId) -> Actor {
    Actor::User(id, Role::User)
}

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn contents(quantity: i64) -> Contents {
    let line = NewLine {
        sku: Sku::parse("85123A").unwrap(),
        name: None,
        quantity: Quantity::parse(quantity).unwrap(),
        unit_price: domain::money::parse_minor("2.55", "GBP".parse().unwrap()).unwrap(),
    };
    Contents {
        lines: Lines::parse(vec![line]).unwrap(),
        shipping_address: None,
        note: None,
        attributes: Attributes::parse(serde_json::Map::new()).unwrap(),
    }
}

fn create(order_id: OrderId) -> Action {
    Action::Create {
        order_id,
        customer_id: OWNER,
        currency: "GBP".parse().unwrap(),
        contents: contents(6),
    }
}

fn order_request(actor: Actor, action: Action) -> Request {
    Request {
        command: Command::Order {
            id: ORDER,
            command: order::Command {
                actor,
                at: at(1),
                action,
            },
        },
        expected: None,
        idempotency: None,
        correlation_id: CorrelationId(Uuid::from_u128(9)),
        traceparent: None,
        bytes: 1,
    }
}

/// A customer's order.
pub(super) fn create_request(customer: UserId) -> Request {
    order_request(user_actor(customer), create(ORDER))
}

fn keyed(order_id: OrderId, fingerprint: u8) -> Request {
    let mut request = order_request(user_actor(OWNER), create(order_id));
    let Command::Order { id, .. } = &mut request.command else {
        unreachable!()
    };
    *id = order_id;
    request.idempotency = Some(IdempotencyRequest {
        name: key_of(Some(OWNER), Resource::Orders),
        fingerprint: [fingerprint; 32],
    });
    request
}

fn key_of(caller: Option<UserId>, resource: Resource) -> KeyName {
    KeyName {
        caller,
        resource,
        key: "k".to_owned(),
    }
}

fn register(id: UserId, address: EmailHash) -> Request {
    let sealed = || Sealed::from_bytes(vec![1]);
    let action = user::Action::Register(user::Registration {
        user_id: id,
        email: sealed(),
        email_hash: address,
        name: sealed(),
        phone: None,
        locale: Locale::parse("en").unwrap(),
        role: Role::User,
        credential_id: CredentialId(Uuid::from_u128(5)),
    });
    let command = user::Command {
        actor: user_actor(id),
        at: at(1),
        action,
    };
    Request {
        command: Command::Register {
            email_hash: address,
            id,
            command,
        },
        expected: None,
        idempotency: None,
        correlation_id: CorrelationId(Uuid::from_u128(9)),
        traceparent: None,
        bytes: 1,
    }
}

/// A shard's state, in a store of its own.
struct Shard {
    state: ShardState,
    _dir: tempfile::TempDir,
}

impl Shard {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = ShardState::open(dir.path(), 0, 1, Opening::Checked, 1 << 20).unwrap();
        Self { state, _dir: dir }
    }
}

impl std::ops::Deref for Shard {
    type Target = ShardState;
    fn deref(&self) -> &ShardState {
        &self.state
    }
}

impl std::ops::DerefMut for Shard {
    fn deref_mut(&mut self) -> &mut ShardState {
        &mut self.state
    }
}

/// Decides a request, and commits it.
fn decided(state: &mut ShardState, request: Request) -> Decision {
    let decision = decide(state, CommandId(Uuid::now_v7()), request).unwrap();
    state.committed(Reflected::new()).unwrap();
    decision
}

fn refusal(decision: Decision) -> Refused {
    assert!(decision.events.is_empty(), "a refusal records nothing");
    decision.answer.unwrap_err()
}

fn order_of(decision: &Decision) -> (&order::State, u64) {
    match decision.answer.as_ref().unwrap() {
        Accepted::Order(answer) => (&answer.state, answer.version),
        Accepted::User(_) => panic!("an answer about a user"),
    }
}

fn versions(events: &[Envelope]) -> Vec<u64> {
    events
        .iter()
        .map(|envelope| envelope.metadata.version)
        .collect()
}

#[test]
fn versions_count_the_events_of_a_stream() {
    let mut state = Shard::new();
    let created = decided(&mut state, order_request(user_actor(OWNER), create(ORDER)));
    let updated = decided(
        &mut state,
        order_request(
            user_actor(OWNER),
            Action::Update {
                contents: contents(7),
            },
        ),
    );
    let again = decided(
        &mut state,
        order_request(
            user_actor(OWNER),
            Action::Update {
                contents: contents(7),
            },
        ),
    );
    assert_eq!(
        (versions(&created.events), versions(&updated.events)),
        (vec![1], vec![2])
    );
    assert!(again.events.is_empty(), "what already is needs no event");
    assert_eq!(order_of(&again).1, 2);
}

#[test]
fn checks_come_in_the_order_of_the_contract() {
    let mut state = Shard::new();
    let stale = || Some(IfMatch::Versions(vec![7]));
    let step = |actor| {
        order_request(
            actor,
            Action::SetStatus {
                status: order::NewStatus::Completed,
                reason: None,
            },
        )
    };
    let with = |mut request: Request, expected| {
        request.expected = expected;
        request
    };
    let unknown = with(step(user_actor(OWNER)), stale());
    assert_eq!(refusal(decided(&mut state, unknown)), Refused::NotFound);
    decided(&mut state, order_request(user_actor(OWNER), create(ORDER)));
    let foreign = with(step(user_actor(STRANGER)), stale());
    assert_eq!(
        refusal(decided(&mut state, foreign)),
        Refused::NotFound,
        "404 before 412"
    );
    let role = with(step(user_actor(OWNER)), stale());
    assert_eq!(
        refusal(decided(&mut state, role)),
        Refused::NotAllowed,
        "403 before 412"
    );
    let admin = Actor::User(STRANGER, Role::Admin);
    assert_eq!(
        refusal(decided(&mut state, with(step(admin), stale()))),
        Refused::Stale { current: 1 },
        "412 before 409"
    );
    let rule = refusal(decided(&mut state, with(step(admin), Some(IfMatch::Any))));
    assert!(
        matches!(
            rule,
            Refused::Order(order::Rejection::StepNotPossible { .. })
        ),
        "{rule:?}"
    );
}

#[test]
fn a_key_replays_its_answer_and_records_nothing_more() {
    let mut state = Shard::new();
    let first = decided(&mut state, keyed(ORDER, 1));
    decided(
        &mut state,
        order_request(user_actor(OWNER), Action::Cancel { reason: None }),
    );
    let retry = decided(&mut state, keyed(OrderId(Uuid::from_u128(77)), 1));
    assert!(retry.events.is_empty());
    assert_eq!(
        order_of(&retry),
        order_of(&first),
        "the first answer, not today's state"
    );
}

#[test]
fn a_key_is_not_for_another_request_nor_for_another_caller() {
    let mut state = Shard::new();
    decided(&mut state, keyed(ORDER, 1));
    assert_eq!(
        refusal(decided(&mut state, keyed(OrderId(Uuid::from_u128(77)), 2))),
        Refused::KeyReused
    );
    let mut other = keyed(OrderId(Uuid::from_u128(78)), 2);
    other.idempotency.as_mut().unwrap().name = key_of(Some(STRANGER), Resource::Orders);
    assert_eq!(decided(&mut state, other).events.len(), 1);
}

#[test]
fn a_key_in_flight_is_not_answered_from_what_is_not_committed() {
    let mut state = Shard::new();
    // The first is decided, and not committed yet.
    decide(&mut state, CommandId(Uuid::now_v7()), keyed(ORDER, 1)).unwrap();
    let again = keyed(OrderId(Uuid::from_u128(77)), 1);
    let decision = decide(&mut state, CommandId(Uuid::now_v7()), again);
    assert_eq!(refusal(decision.unwrap()), Refused::KeyInFlight);
}

#[test]
fn a_refused_command_does_not_use_its_key_up() {
    let mut state = Shard::new();
    let mut request = keyed(ORDER, 1);
    if let Command::Order { command, .. } = &mut request.command {
        command.action = Action::Cancel { reason: None };
    }
    assert_eq!(refusal(decided(&mut state, request)), Refused::NotFound);
    assert_eq!(decided(&mut state, keyed(ORDER, 2)).events.len(), 1);
}

#[test]
fn keys_are_forgotten_after_a_day() {
    let mut state = Shard::new();
    decided(&mut state, keyed(ORDER, 1));
    let key = key_of(Some(OWNER), Resource::Orders);
    let mut counts_at = |micros| state.key(&key, at(micros)).unwrap().is_some();
    assert!(counts_at(1 + DAY_MICROS));
    assert!(!counts_at(2 + DAY_MICROS));
}

#[test]
fn a_key_used_anew_after_a_day_is_not_forgotten_with_its_former_use() {
    let mut log = Vec::new();
    let mut state = Shard::new();
    log.extend(decided(&mut state, keyed(ORDER, 1)).events);
    let mut anew = keyed(OrderId(Uuid::from_u128(77)), 2);
    if let Command::Order { command, .. } = &mut anew.command {
        command.at = at(2 + DAY_MICROS);
    }
    log.extend(decided(&mut state, anew).events);
    let mut rebuilt = Shard::new();
    for envelope in log {
        rebuilt.apply(envelope).unwrap();
    }
    let key = key_of(Some(OWNER), Resource::Orders);
    let record = rebuilt.key(&key, at(3 + DAY_MICROS)).unwrap();
    assert_eq!(record.map(|record| record.fingerprint), Some([2; 32]));
}

#[test]
fn claim_and_registration_are_one_decision() {
    let mut state = Shard::new();
    let first = decided(&mut state, register(OWNER, ADDRESS));
    assert_eq!(versions(&first.events), [1, 1]);
    assert_eq!(
        refusal(decided(&mut state, register(STRANGER, ADDRESS))),
        Refused::AddressTaken
    );
    assert_eq!(
        state.email(ADDRESS).unwrap().state.claimed_by(),
        Some(OWNER)
    );
    assert_eq!(state.user(STRANGER).unwrap().version, 0);
    // The id is taken, the address is not: then neither is recorded.
    let again = refusal(decided(&mut state, register(OWNER, EmailHash([5; 32]))));
    assert_eq!(again, Refused::User(user::Rejection::AlreadyRegistered));
    assert_eq!(state.email(EmailHash([5; 32])).unwrap().version, 0);
}

fn erase(actor: Actor) -> Request {
    let mut request = register(OWNER, ADDRESS);
    let command = user::Command {
        actor,
        at: at(2),
        action: user::Action::Erase,
    };
    request.command = Command::User { id: OWNER, command };
    request
}

#[test]
fn erasure_and_release_are_one_decision() {
    let mut state = Shard::new();
    decided(&mut state, register(OWNER, ADDRESS));
    assert_eq!(
        refusal(decided(&mut state, erase(user_actor(STRANGER)))),
        Refused::NotFound
    );
    assert_eq!(
        state.email(ADDRESS).unwrap().state.claimed_by(),
        Some(OWNER)
    );
    let mut stale = erase(user_actor(OWNER));
    stale.expected = Some(IfMatch::Versions(vec![7]));
    let stale = refusal(decided(&mut state, stale));
    assert_eq!(stale, Refused::Stale { current: 1 });

    let erased = decided(&mut state, erase(user_actor(OWNER)));
    assert_eq!(versions(&erased.events), [2, 2]);
    assert_eq!(state.email(ADDRESS).unwrap().state.claimed_by(), None);
    assert!(state.user(OWNER).unwrap().state.user().is_none());
    // The address is another's now, and stays so when the first is erased once more.
    decided(&mut state, register(STRANGER, ADDRESS));
    let admin = Actor::User(STRANGER, Role::Admin);
    let again = decided(&mut state, erase(admin));
    assert!(again.answer.is_ok() && again.events.is_empty());
    assert_eq!(
        state.email(ADDRESS).unwrap().state.claimed_by(),
        Some(STRANGER)
    );
}

#[test]
fn the_log_alone_rebuilds_what_the_shard_knew() {
    let mut state = Shard::new();
    let mut log = Vec::new();
    for request in [
        register(OWNER, ADDRESS),
        keyed(ORDER, 1),
        order_request(
            user_actor(OWNER),
            Action::Update {
                contents: contents(9),
            },
        ),
        order_request(user_actor(OWNER), Action::Cancel { reason: None }),
    ] {
        log.extend(decided(&mut state, request).events);
    }
    let mut rebuilt = Shard::new();
    for envelope in log {
        rebuilt.apply(envelope).unwrap();
    }
    assert_eq!(
        rebuilt.order(ORDER).unwrap().state,
        state.order(ORDER).unwrap().state
    );
    assert_eq!(rebuilt.order(ORDER).unwrap().version, 3);
    assert_eq!(
        rebuilt.user(OWNER).unwrap().state,
        state.user(OWNER).unwrap().state
    );
    let key = key_of(Some(OWNER), Resource::Orders);
    let known = rebuilt.key(&key, at(1)).unwrap();
    assert!(known.is_some());
    assert_eq!(known, state.key(&key, at(1)).unwrap());
}

#[test]
fn a_gap_or_a_repetition_in_the_log_is_noticed() {
    let mut state = Shard::new();
    let created = decided(&mut state, order_request(user_actor(OWNER), create(ORDER)))
        .events
        .remove(0);
    assert!(state.apply(created.clone()).is_err(), "a repetition");
    let mut skipped = created;
    skipped.metadata.version = 3;
    assert!(state.apply(skipped).is_err(), "a gap");
}
