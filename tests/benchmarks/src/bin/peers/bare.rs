//! The bare path to the log: a queue for each writer, one transaction for all that waits in it, and then the answers. No
//! rules, no tokens, no Avro, no state.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use actix_web::{HttpResponse, web};
use anyhow::Context;
use benchmarks::producer::Writer;
use clap::Args;
use crossbeam_channel::{Receiver, Sender, bounded};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::order;

/// As in the command-api.
const BATCH_MAX: usize = 2_000;
const QUEUE_MAX: usize = 4_096;

/// Where the log is.
#[derive(Debug, Args)]
pub struct Settings {
    /// Where Kafka is.
    #[arg(long, env = "KAFKA_BOOTSTRAP_SERVERS")]
    kafka: String,
    /// A topic for nothing else.
    #[arg(long)]
    topic: String,
    /// How many writers, each with a partition of its own.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    writers: u16,
}

/// An order on its way.
struct Waiting {
    id: Uuid,
    body: web::Bytes,
    written: oneshot::Sender<Result<(), String>>,
}

/// The way to each writer.
#[derive(Clone)]
pub struct Queues(Arc<Inner>);

struct Inner {
    queues: Vec<Sender<Waiting>>,
    next: AtomicUsize,
}

impl Queues {
    /// Starts the writers.
    pub fn start(settings: &Settings) -> anyhow::Result<Self> {
        let mut queues = Vec::new();
        for partition in 0..settings.writers {
            let writer = Writer::open(&settings.kafka, &settings.topic, partition)?;
            let (queue, waiting) = bounded(QUEUE_MAX);
            std::thread::Builder::new()
                .name(format!("writer-{partition}"))
                .spawn(move || write(&writer, &waiting))?;
            queues.push(queue);
        }
        let next = AtomicUsize::new(0);
        Ok(Self(Arc::new(Inner { queues, next })))
    }

    async fn write(&self, id: Uuid, body: web::Bytes) -> anyhow::Result<()> {
        let Inner { queues, next } = &*self.0;
        let turn = next.fetch_add(1, Ordering::Relaxed);
        let queue = turn
            .checked_rem(queues.len())
            .and_then(|turn| queues.get(turn));
        let (written, answer) = oneshot::channel();
        let waiting = Waiting { id, body, written };
        let queue = queue.context("no writer")?;
        queue.try_send(waiting).ok().context("the queue is full")?;
        answer.await?.map_err(anyhow::Error::msg)
    }
}

fn write(writer: &Writer, waiting: &Receiver<Waiting>) {
    while let Ok(first) = waiting.recv() {
        let mut batch = vec![first];
        batch.extend(waiting.try_iter().take(BATCH_MAX - 1));
        let keys: Vec<String> = batch.iter().map(|one| one.id.to_string()).collect();
        let records = keys.iter().zip(&batch);
        let written = writer.write(records.map(|(key, one)| (key.as_bytes(), one.body.as_ref())));
        let written = written.map_err(|error| format!("{error:#}"));
        if let Err(error) = &written {
            eprintln!("peers: writing: {error}");
        }
        for one in batch {
            // Whoever no longer waits does not miss it.
            drop(one.written.send(written.clone()));
        }
        if written.is_err() {
            // Whoever waits in the queue would wait for ever.
            std::process::exit(1);
        }
    }
}

/// Takes orders.
pub fn routes(config: &mut web::ServiceConfig, queues: &Queues) {
    let queues = web::Data::new(queues.clone());
    config.service(order::at_orders(create).app_data(queues));
}

async fn create(body: web::Bytes, queues: web::Data<Queues>) -> HttpResponse {
    let order = match order::created(&body) {
        Ok(order) => order,
        Err(error) => return order::unreadable(&error),
    };
    match queues.write(order.order_id.0, body).await {
        Ok(()) => order::answer(&order),
        Err(error) => order::broken(&error),
    }
}
