//! The door for other nodes: it lets in who proves to be one and speaks the same format, and has carried out, or told, what
//! is forwarded, on the shards that are here. Clients never get this far: it listens on an address of its own.

use std::{future::Future, sync::Arc, time::Duration};

use events::{TraceContext, ids::CorrelationId};
use prost::bytes::Bytes;
use proto::internal::{
    AskRequest, AskResponse, HelloRequest, HelloResponse, SubmitRequest, SubmitResponse,
    shards_server::{Shards, ShardsServer},
};
use runtime::{
    grpc::{bearer, deadline, traceparent},
    trace::{self, Span, SpanKind},
};
use serde::{Serialize, de::DeserializeOwned};
use tonic::{Request, Response, Status, service::Routes};
use tracing::{Instrument, field};

use crate::{
    commands::{Api, Slot},
    identity::node_tokens::NodeVerifier,
    shard::{self, Errand, FORWARDED_BYTES_MAX, Question, wire},
};

/// What nodes may ask of this one.
pub fn methods(slot: Arc<Slot>, tokens: NodeVerifier) -> Routes {
    let nodes = Nodes { slot, tokens };
    Routes::new(
        ShardsServer::new(nodes)
            .max_decoding_message_size(FORWARDED_BYTES_MAX)
            .max_encoding_message_size(FORWARDED_BYTES_MAX),
    )
}

struct Nodes {
    slot: Arc<Slot>,
    tokens: NodeVerifier,
}

/// What a call says besides what it carries.
struct Forwarded {
    within: Duration,
    caller: Option<TraceContext>,
}

impl Nodes {
    /// Lets a call in that comes from a node, and says what it says of itself.
    fn let_in<T>(&self, request: &Request<T>, format: u32) -> Result<Forwarded, Status> {
        let token = bearer(request.metadata());
        if !token.is_some_and(|token| self.tokens.accepts(token)) {
            tracing::warn!(
                from = request.remote_addr().map(field::display),
                "who does not prove to be a node is turned away"
            );
            return Err(Status::unauthenticated("this door is for nodes"));
        }
        if format != wire::FORMAT {
            let text = format!("this node speaks format {}, not {format}", wire::FORMAT);
            return Err(Status::failed_precondition(text));
        }
        Ok(Forwarded {
            within: deadline(request.metadata()),
            caller: traceparent(request.metadata()),
        })
    }

    /// The shards; none while this node is starting.
    fn shards(&self) -> Option<&shard::Shards> {
        self.slot.get().map(|api: &Arc<Api>| &api.shards)
    }
}

impl Forwarded {
    /// Does the work of a call as a part of its caller's trace, if that is recorded.
    async fn traced<T>(
        &self,
        errand: Errand,
        correlation_id: Option<CorrelationId>,
        work: impl Future<Output = T>,
    ) -> T {
        let place = trace::below(self.caller);
        let span = place
            .and_then(|place| Span::at(place, self.caller, errand.method(), SpanKind::Server))
            .map(|mut span| {
                span.set("rpc.system", "grpc");
                span
            });
        let log = tracing::info_span!(
            "forwarded",
            correlation_id = correlation_id.map(field::display),
            trace_id = place.map(|place| field::display(place.trace_id())),
            span_id = place.map(|place| field::display(place.span_id())),
        );
        let done = trace::within(place, work).instrument(log).await;
        drop(span);
        done
    }
}

#[tonic::async_trait]
impl Shards for Nodes {
    async fn hello(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<HelloResponse>, Status> {
        self.let_in(&request, request.get_ref().format)?;
        Ok(Response::new(HelloResponse {}))
    }

    async fn submit(
        &self,
        request: Request<SubmitRequest>,
    ) -> Result<Response<SubmitResponse>, Status> {
        let forwarded = self.let_in(&request, request.get_ref().format)?;
        let SubmitRequest { shard, request, .. } = request.into_inner();
        let (shard, mut command): (u16, shard::Request) = (number(shard)?, read(&request)?);
        // What it weighs is not left to the other side.
        command.bytes = command.bytes.max(request.len());
        drop(request);
        let Some(shards) = self.shards() else {
            let reply = written(&wire::Reply::<shard::Accepted>::NotOwner { owner: None })?;
            return Ok(Response::new(SubmitResponse { reply }));
        };
        let correlation_id = Some(command.correlation_id);
        let work = shards.submit_here(shard, command, forwarded.within);
        let reply = forwarded.traced(Errand::Submit, correlation_id, work).await;
        let reply = written(&reply)?;
        Ok(Response::new(SubmitResponse { reply }))
    }

    async fn ask(&self, request: Request<AskRequest>) -> Result<Response<AskResponse>, Status> {
        let forwarded = self.let_in(&request, request.get_ref().format)?;
        let AskRequest {
            shard, question, ..
        } = request.into_inner();
        let (shard, question): (u16, Question) = (number(shard)?, read(&question)?);
        let Some(shards) = self.shards() else {
            let reply = written(&wire::Reply::<shard::Told>::NotOwner { owner: None })?;
            return Ok(Response::new(AskResponse { reply }));
        };
        let work = shards.ask_here(shard, question, forwarded.within);
        let reply = forwarded.traced(Errand::Ask, None, work).await;
        let reply = written(&reply)?;
        Ok(Response::new(AskResponse { reply }))
    }
}

fn number(shard: u32) -> Result<u16, Status> {
    u16::try_from(shard).map_err(|_| Status::invalid_argument("no shard"))
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Status> {
    wire::read(bytes).ok_or_else(|| Status::invalid_argument("not what this format says"))
}

fn written<T: Serialize>(reply: &T) -> Result<Bytes, Status> {
    wire::written(reply).ok_or_else(|| Status::internal("a reply that cannot be written"))
}
