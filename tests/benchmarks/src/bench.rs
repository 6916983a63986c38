//! The system that is measured, and the steps that several sections take.

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use event_log::topics::partition_count;
use time::OffsetDateTime;

use crate::{
    http::Server,
    load::send_all,
    orders::{self, Case, Orders, Round, USERS},
    people::{self, Account, Person},
    processes::{Memory, Stack},
    read_side,
    settings::{Extent, Settings},
};

/// The node that is measured where one is.
pub const NODE: &str = "command-api-1";
/// Held still while the way of the commands is measured alone.
const READ_SIDE: [&str; 2] = ["notifier", "projections"];
/// Clients that fill the system.
const FILLING_CLIENTS: usize = 16;

/// The system, and whom it knows.
pub struct Bench {
    /// What was asked for.
    pub settings: Settings,
    /// How much is measured.
    pub extent: Extent,
    /// host:port of the first command node.
    pub command: String,
    /// The gateway.
    pub gateway: Server,
    /// host:port of the query API.
    pub query: String,
    /// Where the services' programs are.
    pub binaries: PathBuf,
    /// Partitions of each topic.
    pub partitions: u16,
    /// Its processes.
    pub stack: Stack,
    /// Orders that this run has created.
    pub orders: u64,
    /// Who orders.
    pub accounts: Vec<Account>,
}

impl Bench {
    /// Asks the system what it is like.
    pub async fn prepare(settings: Settings) -> anyhow::Result<Self> {
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
            accounts: Vec::new(),
            stack: Stack::ask(&settings.stack)?,
            orders: 0,
            settings,
        })
    }

    /// How many writers the log gets at the same time: as many as there are cores, as in the command-api.
    pub fn writers(&self) -> u16 {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        u16::try_from(cores).map_or(self.partitions, |cores| cores.min(self.partitions))
    }

    /// Registers users; returns how long it took. Those who order are registered besides.
    pub async fn register(&mut self) -> anyhow::Result<(usize, Duration)> {
        let took = people::register(&self.command, self.extent.users).await?;
        self.register_orderers().await?;
        Ok((self.extent.users, took))
    }

    /// Registers those who order, unless they are there.
    pub async fn register_orderers(&mut self) -> anyhow::Result<()> {
        while self.accounts.len() < USERS {
            let account = Person::register_quiet(&self.command).await?;
            self.accounts.push(account);
        }
        Ok(())
    }

    /// Everybody who orders, with tokens that last for a round.
    pub async fn people(&mut self) -> anyhow::Result<Vec<Person>> {
        self.register_orderers().await?;
        let mut people = Vec::new();
        for account in &self.accounts {
            people.push(Person::log_in(&self.command, account).await?);
        }
        Ok(people)
    }

    /// One of them.
    pub async fn person(&mut self) -> anyhow::Result<Person> {
        self.register_orderers().await?;
        let account = self.accounts.first().context("nobody is registered")?;
        Person::log_in(&self.command, account).await
    }

    /// Creates orders until this run has created `count`, and waits until they are shown.
    pub async fn fill(&mut self, count: usize) -> anyhow::Result<()> {
        let missing = count.saturating_sub(usize::try_from(self.orders)?);
        let people = self.people().await?;
        let orders = people.iter().cycle().take(missing).map(Person::order);
        let orders: Vec<_> = orders.collect();
        send_all(&self.command, FILLING_CLIENTS, orders, 201).await?;
        self.orders += missing as u64;
        self.caught_up().await
    }

    /// Waits until the read model of orders shows everything that was written before.
    pub async fn caught_up(&mut self) -> anyhow::Result<()> {
        let person = self.person().await?;
        read_side::caught_up(&self.command, &self.query, &person, self.partitions).await
    }

    /// Does `work` with the read side held still, and lets it go on afterwards, also after an error.
    pub async fn with_read_side_held<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut Self) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let done = match self.hold_read_side(true) {
            Ok(()) => work(self).await,
            Err(error) => Err(error),
        };
        self.hold_read_side(false)?;
        done
    }

    /// Starts the node that is measured, where something has left it stopped.
    pub fn start_node(&mut self) -> anyhow::Result<()> {
        if self.stack.is_running(NODE)? {
            return Ok(());
        }
        let starting = self.stack.start(NODE)?;
        self.stack.started(starting)
    }

    /// Stops the read side's clock, or lets it go on.
    fn hold_read_side(&self, still: bool) -> anyhow::Result<()> {
        READ_SIDE.iter().try_for_each(|name| match still {
            true => self.stack.pause(name),
            false => self.stack.resume(name),
        })
    }

    /// One round of a load on the command-api. The highest memory seen goes to `memory`.
    pub async fn round(
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
        let (clients, name) = (case.clients, case.orders.name());
        told(round, &format!("{clients} clients, {name}"), &done);
        Ok(done)
    }

    /// Name and version of what is run.
    pub fn versions(&self) -> Vec<(&'static str, String)> {
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

/// Puts a load on, and prints its rate and what each process took for an order.
pub async fn load(settings: Settings, clients: usize) -> anyhow::Result<()> {
    let mut bench = Bench::prepare(settings).await?;
    let case = Case {
        clients,
        orders: Orders::Plain,
    };
    let round = bench.round(case, 1, &mut Memory::new()).await?;
    println!("{}", crate::costs::costs(&[(case, vec![round])]));
    Ok(())
}

/// One line of progress, with the time.
pub fn say(line: &str) {
    let (hour, minute, second) = OffsetDateTime::now_utc().time().as_hms();
    eprintln!("bench {hour:02}:{minute:02}:{second:02}: {line}");
}

/// What a round came to, as a line of progress.
pub fn told(round: usize, what: &str, done: &Round) {
    say(&format!(
        "round {round}: {what}: {:.0}/s, p50 {:.2} ms, p99 {:.2} ms",
        done.rate, done.p50_ms, done.p99_ms
    ));
}
