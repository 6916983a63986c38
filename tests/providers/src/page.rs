//! The page for people: the latest messages, as they would be seen.

use std::fmt::Write;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY};
use actix_web::{HttpRequest, HttpResponse, web};
use time::format_description::well_known::Rfc3339;

use crate::Shared;
use crate::control;
use crate::kept::{Channel, Filter, Found, Message};

/// How many messages the page shows.
pub const PAGE_MESSAGES_COUNT_MAX: usize = 100;

/// Nothing from outside, no scripts: not for the page, and not for the mails framed in it.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'";

const HEAD: &str = "<!doctype html>
<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">
<title>Messages received</title>
<style>
body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#1a1a1a}
article{border:1px solid #ccc;border-radius:6px;margin:1rem 0;padding:.75rem 1rem}
h1{font-size:1.4rem}h2{font-size:1rem;margin:0}
dl{color:#555;display:grid;font-size:.85rem;gap:0 1rem;grid-template-columns:max-content 1fr;margin:.25rem 0}
dd{margin:0;overflow-wrap:anywhere}
pre{background:#f6f6f6;padding:.5rem;white-space:pre-wrap}
iframe{border:1px solid #ddd;height:20rem;width:100%}
</style></head><body>
<h1>Messages received</h1>
";

const FORM: &str = "<form method=\"get\" action=\"/\">
<label>Recipient <input name=\"to\"></label>
<label>Channel <select name=\"channel\"><option value=\"\">any</option><option>email</option><option>sms</option></select></label>
<button>Show</button></form>
";

/// Adds the routes of this module.
pub fn routes(config: &mut web::ServiceConfig) {
    config.route("/", web::get().to(page));
}

async fn page(request: HttpRequest, shared: web::Data<Shared>) -> HttpResponse {
    // A form sends its empty fields too; they restrict nothing.
    let query: Vec<&str> = request
        .query_string()
        .split('&')
        .filter(|pair| !pair.ends_with('='))
        .collect();
    let Ok(filter) = web::Query::<Filter>::from_query(&query.join("&")) else {
        return control::not_found(request).await;
    };
    let found = shared.kept.find(&filter, PAGE_MESSAGES_COUNT_MAX);
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((CACHE_CONTROL, "no-store"))
        .body(render(&found, shared.kept.dropped()))
}

fn render(found: &Found, dropped: u64) -> String {
    let mut page = String::from(HEAD);
    page.push_str(FORM);
    page.push_str("<p>");
    append(
        &mut page,
        format_args!(
            "{} messages, the latest {} shown",
            found.total,
            found.items.len()
        ),
    );
    if dropped > 0 {
        append(
            &mut page,
            format_args!("; {dropped} older ones were dropped"),
        );
    }
    page.push_str(". Nothing is delivered: this is a stand-in. As JSON: <a href=\"/messages\">/messages</a>.</p>\n");
    for message in &found.items {
        render_message(&mut page, message);
    }
    page.push_str("</body></html>\n");
    page
}

fn render_message(page: &mut String, message: &Message) {
    let kind = match message.channel {
        Channel::Email => "E-mail",
        Channel::Sms => "SMS",
    };
    let title = message.subject.as_deref().unwrap_or(kind);
    let received_at = message.received_at.format(&Rfc3339).unwrap_or_default();
    append(
        page,
        format_args!("<article><h2>{}</h2><dl>", escape(title)),
    );
    let facts = [
        ("To", message.to.as_str()),
        ("From", message.from.as_str()),
        ("Through", message.provider.name()),
        ("Received", received_at.as_str()),
        (
            "Event",
            message.event_id.as_deref().unwrap_or("(none named)"),
        ),
        ("Id", message.id.as_str()),
    ];
    for (name, value) in facts {
        append(
            page,
            format_args!("<dt>{name}</dt><dd>{}</dd>", escape(value)),
        );
    }
    page.push_str("</dl>");
    if let Some(text) = &message.text {
        append(page, format_args!("<pre>{}</pre>", escape(text)));
    }
    if let Some(html) = &message.html {
        append(
            page,
            format_args!(
                "<details><summary>as HTML</summary><iframe sandbox title=\"the mail\" srcdoc=\"{}\"></iframe></details>",
                escape(html)
            ),
        );
    }
    page.push_str("</article>\n");
}

fn append(page: &mut String, what: std::fmt::Arguments<'_>) {
    if page.write_fmt(what).is_err() {
        tracing::error!("the page could not be written");
    }
}

/// Text as it stands in HTML text and in quoted attributes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn nothing_of_a_message_becomes_markup() {
        let escaped = escape("<script>alert('1' & \"2\")</script>");
        assert_eq!(
            escaped,
            "&lt;script&gt;alert(&#39;1&#39; &amp; &quot;2&quot;)&lt;/script&gt;"
        );
    }
}
