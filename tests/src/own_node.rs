//! The stack's first node and its projections, started by a test with settings of its own.

use crate::{
    environment::{command_url, home, query_url, variable},
    stack::{OwnProcess, ready, stack},
};

/// Starts the first command node, which must not run, with `settings` beside those that it has in the stack. Does not wait
/// until it is ready.
pub async fn first_node(name: &str, settings: &[(&str, &str)]) -> OwnProcess {
    let http = command_url().replace("http://", "");
    let grpc = first_of("ORDERLOG_COMMAND_GRPC_ADDRS");
    let node = first_of("ORDERLOG_COMMAND_NODE_ADDRS");
    let state = home().join("data/command-api-1").display().to_string();
    let of_the_stack = [
        ("COMMAND_API_LISTEN", http.as_str()),
        ("COMMAND_API_GRPC_LISTEN", &grpc),
        ("COMMAND_API_NODE_LISTEN", &node),
        ("COMMAND_API_INSTANCE", "command-api-1"),
        ("COMMAND_API_STATE_DIR", &state),
    ];
    let settings = [&of_the_stack, settings].concat();
    OwnProcess::start(name, "command-api", &["serve"], &settings).await
}

/// Starts projections in the place of the stack's, with `settings` beside those; returns when they are ready.
pub async fn projections(name: &str, settings: &[(&str, &str)]) -> OwnProcess {
    stack(&["stop", "projections"]).await;
    let http = query_url().replace("http://", "");
    let grpc = variable("ORDERLOG_QUERY_GRPC_ADDR");
    let of_the_stack = [
        ("PROJECTIONS_LISTEN", http.as_str()),
        ("PROJECTIONS_GRPC_LISTEN", &grpc),
    ];
    let settings = [&of_the_stack, settings].concat();
    let process = OwnProcess::start(name, "projections", &["serve"], &settings).await;
    ready(&query_url()).await;
    process
}

fn first_of(list: &str) -> String {
    let all = variable(list);
    all.split(',').next().unwrap_or_default().to_owned()
}
