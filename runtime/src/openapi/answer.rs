//! What an operation answers when it succeeds.

use actix_web::http::StatusCode;
use serde_json::Value;
use utoipa::{
    ToSchema,
    openapi::{
        Components, Content, ContentBuilder, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder,
        Schema, Type,
        example::{Example, ExampleBuilder},
    },
};

use super::headers;

/// The name of the example of what succeeds, of a request as of its answer.
pub const ACCEPTED: &str = "accepted";

/// An answer: status, meaning, headers and content.
pub struct Answer {
    pub(super) status: StatusCode,
    text: &'static str,
    headers: Vec<&'static str>,
    content: Option<(&'static str, Content)>,
    pub(super) schemas: Vec<(String, RefOr<Schema>)>,
}

impl Answer {
    /// An answer without content.
    pub fn empty(status: StatusCode, text: &'static str) -> Self {
        Self {
            status,
            text,
            headers: Vec::new(),
            content: None,
            schemas: Vec::new(),
        }
    }

    /// An answer in JSON, with an example.
    pub fn json<T: ToSchema>(status: StatusCode, text: &'static str, example: Value) -> Self {
        let mut answer = Self::empty(status, text);
        let schema = named::<T>(&mut answer.schemas);
        answer.with("application/json", schema, example)
    }

    /// An answer in JSON that is any object, with an example.
    pub fn object(text: &'static str, example: Value) -> Self {
        let schema = ObjectBuilder::new().schema_type(Type::Object);
        Self::empty(StatusCode::OK, text).with("application/json", schema.into(), example)
    }

    /// An answer that is a text of some kind, with an example.
    pub fn text(media_type: &'static str, text: &'static str, example: &str) -> Self {
        let schema = ObjectBuilder::new().schema_type(Type::String);
        Self::empty(StatusCode::OK, text).with(media_type, schema.into(), example.into())
    }

    fn with(mut self, media_type: &'static str, schema: RefOr<Schema>, example: Value) -> Self {
        let content = ContentBuilder::new()
            .schema(Some(schema))
            .examples_from_iter([(ACCEPTED, named_example("", example))])
            .build();
        self.content = Some((media_type, content));
        self
    }

    /// With the version of what is answered.
    pub fn etag(self) -> Self {
        self.header("ETag")
    }

    /// As commands are answered: with the version and the point that a query can wait for.
    pub fn of_command(self) -> Self {
        self.header("Consistency-Token").etag()
    }

    /// As commands that create are answered: also with the place of what is new.
    pub fn of_creation(self) -> Self {
        self.of_command().header("Location")
    }

    /// With a further header, one of those that are known.
    pub fn header(mut self, name: &'static str) -> Self {
        self.headers.push(name);
        self
    }

    pub(super) fn response(&self, components: &mut Components) -> Response {
        let names = self.headers.iter().copied();
        let response = ResponseBuilder::new().description(self.text);
        let response = with_headers(response, names, components);
        match &self.content {
            Some((media_type, content)) => response.content(*media_type, content.clone()),
            None => response,
        }
        .build()
    }
}

/// The response with these headers and those that every answer has.
pub fn with_headers(
    response: ResponseBuilder,
    names: impl Iterator<Item = &'static str>,
    components: &mut Components,
) -> ResponseBuilder {
    names
        .chain(headers::OF_EVERY_ANSWER)
        .fold(response, |response, name| {
            if let Some(header) = headers::of_answer(name) {
                components.headers.insert(name.to_owned(), header.into());
            }
            response.header_ref(name, Ref::new(format!("#/components/headers/{name}")))
        })
}

/// A reference to the schema of `T`, which is entered into `schemas` with all that it refers to.
pub fn named<T: ToSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) -> RefOr<Schema> {
    schemas.push((T::name().into_owned(), T::schema()));
    T::schemas(schemas);
    Ref::from_schema_name(T::name()).into()
}

/// An example with a summary.
pub fn named_example(summary: &str, value: Value) -> Example {
    ExampleBuilder::new()
        .summary(summary)
        .value(Some(value))
        .build()
}
