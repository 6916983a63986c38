//! Queries for orders over HTTP.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header::ETAG},
    web,
};
use runtime::{
    auth::Caller,
    etag,
    openapi::{
        Answer, Description, Endpoint, Tag,
        examples::{self, OrderNow},
        parameters, schema,
    },
    problem::{NOT_FOUND, Problem},
    representation::{self, OrderStatus},
};
use serde::Serialize;
use serde_json::json;
use utoipa::{ToSchema, openapi::KnownFormat};

use super::answers;
use crate::{
    described::{pages, query},
    queries::{After, Queries},
    query::Parameters,
};

/// `GET /orders`, `/orders/{id}`
pub fn endpoints() -> [Endpoint; 2] {
    [
        Endpoint::get("/orders", web::to(list), || {
            let status = schema::one_of(
                &OrderStatus::ALL.map(OrderStatus::name),
                "Where an order stands.",
            );
            let status = parameters::in_query("status", status, "Only orders that stand there.");
            let customer_id = schema::formatted(KnownFormat::Uuid, "A user's id.");
            let customer_id = parameters::in_query(
                "customer_id",
                customer_id,
                "Only this customer's orders. Who is no admin sees his own in any case.",
            );
            let example = examples::order(OrderNow::Replaced);
            pages(Description::new(
                "listOrders",
                Tag::Orders,
                "Lists orders, the newest first",
            ))
            .text("One's own orders; an admin sees those of all customers.")
            .parameter("Status", status.example(Some("created".into())))
            .parameter(
                "CustomerId",
                customer_id.example(Some(examples::USER_ID.into())),
            )
            .answer(Answer::json::<List<'_>>(
                StatusCode::OK,
                "A page of orders.",
                json!({"items": [example], "next_cursor": null}),
            ))
        }),
        Endpoint::get("/orders/{id}", web::to(one), || {
            let example = examples::order(OrderNow::Replaced);
            let found =
                Answer::json::<representation::Order<'_>>(StatusCode::OK, "The order.", example);
            query(Description::new("getOrder", Tag::Orders, "Gets an order"))
                .text("One's own; an admin may read any.")
                .parameter("OrderId", parameters::order_id())
                .answer(found.etag())
                .problems(&[&NOT_FOUND])
        }),
    ]
}

async fn one(
    caller: Caller,
    request: HttpRequest,
    id: web::Path<String>,
    queries: web::Data<Queries>,
) -> Result<HttpResponse, Problem> {
    let awaited = After::of_request(request.headers())?;
    Parameters::of(&request)?.finish()?;
    let found = answers::one(&queries, caller, awaited, &id).await?;
    let shown = found.shown()?;
    Ok(HttpResponse::Ok()
        .insert_header((ETAG, etag::of_version(shown.version)))
        .json(shown))
}

/// A page of orders.
#[derive(Serialize, ToSchema)]
#[schema(as = OrderList)]
struct List<'a> {
    /// The newest first.
    items: Vec<representation::Order<'a>>,
    /// Where the next page begins; `null` on the last one.
    #[schema(required = true)]
    next_cursor: Option<&'a str>,
}

async fn list(
    caller: Caller,
    request: HttpRequest,
    queries: web::Data<Queries>,
) -> Result<HttpResponse, Problem> {
    let awaited = After::of_request(request.headers())?;
    let parameters = Parameters::of(&request)?;
    let page = answers::list(&queries, caller, awaited, parameters).await?;
    Ok(HttpResponse::Ok().json(List {
        items: page.shown()?,
        next_cursor: page.next_cursor.as_deref(),
    }))
}
