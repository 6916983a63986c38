//! The state stores of a node: what is killed leaves one that equals the log, and what cannot be believed is made anew.

use std::path::PathBuf;

use end_to_end::{
    alone, environment,
    stack::{recovers, run, stack},
    workload::Workload,
};

const NODE: &str = "command-api-1";
const CLIENTS: usize = 12;
/// How often a node is killed.
const KILLS: usize = 6;

fn state_dir() -> PathBuf {
    environment::home().join("data").join(NODE)
}

fn files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(state_dir()).expect("the directory of the state stores");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    files
}

/// `command-api verify-state` says that every store equals the fold of the log up to the place that it names.
async fn stores_equal_the_log() {
    let dir = state_dir().display().to_string();
    let (equal, printed) = run(
        "command-api",
        &["verify-state", "--command-api-state-dir", &dir],
    )
    .await;
    assert!(equal, "verify-state: {printed}");
    assert!(printed.contains("stores equal the log"), "{printed}");
}

#[test]
fn a_node_that_is_killed_at_any_moment_leaves_stores_that_equal_the_log() {
    alone(async {
        let workload = Workload::start(CLIENTS).await;
        for kill in 0..KILLS {
            // Somewhere else in the gathering of changes each time.
            workload.acknowledges(7 + 13 * kill).await;
            stack(&["kill", NODE]).await;
            stores_equal_the_log().await;
            recovers(NODE, || workload.acknowledges(1)).await;
        }
        let ended = workload.end().await;
        ended.log_holds_what_was_told().await;
    });
}

#[test]
fn stores_that_are_gone_damaged_or_of_another_node_are_made_anew() {
    alone(async {
        let workload = Workload::start(CLIENTS).await;
        workload.acknowledges(50).await;
        stack(&["stop", NODE]).await;
        stores_equal_the_log().await;
        let files = files();
        let [gone, cut, scribbled, swapped, ..] = files.as_slice() else {
            panic!("{files:?}")
        };
        std::fs::remove_file(gone).unwrap();
        std::fs::File::options()
            .write(true)
            .open(cut)
            .and_then(|file| file.set_len(5_000))
            .unwrap();
        std::fs::write(scribbled, "no store at all").unwrap();
        std::fs::copy(files.last().unwrap(), swapped).unwrap();
        recovers(NODE, || workload.acknowledges(50)).await;
        stack(&["stop", NODE]).await;
        stores_equal_the_log().await;
        recovers(NODE, || workload.acknowledges(1)).await;
        let ended = workload.end().await;
        ended.log_holds_what_was_told().await;
    });
}
