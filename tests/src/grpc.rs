//! Calls over gRPC, and the messages as the JSON that HTTP clients send and get.

use std::time::Duration;

use proto::v1;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tonic::{
    Request, Status,
    metadata::MetadataValue,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use tonic_types::StatusExt;

use crate::environment;

/// Longer than the services wait for anything unless asked to wait longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
const CONNECTED_WITHIN: Duration = Duration::from_secs(2);
const GATEWAY: &str = "ORDERLOG_GRPC_ADDR";

/// Which service a call is for, where there is no gateway that knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// command-api.
    Commands,
    /// projections.
    Queries,
}

/// A connection to the gateway, over TLS, where there is one; else to the service itself.
pub async fn channel(service: Service) -> Channel {
    match std::env::var(GATEWAY) {
        Ok(gateway) => through(&gateway).await,
        Err(_) => direct(service).await,
    }
}

/// A connection to the gateway at this address (host:port), over TLS.
pub async fn through(gateway: &str) -> Channel {
    let file = environment::variable("ORDERLOG_CA_FILE");
    let pem = std::fs::read(&file).expect("the authorities");
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
    let endpoint = Endpoint::from_shared(format!("https://{gateway}")).expect("an address");
    connected(endpoint.tls_config(tls).expect("TLS")).await
}

/// A connection to one certain service, past the gateway.
pub async fn direct(service: Service) -> Channel {
    let address = match service {
        Service::Commands => {
            let all = environment::variable("ORDERLOG_COMMAND_GRPC_ADDRS");
            all.split(',').next().unwrap_or_default().to_owned()
        }
        Service::Queries => environment::variable("ORDERLOG_QUERY_GRPC_ADDR"),
    };
    connected_to(&address).await
}

/// A connection to whoever listens at this address (host:port).
pub async fn connected_to(address: &str) -> Channel {
    connected(Endpoint::from_shared(format!("http://{address}")).expect("an address")).await
}

async fn connected(endpoint: Endpoint) -> Channel {
    let endpoint = endpoint.connect_timeout(CONNECTED_WITHIN);
    match endpoint.timeout(ANSWER_WITHIN).connect().await {
        Ok(channel) => channel,
        Err(error) => panic!("no connection: {error:?}"),
    }
}

/// A message with an access token.
pub fn signed<M>(message: M, token: Option<&str>) -> Request<M> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        let value = format!("Bearer {token}");
        let value = MetadataValue::try_from(value).expect("a token");
        request.metadata_mut().insert("authorization", value);
    }
    request
}

/// The problem that a status stands for, by its name over HTTP; empty where it is none of ours.
pub fn problem_name(status: &Status) -> String {
    let details = status.get_error_details();
    let Some(info) = details.error_info() else {
        return String::new();
    };
    assert_eq!(info.domain, "orderlog", "{status:?}");
    let name = info.reason.to_lowercase().replace('_', "-");
    assert_eq!(info.metadata["problem"], name, "{status:?}");
    name
}

/// An order as HTTP clients get it.
pub fn order(order: Option<v1::Order>) -> Value {
    let order = order.expect("an order");
    let status = match order.status() {
        v1::OrderStatus::Unspecified => panic!("{order:?} has no status"),
        v1::OrderStatus::Created => "created",
        v1::OrderStatus::InProgress => "in_progress",
        v1::OrderStatus::Completed => "completed",
        v1::OrderStatus::Cancelled => "cancelled",
    };
    let lines = order.lines.iter().map(|line| {
        json!({
            "sku": line.sku, "name": line.name, "quantity": line.quantity,
            "unit_price": line.unit_price, "amount": line.amount,
        })
    });
    let attributes: Value = serde_json::from_str(&order.attributes_json).expect("attributes");
    json!({
        "id": order.id, "customer_id": order.customer_id, "status": status,
        "currency": order.currency, "lines": lines.collect::<Vec<_>>(), "total": order.total,
        "shipping_address": order.shipping_address.map(|address| json!({
            "recipient": address.recipient, "street": address.street, "street2": address.street2,
            "postal_code": address.postal_code, "city": address.city, "region": address.region,
            "country": address.country,
        })),
        "note": order.note, "attributes": attributes, "version": order.version,
        "created_at": instant(order.created_at), "updated_at": instant(order.updated_at),
    })
}

/// A user as HTTP clients get him.
pub fn user(user: Option<v1::User>) -> Value {
    let user = user.expect("a user");
    let role = match user.role() {
        v1::Role::Unspecified => panic!("{user:?} has no role"),
        v1::Role::User => "user",
        v1::Role::Admin => "admin",
    };
    let status = match user.status() {
        v1::UserStatus::Unspecified => panic!("{user:?} has no status"),
        v1::UserStatus::Active => "active",
        v1::UserStatus::Erased => "erased",
    };
    let preferences = user.preferences.expect("preferences");
    json!({
        "id": user.id, "email": user.email, "name": user.name, "phone": user.phone,
        "locale": user.locale, "role": role, "status": status,
        "email_verified": user.email_verified,
        "preferences": {
            "order_emails": preferences.order_emails, "order_sms": preferences.order_sms,
        },
        "version": user.version, "created_at": instant(user.created_at),
        "updated_at": instant(user.updated_at),
    })
}

fn instant(timestamp: Option<prost_types::Timestamp>) -> String {
    let timestamp = timestamp.expect("a time");
    let nanos = i128::from(timestamp.seconds) * 1_000_000_000 + i128::from(timestamp.nanos);
    let instant = OffsetDateTime::from_unix_timestamp_nanos(nanos).expect("a time");
    instant.format(&Rfc3339).expect("a text")
}

/// A member that is a text, as a field that may be left out.
pub fn given(body: &Value, name: &str) -> Option<String> {
    body[name].as_str().map(str::to_owned)
}

/// A member that is a text, as a field that is empty where it is left out.
pub fn needed(body: &Value, name: &str) -> String {
    given(body, name).unwrap_or_default()
}

/// The lines of a body.
pub fn lines(body: &Value) -> Vec<v1::NewOrderLine> {
    let lines = body["lines"].as_array().into_iter().flatten();
    lines
        .map(|line| v1::NewOrderLine {
            sku: needed(line, "sku"),
            name: given(line, "name"),
            quantity: line["quantity"].as_i64().unwrap_or_default() as i32,
            unit_price: needed(line, "unit_price"),
        })
        .collect()
}

/// The address of a body.
pub fn address(body: &Value) -> Option<v1::Address> {
    let address = body.get("shipping_address")?;
    Some(v1::Address {
        recipient: needed(address, "recipient"),
        street: needed(address, "street"),
        street2: given(address, "street2"),
        postal_code: needed(address, "postal_code"),
        city: needed(address, "city"),
        region: given(address, "region"),
        country: needed(address, "country"),
    })
}

/// The free part of a body.
pub fn attributes(body: &Value) -> Option<String> {
    body.get("attributes").map(Value::to_string)
}
