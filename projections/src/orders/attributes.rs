//! An order's free JSON object as a BSON document, for whoever queries MongoDB. Answers are not made of it
//! but of the JSON text, which is kept beside it: BSON has other numbers than JSON.

use mongodb::bson::{RawArrayBuf, RawBson, RawDocumentBuf, raw::CString};
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};

/// The JSON text as BSON, keys in their order and whatever they are called. `Null` where it has no place in
/// BSON (a number beyond any double): the order is worth more than this convenience.
pub fn to_bson(json: &str) -> RawBson {
    serde_json::from_str(json).map_or(RawBson::Null, |Value(value)| value)
}

struct Value(RawBson);

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyJson).map(Self)
    }
}

struct AnyJson;

impl<'de> Visitor<'de> for AnyJson {
    type Value = RawBson;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<RawBson, E> {
        Ok(RawBson::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<RawBson, E> {
        Ok(RawBson::Boolean(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<RawBson, E> {
        Ok(RawBson::Int64(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<RawBson, E> {
        Ok(i64::try_from(value).map_or(RawBson::Double(value as f64), RawBson::Int64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<RawBson, E> {
        Ok(RawBson::Double(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<RawBson, E> {
        Ok(RawBson::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<RawBson, A::Error> {
        let mut array = RawArrayBuf::new();
        while let Some(Value(item)) = items.next_element()? {
            array.push(item);
        }
        Ok(RawBson::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<RawBson, A::Error> {
        let mut document = RawDocumentBuf::new();
        while let Some((key, Value(value))) = members.next_entry::<String, Value>()? {
            // A BSON key ends at the first zero byte, so one with a zero byte gets a replacement character.
            let key = CString::try_from(key.replace('\0', "\u{fffd}")).map_err(A::Error::custom)?;
            document.append(key, value);
        }
        Ok(RawBson::Document(document))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::rawdoc;

    #[test]
    fn keys_keep_their_order_and_their_names() {
        let RawBson::Document(document) =
            to_bson(r#"{"z":1,"$set":{"a.b":[null,true,"x",1.5]},"$$ROOT":"$y","":{}}"#)
        else {
            panic!("a document");
        };
        let expected = rawdoc! {
            "z": 1_i64, "$set": { "a.b": [null, true, "x", 1.5] }, "$$ROOT": "$y", "": {}
        };
        assert_eq!(document, expected);
    }

    #[test]
    fn what_bson_cannot_hold_does_not_stop_an_order() {
        assert_eq!(to_bson(r#"{"a":1e400}"#), RawBson::Null);
        assert_eq!(to_bson("not json"), RawBson::Null);
        let RawBson::Document(document) = to_bson("{\"a\\u0000b\":18446744073709551615}") else {
            panic!("a document");
        };
        assert_eq!(
            document.get_f64("a\u{fffd}b").unwrap(),
            18_446_744_073_709_551_615.0
        );
    }
}
