//! The order back again: what HTTP and JSON cost by themselves.

use actix_web::{HttpResponse, web};

use super::order;

/// Takes orders.
pub fn routes(config: &mut web::ServiceConfig) {
    config.service(order::at_orders(create));
}

async fn create(body: web::Bytes) -> HttpResponse {
    match order::created(&body) {
        Ok(order) => order::answer(&order),
        Err(error) => order::unreadable(&error),
    }
}
