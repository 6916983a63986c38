//! The parameters that several operations have.

use utoipa::openapi::{
    KnownFormat, Required, Schema,
    path::{ParameterBuilder, ParameterIn},
};

use super::{examples, headers, schema};

/// The id of a user in a path.
pub fn user_id() -> ParameterBuilder {
    id("The user's id.", examples::USER_ID)
}

/// The id of an order in a path.
pub fn order_id() -> ParameterBuilder {
    id("The order's id.", examples::ORDER_ID)
}

/// A parameter of a query, which may be left out.
pub fn in_query(
    name: &str,
    schema: impl Into<Schema>,
    description: impl Into<String>,
) -> ParameterBuilder {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(schema.into()))
}

/// A header, which may be left out.
pub fn in_header(
    name: &str,
    schema: utoipa::openapi::ObjectBuilder,
    description: &str,
) -> ParameterBuilder {
    headers::in_header(name, schema, description)
}

fn id(description: &str, example: &str) -> ParameterBuilder {
    ParameterBuilder::new()
        .name("id")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(description))
        .schema(Some(schema::formatted(KnownFormat::Uuid, "A UUID.")))
        .example(Some(example.into()))
}
