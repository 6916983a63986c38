//! Basic authentication (RFC 7617), as Mailgun and Twilio ask for it.

use actix_web::HttpRequest;
use actix_web::http::header::AUTHORIZATION;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Whether a request comes from `user` with this password.
pub fn is_from(request: &HttpRequest, user: &str, password: &str) -> bool {
    let header = request.headers().get(AUTHORIZATION);
    let value = header.and_then(|value| value.to_str().ok());
    let Some((scheme, encoded)) = value.and_then(|value| value.split_once(' ')) else {
        return false;
    };
    let Ok(given) = STANDARD.decode(encoded.trim()) else {
        return false;
    };
    scheme.eq_ignore_ascii_case("basic") && given == format!("{user}:{password}").as_bytes()
}
