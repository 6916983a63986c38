//! gRPC: a method asks who sends a call, takes its parameters from its message, and answers with what the queries over
//! HTTP are answered with.

use std::{borrow::Cow, sync::Arc, time::Duration};

use proto::{
    order_status_name,
    v1::{
        GetOrderRequest, GetOrderResponse, GetUserRequest, GetUserResponse, ListOrdersRequest,
        ListOrdersResponse, ListUsersRequest, ListUsersResponse,
        order_service_server::{OrderService, OrderServiceServer},
        user_service_server::{UserService, UserServiceServer},
    },
};
use runtime::{
    auth::{Caller, TokenVerifier},
    grpc::MESSAGE_BYTES_MAX,
};
use tonic::{Request, Response, Status, service::Routes};

use crate::{
    orders,
    queries::{After, Queries},
    query::Parameters,
    users,
};

/// What stands for the caller's own id.
const ME: &str = "me";

/// Every method of this service.
pub fn methods(queries: Arc<Queries>, tokens: Arc<TokenVerifier>) -> Routes {
    let read_side = ReadSide { queries, tokens };
    let orders = OrderServiceServer::new(read_side.clone());
    let users = UserServiceServer::new(read_side);
    Routes::new(orders.max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(users.max_decoding_message_size(MESSAGE_BYTES_MAX))
}

#[derive(Clone)]
struct ReadSide {
    queries: Arc<Queries>,
    tokens: Arc<TokenVerifier>,
}

#[tonic::async_trait]
impl OrderService for ReadSide {
    async fn get_order(
        &self,
        request: Request<GetOrderRequest>,
    ) -> Result<Response<GetOrderResponse>, Status> {
        let caller = Caller::of_call(&request, &self.tokens)?;
        let message = request.into_inner();
        let awaited = After::given(message.consistency_token.as_deref(), wait(message.wait))?;
        let found = orders::answers::one(&self.queries, caller, awaited, &message.id).await?;
        let order = Some(found.shown()?.into());
        Ok(Response::new(GetOrderResponse { order }))
    }

    async fn list_orders(
        &self,
        request: Request<ListOrdersRequest>,
    ) -> Result<Response<ListOrdersResponse>, Status> {
        let caller = Caller::of_call(&request, &self.tokens)?;
        let message = request.into_inner();
        let awaited = After::given(message.consistency_token.as_deref(), wait(message.wait))?;
        let parameters = parameters([
            ("limit", message.limit.map(|limit| limit.to_string())),
            ("cursor", message.cursor),
            (
                "status",
                order_status_name(message.status).map(Cow::into_owned),
            ),
            ("customer_id", message.customer_id),
        ]);
        let page = orders::answers::list(&self.queries, caller, awaited, parameters).await?;
        let items = page.shown()?.into_iter().map(Into::into).collect();
        let next_cursor = page.next_cursor;
        Ok(Response::new(ListOrdersResponse { items, next_cursor }))
    }
}

#[tonic::async_trait]
impl UserService for ReadSide {
    async fn get_user(
        &self,
        request: Request<GetUserRequest>,
    ) -> Result<Response<GetUserResponse>, Status> {
        let caller = Caller::of_call(&request, &self.tokens)?;
        let message = request.into_inner();
        let awaited = After::given(message.consistency_token.as_deref(), wait(message.wait))?;
        let found = match message.id.as_str() {
            ME => users::answers::me(&self.queries, caller, awaited).await?,
            id => users::answers::one(&self.queries, caller, awaited, id).await?,
        };
        let user = Some(found.shown()?.into());
        Ok(Response::new(GetUserResponse { user }))
    }

    async fn list_users(
        &self,
        request: Request<ListUsersRequest>,
    ) -> Result<Response<ListUsersResponse>, Status> {
        let caller = Caller::of_call(&request, &self.tokens)?;
        let message = request.into_inner();
        let awaited = After::given(message.consistency_token.as_deref(), wait(message.wait))?;
        let parameters = parameters([
            ("limit", message.limit.map(|limit| limit.to_string())),
            ("cursor", message.cursor),
        ]);
        let page = users::answers::list(&self.queries, caller, awaited, parameters).await?;
        let items = page.shown()?.into_iter().map(Into::into).collect();
        let next_cursor = page.next_cursor;
        Ok(Response::new(ListUsersResponse { items, next_cursor }))
    }
}

/// The parameters of the same query over HTTP: those that are given.
fn parameters<const N: usize>(given: [(&str, Option<String>); N]) -> Parameters {
    let given = given.into_iter();
    Parameters::given(
        given
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect(),
    )
}

/// A negative time is left alone, as over HTTP.
fn wait(wait: Option<prost_types::Duration>) -> Option<Duration> {
    wait.and_then(|wait| Duration::try_from(wait).ok())
}
