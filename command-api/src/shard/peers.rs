//! The way to other nodes: one connection each, which is trusted once the other side has introduced itself, and given up
//! as soon as it fails. What matters to a command is whether it can have arrived, and that is what is told of a failure.

use std::{collections::HashMap, error::Error, sync::Arc, time::Duration};

use events::TraceContext;
use hyper_util::rt::TokioIo;
use parking_lot::RwLock;
use prost::bytes::Bytes;
use proto::internal::{AskRequest, HelloRequest, SubmitRequest, shards_client::ShardsClient};
use runtime::grpc::MESSAGE_BYTES_MAX;
use tokio::{
    net::TcpStream,
    runtime::Handle,
    sync::Mutex,
    time::{Instant, timeout, timeout_at},
};
use tonic::{
    Code, ConnectError, Request, Status,
    metadata::{AsciiMetadataKey, AsciiMetadataValue},
    transport::{Channel, Endpoint},
};

use super::wire::FORMAT;
use crate::identity::node_tokens::NodeSigner;

/// How large what nodes send each other may be: a body as parsed is no larger than the body, and what is around it is
/// small.
pub const FORWARDED_BYTES_MAX: usize = MESSAGE_BYTES_MAX + 64 * 1024;
/// How long connecting to a node may take,
const CONNECT_WITHIN: Duration = Duration::from_millis(500);
/// and how long it may then take to introduce itself.
const HELLO_WITHIN: Duration = Duration::from_millis(500);
/// For so long after a failure nobody tries to connect again.
const RECONNECT_AFTER: Duration = Duration::from_millis(100);
/// A connection is asked every so often whether it is still there,
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(1);
/// and given up, with all calls on it, when it does not answer within this time.
const KEEP_ALIVE_WITHIN: Duration = Duration::from_secs(2);
/// Addresses that are remembered: more than there are nodes, as they may come back under others.
const PEERS_MAX: usize = 64;
const AUTHORIZATION: &str = "authorization";
const TRACEPARENT: &str = "traceparent";

/// What is wanted of another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errand {
    /// To carry a command out.
    Submit,
    /// To tell what a shard knows.
    Ask,
}

impl Errand {
    /// The gRPC method that it is.
    pub const fn method(self) -> &'static str {
        match self {
            Self::Submit => "orderlog.internal.v1.Shards/Submit",
            Self::Ask => "orderlog.internal.v1.Shards/Ask",
        }
    }
}

/// Why nothing was told.
#[derive(Debug)]
pub enum NotTold {
    /// It did not get there: nothing was done.
    NotSent(String),
    /// It may have got there, and then the way broke.
    Broken(String),
    /// There was no answer in time.
    Late,
    /// The node is another version, or does not let this one in: nothing was done.
    Stranger(String),
}

/// Every node that this one has talked to.
pub struct Peers {
    known: RwLock<HashMap<Arc<str>, Arc<Peer>>>,
    signer: NodeSigner,
    /// Where connections live: a thread that serves requests may end before them.
    runtime: Handle,
}

#[derive(Default)]
struct Peer {
    connection: RwLock<Option<Connection>>,
    /// Held by the one who connects; and when that last failed.
    connecting: Mutex<Option<Instant>>,
}

#[derive(Clone)]
struct Connection {
    client: ShardsClient<Channel>,
    /// Tells it from a later one.
    since: Instant,
}

impl Peers {
    /// Knows nobody yet. To be called within the runtime where connections are to live.
    pub fn new(signer: NodeSigner) -> Self {
        Self {
            known: RwLock::default(),
            signer,
            runtime: Handle::current(),
        }
    }

    /// Sends `content`, about `shard`, to the node at `address`: its reply, or why there is none. `place` is where the
    /// call stands in a trace.
    pub async fn send(
        &self,
        address: &Arc<str>,
        errand: Errand,
        (shard, content): (u16, Bytes),
        place: Option<TraceContext>,
        until: Instant,
    ) -> Result<Bytes, NotTold> {
        let peer = self.peer(address);
        let Connection { mut client, since } = self.connection(&peer, address, until).await?;
        let (format, shard) = (FORMAT, u32::from(shard));
        let call = async {
            match errand {
                Errand::Submit => {
                    let request = SubmitRequest {
                        format,
                        shard,
                        request: content,
                    };
                    let request = self.signed(request, place, until)?;
                    Ok(client.submit(request).await.map(|it| it.into_inner().reply))
                }
                Errand::Ask => {
                    let request = AskRequest {
                        format,
                        shard,
                        question: content,
                    };
                    let request = self.signed(request, place, until)?;
                    Ok(client.ask(request).await.map(|it| it.into_inner().reply))
                }
            }
        };
        let told = timeout_at(until, call).await.map_err(|_| NotTold::Late)?;
        told?.map_err(|status| {
            peer.give_up(since);
            what_failed(&status)
        })
    }

    fn peer(&self, address: &Arc<str>) -> Arc<Peer> {
        if let Some(peer) = self.known.read().get(address) {
            return Arc::clone(peer);
        }
        let mut known = self.known.write();
        if known.len() >= PEERS_MAX {
            known.clear();
        }
        Arc::clone(known.entry(Arc::clone(address)).or_default())
    }

    /// The connection to a node, made where there is none.
    async fn connection(
        &self,
        peer: &Peer,
        address: &Arc<str>,
        until: Instant,
    ) -> Result<Connection, NotTold> {
        if let Some(connection) = &*peer.connection.read() {
            return Ok(connection.clone());
        }
        let connecting = timeout_at(until, peer.connecting.lock()).await;
        let mut failed = connecting.map_err(|_| NotTold::NotSent("no connection yet".into()))?;
        if let Some(connection) = &*peer.connection.read() {
            return Ok(connection.clone());
        }
        if failed.is_some_and(|failed| failed.elapsed() < RECONNECT_AFTER) {
            return Err(NotTold::NotSent(format!("{address} was not reached")));
        }
        let hello = self.signed(
            HelloRequest { format: FORMAT },
            None,
            Instant::now() + HELLO_WITHIN,
        )?;
        let connected = self
            .runtime
            .spawn(connect(Arc::clone(address), hello))
            .await;
        let connected = connected.unwrap_or_else(|error| Err(NotTold::NotSent(error.to_string())));
        *failed = connected.is_err().then(Instant::now);
        let connection = Connection {
            client: connected?,
            since: Instant::now(),
        };
        *peer.connection.write() = Some(connection.clone());
        tracing::info!(%address, "connected to another node");
        Ok(connection)
    }

    fn signed<T>(
        &self,
        message: T,
        place: Option<TraceContext>,
        until: Instant,
    ) -> Result<Request<T>, NotTold> {
        let mut request = Request::new(message);
        request.set_timeout(until.saturating_duration_since(Instant::now()));
        let token = self.signer.token();
        let token = token.map_err(|error| NotTold::NotSent(error.to_string()))?;
        let place = place.map(|place| (TRACEPARENT, place.to_string()));
        for (name, value) in [(AUTHORIZATION, format!("Bearer {token}"))]
            .into_iter()
            .chain(place)
        {
            if let Ok(value) = AsciiMetadataValue::try_from(value) {
                let name = AsciiMetadataKey::from_static(name);
                request.metadata_mut().insert(name, value);
            }
        }
        Ok(request)
    }
}

impl Peer {
    /// Takes a connection out of use, unless there is another one already.
    fn give_up(&self, since: Instant) {
        let mut connection = self.connection.write();
        if connection.as_ref().is_some_and(|it| it.since == since) {
            *connection = None;
        }
    }
}

/// Connects, and has the other side introduce itself: a process that is stopped takes connections, too. The connection is
/// never made anew by itself, as that one would not be introduced.
async fn connect(
    address: Arc<str>,
    hello: Request<HelloRequest>,
) -> Result<ShardsClient<Channel>, NotTold> {
    let not_sent = |error: &dyn Error| NotTold::NotSent(format!("{address}: {error}"));
    let endpoint = Endpoint::from_shared(format!("http://{address}"));
    let endpoint = endpoint
        .map_err(|error| not_sent(&error))?
        .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_timeout(KEEP_ALIVE_WITHIN)
        .keep_alive_while_idle(true);
    let stream = timeout(CONNECT_WITHIN, TcpStream::connect(&*address)).await;
    let stream = stream.map_err(|error| not_sent(&error))?;
    let stream = stream.map_err(|error| not_sent(&error))?;
    stream.set_nodelay(true).map_err(|error| not_sent(&error))?;
    let mut once = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_| {
        let stream = once.take();
        async move { stream.ok_or_else(|| std::io::Error::other("the connection is over")) }
    });
    let channel = endpoint.connect_with_connector(connector).await;
    let channel = channel.map_err(|error| not_sent(&error))?;
    let mut client = ShardsClient::new(channel)
        .max_decoding_message_size(FORWARDED_BYTES_MAX)
        .max_encoding_message_size(FORWARDED_BYTES_MAX);
    let hello = timeout(HELLO_WITHIN, client.hello(hello)).await;
    match hello.map_err(|error| not_sent(&error))? {
        Ok(_) => Ok(client),
        Err(status) => Err(match what_failed(&status) {
            stranger @ NotTold::Stranger(_) => {
                tracing::warn!(%address, %status, "another node does not let this one in");
                stranger
            }
            NotTold::NotSent(_) | NotTold::Broken(_) | NotTold::Late => not_sent(&status),
        }),
    }
}

/// What a failed call says about whether what it carried can have arrived.
fn what_failed(status: &Status) -> NotTold {
    let reason = status.to_string();
    let mut cause: Option<&(dyn Error + 'static)> = status.source();
    if cause.is_none() && is_of_stranger(status.code()) {
        return NotTold::Stranger(reason);
    }
    while let Some(error) = cause {
        if never_left(error) {
            return NotTold::NotSent(reason);
        }
        cause = error.source();
    }
    NotTold::Broken(reason)
}

/// What a node says before it looks at what was carried.
fn is_of_stranger(code: Code) -> bool {
    matches!(
        code,
        Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::InvalidArgument
            | Code::Unimplemented
    )
}

/// Whether this error means that the other side has not taken the call: there was no connection, or it was over before the
/// call was written, or the other side has refused it, or named it among those that it will not do.
fn never_left(error: &(dyn Error + 'static)) -> bool {
    if error.is::<ConnectError>() {
        return true;
    }
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        return error.is_canceled();
    }
    error.downcast_ref::<h2::Error>().is_some_and(|error| {
        let reason = error.reason();
        reason == Some(h2::Reason::REFUSED_STREAM)
            || (reason == Some(h2::Reason::NO_ERROR) && error.is_go_away() && error.is_remote())
    })
}

#[cfg(test)]
mod tests;
