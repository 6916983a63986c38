//! Traces as `spans` received them, and requests that belong to one.

use std::{collections::BTreeMap, time::Duration};

use reqwest::Method;
use serde_json::Value;
use uuid::Uuid;

use crate::{environment, eventually, http::call};

/// Longest until the spans of what is done already have been received.
pub const RECEIVED_WITHIN: Duration = Duration::from_secs(20);

const GATEWAY: &str = "gateway";

/// A client's place in a trace of its own.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The trace.
    pub trace_id: String,
    /// The client's span.
    pub span_id: String,
    is_sampled: bool,
}

impl Caller {
    /// Wants its requests recorded.
    pub fn sampled() -> Self {
        Self::new(true)
    }

    /// Does not.
    pub fn unsampled() -> Self {
        Self::new(false)
    }

    fn new(is_sampled: bool) -> Self {
        let (span_id, _) = Uuid::new_v4().as_u64_pair();
        Self {
            trace_id: Uuid::new_v4().simple().to_string(),
            span_id: format!("{span_id:016x}"),
            is_sampled,
        }
    }

    /// The header that says so.
    pub fn traceparent(&self) -> String {
        let flags = u8::from(self.is_sampled);
        format!("00-{}-{}-{flags:02x}", self.trace_id, self.span_id)
    }
}

/// A span with those below it.
#[derive(Debug, Clone, serde::Deserialize)]
pub struct Node {
    /// Which it is.
    pub span_id: String,
    /// The span it is a part of.
    pub parent_span_id: Option<String>,
    /// Who did it.
    pub service: String,
    /// What was done.
    pub name: String,
    /// Server, client, producer, consumer or internal.
    pub kind: String,
    /// Unset, ok or error.
    pub status: String,
    /// What is said about it.
    pub attributes: BTreeMap<String, Value>,
    /// Below it.
    pub children: Vec<Node>,
}

impl Node {
    /// The whole on one line, `service: name (kind)`, what is side by side in the order of the alphabet.
    pub fn outline(&self) -> String {
        let mut below: Vec<String> = self.children.iter().map(Self::outline).collect();
        below.sort();
        let own = format!("{}: {} ({})", self.service, self.name, self.kind);
        match below.as_slice() {
            [] => own,
            _ => format!("{own} > [{}]", below.join(", ")),
        }
    }

    /// The first span of that name, here or below.
    pub fn find(&self, name: &str) -> Option<&Self> {
        let mut below = self.children.iter();
        (self.name == name)
            .then_some(self)
            .or_else(|| below.find_map(|child| child.find(name)))
    }

    /// An attribute that must be there.
    #[track_caller]
    pub fn attribute(&self, name: &str) -> &Value {
        match self.attributes.get(name) {
            Some(value) => value,
            None => panic!("no {name}: {self:?}"),
        }
    }
}

/// Where `spans` shows what it received.
pub fn spans_url() -> String {
    environment::variable("ORDERLOG_SPANS_URL")
}

/// What was received of a trace, as it is shown; `None` when nothing was.
pub async fn shown(trace_id: &str) -> Option<Value> {
    let path = format!("/traces/{trace_id}");
    let answer = call(Method::GET, &spans_url(), &path).send().await;
    match answer.status {
        404 => None,
        _ => Some(answer.is(200).json()),
    }
}

/// The spans of a trace on top of which no other was received.
pub async fn roots(trace_id: &str) -> Vec<Node> {
    match shown(trace_id).await {
        Some(mut trace) => serde_json::from_value(trace["roots"].take()).expect("spans"),
        None => Vec::new(),
    }
}

/// The first span of a service for a request, once all that is done for it looks like `outline`. It is below the
/// gateway's, and that is below the caller's.
pub async fn traced(caller: &Caller, outline: &str) -> Node {
    eventually("the trace to be whole", RECEIVED_WITHIN, async || {
        let roots = roots(&caller.trace_id).await;
        let [root] = roots.as_slice() else {
            let outlines: Vec<_> = roots.iter().map(Node::outline).collect();
            return Err(format!("{} trees: {outlines:?}", roots.len()));
        };
        let is_below_caller = root.parent_span_id.as_ref() == Some(&caller.span_id);
        let mut first = root;
        while first.service == GATEWAY
            && let [below] = first.children.as_slice()
        {
            first = below;
        }
        if root.service == GATEWAY && is_below_caller && first.outline() == outline {
            Ok(first.clone())
        } else {
            Err(format!("{:?} > {}", root.parent_span_id, root.outline()))
        }
    })
    .await
}

/// The lines in the log of a process that contain `word`.
pub fn log_lines(process: &str, word: &str) -> Vec<Value> {
    let log = environment::home()
        .join("logs")
        .join(format!("{process}.log"));
    let text = std::fs::read_to_string(log).expect("a log");
    text.lines()
        .filter(|line| line.contains(word))
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}
