//! Commands about orders.

use proto::v1::{
    self, CancelOrderRequest, CancelOrderResponse, CreateOrderRequest, CreateOrderResponse,
    ReplaceOrderRequest, ReplaceOrderResponse, SetOrderStatusRequest, SetOrderStatusResponse,
    order_service_server::OrderService, replace_order_request::BasedOn,
};
use runtime::{etag::IfMatch, problem::Problem};
use tonic::{Request, Response, Status};

use super::{Commands, body, text};
use crate::commands::{ChangedOrder, Context, orders};

#[tonic::async_trait]
impl OrderService for Commands {
    async fn create_order(
        &self,
        request: Request<CreateOrderRequest>,
    ) -> Result<Response<CreateOrderResponse>, Status> {
        self.of_caller(request, |api, caller, context, message| async move {
            let context = context.named(message.idempotency_key.as_deref())?;
            let body = body::new_order(&message)?;
            let created = orders::create(&api, caller, context, body).await?;
            let (order, consistency_token) = shown(&created)?;
            Ok(CreateOrderResponse {
                order,
                consistency_token,
            })
        })
        .await
    }

    async fn replace_order(
        &self,
        request: Request<ReplaceOrderRequest>,
    ) -> Result<Response<ReplaceOrderResponse>, Status> {
        self.of_caller(request, |api, caller, context, message| async move {
            let expected = match message.based_on {
                Some(BasedOn::ExpectedVersion(version)) => Some(IfMatch::Versions(vec![version])),
                Some(BasedOn::AnyVersion(true)) => Some(IfMatch::Any),
                Some(BasedOn::AnyVersion(false)) | None => None,
            };
            let context = Context {
                expected,
                ..context.named(message.idempotency_key.as_deref())?
            };
            let body = body::replacement(&message)?;
            let replaced = orders::replace(&api, caller, context, &message.id, body).await?;
            let (order, consistency_token) = shown(&replaced)?;
            Ok(ReplaceOrderResponse {
                order,
                consistency_token,
            })
        })
        .await
    }

    async fn set_order_status(
        &self,
        request: Request<SetOrderStatusRequest>,
    ) -> Result<Response<SetOrderStatusResponse>, Status> {
        self.of_caller(request, |api, caller, context, message| async move {
            let context = context.expecting(message.expected_version);
            let context = context.named(message.idempotency_key.as_deref())?;
            let body = body::status_change(&message);
            let moved = orders::set_status(&api, caller, context, &message.id, body).await?;
            let (order, consistency_token) = shown(&moved)?;
            Ok(SetOrderStatusResponse {
                order,
                consistency_token,
            })
        })
        .await
    }

    async fn cancel_order(
        &self,
        request: Request<CancelOrderRequest>,
    ) -> Result<Response<CancelOrderResponse>, Status> {
        self.of_caller(request, |api, caller, context, message| async move {
            let context = context.expecting(message.expected_version);
            let context = context.named(message.idempotency_key.as_deref())?;
            let body = body::reasoned(&message);
            let cancelled = orders::cancel(&api, caller, context, &message.id, body).await?;
            let (order, consistency_token) = shown(&cancelled)?;
            Ok(CancelOrderResponse {
                order,
                consistency_token,
            })
        })
        .await
    }
}

/// An order after a command, and how far a read model must be to show it.
fn shown(changed: &ChangedOrder) -> Result<(Option<v1::Order>, String), Problem> {
    Ok((Some(changed.shown()?.into()), text(changed.token())))
}
