//! Queries for users over HTTP.

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use runtime::{
    auth::Caller,
    openapi::{
        Answer, Description, Endpoint, Tag,
        examples::{self, UserNow},
        parameters, schema,
    },
    problem::{NOT_ALLOWED, NOT_FOUND, Problem},
    representation,
};
use serde::Serialize;
use serde_json::json;
use utoipa::{ToSchema, openapi::path::ParameterBuilder};

use super::answers::{self, FoundUser};
use crate::{
    described::{self, pages, query},
    fields::{Fields, Selected},
    queries::{After, Queries, known_or},
    query::Parameters,
};

/// `GET /users`, `/users/me`, `/users/{id}`
pub fn endpoints() -> [Endpoint; 3] {
    [
        Endpoint::get("/users", web::to(list), || {
            let description =
                Description::new("listUsers", Tag::Users, "Lists all users, the newest first")
                    .text("For admins.")
                    .problems(&[&NOT_ALLOWED]);
            let example =
                json!({"items": [examples::user(UserNow::Promoted)], "next_cursor": null});
            let role = schema::one_of(&["user", "admin"], "What a user may do.");
            let status = schema::one_of(&["active", "erased"], "Whether a user's data is there.");
            pages(description)
                .parameter(
                    "Role",
                    parameters::in_query("role", role, "Only users who may do this."),
                )
                .parameter(
                    "UserStatus",
                    parameters::in_query("status", status, "Only users of this kind."),
                )
                .parameter(
                    "RegisteredFrom",
                    described::time("created_from", "Only users registered then or later."),
                )
                .parameter(
                    "RegisteredTo",
                    described::time("created_to", "Only users registered earlier."),
                )
                .parameter("UserFields", fields())
                .answer(Answer::json::<List<'_>>(
                    StatusCode::OK,
                    "A page of users.",
                    example,
                ))
        }),
        Endpoint::get("/users/me", web::to(me), || {
            query(Description::new(
                "getMe",
                Tag::Users,
                "Gets the caller's own record",
            ))
            .unless_known()
            .parameter("UserFields", fields())
            .answer(found())
        }),
        Endpoint::get("/users/{id}", web::to(one), || {
            query(Description::new("getUser", Tag::Users, "Gets a user"))
                .unless_known()
                .text("One's own record; an admin may read any.")
                .parameter("UserId", parameters::user_id())
                .parameter("UserFields", fields())
                .answer(found())
                .problems(&[&NOT_FOUND])
        }),
    ]
}

fn found() -> Answer {
    let example = examples::user(UserNow::ProfileUpdated);
    Answer::json::<representation::User<'_>>(StatusCode::OK, "The user.", example).etag()
}

async fn me(
    caller: Caller,
    request: HttpRequest,
    queries: web::Data<Queries>,
) -> Result<HttpResponse, Problem> {
    let awaited = After::of_request(request.headers())?;
    let mut parameters = Parameters::of(&request)?;
    let fields = Fields::of(&mut parameters, &answers::FIELDS);
    parameters.finish()?;
    answer(
        &request,
        &fields,
        &answers::me(&queries, caller, awaited).await?,
    )
}

async fn one(
    caller: Caller,
    request: HttpRequest,
    id: web::Path<String>,
    queries: web::Data<Queries>,
) -> Result<HttpResponse, Problem> {
    let awaited = After::of_request(request.headers())?;
    let mut parameters = Parameters::of(&request)?;
    let fields = Fields::of(&mut parameters, &answers::FIELDS);
    parameters.finish()?;
    answer(
        &request,
        &fields,
        &answers::one(&queries, caller, awaited, &id).await?,
    )
}

fn fields() -> ParameterBuilder {
    described::fields(&answers::FIELDS)
}

fn answer(
    request: &HttpRequest,
    fields: &Fields,
    found: &FoundUser,
) -> Result<HttpResponse, Problem> {
    let shown = found.shown()?;
    let version = shown.version;
    let item = fields.of_item(shown)?;
    // An erasure is a version of its own.
    Ok(known_or(request.headers(), version, true, item))
}

/// A page of users.
#[derive(Serialize, ToSchema)]
#[schema(as = UserList)]
struct List<'a> {
    /// The newest first.
    #[schema(value_type = Vec<representation::User>)]
    items: Vec<Selected<representation::User<'a>>>,
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
        items: page.fields.of_items(page.shown()?)?,
        next_cursor: page.next_cursor.as_deref(),
    }))
}
