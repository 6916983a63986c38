//! The span of a command: from its queue to its answer. Commands of a trace that is not sampled have none.

use events::Topic;
use runtime::trace::{self, Span, SpanKind};

use super::request::{Accepted, Refused, Request};

/// How a command's transaction is told in its span.
#[derive(Debug, Clone, Copy)]
pub struct Transaction {
    /// Events of all commands in it.
    pub events: usize,
    /// Commands in it, those without events among them.
    pub commands: usize,
}

/// The span of one command, if it has one.
#[derive(Debug)]
pub struct CommandSpan(Option<Span>);

impl CommandSpan {
    /// Begins in the span that is at work; the events will name this one as their origin.
    pub fn begin(request: &mut Request, topic: Topic, shard: u16) -> Self {
        let name = match topic {
            Topic::Users => "append users",
            Topic::Orders => "append orders",
        };
        let mut span = Span::below(trace::current(), name, SpanKind::Producer);
        if let Some(span) = &mut span {
            span.set("messaging.system", "kafka");
            span.set("messaging.operation.type", "send");
            span.set("messaging.operation.name", "append");
            span.set("messaging.destination.name", topic.name());
            span.set("messaging.destination.partition.id", shard.to_string());
            let correlation_id = request.correlation_id.to_string();
            span.set("messaging.message.conversation_id", correlation_id);
            request.traceparent = span.context();
        }
        Self(span)
    }

    /// The command was taken out of the queue and decided: what follows is its transaction.
    pub fn decided(&mut self) {
        if let Some(span) = &mut self.0 {
            span.note("decided");
        }
    }

    /// The command is answered.
    pub fn answered(
        mut self,
        answer: &Result<Accepted, Refused>,
        transaction: Option<Transaction>,
    ) {
        let Some(span) = &mut self.0 else { return };
        if let Some(Transaction { events, commands }) = transaction {
            span.set("messaging.batch.message_count", count(events));
            span.set("orderlog.batch.command_count", count(commands));
        }
        match answer {
            Ok(accepted) => {
                if let Some(token) = accepted.token() {
                    span.set("messaging.kafka.offset", token.offset);
                }
            }
            Err(Refused::Unavailable(_)) => span.fail("unavailable"),
            Err(Refused::NotOwner) => span.fail("not-owner"),
            Err(Refused::OutcomeUnknown) => span.fail("outcome-unknown"),
            // A no to the client, no failure.
            Err(
                Refused::NotFound
                | Refused::NotAllowed
                | Refused::Stale { .. }
                | Refused::Order(_)
                | Refused::User(_)
                | Refused::AddressTaken
                | Refused::KeyReused
                | Refused::KeyInFlight,
            ) => {}
        }
    }

    /// Its caller no longer waits.
    pub fn given_up(mut self) {
        if let Some(span) = &mut self.0 {
            span.fail("unavailable");
        }
    }
}

fn count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
