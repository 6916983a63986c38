//! Every way a request can fail, as RFC 9457 problem details. The one list of problem types: their names are
//! a contract, and each has a page that says what to do.

use std::{borrow::Cow, fmt};

use actix_web::{
    HttpResponse, HttpResponseBuilder, ResponseError,
    http::{StatusCode, header},
};
use events::StreamVersion;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::NO_STORE;

/// The header of a 503 from a node that does not own the shard: another node may be asked at once. The gateway does
/// that, and takes the header off what a client gets.
pub const NOT_OWNER: &str = "x-orderlog-not-owner";

/// The media type of problem details.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// A type of problem: what stays the same whenever it occurs.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// The last part of its URI, `/problems/<name>`.
    pub name: &'static str,
    /// The status it is answered with.
    pub status: StatusCode,
    /// What it is, in a few words.
    pub title: &'static str,
    /// What whoever gets it should do.
    pub advice: &'static str,
}

macro_rules! kinds {
    ($( $constant:ident = $status:ident $name:literal, $title:literal, $advice:literal; )+) => {
        $(
            #[doc = concat!("`", $name, "`: ", $title, ".")]
            pub const $constant: Kind =
                Kind { name: $name, status: StatusCode::$status, title: $title, advice: $advice };
        )+

        impl Kind {
            /// Every type of problem there is.
            pub const ALL: &'static [Self] = &[ $( $constant, )+ ];
        }
    };
}

kinds! {
    UNREADABLE = BAD_REQUEST "unreadable", "The request cannot be read",
        "Send a well-formed JSON document: no key twice in one object, at most 64 levels deep, in UTF-8. `detail` says where reading stopped.";
    INVALID_IDEMPOTENCY_KEY = BAD_REQUEST "invalid-idempotency-key", "The Idempotency-Key header is not a key",
        "Send one key of 1 to 255 visible characters, bare or in double quotes, for instance a UUID.";
    INVALID_CONSISTENCY_TOKEN = BAD_REQUEST "invalid-consistency-token", "The Consistency-Token header is not a token",
        "Send the value of the Consistency-Token header of an earlier answer, unchanged, or leave it out.";
    INVALID_CURSOR = BAD_REQUEST "invalid-cursor", "The cursor is not one of this list",
        "Send `next_cursor` of the page before, unchanged and with the same filter, or leave it out to begin anew.";
    NOT_AUTHENTICATED = UNAUTHORIZED "not-authenticated", "The request does not say credibly who sends it",
        "Log in (`POST /login`) and send `Authorization: Bearer <access_token>`. Access tokens are valid for 15 minutes.";
    NOT_ALLOWED = FORBIDDEN "not-allowed", "Your role may not do this",
        "Ask an administrator to do it. Repeating the request does not help.";
    NOT_FOUND = NOT_FOUND "not-found", "There is no such thing",
        "Check the path and the id. What belongs to somebody else is answered the same way.";
    METHOD_NOT_ALLOWED = METHOD_NOT_ALLOWED "method-not-allowed", "This path does not know this method",
        "Use one of the methods in the Allow header.";
    RULE_BROKEN = CONFLICT "rule-broken", "A rule forbids this in the present state",
        "`rule` names the rule. Get the present state, and ask for something it allows.";
    ADDRESS_TAKEN = CONFLICT "address-taken", "This e-mail address is registered already",
        "Log in with it, or register another address.";
    IDEMPOTENCY_KEY_IN_FLIGHT = CONFLICT "idempotency-key-in-flight", "A request with this Idempotency-Key is being worked on",
        "Wait as long as Retry-After says and send the same request again: it gets the answer of the first.";
    STALE_VERSION = PRECONDITION_FAILED "stale-version", "It has changed since you read it",
        "Get the present state (`current_version` is its version), decide again, and send its ETag in If-Match.";
    PRECONDITION_REQUIRED = PRECONDITION_REQUIRED "precondition-required", "This change must say which version it is based on",
        "Send the ETag of the state you have seen in If-Match, or `If-Match: *` to change whatever is there.";
    TOO_LARGE = PAYLOAD_TOO_LARGE "too-large", "The request is larger than this service takes",
        "Send at most 1 MiB. Split what you want to do into several requests.";
    UNSUPPORTED_MEDIA_TYPE = UNSUPPORTED_MEDIA_TYPE "unsupported-media-type", "The body is not of a type that is read here",
        "Send JSON and say so: `Content-Type: application/json`.";
    INVALID = UNPROCESSABLE_ENTITY "invalid", "Values in the request are not what they must be",
        "`errors` lists all of them at once, each with a JSON pointer into the body. Correct them and send again.";
    IDEMPOTENCY_KEY_REUSED = UNPROCESSABLE_ENTITY "idempotency-key-reused", "This Idempotency-Key was used for another request",
        "Draw a new key for each new intent; send an old key only with the unchanged request.";
    TOO_MANY_REQUESTS = TOO_MANY_REQUESTS "too-many-requests", "Too many requests",
        "Wait as long as Retry-After says, then go slower.";
    UNAVAILABLE = SERVICE_UNAVAILABLE "unavailable", "The service cannot do this now",
        "Nothing was done. Send the same request again after Retry-After.";
    OUTCOME_UNKNOWN = SERVICE_UNAVAILABLE "outcome-unknown", "It is not known yet whether this was done",
        "Send the same request with the same Idempotency-Key again after Retry-After: it is done at most once. Without a key, look first at whether it was done.";
    NOT_YET_CONSISTENT = SERVICE_UNAVAILABLE "not-yet-consistent", "What you have written cannot be read yet",
        "Send the same query again after Retry-After, or wait longer with `Prefer: wait=<seconds>` (at most 30).";
}

/// One value of a body that is not what it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// Where it is (or should be): a JSON pointer (RFC 6901) into the body.
    pub pointer: String,
    /// What is wrong, for programs.
    pub code: &'static str,
    /// What is wrong, for people. Never repeats the value.
    pub message: String,
}

/// A problem as it is answered. Made by the constructors named after its types.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem(Box<Contents>);

#[derive(Debug, PartialEq, Eq)]
struct Contents {
    kind: &'static Kind,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    rule: Option<&'static str>,
    current_version: Option<StreamVersion>,
    retry_after_s: Option<u32>,
    allow: Option<String>,
    another_node: bool,
}

impl Problem {
    /// The type of this problem.
    pub fn kind(&self) -> &'static Kind {
        self.0.kind
    }

    /// The values found wrong, or not known; empty unless the type is `invalid` or `unreadable`.
    pub fn errors(&self) -> &[FieldError] {
        &self.0.errors
    }

    /// What is wrong in this case, for people.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The rule that was broken, by its name.
    pub fn rule(&self) -> Option<&'static str> {
        self.0.rule
    }

    /// The version there is, where another was expected.
    pub fn current_version(&self) -> Option<StreamVersion> {
        self.0.current_version
    }

    /// When to come back, in seconds.
    pub fn retry_after_s(&self) -> Option<u32> {
        self.0.retry_after_s
    }

    /// Whether another node may be asked at once ([`NOT_OWNER`]).
    pub fn asks_another_node(&self) -> bool {
        self.0.another_node
    }

    fn new(kind: &'static Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Contents {
            kind,
            detail: detail.into(),
            errors: Vec::new(),
            rule: None,
            current_version: None,
            retry_after_s: None,
            allow: None,
            another_node: false,
        }))
    }

    fn after(mut self, retry_after_s: u32) -> Self {
        self.0.retry_after_s = Some(retry_after_s.max(1));
        self
    }

    /// 400: the body or a header is not well-formed; `detail` says where.
    pub fn unreadable(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(&UNREADABLE, detail)
    }

    /// 400: parameters, or names in them, that are not known; each with its pointer.
    pub fn unknown_parameters(errors: Vec<FieldError>) -> Self {
        let mut problem = Self::unreadable("the query names what is not known here");
        problem.0.errors = errors;
        problem
    }

    /// 400: not an Idempotency-Key.
    pub fn invalid_idempotency_key() -> Self {
        Self::new(
            &INVALID_IDEMPOTENCY_KEY,
            "an Idempotency-Key is 1 to 255 visible characters, bare or in double quotes",
        )
    }

    /// 400: not a consistency token of this service.
    pub fn invalid_consistency_token() -> Self {
        Self::new(
            &INVALID_CONSISTENCY_TOKEN,
            "this is not a token that an answer carried",
        )
    }

    /// 400: not a cursor of this list and filter.
    pub fn invalid_cursor() -> Self {
        Self::new(
            &INVALID_CURSOR,
            "this is not a cursor that an answer to this query carried",
        )
    }

    /// 401, the same whatever is wrong with the credentials.
    pub fn not_authenticated() -> Self {
        Self::new(
            &NOT_AUTHENTICATED,
            "there is no valid access token in the Authorization header",
        )
    }

    /// 401 of a login or a refresh, the same whatever is wrong.
    pub fn wrong_credentials() -> Self {
        Self::new(
            &NOT_AUTHENTICATED,
            "these credentials do not open an account",
        )
    }

    /// 403: the caller's role may not do it.
    pub fn not_allowed(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(&NOT_ALLOWED, detail)
    }

    /// 404: unknown, or somebody else's.
    pub fn not_found() -> Self {
        Self::new(&NOT_FOUND, "nothing is found under this path")
    }

    /// 405; `allow` is the value of the Allow header.
    pub fn method_not_allowed(allow: String) -> Self {
        let mut problem = Self::new(&METHOD_NOT_ALLOWED, format!("this path knows {allow}"));
        problem.0.allow = Some(allow);
        problem
    }

    /// 409: a rule of the domain, by its name.
    pub fn rule_broken(rule: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        let mut problem = Self::new(&RULE_BROKEN, detail);
        problem.0.rule = Some(rule);
        problem
    }

    /// 409: the address of a registration has an account.
    pub fn address_taken() -> Self {
        Self::new(&ADDRESS_TAKEN, "this e-mail address is registered already")
    }

    /// 409: the first request with this key is not answered yet.
    pub fn idempotency_key_in_flight(retry_after_s: u32) -> Self {
        Self::new(
            &IDEMPOTENCY_KEY_IN_FLIGHT,
            "the first request with this key is not answered yet",
        )
        .after(retry_after_s)
    }

    /// 412: If-Match does not hold.
    pub fn stale_version(current_version: StreamVersion) -> Self {
        let mut problem = Self::new(
            &STALE_VERSION,
            format!("the current version is {current_version}"),
        );
        problem.0.current_version = Some(current_version);
        problem
    }

    /// 428: If-Match is needed and missing.
    pub fn precondition_required() -> Self {
        Self::new(&PRECONDITION_REQUIRED, "If-Match is missing")
    }

    /// 413: more than `limit_bytes` in the body.
    pub fn too_large(limit_bytes: usize) -> Self {
        Self::new(&TOO_LARGE, format!("the limit is {limit_bytes} bytes"))
    }

    /// 415: the body is of none of the `accepted` types.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        Self::new(
            &UNSUPPORTED_MEDIA_TYPE,
            format!("the Content-Type must be {}", accepted.join(" or ")),
        )
    }

    /// 422: every value that is wrong.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let mut problem = Self::new(
            &INVALID,
            match errors.len() {
                1 => Cow::from("one value is not what it must be"),
                count => format!("{count} values are not what they must be").into(),
            },
        );
        problem.0.errors = errors;
        problem
    }

    /// 422: the key belongs to another request.
    pub fn idempotency_key_reused() -> Self {
        Self::new(
            &IDEMPOTENCY_KEY_REUSED,
            "this key was sent before with another request",
        )
    }

    /// 429.
    pub fn too_many_requests(retry_after_s: u32) -> Self {
        Self::new(
            &TOO_MANY_REQUESTS,
            "there were too many requests of this kind",
        )
        .after(retry_after_s)
    }

    /// 503: nothing was done; `detail` says what is missing.
    pub fn unavailable(detail: impl Into<Cow<'static, str>>, retry_after_s: u32) -> Self {
        Self::new(&UNAVAILABLE, detail).after(retry_after_s)
    }

    /// 503: nothing was done, because the shard is another node's. The header [`NOT_OWNER`] tells the gateway to
    /// ask another one.
    pub fn not_owner(retry_after_s: u32) -> Self {
        let mut problem = Self::unavailable("this node does not own the shard", retry_after_s);
        problem.0.another_node = true;
        problem
    }

    /// 503: it may have been done.
    pub fn outcome_unknown(retry_after_s: u32) -> Self {
        Self::new(
            &OUTCOME_UNKNOWN,
            "the log did not confirm in time what became of this",
        )
        .after(retry_after_s)
    }

    /// 503: the read model has not reached the consistency token in the time given.
    pub fn not_yet_consistent(retry_after_s: u32) -> Self {
        Self::new(
            &NOT_YET_CONSISTENT,
            "the read model has not reached the Consistency-Token yet",
        )
        .after(retry_after_s)
    }
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_version: Option<StreamVersion>,
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.0.kind.status
    }

    fn error_response(&self) -> HttpResponse {
        let Contents {
            kind,
            detail,
            errors,
            rule,
            current_version,
            retry_after_s,
            allow,
            another_node,
        } = &*self.0;
        let mut response = HttpResponseBuilder::new(kind.status);
        response.content_type(PROBLEM_JSON).insert_header(NO_STORE);
        if let Some(seconds) = retry_after_s {
            response.insert_header((header::RETRY_AFTER, *seconds));
        }
        if let Some(allow) = allow {
            response.insert_header((header::ALLOW, allow.as_str()));
        }
        if *another_node {
            response.insert_header((NOT_OWNER, "1"));
        }
        if kind.status == StatusCode::UNAUTHORIZED {
            response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
        }
        let body = Body {
            r#type: format!("/problems/{}", kind.name),
            title: kind.title,
            status: kind.status.as_u16(),
            detail,
            errors,
            rule: *rule,
            current_version: *current_version,
        };
        match serde_json::to_vec(&body) {
            Ok(body) => response.body(body),
            // Texts and numbers always become JSON.
            Err(_) => response.finish(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0.kind.name, self.0.detail)
    }
}

impl std::error::Error for Problem {}

/// The page `/problems/<name>`; a `not-found` problem where there is no such type.
pub(crate) fn page(name: &str) -> Result<HttpResponse, Problem> {
    let kind = Kind::ALL
        .iter()
        .find(|kind| kind.name == name)
        .ok_or_else(Problem::not_found)?;
    let Kind {
        name,
        status,
        title,
        advice,
    } = kind;
    let text = format!(
        "{name}\n\n{title} (status {}).\n\nWhat to do: {advice}\n",
        status.as_u16()
    );
    Ok(HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .body(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::body::MessageBody;

    fn answered(problem: &Problem) -> (HttpResponse<()>, serde_json::Value) {
        let (head, body) = problem.error_response().into_parts();
        let body = body.try_into_bytes().unwrap();
        (head, serde_json::from_slice(&body).unwrap())
    }

    #[test]
    fn a_problem_is_answered_with_its_members_and_no_others() {
        let (head, body) = answered(&Problem::stale_version(7));
        assert_eq!(head.status(), StatusCode::PRECONDITION_FAILED);
        assert_eq!(head.headers().get("content-type").unwrap(), PROBLEM_JSON);
        assert_eq!(head.headers().get("cache-control").unwrap(), "no-store");
        assert_eq!(
            body,
            serde_json::json!({
                "type": "/problems/stale-version",
                "title": "It has changed since you read it",
                "status": 412,
                "detail": "the current version is 7",
                "current_version": 7,
            })
        );
    }

    #[test]
    fn every_503_and_429_says_when_to_come_back() {
        for problem in [
            Problem::unavailable("x", 0),
            Problem::outcome_unknown(2),
            Problem::not_yet_consistent(1),
            Problem::too_many_requests(3),
            Problem::idempotency_key_in_flight(1),
        ] {
            assert!(
                answered(&problem).0.headers().contains_key("retry-after"),
                "{problem}"
            );
        }
    }

    #[test]
    fn only_a_node_that_does_not_own_the_shard_says_that_another_may_be_asked() {
        let asks_another = |problem| answered(&problem).0.headers().contains_key(NOT_OWNER);
        assert!(asks_another(Problem::not_owner(1)));
        assert!(!asks_another(Problem::unavailable("x", 1)));
        assert!(!asks_another(Problem::outcome_unknown(1)));
    }

    #[test]
    fn names_are_unique_and_every_one_has_its_page() {
        for kind in Kind::ALL {
            assert_eq!(
                Kind::ALL
                    .iter()
                    .filter(|each| each.name == kind.name)
                    .count(),
                1
            );
            assert!(page(kind.name).is_ok());
        }
        assert!(page("no-such-problem").is_err());
    }
}
