//! The body of a request, of an accepted type, within limits of size and patience.

use std::time::Duration;

use actix_web::{
    HttpRequest,
    http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING},
    web::{Bytes, BytesMut, Payload},
};
use futures_util::StreamExt;

use crate::problem::Problem;

/// How large a body may be.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// How long a body may pause.
const BODY_PAUSE_MAX: Duration = Duration::from_secs(30);

/// The media types of ordinary bodies.
pub const JSON: &[&str] = &["application/json"];
/// The media types of a merge patch (RFC 7396).
pub const MERGE_PATCH: &[&str] = &["application/merge-patch+json", "application/json"];

/// Receives the body: `unsupported-media-type` when it is of none of the `accepted` types, `too-large` over
/// [`BODY_BYTES_MAX`], `unreadable` when it breaks off or pauses for half a minute.
pub async fn body(
    request: &HttpRequest,
    mut payload: Payload,
    accepted: &[&str],
) -> Result<Bytes, Problem> {
    if !is_accepted(request, accepted) {
        return Err(Problem::unsupported_media_type(accepted));
    }
    let announced = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: usize| length > BODY_BYTES_MAX) {
        return Err(Problem::too_large(BODY_BYTES_MAX));
    }
    let Some(first) = chunk(&mut payload).await? else {
        return Ok(Bytes::new());
    };
    // Most bodies arrive in one piece, which then is the body.
    let mut whole = match announced {
        Some(length) if length == first.len() => return Ok(first),
        Some(length) => BytesMut::with_capacity(length),
        None => BytesMut::with_capacity(first.len()),
    };
    let mut next = Some(first);
    while let Some(part) = next {
        if whole.len() + part.len() > BODY_BYTES_MAX {
            return Err(Problem::too_large(BODY_BYTES_MAX));
        }
        whole.extend_from_slice(&part);
        next = chunk(&mut payload).await?;
    }
    Ok(whole.freeze())
}

/// [`body`], or an empty object where the request has no body and says nothing of its type.
pub async fn body_or_empty_object(
    request: &HttpRequest,
    payload: Payload,
    accepted: &[&str],
) -> Result<Bytes, Problem> {
    let headers = request.headers();
    let no_body = headers
        .get(CONTENT_LENGTH)
        .is_none_or(|length| length == "0")
        && !headers.contains_key(TRANSFER_ENCODING)
        && !headers.contains_key(CONTENT_TYPE);
    if no_body {
        return Ok(Bytes::from_static(b"{}"));
    }
    body(request, payload, accepted).await
}

async fn chunk(payload: &mut Payload) -> Result<Option<Bytes>, Problem> {
    match tokio::time::timeout(BODY_PAUSE_MAX, payload.next()).await {
        Ok(None) => Ok(None),
        Ok(Some(Ok(part))) => Ok(Some(part)),
        Ok(Some(Err(_))) => Err(Problem::unreadable("the body broke off")),
        Err(_) => Err(Problem::unreadable("the body stopped arriving")),
    }
}

fn is_accepted(request: &HttpRequest, accepted: &[&str]) -> bool {
    let headers = request.headers();
    let plain = headers
        .get(CONTENT_ENCODING)
        .is_none_or(|encoding| encoding == "identity");
    let media_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let (essence, parameters) = media_type.split_once(';').unwrap_or((media_type, ""));
    let is_utf8 = parameters
        .split(';')
        .filter_map(|parameter| parameter.trim().split_once('='))
        .filter(|(name, _)| name.eq_ignore_ascii_case("charset"))
        .all(|(_, charset)| charset.trim_matches('"').eq_ignore_ascii_case("utf-8"));
    plain
        && is_utf8
        && accepted
            .iter()
            .any(|each| each.eq_ignore_ascii_case(essence.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    #[test]
    fn only_json_in_utf_8_is_accepted() {
        for (media_type, accepted) in [
            ("application/json", true),
            ("Application/JSON; charset=\"UTF-8\"", true),
            ("application/json;charset=latin1", false),
            ("application/jsonp", false),
            ("text/plain", false),
            ("", false),
        ] {
            let request = TestRequest::default()
                .insert_header((CONTENT_TYPE, media_type))
                .to_http_request();
            assert_eq!(is_accepted(&request, JSON), accepted, "{media_type}");
        }
        let compressed = TestRequest::default()
            .insert_header((CONTENT_TYPE, "application/json"))
            .insert_header((CONTENT_ENCODING, "gzip"));
        assert!(!is_accepted(&compressed.to_http_request(), JSON));
    }

    #[actix_web::test]
    async fn a_body_over_the_limit_is_refused_whether_announced_or_not() {
        for (length, good) in [(BODY_BYTES_MAX, true), (BODY_BYTES_MAX + 1, false)] {
            let (request, mut payload) = TestRequest::default()
                .insert_header((CONTENT_TYPE, "application/json"))
                .set_payload(vec![b' '; length])
                .to_http_parts();
            let payload = <Payload as actix_web::FromRequest>::from_request(&request, &mut payload)
                .await
                .unwrap();
            assert_eq!(body(&request, payload, JSON).await.is_ok(), good);
        }
        let request = TestRequest::default()
            .insert_header((CONTENT_TYPE, "application/json"))
            .insert_header((CONTENT_LENGTH, BODY_BYTES_MAX + 1));
        let (request, mut payload) = request.to_http_parts();
        let payload = <Payload as actix_web::FromRequest>::from_request(&request, &mut payload)
            .await
            .unwrap();
        let problem = body(&request, payload, JSON).await.unwrap_err();
        assert_eq!(problem.kind().name, "too-large");
    }
}
