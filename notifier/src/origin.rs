//! Where a notification comes from: the intent it serves, and its place in a trace. The ledger keeps both, so that what is
//! sent minutes later still belongs to the request that caused it.

use std::{collections::HashMap, time::SystemTime};

use event_log::{Recorded, record::Place};
use events::{
    EventType, TraceContext,
    ids::{CorrelationId, EventId},
};
use runtime::trace::{self, Span, SpanKind};
use tracing::field;

use crate::react::Notification;

/// Where a notification comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Origin {
    /// The intent across all that it causes.
    pub correlation_id: Option<CorrelationId>,
    /// The span that reacted to the event, or recorded it.
    pub trace: Option<TraceContext>,
}

impl Origin {
    /// What log lines about the notification are written in; `own` is the span at work, if there is one.
    pub fn log_span(&self, own: Option<TraceContext>) -> tracing::Span {
        tracing::info_span!(
            "notification",
            correlation_id = self.correlation_id.map(field::display),
            trace_id = self.trace.map(|place| field::display(place.trace_id())),
            span_id = own.map(|place| field::display(place.span_id())),
        )
    }

    /// Whether it belongs to a trace that is recorded.
    pub fn is_sampled(&self) -> bool {
        self.trace.is_some_and(|place| place.is_sampled())
    }
}

/// The events that called for notifications.
pub struct Reactions(HashMap<EventId, Reaction>);

/// An event that called for notifications.
struct Reaction {
    correlation_id: CorrelationId,
    recorded_by: Option<TraceContext>,
    /// The place of the reaction's own span, where there will be one.
    span: Option<TraceContext>,
    place: Place,
    event_type: EventType,
    notifications: i64,
}

impl Reactions {
    /// The events among `records` that `notifications` are about.
    pub fn of(records: &[Recorded], notifications: &[Notification]) -> Self {
        let mut counts = HashMap::<EventId, i64>::new();
        for each in notifications {
            *counts.entry(each.event_id).or_default() += 1;
        }
        let reaction = |recorded: &Recorded| {
            let metadata = &recorded.envelope.metadata;
            let reaction = Reaction {
                correlation_id: metadata.correlation_id,
                recorded_by: metadata.traceparent,
                span: trace::below(trace::of_event(metadata)),
                place: recorded.place,
                event_type: recorded.envelope.event.event_type(),
                notifications: counts.get(&metadata.event_id).copied()?,
            };
            Some((metadata.event_id, reaction))
        };
        Self(records.iter().filter_map(reaction).collect())
    }

    /// Where the notifications about an event come from.
    pub fn origin(&self, event_id: EventId) -> Origin {
        self.0
            .get(&event_id)
            .map_or_else(Origin::default, |reaction| Origin {
                correlation_id: Some(reaction.correlation_id),
                trace: reaction.span.or(reaction.recorded_by),
            })
    }

    /// The notifications are entered in the ledger, which began at `began` and ended now.
    pub fn entered(&self, began: SystemTime) {
        for (event_id, reaction) in &self.0 {
            let Some(place) = reaction.span else { continue };
            let topic = reaction.place.topic.name();
            let name = format!("react {topic}");
            let span = Span::at(place, reaction.recorded_by, name, SpanKind::Consumer);
            let Some(mut span) = span.map(|span| span.since(began)) else {
                return;
            };
            span.set("messaging.system", "kafka");
            span.set("messaging.operation.type", "process");
            span.set("messaging.operation.name", "react");
            span.set("messaging.destination.name", topic);
            let partition = reaction.place.partition.to_string();
            span.set("messaging.destination.partition.id", partition);
            span.set("messaging.kafka.offset", reaction.place.offset);
            span.set("messaging.message.id", event_id.to_string());
            let correlation_id = reaction.correlation_id.to_string();
            span.set("messaging.message.conversation_id", correlation_id);
            span.set("orderlog.event", reaction.event_type.name());
            span.set("orderlog.notification_count", reaction.notifications);
        }
    }
}
