//! gRPC: a method asks who sends a call, takes its conditions from its message, has it carried out, and answers. A
//! message is turned into the JSON that HTTP clients send, so that what reads it, and what is said about wrong values,
//! is the same ([`body`]); nothing here decides anything.

mod body;
pub mod nodes;
mod orders;
mod users;

use std::{future::Future, sync::Arc};

use events::StreamVersion;
use proto::v1::{order_service_server::OrderServiceServer, user_service_server::UserServiceServer};
use runtime::{
    auth::{Caller, TokenVerifier},
    consistency::ConsistencyToken,
    etag::IfMatch,
    grpc::{Call, MESSAGE_BYTES_MAX},
    problem::Problem,
};
use tonic::{Request, Response, Status, service::Routes};

use crate::commands::{Api, Context, Slot, error, idempotency};

/// Every method of this service.
pub fn methods(slot: Arc<Slot>, tokens: Arc<TokenVerifier>) -> Routes {
    let commands = Commands { slot, tokens };
    let orders = OrderServiceServer::new(commands.clone());
    let users = UserServiceServer::new(commands);
    Routes::new(orders.max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(users.max_decoding_message_size(MESSAGE_BYTES_MAX))
}

/// The commands, once the [`Api`] is there; before, calls are answered `unavailable`.
#[derive(Clone)]
struct Commands {
    slot: Arc<Slot>,
    tokens: Arc<TokenVerifier>,
}

impl Commands {
    /// Carries out what a signed-in caller asks for.
    async fn of_caller<M, T, F>(
        &self,
        request: Request<M>,
        command: impl FnOnce(Arc<Api>, Caller, Context, M) -> F,
    ) -> Result<Response<T>, Status>
    where
        M: prost::Message,
        T: Send + 'static,
        F: Future<Output = Result<T, Problem>> + Send + 'static,
    {
        let caller = Caller::of_call(&request, &self.tokens)?;
        let of_anybody = |api, context, message| command(api, caller, context, message);
        self.of_anybody(request, of_anybody).await
    }

    /// Carries out what anybody may ask for.
    async fn of_anybody<M, T, F>(
        &self,
        request: Request<M>,
        command: impl FnOnce(Arc<Api>, Context, M) -> F,
    ) -> Result<Response<T>, Status>
    where
        M: prost::Message,
        T: Send + 'static,
        F: Future<Output = Result<T, Problem>> + Send + 'static,
    {
        let api = self.slot.get().cloned().ok_or_else(error::starting)?;
        let call = Call::of(&request);
        let message = request.into_inner();
        let context = Context {
            expected: None,
            idempotency_key: None,
            correlation_id: call.correlation_id,
            traceparent: call.traceparent,
            bytes: message.encoded_len(),
        };
        let outcome = call.carry_out(command(api, context, message)).await?;
        Ok(Response::new(outcome))
    }
}

impl Context {
    /// On the condition that a field names.
    fn expecting(self, version: Option<StreamVersion>) -> Self {
        Self {
            expected: version.map(|version| IfMatch::Versions(vec![version])),
            ..self
        }
    }

    /// Under the name that a field gives.
    fn named(self, key: Option<&str>) -> Result<Self, Problem> {
        Ok(Self {
            idempotency_key: key.map(idempotency::key).transpose()?,
            ..self
        })
    }
}

/// A token as an answer has it.
fn text(token: Option<ConsistencyToken>) -> String {
    token.map(|token| token.to_string()).unwrap_or_default()
}
