//! The API description, OpenAPI 3.1: each operation is described where it is registered ([`Endpoint`]), in words of
//! this API ([`Description`]), and becomes part of one document ([`document`]).
//!
//! ```text
//! Endpoint::get("/orders/{id}", web::to(one), || {
//!     Description::new("getOrder", Tag::Orders, "Gets an order")
//!         .signed_in()
//!         .parameter("OrderId", order_id())
//!         .answer(Answer::json::<Order>(StatusCode::OK, "The order.", example).etag())
//!         .problems(&[&problem::NOT_FOUND, &problem::UNAVAILABLE])
//! })
//! ```

mod answer;
mod description;
pub mod document;
mod endpoint;
pub mod examples;
mod headers;
pub mod parameters;
mod problems;
pub mod schema;

pub use answer::Answer;
pub use description::{Body, Description, Tag};
pub use endpoint::{Endpoint, register};
pub use problems::body as problem_body;
