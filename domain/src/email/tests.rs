use events::Actor;
use proptest::prelude::*;

use super::*;
use crate::given::{Given, given, sample::*, step};

fn claim(actor: Actor, user_id: UserId) -> Command {
    Command {
        actor,
        at: at(1),
        action: Action::Claim {
            email_hash: email_hash(1),
            user_id,
        },
    }
}

fn release(actor: Actor, user_id: UserId) -> Command {
    Command {
        actor,
        at: at(1),
        action: Action::Release {
            email_hash: email_hash(1),
            user_id,
        },
    }
}

fn claimed(user_id: UserId) -> EmailEvent {
    let fact = UserEmailClaimed {
        email_hash: email_hash(1),
        user_id,
        occurred_at: at(1),
    };
    EmailEvent::Claimed(fact)
}

fn released(user_id: UserId) -> EmailEvent {
    let fact = UserEmailReleased {
        email_hash: email_hash(1),
        user_id,
        occurred_at: at(1),
    };
    EmailEvent::Released(fact)
}

fn past(events: impl IntoIterator<Item = EmailEvent>) -> Given<EmailStream> {
    given(events)
}

#[test]
fn a_free_address_can_be_claimed() {
    let claim_by_ada = past([]).when(claim(OWNER, ADA)).then([claimed(ADA)]);
    assert_eq!(claim_by_ada.state.claimed_by(), Some(ADA));
}

#[test]
fn claiming_ones_own_address_again_changes_nothing() {
    past([claimed(ADA)]).when(claim(OWNER, ADA)).then_nothing();
}

#[test]
fn an_address_is_not_taken_away_from_its_user() {
    past([claimed(ADA)])
        .when(claim(STRANGER, BOB))
        .then_rejected(Rejection::Taken);
    past([claimed(ADA)])
        .when(claim(SYSTEM, BOB))
        .then_rejected(Rejection::Taken);
    let by_another = Rejection::ClaimedByAnother;
    past([claimed(ADA)])
        .when(release(STRANGER, BOB))
        .then_rejected(by_another);
    past([claimed(ADA)])
        .when(release(SYSTEM, BOB))
        .then_rejected(by_another);
}

#[test]
fn a_released_address_is_free_for_everyone() {
    let free = past([claimed(ADA)])
        .when(release(OWNER, ADA))
        .then([released(ADA)]);
    assert_eq!(free.state.claimed_by(), None);
    free.when(claim(STRANGER, BOB)).then([claimed(BOB)]);
}

#[test]
fn releasing_a_free_address_changes_nothing() {
    past([]).when(release(OWNER, ADA)).then_nothing();
    past([claimed(ADA), released(ADA)])
        .when(release(OWNER, ADA))
        .then_nothing();
}

#[test]
fn only_admins_and_the_system_act_for_others() {
    past([])
        .when(claim(STRANGER, ADA))
        .then_refused(Refusal::NotAllowed);
    past([claimed(ADA)])
        .when(release(STRANGER, ADA))
        .then_refused(Refusal::NotAllowed);
    for actor in [ADMIN, SYSTEM] {
        past([]).when(claim(actor, ADA)).then([claimed(ADA)]);
        past([claimed(ADA)])
            .when(release(actor, ADA))
            .then([released(ADA)]);
    }
}

#[test]
fn every_rule_has_its_own_name() {
    assert_eq!(Rejection::Taken.rule(), "email-taken");
    assert_eq!(
        Rejection::ClaimedByAnother.rule(),
        "email-claimed-by-another"
    );
}

proptest! {
    #[test]
    fn an_address_has_one_user_at_a_time(
        commands in prop::collection::vec((any::<bool>(), prop::sample::select(vec![ADA, BOB, ROOT])), 0..30)
    ) {
        let mut state = EmailStream::initial();
        for (is_claim, user_id) in commands {
            let before = state.claimed_by();
            let command = if is_claim { claim(SYSTEM, user_id) } else { release(SYSTEM, user_id) };
            let (events, after) = step::<EmailStream>(state, command);
            let expected = match (before, is_claim) {
                (None, true) => Some(user_id),
                (None, false) => None,
                (Some(owner), true) => Some(owner),
                (Some(owner), false) => Some(owner).filter(|owner| *owner != user_id),
            };
            prop_assert_eq!(after.claimed_by(), expected);
            prop_assert_eq!(events.len(), usize::from(before != expected));
            state = after;
        }
    }
}
