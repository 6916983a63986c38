//! Spans: what was done for a request, by whom and for how long, as OpenTelemetry describes it.
//!
//! Only what belongs to a sampled trace has spans. For everything else a look at a flag is all that is done: no span, no
//! allocation. Attributes are ids, numbers and names of ours, never what a client wrote.

mod call;
mod export;
mod request;

use std::{
    borrow::Cow,
    future::Future,
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use clap::Args;
use events::{Metadata, TraceContext};
use opentelemetry::{
    InstrumentationScope, KeyValue, Value,
    trace::{Event, SpanContext, SpanId, Status, TraceFlags, TraceId, TraceState},
};
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::{
    Resource,
    trace::{
        IdGenerator, RandomIdGenerator, Sampler, SamplingDecision, ShouldSample, SpanData,
        SpanEvents, SpanExporter, SpanLinks,
    },
};
use uuid::Uuid;

pub(crate) use call::CallSpan;
pub use opentelemetry::trace::SpanKind;
pub(crate) use request::{RequestSpan, method_label};

/// One in twenty: what that costs is measured in docs/benchmarks.md, "What tracing costs".
const SAMPLED_DEFAULT: f64 = 0.05;
/// An event that is older is being replayed: its trace is over and may be forgotten.
const REPLAYED_AFTER: Duration = Duration::from_secs(3600);

static TRACER: OnceLock<Tracer> = OnceLock::new();

tokio::task_local! {
    static CURRENT: Option<TraceContext>;
}

/// Where spans go, and of how many requests.
#[derive(Debug, Clone, Args)]
pub struct TraceSettings {
    /// Where spans are sent, by OTLP over gRPC: http://HOST:PORT of a collector. Without it nothing is traced.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", default_value = "")]
    pub otel_exporter_otlp_endpoint: String,
    /// The part of the requests that is traced, 0 to 1, where the caller has not decided: the flag in the caller's
    /// `traceparent` is followed, so a gateway must not pass on a stranger's.
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", default_value_t = SAMPLED_DEFAULT, value_parser = ratio)]
    pub otel_traces_sampler_arg: f64,
}

fn ratio(text: &str) -> Result<f64, String> {
    let ratio = text.parse().map_err(|_| "must be a number".to_owned())?;
    if (0.0..=1.0).contains(&ratio) {
        Ok(ratio)
    } else {
        Err("must be between 0 and 1".to_owned())
    }
}

/// What makes spans and takes them when they have ended.
struct Tracer {
    sampler: Sampler,
    ids: RandomIdGenerator,
    scope: InstrumentationScope,
    queue: export::Queue,
}

impl Tracer {
    /// A new trace, if it is to be sampled.
    fn root(&self) -> Option<TraceContext> {
        let trace_id = self.ids.new_trace_id();
        let sampled = self
            .sampler
            .should_sample(None, trace_id, "", &SpanKind::Server, &[], &[]);
        match sampled.decision {
            SamplingDecision::RecordAndSample => self.context(trace_id.to_bytes()),
            SamplingDecision::Drop | SamplingDecision::RecordOnly => None,
        }
    }

    fn context(&self, trace_id: [u8; 16]) -> Option<TraceContext> {
        TraceContext::new(trace_id, self.ids.new_span_id().to_bytes(), true)
    }
}

/// Begins to trace as `settings` say; spans name `service` and `instance`, or a name made for this process. To be called
/// once, within the tokio runtime that is to send the spans. An error when the address is none.
pub fn start(
    service: &'static str,
    instance: Option<&str>,
    settings: &TraceSettings,
) -> anyhow::Result<()> {
    let endpoint = settings.otel_exporter_otlp_endpoint.trim();
    if endpoint.is_empty() {
        return Ok(());
    }
    let mut exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(export::EXPORT_TIMEOUT)
        .build()
        .context("OTEL_EXPORTER_OTLP_ENDPOINT is not the address of a collector")?;
    let instance = instance.map_or_else(|| Uuid::now_v7().to_string(), str::to_owned);
    let resource = Resource::builder()
        .with_service_name(service)
        .with_attributes([
            KeyValue::new("service.instance.id", instance),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        ])
        .build();
    exporter.set_resource(&resource);
    let sampled = settings.otel_traces_sampler_arg;
    let tracer = Tracer {
        sampler: Sampler::TraceIdRatioBased(sampled),
        ids: RandomIdGenerator::default(),
        scope: InstrumentationScope::builder("orderlog")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build(),
        queue: export::Queue::start(exporter),
    };
    if TRACER.set(tracer).is_ok() {
        tracing::info!(endpoint, sampled, "traces are exported");
    }
    Ok(())
}

/// Sends what has ended so far, within bounds. To be called once, last thing.
pub async fn finish() {
    if let Some(tracer) = TRACER.get() {
        tracer.queue.finish().await;
    }
}

/// A span's place below `parent`, made before the span is: for what must be named to others first. `None` unless
/// `parent` is sampled and spans are exported.
pub fn below(parent: Option<TraceContext>) -> Option<TraceContext> {
    let parent = parent.filter(TraceContext::is_sampled)?;
    TRACER.get()?.context(parent.trace_id().0)
}

/// Where the spans belong that are to show what becomes of an event: `None` unless it was traced, spans are exported, and
/// it happens now. A replay of the log adds nothing to old traces.
pub fn of_event(metadata: &Metadata) -> Option<TraceContext> {
    let traced = metadata.traceparent.filter(TraceContext::is_sampled)?;
    TRACER.get()?;
    let now = time::OffsetDateTime::now_utc();
    let happened = metadata.time.to_utc().ok()?;
    (now - happened < REPLAYED_AFTER).then_some(traced)
}

/// The span that the work at hand belongs to.
pub fn current() -> Option<TraceContext> {
    CURRENT.try_with(|current| *current).ok().flatten()
}

/// Does `work` as part of a span: [`current`] names it there.
pub fn within<F: Future>(
    span: Option<TraceContext>,
    work: F,
) -> impl Future<Output = F::Output> + use<F> {
    CURRENT.scope(span, work)
}

/// A span under way. It ends, and is exported, when it is dropped.
#[derive(Debug)]
pub struct Span(Option<Box<SpanData>>);

impl Span {
    /// A span below `parent`; `None` unless that is sampled and spans are exported.
    pub fn below(
        parent: Option<TraceContext>,
        name: impl Into<Cow<'static, str>>,
        kind: SpanKind,
    ) -> Option<Self> {
        Self::at(below(parent)?, parent, name, kind)
    }

    /// The span whose place below `parent` was made by [`below`].
    pub fn at(
        place: TraceContext,
        parent: Option<TraceContext>,
        name: impl Into<Cow<'static, str>>,
        kind: SpanKind,
    ) -> Option<Self> {
        let is_remote = matches!(kind, SpanKind::Server | SpanKind::Consumer);
        let context = SpanContext::new(
            TraceId::from_bytes(place.trace_id().0),
            SpanId::from_bytes(place.span_id().0),
            TraceFlags::SAMPLED,
            false,
            TraceState::NONE,
        );
        let parent = parent.map(|parent| SpanId::from_bytes(parent.span_id().0));
        let now = SystemTime::now();
        Some(Self(Some(Box::new(SpanData {
            span_context: context,
            parent_span_id: parent.unwrap_or(SpanId::INVALID),
            parent_span_is_remote: is_remote && parent.is_some(),
            span_kind: kind,
            name: name.into(),
            start_time: now,
            end_time: now,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: TRACER.get()?.scope.clone(),
        }))))
    }

    /// The span of a request, whatever the door it comes through: its caller decides whether it is sampled, or else the
    /// setting does.
    pub fn of_request(
        caller: Option<TraceContext>,
        name: impl Into<Cow<'static, str>>,
    ) -> Option<Self> {
        let place = match caller {
            Some(_) => below(caller),
            None => TRACER.get()?.root(),
        };
        Self::at(place?, caller, name, SpanKind::Server)
    }

    /// Where it stands: the parent of what is done for it.
    pub fn context(&self) -> Option<TraceContext> {
        let context = &self.0.as_ref()?.span_context;
        TraceContext::new(
            context.trace_id().to_bytes(),
            context.span_id().to_bytes(),
            true,
        )
    }

    /// It began earlier.
    #[must_use]
    pub fn since(mut self, began: SystemTime) -> Self {
        if let Some(data) = &mut self.0 {
            data.start_time = began;
        }
        self
    }

    /// Sets an attribute: an id, a number or a name of ours.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        if let Some(data) = &mut self.0 {
            data.attributes.push(KeyValue::new(name, value));
        }
    }

    /// Gives it another name.
    pub fn rename(&mut self, name: impl Into<Cow<'static, str>>) {
        if let Some(data) = &mut self.0 {
            data.name = name.into();
        }
    }

    /// Notes that something happened in it, now.
    pub fn note(&mut self, what: &'static str) {
        if let Some(data) = &mut self.0 {
            let event = Event::new(what, SystemTime::now(), Vec::new(), 0);
            data.events.events.push(event);
        }
    }

    /// What it was for did not succeed.
    pub fn fail(&mut self, kind: impl Into<Cow<'static, str>>) {
        if let Some(data) = &mut self.0 {
            let kind = kind.into();
            data.attributes
                .push(KeyValue::new("error.type", kind.clone()));
            data.status = Status::error(kind);
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let (Some(mut data), Some(tracer)) = (self.0.take(), TRACER.get()) {
            data.end_time = SystemTime::now();
            tracer.queue.offer(*data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        tracing: TraceSettings,
    }

    #[test]
    fn a_ratio_is_between_nothing_and_everything() {
        for (text, accepted) in [
            ("0", true),
            ("1", true),
            ("0.05", true),
            ("1.01", false),
            ("-0.1", false),
            ("NaN", false),
            ("half", false),
        ] {
            let arguments = ["program", &format!("--otel-traces-sampler-arg={text}")];
            let parsed = Program::try_parse_from(arguments).ok();
            let ratio = parsed.map(|program| program.tracing.otel_traces_sampler_arg);
            assert_eq!(ratio, text.parse().ok().filter(|_| accepted), "{text}");
        }
    }

    #[test]
    fn the_setting_says_which_part_of_new_traces_is_sampled() {
        let (queue, _spans) = export::Queue::new();
        let tracer = Tracer {
            sampler: Sampler::TraceIdRatioBased(0.25),
            ids: RandomIdGenerator::default(),
            scope: InstrumentationScope::default(),
            queue,
        };
        let sampled = (0..10_000).filter_map(|_| tracer.root()).count();
        assert!((2_000..3_000).contains(&sampled), "{sampled}");
    }

    #[tokio::test]
    async fn work_knows_the_span_it_belongs_to_and_nothing_else_does() {
        let place = TraceContext::new([1; 16], [2; 8], true);
        assert_eq!(current(), None);
        within(place, async {
            assert_eq!(current(), place);
            tokio::task::yield_now().await;
            within(None, async { assert_eq!(current(), None) }).await;
            assert_eq!(current(), place);
        })
        .await;
        assert_eq!(current(), None);
    }
}
