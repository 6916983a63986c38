//! The page shows all that the description says, and loads nothing.

use actix_web::{
    App,
    test::{TestRequest, call_service, init_service, read_body},
    web,
};
use runtime::openapi::{Endpoint, register};
use serde_json::Value;

use super::*;

fn document() -> Value {
    serde_json::from_str(DOCUMENT).unwrap()
}

#[test]
fn every_operation_problem_and_field_is_on_the_page() {
    let (page, document) = (rendered().unwrap(), document());
    let mut count = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            let title = format!("<span class=\"method\">{}</span> ", method.to_uppercase());
            let (_, article) = page.split_once(&format!("<article id=\"{id}\"")).unwrap();
            let (article, _) = article.split_once("</article>").unwrap();
            assert!(article.contains(&title), "{path} {method}");
            for status in operation["responses"].as_object().unwrap().keys() {
                assert!(
                    article.contains(&format!("<strong>{status}</strong>")),
                    "{id} {status}"
                );
            }
            count += 1;
        }
    }
    assert!(count > 15, "{count} operations");
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        let (_, article) = page
            .split_once(&format!("<article id=\"body-{name}\""))
            .unwrap();
        let (article, _) = article.split_once("</article>").unwrap();
        for field in schema["properties"]
            .as_object()
            .into_iter()
            .flat_map(|fields| fields.keys())
        {
            assert!(
                article.contains(&format!("<code>{field}</code>")),
                "{name} {field}"
            );
        }
    }
}

#[test]
fn the_page_loads_nothing_and_every_link_in_it_leads_somewhere() {
    let page = rendered().unwrap();
    for forbidden in [
        "<script", "<img", "<link", "<iframe", "http://", "https://", "style=", "onclick",
        "@import", "url(",
    ] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    assert!(page.contains(&format!("<style>{STYLE}</style>")));
    for link in page.split("href=\"").skip(1) {
        let (target, _) = link.split_once('"').unwrap();
        match target.strip_prefix('#') {
            Some(id) => assert!(page.contains(&format!("id=\"{id}\"")), "#{id}"),
            None => assert_eq!(target, "/openapi.json"),
        }
    }
}

#[actix_web::test]
async fn both_are_kept_by_clients_and_asked_for_anew_by_their_tags() {
    let app = App::new().configure(|config| {
        let document = Endpoint::get("/openapi.json", web::to(super::document), describe_document);
        let page = Endpoint::get("/docs", web::to(page), describe_page);
        register(config, vec![document, page]);
    });
    let app = init_service(app).await;
    for (path, begins) in [("/openapi.json", "{"), ("/docs", "<!DOCTYPE html>")] {
        let request = TestRequest::with_uri(path).to_request();
        let response = call_service(&app, request).await;
        assert_eq!(response.status(), 200);
        let headers = response.headers().clone();
        assert_eq!(headers.get("cache-control").unwrap(), "public, max-age=300");
        let policy = headers.get("content-security-policy");
        let is_strict = |policy: &HeaderValue| {
            let policy = policy.to_str().unwrap();
            policy.starts_with("default-src 'none';") && !policy.contains("unsafe")
        };
        assert_eq!(policy.is_some_and(is_strict), path == "/docs");
        let body = read_body(response).await;
        assert!(body.starts_with(begins.as_bytes()));

        let tag = headers.get("etag").unwrap();
        let request = TestRequest::with_uri(path).insert_header(("if-none-match", tag));
        let response = call_service(&app, request.to_request()).await;
        assert_eq!(response.status(), 304);
        assert_eq!(response.headers().get("etag"), Some(tag));
        assert!(read_body(response).await.is_empty());
        let request = TestRequest::with_uri(path).insert_header(("if-none-match", "\"other\""));
        let response = call_service(&app, request.to_request()).await;
        assert_eq!(response.status(), 200);
    }
}
