//! Versions of streams as entity tags (RFC 9110): strong, so that they can guard a change.

use actix_web::http::header::{HeaderMap, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use events::StreamVersion;
use serde::{Deserialize, Serialize};

use crate::problem::Problem;

/// More tags in one `If-Match` than anyone needs.
const TAGS_MAX: usize = 100;

/// What a request says in `If-Match`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum IfMatch {
    /// `*`: whatever version there is.
    Any,
    /// One of these versions. Weak and foreign tags match nothing and are left out, so this may be empty.
    Versions(Vec<StreamVersion>),
}

impl IfMatch {
    /// Whether the condition holds for a stream of this version.
    pub fn matches(&self, version: StreamVersion) -> bool {
        match self {
            Self::Any => true,
            Self::Versions(versions) => versions.contains(&version),
        }
    }

    /// The condition of a request, `None` where it sends none. A header that is no list of entity tags is
    /// the problem `unreadable`.
    pub fn of_request(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let mut found = None;
        for value in headers.get_all(IF_MATCH) {
            let condition = value.to_str().ok().and_then(parse).ok_or_else(|| {
                Problem::unreadable("If-Match must be * or a list of entity tags such as \"3\"")
            })?;
            found = match (found, condition) {
                (None, condition) => Some(condition),
                (Some(Self::Versions(mut all)), Self::Versions(more))
                    if all.len() + more.len() <= TAGS_MAX =>
                {
                    all.extend(more);
                    Some(Self::Versions(all))
                }
                (Some(_), _) => {
                    return Err(Problem::unreadable("If-Match is contradictory or too long"));
                }
            };
        }
        Ok(found)
    }
}

/// Whether the client has this version already: `If-None-Match` names it, or is `*`. One that cannot be read is left alone, as
/// RFC 9110 lets a server do.
pub fn is_known(headers: &HeaderMap, version: StreamVersion) -> bool {
    let values = headers
        .get_all(IF_NONE_MATCH)
        .filter_map(|value| value.to_str().ok());
    // Compared weakly: a tag that says W/ is as good here.
    let mut conditions = values.map(|value| parse(&value.replace("W/\"", "\"")));
    conditions.any(|condition| condition.is_some_and(|condition| condition.matches(version)))
}

/// The strong entity tag of a version: `"3"`.
pub fn of_version(version: StreamVersion) -> HeaderValue {
    // Digits between quotes are always a valid header value.
    HeaderValue::from_str(&format!("\"{version}\""))
        .unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

fn parse(text: &str) -> Option<IfMatch> {
    if text.trim() == "*" {
        return Some(IfMatch::Any);
    }
    let mut versions = Vec::new();
    let mut rest = text.trim();
    for _ in 0..TAGS_MAX {
        let (weak, quoted) = match rest.strip_prefix("W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let (tag, after) = quoted.strip_prefix('"')?.split_once('"')?;
        if tag
            .bytes()
            .any(|byte| byte.is_ascii_control() || byte == b' ')
        {
            return None;
        }
        // "03" is another tag than "3": tags are compared as texts.
        versions.extend(
            tag.parse()
                .ok()
                .filter(|version: &u64| !weak && version.to_string() == tag),
        );
        match after.trim_start() {
            "" => return Some(IfMatch::Versions(versions)),
            after => rest = after.strip_prefix(',')?.trim_start(),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_tags_are_read() {
        let versions = |versions: &[u64]| Some(IfMatch::Versions(versions.to_vec()));
        for (text, expected) in [
            ("*", Some(IfMatch::Any)),
            (" * ", Some(IfMatch::Any)),
            ("\"3\"", versions(&[3])),
            (
                "\"3\", \"4\",\"18446744073709551615\"",
                versions(&[3, 4, u64::MAX]),
            ),
            ("W/\"3\"", versions(&[])),
            ("\"03\", \"+3\", \"abc\", \"\"", versions(&[])),
            ("3", None),
            ("", None),
            ("\"3", None),
            ("\"3\",", None),
            ("\"3\" \"4\"", None),
            ("*, \"3\"", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn a_client_has_what_it_names() {
        for (text, is_known) in [
            ("\"3\"", true),
            ("W/\"3\"", true),
            ("\"2\", W/\"3\"", true),
            ("*", true),
            ("\"2\"", false),
            ("\"W/3\"", false),
            ("3", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, HeaderValue::from_str(text).unwrap());
            assert_eq!(super::is_known(&headers, 3), is_known, "{text}");
        }
        assert!(!super::is_known(&HeaderMap::new(), 3));
    }

    #[test]
    fn a_version_is_a_strong_tag() {
        assert_eq!(of_version(3), "\"3\"");
        assert_eq!(
            parse(of_version(7).to_str().unwrap()),
            Some(IfMatch::Versions(vec![7]))
        );
    }
}
