//! The load: clients that send the next request when the last one is answered, all on one thread.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use events::{ids::UserId, partition::partition_of};
use uuid::Uuid;

use crate::{
    http::{Connection, Server},
    statistics::Latencies,
};

const WARMING_UP: u8 = 0;
const MEASURING: u8 = 1;
const OVER: u8 = 2;
/// What stands in a request made beforehand where its idempotency key goes.
const KEY_PLACE: &str = "00000000-0000-0000-0000-000000000000";

/// A request that is sent again and again.
#[derive(Debug, Clone)]
pub struct Template {
    bytes: Vec<u8>,
    key: Option<Range<usize>>,
    wanted: Option<Arc<KeysOn>>,
}

/// Keys of one caller that fall on some shards only.
#[derive(Debug)]
struct KeysOn {
    caller: UserId,
    shards: Vec<u16>,
    count: u16,
}

impl KeysOn {
    /// As the command-api decides where an order with a key lives.
    fn takes(&self, key: &str) -> bool {
        let place = format!("{} {key}", self.caller);
        let shard = partition_of(place.as_bytes(), self.count);
        self.shards.contains(&shard)
    }
}

impl Template {
    /// Always the same bytes.
    pub fn fixed(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            key: None,
            wanted: None,
        }
    }

    /// With another idempotency key each time; `make` is given what stands in its place.
    pub fn with_key(make: impl FnOnce(&str) -> Vec<u8>) -> Self {
        let bytes = make(KEY_PLACE);
        let key = memchr::memmem::find(&bytes, KEY_PLACE.as_bytes())
            .map(|start| start..start + KEY_PLACE.len());
        Self {
            bytes,
            key,
            wanted: None,
        }
    }

    /// Only keys that fall on `shards`, of which there must be one, of `count`.
    pub fn with_keys_on(self, caller: UserId, shards: &[u16], count: u16) -> Self {
        let shards = shards.to_vec();
        let wanted = (!shards.is_empty()).then(|| {
            Arc::new(KeysOn {
                caller,
                shards,
                count,
            })
        });
        Self { wanted, ..self }
    }

    /// The next one.
    pub fn next(&mut self) -> &[u8] {
        let place = self.key.clone().and_then(|key| self.bytes.get_mut(key));
        if let Some(place) = place {
            // As long as what it replaces, so that the length stays right.
            loop {
                let key = Uuid::now_v7().hyphenated().encode_lower(&mut *place);
                if self.wanted.as_ref().is_none_or(|wanted| wanted.takes(key)) {
                    break;
                }
            }
        }
        &self.bytes
    }
}

/// What came of a load.
#[derive(Debug)]
pub struct Measured {
    /// Requests answered as expected while it was measured.
    pub done: u64,
    /// All requests answered as expected, with those before and after it.
    pub sent: u64,
    /// How long it was measured.
    pub took: Duration,
    /// How long each of them took.
    pub latencies: Latencies,
    /// Requests answered otherwise while it was measured, by status, with one body of each.
    pub refused: Refusals,
}

/// Answers that were not expected, by status: how many, and the body of one.
pub type Refusals = BTreeMap<u16, (u64, String)>;

impl Measured {
    /// Per second.
    pub fn rate(&self) -> f64 {
        self.done as f64 / self.took.as_secs_f64()
    }
}

/// A load on one server.
pub struct Load {
    phase: Arc<AtomicU8>,
    clients: Vec<tokio::task::JoinHandle<anyhow::Result<Tally>>>,
}

#[derive(Default)]
struct Tally {
    sent: u64,
    latencies_micros: Vec<u32>,
    refused: Refusals,
}

impl Load {
    /// Starts `count` clients; they share the templates out among themselves.
    pub async fn start(
        server: impl Into<Server>,
        count: usize,
        templates: &[Template],
        expected: u16,
    ) -> anyhow::Result<Self> {
        let phase = Arc::new(AtomicU8::new(WARMING_UP));
        let (server, mut connected) = (server.into(), Vec::new());
        for template in templates.iter().cycle().take(count) {
            connected.push((Connection::to(&server).await?, template.clone()));
        }
        let clients = connected
            .into_iter()
            .map(|(connection, template)| {
                tokio::spawn(client(connection, template, expected, Arc::clone(&phase)))
            })
            .collect();
        Ok(Self { phase, clients })
    }

    /// From now on requests count; the moment it began.
    pub fn measure(&self) -> Instant {
        self.phase.store(MEASURING, Ordering::Relaxed);
        Instant::now()
    }

    /// Ends the measurement that began at `begun`, and the clients. Any refused request is an error: the figures
    /// would not mean what they say.
    pub async fn end(self, begun: Instant) -> anyhow::Result<Measured> {
        let measured = self.end_with_refusals(begun).await?;
        if let Some((status, (count, body))) = measured.refused.first_key_value() {
            bail!("{count} requests were answered {status}: {body}");
        }
        Ok(measured)
    }

    /// The same where some may be refused.
    pub async fn end_with_refusals(self, begun: Instant) -> anyhow::Result<Measured> {
        self.phase.store(OVER, Ordering::Relaxed);
        let took = begun.elapsed();
        let (mut all, mut sent, mut refused) = (Vec::new(), 0, Refusals::new());
        for client in self.clients {
            let tally = client.await.context("a client broke")??;
            for (status, (count, body)) in tally.refused {
                refused.entry(status).or_insert((0, body)).0 += count;
            }
            sent += tally.sent;
            all.extend(tally.latencies_micros);
        }
        Ok(Measured {
            done: all.len() as u64,
            sent,
            took,
            latencies: Latencies::of(all),
            refused,
        })
    }
}

async fn client(
    mut connection: Connection,
    mut template: Template,
    expected: u16,
    phase: Arc<AtomicU8>,
) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    while phase.load(Ordering::Relaxed) != OVER {
        let sent = Instant::now();
        let answer = connection.exchange(template.next()).await?;
        let took = sent.elapsed();
        if answer.status != expected {
            let body = String::from_utf8_lossy(answer.body).into_owned();
            tally.refused.entry(answer.status).or_insert((0, body)).0 += 1;
            continue;
        }
        tally.sent += 1;
        if phase.load(Ordering::Relaxed) == MEASURING {
            let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
            tally.latencies_micros.push(micros);
        }
    }
    Ok(tally)
}

/// Sends each of `requests` once, `count` at a time, and returns how long all of it took.
pub async fn send_all(
    address: &str,
    count: usize,
    requests: Vec<Vec<u8>>,
    expected: u16,
) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let waiting = Arc::new(parking_lot::Mutex::new(requests));
    let mut clients = Vec::new();
    for _ in 0..count {
        let (mut connection, waiting) = (Connection::open(address).await?, Arc::clone(&waiting));
        clients.push(tokio::spawn(async move {
            loop {
                let next = waiting.lock().pop();
                let Some(request) = next else {
                    return anyhow::Ok(());
                };
                let answer = connection.exchange(&request).await?;
                if answer.status != expected {
                    let body = String::from_utf8_lossy(answer.body);
                    bail!("answered {} instead of {expected}: {body}", answer.status);
                }
            }
        }));
    }
    for client in clients {
        client.await.context("a client broke")??;
    }
    Ok(begun.elapsed())
}
