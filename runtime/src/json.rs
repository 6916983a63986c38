//! Request bodies: received within limits, read once, and walked by hand, so that every wrong value is
//! reported at once and each with its JSON pointer.
//!
//! ```text
//! let bytes = json::body(&request, payload, json::JSON).await?;
//! let value = json::parse(&bytes)?;
//! let greeting = json::check(|place| {
//!     let mut fields = Fields::of(value, place)?;
//!     let name = fields.required("name", json::text);
//!     let times = fields.optional("times", json::integer);
//!     fields.refuse_others();
//!     Some(Greeting { name: name?, times: times? })
//! })?;
//! ```

mod body;
mod value;

use std::{borrow::Cow, cell::RefCell, fmt};

pub use body::{BODY_BYTES_MAX, JSON, MERGE_PATCH, body, body_or_empty_object};
pub use value::{Json, LEVELS_MAX};

use crate::problem::{FieldError, Problem};

/// More errors than this are counted, not listed.
pub(crate) const ERRORS_MAX: usize = 1_000;

/// The value that a body holds: the problem `unreadable` when it is no JSON.
pub fn parse(bytes: &[u8]) -> Result<Json<'_>, Problem> {
    Json::parse(bytes).map_err(|error| Problem::unreadable(error.to_string()))
}

/// Checks the value of a body: the problem `invalid` with all that `checker` found wrong.
pub fn check<T>(checker: impl FnOnce(&Place<'_>) -> Option<T>) -> Result<T, Problem> {
    let errors = RefCell::new(Vec::new());
    let root = Place {
        errors: &errors,
        parent: None,
        step: Step::Root,
    };
    match (checker(&root), errors.take()) {
        (Some(value), errors) if errors.is_empty() => Ok(value),
        (_, errors) => Err(Problem::invalid(errors)),
    }
}

/// Where in the body a value is, and the list that errors are added to.
pub struct Place<'p> {
    errors: &'p RefCell<Vec<FieldError>>,
    parent: Option<&'p Place<'p>>,
    step: Step<'p>,
}

#[derive(Clone, Copy)]
enum Step<'p> {
    Root,
    Member(&'p str),
    Item(usize),
}

impl Place<'_> {
    /// Reports the value at this place: `code` for programs, `message` for people. Always `None`.
    pub fn fail<T>(&self, code: &'static str, message: impl fmt::Display) -> Option<T> {
        self.fail_below("", code, message)
    }

    /// Reports a value below this place, by its JSON pointer from here. Always `None`.
    pub fn fail_below<T>(
        &self,
        pointer: &str,
        code: &'static str,
        message: impl fmt::Display,
    ) -> Option<T> {
        let mut errors = self.errors.borrow_mut();
        if errors.len() < ERRORS_MAX {
            errors.push(FieldError {
                pointer: self.pointer() + pointer,
                code,
                message: message.to_string(),
            });
        }
        None
    }

    /// The place of a member of the object at this place.
    pub fn member<'q>(&'q self, name: &'q str) -> Place<'q> {
        Place {
            errors: self.errors,
            parent: Some(self),
            step: Step::Member(name),
        }
    }

    /// The place of an item of the array at this place.
    pub fn item(&self, index: usize) -> Place<'_> {
        Place {
            errors: self.errors,
            parent: Some(self),
            step: Step::Item(index),
        }
    }

    fn wrong_type<T>(&self, wanted: &str) -> Option<T> {
        self.fail("wrong_type", format_args!("must be {wanted}"))
    }

    fn pointer(&self) -> String {
        let mut pointer = self.parent.map(Self::pointer).unwrap_or_default();
        match self.step {
            Step::Root => {}
            Step::Member(name) => {
                pointer.push('/');
                pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
            }
            Step::Item(index) => {
                pointer.push('/');
                pointer.push_str(&index.to_string());
            }
        }
        pointer
    }
}

/// What a merge patch (RFC 7396) says about a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<T> {
    /// Nothing: it stays.
    Keep,
    /// `null`: it goes.
    Remove,
    /// It becomes this.
    Set(T),
}

/// The members of an object, taken one after another.
pub struct Fields<'a, 'p> {
    members: Vec<(Cow<'a, str>, Json<'a>)>,
    place: &'p Place<'p>,
}

impl<'a, 'p> Fields<'a, 'p> {
    /// The members of `value`; reported when it is no object.
    pub fn of(value: Json<'a>, place: &'p Place<'p>) -> Option<Self> {
        match value {
            Json::Object(members) => Some(Self { members, place }),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) | Json::Array(_) => {
                place.wrong_type("an object")
            }
        }
    }

    /// A member that must be there. `None` when it is not, or when `reader` refused it; reported either way.
    pub fn required<T>(
        &mut self,
        name: &str,
        reader: impl FnOnce(Json<'a>, &Place<'_>) -> Option<T>,
    ) -> Option<T> {
        let place = self.place.member(name);
        match self.take(name) {
            Some(value) => reader(value, &place),
            None => place.fail("missing", "must be given"),
        }
    }

    /// A member that may be left out or `null` (`Some(None)`). `None` when `reader` refused it.
    pub fn optional<T>(
        &mut self,
        name: &str,
        reader: impl FnOnce(Json<'a>, &Place<'_>) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.take(name) {
            None | Some(Json::Null) => Some(None),
            Some(value) => reader(value, &self.place.member(name)).map(Some),
        }
    }

    /// A member of a merge patch. `None` when `reader` refused it.
    pub fn change<T>(
        &mut self,
        name: &str,
        reader: impl FnOnce(Json<'a>, &Place<'_>) -> Option<T>,
    ) -> Option<Change<T>> {
        match self.take(name) {
            None => Some(Change::Keep),
            Some(Json::Null) => Some(Change::Remove),
            Some(value) => reader(value, &self.place.member(name)).map(Change::Set),
        }
    }

    /// Reports every member that was not taken. To be called last.
    pub fn refuse_others(self) {
        for (name, _) in &self.members {
            self.place
                .member(name)
                .fail::<()>("unknown", "is not known here");
        }
    }

    fn take(&mut self, name: &str) -> Option<Json<'a>> {
        let index = self.members.iter().position(|(each, _)| each == name)?;
        Some(self.members.remove(index).1)
    }
}

/// Reads a text.
pub fn text<'a>(value: Json<'a>, place: &Place<'_>) -> Option<Cow<'a, str>> {
    match value {
        Json::Text(text) => Some(text),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_) => {
            place.wrong_type("a string")
        }
    }
}

/// Reads a whole number; one beyond 64 bits is reported as `out_of_range`.
pub fn integer(value: Json<'_>, place: &Place<'_>) -> Option<i64> {
    match value {
        Json::Number(number) if number.is_f64() => place.wrong_type("a whole number"),
        Json::Number(number) => match number.as_i64() {
            Some(number) => Some(number),
            None => place.fail("out_of_range", "is too large a number"),
        },
        Json::Null | Json::Bool(_) | Json::Text(_) | Json::Array(_) | Json::Object(_) => {
            place.wrong_type("a whole number")
        }
    }
}

/// Reads `true` or `false`.
pub fn boolean(value: Json<'_>, place: &Place<'_>) -> Option<bool> {
    match value {
        Json::Bool(value) => Some(value),
        Json::Null | Json::Number(_) | Json::Text(_) | Json::Array(_) | Json::Object(_) => {
            place.wrong_type("true or false")
        }
    }
}

/// Reads every item of an array, all of them even when one is refused; then the result is `None`.
pub fn array<'a, T>(
    value: Json<'a>,
    place: &Place<'_>,
    mut reader: impl FnMut(Json<'a>, &Place<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    match value {
        Json::Array(items) => {
            let mut values = Vec::with_capacity(items.len());
            let mut all = true;
            for (index, item) in items.into_iter().enumerate() {
                match reader(item, &place.item(index)) {
                    Some(value) => values.push(value),
                    None => all = false,
                }
            }
            all.then_some(values)
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) | Json::Object(_) => {
            place.wrong_type("an array")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors<T: fmt::Debug>(outcome: Result<T, Problem>) -> Vec<(String, &'static str)> {
        let problem = outcome.unwrap_err();
        problem
            .errors()
            .iter()
            .map(|error| (error.pointer.clone(), error.code))
            .collect()
    }

    fn point(value: Json<'_>, place: &Place<'_>) -> Option<(i64, Option<bool>)> {
        let mut fields = Fields::of(value, place)?;
        let x = fields.required("x", integer);
        let visible = fields.optional("visible", boolean);
        fields.refuse_others();
        Some((x?, visible?))
    }

    fn points(body: &str) -> Result<Vec<(i64, Option<bool>)>, Problem> {
        let value = parse(body.as_bytes())?;
        check(|place| array(value, place, point))
    }

    #[test]
    fn a_good_body_is_read() {
        assert_eq!(
            points(r#"[{"x":1},{"visible":null,"x":2},{"x":3,"visible":false}]"#).unwrap(),
            [(1, None), (2, None), (3, Some(false))]
        );
    }

    #[test]
    fn every_error_is_reported_at_once_with_its_pointer() {
        assert_eq!(
            errors(points(
                r#"[{"visible":1,"a/b~c":0},2,{"x":1.5},{"x":99999999999999999999},{"x":null}]"#
            )),
            [
                ("/0/x".into(), "missing"),
                ("/0/visible".into(), "wrong_type"),
                ("/0/a~1b~0c".into(), "unknown"),
                ("/1".into(), "wrong_type"),
                ("/2/x".into(), "wrong_type"),
                ("/3/x".into(), "wrong_type"),
                ("/4/x".into(), "wrong_type"),
            ]
        );
        assert_eq!(errors(points("{}")), [("".into(), "wrong_type")]);
    }

    #[test]
    fn what_is_no_json_is_unreadable() {
        for body in [
            "",
            "{",
            r#"{"currency":"EUR","currency":"USD"}"#,
            "{\"a\":\"\u{0}\"}",
        ] {
            let problem = parse(body.as_bytes()).unwrap_err();
            assert_eq!(problem.kind().name, "unreadable", "{body}");
        }
    }

    #[test]
    fn a_merge_patch_tells_absent_from_null() {
        let change = |body: &str| {
            let value = parse(body.as_bytes()).unwrap();
            check(|place| Fields::of(value, place)?.change("x", integer)).unwrap()
        };
        assert_eq!(change("{}"), Change::Keep);
        assert_eq!(change(r#"{"x":null}"#), Change::Remove);
        assert_eq!(change(r#"{"x":1}"#), Change::Set(1));
    }

    #[test]
    fn errors_without_end_are_not_listed_without_end() {
        let body = format!("[{}0]", "0,".repeat(5_000));
        assert_eq!(errors(points(&body)).len(), ERRORS_MAX);
    }
}
