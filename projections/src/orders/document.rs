//! An order as a document in MongoDB, and back.

use events::{
    ids::{OrderId, StreamId, UserId},
    order::OrderLine,
    sealed::Sealed,
    timestamp::Timestamp,
};
use mongodb::bson::{
    Binary, DateTime, RawArrayBuf, RawBson, RawBsonRef, RawDocument, RawDocumentBuf, rawdoc,
    spec::BinarySubtype,
};
use runtime::representation::OrderStatus;

use super::{
    attributes,
    fold::{Contents, Order},
    words,
};
use crate::{
    digest::{Digest, Hasher},
    store::StoreError,
};

/// The order as it is stored. The same order is always the same bytes.
///
/// `created_at` and `updated_at` are dates for whoever reads the collection; as BSON's dates have milliseconds
/// only, the exact instants stand beside them, in microseconds. So does the exact text of the attributes.
pub fn encode(order: &Order) -> RawDocumentBuf {
    let Contents {
        currency,
        lines,
        total_minor,
        shipping_address,
        note,
        attributes,
    } = &order.contents;
    let words: RawArrayBuf = words::of_lines(lines).into_iter().collect();
    let lines: RawArrayBuf = lines.iter().map(line).collect();
    rawdoc! {
        "_id": order.id.to_string(),
        "customer_id": order.customer_id.to_string(),
        "status": order.status.name(),
        "currency": currency.code(),
        "lines": lines,
        "total_minor": *total_minor,
        "shipping_address": sealed(shipping_address.as_ref()),
        "note": sealed(note.as_ref()),
        "attributes": attributes::to_bson(attributes),
        "attributes_json": attributes.as_str(),
        "version": i64::try_from(order.version).unwrap_or(i64::MAX),
        "created_at": date(order.created_at),
        "created_at_micros": order.created_at.micros(),
        "updated_at": date(order.updated_at),
        "updated_at_micros": order.updated_at.micros(),
        "words": words,
    }
}

fn line(line: &OrderLine) -> RawDocumentBuf {
    let name = line
        .name
        .as_deref()
        .map_or(RawBson::Null, |name| RawBson::String(name.to_owned()));
    rawdoc! {
        "sku": line.sku.as_str(),
        "name": name,
        "quantity": line.quantity,
        "unit_price_minor": line.unit_price_minor,
        "amount_minor": line.amount_minor,
    }
}

fn sealed(sealed: Option<&Sealed>) -> RawBson {
    sealed.map_or(RawBson::Null, |sealed| {
        RawBson::Binary(Binary {
            subtype: BinarySubtype::Generic,
            bytes: sealed.as_bytes().to_vec(),
        })
    })
}

fn date(at: Timestamp) -> DateTime {
    DateTime::from_millis(at.micros().div_euclid(1_000))
}

/// The order of a stored document.
pub fn decode(document: &RawDocument) -> Result<Order, StoreError> {
    parse(document).ok_or_else(|| {
        let id = document.get_str("_id").unwrap_or("without a readable id");
        StoreError::Damaged(format!("order {id}"))
    })
}

fn parse(document: &RawDocument) -> Option<Order> {
    let text = |key| document.get_str(key).ok();
    let number = |key| document.get_i64(key).ok();
    let status = text("status")?;
    Some(Order {
        id: text("_id")?.parse::<OrderId>().ok()?,
        customer_id: text("customer_id")?.parse::<UserId>().ok()?,
        status: OrderStatus::ALL
            .into_iter()
            .find(|each| each.name() == status)?,
        contents: Contents {
            currency: text("currency")?.parse().ok()?,
            lines: document
                .get_array("lines")
                .ok()?
                .into_iter()
                .map(parse_line)
                .collect::<Option<_>>()?,
            total_minor: number("total_minor")?,
            shipping_address: parse_sealed(document, "shipping_address")?,
            note: parse_sealed(document, "note")?,
            attributes: text("attributes_json")?.to_owned(),
        },
        version: number("version")?.try_into().ok()?,
        created_at: Timestamp::from_micros(number("created_at_micros")?),
        updated_at: Timestamp::from_micros(number("updated_at_micros")?),
    })
}

fn parse_line<E>(item: Result<RawBsonRef<'_>, E>) -> Option<OrderLine> {
    let line = item.ok()?.as_document()?;
    let name = line.get("name").ok()??;
    let name = if is_null(name) {
        None
    } else {
        Some(name.as_str()?.to_owned())
    };
    Some(OrderLine {
        sku: line.get_str("sku").ok()?.to_owned(),
        name,
        quantity: line.get_i32("quantity").ok()?,
        unit_price_minor: line.get_i64("unit_price_minor").ok()?,
        amount_minor: line.get_i64("amount_minor").ok()?,
    })
}

/// `None` when it is neither null nor bytes.
fn parse_sealed(document: &RawDocument, key: &str) -> Option<Option<Sealed>> {
    let value = document.get(key).ok()??;
    if is_null(value) {
        return Some(None);
    }
    Some(Some(Sealed::from_bytes(value.as_binary()?.bytes.to_vec())))
}

fn is_null(value: RawBsonRef<'_>) -> bool {
    value.as_null().is_some()
}

/// The stream whose state it is.
pub fn stream(document: &RawDocument) -> Result<StreamId, StoreError> {
    let id = document.get_str("_id").unwrap_or_default();
    let order: OrderId = id
        .parse()
        .map_err(|_| StoreError::Damaged(format!("an order under {id:?}")))?;
    Ok(order.into())
}

/// The hashes of a stored document. One that is not exactly what [`encode`] writes, be it in a field that
/// answers are not made of, has contents like no other.
pub fn digest(document: &RawDocument) -> Result<Order<Digest>, StoreError> {
    let order = decode(document)?;
    let is_exact = encode(&order).as_bytes() == document.as_bytes();
    let digested = order.digested();
    if is_exact {
        return Ok(digested);
    }
    Ok(Order {
        contents: Hasher::default()
            .bytes("not as written")
            .bytes(document.as_bytes())
            .finish(),
        ..digested
    })
}

/// The document for people: JSON, sealed fields by their length only.
pub fn shown(document: &RawDocument) -> serde_json::Value {
    let fields = document.iter().flatten();
    fields
        .map(|(key, value)| (key.to_string(), shown_value(value)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn shown_value(value: RawBsonRef<'_>) -> serde_json::Value {
    if let Some(document) = value.as_document() {
        return shown(document);
    }
    if let Some(array) = value.as_array() {
        return array.into_iter().flatten().map(shown_value).collect();
    }
    if let Some(sealed) = value.as_binary() {
        return format!("sealed({} bytes)", sealed.bytes.len()).into();
    }
    if let Some(at) = value.as_datetime() {
        return at.try_to_rfc3339_string().unwrap_or_default().into();
    }
    plain(value)
}

/// A value without parts; the types that [`encode`] does not write are named only.
fn plain(value: RawBsonRef<'_>) -> serde_json::Value {
    use serde_json::Value;
    if value.as_null().is_some() {
        return Value::Null;
    }
    let text = value.as_str().map(Value::from);
    let truth = || value.as_bool().map(Value::from);
    let number = || {
        value
            .as_i64()
            .or(value.as_i32().map(i64::from))
            .map(Value::from)
    };
    let double = || value.as_f64().map(Value::from);
    let other = || format!("{:?}", value.element_type()).into();
    text.or_else(truth)
        .or_else(number)
        .or_else(double)
        .unwrap_or_else(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn order() -> Order {
        Order {
            id: OrderId(Uuid::from_u128(1)),
            customer_id: UserId(Uuid::from_u128(2)),
            status: OrderStatus::InProgress,
            contents: Contents {
                currency: "EUR".parse().unwrap(),
                lines: vec![
                    OrderLine {
                        sku: "A".into(),
                        name: None,
                        quantity: 2,
                        unit_price_minor: 5,
                        amount_minor: 10,
                    },
                    OrderLine {
                        sku: "A".into(),
                        name: Some("x".into()),
                        quantity: 1,
                        unit_price_minor: 0,
                        amount_minor: 0,
                    },
                ],
                total_minor: 10,
                shipping_address: Some(Sealed::from_bytes(vec![1, 2, 3])),
                note: None,
                attributes: r#"{"b":1.10,"$a.":{"":null}}"#.into(),
            },
            version: 3,
            created_at: Timestamp::from_micros(1_763_800_000_123_456),
            updated_at: Timestamp::from_micros(-1),
        }
    }

    #[test]
    fn an_order_comes_back_as_it_was_stored() {
        let document = encode(&order());
        assert_eq!(decode(&document).unwrap(), order());
        assert_eq!(
            document
                .get_datetime("updated_at")
                .unwrap()
                .timestamp_millis(),
            -1
        );
        assert_eq!(digest(&document).unwrap(), order().digested());
    }

    #[test]
    fn a_change_in_a_field_that_no_answer_is_made_of_shows_in_the_digest() {
        let mut stored: mongodb::bson::Document = encode(&order()).try_into().unwrap();
        stored
            .get_document_mut("attributes")
            .unwrap()
            .insert("b", 2.0);
        let stored = RawDocumentBuf::try_from(&stored).unwrap();
        assert_eq!(decode(&stored).unwrap(), order());
        assert_ne!(digest(&stored).unwrap(), order().digested());
    }

    #[test]
    fn a_document_that_is_not_ours_is_told_from_one_that_is() {
        let error = decode(&rawdoc! { "_id": "x" }).unwrap_err();
        assert_eq!(error.to_string(), "stored data cannot be read: order x");
    }

    #[test]
    fn sealed_fields_are_shown_by_their_length() {
        let shown = shown(&encode(&order()));
        assert_eq!(shown["shipping_address"], "sealed(3 bytes)");
        assert_eq!(shown["total_minor"], 10);
    }
}
