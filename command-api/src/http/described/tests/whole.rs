//! The whole document, of both services: it is OpenAPI 3.1, its examples fit its schemas, and no problem is missing.

use runtime::problem::{Kind, METHOD_NOT_ALLOWED, PROBLEM_JSON};
use serde_json::{Value, json};

use super::kept;

/// The OpenAPI Initiative's schema of descriptions, version 2022-10-07, as it is published (Apache-2.0).
const OPENAPI_3_1: &str = include_str!("../openapi-3.1.schema.json");
/// The example of a body that its reader refuses.
const REFUSED: &str = "invalid";

#[test]
fn the_description_is_openapi_3_1() {
    let schema = serde_json::from_str(OPENAPI_3_1).unwrap();
    let kept = kept();
    let validator = jsonschema::options()
        .should_validate_formats(true)
        .build(&schema)
        .unwrap();
    let wrong: Vec<_> = validator
        .iter_errors(&kept)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    // The schema above leaves out what stands in schemas.
    for (name, schema) in kept["components"]["schemas"].as_object().unwrap() {
        let checked = jsonschema::draft202012::meta::validate(schema);
        assert!(checked.is_ok(), "{name}: {:?}", checked.err());
    }
}

#[test]
fn every_example_is_what_its_schema_says() {
    let kept = kept();
    let (mut fitting, mut refused) = (0, 0);
    each_example(&kept, &kept, "", &mut |place, schema, name, example| {
        let is_refused = name == REFUSED && place.contains("/requestBody/");
        let mut schema = schema.clone();
        schema["components"] = kept["components"].clone();
        let validator = jsonschema::options()
            .should_validate_formats(true)
            .build(&schema)
            .unwrap();
        let wrong: Vec<_> = validator
            .iter_errors(example)
            .map(|e| e.to_string())
            .collect();
        assert_eq!(wrong.is_empty(), !is_refused, "{place}: {wrong:?}");
        *(if is_refused {
            &mut refused
        } else {
            &mut fitting
        }) += 1;
    });
    assert!(
        fitting > 100 && refused > 5,
        "{fitting} fit, {refused} refused"
    );
}

/// Says every example below `part`: where it stands, its schema, its name and the example.
fn each_example(
    kept: &Value,
    part: &Value,
    place: &str,
    say: &mut dyn FnMut(&str, &Value, &str, &Value),
) {
    let Some(members) = part.as_object() else {
        let items = part.as_array().into_iter().flatten().enumerate();
        return items
            .for_each(|(at, item)| each_example(kept, item, &format!("{place}/{at}"), say));
    };
    if part["schema"].is_object() {
        for (name, example) in part["examples"].as_object().into_iter().flatten() {
            let example = match example["$ref"].as_str() {
                Some(reference) => kept.pointer(&reference[1..]).unwrap(),
                None => example,
            };
            say(
                &format!("{place} {name}"),
                &part["schema"],
                name,
                &example["value"],
            );
        }
        if let Some(example) = part.get("example") {
            say(place, &part["schema"], "", example);
        }
    }
    for (name, member) in members {
        each_example(kept, member, &format!("{place}/{name}"), say);
    }
}

#[test]
fn every_problem_is_told_where_it_can_happen() {
    let kept = kept();
    let mut told: Vec<String> = Vec::new();
    let items = kept["paths"].as_object().unwrap().values();
    for operation in items.flat_map(|item| item.as_object().unwrap().values()) {
        for response in operation["responses"].as_object().unwrap().values() {
            let examples = response["content"][PROBLEM_JSON]["examples"].as_object();
            told.extend(examples.into_iter().flat_map(|all| all.keys().cloned()));
        }
    }
    // No operation is answered with this one: it is about methods that are none.
    let about_all = kept["info"]["description"].as_str().unwrap();
    assert!(about_all.contains(METHOD_NOT_ALLOWED.name));
    told.push(METHOD_NOT_ALLOWED.name.to_owned());
    let missing: Vec<_> = Kind::ALL
        .iter()
        .filter(|kind| told.iter().all(|name| name != kind.name))
        .collect();
    assert_eq!(missing, [] as [&Kind; 0]);
}

#[test]
fn operations_have_names_of_their_own_and_say_what_they_need() {
    let kept = kept();
    let mut names = std::collections::BTreeSet::new();
    for (path, item) in kept["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(names.insert(id.to_owned()), "{id} twice");
            let in_path: Vec<&Value> = operation["parameters"]
                .as_array()
                .unwrap()
                .iter()
                .map(|parameter| {
                    kept.pointer(&parameter["$ref"].as_str().unwrap()[1..])
                        .unwrap()
                })
                .filter(|parameter| parameter["in"] == "path")
                .collect();
            assert_eq!(path.matches('{').count(), in_path.len(), "{method} {path}");
            for parameter in in_path {
                let name = format!("{{{}}}", parameter["name"].as_str().unwrap());
                assert!(path.contains(&name), "{name}: {path}");
            }
            let refuses_strangers = operation["responses"]["401"].is_object();
            let needs_token = operation["security"] == json!([{"bearer": []}]);
            let asks_for_secret = operation["tags"] == json!(["sessions"]);
            assert_eq!(needs_token, refuses_strangers && !asks_for_secret, "{id}");
        }
    }
}
