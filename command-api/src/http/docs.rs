//! The API description for programs and as a page for people. Both are made from the one that is committed, which tests
//! compare with what is answered.

mod view;

use std::sync::LazyLock;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH,
    },
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use runtime::{
    openapi::{Answer, Description, Tag},
    problem::Problem,
};
use sha2::{Digest, Sha256};

const DOCUMENT: &str = include_str!("../../../docs/openapi.json");
const TEMPLATE: &str = include_str!("docs/page.html");
const STYLE: &str = include_str!("docs/style.css");
/// The template's name; its end says what is escaped how.
const TEMPLATE_NAME: &str = "page.html";
const CACHEABLE: (HeaderName, HeaderValue) = (
    CACHE_CONTROL,
    HeaderValue::from_static("public, max-age=300"),
);
const HTML: &str = "text/html; charset=utf-8";
const RETRY_AFTER_S: u32 = 1;

/// Something that is the same for everybody as long as the process lives.
struct Kept {
    body: String,
    etag: String,
}

impl Kept {
    fn new(body: String) -> Self {
        let digest = URL_SAFE_NO_PAD.encode(Sha256::digest(&body));
        Self {
            body,
            etag: format!("\"{digest}\""),
        }
    }

    /// Answers with it, or says that the client has it.
    fn answer(
        &'static self,
        request: &HttpRequest,
        media_type: &'static str,
        more: Option<(HeaderName, &'static str)>,
    ) -> HttpResponse {
        let sent = request.headers().get_all(IF_NONE_MATCH);
        let is_known = sent
            .filter_map(|tags| tags.to_str().ok())
            .flat_map(|tags| tags.split(','))
            .map(|tag| tag.trim().trim_start_matches("W/"))
            .any(|tag| tag == self.etag || tag == "*");
        let mut response = match is_known {
            true => HttpResponse::NotModified(),
            false => HttpResponse::Ok(),
        };
        response
            .insert_header(CACHEABLE)
            .insert_header((ETAG, self.etag.as_str()));
        if is_known {
            return response.finish();
        }
        if let Some(header) = more {
            response.insert_header(header);
        }
        response.content_type(media_type).body(self.body.as_str())
    }
}

static KEPT_DOCUMENT: LazyLock<Kept> = LazyLock::new(|| Kept::new(DOCUMENT.to_owned()));
/// A test renders it: none is never to be seen.
static KEPT_PAGE: LazyLock<Option<Kept>> = LazyLock::new(|| match rendered() {
    Ok(page) => Some(Kept::new(page)),
    Err(error) => {
        tracing::error!(%error, "the API description cannot be shown");
        None
    }
});
/// Nothing may be loaded, and no script run; the style is the one that stands in the page.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let style = STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

fn rendered() -> anyhow::Result<String> {
    let document = serde_json::from_str(DOCUMENT)?;
    let mut templates = minijinja::Environment::new();
    templates.add_template(TEMPLATE_NAME, TEMPLATE)?;
    let page = templates.get_template(TEMPLATE_NAME)?;
    Ok(page.render(minijinja::value::Serde(view::page(&document, STYLE)))?)
}

/// `GET /openapi.json`
pub async fn document(request: HttpRequest) -> HttpResponse {
    KEPT_DOCUMENT.answer(&request, "application/json", None)
}

/// `GET /docs`
pub async fn page(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let page = KEPT_PAGE.as_ref().ok_or_else(|| {
        Problem::unavailable("the API description cannot be shown", RETRY_AFTER_S)
    })?;
    let policy = (CONTENT_SECURITY_POLICY, POLICY.as_str());
    Ok(page.answer(&request, HTML, Some(policy)))
}

/// What is said about [`document`].
pub fn describe_document() -> Description {
    let example = r#"{"openapi":"3.1.0","info":{"title":"Orderlog"}}"#;
    let description = Description::new("getDescription", Tag::Service, "Gets this description")
        .text("OpenAPI 3.1.")
        .answer(
            Answer::object(
                "The description.",
                serde_json::from_str(example).unwrap_or_default(),
            )
            .etag(),
        );
    description.unless_known()
}

/// What is said about [`page`].
pub fn describe_page() -> Description {
    let description = Description::new("getPage", Tag::Service, "Shows this description as a page")
        .answer(
            Answer::text("text/html", "The page.", "<!DOCTYPE html>")
                .etag()
                .header("Content-Security-Policy"),
        );
    description.unless_known()
}

#[cfg(test)]
mod tests;
