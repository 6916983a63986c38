//! End to end: the system on real components, through its public doors. Needs a running stack: scripts/test
//! brings its own, or `scripts/stack up` and `eval "$(scripts/stack env)"`.
#![cfg(test)]

mod accounts;
mod commands;
mod commit_window;
mod comparing;
mod erasure;
mod faults;
mod forwarding;
mod gateway;
mod gateway_edge;
mod gateway_routes;
mod grpc;
mod idempotency;
mod import;
mod limits;
mod log;
mod metrics;
mod money;
mod nodes;
mod notifications;
mod openapi;
mod order_of_checks;
mod passwords;
mod personal_data;
mod queries;
mod read_side;
mod refusals;
mod reload;
mod rights;
mod set_aside;
mod several_projections;
mod state_store;
mod tokens;
mod topic_facts;
mod traces;
mod two_faults;
