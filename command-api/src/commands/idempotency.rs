//! Idempotency keys (IETF draft): the client's name for one intent.

use std::io;

use runtime::problem::Problem;
use serde::Serialize;
use sha2::{Digest, Sha256};

/// How many characters a key may have.
pub const KEY_CHARS_MAX: usize = 255;

/// The key, unquoted; the problem `invalid-idempotency-key` for anything else than 1 to 255 visible characters.
pub fn key(text: &str) -> Result<String, Problem> {
    parse(text).ok_or_else(Problem::invalid_idempotency_key)
}

/// Bare, or a string of RFC 8941: in double quotes, with `\"` and `\\` inside.
fn parse(text: &str) -> Option<String> {
    let text = text.trim();
    let key = match text.strip_prefix('"') {
        Some(quoted) => unescape(quoted.strip_suffix('"')?)?,
        None => text.to_owned(),
    };
    let visible = key.bytes().all(|byte| byte.is_ascii_graphic());
    (visible && (1..=KEY_CHARS_MAX).contains(&key.len())).then_some(key)
}

fn unescape(quoted: &str) -> Option<String> {
    let mut key = String::with_capacity(quoted.len());
    let mut chars = quoted.chars();
    while let Some(next) = chars.next() {
        match next {
            '"' => return None,
            '\\' => key.push(
                chars
                    .next()
                    .filter(|escaped| matches!(escaped, '"' | '\\'))?,
            ),
            plain => key.push(plain),
        }
    }
    Some(key)
}

/// SHA-256 of what is asked for, as parsed. Personal data goes in sealed, and passwords not at all: the fingerprint is
/// kept in the log for ever, and must not let anybody try texts out.
pub fn fingerprint(asked: &impl Serialize) -> Result<[u8; 32], Problem> {
    let mut digest = Digesting(Sha256::new());
    // Texts, numbers and bytes always become JSON.
    serde_json::to_writer(io::BufWriter::new(&mut digest), asked)
        .map_err(|_| Problem::invalid_idempotency_key())?;
    Ok(digest.0.finalize().into())
}

struct Digesting(Sha256);

impl io::Write for Digesting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_bare_or_quoted() {
        let longest = "k".repeat(KEY_CHARS_MAX);
        for (text, key) in [
            ("abc", Some("abc")),
            ("\"abc\"", Some("abc")),
            (" \"abc\" ", Some("abc")),
            (r#""a\"b\\c""#, Some(r#"a"b\c"#)),
            (&longest, Some(longest.as_str())),
            (&format!("\"{longest}\""), Some(longest.as_str())),
            (&format!("{longest}k"), None),
            ("", None),
            ("\"\"", None),
            ("\"abc", None),
            ("a b", None),
            ("\"a b\"", None),
            ("\"a\"b\"", None),
            (r#""a\b""#, None),
            ("ключ", None),
        ] {
            assert_eq!(parse(text).as_deref(), key, "{text}");
        }
    }
}
