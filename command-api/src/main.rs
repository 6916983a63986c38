//! The command-api: takes commands about users and orders, decides them, and appends what happened to the log.

mod admin;
mod commands;
mod erasure_report;
mod grpc;
mod http;
mod identity;
mod measures;
mod settings;
mod shard;

use std::{
    process::ExitCode,
    sync::{Arc, LazyLock},
    time::Duration,
};

use actix_web::web;
use anyhow::{Context, bail};
use clap::Parser;
use event_log::{
    LogError, Schemas,
    registry::{self, RegistryError},
    topics,
};
use runtime::{
    auth::{self, PublicKey, TokenVerifier},
    data_keys::{DataKeys, WrappingKey},
    grpc::Side,
    health::Health,
    http::Listener,
    postgres,
    retry::until_ready,
    scrape, shutdown, telemetry, trace,
    vital::Vital,
};
use tokio_util::sync::CancellationToken;

use crate::{
    commands::{Api, Slot},
    identity::{
        consequences::Consequences, credentials::Credentials, email_hash::EmailHasher,
        passwords::Passwords, sessions::Sessions, tokens::TokenSigner,
    },
    settings::{PrepareSettings, ServeSettings, Settings, Task},
    shard::{Ownerships, Shards},
};

const SERVICE: &str = "command-api";
/// How long `prepare` waits for what it needs.
const PREPARE_WITHIN: Duration = Duration::from_secs(90);
const KAFKA_HINT: &str = "scripts/stack start kafka, then command-api prepare";
const REGISTRY_HINT: &str = "scripts/stack start registry, then command-api prepare";
const TABLES_HINT: &str = "scripts/stack start postgres, then command-api prepare";

#[tokio::main]
async fn main() -> ExitCode {
    let settings = Settings::parse();
    let outcome = match telemetry::init(SERVICE, &settings.log_filter) {
        Ok(()) => run(settings.task).await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "ended by a failure");
            eprintln!("{SERVICE}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(task: Task) -> anyhow::Result<()> {
    match task {
        Task::Serve(settings) => serve(*settings).await,
        Task::Prepare(settings) => prepare(*settings).await,
        Task::CreateSecrets { dir } => identity::secrets::create(&dir),
        Task::CreateAdmin(settings) => admin::create(&settings).await,
        Task::ErasureReport(settings) => erasure_report::print(&settings).await,
    }
}

async fn serve(settings: ServeSettings) -> anyhow::Result<()> {
    let shutdown = shutdown::on_signal()?;
    trace::start(
        SERVICE,
        Some(&settings.command_api_instance),
        &settings.tracing,
    )?;
    let health = Health::default();
    // Wrong secrets end the process before it touches anything.
    let published = PublicKey::read_all(&settings.keys.token_public_key_file)?;
    let tokens = web::Data::new(TokenVerifier::new(&published)?);
    LazyLock::force(&measures::MEASURES);
    let parts = Parts::read(&settings, published)?;
    let cutoffs = auth::follow_cutoffs(
        tokens.clone().into_inner(),
        parts.pool.clone(),
        shutdown.clone(),
    );
    let passwords = parts.passwords.clone();
    scrape::before_each(move || passwords.report());
    postgres::measure(&parts.pool);

    let slot = web::Data::new(Slot::new());
    let served = CancellationToken::new();
    let mut vital = Vital::new(shutdown.clone());
    vital.spawn("HTTP and gRPC", {
        let listener = Listener {
            address: settings.command_api_listen,
            workers: usize::from(settings.command_api_workers),
        };
        let over_grpc = runtime::grpc::serve(
            settings.command_api_grpc_listen,
            Side::Commands,
            grpc::methods(slot.clone().into_inner(), tokens.clone().into_inner()),
            health.clone(),
            shutdown.clone(),
        );
        let slot = slot.clone();
        let routes = move |config: &mut web::ServiceConfig| http::routes(config, &slot, &tokens);
        let over_http = runtime::http::serve(listener, health.clone(), shutdown.clone(), routes);
        let served = served.clone().drop_guard();
        async move {
            // The shards are given up when both have answered their last request.
            let _served = served;
            tokio::try_join!(over_http, over_grpc).map(|_| ())
        }
    });
    vital.spawn("token cut-offs", cutoffs);
    vital.spawn(
        "shards",
        own_shards(settings, parts, slot, health, shutdown, served),
    );
    let ended = vital.run().await;
    trace::finish().await;
    ended
}

/// What can be had without anything else running.
struct Parts {
    pool: sqlx::PgPool,
    data_keys: DataKeys,
    passwords: Passwords,
    email_hasher: EmailHasher,
    token_signer: TokenSigner,
    published_keys: Vec<PublicKey>,
}

impl Parts {
    fn read(settings: &ServeSettings, published_keys: Vec<PublicKey>) -> anyhow::Result<Self> {
        let keys = &settings.keys;
        let pool = postgres::pool(&settings.postgres, &settings.command_api_instance);
        let wrapping_key = WrappingKey::from_file(&keys.data_key_wrapping_key_file)?;
        Ok(Self {
            data_keys: DataKeys::new(pool.clone(), wrapping_key),
            pool,
            passwords: Passwords::start(&settings.passwords)?,
            email_hasher: EmailHasher::from_file(&keys.email_hash_key_file)?,
            token_signer: TokenSigner::from_file(&keys.token_signing_key_file, &published_keys)?,
            published_keys,
        })
    }
}

/// Takes up the work when the log is there, and gives it up when the last request is answered. Orders that need no key
/// are served also while Postgres is away; that it is waited for is said in `health`.
async fn own_shards(
    settings: ServeSettings,
    parts: Parts,
    slot: web::Data<Slot>,
    health: Health,
    shutdown: CancellationToken,
    served: CancellationToken,
) -> anyhow::Result<()> {
    let tables = {
        let (pool, health, shutdown) = (parts.pool.clone(), health.clone(), shutdown.clone());
        async move { wait_for_tables(&pool, &health, &shutdown).await }
    };
    // Also while they are waited for, what goes wrong with the shards ends this.
    let mut tables = std::pin::pin!(tables);
    let mut serving = std::pin::pin!(serve_shards(
        settings, parts, slot, health, shutdown, served
    ));
    tokio::select! {
        outcome = &mut serving => outcome,
        _ = &mut tables => serving.await,
    }
}

async fn serve_shards(
    settings: ServeSettings,
    parts: Parts,
    slot: web::Data<Slot>,
    health: Health,
    shutdown: CancellationToken,
    served: CancellationToken,
) -> anyhow::Result<()> {
    let Some((schemas, shards, mut ownerships)) = join(&settings, &health, &shutdown).await else {
        return Ok(());
    };
    let (consequences, drawn) = Consequences::new(
        settings.kafka.clone(),
        schemas,
        parts.pool.clone(),
        parts.data_keys.clone(),
    );
    let reported = shards.clone();
    scrape::before_each(move || reported.report());
    let api = Api {
        shards,
        data_keys: parts.data_keys,
        credentials: Credentials::new(parts.pool.clone()),
        sessions: Sessions::new(parts.pool, settings.sessions),
        consequences: drawn,
        passwords: parts.passwords,
        email_hasher: parts.email_hasher,
        token_signer: parts.token_signer,
        published_keys: parts.published_keys,
    };
    slot.set(Arc::new(api)).ok();
    tokio::select! {
        reason = ownerships.failed() => bail!("no shard can be owned any more: {reason}"),
        never = consequences.run() => match never {},
        () = served.cancelled() => {}
    }
    // Requests are answered; now the shards go to whoever comes next.
    tokio::task::spawn_blocking(move || ownerships.leave())
        .await
        .context("leaving the group")
}

async fn join(
    settings: &ServeSettings,
    health: &Health,
    shutdown: &CancellationToken,
) -> Option<(Arc<Schemas>, Shards, Ownerships)> {
    let (registry, kafka) = (health.component("registry"), health.component("kafka"));
    let schemas = until_ready(&registry, REGISTRY_HINT, shutdown, || {
        Schemas::load(&settings.kafka)
    })
    .await?;
    let (shards, ownerships) = until_ready(&kafka, KAFKA_HINT, shutdown, || {
        Shards::join(
            settings.kafka.clone(),
            Arc::clone(&schemas),
            &settings.command_api_instance,
            health.clone(),
        )
    })
    .await?;
    Some((schemas, shards, ownerships))
}

async fn wait_for_tables(
    pool: &sqlx::PgPool,
    health: &Health,
    shutdown: &CancellationToken,
) -> Option<()> {
    until_ready(
        &health.component("postgres"),
        TABLES_HINT,
        shutdown,
        || async {
            sqlx::query("SELECT 1 FROM identity.data_keys, identity.followed WHERE false")
                .execute(pool)
                .await
                .map(|_| ())
        },
    )
    .await
}

/// Topics, schemas and tables. Waits for what is not there yet; what is wrong is not waited for.
async fn prepare(settings: PrepareSettings) -> anyhow::Result<()> {
    let (health, late) = (Health::default(), CancellationToken::new());
    let late_too = late.clone();
    let deadline = tokio::spawn(async move {
        tokio::time::sleep(PREPARE_WITHIN).await;
        late_too.cancel();
    });
    let done = prepare_all(&settings, &health, &late).await?;
    deadline.abort();
    if done.is_none() {
        let waiting = health
            .waiting()
            .into_iter()
            .map(|(name, reason)| format!("{name}: {reason}"));
        let waiting = waiting.collect::<Vec<_>>().join("; ");
        bail!(
            "gave up waiting after {} s: {waiting}",
            PREPARE_WITHIN.as_secs()
        );
    }
    tracing::info!("topics, schemas and identity tables are as they must be");
    Ok(())
}

/// `None` when `late` is cancelled before all is done.
async fn prepare_all(
    settings: &PrepareSettings,
    health: &Health,
    late: &CancellationToken,
) -> anyhow::Result<Option<()>> {
    let (kafka, registry) = (health.component("kafka"), health.component("registry"));
    let topics = until_ready(&kafka, KAFKA_HINT, late, || async {
        match topics::prepare(&settings.kafka, &settings.topics).await {
            Err(error @ LogError::Topic(_)) => Ok(Err(error)),
            Ok(()) => Ok(Ok(())),
            Err(error) => Err(error),
        }
    });
    let Some(topics) = topics.await else {
        return Ok(None);
    };
    topics.context("topics")?;
    let schemas = until_ready(&registry, REGISTRY_HINT, late, || async {
        match registry::register(&settings.kafka).await {
            Err(error @ RegistryError::Refused { .. }) => Ok(Err(error)),
            Ok(_) => Ok(Ok(())),
            Err(error) => Err(error),
        }
    });
    let Some(schemas) = schemas.await else {
        return Ok(None);
    };
    schemas.context("schemas")?;
    let (pool, postgres) = (
        postgres::pool(&settings.postgres, SERVICE),
        health.component("postgres"),
    );
    let Some(()) = postgres::wait_until_there(&pool, &postgres, late).await else {
        return Ok(None);
    };
    identity::migrate(&pool).await.context("identity tables")?;
    Ok(Some(()))
}
