//! The load at a fixed rate: requests become due at times that no answer moves, and what they wait, for a free connection
//! too, counts from then.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use parking_lot::Mutex;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    http::{Answer, Connection, Server, request},
    load::Template,
    statistics::Latencies,
};

/// How finely requests become due; those of one step do so together.
const STEP: Duration = Duration::from_micros(250);
/// Requests that wait for a free connection at most; more are not sent.
const WAITING_MAX: usize = 20_000;
/// How long answers are waited for after the last request was due: longer than a command's own deadline.
const DRAIN_MAX: Duration = Duration::from_secs(15);
const DRAIN_CHECK: Duration = Duration::from_millis(5);

/// A load at a fixed rate on one server.
pub struct Paced {
    shared: Arc<Shared>,
    clients: JoinSet<anyhow::Result<()>>,
    pacer: JoinHandle<()>,
    rate: f64,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Offered {
    /// Requests per second that became due.
    pub rate: f64,
    /// Requests that became due while it was measured.
    pub due: u64,
    /// Of these, those answered as expected.
    pub done: u64,
    /// Of these, those answered otherwise, by status, with one body of each.
    pub refused: BTreeMap<u16, (u64, String)>,
    /// What refused requests were told to wait, with their number.
    pub retry_after: BTreeMap<String, u64>,
    /// Of these, those whose connection broke.
    pub broken: u64,
    /// Of these, those that found too many waiting for a connection.
    pub unsent: u64,
    /// How long it was measured.
    pub took: Duration,
    /// From being due to being answered as expected.
    pub latencies: Latencies,
    /// Answers as expected in each second.
    pub by_second: Vec<u64>,
    /// All requests answered as expected, with those before and after.
    pub sent: u64,
}

impl Offered {
    /// Requests answered as expected, per second.
    pub fn done_rate(&self) -> f64 {
        self.done as f64 / self.took.as_secs_f64().max(0.001)
    }

    /// Of what was due, the share that was answered as expected.
    pub fn done_share(&self) -> f64 {
        self.done as f64 / self.due.max(1) as f64
    }

    /// Requests that got no answer at all.
    pub fn unanswered(&self) -> u64 {
        let refused: u64 = self.refused.values().map(|(count, _)| count).sum();
        let answered = self.done + refused + self.broken + self.unsent;
        self.due.saturating_sub(answered)
    }
}

struct Shared {
    due: Mutex<VecDeque<Instant>>,
    /// As many permits as requests are due.
    ready: Semaphore,
    begun: OnceLock<Instant>,
    over: AtomicBool,
    tally: Mutex<Tally>,
}

#[derive(Default)]
struct Tally {
    offered: Offered,
    under_way: usize,
    micros: Vec<u32>,
}

impl Paced {
    /// Opens `connections` and lets requests become due, `rate` a second.
    pub async fn start(
        server: impl Into<Server>,
        connections: usize,
        rate: f64,
        templates: &[Template],
        expected: u16,
    ) -> anyhow::Result<Self> {
        ensure!(rate >= 1.0, "a rate of {rate} requests a second");
        let server = server.into();
        let shared = Arc::new(Shared {
            due: Mutex::default(),
            ready: Semaphore::new(0),
            begun: OnceLock::new(),
            over: AtomicBool::new(false),
            tally: Mutex::default(),
        });
        let mut clients = JoinSet::new();
        let first = request("GET", "/healthz", &[], "");
        for template in templates.iter().cycle().take(connections) {
            let mut connection = Connection::to(&server).await?;
            // A server closes a connection on which nothing is asked for long; whatever it answers to this.
            connection.exchange(&first).await?;
            clients.spawn(client(
                connection,
                server.clone(),
                template.clone(),
                expected,
                Arc::clone(&shared),
            ));
        }
        let pacer = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("pacer".into())
                .spawn(move || shared.pace(rate))?
        };
        Ok(Self {
            shared,
            clients,
            pacer,
            rate,
        })
    }

    /// From now on requests count that become due; the moment it began.
    pub fn measure(&self) -> Instant {
        *self.shared.begun.get_or_init(Instant::now)
    }

    /// Ends the measurement, waits for the answers that are due, and ends the clients.
    pub async fn end(mut self) -> anyhow::Result<Offered> {
        self.shared.over.store(true, Ordering::Relaxed);
        let took = self.measure().elapsed();
        let over = Instant::now();
        self.pacer.join().ok().context("the pacer broke")?;
        while over.elapsed() < DRAIN_MAX
            && (self.shared.tally.lock().under_way > 0 || !self.shared.due.lock().is_empty())
        {
            if let Ok(Some(ended)) =
                tokio::time::timeout(DRAIN_CHECK, self.clients.join_next()).await
            {
                ended.context("a client broke")??;
            }
        }
        self.clients.shutdown().await;
        let tally = std::mem::take(&mut *self.shared.tally.lock());
        Ok(Offered {
            rate: self.rate,
            took,
            latencies: Latencies::of(tally.micros),
            ..tally.offered
        })
    }
}

impl Shared {
    fn counts(&self, due: Instant) -> bool {
        self.begun.get().is_some_and(|begun| due >= *begun)
    }

    fn pace(&self, rate: f64) {
        let begun = Instant::now();
        let mut paced = 0_u64;
        while !self.over.load(Ordering::Relaxed) {
            let wanted = (begun.elapsed().as_secs_f64() * rate) as u64;
            let mut queue = self.due.lock();
            let (mut added, mut counted, mut unsent) = (0, 0, 0);
            for number in paced..wanted {
                let due = begun + Duration::from_secs_f64(number as f64 / rate);
                let counts = self.counts(due);
                counted += u64::from(counts);
                if queue.len() < WAITING_MAX {
                    queue.push_back(due);
                    added += 1;
                } else {
                    unsent += u64::from(counts);
                }
            }
            drop(queue);
            if counted > 0 {
                let mut tally = self.tally.lock();
                tally.offered.due += counted;
                tally.offered.unsent += unsent;
            }
            self.ready.add_permits(added);
            paced = wanted;
            let next = begun + Duration::from_secs_f64((paced + 1) as f64 / rate);
            std::thread::sleep(next.saturating_duration_since(Instant::now()).max(STEP));
        }
    }

    fn answered(&self, due: Instant, expected: u16, answer: &Answer<'_>) {
        let mut tally = self.tally.lock();
        let counts = self.counts(due);
        if answer.status != expected {
            if counts {
                tally.offered.refuse(answer);
            }
            return;
        }
        tally.offered.sent += 1;
        if counts {
            tally.offered.done += 1;
            let micros = u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX);
            tally.micros.push(micros);
            let second = self
                .begun
                .get()
                .map_or(0, |begun| begun.elapsed().as_secs());
            let second = usize::try_from(second).unwrap_or(usize::MAX);
            let by_second = &mut tally.offered.by_second;
            if by_second.len() <= second {
                by_second.resize(second + 1, 0);
            }
            if let Some(count) = by_second.get_mut(second) {
                *count += 1;
            }
        }
    }
}

impl Offered {
    fn refuse(&mut self, answer: &Answer<'_>) {
        let told = answer.header("retry-after").unwrap_or("nothing");
        match self.retry_after.get_mut(told) {
            Some(count) => *count += 1,
            None => drop(self.retry_after.insert(told.to_owned(), 1)),
        }
        let body = || String::from_utf8_lossy(answer.body).into_owned();
        let refused = self.refused.entry(answer.status);
        refused.or_insert_with(|| (0, body())).0 += 1;
    }
}

async fn client(
    mut connection: Connection,
    server: Server,
    mut template: Template,
    expected: u16,
    shared: Arc<Shared>,
) -> anyhow::Result<()> {
    loop {
        shared.ready.acquire().await?.forget();
        let Some(due) = shared.due.lock().pop_front() else {
            continue;
        };
        shared.tally.lock().under_way += 1;
        let answer = connection.exchange(template.next()).await;
        let is_broken = match &answer {
            Ok(answer) => {
                shared.answered(due, expected, answer);
                false
            }
            Err(_) => true,
        };
        shared.tally.lock().under_way -= 1;
        if is_broken {
            if shared.counts(due) {
                shared.tally.lock().offered.broken += 1;
            }
            connection = Connection::to(&server).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{echo::Echo, people::Person};

    #[tokio::test]
    async fn requests_become_due_at_the_rate_asked_for() {
        let echo = Echo::start().unwrap();
        let address = echo.address.to_string();
        let templates = [Person::nobody().orders()];
        let load = Paced::start(address.as_str(), 4, 500.0, &templates, 201).await;
        let load = load.unwrap();
        let begun = std::time::Instant::now();
        load.measure();
        tokio::time::sleep(Duration::from_millis(400)).await;
        let offered = load.end().await.unwrap();
        // However long a busy machine took.
        let most = begun.elapsed().as_secs_f64() * 500.0 + 1.0;
        assert!(
            offered.due > 0 && offered.due as f64 <= most,
            "{}",
            offered.due
        );
        assert_eq!((offered.done, offered.unanswered()), (offered.due, 0));
    }

    #[tokio::test]
    async fn what_is_refused_is_counted_with_what_it_was_told() {
        let echo = Echo::start().unwrap();
        let address = echo.address.to_string();
        let templates = [Person::nobody().orders()];
        let load = Paced::start(address.as_str(), 1, 200.0, &templates, 200).await;
        let load = load.unwrap();
        load.measure();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let offered = load.end().await.unwrap();
        let (count, _) = offered.refused.get(&201).cloned().unwrap();
        assert_eq!((count, offered.done), (offered.due, 0));
        assert_eq!(offered.retry_after.get("nothing"), Some(&count));
    }
}
