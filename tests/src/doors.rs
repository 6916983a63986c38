//! One question through either door: HTTP or gRPC, and what was told, in the same terms.

use proto::v1::{
    self, order_service_client::OrderServiceClient, replace_order_request::BasedOn,
    user_service_client::UserServiceClient,
};
use reqwest::Method;
use serde_json::{Value, json};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt;

use crate::{
    grpc::{self, Service, address, attributes, given, lines, needed, signed},
    http::{Answer, Call, command, query},
};

/// A way into the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// HTTP and JSON.
    Http,
    /// gRPC.
    Grpc,
}

/// What is asked for. Bodies are those of HTTP.
#[derive(Debug, Clone)]
pub enum Ask {
    /// `POST /register`
    Register(Value),
    /// `POST /login`
    Login(Value),
    /// `POST /token/refresh`
    Refresh(Value),
    /// `POST /logout`
    Logout(Value),
    /// `POST /orders`, under a key.
    Create(Value, Option<String>),
    /// A command under a key.
    Named(Box<Self>, String),
    /// `PUT /orders/{id}`, based on a version, or `*`.
    Replace(String, Value, Option<&'static str>),
    /// `PUT /orders/{id}/status`, on condition of a version.
    SetStatus(String, Value, Option<u64>),
    /// `POST /orders/{id}/cancel`
    Cancel(String, Value, Option<u64>),
    /// `PATCH /users/{id}`
    Profile(String, Value, Option<u64>),
    /// `PUT /users/{id}/role`
    Role(String, Value, Option<u64>),
    /// `PUT /users/{id}/password`
    Password(String, Value, Option<u64>),
    /// `DELETE /users/{id}`
    Erase(String, Option<u64>),
    /// `GET /orders/{id}`, after a consistency token.
    Order(String, Option<String>),
    /// `GET /orders`
    Orders(Vec<(&'static str, String)>, Option<String>),
    /// `GET /users/{id}`
    User(String, Option<String>),
    /// `GET /users`
    Users(Vec<(&'static str, String)>, Option<String>),
}

/// What was told.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// The problem, by its name over HTTP; empty where there is none.
    pub problem: String,
    /// The representation, or the members of the problem.
    pub body: Value,
    /// The consistency token of a command.
    pub token: Option<String>,
}

impl Door {
    /// Asks, as whoever the access token names.
    pub async fn ask(self, token: Option<&str>, ask: Ask) -> Told {
        match self {
            Self::Http => of_answer(&http(token, ask).send().await),
            Self::Grpc => match over_grpc(token, ask).await {
                Ok((body, token)) => Told {
                    problem: String::new(),
                    body,
                    token,
                },
                Err(status) => of_status(&status),
            },
        }
    }
}

fn http(token: Option<&str>, ask: Ask) -> Call {
    const MERGE_PATCH: &str = "application/merge-patch+json";
    let etag = |version: u64| format!("\"{version}\"");
    let expecting = |call: Call, version: Option<u64>| match version {
        Some(version) => call.if_match(&etag(version)),
        None => call,
    };
    let after = |call: Call, token: Option<String>| match token {
        Some(token) => call.after(&token),
        None => call,
    };
    let list = |path: &str, parameters: Vec<(&str, String)>| {
        let parameters = parameters
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        query(&format!(
            "{path}?{}",
            parameters.collect::<Vec<_>>().join("&")
        ))
    };
    let call = match ask {
        Ask::Named(ask, key) => return http(token, *ask).key(&key),
        Ask::Register(body) => command(Method::POST, "/register").json(&body),
        Ask::Login(body) => command(Method::POST, "/login").json(&body),
        Ask::Refresh(body) => command(Method::POST, "/token/refresh").json(&body),
        Ask::Logout(body) => command(Method::POST, "/logout").json(&body),
        Ask::Create(body, key) => {
            let call = command(Method::POST, "/orders").json(&body);
            match key {
                Some(key) => call.key(&key),
                None => call,
            }
        }
        Ask::Replace(id, body, based_on) => {
            let call = command(Method::PUT, &format!("/orders/{id}")).json(&body);
            match based_on {
                Some("*") => call.if_match("*"),
                Some(version) => call.if_match(&format!("\"{version}\"")),
                None => call,
            }
        }
        Ask::SetStatus(id, body, version) => {
            let call = command(Method::PUT, &format!("/orders/{id}/status"));
            expecting(call.json(&body), version)
        }
        Ask::Cancel(id, body, version) => {
            let call = command(Method::POST, &format!("/orders/{id}/cancel"));
            expecting(call.json(&body), version)
        }
        Ask::Profile(id, body, version) => {
            let call = command(Method::PATCH, &format!("/users/{id}"));
            expecting(call.body(MERGE_PATCH, body.to_string()), version)
        }
        Ask::Role(id, body, version) => {
            let call = command(Method::PUT, &format!("/users/{id}/role"));
            expecting(call.json(&body), version)
        }
        Ask::Password(id, body, version) => {
            let call = command(Method::PUT, &format!("/users/{id}/password"));
            expecting(call.json(&body), version)
        }
        Ask::Erase(id, version) => {
            expecting(command(Method::DELETE, &format!("/users/{id}")), version)
        }
        Ask::Order(id, token) => after(query(&format!("/orders/{id}")), token),
        Ask::Orders(parameters, token) => after(list("/orders", parameters), token),
        Ask::User(id, token) => after(query(&format!("/users/{id}")), token),
        Ask::Users(parameters, token) => after(list("/users", parameters), token),
    };
    match token {
        Some(token) => call.token(token),
        None => call,
    }
}

fn of_answer(answer: &Answer) -> Told {
    let problem = answer.problem_name();
    let body = match answer.status {
        204 => Value::Null,
        _ if problem.is_empty() => answer.json(),
        status => {
            let body = answer.problem(status, &problem);
            json!({
                "detail": body["detail"], "rule": body["rule"],
                "current_version": body["current_version"].as_u64().map(|it| it.to_string()),
                "errors": body["errors"],
                "retry_after": answer.header_if_there("retry-after"),
            })
        }
    };
    Told {
        problem,
        body,
        token: answer
            .header_if_there("consistency-token")
            .map(str::to_owned),
    }
}

fn of_status(status: &Status) -> Told {
    let problem = match (grpc::problem_name(status), status.code()) {
        // What the gateway itself says has a code and a text, and no details.
        (name, Code::Unavailable) if name.is_empty() => "unavailable".to_owned(),
        (name, _) => name,
    };
    assert!(!problem.is_empty(), "{status:?}");
    assert_eq!(status.code(), code(&problem), "{status:?}");
    let details = status.get_error_details();
    let member = |name: &str| details.error_info()?.metadata.get(name).cloned();
    let errors = details.bad_request().map(|bad| {
        let errors = bad.field_violations.iter().map(|violation| {
            let code = violation.reason.to_lowercase();
            json!({"pointer": violation.field, "code": code, "message": violation.description})
        });
        errors.collect::<Vec<_>>()
    });
    let pause = details.retry_info().and_then(|it| it.retry_delay);
    Told {
        problem,
        body: json!({
            "detail": status.message(), "rule": member("rule"),
            "current_version": member("current_version"), "errors": errors,
            "retry_after": pause.map(|pause| pause.as_secs().to_string()),
        }),
        token: None,
    }
}

/// What a problem is in gRPC: written down here a second time, as it is a contract.
fn code(problem: &str) -> Code {
    match problem {
        "not-authenticated" => Code::Unauthenticated,
        "not-allowed" => Code::PermissionDenied,
        "not-found" => Code::NotFound,
        "rule-broken" | "idempotency-key-reused" => Code::FailedPrecondition,
        "address-taken" => Code::AlreadyExists,
        "stale-version" | "idempotency-key-in-flight" => Code::Aborted,
        "too-large" | "too-many-requests" => Code::ResourceExhausted,
        "unavailable" | "not-yet-consistent" => Code::Unavailable,
        "outcome-unknown" => Code::DeadlineExceeded,
        _ => Code::InvalidArgument,
    }
}

type Outcome = Result<(Value, Option<String>), Status>;

async fn over_grpc(token: Option<&str>, ask: Ask) -> Outcome {
    let mut name = None;
    let ask = if let Ask::Named(ask, key) = ask {
        name = Some(key);
        *ask
    } else {
        ask
    };
    match ask {
        Ask::Named(..) => unreachable!("a command has one name"),
        Ask::Register(body) => register(&body, name).await,
        Ask::Login(body) => log_in(&body).await,
        Ask::Refresh(body) => refresh(&body).await,
        Ask::Logout(body) => log_out(&body).await,
        Ask::Create(body, key) => create(token, &body, key.or(name)).await,
        Ask::Replace(id, body, based_on) => replace(token, id, &body, based_on, name).await,
        Ask::SetStatus(id, body, version) => set_status(token, id, &body, version, name).await,
        Ask::Cancel(id, body, version) => cancel(token, id, &body, version, name).await,
        Ask::Profile(id, body, version) => profile(token, id, &body, version, name).await,
        Ask::Role(id, body, version) => role(token, id, &body, version, name).await,
        Ask::Password(id, body, version) => password(token, id, &body, version, name).await,
        Ask::Erase(id, version) => erase(token, id, version, name).await,
        Ask::Order(id, after) => order(token, id, after).await,
        Ask::Orders(parameters, after) => list_orders(token, &parameters, after).await,
        Ask::User(id, after) => user(token, id, after).await,
        Ask::Users(parameters, after) => list_users(token, &parameters, after).await,
    }
}

async fn users(service: Service) -> UserServiceClient<Channel> {
    UserServiceClient::new(grpc::channel(service).await)
}

async fn orders(service: Service) -> OrderServiceClient<Channel> {
    OrderServiceClient::new(grpc::channel(service).await)
}

async fn register(body: &Value, idempotency_key: Option<String>) -> Outcome {
    let message = v1::RegisterRequest {
        email: needed(body, "email"),
        password: needed(body, "password"),
        name: needed(body, "name"),
        phone: given(body, "phone"),
        locale: given(body, "locale"),
        idempotency_key,
    };
    let answer = users(Service::Commands).await.register(message).await?;
    let answer = answer.into_inner();
    Ok((json!({"id": answer.id}), Some(answer.consistency_token)))
}

async fn log_in(body: &Value) -> Outcome {
    let (email, password) = (needed(body, "email"), needed(body, "password"));
    let message = v1::LoginRequest { email, password };
    let answer = users(Service::Commands).await.login(message).await?;
    Ok((tokens(answer.into_inner().tokens), None))
}

async fn refresh(body: &Value) -> Outcome {
    let refresh_token = needed(body, "refresh_token");
    let message = v1::RefreshTokenRequest { refresh_token };
    let mut client = users(Service::Commands).await;
    let answer = client.refresh_token(message).await?;
    Ok((tokens(answer.into_inner().tokens), None))
}

async fn log_out(body: &Value) -> Outcome {
    let refresh_token = needed(body, "refresh_token");
    let message = v1::LogoutRequest { refresh_token };
    users(Service::Commands).await.logout(message).await?;
    Ok((Value::Null, None))
}

fn tokens(tokens: Option<v1::Tokens>) -> Value {
    let tokens = tokens.expect("tokens");
    json!({
        "access_token": tokens.access_token, "token_type": tokens.token_type,
        "expires_in": tokens.expires_in, "refresh_token": tokens.refresh_token,
    })
}

async fn create(token: Option<&str>, body: &Value, idempotency_key: Option<String>) -> Outcome {
    let message = v1::CreateOrderRequest {
        customer_id: given(body, "customer_id"),
        currency: needed(body, "currency"),
        lines: lines(body),
        shipping_address: address(body),
        note: given(body, "note"),
        attributes_json: attributes(body),
        idempotency_key,
    };
    let mut client = orders(Service::Commands).await;
    let answer = client.create_order(signed(message, token)).await?;
    let answer = answer.into_inner();
    Ok((grpc::order(answer.order), Some(answer.consistency_token)))
}

async fn replace(
    token: Option<&str>,
    id: String,
    body: &Value,
    based_on: Option<&'static str>,
    idempotency_key: Option<String>,
) -> Outcome {
    let message = v1::ReplaceOrderRequest {
        id,
        based_on: based_on.map(|version| match version {
            "*" => BasedOn::AnyVersion(true),
            version => BasedOn::ExpectedVersion(version.parse().expect("a version")),
        }),
        lines: lines(body),
        shipping_address: address(body),
        note: given(body, "note"),
        attributes_json: attributes(body),
        idempotency_key,
    };
    let mut client = orders(Service::Commands).await;
    let answer = client.replace_order(signed(message, token)).await?;
    let answer = answer.into_inner();
    Ok((grpc::order(answer.order), Some(answer.consistency_token)))
}

async fn set_status(
    token: Option<&str>,
    id: String,
    body: &Value,
    expected_version: Option<u64>,
    idempotency_key: Option<String>,
) -> Outcome {
    let message = v1::SetOrderStatusRequest {
        id,
        status: status(body["status"].as_str().unwrap_or_default()),
        reason: given(body, "reason"),
        expected_version,
        idempotency_key,
    };
    let mut client = orders(Service::Commands).await;
    let answer = client.set_order_status(signed(message, token)).await?;
    let answer = answer.into_inner();
    Ok((grpc::order(answer.order), Some(answer.consistency_token)))
}

async fn cancel(
    token: Option<&str>,
    id: String,
    body: &Value,
    expected_version: Option<u64>,
    idempotency_key: Option<String>,
) -> Outcome {
    let message = v1::CancelOrderRequest {
        id,
        reason: given(body, "reason"),
        expected_version,
        idempotency_key,
    };
    let mut client = orders(Service::Commands).await;
    let answer = client.cancel_order(signed(message, token)).await?;
    let answer = answer.into_inner();
    Ok((grpc::order(answer.order), Some(answer.consistency_token)))
}

async fn profile(
    token: Option<&str>,
    id: String,
    body: &Value,
    expected_version: Option<u64>,
    idempotency_key: Option<String>,
) -> Outcome {
    let mut paths = Vec::new();
    for (name, value) in body.as_object().into_iter().flatten() {
        match value.as_object() {
            Some(inner) => paths.extend(inner.keys().map(|each| format!("{name}.{each}"))),
            None => paths.push(name.clone()),
        }
    }
    let preferences = body["preferences"].as_object();
    let message = v1::UpdateProfileRequest {
        id,
        name: given(body, "name"),
        phone: given(body, "phone"),
        locale: given(body, "locale"),
        preferences: preferences.map(|preferences| v1::NotificationPreferences {
            order_emails: preferences.get("order_emails").and_then(Value::as_bool),
            order_sms: preferences.get("order_sms").and_then(Value::as_bool),
        }),
        update_mask: Some(prost_types::FieldMask { paths }),
        expected_version,
        idempotency_key,
    };
    let mut client = users(Service::Commands).await;
    let answer = client.update_profile(signed(message, token)).await?;
    let answer = answer.into_inner();
    Ok((grpc::user(answer.user), Some(answer.consistency_token)))
}

async fn role(
    token: Option<&str>,
    id: String,
    body: &Value,
    expected_version: Option<u64>,
    idempotency_key: Option<String>,
) -> Outcome {
    let role = match body["role"].as_str() {
        None => 0,
        Some("user") => v1::Role::User.into(),
        Some("admin") => v1::Role::Admin.into(),
        Some(_) => i32::MAX,
    };
    let message = v1::ChangeRoleRequest {
        id,
        role,
        expected_version,
        idempotency_key,
    };
    let mut client = users(Service::Commands).await;
    let answer = client.change_role(signed(message, token)).await?;
    let answer = answer.into_inner();
    Ok((grpc::user(answer.user), Some(answer.consistency_token)))
}

async fn order(token: Option<&str>, id: String, consistency_token: Option<String>) -> Outcome {
    let message = v1::GetOrderRequest {
        id,
        consistency_token,
        ..v1::GetOrderRequest::default()
    };
    let mut client = orders(Service::Queries).await;
    let answer = client.get_order(signed(message, token)).await?;
    Ok((grpc::order(answer.into_inner().order), None))
}

async fn list_orders(
    token: Option<&str>,
    parameters: &[(&str, String)],
    consistency_token: Option<String>,
) -> Outcome {
    let message = v1::ListOrdersRequest {
        status: status(&parameter(parameters, "status").unwrap_or_default()),
        customer_id: parameter(parameters, "customer_id"),
        cursor: parameter(parameters, "cursor"),
        limit: parameter(parameters, "limit").map(|limit| limit.parse().expect("a number")),
        consistency_token,
        ..v1::ListOrdersRequest::default()
    };
    let mut client = orders(Service::Queries).await;
    let page = client.list_orders(signed(message, token)).await?;
    let page = page.into_inner();
    let items = page.items.into_iter().map(|each| grpc::order(Some(each)));
    let items: Vec<_> = items.collect();
    Ok((
        json!({"items": items, "next_cursor": page.next_cursor}),
        None,
    ))
}

async fn user(token: Option<&str>, id: String, consistency_token: Option<String>) -> Outcome {
    let message = v1::GetUserRequest {
        id,
        consistency_token,
        wait: None,
    };
    let mut client = users(Service::Queries).await;
    let answer = client.get_user(signed(message, token)).await?;
    Ok((grpc::user(answer.into_inner().user), None))
}

async fn list_users(
    token: Option<&str>,
    parameters: &[(&str, String)],
    consistency_token: Option<String>,
) -> Outcome {
    let message = v1::ListUsersRequest {
        cursor: parameter(parameters, "cursor"),
        limit: parameter(parameters, "limit").map(|limit| limit.parse().expect("a number")),
        consistency_token,
        ..v1::ListUsersRequest::default()
    };
    let mut client = users(Service::Queries).await;
    let page = client.list_users(signed(message, token)).await?;
    let page = page.into_inner();
    let items = page.items.into_iter().map(|each| grpc::user(Some(each)));
    let items: Vec<_> = items.collect();
    Ok((
        json!({"items": items, "next_cursor": page.next_cursor}),
        None,
    ))
}

async fn password(
    token: Option<&str>,
    id: String,
    body: &Value,
    expected_version: Option<u64>,
    idempotency_key: Option<String>,
) -> Outcome {
    let message = v1::ChangePasswordRequest {
        id,
        current_password: needed(body, "current_password"),
        new_password: needed(body, "new_password"),
        expected_version,
        idempotency_key,
    };
    let mut client = users(Service::Commands).await;
    let answer = client.change_password(signed(message, token)).await?;
    Ok((Value::Null, Some(answer.into_inner().consistency_token)))
}

async fn erase(
    token: Option<&str>,
    id: String,
    expected_version: Option<u64>,
    idempotency_key: Option<String>,
) -> Outcome {
    let message = v1::EraseUserRequest {
        id,
        expected_version,
        idempotency_key,
    };
    let mut client = users(Service::Commands).await;
    let answer = client.erase_user(signed(message, token)).await?;
    Ok((Value::Null, Some(answer.into_inner().consistency_token)))
}

fn parameter(parameters: &[(&str, String)], wanted: &str) -> Option<String> {
    let found = parameters.iter().find(|(name, _)| *name == wanted);
    found.map(|(_, value)| value.clone())
}

fn status(name: &str) -> i32 {
    match name {
        "" => 0,
        "created" => v1::OrderStatus::Created.into(),
        "in_progress" => v1::OrderStatus::InProgress.into(),
        "completed" => v1::OrderStatus::Completed.into(),
        "cancelled" => v1::OrderStatus::Cancelled.into(),
        _ => i32::MAX,
    }
}
