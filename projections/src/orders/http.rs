//! Queries for orders over HTTP.

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use runtime::{
    auth::Caller,
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
use utoipa::{
    ToSchema,
    openapi::{KnownFormat, ObjectBuilder, Type, path::ParameterBuilder},
};

use super::{answers, history::AsOf, list::Sort};
use crate::{
    described::{self, pages, query},
    fields::{Fields, Selected},
    queries::{After, Queries, known_or},
    query::Parameters,
};

/// `GET /orders`, `/orders/{id}`, `/orders/{id}/history`
pub fn endpoints() -> [Endpoint; 3] {
    [
        Endpoint::get("/orders", web::to(list), described_list),
        Endpoint::get("/orders/{id}", web::to(one), || {
            let example = examples::order(OrderNow::Replaced);
            let found =
                Answer::json::<representation::Order<'_>>(StatusCode::OK, "The order.", example);
            let as_of = parameters::in_query(
                "as_of",
                ObjectBuilder::new().schema_type(Type::String),
                "The order as it was: at a version, or at a time (RFC 3339). Not found before it was created.",
            );
            query(Description::new("getOrder", Tag::Orders, "Gets an order"))
                .unless_known()
                .text("One's own; an admin may read any.")
                .parameter("OrderId", parameters::order_id())
                .parameter("AsOf", as_of.example(Some("2".into())))
                .parameter("OrderFields", fields())
                .answer(found.etag())
                .problems(&[&NOT_FOUND])
        }),
        Endpoint::get("/orders/{id}/history", web::to(history), || {
            pages(Description::new(
                "getOrderHistory",
                Tag::Orders,
                "Gets what has happened to an order, the first event first",
            ))
            .text("Who did what and when, read from the log. One's own orders; an admin may read any.")
            .parameter("OrderId", parameters::order_id())
            .answer(Answer::json::<OrderHistory<'_>>(
                StatusCode::OK,
                "A page of its history.",
                json!({"items": examples::order_history(), "next_cursor": null}),
            ))
            .problems(&[&NOT_FOUND])
        }),
    ]
}

fn described_list() -> Description {
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
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let amount = |name, meaning| {
        parameters::in_query(
            name,
            schema::pattern(r"^[0-9]+(\.[0-9]+)?$", "An amount."),
            meaning,
        )
    };
    let currency = schema::pattern("^[A-Z]{3}$", "ISO 4217.");
    let currency = parameters::in_query("currency", currency, "Only orders in this currency.");
    let words = "Only orders that have all of these words, up to 10, in the skus and names of their lines. Sorted by \
                 created_at. Capitals make no difference; TEA-250 is found as that, as tea and as 250.";
    let attributes = "Only orders whose attributes say this at a dotted path (`attributes.delivery.window=am`), for the \
                      paths that the operator has declared. A value that reads as a number or as true or false means \
                      both, text and that. Sorted by created_at.";
    let sort = schema::one_of(&Sort::NAMES, "In which order.");
    let sorted = "The highest first with -. By total within one currency, which is the default with total_min or \
                  total_max.";
    let sort = parameters::in_query("sort", sort, sorted);
    let count = "Whether to count the orders that pass, up to 100,000.";
    pages(Description::new(
        "listOrders",
        Tag::Orders,
        "Lists orders, the newest first",
    ))
    .text("One's own orders; an admin sees those of all customers. Every list walks an index.")
    .parameter("Status", status.example(Some("created".into())))
    .parameter(
        "CustomerId",
        customer_id.example(Some(examples::USER_ID.into())),
    )
    .parameter(
        "CreatedFrom",
        described::time("created_from", "Only orders created then or later."),
    )
    .parameter(
        "CreatedTo",
        described::time("created_to", "Only orders created earlier."),
    )
    .parameter("Currency", currency)
    .parameter(
        "TotalMin",
        amount(
            "total_min",
            "Only orders that cost so much or more; with currency.",
        ),
    )
    .parameter(
        "TotalMax",
        amount(
            "total_max",
            "Only orders that cost so much or less; with currency.",
        ),
    )
    .parameter("Words", parameters::in_query("q", text(), words))
    .parameter(
        "Attributes",
        parameters::in_query("attributes.*", text(), attributes),
    )
    .parameter("OrderSort", sort)
    .parameter(
        "Count",
        parameters::in_query("count", schema::boolean("Whether."), count),
    )
    .parameter("OrderFields", fields())
    .answer(Answer::json::<List<'_>>(
        StatusCode::OK,
        "A page of orders.",
        json!({"items": [example], "next_cursor": null}),
    ))
}

fn fields() -> ParameterBuilder {
    described::fields(&answers::FIELDS)
}

async fn one(
    caller: Caller,
    request: HttpRequest,
    id: web::Path<String>,
    queries: web::Data<Queries>,
) -> Result<HttpResponse, Problem> {
    let awaited = After::of_request(request.headers())?;
    let mut parameters = Parameters::of(&request)?;
    let wanted = "a version, or an RFC 3339 time";
    let as_of: Option<AsOf> = parameters.optional("as_of", wanted, |text| text.parse().ok());
    let fields = Fields::of(&mut parameters, &answers::FIELDS);
    parameters.finish()?;
    let found = match as_of {
        Some(as_of) => answers::one_as_of(&queries, caller, awaited, &id, as_of).await?,
        None => answers::one(&queries, caller, awaited, &id).await?,
    };
    let shown = found.shown()?;
    let version = shown.version;
    let item = fields.of_item(shown)?;
    Ok(known_or(request.headers(), version, found.is_whole(), item))
}

/// A page of an order's history.
#[derive(Serialize, ToSchema)]
struct OrderHistory<'a> {
    /// The first event first.
    items: Vec<representation::OrderChange<'a>>,
    /// Where the next page begins; `null` on the last one.
    #[schema(required = true)]
    next_cursor: Option<&'a str>,
}

async fn history(
    caller: Caller,
    request: HttpRequest,
    id: web::Path<String>,
    queries: web::Data<Queries>,
) -> Result<HttpResponse, Problem> {
    let awaited = After::of_request(request.headers())?;
    let parameters = Parameters::of(&request)?;
    let page = answers::history(&queries, caller, awaited, &id, parameters).await?;
    Ok(HttpResponse::Ok().json(OrderHistory {
        items: page.shown()?,
        next_cursor: page.next_cursor.as_deref(),
    }))
}

/// A page of orders.
#[derive(Serialize, ToSchema)]
#[schema(as = OrderList)]
struct List<'a> {
    /// In the order that was asked for, the newest first without one.
    #[schema(value_type = Vec<representation::Order>)]
    items: Vec<Selected<representation::Order<'a>>>,
    /// Where the next page begins; `null` on the last one.
    #[schema(required = true)]
    next_cursor: Option<&'a str>,
    /// How many orders pass, where that was asked for; more than 100,000 are not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
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
        items: page.fields.of_items(page.shown()?)?,
        next_cursor: page.next_cursor.as_deref(),
        count: page.count,
    }))
}
