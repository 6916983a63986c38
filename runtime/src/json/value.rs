//! JSON as it was sent: borrowed where possible, members in the order of their names, no name twice.

use std::{borrow::Cow, cell::Cell, fmt};

use serde::{
    Serialize, Serializer,
    de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor},
    ser::{SerializeMap, SerializeSeq},
};

/// How deep objects and arrays may be nested; deeper ones are refused as unreadable.
pub const LEVELS_MAX: usize = 64;
/// How many values a document may hold, so that a small text does not become a large thing in memory. The
/// largest order has about 20,000.
pub const VALUES_MAX: usize = 50_000;

/// A JSON value. Members of objects are in the order of their names, each name once, so that two values
/// that mean the same are equal and are written as the same text.
#[derive(Debug, Clone, PartialEq)]
pub enum Json<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number.
    Number(serde_json::Number),
    /// A string.
    Text(Cow<'a, str>),
    /// An array.
    Array(Vec<Json<'a>>),
    /// An object.
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

impl<'a> Json<'a> {
    /// Reads a whole document; the error says where it stopped being one, and repeats nothing of it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, serde_json::Error> {
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        let values = Cell::new(0);
        let whole = Within {
            levels: LEVELS_MAX,
            values: &values,
        };
        let value = whole.deserialize(&mut reader)?;
        reader.end()?;
        Ok(value)
    }

    /// The same value as `serde_json` has it.
    pub fn into_value(self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Bool(value) => value.into(),
            Self::Number(number) => number.into(),
            Self::Text(text) => text.into(),
            Self::Array(items) => items.into_iter().map(Json::into_value).collect(),
            Self::Object(members) => members
                .into_iter()
                .map(|(name, value)| (name.into_owned(), value.into_value()))
                .collect(),
        }
    }
}

impl Serialize for Json<'_> {
    /// Writes the value without blanks; equal values as equal texts.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(number) => number.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Array(items) => {
                let mut out = serializer.serialize_seq(Some(items.len()))?;
                items
                    .iter()
                    .try_for_each(|item| out.serialize_element(item))?;
                out.end()
            }
            Self::Object(members) => {
                let mut out = serializer.serialize_map(Some(members.len()))?;
                members
                    .iter()
                    .try_for_each(|(name, value)| out.serialize_entry(name, value))?;
                out.end()
            }
        }
    }
}

/// Reads a value within limits.
#[derive(Clone, Copy)]
struct Within<'c> {
    /// Levels that are left.
    levels: usize,
    /// Values of the document that were begun.
    values: &'c Cell<usize>,
}

impl Within<'_> {
    fn below<E: Error>(self) -> Result<Self, E> {
        match self.levels.checked_sub(1) {
            Some(levels) => Ok(Self { levels, ..self }),
            None => Err(E::custom(format_args!(
                "nested deeper than {LEVELS_MAX} levels"
            ))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Within<'_> {
    type Value = Json<'de>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json<'de>, D::Error> {
        self.values.set(self.values.get() + 1);
        if self.values.get() > VALUES_MAX {
            return Err(D::Error::custom(format_args!(
                "more than {VALUES_MAX} values"
            )));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Within<'_> {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Json<'de>, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Json<'de>, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Json<'de>, E> {
        let number = serde_json::Number::from_f64(number);
        number
            .map(Json::Number)
            .ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json<'de>, A::Error> {
        let below = self.below()?;
        let mut all = Vec::new();
        while let Some(item) = items.next_element_seed(below)? {
            all.push(item);
        }
        Ok(Json::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json<'de>, A::Error> {
        let below = self.below()?;
        let mut all = Vec::new();
        while let Some(name) = members.next_key_seed(Name)? {
            all.push((name, members.next_value_seed(below)?));
        }
        all.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        if all
            .array_windows()
            .any(|[(one, _), (other, _)]| one == other)
        {
            return Err(A::Error::custom("an object has the same name twice"));
        }
        Ok(Json::Object(all))
    }
}

/// Reads the name of a member.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_mean_the_same_are_the_same_value_and_text() {
        let (one, other) = (
            r#"{"b":[1,-2.5,"x\u0041"],"a":null}"#,
            r#" { "a" : null, "b" : [1, -2.5, "xA"] } "#,
        );
        let (one, other) = (
            Json::parse(one.as_bytes()).unwrap(),
            Json::parse(other.as_bytes()).unwrap(),
        );
        assert_eq!(one, other);
        assert_eq!(
            serde_json::to_string(&one).unwrap(),
            r#"{"a":null,"b":[1,-2.5,"xA"]}"#
        );
        assert_eq!(
            other.into_value(),
            serde_json::json!({"a": null, "b": [1, -2.5, "xA"]})
        );
    }

    #[test]
    fn what_is_not_one_well_formed_document_is_refused() {
        let too_many = format!("[{}{{}}]", "{},".repeat(VALUES_MAX - 1));
        let too_deep = "[".repeat(LEVELS_MAX + 1) + &"]".repeat(LEVELS_MAX + 1);
        for text in [
            "",
            "{",
            "{}{}",
            "nul",
            "{'a':1}",
            "[1,]",
            r#"{"a":1,"a":1}"#,
            r#"{"a":{"\u0061":1,"a":2}}"#,
            "\"\\ud800\"",
            "1e400",
            &too_deep,
            &too_many,
        ] {
            assert!(Json::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(Json::parse(b"\"\xff\"").is_err());
        let many = format!("[{}{{}}]", "{},".repeat(VALUES_MAX - 2));
        assert!(Json::parse(many.as_bytes()).is_ok());
        let deep = "[".repeat(LEVELS_MAX) + &"]".repeat(LEVELS_MAX);
        assert!(Json::parse(deep.as_bytes()).is_ok());
    }
    #[test]
    fn a_number_comes_back_as_it_was_sent() {
        for text in ["31.245270191439438", "0.1", "1e-7", "9007199254740993"] {
            let value = Json::parse(text.as_bytes()).unwrap();
            assert_eq!(serde_json::to_string(&value).unwrap(), text);
        }
    }
}
