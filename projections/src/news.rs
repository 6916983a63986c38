//! How processes that share a read model's partitions tell each other that they have got further, so that a query that waits
//! for a point is answered wherever it waits: over a channel of Postgres (`LISTEN`, `NOTIFY`). It is a hint and no more: how far
//! the read model is, its own checkpoints say. What is lost on the way they make up for, too: each process looks at them whenever
//! it looks for a new generation.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use sqlx::{
    PgPool,
    postgres::{PgListener, PgPoolOptions},
};
use tokio::{sync::Notify, time::timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::store::ReadModel;

const CHANNEL: &str = "projections_progress";
/// How long Postgres may take to pass something on.
const TOLD_WITHIN: Duration = Duration::from_secs(5);
/// Pause after Postgres was found to be away.
const AWAY_PAUSE: Duration = Duration::from_secs(1);
/// After so long without a word it is listened anew: a connection can be lost without a sign.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// One to listen and one to tell, besides those of the service.
const CONNECTIONS: u32 = 2;

/// What a worker has of the other processes of its read model. Clones are the same thing.
#[derive(Debug, Clone)]
pub struct Colleagues {
    /// The read model and the version of its fold.
    about: Arc<str>,
    told: Arc<Notify>,
    heard: Arc<Notify>,
}

impl Colleagues {
    /// Those of who works on `M`.
    pub fn of<M: ReadModel>() -> Self {
        Self {
            about: format!("{} {}", M::MODEL, M::VERSION).into(),
            told: Arc::default(),
            heard: Arc::default(),
        }
    }

    /// Tells them that there is more; waits for nobody.
    pub fn tell(&self) {
        self.told.notify_one();
    }

    /// Waits until one of them has told that there is more.
    pub async fn hear(&self) {
        self.heard.notified().await;
    }
}

/// The vital task: passes on what is told and heard until `shutdown` is cancelled. `pool` says where Postgres is.
pub async fn pass_on(
    pool: PgPool,
    all: Vec<Colleagues>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    // What a notification says need not be on disk before it is passed on.
    let options = pool.connect_options().as_ref().clone();
    let options = options.options([("synchronous_commit", "off")]);
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(TOLD_WITHIN)
        .connect_lazy_with(options);
    let own = Uuid::new_v4().to_string();
    let told = join_all(all.iter().map(|colleagues| tell(&pool, colleagues, &own)));
    let passing = async { tokio::join!(told, hear(&pool, &all, &own)) };
    shutdown.run_until_cancelled(passing).await;
    Ok(())
}

async fn tell(pool: &PgPool, colleagues: &Colleagues, own: &str) {
    loop {
        colleagues.told.notified().await;
        let notify = sqlx::query("SELECT pg_notify($1, $2)")
            .bind(CHANNEL)
            .bind(format!("{own} {}", colleagues.about));
        let told = timeout(TOLD_WITHIN, notify.execute(pool)).await;
        if !matches!(told, Ok(Ok(_))) {
            tracing::debug!(about = %colleagues.about, ?told, "other processes are not told that there is more");
            tokio::time::sleep(AWAY_PAUSE).await;
        }
    }
}

async fn hear(pool: &PgPool, all: &[Colleagues], own: &str) {
    loop {
        if let Err(error) = listen(pool, all, own).await {
            tracing::debug!(%error, "what other processes tell is not heard");
            tokio::time::sleep(AWAY_PAUSE).await;
        }
    }
}

/// Listens until nothing was heard for long.
async fn listen(pool: &PgPool, all: &[Colleagues], own: &str) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    while let Ok(heard) = timeout(SILENCE_MAX, listener.recv()).await {
        let heard = heard?;
        let Some((sender, about)) = heard.payload().split_once(' ') else {
            continue;
        };
        if sender == own {
            continue;
        }
        let concerned = all.iter().filter(|each| *each.about == *about);
        concerned.for_each(|each| each.heard.notify_one());
    }
    Ok(())
}
