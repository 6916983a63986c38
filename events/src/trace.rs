//! Where a piece of work stands in a trace, as it travels in headers: W3C Trace Context, `traceparent`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// `00-<trace id, 32 hex>-<span id, 16 hex>-<flags, 2 hex>`.
const TEXT_BYTES: usize = 55;
/// The version that is written; later ones are read as far as they look like it.
const VERSION: u8 = 0;
const VERSION_INVALID: u8 = 0xff;
const FLAG_SAMPLED: u8 = 1;

/// A span of a trace, and whether that trace is recorded. Neither id is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TraceContext {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    is_sampled: bool,
}

impl TraceContext {
    /// A span of a trace; `None` when an id is zero, which names nothing.
    pub fn new(trace_id: [u8; 16], span_id: [u8; 8], is_sampled: bool) -> Option<Self> {
        let context = Self {
            trace_id,
            span_id,
            is_sampled,
        };
        (trace_id != [0; 16] && span_id != [0; 8]).then_some(context)
    }

    /// The trace.
    pub fn trace_id(&self) -> Hex<16> {
        Hex(self.trace_id)
    }

    /// The span in it.
    pub fn span_id(&self) -> Hex<8> {
        Hex(self.span_id)
    }

    /// Whether the trace is recorded.
    pub fn is_sampled(&self) -> bool {
        self.is_sampled
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace_id, span_id) = (self.trace_id(), self.span_id());
        let flags = u8::from(self.is_sampled);
        write!(f, "{VERSION:02x}-{trace_id}-{span_id}-{flags:02x}")
    }
}

/// The bytes of an id, shown as lower-case hex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hex<const BYTES: usize>(pub [u8; BYTES]);

impl<const BYTES: usize> fmt::Display for Hex<BYTES> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A text that is no trace context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a trace context")]
pub struct InvalidTraceContext;

impl FromStr for TraceContext {
    type Err = InvalidTraceContext;

    fn from_str(text: &str) -> Result<Self, InvalidTraceContext> {
        let mut parts = text.split('-');
        let (mut version, mut trace_id, mut span_id, mut flags) = ([0], [0; 16], [0; 8], [0]);
        let mut read = |bytes: &mut [u8]| {
            let part = parts.next().unwrap_or_default();
            let is_lower = part.bytes().all(|byte| !byte.is_ascii_uppercase());
            match hex::decode_to_slice(part, bytes) {
                Ok(()) if is_lower => Ok(()),
                Ok(()) | Err(_) => Err(InvalidTraceContext),
            }
        };
        read(&mut version)?;
        read(&mut trace_id)?;
        read(&mut span_id)?;
        read(&mut flags)?;
        let [flags] = flags;
        let is_sampled = flags & FLAG_SAMPLED != 0;
        if text.len() != TEXT_BYTES || version == [VERSION_INVALID] {
            return Err(InvalidTraceContext);
        }
        Self::new(trace_id, span_id, is_sampled).ok_or(InvalidTraceContext)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_well_formed_trace_context_is_read() {
        for (text, written) in [
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            ),
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
                Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"),
            ),
            // A later version, and a flag that is not known here.
            (
                "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03",
                Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            ),
            (
                "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                None,
            ),
            (
                "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
                None,
            ),
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
                None,
            ),
            (
                "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
                None,
            ),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7", None),
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
                None,
            ),
            ("", None),
        ] {
            let read = text.parse::<TraceContext>().ok();
            assert_eq!(
                read.map(|context| context.to_string()).as_deref(),
                written,
                "{text}"
            );
        }
    }
}
