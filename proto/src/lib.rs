//! `orderlog.v1`: the public gRPC services and the messages that they exchange, made from `orderlog/v1/*.proto`. And
//! `orderlog.internal.v1`: what the nodes of command-api ask of each other.
//!
//! Nothing in here decides anything; how messages are read and answered is the services' business.

mod codec;
mod confidential;

use std::borrow::Cow;

/// Messages, clients and servers.
pub mod v1 {
    tonic::include_proto!("orderlog.v1");
}

/// What nodes ask of each other: messages, client and server. Not in [`DESCRIPTORS`], not in [`METHODS`].
pub mod internal {
    tonic::include_proto!("orderlog.internal.v1");
}

pub use codec::FIELDS_MAX;

/// The descriptors of all that is in [`v1`], with what they import: what reflection shows.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/orderlog.bin"));

/// Every method there is.
pub const METHODS: &[Method] = include!(concat!(env!("OUT_DIR"), "/methods.rs"));

/// A method of a service.
#[derive(Debug, PartialEq, Eq)]
pub struct Method {
    /// Its service, with the package: `orderlog.v1.OrderService`.
    pub service: &'static str,
    /// Its name: `GetOrder`.
    pub name: &'static str,
    /// The path it is called under: `/orderlog.v1.OrderService/GetOrder`.
    pub path: &'static str,
}

impl Method {
    /// The method that is called under a path.
    pub fn of_path(path: &str) -> Option<&'static Self> {
        METHODS.iter().find(|method| method.path == path)
    }

    /// Whether it asks the read models (`Get…`, `List…`); all others are commands.
    pub fn is_query(&self) -> bool {
        self.name.starts_with("Get") || self.name.starts_with("List")
    }
}

/// How the status of an order is called over HTTP; `None` where none is given. A number that means nothing stays one, and
/// is refused like any other text.
pub fn order_status_name(number: i32) -> Option<Cow<'static, str>> {
    match v1::OrderStatus::try_from(number) {
        Ok(v1::OrderStatus::Unspecified) => None,
        Ok(v1::OrderStatus::Created) => Some("created".into()),
        Ok(v1::OrderStatus::InProgress) => Some("in_progress".into()),
        Ok(v1::OrderStatus::Completed) => Some("completed".into()),
        Ok(v1::OrderStatus::Cancelled) => Some("cancelled".into()),
        Err(_) => Some(number.to_string().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_known_by_their_paths() {
        let is_query = |path| Method::of_path(path).map(Method::is_query);
        for (path, expected) in [
            ("/orderlog.v1.OrderService/CreateOrder", Some(false)),
            ("/orderlog.v1.OrderService/ListOrders", Some(true)),
            ("/orderlog.v1.UserService/GetUser", Some(true)),
            ("/orderlog.v1.UserService/Login", Some(false)),
            ("/orderlog.v1.UserService/Vanish", None),
            ("/grpc.health.v1.Health/Check", None),
        ] {
            assert_eq!(is_query(path), expected, "{path}");
        }
    }
}
