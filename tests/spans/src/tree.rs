//! A trace as a tree: each span with those below it.

use std::{collections::HashMap, sync::Arc};

use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::kept::Span;

/// Spans below each other at most; what is deeper is left out.
const DEPTH_MAX: usize = 32;

/// A span and what is below it, in the order of time.
#[derive(Debug, Serialize)]
pub struct Node {
    /// When it began.
    pub started_at: String,
    /// The span itself.
    #[serde(flatten)]
    pub span: Arc<Span>,
    /// The spans below it.
    pub children: Vec<Node>,
}

/// The spans of a trace, those on top whose parent was not received.
pub fn of(trace: &[Arc<Span>]) -> Vec<Node> {
    let mut below = HashMap::<Option<&str>, Vec<&Arc<Span>>>::new();
    let ids: HashMap<&str, ()> = trace
        .iter()
        .map(|span| (span.span_id.as_str(), ()))
        .collect();
    for span in trace {
        let parent = span.parent_span_id.as_deref();
        let parent = parent.filter(|id| ids.contains_key(id) && *id != span.span_id);
        below.entry(parent).or_default().push(span);
    }
    nodes(&mut below, None, 0)
}

/// Takes the spans below `parent`. What is taken is not found again: a circle has an end.
fn nodes<'a>(
    below: &mut HashMap<Option<&'a str>, Vec<&'a Arc<Span>>>,
    parent: Option<&'a str>,
    depth: usize,
) -> Vec<Node> {
    if depth >= DEPTH_MAX {
        return Vec::new();
    }
    let mut spans = below.remove(&parent).unwrap_or_default();
    spans.sort_by_key(|span| span.started_at_ns);
    let mut nodes_here = Vec::with_capacity(spans.len());
    for span in spans {
        let started_at = OffsetDateTime::from_unix_timestamp_nanos(span.started_at_ns.into())
            .ok()
            .and_then(|at| at.format(&Rfc3339).ok());
        nodes_here.push(Node {
            started_at: started_at.unwrap_or_default(),
            span: Arc::clone(span),
            children: nodes(below, Some(&span.span_id), depth + 1),
        });
    }
    nodes_here
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A span of nothing in particular.
    pub(crate) fn span(
        trace_id: &str,
        span_id: &str,
        parent: Option<&str>,
        started_at_ns: u64,
    ) -> Span {
        Span {
            trace_id: trace_id.to_owned(),
            span_id: span_id.to_owned(),
            parent_span_id: parent.map(str::to_owned),
            service: "service".to_owned(),
            instance: "1".to_owned(),
            version: "1".to_owned(),
            name: span_id.to_owned(),
            kind: "internal",
            started_at_ns,
            duration_ms: 1.0,
            status: "unset",
            attributes: Default::default(),
            events: Vec::new(),
        }
    }

    fn names(nodes: &[Node]) -> String {
        let name = |node: &Node| match names(&node.children) {
            below if below.is_empty() => node.span.name.clone(),
            below => format!("{}({below})", node.span.name),
        };
        nodes.iter().map(name).collect::<Vec<_>>().join(" ")
    }

    fn tree(spans: &[(&str, Option<&str>, u64)]) -> String {
        let trace: Vec<_> = spans
            .iter()
            .map(|(id, parent, at)| Arc::new(span("t", id, *parent, *at)))
            .collect();
        names(&of(&trace))
    }

    #[test]
    fn spans_stand_below_their_parents_in_the_order_of_time() {
        let spans = [
            ("react", Some("append"), 30),
            ("append", Some("request"), 10),
            ("project", Some("append"), 20),
            ("request", Some("client"), 0),
            ("send", Some("react"), 40),
        ];
        assert_eq!(tree(&spans), "request(append(project react(send)))");
    }

    #[test]
    fn a_circle_has_an_end() {
        let spans = [("a", Some("b"), 0), ("b", Some("a"), 1), ("c", None, 2)];
        assert_eq!(tree(&spans), "c");
        assert_eq!(tree(&[("own parent", Some("own parent"), 0)]), "own parent");
    }
}
