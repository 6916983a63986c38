//! gRPC: a method asks who sends a call, takes its parameters from its message, and answers with what the queries over
//! HTTP are answered with.

use std::{borrow::Cow, sync::Arc, time::Duration};

use events::timestamp::Timestamp;
use proto::{
    order_status_name,
    v1::{
        self, GetOrderHistoryRequest, GetOrderHistoryResponse, GetOrderRequest, GetOrderResponse,
        GetUserRequest, GetUserResponse, ListOrdersRequest, ListOrdersResponse, ListUsersRequest,
        ListUsersResponse, get_order_request,
        order_service_server::{OrderService, OrderServiceServer},
        user_service_server::{UserService, UserServiceServer},
    },
};
use runtime::{
    auth::{Caller, TokenVerifier},
    grpc::MESSAGE_BYTES_MAX,
    problem::Problem,
};
use tonic::{Request, Response, Status, service::Routes};

use crate::{
    orders::{
        self,
        answers::{ATTRIBUTES, one_as_of},
        history::AsOf,
    },
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
        let found = match as_of(message.as_of)? {
            Some(as_of) => one_as_of(&self.queries, caller, awaited, &message.id, as_of).await?,
            None => orders::answers::one(&self.queries, caller, awaited, &message.id).await?,
        };
        let order = Some(found.shown()?.into());
        Ok(Response::new(GetOrderResponse { order }))
    }

    async fn get_order_history(
        &self,
        request: Request<GetOrderHistoryRequest>,
    ) -> Result<Response<GetOrderHistoryResponse>, Status> {
        let caller = Caller::of_call(&request, &self.tokens)?;
        let message = request.into_inner();
        let awaited = After::given(message.consistency_token.as_deref(), wait(message.wait))?;
        let parameters = parameters([
            ("limit", message.limit.map(|limit| limit.to_string())),
            ("cursor", message.cursor),
        ]);
        let id = &message.id;
        let page = orders::answers::history(&self.queries, caller, awaited, id, parameters).await?;
        let items = page.shown()?.into_iter().map(Into::into).collect();
        let next_cursor = page.next_cursor;
        Ok(Response::new(GetOrderHistoryResponse {
            items,
            next_cursor,
        }))
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
            ("created_from", message.created_from.as_ref().map(text)),
            ("created_to", message.created_to.as_ref().map(text)),
            ("currency", message.currency),
            ("total_min", message.total_min),
            ("total_max", message.total_max),
            ("q", message.q),
            ("sort", message.sort),
            ("count", message.count.map(|count| count.to_string())),
        ]);
        let attributes = message.attributes.into_iter();
        let parameters =
            parameters.and(attributes.map(|(path, value)| (format!("{ATTRIBUTES}{path}"), value)));
        let page = orders::answers::list(&self.queries, caller, awaited, parameters).await?;
        let items = page.shown()?.into_iter().map(Into::into).collect();
        let (next_cursor, count) = (page.next_cursor, page.count);
        Ok(Response::new(ListOrdersResponse {
            items,
            next_cursor,
            count,
        }))
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
            ("role", role(message.role)),
            ("status", user_status(message.status)),
            ("created_from", message.created_from.as_ref().map(text)),
            ("created_to", message.created_to.as_ref().map(text)),
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

/// Which state of an order is meant, where it is not that of now.
fn as_of(given: Option<get_order_request::AsOf>) -> Result<Option<AsOf>, Problem> {
    match given {
        None => Ok(None),
        Some(get_order_request::AsOf::AsOfVersion(version)) => Ok(Some(AsOf::Version(version))),
        Some(get_order_request::AsOf::AsOfTime(time)) => {
            let mut given = parameters([("as_of_time", Some(text(&time)))]);
            let wanted = "a time of the years 1 to 9999";
            let time = given.optional("as_of_time", wanted, |text| text.parse().ok());
            given.finish()?;
            Ok(time.map(AsOf::Time))
        }
    }
}

/// How a role is called over HTTP; `None` where none is given. A number that means nothing stays one, and is refused.
fn role(number: i32) -> Option<String> {
    match v1::Role::try_from(number) {
        Ok(v1::Role::Unspecified) => None,
        Ok(v1::Role::User) => Some("user".to_owned()),
        Ok(v1::Role::Admin) => Some("admin".to_owned()),
        Err(_) => Some(number.to_string()),
    }
}

/// The same of the status of a user.
fn user_status(number: i32) -> Option<String> {
    match v1::UserStatus::try_from(number) {
        Ok(v1::UserStatus::Unspecified) => None,
        Ok(v1::UserStatus::Active) => Some("active".to_owned()),
        Ok(v1::UserStatus::Erased) => Some("erased".to_owned()),
        Err(_) => Some(number.to_string()),
    }
}

/// A time as it is written over HTTP; one that is none is refused there.
fn text(time: &prost_types::Timestamp) -> String {
    let micros = time.seconds.saturating_mul(1_000_000);
    let micros = micros.saturating_add(i64::from(time.nanos) / 1_000);
    Timestamp::from_micros(micros).to_string()
}

/// A negative time is left alone, as over HTTP.
fn wait(wait: Option<prost_types::Duration>) -> Option<Duration> {
    wait.and_then(|wait| Duration::try_from(wait).ok())
}
