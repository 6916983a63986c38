//! Where an operation is registered and described: one place, so that neither is forgotten.

use actix_web::{Route, http::Method, web};

use super::Description;
use crate::http::resource;

/// An operation of the API: what answers it, and what is said about it.
pub struct Endpoint {
    /// How it is asked for. What answers GET answers HEAD as well.
    pub method: Method,
    /// Where, with names of variable parts in braces.
    pub path: &'static str,
    route: Route,
    describe: fn() -> Description,
}

impl Endpoint {
    /// An operation that asks.
    pub fn get(path: &'static str, route: Route, describe: fn() -> Description) -> Self {
        Self::new(Method::GET, path, route, describe)
    }

    /// An operation that has something done.
    pub fn post(path: &'static str, route: Route, describe: fn() -> Description) -> Self {
        Self::new(Method::POST, path, route, describe)
    }

    /// An operation that replaces.
    pub fn put(path: &'static str, route: Route, describe: fn() -> Description) -> Self {
        Self::new(Method::PUT, path, route, describe)
    }

    /// An operation that changes parts.
    pub fn patch(path: &'static str, route: Route, describe: fn() -> Description) -> Self {
        Self::new(Method::PATCH, path, route, describe)
    }

    /// An operation that removes.
    pub fn delete(path: &'static str, route: Route, describe: fn() -> Description) -> Self {
        Self::new(Method::DELETE, path, route, describe)
    }

    fn new(
        method: Method,
        path: &'static str,
        route: Route,
        describe: fn() -> Description,
    ) -> Self {
        Self {
            method,
            path,
            route,
            describe,
        }
    }

    /// What is said about it.
    pub fn description(&self) -> Description {
        (self.describe)()
    }
}

/// Adds `endpoints` to a service, path by path; paths that both match are tried in the order they are given here.
pub fn register(config: &mut web::ServiceConfig, endpoints: Vec<Endpoint>) {
    let mut paths: Vec<(&'static str, Vec<(Method, Route)>)> = Vec::new();
    for Endpoint {
        method,
        path,
        route,
        describe: _,
    } in endpoints
    {
        match paths.iter_mut().find(|(known, _)| *known == path) {
            Some((_, routes)) => routes.push((method, route)),
            None => paths.push((path, vec![(method, route)])),
        }
    }
    for (path, routes) in paths {
        config.service(resource(path, routes));
    }
}
