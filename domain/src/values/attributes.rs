//! The free part of an order.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Invalid;

/// How long an order's attributes may be, as compact JSON.
pub const ATTRIBUTES_BYTES_MAX: usize = 16 * 1024;
/// How deep an order's attributes may be nested; the object itself is the first level.
pub const ATTRIBUTES_LEVELS_MAX: usize = 32;

/// The free part of an order: any JSON object, kept as compact JSON with sorted keys, so that equal
/// objects are equal texts. Not sealed: no place for personal data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attributes(String);

impl Attributes {
    /// Checks size, depth and keys. Keys must be free of control characters, which not every store takes.
    pub fn parse(object: Map<String, Value>) -> Result<Self, Invalid> {
        let mut object = Value::Object(object);
        check_nesting(&object, ATTRIBUTES_LEVELS_MAX)?;
        object.sort_all_objects();
        let text = object.to_string();
        if text.len() > ATTRIBUTES_BYTES_MAX {
            return Err(Invalid::TooManyBytes {
                max: ATTRIBUTES_BYTES_MAX,
            });
        }
        Ok(Self(text))
    }

    /// Compact JSON.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Attributes that the log holds.
    pub(crate) fn recorded(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl Default for Attributes {
    /// The empty object.
    fn default() -> Self {
        Self("{}".to_owned())
    }
}

impl From<Attributes> for String {
    fn from(attributes: Attributes) -> Self {
        attributes.0
    }
}

fn check_nesting(value: &Value, levels_left: usize) -> Result<(), Invalid> {
    let inside = || {
        levels_left.checked_sub(1).ok_or(Invalid::TooDeep {
            max: ATTRIBUTES_LEVELS_MAX,
        })
    };
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
        Value::Array(items) => {
            let inside = inside()?;
            items
                .iter()
                .try_for_each(|item| check_nesting(item, inside))
        }
        Value::Object(members) => {
            let inside = inside()?;
            members.iter().try_for_each(|(key, member)| {
                if key.chars().any(char::is_control) {
                    return Err(Invalid::ControlCharacter);
                }
                check_nesting(member, inside)
            })
        }
    }
}
