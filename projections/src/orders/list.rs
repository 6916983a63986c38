//! The queries behind lists of orders, and the indexes that they walk. Pure.

use std::{fmt, str::FromStr, sync::Arc};

use events::{
    currency::Currency,
    ids::{OrderId, UserId},
    timestamp::Timestamp,
};
use mongodb::bson::{Bson, Document, doc};
use runtime::representation::OrderStatus;

/// Paths into attributes that can be declared as indexed.
const PATHS_MAX: usize = 10;
const PATH_CHARACTERS_MAX: usize = 64;

/// A dotted path into the attributes, which an operator has declared: `channel`, `delivery.window`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttributePath(Arc<str>);

/// What of the attributes orders are found by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AttributePaths(pub Vec<AttributePath>);

/// What is no path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a path into attributes is names of letters, digits, - and _ with dots between them, none of digits alone, 64 characters \
     at most; there are 10 paths at most"
)]
pub struct NotAPath;

impl FromStr for AttributePaths {
    type Err = NotAPath;
    fn from_str(text: &str) -> Result<Self, NotAPath> {
        let parts = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        let paths: Vec<AttributePath> = parts.map(str::parse).collect::<Result<_, _>>()?;
        (paths.len() <= PATHS_MAX)
            .then_some(Self(paths))
            .ok_or(NotAPath)
    }
}

impl FromStr for AttributePath {
    type Err = NotAPath;
    fn from_str(text: &str) -> Result<Self, NotAPath> {
        let is_name = |name: &str| {
            !name.is_empty()
                && name
                    .chars()
                    .all(|it| it.is_alphanumeric() || "-_".contains(it))
        };
        let is_path = text.len() <= PATH_CHARACTERS_MAX && text.split('.').all(is_name);
        is_path.then(|| Self(text.into())).ok_or(NotAPath)
    }
}

impl fmt::Display for AttributePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AttributePath {
    /// Where a document has it.
    fn field(&self) -> String {
        format!("attributes.{self}")
    }

    fn index_name(&self) -> String {
        format!("attribute_{self}")
    }
}

/// What a list is sorted by; two that are equal in it, by their ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SortKey {
    /// When they were created.
    #[default]
    CreatedAt,
    /// What they cost, in one currency.
    Total,
}

/// In which order a list shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sort {
    /// By what.
    pub by: SortKey,
    /// The highest first.
    pub is_descending: bool,
}

impl Default for Sort {
    fn default() -> Self {
        Self {
            by: SortKey::default(),
            is_descending: true,
        }
    }
}

impl Sort {
    /// Every order there is, by its name in a request.
    pub const NAMES: [&str; 4] = ["-created_at", "created_at", "-total", "total"];

    /// Its name in a request.
    pub const fn name(self) -> &'static str {
        match (self.by, self.is_descending) {
            (SortKey::CreatedAt, true) => "-created_at",
            (SortKey::CreatedAt, false) => "created_at",
            (SortKey::Total, true) => "-total",
            (SortKey::Total, false) => "total",
        }
    }

    /// The order of this name.
    pub fn named(name: &str) -> Option<Self> {
        let (by, is_descending) = match name.strip_prefix('-') {
            Some(by) => (by, true),
            None => (name, false),
        };
        let by = match by {
            "created_at" => SortKey::CreatedAt,
            "total" => SortKey::Total,
            _ => return None,
        };
        Some(Self { by, is_descending })
    }

    const fn field(self) -> &'static str {
        match self.by {
            SortKey::CreatedAt => "created_at_micros",
            SortKey::Total => "total_minor",
        }
    }

    /// As MongoDB is told.
    pub fn document(self) -> Document {
        let way = if self.is_descending { -1 } else { 1 };
        doc! { self.field(): way, "_id": way }
    }
}

/// Which orders a list shows, and in which order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OrderFilter {
    /// Only those of this customer.
    pub customer_id: Option<UserId>,
    /// Only those that are here.
    pub status: Option<OrderStatus>,
    /// Only those created then or later.
    pub created_from: Option<Timestamp>,
    /// Only those created earlier.
    pub created_to: Option<Timestamp>,
    /// Only those in this currency.
    pub currency: Option<Currency>,
    /// Only those that cost so much or more, in minor units.
    pub total_min: Option<i64>,
    /// Only those that cost so much or less, in minor units.
    pub total_max: Option<i64>,
    /// Only those that have all of these words.
    pub words: Vec<String>,
    /// Only those whose attributes say this; each path once, in order.
    pub attributes: Vec<(AttributePath, String)>,
    /// In which order.
    pub sort: Sort,
}

impl OrderFilter {
    /// Every index that lists need, by name.
    pub fn indexes(paths: &[AttributePath]) -> Vec<(String, Document)> {
        let newest = doc! { "created_at_micros": -1, "_id": -1 };
        let dearest = doc! { "total_minor": -1, "_id": -1 };
        let within = |keys: Document, rest: &Document| {
            let mut keys = keys;
            keys.extend(rest.clone());
            keys
        };
        let mut indexes = vec![
            ("newest".to_owned(), newest.clone()),
            (
                "customer_newest".to_owned(),
                within(doc! { "customer_id": 1 }, &newest),
            ),
            (
                "status_newest".to_owned(),
                within(doc! { "status": 1 }, &newest),
            ),
            (
                "customer_status_newest".to_owned(),
                within(doc! { "customer_id": 1, "status": 1 }, &newest),
            ),
            (
                "word_newest".to_owned(),
                within(doc! { "words": 1 }, &newest),
            ),
            (
                "dearest".to_owned(),
                within(doc! { "currency": 1 }, &dearest),
            ),
            (
                "customer_dearest".to_owned(),
                within(doc! { "customer_id": 1, "currency": 1 }, &dearest),
            ),
        ];
        indexes.extend(
            paths
                .iter()
                .map(|path| (path.index_name(), within(doc! { path.field(): 1 }, &newest))),
        );
        indexes
    }

    /// The one whose order is the list's order, and that leads to the fewest orders that are not shown.
    pub fn index_name(&self) -> String {
        let name = match (self.sort.by, self.customer_id, self.status) {
            (SortKey::Total, Some(_), _) => "customer_dearest",
            (SortKey::Total, None, _) => "dearest",
            (SortKey::CreatedAt, Some(_), Some(_)) => "customer_status_newest",
            (SortKey::CreatedAt, Some(_), None) => "customer_newest",
            (SortKey::CreatedAt, None, status) => match (&*self.words, &*self.attributes, status) {
                ([_, ..], ..) => "word_newest",
                ([], [(path, _), ..], _) => return path.index_name(),
                ([], [], Some(_)) => "status_newest",
                ([], [], None) => "newest",
            },
        };
        name.to_owned()
    }

    /// What to find: orders that pass.
    pub fn query(&self) -> Document {
        let mut query = Document::new();
        if let Some(customer_id) = self.customer_id {
            query.insert("customer_id", customer_id.to_string());
        }
        if let Some(status) = self.status {
            query.insert("status", status.name());
        }
        if let Some(currency) = self.currency {
            query.insert("currency", currency.code());
        }
        if !self.words.is_empty() {
            query.insert("words", doc! { "$all": self.words.clone() });
        }
        for (path, value) in &self.attributes {
            query.insert(path.field(), doc! { "$in": meanings(value) });
        }
        let created = [
            ("$gte", self.created_from.map(Timestamp::micros)),
            ("$lt", self.created_to.map(Timestamp::micros)),
        ];
        let total = [("$gte", self.total_min), ("$lte", self.total_max)];
        for (field, bounds) in [("created_at_micros", created), ("total_minor", total)] {
            let bounds = bounds
                .into_iter()
                .filter_map(|(operator, bound)| Some((operator, bound?)));
            let bounds: Document = bounds
                .map(|(operator, bound)| (operator.to_owned(), bound.into()))
                .collect();
            if !bounds.is_empty() {
                query.insert(field, bounds);
            }
        }
        query
    }

    /// What to find one after another, after the place where the page before ended: those with the same key, then the others.
    /// Each is a range of the index.
    pub fn queries(&self, after: Option<(i64, OrderId)>) -> Vec<Document> {
        let Some((key, id)) = after else {
            return vec![self.query()];
        };
        let (field, id) = (self.sort.field(), id.to_string());
        let beyond = if self.sort.is_descending {
            "$lt"
        } else {
            "$gt"
        };
        let same = doc! { field: key, "_id": { beyond: id } };
        let others = doc! { field: { beyond: key } };
        [same, others]
            .map(|place| doc! { "$and": [self.query(), place] })
            .into()
    }

    /// The list that a cursor is bound to.
    pub fn described(&self) -> Vec<String> {
        let number = |number: Option<i64>| number.map(|it| it.to_string());
        let mut described: Vec<String> = [
            Some("orders".to_owned()),
            self.customer_id.map(|id| id.to_string()),
            self.status.map(|status| status.name().to_owned()),
            number(self.created_from.map(Timestamp::micros)),
            number(self.created_to.map(Timestamp::micros)),
            self.currency.map(|currency| currency.code().to_owned()),
            number(self.total_min),
            number(self.total_max),
            Some(self.words.join(" ")),
            Some(self.sort.name().to_owned()),
        ]
        .map(Option::unwrap_or_default)
        .into();
        for (path, value) in &self.attributes {
            described.extend([path.to_string(), value.clone()]);
        }
        described
    }
}

/// What a value of a request may mean: the text, and the number or the truth value that it may be as well. Never an operator.
fn meanings(value: &str) -> Vec<Bson> {
    let mut meanings = vec![Bson::String(value.to_owned())];
    meanings.extend(value.parse().ok().map(Bson::Boolean));
    let is_number = value.starts_with(|it: char| it.is_ascii_digit() || it == '-');
    let number = is_number.then(|| value.parse::<i64>().map(Bson::Int64));
    match number {
        Some(Ok(number)) => meanings.push(number),
        Some(Err(_)) => {
            let number = value
                .parse::<f64>()
                .ok()
                .filter(|number| number.is_finite());
            meanings.extend(number.map(Bson::Double));
        }
        None => {}
    }
    meanings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_names_with_dots_between_them() {
        for path in ["channel", "delivery.window", "a-b.c_d.é"] {
            assert_eq!(path.parse::<AttributePath>().unwrap().to_string(), path);
        }
        for text in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "$where",
            "a.$b",
            "a b",
            &"a".repeat(65),
        ] {
            assert_eq!(text.parse::<AttributePath>(), Err(NotAPath), "{text}");
        }
    }

    #[test]
    fn a_value_means_a_text_and_what_else_it_may_be() {
        for (value, others) in [
            ("web", vec![]),
            ("true", vec![Bson::Boolean(true)]),
            ("12", vec![Bson::Int64(12)]),
            ("-1.5", vec![Bson::Double(-1.5)]),
            ("NaN", vec![]),
            ("inf", vec![]),
            (r#"{"$ne":1}"#, vec![]),
        ] {
            assert_eq!(meanings(value)[1..], others, "{value}");
        }
    }

    #[test]
    fn a_sort_is_named_as_it_is_read() {
        for name in Sort::NAMES {
            assert_eq!(Sort::named(name).unwrap().name(), name);
        }
        for name in ["", "-", "--total", "Total", "version"] {
            assert_eq!(Sort::named(name), None, "{name}");
        }
    }

    #[test]
    fn two_filters_are_described_alike_only_when_they_are_the_same() {
        let one = OrderFilter {
            total_min: Some(1),
            ..OrderFilter::default()
        };
        let other = OrderFilter {
            total_max: Some(1),
            ..OrderFilter::default()
        };
        assert_ne!(one.described(), other.described());
        assert_eq!(one.described(), one.clone().described());
    }
}
