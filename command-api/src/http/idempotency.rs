//! The `Idempotency-Key` header (IETF draft): the client's name for one intent.

use actix_web::http::header::HeaderMap;
use runtime::problem::Problem;

use crate::commands::idempotency;

const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The key of a request, unquoted; the problem `invalid-idempotency-key` for anything else than one key of
/// 1 to 255 visible characters.
pub fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY);
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let text = value
                .to_str()
                .map_err(|_| Problem::invalid_idempotency_key())?;
            idempotency::key(text).map(Some)
        }
        (Some(_), Some(_)) => Err(Problem::invalid_idempotency_key()),
    }
}
