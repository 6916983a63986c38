//! The spans of applied events: each event of a sampled trace gets one, below the span that recorded it. Those that are
//! replayed get none.

use std::time::SystemTime;

use event_log::{Recorded, record::Place};
use events::{
    EventType, TraceContext,
    ids::{CorrelationId, EventId},
};
use runtime::trace::{self, Span, SpanKind};

use crate::model::{Generation, Model, Positions};

/// An event that was traced when it was recorded.
#[derive(Debug, Clone, Copy)]
pub struct Traced {
    origin: TraceContext,
    place: Place,
    event_id: EventId,
    event_type: EventType,
    correlation_id: CorrelationId,
}

impl Traced {
    /// What is needed for its span, if it is to have one.
    pub fn of(recorded: &Recorded) -> Option<Self> {
        let metadata = &recorded.envelope.metadata;
        Some(Self {
            origin: trace::of_event(metadata)?,
            place: recorded.place,
            event_id: metadata.event_id,
            event_type: recorded.envelope.event.event_type(),
            correlation_id: metadata.correlation_id,
        })
    }
}

/// The events among `traced` that `positions` have passed were applied in a round of `events`, which began at `began` and
/// ended now.
pub fn applied(
    model: Model,
    generation: Generation,
    traced: &[Traced],
    positions: &Positions,
    events: usize,
    began: SystemTime,
) {
    let name = match model {
        Model::Users => "project users",
        Model::Orders => "project orders",
    };
    let is_applied = |each: &&Traced| {
        let passed = positions.get(&each.place.partition);
        passed.is_some_and(|position| *position > each.place.offset)
    };
    let events = i64::try_from(events).unwrap_or(i64::MAX);
    for each in traced.iter().filter(is_applied) {
        let Some(span) = Span::below(Some(each.origin), name, SpanKind::Consumer) else {
            return;
        };
        let mut span = span.since(began);
        span.set("messaging.system", "kafka");
        span.set("messaging.operation.type", "process");
        span.set("messaging.operation.name", "project");
        span.set("messaging.destination.name", each.place.topic.name());
        let partition = each.place.partition.to_string();
        span.set("messaging.destination.partition.id", partition);
        span.set("messaging.kafka.offset", each.place.offset);
        span.set("messaging.batch.message_count", events);
        span.set("messaging.message.id", each.event_id.to_string());
        let correlation_id = each.correlation_id.to_string();
        span.set("messaging.message.conversation_id", correlation_id);
        span.set("orderlog.event", each.event_type.name());
        span.set("orderlog.generation", i64::from(generation.0));
    }
}
