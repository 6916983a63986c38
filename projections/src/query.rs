//! The parameters of queries: read strictly, and all that is wrong with them said at once.

use std::time::Duration;

use actix_web::{
    HttpRequest,
    http::header::{HeaderMap, HeaderName},
    web,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use runtime::problem::{FieldError, Problem};
use uuid::Uuid;

use crate::digest::{Digest, Hasher};

/// The items of a page unless it is asked for more or fewer.
pub(crate) const LIMIT_DEFAULT: u16 = 50;
/// The items a page can be asked for.
pub(crate) const LIMIT_MAX: u16 = 200;
/// Longer than any cursor of ours.
pub(crate) const CURSOR_CHARACTERS_MAX: usize = 100;
/// How long a query waits for the read model unless it says otherwise.
pub(crate) const WAIT_DEFAULT: Duration = Duration::from_secs(5);
/// How long a query may ask to wait.
pub(crate) const WAIT_SECONDS_MAX: u64 = 30;
const PREFER: HeaderName = HeaderName::from_static("prefer");

/// The parameters of a request, taken one after another.
pub struct Parameters {
    given: Vec<(String, String)>,
    errors: Vec<FieldError>,
    unknown: Vec<FieldError>,
}

impl Parameters {
    /// All parameters of a request; the problem `unreadable` when its query is not form-encoded.
    pub fn of(request: &HttpRequest) -> Result<Self, Problem> {
        let given = web::Query::<Vec<(String, String)>>::from_query(request.query_string())
            .map_err(|_| Problem::unreadable("the query is not form-encoded"))?;
        Ok(Self::given(given.into_inner()))
    }

    /// These parameters, each with its name.
    pub fn given(given: Vec<(String, String)>) -> Self {
        Self {
            given,
            errors: Vec::new(),
            unknown: Vec::new(),
        }
    }

    /// The same with more of them.
    #[must_use]
    pub fn and(mut self, more: impl IntoIterator<Item = (String, String)>) -> Self {
        self.given.extend(more);
        self
    }

    /// An optional parameter, read by `read`; what that refuses is reported as `must be <wanted>`.
    pub fn optional<T>(
        &mut self,
        name: &str,
        wanted: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.take(name)?;
        let value = read(&text);
        if value.is_none() {
            self.fail(name, "invalid_value", format!("must be {wanted}"));
        }
        value
    }

    /// An optional parameter of several names with commas between them, each once, known by `known`.
    pub fn several<T: PartialEq>(
        &mut self,
        name: &str,
        known: impl Fn(&str) -> Option<T>,
    ) -> Option<Vec<T>> {
        let text = self.take(name)?;
        let mut several = Vec::new();
        for each in text.split(',') {
            match known(each) {
                Some(each) if !several.contains(&each) => several.push(each),
                Some(_) => {}
                None => self
                    .unknown
                    .push(unknown(name, "holds a name that is not known here")),
            }
        }
        Some(several)
    }

    /// Every parameter whose name begins with `prefix`, without that.
    pub fn below(&mut self, prefix: &str) -> Vec<(String, String)> {
        let (below, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.given)
            .into_iter()
            .partition(|(name, _)| name.starts_with(prefix));
        self.given = rest;
        let without = |(name, value): (String, String)| {
            (
                name.strip_prefix(prefix).unwrap_or_default().to_owned(),
                value,
            )
        };
        below.into_iter().map(without).collect()
    }

    /// Reports a parameter that is not known.
    pub fn is_unknown(&mut self, name: &str) {
        self.unknown.push(unknown(name, "is not known here"));
    }

    /// Reports a parameter that does not go with the others.
    pub fn refuse(&mut self, name: &str, code: &'static str, message: &str) {
        self.fail(name, code, message.to_owned());
    }

    /// The page's size.
    pub fn limit(&mut self) -> u16 {
        let wanted = format!("a whole number from 1 to {LIMIT_MAX}");
        let read = |text: &str| {
            text.parse()
                .ok()
                .filter(|limit| (1..=LIMIT_MAX).contains(limit))
        };
        self.optional("limit", &wanted, read)
            .unwrap_or(LIMIT_DEFAULT)
    }

    /// Where the page begins; the problem `invalid-cursor` when the text is no cursor at all.
    pub fn cursor(&mut self) -> Result<Option<Cursor>, Problem> {
        self.take("cursor")
            .map(|text| Cursor::parse(&text).ok_or_else(Problem::invalid_cursor))
            .transpose()
    }

    /// Reports what is not known (every parameter that was not taken) as the problem `unreadable`, else what is wrong as the
    /// problem `invalid`.
    pub fn finish(mut self) -> Result<(), Problem> {
        for (name, _) in std::mem::take(&mut self.given) {
            self.is_unknown(&name);
        }
        if !self.unknown.is_empty() {
            Err(Problem::unknown_parameters(self.unknown))
        } else if self.errors.is_empty() {
            Ok(())
        } else {
            Err(Problem::invalid(self.errors))
        }
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let (mut found, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.given)
            .into_iter()
            .partition(|(given, _)| given == name);
        self.given = rest;
        let (_, value) = found.pop()?;
        if !found.is_empty() {
            self.fail(name, "repeated", "must be given once".into());
        }
        Some(value)
    }

    fn fail(&mut self, name: &str, code: &'static str, message: String) {
        self.errors.push(FieldError {
            pointer: pointer(name),
            code,
            message,
        });
    }
}

fn unknown(name: &str, message: &str) -> FieldError {
    FieldError {
        pointer: pointer(name),
        code: "unknown",
        message: message.to_owned(),
    }
}

fn pointer(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// Where a page ended: what its last item is sorted by (microseconds, minor units, a version) and its id, bound to the filter of
/// its list. Opaque to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    filter: [u8; 8],
    key: i64,
    id: Uuid,
}

impl Cursor {
    /// The end of a page of the list that `filter` describes.
    pub fn new(filter: &[&str], key: i64, id: Uuid) -> Self {
        Self {
            filter: Self::filter(filter),
            key,
            id,
        }
    }

    /// The place where the page ended; the problem `invalid-cursor` when it was a page of another list.
    pub fn place(self, filter: &[&str]) -> Result<(i64, Uuid), Problem> {
        if self.filter == Self::filter(filter) {
            Ok((self.key, self.id))
        } else {
            Err(Problem::invalid_cursor())
        }
    }

    fn filter(filter: &[&str]) -> [u8; 8] {
        let Digest(full) = filter
            .iter()
            .fold(Hasher::default(), Hasher::bytes)
            .finish();
        let mut short = [0; 8];
        short.iter_mut().zip(full).for_each(|(to, from)| *to = from);
        short
    }

    fn parse(text: &str) -> Option<Self> {
        if text.len() > CURSOR_CHARACTERS_MAX {
            return None;
        }
        let bytes: [u8; 32] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let (filter, rest) = bytes.split_first_chunk()?;
        let (key, id) = rest.split_first_chunk()?;
        Some(Self {
            filter: *filter,
            key: i64::from_be_bytes(*key),
            id: Uuid::from_slice(id).ok()?,
        })
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = [
            self.filter.as_slice(),
            self.key.to_be_bytes().as_slice(),
            self.id.as_bytes(),
        ]
        .concat();
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

/// How long the caller is willing to wait: `Prefer: wait=<seconds>` (RFC 7240). A preference that cannot be
/// read is left alone, as the RFC says.
pub fn patience(headers: &HeaderMap) -> Duration {
    let wanted = headers
        .get_all(PREFER)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split([',', ';']))
        .filter_map(|preference| preference.split_once('='))
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("wait"))
        .find_map(|(_, seconds)| seconds.trim().trim_matches('"').parse::<u64>().ok());
    bounded(wanted.map(Duration::from_secs))
}

/// How long a caller who wants to wait for so long is made to wait.
pub fn bounded(wanted: Option<Duration>) -> Duration {
    wanted.map_or(WAIT_DEFAULT, |wanted| {
        wanted.min(Duration::from_secs(WAIT_SECONDS_MAX))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn parameters(query: &str) -> Parameters {
        Parameters::of(&TestRequest::with_uri(&format!("/orders?{query}")).to_http_request())
            .unwrap()
    }

    fn codes(problem: &Problem) -> Vec<(&str, &str)> {
        problem
            .errors()
            .iter()
            .map(|error| (error.pointer.as_str(), error.code))
            .collect()
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let read = |text: &str| {
            let mut given = parameters(text);
            given.limit();
            given.optional("status", "a status", |_| None::<()>);
            given.finish().unwrap_err()
        };
        let problem = read("limit=0&status=lost&status=new");
        assert_eq!(problem.kind().status.as_u16(), 422);
        assert_eq!(
            codes(&problem),
            [
                ("/limit", "invalid_value"),
                ("/status", "repeated"),
                ("/status", "invalid_value"),
            ]
        );
        // What is not known comes first: it may be what was meant.
        let problem = read("limit=0&colour=red&a%2Fb=1");
        assert_eq!(problem.kind().status.as_u16(), 400);
        assert_eq!(
            codes(&problem),
            [("/colour", "unknown"), ("/a~1b", "unknown")]
        );
    }

    #[test]
    fn limits_are_from_1_to_200_and_50_when_none_is_given() {
        for (query, limit) in [("", 50), ("limit=1", 1), ("limit=200", 200)] {
            let mut given = parameters(query);
            assert_eq!(given.limit(), limit);
            assert!(given.finish().is_ok());
        }
        for query in [
            "limit=0",
            "limit=201",
            "limit=-1",
            "limit=x",
            "limit=",
            "limit=1.0",
            "limit=99999999",
        ] {
            let mut given = parameters(query);
            given.limit();
            assert!(given.finish().is_err(), "{query}");
        }
    }

    #[test]
    fn a_cursor_goes_with_its_filter_only() {
        let cursor = Cursor::new(&["orders", "created"], -5, Uuid::from_u128(9));
        let read = Cursor::parse(&cursor.to_string()).unwrap();
        assert_eq!(
            read.place(&["orders", "created"]).unwrap(),
            (-5, Uuid::from_u128(9))
        );
        assert!(read.place(&["orders", "completed"]).is_err());
        for text in [
            "",
            "x",
            "AAAA",
            &cursor.to_string()[1..],
            &"A".repeat(1_000),
        ] {
            assert!(
                parameters(&format!("cursor={text}")).cursor().is_err(),
                "{text}"
            );
        }
    }

    #[test]
    fn the_caller_says_how_long_to_wait() {
        for (prefer, seconds) in [
            ("wait=2", 2),
            ("respond-async, wait=10", 10),
            ("Wait = \"7\"", 7),
            ("wait=31", 30),
            ("wait=0", 0),
            ("wait=-1", 5),
            ("handling=lenient", 5),
        ] {
            let request = TestRequest::default()
                .insert_header(("prefer", prefer))
                .to_http_request();
            assert_eq!(
                patience(request.headers()),
                Duration::from_secs(seconds),
                "{prefer}"
            );
        }
        assert_eq!(patience(&HeaderMap::new()), WAIT_DEFAULT);
    }
}
