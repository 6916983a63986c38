//! Every wrong value is reported at once, each with its pointer; a good body becomes exact values.

use serde_json::{Value, json};

use super::*;

fn sent(text: &[u8]) -> Json<'_> {
    json::parse(text).expect("JSON")
}

fn errors<T>(outcome: Result<T, Problem>) -> Vec<(String, &'static str)> {
    let Err(problem) = outcome else {
        panic!("the body should be refused")
    };
    assert_eq!(problem.kind().name, "invalid");
    problem
        .errors()
        .iter()
        .map(|error| (error.pointer.clone(), error.code))
        .collect()
}

fn owned(errors: &[(&str, &'static str)]) -> Vec<(String, &'static str)> {
    errors
        .iter()
        .map(|(pointer, code)| ((*pointer).to_owned(), *code))
        .collect()
}

#[test]
fn a_registration_is_normalised() {
    let body = json!({"email": " Ada@Example.com ", "password": " a password ", "name": " Ada "});
    let new = registration(sent(body.to_string().as_bytes())).unwrap();
    assert_eq!(
        (new.email.as_str(), new.name.as_str()),
        ("ada@example.com", "Ada")
    );
    assert_eq!(
        new.password.expose(),
        " a password ",
        "a password is taken as it is"
    );
    assert_eq!((new.phone, new.locale), (None, Locale::default()));
}

#[test]
fn every_error_of_a_registration_is_reported_at_once_and_repeats_no_secret() {
    let body = json!({
        "email": "ada", "password": "sesame", "name": "\n", "phone": "0151", "locale": "x",
        "role": "admin", "id": "1",
    });
    let outcome = registration(sent(body.to_string().as_bytes()));
    let shown = format!("{:?}", outcome.as_ref().err());
    assert!(!shown.contains("sesame"), "{shown}");
    assert_eq!(
        errors(outcome),
        owned(&[
            ("/email", "not_email"),
            ("/password", "too_short"),
            ("/name", "too_short"),
            ("/phone", "not_e164"),
            ("/locale", "not_bcp47"),
            ("/id", "unknown"),
            ("/role", "unknown"),
        ])
    );
    let nothing = owned(&[
        ("/email", "missing"),
        ("/password", "missing"),
        ("/name", "missing"),
    ]);
    assert_eq!(errors(registration(sent(b"{}"))), nothing);
    let long = json!({"email": "ada@example.com", "password": "x".repeat(129), "name": "Ada"});
    assert_eq!(
        errors(registration(sent(long.to_string().as_bytes()))),
        owned(&[("/password", "too_long")])
    );
}

#[test]
fn a_login_refuses_only_what_is_no_text() {
    let odd = credentials(sent(br#"{"email":"no address","password":""}"#)).unwrap();
    assert_eq!((odd.email, odd.password.as_str()), (None, ""));
    assert_eq!(
        errors(credentials(sent(br#"{"email":1,"otp":"1"}"#))),
        owned(&[
            ("/email", "wrong_type"),
            ("/password", "missing"),
            ("/otp", "unknown")
        ])
    );
}

#[test]
fn a_merge_patch_keeps_changes_and_removes() {
    let patch = |body: Value| profile(sent(body.to_string().as_bytes())).unwrap();
    let nothing = patch(json!({}));
    assert!(nothing.name.is_none() && nothing.phone.is_none() && nothing.locale.is_none());
    assert_eq!((nothing.order_emails, nothing.order_sms), (None, None));
    assert_eq!(patch(json!({"phone": null})).phone, Some(None));
    assert_eq!(
        patch(json!({"locale": null})).locale,
        Some(Locale::default())
    );
    let some = patch(
        json!({"name": "Ada", "phone": "+4915112345678", "preferences": {"order_sms": false}}),
    );
    assert_eq!(some.name.unwrap().as_str(), "Ada");
    assert_eq!(some.phone.unwrap().unwrap().as_str(), "+4915112345678");
    assert_eq!((some.order_emails, some.order_sms), (None, Some(false)));
    let reset = patch(json!({"preferences": null}));
    assert_eq!(
        (reset.order_emails, reset.order_sms),
        (Some(true), Some(true))
    );
    let reset = patch(json!({"preferences": {"order_emails": null}}));
    assert_eq!((reset.order_emails, reset.order_sms), (Some(true), None));
}

#[test]
fn every_error_of_a_patch_is_reported_at_once() {
    let body = json!({
        "name": null, "phone": "+0", "locale": 1, "email": "ada@example.com", "role": "admin",
        "preferences": {"order_emails": "yes", "order_fax": true},
    });
    assert_eq!(
        errors(profile(sent(body.to_string().as_bytes()))),
        owned(&[
            ("/name", "not_removable"),
            ("/phone", "not_e164"),
            ("/locale", "wrong_type"),
            ("/preferences/order_emails", "wrong_type"),
            ("/preferences/order_fax", "unknown"),
            ("/email", "unknown"),
            ("/role", "unknown"),
        ])
    );
}

#[test]
fn there_are_two_roles() {
    assert_eq!(new_role(sent(br#"{"role":"admin"}"#)).unwrap(), Role::Admin);
    assert_eq!(new_role(sent(br#"{"role":"user"}"#)).unwrap(), Role::User);
    assert_eq!(
        errors(new_role(sent(br#"{"role":"root"}"#))),
        owned(&[("/role", "not_a_role")])
    );
}
