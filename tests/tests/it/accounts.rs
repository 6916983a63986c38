//! Registering, logging in, one's own record, and changing it.

use end_to_end::{
    beside_others,
    http::{Answer, command},
    people::{PASSWORD, User, log_in, registered_user, registration, unique_email, unique_phone},
};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

async fn register(body: &Value) -> Answer {
    command(Method::POST, "/register").json(body).send().await
}

async fn patch(user: &User, body: &Value) -> Answer {
    user.command(Method::PATCH, &format!("/users/{}", user.id))
        .body("application/merge-patch+json", body.to_string())
        .send()
        .await
}

#[test]
fn a_registered_user_can_log_in_at_once_and_read_what_he_registered() {
    beside_others(async {
        let (email, phone) = (unique_email(), unique_phone());
        let mut body = registration(&email);
        body["phone"] = json!(phone);
        let registered = register(&body).await.is(201);
        let id = registered.text("id");
        assert!(
            registered
                .header("location")
                .ends_with(&format!("/users/{id}"))
        );
        assert_eq!(registered.etag(), "\"1\"");
        assert_eq!(registered.header("cache-control"), "no-store");

        let login = log_in(&email, PASSWORD).await.json();
        assert_eq!(login["token_type"], "Bearer");
        assert_eq!(login["expires_in"], 900);
        let token = login["access_token"].as_str().unwrap();
        let after = registered.consistency_token();
        let me = end_to_end::http::query("/users/me")
            .token(token)
            .after(&after)
            .send()
            .await
            .is(200);
        assert_eq!(me.etag(), "\"1\"");
        let mut me_body = me.json();
        let (created_at, updated_at) = (me_body["created_at"].take(), me_body["updated_at"].take());
        assert_eq!(created_at, updated_at);
        assert!(created_at.as_str().unwrap().ends_with('Z'), "{created_at}");
        assert_eq!(
            me_body,
            json!({
                "id": id, "email": email, "name": "Ada Lovelace", "phone": phone, "locale": "en-GB",
                "role": "user", "status": "active", "email_verified": false,
                "preferences": {"order_emails": true, "order_sms": true},
                "version": 1, "created_at": null, "updated_at": null,
            })
        );
        let by_id = end_to_end::http::query(&format!("/users/{id}"))
            .token(token)
            .send()
            .await
            .is(200);
        assert_eq!(by_id.body, me.body);
    });
}

#[test]
fn an_address_is_registered_once_in_whatever_letter_case() {
    beside_others(async {
        let email = unique_email();
        register(&registration(&email)).await.is(201);
        for again in [email.clone(), email.to_uppercase(), format!("  {email} ")] {
            register(&registration(&again))
                .await
                .problem(409, "address-taken");
        }
        log_in(&email.to_uppercase(), PASSWORD).await;
    });
}

#[test]
fn of_many_registrations_of_one_address_at_once_exactly_one_succeeds() {
    beside_others(async {
        let body = registration(&unique_email());
        let answers = join_all((0..6).map(|_| register(&body))).await;
        let accepted = answers.iter().filter(|answer| answer.status == 201).count();
        assert_eq!(accepted, 1, "{answers:?}");
        for answer in answers.iter().filter(|answer| answer.status != 201) {
            answer.problem(409, "address-taken");
        }
    });
}

#[test]
fn a_wrong_password_and_an_unknown_address_look_the_same() {
    beside_others(async {
        let user = registered_user().await;
        let attempt = async |email: &str, password: &str| {
            let body = json!({"email": email, "password": password});
            let answer = command(Method::POST, "/login").json(&body).send().await;
            answer.problem(401, "not-authenticated");
            answer.body
        };
        let wrong = attempt(&user.email, "not the right password").await;
        assert_eq!(wrong, attempt(&unique_email(), PASSWORD).await);
    });
}

#[test]
fn every_character_of_a_long_password_counts() {
    beside_others(async {
        let email = unique_email();
        let long = "ä".repeat(60);
        let mut body = registration(&email);
        body["password"] = json!(format!("{long}right"));
        register(&body).await.is(201);
        log_in(&email, &format!("{long}right")).await;
        let wrong = json!({"email": email, "password": format!("{long}wrong")});
        let answer = command(Method::POST, "/login").json(&wrong).send().await;
        answer.problem(401, "not-authenticated");
    });
}

#[test]
fn a_profile_is_changed_by_merge_patch() {
    beside_others(async {
        let user = registered_user().await;
        let phone = unique_phone();
        let changed = patch(
            &user,
            &json!({"phone": phone, "preferences": {"order_sms": false}}),
        )
        .await
        .is(200);
        assert_eq!(changed.etag(), "\"2\"");
        let body = changed.json();
        assert_eq!(body["phone"], phone);
        assert_eq!(body["name"], "Ada Lovelace");
        assert_eq!(
            body["preferences"],
            json!({"order_emails": true, "order_sms": false})
        );
        let read = user
            .query("/users/me")
            .after(&changed.consistency_token())
            .send()
            .await
            .is(200);
        assert_eq!(read.json(), body);

        let removed = patch(&user, &json!({"phone": null, "name": "  Ada King "}))
            .await
            .is(200);
        assert_eq!(removed.etag(), "\"3\"");
        assert_eq!(removed.json()["phone"], Value::Null);
        assert_eq!(removed.json()["name"], "Ada King");
    });
}

#[test]
fn a_patch_that_changes_nothing_is_answered_with_the_unchanged_version() {
    beside_others(async {
        let user = registered_user().await;
        for same in [
            json!({}),
            json!({"name": "Ada Lovelace"}),
            json!({"phone": null, "locale": "en-gb"}),
        ] {
            let answer = patch(&user, &same).await.is(200);
            assert_eq!(answer.etag(), "\"1\"", "{same}");
            assert_eq!(answer.json()["version"], 1, "{same}");
        }
    });
}

#[test]
fn a_patch_honours_if_match() {
    beside_others(async {
        let user = registered_user().await;
        let path = format!("/users/{}", user.id);
        let with = |etag: &'static str, name: &'static str| {
            let call = user.command(Method::PATCH, &path).if_match(etag);
            call.json(&json!({"name": name})).send()
        };
        with("\"1\"", "Ada King").await.is(200);
        let stale = with("\"1\"", "Ada Byron").await;
        assert_eq!(stale.problem(412, "stale-version")["current_version"], 2);
        with("*", "Ada Byron").await.is(200);
    });
}

#[test]
fn a_patch_refuses_what_is_not_a_profile() {
    beside_others(async {
        let user = registered_user().await;
        let body = json!({
            "name": null, "email": "other@example.com", "role": "admin", "phone": "12", "locale": "!",
            "preferences": {"order_emails": "yes", "order_faxes": true},
        });
        patch(&user, &body).await.points_at(&[
            "/name",
            "/email",
            "/role",
            "/phone",
            "/locale",
            "/preferences/order_emails",
            "/preferences/order_faxes",
        ]);
        let other = user.command(Method::PATCH, &format!("/users/{}", user.id));
        let answer = other.body("text/plain", "{}").send().await;
        answer.problem(415, "unsupported-media-type");
    });
}

#[test]
fn a_registration_names_everything_that_is_wrong_at_once() {
    beside_others(async {
        let body = json!({
            "email": "nobody", "password": "s3same", "name": "", "phone": "0151", "locale": "x", "admin": true,
        });
        let answer = register(&body).await;
        answer.points_at(&[
            "/email",
            "/password",
            "/name",
            "/phone",
            "/locale",
            "/admin",
        ]);
        register(&json!({}))
            .await
            .points_at(&["/email", "/password", "/name"]);
        let text = String::from_utf8(answer.body).unwrap();
        assert!(!text.contains("s3same"), "a password comes back: {text}");
    });
}
