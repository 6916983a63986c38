use proptest::prelude::*;

use super::*;
use crate::{
    given::{
        Cell::{self, Broken, Event, NotAllowed, NotFound, Nothing},
        Given, given,
        sample::*,
        step,
    },
    money::parse_minor,
    values::{NewLine, Quantity, Sku},
};

fn eur() -> Currency {
    "EUR".parse().unwrap()
}

fn line(quantity: i64, unit_price: &str) -> NewLine {
    NewLine {
        sku: Sku::parse("TEA-1").unwrap(),
        name: None,
        quantity: Quantity::parse(quantity).unwrap(),
        unit_price: parse_minor(unit_price, eur()).unwrap(),
    }
}

fn contents(quantity: i64) -> Contents {
    Contents {
        lines: Lines::parse(vec![line(quantity, "2.50"), line(1, "0.99")]).unwrap(),
        shipping_address: Some(sealed("address")),
        note: None,
        attributes: Attributes::default(),
    }
}

fn create() -> Action {
    Action::Create {
        order_id: ORDER,
        customer_id: ADA,
        currency: eur(),
        contents: contents(1),
    }
}

fn update(quantity: i64) -> Action {
    Action::Update {
        contents: contents(quantity),
    }
}

fn set(status: NewStatus) -> Action {
    Action::SetStatus {
        status,
        reason: None,
    }
}

fn because(text: &str) -> Option<Reason> {
    Some(Reason::parse(text).unwrap())
}

fn by(actor: Actor, micros: i64, action: Action) -> Command {
    Command {
        actor,
        at: at(micros),
        action,
    }
}

fn was_created() -> OrderEvent {
    created(ORDER, ADA, eur(), contents(1), at(1))
}

fn stepped_to(status: OrderStep) -> OrderEvent {
    OrderEvent::StatusChanged(OrderStatusChanged {
        order_id: ORDER,
        customer_id: ADA,
        status,
        reason: None,
        occurred_at: at(2),
    })
}

fn was_cancelled() -> OrderEvent {
    OrderEvent::Cancelled(OrderCancelled {
        order_id: ORDER,
        customer_id: ADA,
        reason: None,
        occurred_at: at(2),
    })
}

/// An order in the phase `status`; `None` is one that does not exist.
fn order_in(status: Option<Status>) -> Given<OrderStream> {
    given(match status {
        None => vec![],
        Some(Status::Created) => vec![was_created()],
        Some(Status::InProgress) => vec![was_created(), stepped_to(OrderStep::InProgress)],
        Some(Status::Completed) => vec![
            was_created(),
            stepped_to(OrderStep::InProgress),
            stepped_to(OrderStep::Completed),
        ],
        Some(Status::Cancelled) => vec![was_created(), was_cancelled()],
    })
}

/// Every action, with the status that it leads to where it has an event.
fn actions() -> [(Action, Status); 7] {
    [
        (create(), Status::Created),
        (update(2), Status::Created),
        (update(1), Status::Created),
        (set(NewStatus::InProgress), Status::InProgress),
        (set(NewStatus::Completed), Status::Completed),
        (set(NewStatus::Cancelled), Status::Cancelled),
        (Action::Cancel { reason: None }, Status::Cancelled),
    ]
}

#[test]
#[rustfmt::skip]
fn every_cell_of_phase_actor_and_action() {
    let strangers = [NotAllowed, NotFound, NotFound, NotFound, NotFound, NotFound, NotFound];
    let unknown = [Event, NotFound, NotFound, NotFound, NotFound, NotFound, NotFound];
    // By the owner, by an admin; to: create, update, update with the same contents, begin, complete,
    // cancel by status, cancel.
    let table: [(Option<Status>, [Cell; 7], [Cell; 7]); 5] = [
        (None, unknown, unknown),
        (Some(Status::Created),
            [Broken, Event, Nothing, NotAllowed, NotAllowed, Event, Event],
            [Broken, Event, Nothing, Event, Broken, Event, Event]),
        (Some(Status::InProgress),
            [Broken, Broken, Nothing, NotAllowed, NotAllowed, Broken, Broken],
            [Broken, Broken, Nothing, Nothing, Event, Event, Event]),
        (Some(Status::Completed),
            [Broken, Broken, Nothing, NotAllowed, NotAllowed, Broken, Broken],
            [Broken, Broken, Nothing, Broken, Nothing, Broken, Broken]),
        (Some(Status::Cancelled),
            [Broken, Broken, Nothing, NotAllowed, NotAllowed, Nothing, Nothing],
            [Broken, Broken, Nothing, Broken, Broken, Nothing, Nothing]),
    ];
    for (phase, owner, admin) in table {
        for (actor, row) in
            [(OWNER, owner), (STRANGER, strangers), (ADMIN, admin), (OWNER_ADMIN, admin), (SYSTEM, admin)]
        {
            for ((action, leads_to), expected) in actions().into_iter().zip(row) {
                let cell = format!("{phase:?}, {actor}, {action:?}");
                let outcome = order_in(phase).when(by(actor, 9, action));
                assert_eq!(outcome.cell(), expected, "{cell}");
                let status = if expected == Event { Some(leads_to) } else { phase };
                assert_eq!(outcome.into_state().status(), status, "{cell}");
            }
        }
    }
}

#[test]
fn creating_records_the_contents_with_amounts_and_total() {
    let order = order_in(None)
        .when(by(OWNER, 1, create()))
        .then([was_created()]);
    let order = order.state.order().unwrap().clone();
    let amounts: Vec<i64> = order.lines().iter().map(|line| line.amount_minor).collect();
    assert_eq!(amounts, [250, 99]);
    assert_eq!(order.total_minor(), 349);
    assert_eq!(
        (order.id, order.customer_id, order.currency),
        (ORDER, ADA, eur())
    );
    assert_eq!((order.created_at, order.updated_at), (at(1), at(1)));
}

#[test]
fn an_order_is_created_once() {
    for phase in [
        Status::Created,
        Status::InProgress,
        Status::Completed,
        Status::Cancelled,
    ] {
        order_in(Some(phase))
            .when(by(OWNER, 9, create()))
            .then_rejected(Rejection::AlreadyExists);
    }
}

#[test]
fn only_an_admin_orders_for_somebody_else() {
    order_in(None)
        .when(by(STRANGER, 1, create()))
        .then_refused(Refusal::NotAllowed);
    order_in(None)
        .when(by(ADMIN, 1, create()))
        .then([was_created()]);
}

#[test]
fn updating_replaces_the_contents_and_nothing_else() {
    let after = order_in(Some(Status::Created)).when(by(OWNER, 5, update(3)));
    let order = after.into_state().order().unwrap().clone();
    assert_eq!(*order.contents, contents(3));
    assert_eq!(order.total_minor(), 849);
    assert_eq!(
        (order.id, order.customer_id, order.currency),
        (ORDER, ADA, eur())
    );
    assert_eq!((order.created_at, order.updated_at), (at(1), at(5)));
}

#[test]
fn any_part_of_the_contents_counts_as_a_change() {
    let same = contents(1);
    let changed = [
        Contents {
            note: Some(sealed("note")),
            ..same.clone()
        },
        Contents {
            shipping_address: None,
            ..same.clone()
        },
        Contents {
            shipping_address: Some(sealed("elsewhere")),
            ..same.clone()
        },
        Contents {
            attributes: Attributes::recorded(r#"{"gift":true}"#),
            ..same.clone()
        },
        Contents {
            lines: Lines::parse(vec![line(1, "3.49")]).unwrap(),
            ..same
        },
    ];
    for contents in changed {
        let command = by(OWNER, 5, Action::Update { contents });
        assert_eq!(order_in(Some(Status::Created)).when(command).cell(), Event);
    }
}

#[test]
fn contents_are_settled_once_work_began() {
    for status in [Status::InProgress, Status::Completed, Status::Cancelled] {
        for actor in [OWNER, ADMIN] {
            order_in(Some(status))
                .when(by(actor, 9, update(2)))
                .then_rejected(Rejection::ContentsSettled { status });
        }
    }
}

#[test]
fn an_order_is_begun_and_completed_by_an_admin() {
    order_in(Some(Status::Created))
        .when(by(ADMIN, 2, set(NewStatus::InProgress)))
        .then([stepped_to(OrderStep::InProgress)])
        .when(by(ADMIN, 2, set(NewStatus::Completed)))
        .then([stepped_to(OrderStep::Completed)]);
}

#[test]
fn no_step_is_left_out_or_taken_back() {
    use Status::{Cancelled, Completed, Created, InProgress};
    for (from, to) in [
        (Created, NewStatus::Completed),
        (Completed, NewStatus::InProgress),
        (Completed, NewStatus::Cancelled),
        (Cancelled, NewStatus::InProgress),
        (Cancelled, NewStatus::Completed),
    ] {
        let rejection = Rejection::StepNotPossible {
            from,
            to: to.into(),
        };
        order_in(Some(from))
            .when(by(ADMIN, 9, set(to)))
            .then_rejected(rejection);
    }
    assert_eq!(InProgress.name(), "in_progress");
}

#[test]
fn the_owner_cancels_only_while_nobody_works_on_it() {
    for action in [Action::Cancel { reason: None }, set(NewStatus::Cancelled)] {
        order_in(Some(Status::Created))
            .when(by(OWNER, 2, action.clone()))
            .then([was_cancelled()]);
        order_in(Some(Status::InProgress))
            .when(by(OWNER, 2, action.clone()))
            .then_rejected(Rejection::CancelledTooLate);
        order_in(Some(Status::InProgress))
            .when(by(ADMIN, 2, action))
            .then([was_cancelled()]);
    }
}

#[test]
fn the_owner_takes_no_step_but_cancelling_whatever_the_state() {
    for phase in [
        Status::Created,
        Status::InProgress,
        Status::Completed,
        Status::Cancelled,
    ] {
        for status in [NewStatus::InProgress, NewStatus::Completed] {
            order_in(Some(phase))
                .when(by(OWNER, 9, set(status)))
                .then_refused(Refusal::NotAllowed);
        }
    }
}

#[test]
fn an_unknown_order_and_a_foreign_one_look_the_same() {
    for phase in [None, Some(Status::Created), Some(Status::Cancelled)] {
        for (action, _) in actions().into_iter().skip(1) {
            order_in(phase)
                .when(by(STRANGER, 9, action))
                .then_refused(Refusal::NotFound);
        }
    }
}

#[test]
fn a_reason_is_kept_with_the_step_it_explains() {
    let begin = Action::SetStatus {
        status: NewStatus::InProgress,
        reason: because("stock arrived"),
    };
    let OrderEvent::StatusChanged(mut begun) = stepped_to(OrderStep::InProgress) else {
        panic!("not a step")
    };
    begun.reason = Some("stock arrived".to_owned());
    let OrderEvent::Cancelled(mut cancelled) = was_cancelled() else {
        panic!("not cancelled")
    };
    cancelled.reason = Some("too late".to_owned());
    order_in(Some(Status::Created))
        .when(by(ADMIN, 2, begin))
        .then([OrderEvent::StatusChanged(begun)])
        .when(by(
            ADMIN,
            2,
            Action::Cancel {
                reason: because("too late"),
            },
        ))
        .then([OrderEvent::Cancelled(cancelled)]);
}

#[test]
fn another_reason_for_what_already_is_changes_nothing() {
    let again = Action::Cancel {
        reason: because("another reason"),
    };
    order_in(Some(Status::Cancelled))
        .when(by(OWNER, 9, again))
        .then_nothing();
    let again = Action::SetStatus {
        status: NewStatus::Completed,
        reason: because("really"),
    };
    order_in(Some(Status::Completed))
        .when(by(ADMIN, 9, again))
        .then_nothing();
}

#[test]
fn deciding_without_permission_on_an_unknown_order_is_a_rejection() {
    for (action, _) in actions().into_iter().skip(1) {
        let decision = OrderStream::decide(&State::NotCreated, by(ADMIN, 1, action));
        assert_eq!(decision, Err(Rejection::NotCreated));
    }
}

#[test]
fn a_fact_about_an_order_never_created_changes_nothing() {
    for event in [stepped_to(OrderStep::Completed), was_cancelled()] {
        assert_eq!(
            OrderStream::evolve(State::NotCreated, &event),
            State::NotCreated
        );
    }
}

#[test]
fn every_rule_has_its_own_name_and_sentence() {
    let rejections = [
        Rejection::AlreadyExists,
        Rejection::NotCreated,
        Rejection::ContentsSettled {
            status: Status::InProgress,
        },
        Rejection::StepNotPossible {
            from: Status::Created,
            to: Status::Completed,
        },
        Rejection::CancelledTooLate,
    ];
    let rules: std::collections::BTreeSet<_> = rejections
        .iter()
        .map(|rejection| rejection.rule())
        .collect();
    assert_eq!(rules.len(), rejections.len());
    assert_eq!(rejections[3].rule(), "order-step-not-possible");
    assert_eq!(
        rejections[3].to_string(),
        "an order cannot go from created to completed"
    );
}

#[test]
fn a_status_is_asked_for_by_its_name() {
    for status in [
        NewStatus::InProgress,
        NewStatus::Completed,
        NewStatus::Cancelled,
    ] {
        assert_eq!(NewStatus::parse(Status::from(status).name()), Ok(status));
    }
    for name in ["created", "Cancelled", " cancelled", ""] {
        assert_eq!(
            NewStatus::parse(name).map_err(Invalid::code),
            Err("not_one_of"),
            "{name}"
        );
    }
}

#[test]
fn a_clone_shares_the_contents() {
    let state = order_in(Some(Status::Created)).state;
    let copy = state.clone();
    let shares = Arc::ptr_eq(
        &state.order().unwrap().contents,
        &copy.order().unwrap().contents,
    );
    assert!(shares);
    assert!(size_of::<State>() <= 72, "{} bytes", size_of::<State>());
}

fn any_actor() -> impl Strategy<Value = Actor> {
    prop::sample::select(vec![OWNER, STRANGER, ADMIN, OWNER_ADMIN, SYSTEM])
}

fn any_contents() -> impl Strategy<Value = Contents> {
    let line = (1..=1_000_000_i64, 0..=1_000_000_u32).prop_map(|(quantity, price)| {
        line(quantity, &format!("{}.{:02}", price / 100, price % 100))
    });
    let note = prop::option::of(prop::sample::select(vec![
        "ring twice",
        "leave at the door",
    ]));
    (prop::collection::vec(line, 1..5), note).prop_map(|(lines, note)| Contents {
        lines: Lines::parse(lines).unwrap(),
        note: note.map(sealed),
        ..contents(1)
    })
}

fn any_action() -> impl Strategy<Value = Action> {
    let customer = prop::sample::select(vec![ADA, BOB]);
    let status = prop::sample::select(vec![
        NewStatus::InProgress,
        NewStatus::Completed,
        NewStatus::Cancelled,
    ]);
    let reason = prop::option::of("[a-z ]{0,20}".prop_map(|text| Reason::parse(&text).unwrap()));
    prop_oneof![
        (customer, any_contents()).prop_map(|(customer_id, contents)| Action::Create {
            order_id: ORDER,
            customer_id,
            currency: eur(),
            contents
        }),
        any_contents().prop_map(|contents| Action::Update { contents }),
        (status, reason.clone()).prop_map(|(status, reason)| Action::SetStatus { status, reason }),
        reason.prop_map(|reason| Action::Cancel { reason }),
    ]
}

fn any_command() -> impl Strategy<Value = Command> {
    (any_actor(), 0..1_000_000_i64, any_action())
        .prop_map(|(actor, micros, action)| by(actor, micros, action))
}

/// The one list of steps that an order may take.
fn is_a_step(from: Option<Status>, to: Option<Status>) -> bool {
    use Status::{Cancelled, Completed, Created, InProgress};
    matches!(
        (from, to),
        (None, Some(Created))
            | (Some(Created), Some(Created | InProgress | Cancelled))
            | (Some(InProgress), Some(Completed | Cancelled))
    )
}

fn check_sums(order: &Order) {
    let sum: i64 = order.lines().iter().map(|line| line.amount_minor).sum();
    assert_eq!(order.total_minor(), sum);
    for line in order.lines() {
        assert_eq!(
            line.amount_minor,
            line.unit_price_minor * i64::from(line.quantity)
        );
    }
}

proptest! {
    /// Whatever is commanded by whomever, permitted or not: one event at most, only legal steps, right
    /// sums, and what never changes does not change.
    #[test]
    fn no_illegal_state_can_be_reached(commands in prop::collection::vec(any_command(), 1..25)) {
        let mut state = OrderStream::initial();
        for command in commands {
            let before = state.clone();
            let when = command.at;
            let (events, after) = step::<OrderStream>(state, command);
            prop_assert!(events.len() <= 1);
            if let Some(event) = events.first() {
                prop_assert!(is_a_step(before.status(), after.status()));
                prop_assert_eq!(event.occurred_at(), when);
                prop_assert_eq!(event.stream_id(), ORDER.into());
                let order = after.order().unwrap();
                check_sums(order);
                prop_assert_eq!(order.updated_at, when);
                if let Some(before) = before.order() {
                    prop_assert_eq!(order.customer_id, before.customer_id);
                    prop_assert_eq!(order.created_at, before.created_at);
                    prop_assert_eq!(order.currency, before.currency);
                }
            }
            state = after;
        }
    }

    /// Only who is permitted changes anything, and permission depends on nothing but phase and owner.
    #[test]
    fn a_stranger_changes_nothing_of_an_existing_order(action in any_action()) {
        for phase in [Status::Created, Status::InProgress, Status::Completed, Status::Cancelled] {
            let is_create = matches!(action, Action::Create { .. });
            let outcome = order_in(Some(phase)).when(by(STRANGER, 9, action.clone()));
            prop_assert!(is_create || outcome.cell() == NotFound);
            prop_assert_eq!(outcome.into_state(), order_in(Some(phase)).state);
        }
    }

    /// Facts are believed in any order, even one that no decision makes.
    #[test]
    fn any_sequence_of_events_can_be_folded(
        events in prop::collection::vec(prop::sample::select(vec![
            was_created(),
            stepped_to(OrderStep::InProgress),
            stepped_to(OrderStep::Completed),
            was_cancelled(),
        ]), 0..20)
    ) {
        let was_ever_created = events.contains(&was_created());
        let state = given::<OrderStream>(events).state;
        prop_assert_eq!(state.order().is_some(), was_ever_created);
    }
}
