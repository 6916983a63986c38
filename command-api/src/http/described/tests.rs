//! The description is true: it is the one that is kept, and its limits are those of the readers.

mod whole;

use jsonschema::Validator;
use runtime::{json, openapi::document};
use serde_json::{Value, json};

use crate::{commands::read, http::endpoints};

const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
/// What texts are made of: visible, in no list of common passwords, and good in a sku.
const TEXT: &str = "zq7-x";

#[test]
fn the_description_that_is_kept_says_what_is_answered_here() {
    document::keep(KEPT, "command-api", &endpoints()).unwrap();
}

fn kept() -> Value {
    serde_json::from_str(&std::fs::read_to_string(KEPT).unwrap()).unwrap()
}

type Reads = fn(json::Json<'_>) -> bool;

/// The schema of each body, one that is accepted, and its reader.
fn bodies() -> [(&'static str, Value, Reads); 9] {
    let line = json!({"sku": "TEA-250", "name": "Tea", "quantity": 2, "unit_price": "4.25"});
    let address = json!({
        "recipient": "Ada", "street": "12 Square", "street2": "left", "postal_code": "SW1Y 4JH", "city": "London",
        "region": "Westminster", "country": "GB",
    });
    let contents = json!({"lines": [line], "shipping_address": address, "note": "Ring", "attributes": {"gift": true}});
    let mut order = contents.clone();
    order["currency"] = "GBP".into();
    order["customer_id"] = "01a2052c-3e41-7208-b168-4a72a5d67524".into();
    let person = json!({
        "email": "ada@example.com", "password": "correct horse battery staple", "name": "Ada", "phone": "+15005550006",
        "locale": "en-GB",
    });
    let profile = json!({
        "name": "Ada", "phone": "+15005550006", "locale": "en-GB",
        "preferences": {"order_emails": true, "order_sms": false},
    });
    let passwords =
        json!({"current_password": "x", "new_password": "correct horse battery staple"});
    [
        ("Registration", person, |body| {
            read::registration(body).is_ok()
        }),
        (
            "Credentials",
            json!({"email": "ada@example.com", "password": "x"}),
            |body| read::credentials(body).is_ok(),
        ),
        ("PasswordChange", passwords, |body| {
            read::password_change(body).is_ok()
        }),
        ("NewRole", json!({"role": "admin"}), |body| {
            read::new_role(body).is_ok()
        }),
        ("ProfilePatch", profile, |body| read::profile(body).is_ok()),
        ("NewOrder", order, |body| read::new_order(body).is_ok()),
        ("OrderContents", contents, |body| {
            read::replacement(body, Some(gbp())).is_ok()
        }),
        (
            "StatusChange",
            json!({"status": "cancelled", "reason": "lost"}),
            |body| read::status_change(body).is_ok(),
        ),
        ("Cancellation", json!({"reason": "lost"}), |body| {
            read::reasoned(body).is_ok()
        }),
    ]
}

fn gbp() -> events::currency::Currency {
    "GBP".parse().unwrap()
}

/// Apart from what a list decides: currencies, countries, common passwords.
#[test]
fn a_schema_takes_just_what_its_reader_takes() {
    let kept = kept();
    for (name, accepted, reads) in bodies() {
        let schema = &kept["components"]["schemas"][name];
        let validator = validator(&kept, name);
        let mut variations = vec![(String::new(), accepted.clone())];
        vary(&kept, schema, &accepted, &mut |what, part| {
            variations.push((what, part));
        });
        assert!(variations.len() > 3, "{name}: {variations:?}");
        let (mut taken, mut refused) = (0, 0);
        for (what, body) in variations {
            let text = body.to_string();
            let by_reader = json::parse(text.as_bytes()).is_ok_and(reads);
            let shown: String = text.chars().take(300).collect();
            assert_eq!(
                validator.is_valid(&body),
                by_reader,
                "{name}{what}: {shown}"
            );
            *(if by_reader { &mut taken } else { &mut refused }) += 1;
        }
        assert!(
            taken > 0 && refused > 0,
            "{name}: {taken} taken, {refused} refused"
        );
    }
}

fn validator(kept: &Value, name: &str) -> Validator {
    let schema = json!({
        "$ref": format!("#/components/schemas/{name}"),
        "components": kept["components"],
    });
    let options = jsonschema::options().should_validate_formats(true);
    options.build(&schema).unwrap()
}

/// Says each variation of `accepted` at and beyond the limits that `schema` names, with what was varied.
fn vary(kept: &Value, schema: &Value, accepted: &Value, say: &mut dyn FnMut(String, Value)) {
    let schema = resolved(kept, schema);
    for value in values(schema) {
        say(format!(" = {}", shown(&value)), value);
    }
    if let (Some(fields), Some(object)) = (schema["properties"].as_object(), accepted.as_object()) {
        let with = |field: &str, value: Value| {
            let mut body = object.clone();
            body.insert(field.to_owned(), value);
            Value::Object(body)
        };
        say("/unheard_of".into(), with("unheard_of", Value::Null));
        for (field, below) in fields {
            let mut without = object.clone();
            without.remove(field);
            say(format!(" without {field}"), Value::Object(without));
            let inner = object.get(field).unwrap_or(&Value::Null);
            vary(kept, below, inner, &mut |what, value| {
                say(format!("/{field}{what}"), with(field, value));
            });
        }
    }
    if let Some(first) = accepted.as_array().and_then(|items| items.first()) {
        vary(kept, &schema["items"], first, &mut |what, value| {
            say(format!("/0{what}"), json!([value]));
        });
        for count in around(schema, "minItems", "maxItems") {
            say(format!(" of {count}"), vec![first.clone(); count].into());
        }
    }
}

/// The schema that is meant, also behind a reference or where `null` is another choice.
fn resolved<'a>(kept: &'a Value, schema: &'a Value) -> &'a Value {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap_or_default();
        return &kept["components"]["schemas"][name];
    }
    match schema["oneOf"].as_array() {
        Some(choices) => resolved(kept, &choices[0]),
        None => schema,
    }
}

/// Single values at and beyond the limits of a schema, and of every other type.
fn values(schema: &Value) -> Vec<Value> {
    let mut values = vec![
        Value::Null,
        json!({"unheard_of": 1}),
        json!([]),
        json!(true),
        json!(""),
    ];
    if let Some(words) = schema["enum"].as_array() {
        values.extend(words.iter().cloned());
        values.push("unheard_of".into());
    }
    if schema.get("maximum").is_some() {
        values.extend(
            around(schema, "minimum", "maximum")
                .into_iter()
                .map(Value::from),
        );
        values.push(json!(1.5));
        values.push(json!(-1));
    }
    if schema.get("maxLength").is_some() {
        for length in around(schema, "minLength", "maxLength") {
            values.push(TEXT.chars().cycle().take(length).collect::<String>().into());
        }
        values.push("zq7\u{0}zq7-xzq7-xzq7".into());
    }
    for text in [
        "+15005550006",
        "+0",
        "15005550006",
        "+1234567890123456",
        "0",
        "1.5",
        "01",
        "1.",
        "-1",
        "gb",
        "USD",
    ] {
        values.push(text.into());
    }
    values
}

/// Just below, at and just above both limits.
fn around(schema: &Value, least: &str, most: &str) -> Vec<usize> {
    let limit = |name: &str| {
        schema[name]
            .as_u64()
            .and_then(|limit| usize::try_from(limit).ok())
    };
    let least = limit(least)
        .into_iter()
        .flat_map(|limit| [limit.saturating_sub(1), limit]);
    let most = limit(most).into_iter().flat_map(|limit| [limit, limit + 1]);
    least.chain(most).collect()
}

fn shown(value: &Value) -> String {
    value.to_string().chars().take(40).collect()
}
