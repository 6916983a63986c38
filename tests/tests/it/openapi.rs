//! The API description: it is served, it is valid OpenAPI, and its examples, executed one after another, are answered as
//! it says.

use std::collections::{BTreeMap, BTreeSet};

use end_to_end::{
    beside_others, environment,
    http::{Answer, Call, call},
    people::{admin, unique, unique_email},
};
use reqwest::Method;
use serde_json::{Value, json};

/// The examples are one story: every operation, in an order in which it can happen, and who asks.
const STORY: [(&str, Who); 25] = [
    ("register", Who::Anybody),
    ("login", Who::Anybody),
    ("refresh", Who::Anybody),
    ("logout", Who::Anybody),
    ("updateProfile", Who::Ada),
    ("getMe", Who::Ada),
    ("getUser", Who::Ada),
    ("createOrder", Who::Ada),
    ("replaceOrder", Who::Ada),
    ("getOrder", Who::Ada),
    ("getOrderHistory", Who::Ada),
    ("listOrders", Who::Ada),
    ("setOrderStatus", Who::Admin),
    ("cancelOrder", Who::Admin),
    ("changeRole", Who::Admin),
    ("listUsers", Who::Admin),
    ("changePassword", Who::AdaAgain),
    ("eraseUser", Who::Admin),
    ("getKeys", Who::Anybody),
    ("getDescription", Who::Anybody),
    ("getPage", Who::Anybody),
    ("getHealth", Who::Anybody),
    ("getReadiness", Who::Anybody),
    ("getProblemPage", Who::Anybody),
    ("getMetrics", Who::PastTheGateway),
];

/// Ada's address in the examples; in each run it is another.
const EMAIL: &str = "ada@example.com";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Anybody,
    Ada,
    /// With the token of another login, since the change of role ended the first one.
    AdaAgain,
    Admin,
    PastTheGateway,
}

/// The document, and what stands for the names in it.
struct Story {
    document: Value,
    /// Text of the example, text that is true in this run.
    bound: BTreeMap<String, String>,
    token: String,
    admin: String,
    /// The last Consistency-Token by topic.
    consistency: BTreeMap<String, String>,
    etag: String,
}

#[test]
fn the_examples_are_answered_as_they_say() {
    beside_others(async {
        let mut story = Story::begin().await;
        let told: BTreeSet<&str> = STORY.iter().map(|(id, _)| *id).collect();
        let described: BTreeSet<String> =
            story.operations().into_iter().map(|(id, ..)| id).collect();
        let described: BTreeSet<&str> = described.iter().map(String::as_str).collect();
        assert_eq!(described, told, "operations, and those of the story");
        for (id, who) in STORY {
            story.tell(id, who).await;
        }
    });
}

impl Story {
    async fn begin() -> Self {
        let served = call(Method::GET, &environment::url(), "/openapi.json");
        let document = served.send().await.is(200).json();
        let user = document["components"]["schemas"]["User"].clone();
        assert!(user.is_object(), "the schema of a user");
        Self {
            document,
            bound: BTreeMap::from([(EMAIL.to_owned(), unique_email())]),
            token: String::new(),
            admin: admin().await.token,
            consistency: BTreeMap::new(),
            etag: "\"1\"".to_owned(),
        }
    }

    /// Id, method, path and description of every operation.
    fn operations(&self) -> Vec<(String, Method, String, Value)> {
        let mut all = Vec::new();
        for (path, item) in self.document["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("operations") {
                let id = operation["operationId"].as_str().expect("an id").to_owned();
                let method = method.to_uppercase().parse().expect("a method");
                all.push((id, method, path.clone(), operation.clone()));
            }
        }
        all
    }

    async fn tell(&mut self, id: &str, who: Who) {
        let (_, method, path, operation) = self
            .operations()
            .into_iter()
            .find(|(known, ..)| known == id)
            .expect("an operation of the document");
        if who == Who::AdaAgain {
            self.ada_logs_in_again().await;
        }
        let content = &operation["requestBody"]["content"];
        let (media_type, body) = match content.as_object().and_then(|all| all.iter().next()) {
            Some((media_type, content)) => (media_type.clone(), Some(content.clone())),
            None => (String::new(), None),
        };
        let base = match who {
            Who::PastTheGateway => environment::command_url(),
            Who::Anybody | Who::Ada | Who::AdaAgain | Who::Admin => environment::url(),
        };
        let path = self.path(&path, &operation);
        let asked = |example: Option<&Value>| {
            let mut asked = self.conditions(call(method.clone(), &base, &path), who, &operation);
            if let Some(example) = example {
                let text = self.in_this_run(example).to_string();
                asked = asked.body(&media_type, text);
            }
            asked.send()
        };
        if let Some(refused) = body
            .as_ref()
            .and_then(|body| body["examples"].get("invalid"))
        {
            let answer = asked(Some(&refused["value"])).await;
            self.is_as_described(&operation, &answer, 422, "application/problem+json");
            let described = &self.response(&operation, 422)["content"]["application/problem+json"];
            let example = &described["examples"]["invalid"]["value"];
            assert_eq!(&answer.json(), example, "{id}");
        }
        let accepted = body
            .as_ref()
            .map(|body| &body["examples"]["accepted"]["value"]);
        let answer = asked(accepted).await;
        let status = success(&operation);
        let response = self.response(&operation, status).clone();
        let media_type = response["content"].as_object().and_then(|all| {
            let mut all = all.keys();
            all.find(|name| *name != "application/problem+json")
                .cloned()
        });
        self.is_as_described(
            &operation,
            &answer,
            status,
            media_type.as_deref().unwrap_or_default(),
        );
        if media_type.as_deref() == Some("application/json") {
            let example = &response["content"]["application/json"]["examples"]["accepted"]["value"];
            self.learn(id, &answer, example);
        }
        self.remember(&answer);
    }

    async fn ada_logs_in_again(&mut self) {
        let login = self.document["paths"]["/login"]["post"].clone();
        let example =
            &login["requestBody"]["content"]["application/json"]["examples"]["accepted"]["value"];
        let body = self.in_this_run(example);
        let login = call(Method::POST, &environment::url(), "/login").json(&body);
        self.token = login.send().await.is(200).text("access_token");
    }

    /// The path with its variable parts, and with the query of the examples.
    fn path(&self, path: &str, operation: &Value) -> String {
        let mut path = path.to_owned();
        let mut query = Vec::new();
        for parameter in self.parameters(operation) {
            let name = parameter["name"].as_str().expect("a name");
            let value = self.in_this_run(&parameter["example"]);
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            match parameter["in"].as_str() {
                Some("path") => path = path.replace(&format!("{{{name}}}"), &value),
                Some("query") if value != "null" => query.push(format!("{name}={value}")),
                _ => {}
            }
        }
        match query.is_empty() {
            true => path,
            false => format!("{path}?{}", query.join("&")),
        }
    }

    fn parameters<'a>(&'a self, operation: &'a Value) -> impl Iterator<Item = &'a Value> {
        let all = operation["parameters"].as_array();
        all.into_iter()
            .flatten()
            .map(|parameter| self.resolved(parameter))
    }

    /// Adds the headers that the operation knows.
    fn conditions(&self, asked: Call, who: Who, operation: &Value) -> Call {
        let asked = match who {
            Who::Ada | Who::AdaAgain => asked.token(&self.token),
            Who::Admin => asked.token(&self.admin),
            Who::Anybody | Who::PastTheGateway => asked,
        };
        let topic = operation["tags"][0].as_str().unwrap_or_default();
        self.parameters(operation).fold(asked, |asked, parameter| {
            match parameter["name"].as_str().unwrap_or_default() {
                "If-Match" if parameter["required"] == true => asked.if_match(&self.etag),
                "Idempotency-Key" => asked.key(&unique("key-")),
                "Consistency-Token" => match self.consistency.get(topic) {
                    Some(token) => asked.after(token),
                    None => asked,
                },
                "If-Match" => asked,
                name if parameter["in"] == "header" => match parameter["example"].as_str() {
                    Some(example) => asked.header(name, example),
                    None => asked,
                },
                _ => asked,
            }
        })
    }

    /// Status, headers and body are what the description says.
    fn is_as_described(&self, operation: &Value, answer: &Answer, status: u16, media_type: &str) {
        assert_eq!(answer.status, status, "{answer:?}");
        let response = self.response(operation, status);
        let headers = response["headers"].as_object().expect("headers");
        for (name, header) in headers {
            let schema = &self.resolved(header)["schema"];
            self.fits(schema, &as_value(schema, answer.header(name)), answer);
        }
        if media_type.is_empty() {
            assert!(answer.body.is_empty(), "{answer:?}");
            return;
        }
        assert!(
            answer.header("content-type").starts_with(media_type),
            "{answer:?}"
        );
        let content = &response["content"][media_type];
        if media_type.ends_with("json") {
            self.fits(&content["schema"], &answer.json(), answer);
        }
    }

    fn response<'a>(&'a self, operation: &'a Value, status: u16) -> &'a Value {
        let response = &operation["responses"][status.to_string()];
        assert!(response.is_object(), "no answer {status}: {operation}");
        self.resolved(response)
    }

    fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(reference) => self
                .document
                .pointer(&reference[1..])
                .expect("what is referred to"),
            None => value,
        }
    }

    fn fits(&self, schema: &Value, value: &Value, answer: &Answer) {
        let mut schema = schema.clone();
        schema["components"] = self.document["components"].clone();
        let validator = jsonschema::validator_for(&schema).expect("a schema");
        let wrong: Vec<_> = validator
            .iter_errors(value)
            .map(|error| error.to_string())
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}: {answer:?}");
    }

    /// Learns what the texts of the example stand for, and compares all others. Times, and the list of users, which others
    /// fill as well, are compared by their schema only.
    fn learn(&mut self, id: &str, answer: &Answer, example: &Value) {
        let answered = answer.json();
        if id == "listUsers" {
            let items = answered["items"].as_array().expect("items");
            assert!(!items.is_empty(), "{answer:?}");
        } else if !matches!(id, "getKeys" | "getDescription") {
            self.compare(example, &answered, answer);
        }
        if id == "login" {
            self.token = answer.text("access_token");
        }
    }

    fn compare(&mut self, example: &Value, answered: &Value, answer: &Answer) {
        match (example, answered) {
            (Value::Object(example), Value::Object(answered)) => {
                let names = |object: &serde_json::Map<String, Value>| {
                    object.keys().cloned().collect::<BTreeSet<_>>()
                };
                assert_eq!(names(example), names(answered), "{answer:?}");
                for (name, example) in example {
                    let answered = &answered[name];
                    match name.as_str() {
                        "id" | "access_token" | "refresh_token" | "event_id" | "correlation_id" => {
                            self.bind(example, answered);
                        }
                        "created_at" | "updated_at" | "at" => {}
                        _ => self.compare(example, answered, answer),
                    }
                }
            }
            (Value::Array(examples), Value::Array(answers)) => {
                assert_eq!(examples.len(), answers.len(), "{answer:?}");
                for (example, answered) in examples.iter().zip(answers) {
                    self.compare(example, answered, answer);
                }
            }
            _ => assert_eq!(&self.in_this_run(example), answered, "{answer:?}"),
        }
    }

    fn bind(&mut self, example: &Value, answered: &Value) {
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let (example, answered) = (text(example), text(answered));
        let known = self
            .bound
            .entry(example)
            .or_insert_with(|| answered.clone());
        assert_eq!(*known, answered, "one name stands for one thing");
    }

    /// The example with what its names stand for.
    fn in_this_run(&self, example: &Value) -> Value {
        match example {
            Value::String(text) => self.bound.get(text).unwrap_or(text).as_str().into(),
            Value::Array(items) => items.iter().map(|item| self.in_this_run(item)).collect(),
            Value::Object(members) => members
                .iter()
                .map(|(name, value)| (name.clone(), self.in_this_run(value)))
                .collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) => example.clone(),
        }
    }

    fn remember(&mut self, answer: &Answer) {
        if let Some(token) = answer.header_if_there("consistency-token") {
            let topic = token.split('-').next().unwrap_or_default();
            self.consistency.insert(topic.to_owned(), token.to_owned());
            self.etag = answer.etag();
        }
    }
}

/// The one status of success that is not about what a client has already.
fn success(operation: &Value) -> u16 {
    let responses = operation["responses"].as_object().expect("answers");
    let mut statuses = responses.keys().filter(|status| status.starts_with('2'));
    let status = statuses
        .next()
        .expect("a success")
        .parse()
        .expect("a status");
    assert!(statuses.next().is_none(), "one success: {operation}");
    status
}

/// A header as a JSON value of the type that its schema names.
fn as_value(schema: &Value, text: &str) -> Value {
    match schema["type"] == "integer" {
        true => json!(text.parse::<i64>().expect("a number")),
        false => text.into(),
    }
}

#[test]
fn the_description_and_its_page_are_there_and_load_nothing_else() {
    beside_others(async {
        for (path, media_type) in [
            ("/openapi.json", "application/json"),
            ("/docs", "text/html"),
        ] {
            let asked = || call(Method::GET, &environment::url(), path);
            let answer = asked().send().await.is(200);
            assert!(
                answer.header("content-type").starts_with(media_type),
                "{answer:?}"
            );
            assert!(
                answer.header("cache-control").contains("public"),
                "{answer:?}"
            );
            let again = asked().header("if-none-match", &answer.etag()).send().await;
            assert!(again.is(304).body.is_empty());
        }
        let page = call(Method::GET, &environment::url(), "/docs").send().await;
        let policy = page.header("content-security-policy");
        assert!(policy.contains("default-src 'none'"), "{page:?}");
        assert!(!policy.contains("unsafe"), "{page:?}");
    });
}

#[test]
fn each_path_of_the_description_knows_just_the_methods_that_it_says() {
    beside_others(async {
        let document = call(Method::GET, &environment::url(), "/openapi.json");
        let document = document.send().await.is(200).json();
        let admin = admin().await;
        for (path, item) in document["paths"].as_object().unwrap() {
            let mut methods: BTreeSet<String> = item
                .as_object()
                .unwrap()
                .keys()
                .map(|method| method.to_uppercase())
                .collect();
            if methods.contains("GET") {
                methods.insert("HEAD".to_owned());
            }
            let base = match path.as_str() {
                "/metrics" => environment::command_url(),
                _ => environment::url(),
            };
            let path = path
                .replace("{id}", &unique("x"))
                .replace("{name}", "invalid");
            let asked = call(Method::from_bytes(b"TRACE").unwrap(), &base, &path);
            let answer = asked.token(&admin.token).send().await;
            answer.problem(405, "method-not-allowed");
            let allowed: BTreeSet<String> = answer
                .header("allow")
                .split(", ")
                .map(str::to_owned)
                .collect();
            assert_eq!(allowed, methods, "{path}");
        }
    });
}
