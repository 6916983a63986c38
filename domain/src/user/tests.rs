use events::timestamp::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::given::{
    Cell::{self, Broken, Event, NotAllowed, NotFound, Nothing},
    Given, given,
    sample::*,
    step,
};

fn registration(role: Role) -> Registration {
    Registration {
        user_id: ADA,
        email: sealed("ada@example.com"),
        email_hash: email_hash(1),
        name: sealed("Ada"),
        phone: Some(sealed("+441234567")),
        locale: Locale::parse("en-GB").unwrap(),
        role,
        credential_id: credential(1),
    }
}

fn register() -> Action {
    Action::Register(registration(Role::User))
}

fn rename(name: &str) -> Action {
    Action::UpdateProfile(ProfilePatch {
        name: Some(sealed(name)),
        ..ProfilePatch::default()
    })
}

fn change_password(n: u8) -> Action {
    Action::ChangePassword {
        credential_id: credential(n),
        replaces: credential(1),
    }
}

fn change_email(email: &str, n: u8) -> Action {
    Action::ChangeEmail {
        email: sealed(email),
        email_hash: email_hash(n),
    }
}

fn change_role(role: Role) -> Action {
    Action::ChangeRole { role }
}

fn by(actor: Actor, micros: i64, action: Action) -> Command {
    Command {
        actor,
        at: at(micros),
        action,
    }
}

fn was_registered() -> UserEvent {
    registered(registration(Role::User), at(1))
}

fn was_erased(micros: i64) -> UserEvent {
    UserEvent::Erased(UserErased {
        user_id: ADA,
        occurred_at: at(micros),
    })
}

fn profile_updated(change: impl FnOnce(&mut UserProfileUpdated)) -> UserEvent {
    let mut fact = UserProfileUpdated {
        user_id: ADA,
        name: sealed("Ada"),
        phone: Some(sealed("+441234567")),
        locale: "en-GB".to_owned(),
        preferences: NotificationPreferences::default(),
        occurred_at: at(2),
    };
    change(&mut fact);
    UserEvent::ProfileUpdated(fact)
}

fn unregistered() -> Given<UserStream> {
    given([])
}

fn active() -> Given<UserStream> {
    given([was_registered()])
}

fn erased_one() -> Given<UserStream> {
    given([was_registered(), was_erased(2)])
}

fn updated_at(state: &State) -> Option<Timestamp> {
    state.user().map(|user| user.updated_at)
}

/// Every action; the profile, password, address and role also as they already are.
fn actions() -> [Action; 10] {
    [
        register(),
        rename("Ada Lovelace"),
        rename("Ada"),
        change_password(2),
        change_password(1),
        change_email("countess@example.com", 2),
        change_email("ada@example.com", 1),
        change_role(Role::Admin),
        change_role(Role::User),
        Action::Erase,
    ]
}

#[test]
#[rustfmt::skip]
fn every_cell_of_phase_actor_and_action() {
    const N: Cell = NotFound;
    const F: Cell = NotAllowed;
    // register; profile, as it is; password, as it is; address, as it is; role, as it is; erase
    type Row = (fn() -> Given<UserStream>, Actor, [Cell; 10]);
    let table: [Row; 15] = [
        (unregistered, OWNER,       [Event, N, N, N, N, N, N, N, N, N]),
        (unregistered, STRANGER,    [F, N, N, N, N, N, N, N, N, N]),
        (unregistered, ADMIN,       [Event, N, N, N, N, N, N, N, N, N]),
        (unregistered, OWNER_ADMIN, [Event, N, N, N, N, N, N, N, N, N]),
        (unregistered, SYSTEM,      [Event, N, N, N, N, N, N, N, N, N]),
        (active, OWNER,       [Broken, Event, Nothing, Event, Nothing, Event, Nothing, F, F, Event]),
        (active, STRANGER,    [F, N, N, N, N, N, N, N, N, N]),
        (active, ADMIN,       [Broken, Event, Nothing, F, F, F, F, Event, Nothing, Event]),
        (active, OWNER_ADMIN, [Broken, Event, Nothing, Event, Nothing, Event, Nothing, Event, Nothing, Event]),
        (active, SYSTEM,      [Broken, Event, Nothing, Event, Nothing, Event, Nothing, Event, Nothing, Event]),
        (erased_one, OWNER,       [Broken, Broken, Broken, Broken, Broken, Broken, Broken, F, F, Nothing]),
        (erased_one, STRANGER,    [F, N, N, N, N, N, N, N, N, N]),
        (erased_one, ADMIN,       [Broken, Broken, Broken, F, F, F, F, Broken, Broken, Nothing]),
        (erased_one, OWNER_ADMIN, [Broken, Broken, Broken, Broken, Broken, Broken, Broken, Broken, Broken, Nothing]),
        (erased_one, SYSTEM,      [Broken, Broken, Broken, Broken, Broken, Broken, Broken, Broken, Broken, Nothing]),
    ];
    for (phase, actor, row) in table {
        for (action, expected) in actions().into_iter().zip(row) {
            let before = phase().state;
            let cell = format!("{before:?}, {actor}, {action:?}");
            let outcome = phase().when(by(actor, 9, action));
            assert_eq!(outcome.cell(), expected, "{cell}");
            assert_eq!(outcome.into_state() != before, expected == Event, "{cell}");
        }
    }
}

#[test]
fn registering_makes_an_active_user_who_wants_notifications() {
    let state = unregistered()
        .when(by(OWNER, 1, register()))
        .then([was_registered()])
        .state;
    let user = state.user().unwrap();
    assert_eq!((user.id, user.role), (ADA, Role::User));
    assert_eq!(
        (&user.email, user.email_hash),
        (&sealed("ada@example.com"), email_hash(1))
    );
    assert_eq!(user.credential_id, credential(1));
    assert_eq!(user.profile.locale.as_str(), "en-GB");
    assert_eq!(user.profile.preferences, NotificationPreferences::default());
    assert_eq!((user.created_at, user.updated_at), (at(1), at(1)));
}

#[test]
fn nobody_registers_himself_as_an_admin() {
    let as_admin = Action::Register(registration(Role::Admin));
    unregistered()
        .when(by(OWNER, 1, as_admin.clone()))
        .then_refused(Refusal::NotAllowed);
    let state = unregistered().when(by(SYSTEM, 1, as_admin)).into_state();
    assert_eq!(state.user().unwrap().role, Role::Admin);
}

#[test]
fn a_user_registers_once() {
    active()
        .when(by(OWNER, 9, register()))
        .then_rejected(Rejection::AlreadyRegistered);
    erased_one()
        .when(by(OWNER, 9, register()))
        .then_rejected(Rejection::Erased);
}

#[test]
fn a_patch_changes_what_it_names_and_nothing_else() {
    type Change = fn(&mut UserProfileUpdated);
    let patches: [(ProfilePatch, Change); 6] = [
        (
            ProfilePatch {
                name: Some(sealed("A.")),
                ..ProfilePatch::default()
            },
            |fact| {
                fact.name = sealed("A.");
            },
        ),
        (
            ProfilePatch {
                phone: Some(Some(sealed("+49"))),
                ..ProfilePatch::default()
            },
            |fact| {
                fact.phone = Some(sealed("+49"));
            },
        ),
        (
            ProfilePatch {
                phone: Some(None),
                ..ProfilePatch::default()
            },
            |fact| fact.phone = None,
        ),
        (
            ProfilePatch {
                locale: Locale::parse("de").ok(),
                ..ProfilePatch::default()
            },
            |fact| fact.locale = "de".to_owned(),
        ),
        (
            ProfilePatch {
                order_sms: Some(false),
                ..ProfilePatch::default()
            },
            |fact| {
                fact.preferences.order_sms = false;
            },
        ),
        (
            ProfilePatch {
                order_emails: Some(false),
                ..ProfilePatch::default()
            },
            |fact| {
                fact.preferences.order_emails = false;
            },
        ),
    ];
    for (patch, change) in patches {
        active()
            .when(by(OWNER, 2, Action::UpdateProfile(patch)))
            .then([profile_updated(change)]);
    }
}

#[test]
fn a_profile_change_shows_in_the_user() {
    let patch = ProfilePatch {
        phone: Some(None),
        order_sms: Some(false),
        ..ProfilePatch::default()
    };
    let state = active()
        .when(by(ADMIN, 5, Action::UpdateProfile(patch)))
        .into_state();
    let user = state.user().unwrap();
    assert_eq!(user.profile.phone, None);
    assert!(!user.profile.preferences.order_sms && user.profile.preferences.order_emails);
    assert_eq!(user.profile.name, sealed("Ada"));
    assert_eq!((user.created_at, user.updated_at), (at(1), at(5)));
}

#[test]
fn a_patch_that_changes_nothing_is_already_so() {
    let empty = ProfilePatch::default();
    let same = ProfilePatch {
        name: Some(sealed("Ada")),
        phone: Some(Some(sealed("+441234567"))),
        locale: Locale::parse("en-gb").ok(),
        order_emails: Some(true),
        order_sms: Some(true),
    };
    for patch in [empty, same] {
        active()
            .when(by(OWNER, 9, Action::UpdateProfile(patch)))
            .then_nothing();
    }
}

#[test]
fn password_and_address_are_their_users_alone() {
    for action in [change_password(2), change_email("eve@example.com", 2)] {
        active()
            .when(by(ADMIN, 9, action.clone()))
            .then_refused(Refusal::NotAllowed);
        active()
            .when(by(STRANGER, 9, action.clone()))
            .then_refused(Refusal::NotFound);
        assert_eq!(active().when(by(OWNER, 9, action.clone())).cell(), Event);
        assert_eq!(active().when(by(SYSTEM, 9, action)).cell(), Event);
    }
}

#[test]
fn a_new_password_is_a_new_credential() {
    let fact = UserPasswordChanged {
        user_id: ADA,
        credential_id: credential(2),
        occurred_at: at(2),
    };
    let changed = active()
        .when(by(OWNER, 2, change_password(2)))
        .then([UserEvent::PasswordChanged(fact)]);
    assert_eq!(changed.state.user().unwrap().credential_id, credential(2));
    assert_eq!(updated_at(&changed.state), Some(at(2)));
}

#[test]
fn of_two_changes_that_rest_on_the_same_old_password_the_first_wins() {
    let changed = UserEvent::PasswordChanged(UserPasswordChanged {
        user_id: ADA,
        credential_id: credential(2),
        occurred_at: at(2),
    });
    given::<UserStream>([was_registered(), changed.clone()])
        .when(by(OWNER, 3, change_password(3)))
        .then_rejected(Rejection::PasswordChangedMeanwhile);
    given::<UserStream>([was_registered(), changed])
        .when(by(OWNER, 3, change_password(2)))
        .then_nothing();
}

#[test]
fn a_new_address_replaces_the_old_one() {
    let fact = UserEmailChanged {
        user_id: ADA,
        email: sealed("countess@example.com"),
        email_hash: email_hash(2),
        occurred_at: at(2),
    };
    let changed = active()
        .when(by(OWNER, 2, change_email("countess@example.com", 2)))
        .then([UserEvent::EmailChanged(fact)]);
    let user = changed.state.user().unwrap();
    assert_eq!(
        (&user.email, user.email_hash),
        (&sealed("countess@example.com"), email_hash(2))
    );
}

#[test]
fn roles_are_given_by_admins() {
    let fact = UserRoleChanged {
        user_id: ADA,
        role: Role::Admin,
        occurred_at: at(2),
    };
    active()
        .when(by(ADMIN, 2, change_role(Role::Admin)))
        .then([UserEvent::RoleChanged(fact)]);
    active()
        .when(by(OWNER, 2, change_role(Role::Admin)))
        .then_refused(Refusal::NotAllowed);
    active()
        .when(by(OWNER, 2, change_role(Role::User)))
        .then_refused(Refusal::NotAllowed);
    active()
        .when(by(STRANGER, 2, change_role(Role::Admin)))
        .then_refused(Refusal::NotFound);
}

#[test]
fn a_role_is_given_by_its_name() {
    assert_eq!(parse_role("user"), Ok(Role::User));
    assert_eq!(parse_role("admin"), Ok(Role::Admin));
    assert_eq!(
        parse_role("Admin").map_err(Invalid::code),
        Err("not_one_of")
    );
}

#[test]
fn erasing_keeps_only_what_the_release_of_the_address_needs() {
    for actor in [OWNER, ADMIN, SYSTEM] {
        let after = active()
            .when(by(actor, 2, Action::Erase))
            .then([was_erased(2)]);
        let expected = ErasedUser {
            id: ADA,
            email_hash: email_hash(1),
            erased_at: at(2),
        };
        assert_eq!(after.state, State::Erased(expected));
        assert_eq!(after.state.user(), None);
        after.when(by(actor, 9, Action::Erase)).then_nothing();
    }
}

#[test]
fn erasure_is_for_good() {
    erased_one()
        .when(by(ADMIN, 9, rename("Ada")))
        .then_rejected(Rejection::Erased);
    let back = given::<UserStream>([was_registered(), was_erased(2), profile_updated(|_| ())]);
    assert_eq!(back.state, erased_one().state);
}

#[test]
fn an_unknown_user_and_a_foreign_one_look_the_same() {
    for action in actions().into_iter().skip(1) {
        unregistered()
            .when(by(STRANGER, 9, action.clone()))
            .then_refused(Refusal::NotFound);
        active()
            .when(by(STRANGER, 9, action))
            .then_refused(Refusal::NotFound);
    }
}

#[test]
fn deciding_without_permission_on_an_unknown_user_is_a_rejection() {
    for action in actions().into_iter().skip(1) {
        let decision = UserStream::decide(&State::NotRegistered, by(ADMIN, 1, action));
        assert_eq!(decision, Err(Rejection::NotRegistered));
    }
}

#[test]
fn every_rule_has_its_own_name() {
    assert_eq!(
        Rejection::AlreadyRegistered.rule(),
        "user-registered-already"
    );
    assert_eq!(Rejection::NotRegistered.rule(), "user-does-not-exist");
    assert_eq!(Rejection::Erased.rule(), "user-erased");
    assert_eq!(
        Rejection::PasswordChangedMeanwhile.rule(),
        "password-changed-meanwhile"
    );
}

fn any_command() -> impl Strategy<Value = Command> {
    let name = || prop::sample::select(vec!["Ada", "Countess"]).prop_map(sealed);
    let locale =
        prop::sample::select(vec!["en-GB", "de"]).prop_map(|tag| Locale::parse(tag).unwrap());
    let patch = (
        prop::option::of(name()),
        prop::option::of(prop::option::of(name())),
        prop::option::of(locale),
        any::<Option<bool>>(),
        any::<Option<bool>>(),
    );
    let patch = patch.prop_map(|(name, phone, locale, order_emails, order_sms)| {
        Action::UpdateProfile(ProfilePatch {
            name,
            phone,
            locale,
            order_emails,
            order_sms,
        })
    });
    let action = prop_oneof![
        2 => Just(register()),
        4 => patch,
        2 => (1..4_u8).prop_map(change_password),
        2 => (1..4_u8).prop_map(|n| change_email("ada@example.com", n)),
        2 => prop::sample::select(vec![Role::User, Role::Admin]).prop_map(change_role),
        1 => Just(Action::Erase),
    ];
    let actor = prop::sample::select(vec![OWNER, STRANGER, ADMIN, OWNER_ADMIN, SYSTEM]);
    (actor, 0..1_000_000_i64, action).prop_map(|(actor, micros, action)| by(actor, micros, action))
}

proptest! {
    /// Whatever is commanded by whomever, permitted or not: one event at most, registered once,
    /// erased for good, and what never changes does not change.
    #[test]
    fn no_illegal_state_can_be_reached(commands in prop::collection::vec(any_command(), 1..25)) {
        let mut state = UserStream::initial();
        for command in commands {
            let before = state.clone();
            let when = command.at;
            let (events, after) = step::<UserStream>(state, command);
            prop_assert!(events.len() <= 1);
            if let Some(event) = events.first() {
                prop_assert_eq!(event.occurred_at(), when);
                prop_assert_eq!(event.stream_id(), ADA.into());
            }
            match (&before, &after) {
                (State::NotRegistered, State::NotRegistered | State::Active(_)) => (),
                (State::Active(old), State::Active(new)) => {
                    prop_assert_eq!((old.id, old.created_at), (new.id, new.created_at));
                    prop_assert_eq!(old != new, !events.is_empty());
                }
                (State::Active(old), State::Erased(rest)) => {
                    prop_assert_eq!((old.id, old.email_hash), (rest.id, rest.email_hash));
                }
                (State::Erased(old), State::Erased(new)) => prop_assert_eq!(old, new),
                impossible => prop_assert!(false, "{:?}", impossible),
            }
            state = after;
        }
    }

    /// Nothing that a stranger asks for changes another user.
    #[test]
    fn a_stranger_changes_nothing(command in any_command()) {
        let command = Command { actor: STRANGER, ..command };
        prop_assert_eq!(active().when(command.clone()).into_state(), active().state);
        prop_assert_eq!(unregistered().when(command).into_state(), State::NotRegistered);
    }
}
