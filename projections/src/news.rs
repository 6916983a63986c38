//! How processes that share a read model's partitions tell each other how far they are, so that each can answer queries that
//! wait for a point: over a channel of Postgres (`LISTEN`, `NOTIFY`). What is lost on the way is made up for by the checkpoints,
//! which each process looks at whenever it looks for a new generation.

use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, postgres::PgListener};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    model::{Generation, Positions},
    store::ReadModel,
};

const CHANNEL: &str = "projections_progress";
/// How long Postgres may take to pass something on.
const TOLD_WITHIN: Duration = Duration::from_secs(5);
/// Pause after Postgres was found to be away.
const AWAY_PAUSE: Duration = Duration::from_secs(1);
/// Partitions in one message at most: Postgres takes 8,000 bytes.
const PARTITIONS_MAX: usize = 200;
/// Messages that wait for a worker at most; what it is behind with is not worth keeping.
const MESSAGES_QUEUED_MAX: usize = 64;

/// What goes over the channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Message {
    model: String,
    version: u16,
    generation: i32,
    positions: Positions,
}

/// What a worker has of the other processes of its read model.
#[derive(Debug)]
pub struct Colleagues {
    told: watch::Sender<(Generation, Positions)>,
    heard: mpsc::Receiver<(Generation, Positions)>,
}

/// The same, seen from the channel.
#[derive(Debug)]
pub struct Line {
    model: &'static str,
    version: u16,
    told: watch::Receiver<(Generation, Positions)>,
    heard: mpsc::Sender<(Generation, Positions)>,
}

/// A line to the colleagues of who works on `M`.
pub fn line<M: ReadModel>() -> (Colleagues, Line) {
    let (tell, told) = watch::channel((Generation::FIRST, Positions::new()));
    let (pass_on, heard) = mpsc::channel(MESSAGES_QUEUED_MAX);
    let colleagues = Colleagues { told: tell, heard };
    let line = Line {
        model: M::MODEL.name(),
        version: M::VERSION.0,
        told,
        heard: pass_on,
    };
    (colleagues, line)
}

impl Colleagues {
    /// Tells them how far `generation` is; waits for nobody.
    pub fn tell(&self, generation: Generation, positions: &Positions) {
        self.told.send_replace((generation, positions.clone()));
    }

    /// Waits until one of them tells how far a generation is.
    pub async fn hear(&mut self) -> (Generation, Positions) {
        match self.heard.recv().await {
            Some(heard) => heard,
            // The channel has ended, and the process is about to.
            None => std::future::pending().await,
        }
    }
}

/// The vital task: passes on what is told and heard until `shutdown` is cancelled.
pub async fn pass_on(
    pool: PgPool,
    mut lines: Vec<Line>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let ears: Vec<Ear> = lines.iter().map(Ear::of).collect();
    let told = join_all(lines.iter_mut().map(|line| tell(&pool, line)));
    let passing = async { tokio::join!(told, hear(&pool, &ears)) };
    shutdown.run_until_cancelled(passing).await;
    Ok(())
}

async fn tell(pool: &PgPool, line: &mut Line) {
    while line.told.changed().await.is_ok() {
        let (generation, positions) = line.told.borrow_and_update().clone();
        let positions: Vec<_> = positions.into_iter().collect();
        for some in positions.chunks(PARTITIONS_MAX) {
            let message = Message {
                model: line.model.to_owned(),
                version: line.version,
                generation: generation.0,
                positions: some.iter().copied().collect(),
            };
            if let Err(error) = notify(pool, &message).await {
                tracing::debug!(model = line.model, %error, "other processes are not told how far this one is");
                tokio::time::sleep(AWAY_PAUSE).await;
            }
        }
    }
}

async fn notify(pool: &PgPool, message: &Message) -> anyhow::Result<()> {
    let message = serde_json::to_string(message)?;
    let notify = sqlx::query("SELECT pg_notify($1, $2)")
        .bind(CHANNEL)
        .bind(message);
    timeout(TOLD_WITHIN, notify.execute(pool)).await??;
    Ok(())
}

/// Where a worker hears what is about its read model.
struct Ear {
    model: &'static str,
    version: u16,
    heard: mpsc::Sender<(Generation, Positions)>,
}

impl Ear {
    fn of(line: &Line) -> Self {
        Self {
            model: line.model,
            version: line.version,
            heard: line.heard.clone(),
        }
    }

    fn hears(&self, message: &Message) {
        if (self.model, self.version) == (message.model.as_str(), message.version) {
            // One that has too much to hear already looks at the checkpoints soon.
            drop(
                self.heard
                    .try_send((Generation(message.generation), message.positions.clone())),
            );
        }
    }
}

async fn hear(pool: &PgPool, ears: &[Ear]) {
    loop {
        if let Err(error) = listen(pool, ears).await {
            tracing::debug!(%error, "how far other processes are is not heard");
        }
        tokio::time::sleep(AWAY_PAUSE).await;
    }
}

async fn listen(pool: &PgPool, ears: &[Ear]) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    loop {
        let heard = listener.recv().await?;
        match serde_json::from_str::<Message>(heard.payload()) {
            Ok(message) => ears.iter().for_each(|ear| ear.hears(&message)),
            Err(error) => tracing::warn!(%error, "not what processes tell each other"),
        }
    }
}
