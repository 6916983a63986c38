//! The spans received: bounded, the oldest traces forgotten first.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;

/// Spans kept at most, of all traces. About two kilobytes each at worst with our own services.
pub const SPANS_MAX: usize = 50_000;
/// Spans kept of one trace at most; further ones are dropped.
pub const SPANS_OF_TRACE_MAX: usize = 1_000;

/// A span as it was received.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Span {
    /// The trace it belongs to, in hex.
    #[serde(skip)]
    pub trace_id: String,
    /// Which one it is, in hex.
    pub span_id: String,
    /// The span it is a part of, in hex.
    pub parent_span_id: Option<String>,
    /// The service that did it.
    pub service: String,
    /// Which of its processes.
    pub instance: String,
    /// In which version.
    pub version: String,
    /// What was done.
    pub name: String,
    /// Server, client, producer, consumer or internal.
    pub kind: &'static str,
    /// When it began, in nanoseconds since 1970.
    #[serde(skip)]
    pub started_at_ns: u64,
    /// How long it took.
    pub duration_ms: f64,
    /// Unset, ok or error.
    pub status: &'static str,
    /// What is said about it.
    pub attributes: BTreeMap<String, Value>,
    /// What happened in it.
    pub events: Vec<Event>,
}

/// Something that happened in a span.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// What.
    pub name: String,
    /// When, counted from its begin.
    pub after_ms: f64,
}

/// The spans of one trace.
pub type Trace = Vec<Arc<Span>>;

/// What was received.
#[derive(Debug, Default)]
pub struct Kept(Mutex<Traces>);

#[derive(Debug, Default)]
struct Traces {
    by_id: HashMap<String, Trace>,
    /// In the order in which they were first heard of.
    order: VecDeque<String>,
    spans: usize,
}

impl Kept {
    /// Keeps a span. One that is sent again is kept once.
    pub fn add(&self, span: Span) {
        let mut traces = self.0.lock();
        let id = span.trace_id.clone();
        if !traces.by_id.contains_key(&id) {
            traces.order.push_back(id.clone());
        }
        let trace = traces.by_id.entry(id).or_default();
        let is_known = trace.iter().any(|known| known.span_id == span.span_id);
        if is_known || trace.len() >= SPANS_OF_TRACE_MAX {
            return;
        }
        trace.push(Arc::new(span));
        traces.spans += 1;
        while traces.spans > SPANS_MAX
            && let Some(oldest) = traces.order.pop_front()
        {
            let forgotten = traces.by_id.remove(&oldest);
            traces.spans -= forgotten.map_or(0, |trace| trace.len());
        }
    }

    /// A trace, as far as it was received; empty when nothing was.
    pub fn trace(&self, id: &str) -> Trace {
        self.0.lock().by_id.get(id).cloned().unwrap_or_default()
    }

    /// The latest traces with their ids, the newest first.
    pub fn latest(&self, limit: usize) -> Vec<(String, Trace)> {
        let traces = self.0.lock();
        let with_id = |id: &String| Some((id.clone(), traces.by_id.get(id)?.clone()));
        let newest_first = traces.order.iter().rev();
        newest_first.take(limit).filter_map(with_id).collect()
    }

    /// How many spans are kept.
    pub fn spans(&self) -> usize {
        self.0.lock().spans
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::span;

    #[test]
    fn a_span_that_is_sent_again_is_kept_once() {
        let kept = Kept::default();
        kept.add(span("t", "1", None, 0));
        kept.add(span("t", "1", None, 0));
        assert_eq!((kept.spans(), kept.trace("t").len()), (1, 1));
        assert!(kept.trace("unknown").is_empty());
    }

    #[test]
    fn the_oldest_traces_make_room_and_no_trace_takes_all_of_it() {
        let kept = Kept::default();
        for number in 0..SPANS_OF_TRACE_MAX + 5 {
            kept.add(span("first", &number.to_string(), None, 0));
        }
        assert_eq!(kept.trace("first").len(), SPANS_OF_TRACE_MAX);
        for number in 0..SPANS_MAX {
            kept.add(span(&number.to_string(), "1", None, 0));
        }
        assert!(kept.trace("first").is_empty());
        assert_eq!(kept.spans(), SPANS_MAX);
        let newest = (SPANS_MAX - 1).to_string();
        assert_eq!(kept.latest(1), [(newest.clone(), kept.trace(&newest))]);
    }
}
