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
    auth::{self, KeyRing, TokenVerifier},
    data_keys::{DataKeys, WrappingKey},
    grpc::Side,
    health::Health,
    http::Listener,
    one_line::one_line,
    postgres,
    reload::Hangups,
    retry::until_ready,
    scrape, shutdown, telemetry, trace,
    vital::Vital,
};
use tokio_util::sync::CancellationToken;

use crate::{
    commands::{Api, Slot},
    identity::{
        consequences::Consequences,
        credentials::Credentials,
        email_hash::EmailHasher,
        node_tokens::{NodeSigner, NodeVerifier},
        passwords::Passwords,
        sessions::Sessions,
        token_keys::TokenKeys,
        tokens::TokenSigner,
    },
    settings::{PrepareSettings, ServeSettings, Settings, Task},
    shard::{Node, Ownerships, Shards},
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
    let outcome = match telemetry::init(SERVICE, &settings.log) {
        Ok(()) => run(settings.task).await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let error = one_line(error.chain());
            tracing::error!(error, "ended by a failure");
            eprintln!("{SERVICE}: {error}");
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
        Task::VerifyState {
            kafka,
            command_api_state_dir,
        } => shard::verify(kafka, command_api_state_dir).await,
    }
}

async fn serve(settings: ServeSettings) -> anyhow::Result<()> {
    let (shutdown, hangups) = (shutdown::on_signal()?, Hangups::expect()?);
    trace::start(
        SERVICE,
        Some(&settings.command_api_instance),
        &settings.tracing,
    )?;
    let health = Health::default();
    // Entered before anybody can ask, until the shards enter it themselves: a node whose parts have said nothing yet is not ready,
    // nor is one that ends because a topic is not as it must be.
    health.component(shard::OWNERSHIP);
    // Wrong secrets end the process before it touches anything.
    let token_keys = TokenKeys::read(&settings.keys)?;
    let tokens = web::Data::new(TokenVerifier::new(Arc::clone(&token_keys.ring)));
    LazyLock::force(&measures::MEASURES);
    let of_nodes = NodeVerifier::new(Arc::clone(&token_keys.ring));
    let parts = Parts::read(&settings, &token_keys)?;
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
        "reload",
        hangups.follow(move || token_keys.read_anew(), shutdown.clone()),
    );
    let left = CancellationToken::new();
    vital.spawn("nodes", {
        let methods = grpc::nodes::methods(slot.clone().into_inner(), of_nodes);
        let address = settings.command_api_node_listen;
        let served = runtime::grpc::serve_nodes(address, methods, left.clone());
        let shutdown = shutdown.clone();
        async move {
            served.await?;
            // It ends when the shards are given up; when that is because of a failure, they say so.
            shutdown.cancelled().await;
            Ok(())
        }
    });
    vital.spawn("shards", async move {
        // Others may forward to this node until the last shard is given up.
        let _left = left.drop_guard();
        own_shards(settings, parts, slot, health, shutdown, served).await
    });
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
    token_signer: Arc<TokenSigner>,
    keys: Arc<KeyRing>,
}

impl Parts {
    fn read(settings: &ServeSettings, token_keys: &TokenKeys) -> anyhow::Result<Self> {
        let keys = &settings.keys;
        let pool = postgres::pool(&settings.postgres, &settings.command_api_instance);
        let wrapping_key = WrappingKey::from_file(&keys.data_key_wrapping_key_file)?;
        Ok(Self {
            data_keys: DataKeys::new(pool.clone(), wrapping_key),
            pool,
            passwords: Passwords::start(&settings.passwords)?,
            email_hasher: EmailHasher::from_file(&keys.email_hash_key_file)?,
            token_signer: Arc::clone(&token_keys.signer),
            keys: Arc::clone(&token_keys.ring),
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
    let joined = join(&settings, &parts.token_signer, &health, &shutdown);
    let Some((schemas, shards, mut ownerships)) = joined.await? else {
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
        keys: parts.keys,
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
    signer: &Arc<TokenSigner>,
    health: &Health,
    shutdown: &CancellationToken,
) -> anyhow::Result<Option<(Arc<Schemas>, Shards, Ownerships)>> {
    let address = settings.node_address()?;
    let node = || Node {
        instance: settings.command_api_instance.clone(),
        address: address.clone(),
        signer: NodeSigner::new(Arc::clone(signer), &settings.command_api_instance),
    };
    let (registry, kafka) = (health.component("registry"), health.component("kafka"));
    let schemas = until_ready(&registry, REGISTRY_HINT, shutdown, || {
        Schemas::load(&settings.kafka)
    });
    let Some(schemas) = schemas.await else {
        return Ok(None);
    };
    let joined = until_ready(&kafka, KAFKA_HINT, shutdown, || async {
        let (kafka, schemas) = (settings.kafka.clone(), Arc::clone(&schemas));
        let joined = Shards::join(kafka, schemas, node(), &settings.state, health.clone());
        waited_for(joined.await)
    });
    let joined = joined.await.transpose().context("topics")?;
    Ok(joined.map(|(shards, ownerships)| (schemas, shards, ownerships)))
}

/// A topic that is wrong is not waited for, as everything else is.
fn waited_for<T>(outcome: Result<T, LogError>) -> Result<Result<T, LogError>, LogError> {
    match outcome {
        Err(error @ LogError::Topic(_)) => Ok(Err(error)),
        Ok(done) => Ok(Ok(done)),
        Err(error) => Err(error),
    }
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
        waited_for(topics::prepare(&settings.kafka, &settings.topics).await)
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
