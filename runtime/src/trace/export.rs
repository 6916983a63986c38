//! The way of ended spans to the collector: a bounded queue that nobody waits for, and one task that empties it.
//!
//! A collector that is slow or away costs spans, which are counted, and nothing else: no command waits, memory stays what
//! it is, and the log says so now and then.

use std::time::{Duration, Instant};

use metrics::{Unit, counter, describe_counter};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use parking_lot::Mutex;
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Spans that wait to be sent at most; what ends beyond that is dropped and counted. About a kilobyte each.
const SPANS_QUEUED_MAX: usize = 8_192;
/// Spans in one export at most.
const EXPORT_SPANS_MAX: usize = 512;
/// How long an export that is not full yet waits for more.
const GATHER: Duration = Duration::from_millis(100);
/// How long the collector may take for one export, repetitions included.
pub(super) const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after an export that failed.
const FAILED_PAUSE: Duration = Duration::from_secs(1);
/// How often it is said that exports fail.
const FAILURE_TOLD_EVERY: Duration = Duration::from_secs(60);
/// How long the end of the process waits for the last spans to be sent.
const FINISH_TIMEOUT: Duration = Duration::from_secs(3);

const EXPORTED: &str = "orderlog_trace_spans_exported_total";
const DROPPED: &str = "orderlog_trace_spans_dropped_total";
/// Why spans are lost: labels of the counter.
const QUEUE_FULL: &str = "queue_full";
const EXPORT_FAILED: &str = "export_failed";
const ENDED: &str = "ended";

/// Where ended spans go.
pub(super) struct Queue {
    spans: mpsc::Sender<SpanData>,
    ending: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Queue {
    /// A queue, and its other end.
    pub(super) fn new() -> (Self, mpsc::Receiver<SpanData>) {
        let (spans, queued) = mpsc::channel(SPANS_QUEUED_MAX);
        let queue = Self {
            spans,
            ending: CancellationToken::new(),
            task: Mutex::new(None),
        };
        (queue, queued)
    }

    /// A queue that `exporter` empties. Must be called within a tokio runtime.
    pub(super) fn start(exporter: impl SpanExporter + 'static) -> Self {
        let (queue, queued) = Self::new();
        describe_counts();
        let exports = Exports {
            exporter,
            queued,
            ending: queue.ending.clone(),
            outage: Outage::default(),
        };
        let task = tokio::spawn(exports.run());
        *queue.task.lock() = Some(task);
        queue
    }

    /// Takes a span, or drops it when there is no room.
    pub(super) fn offer(&self, span: SpanData) {
        match self.spans.try_send(span) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => count_dropped(QUEUE_FULL, 1),
            Err(TrySendError::Closed(_)) => count_dropped(ENDED, 1),
        }
    }

    /// Has what is queued sent, and takes no more.
    pub(super) async fn finish(&self) {
        self.ending.cancel();
        let task = self.task.lock().take();
        if let Some(task) = task
            && timeout(FINISH_TIMEOUT, task).await.is_err()
        {
            tracing::warn!("the last spans could not be exported in time");
        }
    }
}

/// Both are shown from the beginning on, also while there is nothing to count.
fn describe_counts() {
    describe_counter!(EXPORTED, Unit::Count, "Spans that the collector took.");
    describe_counter!(
        DROPPED,
        Unit::Count,
        "Spans that were lost, by reason. Nothing else is lost with them."
    );
    counter!(EXPORTED).increment(0);
    for reason in [QUEUE_FULL, EXPORT_FAILED, ENDED] {
        count_dropped(reason, 0);
    }
}

fn count_dropped(reason: &'static str, spans: usize) {
    counter!(DROPPED, "reason" => reason).increment(spans as u64);
}

/// Sends what is queued, batch by batch.
struct Exports<E> {
    exporter: E,
    queued: mpsc::Receiver<SpanData>,
    ending: CancellationToken,
    outage: Outage,
}

impl<E: SpanExporter> Exports<E> {
    /// Until the process is to end and nothing is queued any more.
    async fn run(mut self) {
        loop {
            let batch = self.gather().await;
            if batch.is_empty() {
                return;
            }
            let spans = batch.len();
            let exported = match timeout(EXPORT_TIMEOUT, self.exporter.export(batch)).await {
                Ok(exported) => exported.map_err(|error| error.to_string()),
                Err(_) => Err(format!("no answer within {} s", EXPORT_TIMEOUT.as_secs())),
            };
            match exported {
                Ok(()) => {
                    counter!(EXPORTED).increment(spans as u64);
                    self.outage.is_over();
                }
                Err(error) => {
                    count_dropped(EXPORT_FAILED, spans);
                    self.outage.goes_on(&error, Instant::now());
                    self.pause(FAILED_PAUSE).await;
                }
            }
        }
    }

    /// What has ended: a full batch at once, others after a while in which more may come. Empty only at the end.
    async fn gather(&mut self) -> Vec<SpanData> {
        let mut batch = Vec::with_capacity(EXPORT_SPANS_MAX);
        tokio::select! {
            biased;
            () = self.ending.cancelled() => {
                self.queued.close();
                self.queued.recv_many(&mut batch, EXPORT_SPANS_MAX).await;
                return batch;
            }
            _ = self.queued.recv_many(&mut batch, EXPORT_SPANS_MAX) => {}
        }
        if batch.len() < EXPORT_SPANS_MAX {
            self.pause(GATHER).await;
            while batch.len() < EXPORT_SPANS_MAX
                && let Ok(span) = self.queued.try_recv()
            {
                batch.push(span);
            }
        }
        batch
    }

    /// Waits, unless the process is to end.
    async fn pause(&self, pause: Duration) {
        tokio::select! {
            () = self.ending.cancelled() => {}
            () = sleep(pause) => {}
        }
    }
}

/// Says that the collector is away: when that begins, now and then, and when it is over.
#[derive(Default)]
struct Outage {
    told: Option<Instant>,
}

impl Outage {
    /// Whether it was said.
    fn goes_on(&mut self, error: &str, now: Instant) -> bool {
        let tell = self
            .told
            .is_none_or(|told| now.duration_since(told) >= FAILURE_TOLD_EVERY);
        if tell {
            self.told = Some(now);
            tracing::warn!(
                error,
                "traces cannot be exported: spans are lost, nothing else is affected"
            );
        }
        tell
    }

    fn is_over(&mut self) {
        if self.told.take().is_some() {
            tracing::info!("traces are exported again");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        borrow::Cow,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::SystemTime,
    };

    use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status};
    use opentelemetry_sdk::{
        error::{OTelSdkError, OTelSdkResult},
        trace::{SpanEvents, SpanLinks},
    };

    use super::*;

    /// Counts what it is given, and answers as it is told.
    #[derive(Debug, Clone)]
    struct Collector {
        spans: Arc<AtomicUsize>,
        exports: Arc<AtomicUsize>,
        answers: Answers,
    }

    #[derive(Debug, Clone, Copy)]
    enum Answers {
        AtOnce,
        WithAnError,
        Never,
    }

    impl Collector {
        fn that_answers(answers: Answers) -> Self {
            Self {
                spans: Arc::default(),
                exports: Arc::default(),
                answers,
            }
        }
    }

    impl SpanExporter for Collector {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.exports.fetch_add(1, Ordering::SeqCst);
            match self.answers {
                Answers::AtOnce => drop(self.spans.fetch_add(batch.len(), Ordering::SeqCst)),
                Answers::WithAnError => {
                    return Err(OTelSdkError::InternalFailure("away".to_owned()));
                }
                Answers::Never => std::future::pending().await,
            }
            Ok(())
        }
    }

    fn span() -> SpanData {
        let now = SystemTime::now();
        SpanData {
            span_context: SpanContext::NONE,
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: Cow::Borrowed("test"),
            start_time: now,
            end_time: now,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: opentelemetry::InstrumentationScope::default(),
        }
    }

    #[tokio::test]
    async fn what_was_taken_is_sent_before_the_end() {
        let collector = Collector::that_answers(Answers::AtOnce);
        let queue = Queue::start(collector.clone());
        let spans = 3 * EXPORT_SPANS_MAX + 7;
        (0..spans).for_each(|_| queue.offer(span()));
        queue.finish().await;
        assert_eq!(collector.spans.load(Ordering::SeqCst), spans);
        assert_eq!(collector.exports.load(Ordering::SeqCst), 4, "full batches");
        queue.offer(span()); // is dropped: nobody takes it any more
    }

    #[tokio::test]
    async fn a_collector_that_never_answers_costs_a_bounded_number_of_spans_and_no_time() {
        let collector = Collector::that_answers(Answers::Never);
        let queue = Queue::start(collector.clone());
        for _ in 0..3 * SPANS_QUEUED_MAX {
            queue.offer(span());
        }
        assert_eq!(queue.spans.capacity(), 0, "the queue is full, and no more");
        while collector.exports.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        (0..SPANS_QUEUED_MAX).for_each(|_| queue.offer(span()));
        assert_eq!(queue.spans.capacity(), 0, "and stays so");
        let begun = Instant::now();
        queue.finish().await;
        assert!(begun.elapsed() < 2 * FINISH_TIMEOUT);
    }

    #[tokio::test]
    async fn while_exports_fail_they_are_tried_now_and_then() {
        let collector = Collector::that_answers(Answers::WithAnError);
        let queue = Queue::start(collector.clone());
        (0..SPANS_QUEUED_MAX).for_each(|_| queue.offer(span()));
        let begun = Instant::now();
        while collector.exports.load(Ordering::SeqCst) < 2 {
            sleep(GATHER).await;
        }
        assert!(begun.elapsed() >= FAILED_PAUSE, "no pause after a failure");
        assert_eq!(collector.spans.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn an_outage_is_told_now_and_then() {
        let (mut outage, begun) = (Outage::default(), Instant::now());
        assert!(outage.goes_on("away", begun));
        assert!(!outage.goes_on("away", begun + FAILURE_TOLD_EVERY / 2));
        assert!(outage.goes_on("away", begun + FAILURE_TOLD_EVERY));
        outage.is_over();
        assert!(outage.goes_on("away", begun + FAILURE_TOLD_EVERY));
    }
}
