use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::money::{Price, parse_minor};

const EUR: &str = "EUR";

fn price(text: &str) -> Price {
    parse_minor(text, EUR.parse().unwrap()).unwrap()
}

fn line(quantity: i64, unit_price: &str) -> NewLine {
    NewLine {
        sku: Sku::parse("TEA-1").unwrap(),
        name: Some(LineName::parse("Tea").unwrap()),
        quantity: Quantity::parse(quantity).unwrap(),
        unit_price: price(unit_price),
    }
}

fn text_of_length(length: usize) -> String {
    "ä".repeat(length)
}

#[test]
fn texts_are_trimmed_and_counted_in_characters() {
    assert_eq!(
        PersonName::parse(" \u{a0}Ada Lovelace\n").unwrap().as_str(),
        "Ada Lovelace"
    );
    assert!(PersonName::parse(&text_of_length(200)).is_ok());
    assert_eq!(
        PersonName::parse(&text_of_length(201)),
        Err(Invalid::TooLong { max: 200 })
    );
    assert_eq!(
        PersonName::parse("  \t "),
        Err(Invalid::TooShort { min: 1 })
    );
    assert!(LineName::parse(&text_of_length(200)).is_ok());
    assert_eq!(
        LineName::parse(&text_of_length(201)),
        Err(Invalid::TooLong { max: 200 })
    );
    assert!(Note::parse(&text_of_length(2_000)).is_ok());
    assert_eq!(
        Note::parse(&text_of_length(2_001)),
        Err(Invalid::TooLong { max: 2_000 })
    );
    assert!(Reason::parse(&text_of_length(500)).is_ok());
    assert_eq!(
        Reason::parse(&text_of_length(501)),
        Err(Invalid::TooLong { max: 500 })
    );
    assert_eq!(Note::parse(" ").unwrap().as_str(), "");
    assert_eq!(Reason::parse("").unwrap().as_str(), "");
}

#[test]
fn control_characters_are_refused_everywhere() {
    for text in [
        "a\nb",
        "a\u{0}b",
        "a\u{7f}b",
        "a\tb",
        "a\u{85}b",
        "a\u{1b}[0mb",
    ] {
        assert_eq!(
            PersonName::parse(text),
            Err(Invalid::ControlCharacter),
            "{text:?}"
        );
        assert_eq!(
            Note::parse(text),
            Err(Invalid::ControlCharacter),
            "{text:?}"
        );
        assert_eq!(
            Reason::parse(text),
            Err(Invalid::ControlCharacter),
            "{text:?}"
        );
        assert_eq!(Sku::parse(text), Err(Invalid::ControlCharacter), "{text:?}");
        assert_eq!(
            EmailAddress::parse(text),
            Err(Invalid::ControlCharacter),
            "{text:?}"
        );
        let password = format!("long enough {text}");
        assert_eq!(
            Password::parse(&password).err(),
            Some(Invalid::ControlCharacter),
            "{text:?}"
        );
    }
}

#[test]
fn a_sku_is_1_to_64_visible_characters() {
    for sku in ["85123A", "a", "ÄÖ-Ü/1", "gift_0001_20", &"x".repeat(64)] {
        assert_eq!(Sku::parse(sku).unwrap().as_str(), sku);
    }
    for sku in [
        "BANK CHARGES",
        "a\u{a0}b",
        "a\u{200b}b",
        "\u{feff}a",
        "a\u{2028}b",
        "a\u{202e}b",
    ] {
        assert_eq!(Sku::parse(sku), Err(Invalid::NotVisible), "{sku:?}");
    }
    assert_eq!(Sku::parse(""), Err(Invalid::TooShort { min: 1 }));
    assert_eq!(
        Sku::parse(&"x".repeat(65)),
        Err(Invalid::TooLong { max: 64 })
    );
}

#[test]
fn a_phone_number_is_e164() {
    for phone in ["+4915112345678", "+12", "+123456789012345", " +441234567 "] {
        assert_eq!(Phone::parse(phone).unwrap().as_str(), phone.trim());
    }
    for phone in [
        "4915112345678",
        "+0123456",
        "+49 151",
        "+49-151",
        "+",
        "+1",
        "+1٢3",
        "004915",
        "+12a",
    ] {
        assert_eq!(Phone::parse(phone), Err(Invalid::NotE164), "{phone}");
    }
    assert_eq!(
        Phone::parse("+1234567890123456"),
        Err(Invalid::TooLong { max: 16 })
    );
}

#[test]
fn a_locale_is_kept_in_recommended_case() {
    assert_eq!(Locale::parse(" DE-de ").unwrap().as_str(), "de-DE");
    assert_eq!(Locale::parse("de_DE"), Err(Invalid::NotBcp47));
    assert_eq!(
        Locale::parse(&"a-".repeat(30)),
        Err(Invalid::TooLong { max: 35 })
    );
    assert_eq!(
        Locale::parse(Locale::default().as_str()),
        Ok(Locale::default())
    );
}

#[test]
fn one_mailbox_is_one_text() {
    for (text, address) in [
        (" Ada@Example.COM ", "ada@example.com"),
        (
            "first.last+tag@sub.example.co.uk",
            "first.last+tag@sub.example.co.uk",
        ),
        (
            "o'neil_{x}@xn--bcher-kva.example",
            "o'neil_{x}@xn--bcher-kva.example",
        ),
        ("1@1.de", "1@1.de"),
    ] {
        assert_eq!(EmailAddress::parse(text).unwrap().as_str(), address);
    }
    let longest_local = format!("{}@example.com", "a".repeat(64));
    assert!(EmailAddress::parse(&longest_local).is_ok());
}

#[test]
fn what_cannot_be_delivered_to_is_no_address() {
    let long_local = format!("{}@example.com", "a".repeat(65));
    let long_label = format!("a@{}.com", "a".repeat(64));
    for text in [
        "ada",
        "@example.com",
        "ada@",
        "ada@example",
        "a@b@example.com",
        "ada@.com",
        "ada@example..com",
        ".ada@example.com",
        "ada.@example.com",
        "a..b@example.com",
        "ada@-example.com",
        "ada@example-.com",
        "ada lovelace@example.com",
        "ada@exam ple.com",
        "ada@example.com.",
        "ada@[127.0.0.1]",
        "ada@127.0.0.1",
        "\"ada\"@example.com",
        "ada@exämple.com",
        "ädä@example.com",
        "ada@example.c",
        "Ada <ada@example.com>",
        "ada@example.com,bob@example.com",
        &long_local,
        &long_label,
    ] {
        assert_eq!(EmailAddress::parse(text), Err(Invalid::NotEmail), "{text}");
    }
    assert_eq!(EmailAddress::parse(""), Err(Invalid::TooShort { min: 1 }));
    let too_long = format!("a@{}com", "example.".repeat(32));
    assert_eq!(
        EmailAddress::parse(&too_long),
        Err(Invalid::TooLong { max: 254 })
    );
}

#[test]
fn a_password_is_taken_as_it_is() {
    assert_eq!(
        Password::parse("  twelve chars  ").unwrap().expose(),
        "  twelve chars  "
    );
    assert!(Password::parse(&text_of_length(12)).is_ok());
    assert!(Password::parse(&text_of_length(128)).is_ok());
    let error = |text: &str| Password::parse(text).err();
    assert_eq!(
        error(&text_of_length(11)),
        Some(Invalid::TooShort { min: 12 })
    );
    assert_eq!(
        error(&text_of_length(129)),
        Some(Invalid::TooLong { max: 128 })
    );
}

#[test]
fn what_is_personal_or_secret_does_not_show_in_debug() {
    let shown = format!(
        "{:?} {:?} {:?} {:?} {:?} {:?}",
        PersonName::parse("ada").unwrap(),
        Phone::parse("+491511").unwrap(),
        EmailAddress::parse("ada@example.com").unwrap(),
        Note::parse("for ada").unwrap(),
        Password::parse("ada ada ada ada").unwrap(),
        Address::parse(ADDRESS).unwrap(),
    );
    assert!(
        !shown.contains("ada") && !shown.contains("491511") && !shown.contains("Ada"),
        "{shown}"
    );
}

#[test]
fn a_quantity_is_1_to_a_million() {
    for pieces in [1, 2, 1_000_000] {
        assert_eq!(Quantity::parse(pieces).unwrap().get(), pieces as i32);
    }
    for pieces in [0, -1, 1_000_001, i64::MAX, i64::MIN, 1 << 32 | 1] {
        let expected = Err(Invalid::OutOfRange {
            min: 1,
            max: 1_000_000,
        });
        assert_eq!(Quantity::parse(pieces), expected, "{pieces}");
    }
}

const ADDRESS: AddressParts<'static> = AddressParts {
    recipient: " Ada Lovelace ",
    street: "12 St James's Square",
    street2: None,
    postal_code: "SW1Y 4LB",
    city: "London",
    region: Some("Greater London"),
    country: "GB",
};

#[test]
fn an_address_is_sealed_as_json_of_its_trimmed_parts() {
    let address = Address::parse(ADDRESS).unwrap();
    let expected = json!({
        "recipient": "Ada Lovelace",
        "street": "12 St James's Square",
        "street2": null,
        "postal_code": "SW1Y 4LB",
        "city": "London",
        "region": "Greater London",
        "country": "GB",
    });
    assert_eq!(serde_json::to_value(address).unwrap(), expected);
}

#[test]
fn all_that_is_wrong_with_an_address_is_said_at_once() {
    let long = text_of_length(201);
    let parts = AddressParts {
        recipient: " ",
        street: &long,
        street2: Some("a\nb"),
        postal_code: &long,
        city: "",
        region: Some(&long),
        country: "gb",
    };
    let errors = Address::parse(parts).unwrap_err();
    let errors: Vec<(&str, &str)> = errors
        .iter()
        .map(|part| (part.pointer.as_str(), part.invalid.code()))
        .collect();
    assert_eq!(
        errors,
        [
            ("/recipient", "too_short"),
            ("/street", "too_long"),
            ("/street2", "control_character"),
            ("/postal_code", "too_long"),
            ("/city", "too_short"),
            ("/region", "too_long"),
            ("/country", "not_iso3166"),
        ]
    );
}

fn attributes(value: Value) -> Result<Attributes, Invalid> {
    let Value::Object(object) = value else {
        panic!("not an object")
    };
    Attributes::parse(object)
}

fn nested(levels: usize) -> Value {
    (1..levels).fold(json!({}), |inside, _| json!({ "a": inside }))
}

#[test]
fn equal_attributes_are_equal_texts() {
    let one =
        attributes(serde_json::from_str(r#"{"b": [1, {"d": 1, "c": 2}], "a": "ä"}"#).unwrap());
    let two = attributes(serde_json::from_str(r#"{"a":"\u00e4","b":[1,{"c":2,"d":1}]}"#).unwrap());
    assert_eq!(one, two);
    assert_eq!(one.unwrap().as_str(), r#"{"a":"ä","b":[1,{"c":2,"d":1}]}"#);
    assert_eq!(attributes(json!({})), Ok(Attributes::default()));
}

#[test]
fn attributes_have_a_size_a_depth_and_plain_keys() {
    let fill = |bytes: usize| json!({ "a": "x".repeat(bytes - r#"{"a":""}"#.len()) });
    assert!(attributes(fill(16 * 1024)).is_ok());
    assert_eq!(
        attributes(fill(16 * 1024 + 1)),
        Err(Invalid::TooManyBytes { max: 16 * 1024 })
    );
    assert!(attributes(nested(32)).is_ok());
    assert_eq!(attributes(nested(33)), Err(Invalid::TooDeep { max: 32 }));
    let in_an_array = json!({ "a": [[[nested(29)]]] });
    assert_eq!(attributes(in_an_array), Err(Invalid::TooDeep { max: 32 }));
    assert_eq!(
        attributes(json!({ "a\u{0}": 1 })),
        Err(Invalid::ControlCharacter)
    );
    assert_eq!(
        attributes(json!({ "a": [{ "b\n": 1 }] })),
        Err(Invalid::ControlCharacter)
    );
    assert!(attributes(json!({ "a": "line\nbreak", "$x.y": null })).is_ok());
}

#[test]
fn lines_have_amounts_and_a_total() {
    let lines = Lines::parse(vec![line(3, "2.50"), line(1, "0"), line(3, "2.50")]).unwrap();
    let amounts: Vec<i64> = lines
        .as_slice()
        .iter()
        .map(|line| line.amount_minor)
        .collect();
    assert_eq!(amounts, [750, 0, 750]);
    assert_eq!(lines.total_minor(), 1_500);
    assert_eq!(lines.as_slice()[0].name.as_deref(), Some("Tea"));
}

#[test]
fn an_order_has_1_to_2000_lines() {
    let lines = |count| Lines::parse(vec![line(1, "1"); count]).map(|lines| lines.total_minor());
    let error = |invalid| {
        Err(InvalidPart {
            pointer: String::new(),
            invalid,
        })
    };
    assert_eq!(lines(0), error(Invalid::TooFew { min: 1 }));
    assert_eq!(lines(2_000), Ok(200_000));
    assert_eq!(lines(2_001), error(Invalid::TooMany { max: 2_000 }));
}

#[test]
fn an_amount_or_total_too_large_is_said_with_its_place() {
    let huge = "92233720368547758.07";
    let too_large = Invalid::Money(MoneyError::TooLarge);
    let amount = Lines::parse(vec![line(1, "1"), line(2, huge)]).unwrap_err();
    assert_eq!(
        amount,
        InvalidPart {
            pointer: "/1".to_owned(),
            invalid: too_large
        }
    );
    let total = Lines::parse(vec![line(1, huge), line(1, "0.01")]).unwrap_err();
    assert_eq!(
        total,
        InvalidPart {
            pointer: String::new(),
            invalid: too_large
        }
    );
    assert_eq!(too_large.code(), "too_large");
    assert_eq!(
        Lines::parse(vec![line(1, huge)]).unwrap().total_minor(),
        i64::MAX
    );
}

#[test]
fn every_error_has_its_own_name() {
    let errors = [
        Invalid::TooShort { min: 1 },
        Invalid::TooLong { max: 1 },
        Invalid::ControlCharacter,
        Invalid::NotVisible,
        Invalid::OutOfRange { min: 1, max: 2 },
        Invalid::TooFew { min: 1 },
        Invalid::TooMany { max: 1 },
        Invalid::TooManyBytes { max: 1 },
        Invalid::TooDeep { max: 1 },
        Invalid::NotOneOf { allowed: "a, b" },
        Invalid::NotE164,
        Invalid::NotBcp47,
        Invalid::NotEmail,
        Invalid::NotIso3166,
        UnknownCurrency.into(),
        MoneyError::NotDecimal.into(),
        MoneyError::TooManyDecimals { max: 2 }.into(),
        MoneyError::TooLarge.into(),
    ];
    let codes: std::collections::BTreeSet<_> = errors.iter().map(|error| error.code()).collect();
    assert_eq!(codes.len(), errors.len());
    assert_eq!(
        Invalid::TooLong { max: 200 }.to_string(),
        "must have at most 200 characters"
    );
}

proptest! {
    #[test]
    fn totals_are_the_sum_of_their_lines(
        given in prop::collection::vec((1..=1_000_000_i64, 0..=i64::MAX / 4_000_000), 1..50)
    ) {
        let eur: events::currency::Currency = EUR.parse().unwrap();
        let lines = given.iter().map(|(quantity, minor)| line(*quantity, &eur.format_minor(*minor)));
        let exact: i128 = given.iter().map(|(quantity, minor)| i128::from(*quantity) * i128::from(*minor)).sum();
        match Lines::parse(lines.collect()) {
            Ok(lines) => prop_assert_eq!(i128::from(lines.total_minor()), exact),
            Err(part) => {
                prop_assert!(exact > i128::from(i64::MAX));
                prop_assert_eq!(part.invalid, Invalid::Money(MoneyError::TooLarge));
            }
        }
    }

    /// Parsing never panics, and what was parsed is parsed again as itself.
    #[test]
    fn what_was_parsed_is_already_in_its_final_form(
        wild in "\\PC{0,40}",
        email in "[ A-Za-z0-9.@+-]{0,30}",
        tag in "[A-Za-z0-9]{1,8}(-[A-Za-z0-9]{1,8}){0,4}",
        phone in "\\+?[0-9 ]{0,17}",
    ) {
        for text in [wild, email, tag, phone] {
            macro_rules! stays { ($($value:ident),+) => { $(
                if let Ok(value) = $value::parse(&text) {
                    prop_assert_eq!($value::parse(value.as_str()), Ok(value.clone()));
                    prop_assert!(!value.as_str().chars().any(char::is_control));
                }
            )+ }; }
            stays!(Sku, LineName, Reason, Note, PersonName, Phone, Locale, EmailAddress);
        }
    }
}
