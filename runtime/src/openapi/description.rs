//! What is said about an operation.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use serde_json::Value;
use utoipa::{
    ToSchema,
    openapi::{
        Components, Content, ContentBuilder, ObjectBuilder, Ref, RefOr, Required, Response, Schema,
        extensions::ExtensionsBuilder,
        path::{Operation, OperationBuilder, Parameter, ParameterBuilder},
        request_body::RequestBodyBuilder,
        schema::Type,
        security::SecurityRequirement,
    },
};

use super::{
    answer::{ACCEPTED, Answer, named, named_example},
    document::{BEARER, SERVICE},
    headers, parameters,
    problems::{self, Answered},
};
use crate::problem::{
    INVALID, Kind, NOT_AUTHENTICATED, TOO_LARGE, TOO_MANY_REQUESTS, UNAVAILABLE, UNREADABLE,
    UNSUPPORTED_MEDIA_TYPE,
};

/// What an operation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// Registering, signing in and out.
    Sessions,
    /// People.
    Users,
    /// Orders.
    Orders,
    /// The services themselves.
    Service,
}

impl Tag {
    /// Every tag, in the order they are shown in.
    pub const ALL: [Self; 4] = [Self::Sessions, Self::Users, Self::Orders, Self::Service];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Users => "users",
            Self::Orders => "orders",
            Self::Service => "service",
        }
    }

    /// What it stands for.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Sessions => "Registering, signing in and out.",
            Self::Users => "People: their records, preferences and roles.",
            Self::Orders => "Orders: placing, changing, progressing, reading them.",
            Self::Service => "What the services say about themselves.",
        }
    }
}

/// What a request may hold.
pub struct Body {
    media_types: &'static [&'static str],
    schema: RefOr<Schema>,
    schemas: Vec<(String, RefOr<Schema>)>,
    required: Required,
    accepted: Value,
    refused: Option<(Value, Value)>,
}

impl Body {
    /// A body of these media types, with an example of one that is accepted.
    pub fn new<T: ToSchema>(media_types: &'static [&'static str], accepted: Value) -> Self {
        let mut schemas = Vec::new();
        Self {
            media_types,
            schema: named::<T>(&mut schemas),
            schemas,
            required: Required::True,
            accepted,
            refused: None,
        }
    }

    /// A body that may be left out.
    pub fn may_be_left_out(mut self) -> Self {
        self.required = Required::False;
        self
    }

    /// An example of one that is refused, with the body of the answer.
    pub fn refused(mut self, body: Value, problem: Value) -> Self {
        self.refused = Some((body, problem));
        self
    }

    fn content(&self) -> Content {
        let accepted = named_example("A body that is accepted", self.accepted.clone());
        let refused = self.refused.as_ref().map(|(body, _)| {
            let summary = "A body that is refused, with everything that is wrong named at once";
            (INVALID.name, named_example(summary, body.clone()))
        });
        let examples = [(ACCEPTED, accepted)].into_iter().chain(refused);
        ContentBuilder::new()
            .schema(Some(self.schema.clone()))
            .examples_from_iter(examples)
            .build()
    }
}

/// All that is said about an operation. How it is asked for and where is said where it is registered.
pub struct Description {
    id: &'static str,
    tag: Tag,
    summary: &'static str,
    text: String,
    signed_in: bool,
    is_public: bool,
    parameters: Vec<(&'static str, Parameter)>,
    body: Option<Body>,
    answers: Vec<Answer>,
    problems: Vec<Answered>,
}

impl Description {
    /// An operation by its id, with a line that says what it does.
    pub fn new(id: &'static str, tag: Tag, summary: &'static str) -> Self {
        Self {
            id,
            tag,
            summary,
            text: String::new(),
            signed_in: false,
            is_public: true,
            parameters: Vec::new(),
            body: None,
            answers: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// What else is to be known about it.
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.text = text.into();
        self
    }

    /// It is not to be had through the gateway, whose limits and troubles it does not share.
    pub fn not_public(mut self) -> Self {
        self.is_public = false;
        self
    }

    /// Only whoever is signed in may ask for it.
    pub fn signed_in(mut self) -> Self {
        self.signed_in = true;
        self.problems(&[&NOT_AUTHENTICATED])
    }

    /// A parameter: its name among the components, and what is said about it.
    pub fn parameter(mut self, name: &'static str, parameter: ParameterBuilder) -> Self {
        self.parameters.push((name, parameter.build()));
        self
    }

    /// It is answered 304 to whoever knows it already.
    pub fn unless_known(self) -> Self {
        let tags = ObjectBuilder::new().schema_type(Type::String);
        let known = "The ETag of what is known already.";
        self.parameter(
            "IfNoneMatch",
            parameters::in_header("If-None-Match", tags, known),
        )
        .answer(Answer::empty(StatusCode::NOT_MODIFIED, "It is what If-None-Match says.").etag())
    }

    /// It takes a body, and refuses what is none.
    pub fn body(mut self, body: Body) -> Self {
        let refusal = body.refused.as_ref().map(|(_, problem)| problem.clone());
        self.body = Some(body);
        self.problems.push((&INVALID, refusal));
        self.problems(&[&UNSUPPORTED_MEDIA_TYPE, &TOO_LARGE, &UNREADABLE])
    }

    /// It can be answered like this.
    pub fn answer(mut self, answer: Answer) -> Self {
        self.answers.push(answer);
        self
    }

    /// It can fail with these.
    pub fn problems(mut self, kinds: &[&'static Kind]) -> Self {
        self.problems.extend(kinds.iter().map(|kind| (*kind, None)));
        self
    }

    /// The operation as utoipa has it, answered by `service`; what it refers to is entered into `components`.
    pub(super) fn build(mut self, service: &str, components: &mut Components) -> Operation {
        if self.is_public {
            self = self.problems(&[&UNREADABLE, &TOO_LARGE, &TOO_MANY_REQUESTS, &UNAVAILABLE]);
        }
        let mut operation = OperationBuilder::new()
            .operation_id(Some(self.id))
            .tag(self.tag.name())
            .summary(Some(self.summary))
            .description((!self.text.is_empty()).then_some(self.text))
            .extensions(Some(ExtensionsBuilder::new().add(SERVICE, service).build()));
        if self.signed_in {
            operation = operation.security(SecurityRequirement::new(BEARER, [""; 0]));
        }
        let parameters = self
            .parameters
            .into_iter()
            .chain(headers::of_every_request());
        for (name, parameter) in parameters {
            let reference = Ref::new(format!("#/components/parameters/{name}"));
            operation = operation.parameter_ref(reference);
            components
                .parameters
                .insert(name.to_owned(), parameter.into());
        }
        if let Some(body) = self.body {
            let content = body.content();
            let request = body.media_types.iter().fold(
                RequestBodyBuilder::new().required(Some(body.required)),
                |request, media_type| request.content(*media_type, content.clone()),
            );
            operation = operation.request_body(Some(request.build()));
            components.schemas.extend(body.schemas);
        }
        let mut responses: BTreeMap<u16, Response> = BTreeMap::new();
        for answer in &self.answers {
            responses.insert(answer.status.as_u16(), answer.response(components));
            components.schemas.extend(answer.schemas.iter().cloned());
        }
        for (status, problem) in problems::responses(&self.problems, components) {
            match responses.get_mut(&status) {
                Some(answer) => also(answer, problem),
                None => {
                    responses.insert(status, problem);
                }
            }
        }
        responses
            .into_iter()
            .fold(operation, |operation, (status, response)| {
                operation.response(status.to_string(), response)
            })
            .build()
    }
}

/// Both answers have one status: they differ in their media types.
fn also(answer: &mut Response, problem: Response) {
    answer.description = format!("{}\n\n{}", answer.description, problem.description);
    answer.headers.extend(problem.headers);
    answer.content.extend(problem.content);
}
