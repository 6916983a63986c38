//! The order in which everything is measured, and what comes of it.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use event_log::{Schemas, topics::partition_count};

use crate::{
    echo::Echo,
    gateway::{self, CASES as GATEWAY_CASES, Compared, WAYS, Way},
    http::Server,
    load::{Load, send_all},
    orders::{self, ALONE, Bare, Case, Orders, Round, TOGETHER, USERS},
    people::{self, Person},
    processes::{Memory, Stack, Taken, load_thread_time},
    producer::Scratch,
    read_side::{self, Alone, Rebuilt},
    replay::{self, Read},
    settings::{Extent, Settings},
    traces::{self, CASES, SAMPLED, Traced},
};

/// Clients that fill the system before memory is looked at.
const FILLING_CLIENTS: usize = 16;
/// Clients on the server that does nothing.
const ECHO_CLIENTS: usize = 64;
/// Held still while the way of the commands is measured alone.
const READ_SIDE: [&str; 2] = ["notifier", "projections"];

/// Everything that was measured.
pub struct Results {
    /// How much.
    pub extent: Extent,
    /// Partitions of each topic.
    pub partitions: u16,
    /// Users registered, and how long that took.
    pub registered: (usize, Duration),
    /// Single orders.
    pub alone: Alone,
    /// Loads with the read side held still, each with bare producers.
    pub commands: Vec<(Case, Vec<Round>)>,
    /// Loads with the read side held still, traced in each way.
    pub traced: Traced,
    /// Bare producers by number of clients.
    pub bare: BTreeMap<usize, Vec<Bare>>,
    /// Loads with everything at work.
    pub together: Vec<(Case, Vec<Round>)>,
    /// Loads with the read side held still, past the gateway and through it.
    pub compared: Compared,
    /// Orders that waited while the read side was held still, and how long it took them.
    pub followed: (u64, Duration),
    /// Decoded.
    pub feed: Vec<Read>,
    /// Only counted.
    pub counted: Vec<Read>,
    /// Counted with their bytes.
    pub weighed: Read,
    /// What it takes while nobody asks for anything, and for how long.
    pub idle: (Taken, Duration),
    /// By model.
    pub rebuilt: Vec<(&'static str, Vec<Rebuilt>)>,
    /// Memory by moment.
    pub memory: Vec<(String, Memory)>,
    /// Requests per second of the load generator on a server that does nothing, and its own time for each.
    pub echo: (f64, Duration),
    /// Name and version of what was run.
    pub versions: Vec<(&'static str, String)>,
}

struct Bench {
    settings: Settings,
    extent: Extent,
    command: String,
    gateway: Server,
    query: String,
    binaries: PathBuf,
    partitions: u16,
    emails: Vec<String>,
    stack: Stack,
    orders: u64,
}

/// Measures everything.
pub async fn run(settings: Settings) -> anyhow::Result<Results> {
    let mut bench = Bench::prepare(settings).await?;
    let mut memory = vec![("idle, nothing written".to_owned(), bench.stack.memory())];
    say("doing nothing");
    let idle = bench.idle().await;
    say("the load generator on a server that does nothing");
    let echo = bench.echo().await?;
    say("registering users");
    let registered = bench.register().await?;
    say("single orders, and when they are visible");
    let alone = bench.alone().await?;
    bench.fill().await?;
    memory.push((bench.label("idle"), bench.stack.memory()));
    // Early, because the command-api reads its shards anew each time.
    let traced = bench.traced().await?;

    let mut busy = Memory::new();
    bench.hold_read_side(true)?;
    let measured = bench.commands(&mut busy).await;
    // The clock starts when the projection is let go, so it is let go last.
    bench.hold_read_side(false)?;
    let let_go = Instant::now();
    let (commands, bare) = measured?;
    memory.push(("highest under load, read side held still".to_owned(), busy));
    say("the read side follows");
    let waiting = commands.iter().flat_map(|(_, rounds)| rounds);
    let waiting = waiting.map(|round| round.sent).sum();
    bench.caught_up().await?;
    let followed = (waiting, let_go.elapsed());

    let mut busy = Memory::new();
    let together = bench.together(&mut busy).await?;
    memory.push(("highest under load, everything at work".to_owned(), busy));
    bench.caught_up().await?;
    memory.push((bench.label("idle"), bench.stack.memory()));
    let compared = bench.compared().await?;
    let (feed, counted, weighed) = bench.replay().await?;
    let rebuilt = bench.rebuild()?;
    Ok(Results {
        extent: bench.extent,
        partitions: bench.partitions,
        registered,
        alone,
        commands,
        traced,
        bare,
        together,
        compared,
        followed,
        feed,
        counted,
        weighed,
        idle,
        rebuilt,
        memory,
        echo,
        versions: bench.versions(),
    })
}

/// Measures what the gateway adds, and prints the table.
pub async fn gateway(settings: Settings) -> anyhow::Result<()> {
    let mut bench = Bench::prepare(settings).await?;
    for _ in 0..USERS {
        let email = Person::register_quiet(&bench.command).await?;
        bench.emails.push(email);
    }
    println!("{}", gateway::table(&bench.compared().await?));
    Ok(())
}

/// Puts a load on, and prints its rate and what each process took for an order.
pub async fn load(settings: Settings, clients: usize) -> anyhow::Result<()> {
    let mut bench = Bench::prepare(settings).await?;
    bench.register_orderers().await?;
    let case = Case {
        clients,
        orders: Orders::Plain,
    };
    let round = bench.round(case, 1, &mut Memory::new()).await?;
    println!("{}", crate::report::costs(&[(case, vec![round])]));
    Ok(())
}

/// Measures what tracing costs, and prints the table.
pub async fn traces(settings: Settings) -> anyhow::Result<()> {
    let mut bench = Bench::prepare(settings).await?;
    bench.register_orderers().await?;
    println!("{}", traces::table(&bench.traced().await?));
    Ok(())
}

impl Bench {
    async fn prepare(settings: Settings) -> anyhow::Result<Self> {
        let binaries = match &settings.binaries {
            Some(given) => given.clone(),
            None => {
                let own = std::env::current_exe()?;
                own.parent().context("no directory")?.to_owned()
            }
        };
        Ok(Self {
            extent: settings.extent(),
            command: settings.command_address()?.to_owned(),
            gateway: settings.gateway_server()?,
            query: settings.query_address()?.to_owned(),
            binaries,
            partitions: partition_count(&settings.kafka).await?,
            emails: Vec::new(),
            stack: Stack::ask(&settings.stack)?,
            orders: 0,
            settings,
        })
    }

    fn label(&self, what: &str) -> String {
        let orders = crate::statistics::count(self.orders as f64);
        format!("{what}, {orders} orders")
    }

    async fn idle(&self) -> (Taken, Duration) {
        let (begun, before) = (Instant::now(), self.stack.processor_time());
        tokio::time::sleep(self.extent.measured_for).await;
        let after = self.stack.processor_time();
        (after.taken_since(&before), begun.elapsed())
    }

    async fn echo(&self) -> anyhow::Result<(f64, Duration)> {
        let echo = Echo::start()?;
        let person = Person::nobody();
        let address = echo.address.to_string();
        let load = Load::start(address.as_str(), ECHO_CLIENTS, &[person.orders()], 201).await?;
        tokio::time::sleep(self.extent.warm_up).await;
        let (begun, before) = (load.measure(), load_thread_time());
        tokio::time::sleep(self.extent.measured_for / 2).await;
        let taken = load_thread_time().saturating_sub(before);
        let measured = load.end(begun).await?;
        let each = taken.div_f64(measured.done.max(1) as f64);
        Ok((measured.rate(), each))
    }

    async fn register(&mut self) -> anyhow::Result<(usize, Duration)> {
        let took = people::register(&self.command, self.extent.users).await?;
        self.register_orderers().await?;
        Ok((self.extent.users, took))
    }

    async fn register_orderers(&mut self) -> anyhow::Result<()> {
        for _ in 0..USERS {
            let email = Person::register_quiet(&self.command).await?;
            self.emails.push(email);
        }
        Ok(())
    }

    /// Everybody, with tokens that last for a round.
    async fn people(&self) -> anyhow::Result<Vec<Person>> {
        let mut people = Vec::new();
        for email in &self.emails {
            people.push(Person::log_in(&self.command, email).await?);
        }
        Ok(people)
    }

    async fn person(&self) -> anyhow::Result<Person> {
        let email = self.emails.first().context("nobody is registered")?;
        Person::log_in(&self.command, email).await
    }

    async fn alone(&mut self) -> anyhow::Result<Alone> {
        let (person, count) = (self.person().await?, self.extent.orders_looked_for);
        self.orders += count as u64;
        read_side::visible(&self.command, &self.query, &person, count).await
    }

    async fn fill(&mut self) -> anyhow::Result<()> {
        let missing = self
            .extent
            .orders_first
            .saturating_sub(self.extent.orders_looked_for);
        let people = self.people().await?;
        let orders = people.iter().cycle().take(missing).map(Person::order);
        let orders: Vec<_> = orders.collect();
        send_all(&self.command, FILLING_CLIENTS, orders, 201).await?;
        self.orders += missing as u64;
        self.caught_up().await
    }

    async fn caught_up(&self) -> anyhow::Result<()> {
        let person = self.person().await?;
        read_side::caught_up(&self.command, &self.query, &person, self.partitions).await
    }

    fn hold_read_side(&self, still: bool) -> anyhow::Result<()> {
        READ_SIDE.iter().try_for_each(|name| match still {
            true => self.stack.pause(name),
            false => self.stack.resume(name),
        })
    }

    async fn commands(
        &mut self,
        memory: &mut Memory,
    ) -> anyhow::Result<(Vec<(Case, Vec<Round>)>, BTreeMap<usize, Vec<Bare>>)> {
        let scratch = Scratch::make(&self.settings.kafka, self.partitions).await?;
        let mut commands: Vec<(Case, Vec<Round>)> = ALONE.map(|case| (case, Vec::new())).into();
        let mut bare = BTreeMap::<usize, Vec<Bare>>::new();
        for round in 1..=self.extent.rounds {
            for (case, rounds) in &mut commands {
                rounds.push(self.round(*case, round, memory).await?);
                let beside = bare.entry(case.clients).or_default();
                if beside.len() < round {
                    let (clients, partitions) = (case.clients, self.partitions);
                    beside.push(orders::bare(
                        clients,
                        partitions,
                        &scratch,
                        self.extent,
                        &self.stack,
                    )?);
                }
            }
        }
        scratch.delete().await?;
        Ok((commands, bare))
    }

    /// What tracing costs: the command-api is started anew for each way, and as it was at the end, and the read side held
    /// still meanwhile.
    async fn traced(&mut self) -> anyhow::Result<Traced> {
        self.hold_read_side(true)?;
        let measured = self.traced_in_turns().await;
        traces::restore(&mut self.stack)?;
        self.hold_read_side(false)?;
        let measured = measured?;
        self.caught_up().await?;
        Ok(measured)
    }

    async fn traced_in_turns(&mut self) -> anyhow::Result<Traced> {
        let ways = CASES
            .iter()
            .flat_map(|case| SAMPLED.map(|way| (*case, way)));
        let mut traced: Traced = ways.map(|(case, way)| (case, way, Vec::new())).collect();
        for round in 1..=self.extent.rounds {
            for turn in 0..SAMPLED.len() {
                // Who begins would always have the smallest state.
                let Some(now) = SAMPLED.get((turn + round) % SAMPLED.len()) else {
                    continue;
                };
                say(&format!("traced: {now:?}"));
                now.apply(&mut self.stack)?;
                for (case, way, rounds) in &mut traced {
                    if way == now {
                        rounds.push(self.round(*case, round, &mut Memory::new()).await?);
                    }
                }
            }
        }
        Ok(traced)
    }

    async fn together(&mut self, memory: &mut Memory) -> anyhow::Result<Vec<(Case, Vec<Round>)>> {
        let mut together: Vec<(Case, Vec<Round>)> = TOGETHER.map(|case| (case, Vec::new())).into();
        for round in 1..=self.extent.rounds {
            for (case, rounds) in &mut together {
                rounds.push(self.round(*case, round, memory).await?);
            }
        }
        Ok(together)
    }

    async fn round(
        &mut self,
        case: Case,
        round: usize,
        memory: &mut Memory,
    ) -> anyhow::Result<Round> {
        let people = self.people().await?;
        let done = orders::round(
            case,
            &self.command,
            &people,
            self.extent,
            &self.stack,
            memory,
        )
        .await?;
        self.orders += done.sent;
        say(&format!(
            "round {round}: {} clients, {}: {:.0} orders/s, p50 {:.1} ms, p99 {:.1} ms",
            case.clients,
            case.orders.name(),
            done.rate,
            done.p50_ms,
            done.p99_ms
        ));
        Ok(done)
    }

    /// What the gateway adds; the read side is held still meanwhile.
    async fn compared(&mut self) -> anyhow::Result<Compared> {
        self.hold_read_side(true)?;
        let measured = self.compared_in_turns().await;
        self.hold_read_side(false)?;
        let measured = measured?;
        self.caught_up().await?;
        Ok(measured)
    }

    async fn compared_in_turns(&mut self) -> anyhow::Result<Compared> {
        let ways = GATEWAY_CASES
            .iter()
            .flat_map(|case| WAYS.map(|way| (*case, way)));
        let mut compared: Compared = ways.map(|(case, way)| (case, way, Vec::new())).collect();
        for round in 1..=self.extent.rounds {
            for (case, way, rounds) in &mut compared {
                let people = self.people().await?;
                let server = match way {
                    Way::Direct => Server::from(self.command.as_str()),
                    Way::Gateway => self.gateway.clone(),
                };
                let done = case.round(server, &people, self.extent, &self.stack);
                let done = done.await?;
                self.orders += case.orders(&done);
                say(&format!(
                    "round {round}: {}, {way:?}: {:.0}/s, p50 {:.2} ms, p99 {:.2} ms",
                    case.name(),
                    done.rate,
                    done.p50_ms,
                    done.p99_ms
                ));
                rounds.push(done);
            }
        }
        Ok(compared)
    }

    async fn replay(&self) -> anyhow::Result<(Vec<Read>, Vec<Read>, Read)> {
        say("replay");
        let kafka = &self.settings.kafka;
        let schemas: Arc<Schemas> = Schemas::load(kafka).await?;
        // Blocking this thread is fine: nothing else of this program runs meanwhile.

        // The first reading brings the log into the page cache, so that all the others find it there.
        let weighed = replay::count_bytes(kafka, self.partitions)?;
        let (mut feed, mut counted) = (Vec::new(), Vec::new());
        for _ in 0..self.extent.rounds {
            feed.push(replay::feed(kafka, &schemas).await?);
            counted.push(replay::count_only(kafka, self.partitions)?);
        }
        Ok((feed, counted, weighed))
    }

    fn rebuild(&self) -> anyhow::Result<Vec<(&'static str, Vec<Rebuilt>)>> {
        let mut rebuilt = Vec::new();
        for model in ["users", "orders"] {
            let mut rounds = Vec::new();
            for _ in 0..self.extent.rounds {
                say(&format!("rebuilding {model}"));
                rounds.push(read_side::rebuild(&self.binaries, model)?);
            }
            rebuilt.push((model, rounds));
        }
        Ok(rebuilt)
    }

    fn versions(&self) -> Vec<(&'static str, String)> {
        let of = |name| {
            self.stack
                .version(name)
                .unwrap_or_else(|_| "unknown".into())
        };
        let (_, librdkafka) = rdkafka::util::get_rdkafka_version();
        vec![
            ("PostgreSQL", of("postgres")),
            ("MongoDB", of("mongodb")),
            ("librdkafka", librdkafka),
            ("Rust", env!("CARGO_PKG_RUST_VERSION").to_owned()),
        ]
    }
}

/// One line of progress.
fn say(line: &str) {
    eprintln!("bench: {line}");
}
