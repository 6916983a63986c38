//! `fields`: the members that a client wants of each item, and no others.

use std::collections::HashMap;

use runtime::{problem::Problem, representation::NotShown};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::{queries::not_shown, query::Parameters};

/// What is wanted of each item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields(Option<Vec<&'static str>>);

/// An item, or what is wanted of it.
#[derive(Debug)]
pub enum Selected<T> {
    /// All of it.
    Whole(T),
    /// These members, in the order in which they were asked for.
    Part(Vec<(&'static str, Box<RawValue>)>),
}

impl Fields {
    /// The parameter `fields`: names of `known`, with commas between them; without it, all of them.
    pub fn of(parameters: &mut Parameters, known: &'static [&'static str]) -> Self {
        Self(parameters.several("fields", |name| {
            known.iter().copied().find(|known| *known == name)
        }))
    }

    /// What is wanted of each of `items`.
    pub fn of_items<T: Serialize>(&self, items: Vec<T>) -> Result<Vec<Selected<T>>, Problem> {
        items.into_iter().map(|item| self.of_item(item)).collect()
    }

    /// What is wanted of `item`.
    pub fn of_item<T: Serialize>(&self, item: T) -> Result<Selected<T>, Problem> {
        let Some(wanted) = &self.0 else {
            return Ok(Selected::Whole(item));
        };
        // By way of its text, so that nothing is read into numbers and back.
        let members = serde_json::value::to_raw_value(&item)
            .and_then(|text| serde_json::from_str::<HashMap<String, Box<RawValue>>>(text.get()));
        let mut members =
            members.map_err(|error| not_shown(error, NotShown::Damaged("members of an item")))?;
        let part = wanted
            .iter()
            .filter_map(|name| Some((*name, members.remove(*name)?)));
        Ok(Selected::Part(part.collect()))
    }
}

impl<T: Serialize> Serialize for Selected<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Whole(item) => item.serialize(serializer),
            Self::Part(members) => {
                serializer.collect_map(members.iter().map(|(name, value)| (name, value)))
            }
        }
    }
}

/// Fails unless `fields` are the members of an item that is described.
#[cfg(test)]
pub fn are_those_of(fields: &[&str], item: &serde_json::Value) {
    use std::collections::BTreeSet;
    let there: BTreeSet<&str> = item
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(there, fields.iter().copied().collect());
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 2] = ["id", "attributes"];

    #[derive(Serialize)]
    struct Item {
        id: u8,
        attributes: Box<RawValue>,
    }

    fn selected(fields: Option<&str>) -> Result<String, Problem> {
        let given = fields.map(|fields| ("fields".to_owned(), fields.to_owned()));
        let mut parameters = Parameters::given(given.into_iter().collect());
        let fields = Fields::of(&mut parameters, &KNOWN);
        parameters.finish()?;
        let attributes = RawValue::from_string(r#"{"n":1.10}"#.into()).unwrap();
        let item = fields.of_item(Item { id: 7, attributes })?;
        Ok(serde_json::to_string(&item).unwrap())
    }

    #[test]
    fn an_item_has_the_members_that_were_asked_for() {
        for (fields, expected) in [
            (None, r#"{"id":7,"attributes":{"n":1.10}}"#),
            (Some("id"), r#"{"id":7}"#),
            (Some("attributes,id"), r#"{"attributes":{"n":1.10},"id":7}"#),
            (Some("id,id"), r#"{"id":7}"#),
        ] {
            assert_eq!(selected(fields).unwrap(), expected);
        }
        for wrong in ["", "id,", "ID", "id,colour"] {
            let problem = selected(Some(wrong)).unwrap_err();
            assert_eq!(problem.kind().status.as_u16(), 400, "{wrong}");
            assert_eq!(problem.errors()[0].pointer, "/fields", "{wrong}");
        }
    }
}
