//! Queries for users over HTTP.

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
        examples::{self, UserNow},
        parameters,
    },
    problem::{NOT_ALLOWED, NOT_FOUND, Problem},
    representation,
};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::answers::{self, FoundUser};
use crate::{
    described::{pages, query},
    queries::{After, Queries},
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
            pages(description).answer(Answer::json::<List<'_>>(
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
            .answer(found())
        }),
        Endpoint::get("/users/{id}", web::to(one), || {
            query(Description::new("getUser", Tag::Users, "Gets a user"))
                .text("One's own record; an admin may read any.")
                .parameter("UserId", parameters::user_id())
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
    Parameters::of(&request)?.finish()?;
    answer(&answers::me(&queries, caller, awaited).await?)
}

async fn one(
    caller: Caller,
    request: HttpRequest,
    id: web::Path<String>,
    queries: web::Data<Queries>,
) -> Result<HttpResponse, Problem> {
    let awaited = After::of_request(request.headers())?;
    Parameters::of(&request)?.finish()?;
    answer(&answers::one(&queries, caller, awaited, &id).await?)
}

fn answer(found: &FoundUser) -> Result<HttpResponse, Problem> {
    let shown = found.shown()?;
    Ok(HttpResponse::Ok()
        .insert_header((ETAG, etag::of_version(shown.version)))
        .json(shown))
}

/// A page of users.
#[derive(Serialize, ToSchema)]
#[schema(as = UserList)]
struct List<'a> {
    /// The newest first.
    items: Vec<representation::User<'a>>,
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
