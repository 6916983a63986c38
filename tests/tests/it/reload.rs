//! SIGHUP: keys and what is logged are exchanged while everything serves; a file that cannot be used changes nothing.

use std::{path::PathBuf, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use end_to_end::{
    alone,
    environment::{command_url, home, notifier_url, query_url, url, variable},
    eventually,
    http::call,
    own_node::{first_node, projections},
    people::{PASSWORD, User, registered_user, unique},
    stack::{OwnProcess, counter, counter_of, ready, stack},
};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

/// A signal is heeded within this time.
const HEEDED_WITHIN: Duration = Duration::from_secs(10);
/// The gateway has fetched the keys anew within this time.
const FETCHED_WITHIN: Duration = Duration::from_secs(60);
const RELOADS: &str = "orderlog_reloads_total";
const SUCCESSFUL: &str = "orderlog_last_reload_successful";

/// Files for the services of a test, which it can change.
struct Files {
    dir: PathBuf,
}

impl Files {
    /// With what the stack's own say.
    fn of_the_stack() -> Self {
        let dir = home().join(unique("reload-"));
        std::fs::create_dir(&dir).expect("a directory");
        let files = Self { dir };
        for (name, setting) in [
            ("signing.pem", "TOKEN_SIGNING_KEY_FILE"),
            ("public.pem", "TOKEN_PUBLIC_KEY_FILE"),
        ] {
            let text = std::fs::read_to_string(variable(setting)).expect("a key");
            files.write(name, &text);
        }
        files.write("filter", "info\n");
        files
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect("a file")
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("a file");
    }

    /// A new pair, private and public, made as the README says.
    async fn new_pair(&self) -> (String, String) {
        let dir = self.path("new");
        let (made, said) =
            end_to_end::stack::run("command-api", &["create-secrets", "--dir", &dir]).await;
        assert!(made, "{said}");
        let read = |name| self.read(&format!("new/{name}"));
        (read("token-signing-key.pem"), read("token-public-key.pem"))
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // What is left lies in the home of the stack, which is deleted with it.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// The first node, in the place of the stack's, with these files.
async fn node_with(files: &Files) -> OwnProcess {
    stack(&["stop", "command-api-1"]).await;
    let settings = [
        ("TOKEN_SIGNING_KEY_FILE", files.path("signing.pem")),
        ("TOKEN_PUBLIC_KEY_FILE", files.path("public.pem")),
        ("LOG_FILTER_FILE", files.path("filter")),
    ];
    let settings = settings
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let node = first_node("command-api-reload", &settings).await;
    ready(&command_url()).await;
    node
}

/// Has a service read its files anew, and waits until it has, with this outcome.
async fn reads_anew(process: &OwnProcess, url: &str, outcome: &str) {
    reads_anew_at(process.signal("-HUP"), url, outcome).await;
}

async fn reads_anew_at(signal: impl Future, url: &str, outcome: &str) {
    let count = async || counter_of(url, RELOADS, &[("outcome", outcome)]).await;
    let before = count().await;
    signal.await;
    eventually(
        "files to be read anew",
        HEEDED_WITHIN,
        async || match count().await {
            now if now > before => Ok(()),
            now => Err(format!("{now} times")),
        },
    )
    .await;
}

/// A token as the node signs it now, and the name of its key.
async fn signed_now(user: &User) -> (String, String) {
    let body = json!({"email": user.email, "password": PASSWORD});
    let answer = call(Method::POST, &command_url(), "/login").json(&body);
    let token = answer.send().await.is(200).text("access_token");
    let header = token.split('.').next().unwrap_or_default();
    let header = URL_SAFE_NO_PAD.decode(header).expect("a header");
    let header: Value = serde_json::from_slice(&header).expect("a header");
    (token, header["kid"].as_str().expect("a kid").to_owned())
}

async fn published() -> Vec<String> {
    let answer = call(Method::GET, &command_url(), "/.well-known/jwks.json").send();
    let keys = answer.await.is(200).json();
    let keys = keys["keys"].as_array().expect("keys").iter();
    keys.map(|key| key["kid"].as_str().expect("a kid").to_owned())
        .collect()
}

/// Whether command node and projections take the token.
async fn taken(token: &str) -> [bool; 2] {
    let query = call(Method::GET, &query_url(), "/orders?limit=1").token(token);
    let query = query.send().await.status;
    [
        is_taken_at(&command_url(), token).await,
        match query {
            200 => true,
            401 => false,
            other => panic!("{other}"),
        },
    ]
}

/// Whether whoever checks it there takes the token: only then is looked for the order.
async fn is_taken_at(url: &str, token: &str) -> bool {
    let nowhere = format!("/orders/{}/cancel", Uuid::now_v7());
    let answer = call(Method::POST, url, &nowhere).token(token).send().await;
    match answer.status {
        404 => true,
        401 => false,
        _ => panic!("{answer:?}"),
    }
}

#[test]
fn a_new_key_is_announced_signs_and_replaces_the_former_while_everything_serves() {
    alone(async {
        let (user, files) = (registered_user().await, Files::of_the_stack());
        let node = node_with(&files).await;
        let public = files.path("public.pem");
        let queries =
            projections("projections-reload", &[("TOKEN_PUBLIC_KEY_FILE", &public)]).await;
        let services = [(&node, command_url()), (&queries, query_url())];
        let all_read_anew = async || {
            for (process, url) in &services {
                reads_anew(process, url, "done").await;
            }
        };
        let (by_old, old) = signed_now(&user).await;
        let (new_signing, new_public) = files.new_pair().await;

        let old_public = files.read("public.pem");
        files.write("public.pem", &format!("{old_public}{new_public}"));
        all_read_anew().await;
        let keys = published().await;
        assert_eq!((keys.len(), keys.contains(&old)), (2, true), "{keys:?}");
        assert_eq!(
            signed_now(&user).await.1,
            old,
            "announced, it does not sign yet"
        );

        files.write("signing.pem", &new_signing);
        reads_anew(&node, &command_url(), "done").await;
        let (by_new, new) = signed_now(&user).await;
        assert!(new != old && keys.contains(&new), "{new}");
        assert_eq!(taken(&by_old).await, [true, true]);
        assert_eq!(taken(&by_new).await, [true, true]);

        files.write("public.pem", &new_public);
        all_read_anew().await;
        assert_eq!(published().await, [new]);
        assert_eq!(taken(&by_old).await, [false, false]);
        assert_eq!(taken(&by_new).await, [true, true]);

        // For the tests that follow: the gateway must not go on with what it may have fetched just now.
        files.write("public.pem", &format!("{old_public}{new_public}"));
        all_read_anew().await;
        eventually(
            "the gateway to take the old key again",
            FETCHED_WITHIN,
            async || match is_taken_at(&url(), &by_old).await {
                true => Ok(()),
                false => Err("401".to_owned()),
            },
        )
        .await;
    });
}

#[test]
fn a_file_that_cannot_be_used_changes_nothing_and_that_is_said() {
    alone(async {
        let (user, files) = (registered_user().await, Files::of_the_stack());
        let (node, url) = (node_with(&files).await, command_url());
        let (by_old, old) = signed_now(&user).await;
        let (signing, public) = (files.read("signing.pem"), files.read("public.pem"));
        let (new_signing, new_public) = files.new_pair().await;
        // A key that nobody would accept; keys without that which signs; no key; no filter.
        for (name, wrong, right) in [
            ("signing.pem", new_signing.as_str(), &signing),
            ("public.pem", &new_public, &public),
            ("public.pem", "nothing", &public),
            ("filter", "command_api=loudly", &"info".to_owned()),
        ] {
            files.write(name, wrong);
            reads_anew(&node, &url, "failed").await;
            assert_eq!(counter(&url, SUCCESSFUL).await, 0.0, "{name}");
            assert_eq!(published().await, [old.as_str()], "{name}");
            assert_eq!(signed_now(&user).await.1, old, "{name}");
            assert!(is_taken_at(&url, &by_old).await, "{name}");
            files.write(name, right);
            reads_anew(&node, &url, "done").await;
            assert_eq!(counter(&url, SUCCESSFUL).await, 1.0, "{name}");
        }
    });
}

#[test]
fn what_is_logged_can_be_changed_while_it_serves() {
    alone(async {
        let files = Files::of_the_stack();
        let (node, url) = (node_with(&files).await, command_url());
        let log = home().join("logs/command-api-reload.log");
        let detailed = || {
            let text = std::fs::read_to_string(&log).expect("a log");
            text.matches(r#""level":"DEBUG""#).count()
        };
        let (before, public) = (detailed(), files.read("public.pem"));
        files.write("filter", "info,h2=debug,command_api=debug,hyper_util=debug");
        files.write("public.pem", "nothing");
        reads_anew(&node, &url, "failed").await;
        registered_user().await;
        assert_eq!(detailed(), before, "all or nothing");
        files.write("public.pem", &public);
        reads_anew(&node, &url, "done").await;
        eventually("details in the log", HEEDED_WITHIN, async || {
            registered_user().await;
            match detailed() {
                now if now > before => Ok(()),
                now => Err(format!("{now} lines")),
            }
        })
        .await;
        files.write("filter", "info");
        reads_anew(&node, &url, "done").await;
        let quiet = detailed();
        registered_user().await;
        assert_eq!(detailed(), quiet);
        // Else nothing but errors would be logged, or nothing at all.
        for wrong in ["", "inf", "command_api=debug"] {
            files.write("filter", wrong);
            reads_anew(&node, &url, "failed").await;
        }
    });
}

#[test]
fn every_service_reads_anew_when_the_stack_is_told_so() {
    alone(async {
        for (name, url) in [
            ("command-api-1", command_url()),
            ("projections", query_url()),
            ("notifier", notifier_url()),
        ] {
            reads_anew_at(stack(&["reload", name]), &url, "done").await;
        }
    });
}
