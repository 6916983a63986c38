//! Changing one's password, and what it ends.

use end_to_end::{
    beside_others,
    databases::postgres,
    http::{Answer, Call, command},
    log::{name, streams_of},
    people::{
        PASSWORD, User, admin, is_cut_off, log_in, registered_user, stays_good, try_log_in,
        try_refresh,
    },
    searched::{found_in, in_kafka},
};
use events::{Topic, ids::UserId};
use reqwest::Method;
use serde_json::{Value, json};

const NEW: &str = "another correct horse battery";

fn put(user: &User, body: &Value) -> Call {
    user.command(Method::PUT, &format!("/users/{}/password", user.id))
        .json(body)
}

fn change(from: &str, to: &str) -> Value {
    json!({"current_password": from, "new_password": to})
}

async fn events_of(user: &User) -> Vec<&'static str> {
    let id: UserId = user.id.parse().unwrap();
    let streams = streams_of(Topic::Users).await;
    let events = streams[&id.into()].iter();
    events.map(|each| name(&each.envelope.event)).collect()
}

/// The hashes that are kept of a user's passwords.
async fn hashes_of(user: &User) -> Vec<String> {
    let mut postgres = postgres().await;
    sqlx::query_scalar("SELECT password_hash FROM identity.credentials WHERE user_id = $1::uuid")
        .bind(&user.id)
        .fetch_all(&mut postgres)
        .await
        .unwrap()
}

fn is_wrong_password(answer: &Answer) {
    let expected = ("/current_password".to_owned(), "wrong".to_owned());
    assert_eq!(answer.errors(), [expected]);
}

#[test]
fn a_new_password_opens_and_the_old_one_and_its_sessions_do_not() {
    beside_others(async {
        let user = registered_user().await;
        let elsewhere = log_in(&user.email, PASSWORD).await;
        let changed = put(&user, &change(PASSWORD, NEW)).send().await.is(204);
        assert!(changed.body.is_empty());
        assert_eq!(changed.etag(), "\"2\"");
        let hashes = hashes_of(&user).await;
        assert_eq!(hashes.len(), 1, "the old one is gone");

        try_log_in(&user.email, PASSWORD)
            .await
            .problem(401, "not-authenticated");
        let login = log_in(&user.email, NEW).await;
        try_refresh(&elsewhere.text("refresh_token"))
            .await
            .problem(401, "not-authenticated");
        for token in [&user.token, &elsewhere.text("access_token")] {
            is_cut_off(token).await;
        }
        stays_good(&login.text("access_token")).await;
        try_refresh(&login.text("refresh_token")).await.is(200);

        let read = end_to_end::http::query("/users/me").token(&login.text("access_token"));
        let read = read.after(&changed.consistency_token()).send().await;
        assert_eq!(read.is(200).json()["version"], 2);
        assert_eq!(
            events_of(&user).await,
            ["user_registered", "user_password_changed"]
        );
        // How every hash begins. Less of it would be met by chance, in sealed bytes or ids.
        let (hash, _) = hashes[0].split_at("$2b$04$".len());
        assert!(hash.starts_with("$2b$") && hash.ends_with('$'), "{hash}");
        for secret in [hash, NEW] {
            let found = found_in(&in_kafka().await, secret);
            assert!(found.is_empty(), "{secret} in {found:?}");
        }
    });
}

#[test]
fn whoever_does_not_know_the_password_does_not_change_it() {
    beside_others(async {
        let user = registered_user().await;
        let wrong = put(&user, &change("not the right password", NEW));
        is_wrong_password(&wrong.send().await);
        let nothing = put(&user, &change("", NEW));
        is_wrong_password(&nothing.send().await);
        put(&user, &change(PASSWORD, "short"))
            .send()
            .await
            .points_at(&["/new_password"]);
        let common = put(&user, &change(PASSWORD, "passwordpassword"));
        let refused = common.send().await;
        if refused.status == 422 {
            refused.points_at(&["/new_password"]);
        }
        let other = json!({"new_password": 12, "password": PASSWORD});
        put(&user, &other).send().await.points_at(&[
            "/current_password",
            "/new_password",
            "/password",
        ]);
    });
}

#[test]
fn a_password_is_its_users_alone_and_of_two_wrong_things_the_earlier_is_answered() {
    beside_others(async {
        let (user, stranger, admin) = (
            registered_user().await,
            registered_user().await,
            &admin().await,
        );
        let path = format!("/users/{}/password", user.id);
        let nowhere = format!("/users/{}/password", uuid::Uuid::now_v7());
        let good = change(PASSWORD, NEW);

        let nobody = command(Method::PUT, &path).body("text/plain", "{");
        nobody.send().await.problem(401, "not-authenticated");
        let text = stranger.command(Method::PUT, &path).body("text/plain", "{");
        text.send().await.problem(415, "unsupported-media-type");
        let broken = stranger
            .command(Method::PUT, &path)
            .body("application/json", "{");
        broken.send().await.problem(400, "unreadable");
        let invalid = stranger.command(Method::PUT, &nowhere).json(&json!({}));
        let invalid = invalid.send().await;
        invalid.points_at(&["/current_password", "/new_password"]);
        for path in [path.as_str(), &nowhere, "/users/x/password"] {
            let foreign = stranger.command(Method::PUT, path).json(&good);
            foreign.send().await.problem(404, "not-found");
        }
        let by_admin = admin.command(Method::PUT, &path).json(&good);
        by_admin.send().await.problem(403, "not-allowed");
        let unknown = admin.command(Method::PUT, &nowhere).json(&good);
        unknown.send().await.problem(404, "not-found");
        let wrong = put(&user, &change("wrong", NEW)).if_match("\"9\"");
        is_wrong_password(&wrong.send().await);
        let stale = put(&user, &good).if_match("\"9\"").send().await;
        stale.problem(412, "stale-version");
        log_in(&user.email, PASSWORD).await;
        assert_eq!(events_of(&user).await, ["user_registered"]);
    });
}

#[test]
fn a_change_whose_answer_was_lost_can_be_asked_for_again() {
    beside_others(async {
        let mut user = registered_user().await;
        put(&user, &change(PASSWORD, NEW)).send().await.is(204);
        let login = log_in(&user.email, NEW).await;
        user.token = login.text("access_token");
        let again = put(&user, &change(PASSWORD, NEW)).send().await.is(204);
        assert_eq!(again.etag(), "\"2\"");
        // Nothing was done, so nothing ends.
        try_refresh(&login.text("refresh_token")).await.is(200);
        log_in(&user.email, NEW).await;
    });
}

#[test]
fn of_two_changes_at_once_one_wins() {
    beside_others(async {
        let user = registered_user().await;
        let to = [format!("{NEW} one"), format!("{NEW} two")];
        let bodies = [change(PASSWORD, &to[0]), change(PASSWORD, &to[1])];
        let (one, other) =
            tokio::join!(put(&user, &bodies[0]).send(), put(&user, &bodies[1]).send());
        let won: Vec<usize> = [&one, &other]
            .iter()
            .enumerate()
            .filter_map(|(index, answer)| (answer.status == 204).then_some(index))
            .collect();
        assert_eq!(won.len(), 1, "{one:?} {other:?}");
        let lost = if won[0] == 0 { other } else { one };
        match lost.problem_name().as_str() {
            "rule-broken" => {
                let problem = lost.problem(409, "rule-broken");
                assert_eq!(problem["rule"], "password-changed-meanwhile");
            }
            // It came so late that the old password was none any more, or so did its token.
            "not-authenticated" => drop(lost.is(401)),
            _ => is_wrong_password(&lost),
        }
        log_in(&user.email, &to[won[0]]).await;
        let refused = try_log_in(&user.email, &to[1 - won[0]]).await;
        refused.problem(401, "not-authenticated");
    });
}
