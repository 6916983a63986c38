//! How a service listens for gRPC: limits, health, reflection, deadlines, and how it stops. What its methods do is the
//! service's business; a [`Problem`](crate::problem::Problem) becomes a status in [`status`] and nowhere else.

mod call;
mod door;
mod shown;
mod status;

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, bail};
use tokio_util::sync::CancellationToken;
use tonic::{
    service::Routes,
    transport::server::{Server, TcpIncoming},
};
use tonic_health::{ServingStatus, server::HealthReporter};

pub use call::{Call, bearer, deadline, traceparent};
pub use door::Side;

use crate::{apart::apart, health::Health, json::BODY_BYTES_MAX};

/// How large a message may be that a service receives: as large as a body over HTTP.
pub const MESSAGE_BYTES_MAX: usize = BODY_BYTES_MAX;
/// What asks for health or descriptors is short.
const QUESTION_BYTES_MAX: usize = 16 * 1024;
/// Calls at a time on one connection; more wait on the client's side.
const CALLS_PER_CONNECTION_MAX: u32 = 256;
/// Calls at a time from one other node, whose clients are many; more wait there.
const CALLS_PER_NODE_MAX: u32 = 1_024;
const METADATA_BYTES_MAX: u32 = 16 * 1024;
/// A connection that says nothing for so long is asked whether it is still there,
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(60);
/// and closed when it does not answer within this time.
const KEEP_ALIVE_WITHIN: Duration = Duration::from_secs(20);
/// How long calls that have begun may take once the process is to end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(15);
/// How long calls of other nodes may take after that: when they are asked to end, all are answered.
const NODES_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);
/// How often the health service looks at what the process waits for.
const HEALTH_EVERY: Duration = Duration::from_millis(200);
/// What health is told of: the process, under its empty name, and the services.
const HEALTH_NAMES: [&str; 3] = ["", "orderlog.v1.OrderService", "orderlog.v1.UserService"];

/// Serves the methods of one side, plus health (which follows `health`) and reflection, until `shutdown` is cancelled;
/// then takes no new calls and finishes those that have begun. An error when the address cannot be listened on.
pub async fn serve(
    address: SocketAddr,
    side: Side,
    methods: Routes,
    health: Health,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let incoming = bind(address)?;
    let (reporter, health_service) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        // What the details of errors are made of.
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .context("descriptors")?;
    let routes = methods
        .add_service(health_service.max_decoding_message_size(QUESTION_BYTES_MAX))
        .add_service(reflection.max_decoding_message_size(QUESTION_BYTES_MAX));
    tracing::info!(address = ?incoming.local_addr(), "listening for gRPC");
    let served = server(CALLS_PER_CONNECTION_MAX).serve_with_incoming_shutdown(
        door::Door::new(routes.prepare(), side),
        incoming,
        shutdown.clone().cancelled_owned(),
    );
    let late = async {
        follow(health, reporter, &shutdown).await;
        tokio::time::sleep(SHUTDOWN_TIMEOUT).await;
    };
    tokio::select! {
        served = served => served.context("gRPC server")?,
        () = late => tracing::warn!("calls that take too long are cut off"),
    }
    if !shutdown.is_cancelled() {
        bail!("the gRPC server ended unasked");
    }
    Ok(())
}

/// Serves what the nodes of one service ask of each other, on an address of its own, until `shutdown` is cancelled. There
/// is neither health nor reflection; who calls, and in which trace, is the methods' business.
pub async fn serve_nodes(
    address: SocketAddr,
    methods: Routes,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let incoming = bind(address)?;
    tracing::info!(address = ?incoming.local_addr(), "listening for other nodes");
    let served = server(CALLS_PER_NODE_MAX).serve_with_incoming_shutdown(
        methods.prepare(),
        incoming,
        shutdown.clone().cancelled_owned(),
    );
    let late = async {
        shutdown.cancelled().await;
        tokio::time::sleep(NODES_SHUTDOWN_TIMEOUT).await;
    };
    tokio::select! {
        served = served => served.context("gRPC server for nodes"),
        () = late => Ok(()),
    }
}

fn bind(address: SocketAddr) -> anyhow::Result<TcpIncoming> {
    let incoming = TcpIncoming::bind(address)
        .with_context(|| format!("cannot listen on {address}: is the port taken?"))?;
    Ok(incoming.with_nodelay(Some(true)))
}

/// A server with the limits that all of ours have.
fn server(calls_per_connection_max: u32) -> Server {
    Server::builder()
        .max_concurrent_streams(calls_per_connection_max)
        .http2_max_header_list_size(METADATA_BYTES_MAX)
        .http2_keepalive_interval(Some(KEEP_ALIVE_EVERY))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_WITHIN))
}

/// [`serve`] on a thread and a runtime of its own, for services whose work must not wait for requests.
pub async fn serve_apart(
    address: SocketAddr,
    side: Side,
    methods: Routes,
    health: Health,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    apart("grpc", move || {
        runtime.block_on(serve(address, side, methods, health, shutdown))
    })
    .await
}

/// Says through gRPC what `/readyz` says, until the process is to end; then whoever watches is told so and let go.
async fn follow(health: Health, mut reporter: HealthReporter, shutdown: &CancellationToken) {
    let mut ticks = tokio::time::interval(HEALTH_EVERY);
    let mut said = None;
    while !shutdown.is_cancelled() {
        let is_ready = health.is_ready();
        if said.replace(is_ready) != Some(is_ready) {
            let status = if is_ready {
                ServingStatus::Serving
            } else {
                ServingStatus::NotServing
            };
            say(&reporter, status).await;
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            _ = ticks.tick() => {}
        }
    }
    say(&reporter, ServingStatus::NotServing).await;
    for name in HEALTH_NAMES {
        reporter.clear_service_status(name).await;
    }
}

async fn say(reporter: &HealthReporter, status: ServingStatus) {
    for name in HEALTH_NAMES {
        reporter.set_service_status(name, status).await;
    }
}
