//! What operators run by hand: prepare, rebuild, rollback, verify, status, show. Text for people on standard output.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context;
use event_log::{KafkaSettings, Schemas, registry::RegistryError, topics::partition_count};
use events::{
    Topic,
    ids::{OrderId, StreamId, UserId},
};
use runtime::{postgres, retry::Backoff};
use serde::Serialize;
use sqlx::PgPool;

use crate::{
    inspect,
    lock::LockError,
    model::{FORMER_VERSION_KEPT, Model},
    orders::store::OrderStore,
    rebuild::{self, Plan},
    settings::{
        CancelSettings, InspectSettings, Kind, Places, PrepareSettings, RebuildSettings,
        RollbackSettings, ShowSettings, SkipSettings, SkippedSettings, StatusSettings,
        VerifySettings,
    },
    skip::{self, Decision},
    source::Log,
    status,
    store::{ReadModel, StoreError},
    users::store::{Names, UserStore},
    verify::{self, Report},
};

const APPLICATION: &str = "projections by hand";
/// How often it is looked whether somebody else has prepared what is needed.
const PREPARED_BY_OTHERS_EVERY: Duration = Duration::from_secs(2);
/// How often the schema registry is asked for the schemas at most.
const REGISTRY_ATTEMPTS_MAX: usize = 10;

/// `projections rebuild`
pub async fn rebuild(settings: &RebuildSettings) -> anyhow::Result<()> {
    let places = &settings.places;
    let (log, pool) = (log(places).await?, pool(places));
    let plan = Plan {
        keep: settings.keep.duration(),
        anew: settings.anew,
    };
    match settings.model {
        Model::Users => rebuild_one(&users(places), &log, &pool, plan).await,
        Model::Orders => rebuild_one(&orders(places).await?, &log, &pool, plan).await,
    }
}

async fn rebuild_one<M: ReadModel>(
    model: &M,
    log: &Log,
    pool: &PgPool,
    plan: Plan,
) -> anyhow::Result<()> {
    rebuild::rebuild(model, log, pool, plan, &mut say(M::MODEL)).await?;
    Ok(())
}

/// `projections prepare`
pub async fn prepare(settings: &PrepareSettings) -> anyhow::Result<()> {
    let places = &settings.places;
    let (log, pool) = (log(places).await?, pool(places));
    prepare_one(&users(places), &log, &pool).await?;
    prepare_one(&orders(places).await?, &log, &pool).await
}

async fn prepare_one<M: ReadModel>(model: &M, log: &Log, pool: &PgPool) -> anyhow::Result<()> {
    let plan = Plan {
        keep: FORMER_VERSION_KEPT,
        anew: false,
    };
    model.prepare().await?;
    loop {
        match model.live().await {
            Ok(live) => {
                let (model, version) = (M::MODEL, M::VERSION);
                println!("{model}: {live} is there for version {version} of the fold");
                return Ok(());
            }
            Err(StoreError::NotBuilt(..)) => {}
            Err(error) => return Err(error.into()),
        }
        match rebuild_one(model, log, pool, plan).await {
            Err(error) if matches!(error.downcast_ref(), Some(LockError::Held { .. })) => {
                println!("{}: {error:#}; waiting", M::MODEL);
                tokio::time::sleep(PREPARED_BY_OTHERS_EVERY).await;
            }
            rebuilt => return rebuilt,
        }
    }
}

/// `projections cancel`
pub async fn cancel(settings: &CancelSettings) -> anyhow::Result<()> {
    let places = &settings.places;
    let mut say = say(settings.model);
    let dropped = match settings.model {
        Model::Users => rebuild::cancel(&users(places), &mut say).await?,
        Model::Orders => rebuild::cancel(&orders(places).await?, &mut say).await?,
    };
    if dropped.is_empty() {
        say("nothing is being filled".to_owned());
    }
    Ok(())
}

/// `projections rollback`
pub async fn rollback(settings: &RollbackSettings) -> anyhow::Result<()> {
    let (places, to, keep) = (&settings.places, settings.to, settings.keep.duration());
    let (log, pool) = (log(places).await?, pool(places));
    let mut say = say(settings.model);
    match settings.model {
        Model::Users => rebuild::rollback(&users(places), &log, &pool, to, keep, &mut say).await?,
        Model::Orders => {
            rebuild::rollback(&orders(places).await?, &log, &pool, to, keep, &mut say).await?
        }
    };
    Ok(())
}

fn say(model: Model) -> impl FnMut(String) + Send {
    move |line| println!("{model}: {line}")
}

/// `projections verify`: whether everything is equal.
pub async fn verify(settings: &VerifySettings) -> anyhow::Result<bool> {
    let places = &settings.places;
    let log = log(places).await?;
    let models = settings
        .model
        .map_or(Model::ALL.to_vec(), |model| vec![model]);
    let mut verified = BTreeMap::new();
    for model in models {
        let one = match model {
            Model::Users => verify_one(&users(places), &log).await?,
            Model::Orders => verify_one(&orders(places).await?, &log).await?,
        };
        if !settings.json {
            print!("{}", text_of(model, &one));
        }
        verified.insert(model.name(), one);
    }
    if settings.json {
        println!("{}", serde_json::to_string_pretty(&verified)?);
    }
    Ok(verified.values().all(|one| one.report.is_equal()))
}

/// A generation, and what comparing it with the log found.
#[derive(Serialize)]
struct Verified {
    generation: i32,
    #[serde(flatten)]
    report: Report,
}

async fn verify_one<M: ReadModel>(model: &M, log: &Log) -> anyhow::Result<Verified> {
    let generation = model.live().await?;
    let report = verify::verify(model, log, generation).await?;
    Ok(Verified {
        generation: generation.0,
        report,
    })
}

fn text_of(model: Model, verified: &Verified) -> String {
    let Verified { generation, report } = verified;
    let at: Vec<String> = report
        .at
        .iter()
        .map(|(partition, at)| format!("{partition}@{at}"))
        .collect();
    let mut text = format!(
        "{model} g{generation}: {} streams, {} events folded; {report} at {}, content {}\n",
        report.streams,
        report.events,
        at.join(" "),
        report.content
    );
    for difference in &report.differences {
        text += &format!("  {difference}\n");
    }
    let all = report.different + report.indexed_otherwise;
    if all > report.differences.len() {
        text += &format!("  and {} more\n", all - report.differences.len());
    }
    text
}

/// `projections inspect`
pub async fn inspect(settings: &InspectSettings) -> anyhow::Result<()> {
    let places = &settings.places;
    let log = log(places).await?;
    let found = match settings.kind {
        Kind::User => {
            let stream = StreamId::User(UserId(settings.id));
            inspect::inspect(&users(places), &log, stream).await?
        }
        Kind::Order => {
            let stream = StreamId::Order(OrderId(settings.id));
            inspect::inspect(&orders(places).await?, &log, stream).await?
        }
    };
    match settings.json {
        true => println!("{}", serde_json::to_string_pretty(&found)?),
        false => print!("{}", found.text()),
    }
    Ok(())
}

/// `projections status`
pub async fn status(settings: &StatusSettings) -> anyhow::Result<()> {
    let places = &settings.places;
    let log = match log(places).await {
        Ok(log) => Some(log),
        Err(error) => {
            eprintln!("projections: {error:#}; what records say is not looked at");
            None
        }
    };
    let statuses = [
        status::status(&users(places), &places.kafka, log.as_ref())
            .await
            .context("users")?,
        status::status(&orders(places).await?, &places.kafka, log.as_ref())
            .await
            .context("orders")?,
    ];
    if settings.json {
        println!("{}", status::json(&statuses)?);
    } else {
        print!("{}", status::table(&statuses));
    }
    Ok(())
}

/// `projections skip`
pub async fn skip(settings: &SkipSettings) -> anyhow::Result<()> {
    let (places, place) = (&settings.places, settings.place);
    let log = log(places).await?;
    let decision = Decision {
        operator: settings.operator.clone(),
        reason: settings.reason.clone(),
    };
    let record = match place.topic {
        Topic::Users => skip::skip(&users(places), &log, place, decision).await?,
        Topic::Orders => skip::skip(&orders(places).await?, &log, place, decision).await?,
    };
    println!(
        "{place} is set aside; it could not be applied: {}",
        record.error
    );
    if let Some(gap) = record.gap {
        println!("{} lacks version {} from now on", gap.stream, gap.version);
    }
    Ok(())
}

/// `projections skipped`
pub async fn skipped(settings: &SkippedSettings) -> anyhow::Result<()> {
    let places = &settings.places;
    let skipped = BTreeMap::from([
        (Topic::Users.name(), users(places).all_set_aside().await?),
        (
            Topic::Orders.name(),
            orders(places).await?.all_set_aside().await?,
        ),
    ]);
    if settings.json {
        println!("{}", serde_json::to_string_pretty(&skipped)?);
        return Ok(());
    }
    for (topic, records) in &skipped {
        for record in records {
            println!("{}", skip::text(topic, record));
        }
    }
    if skipped.values().all(Vec::is_empty) {
        println!("nothing is set aside");
    }
    Ok(())
}

/// `projections show`
pub async fn show(settings: &ShowSettings) -> anyhow::Result<()> {
    let ShowSettings {
        model,
        limit,
        places,
    } = settings;
    let newest = match model {
        Model::Users => newest(&users(places), *limit).await?,
        Model::Orders => newest(&orders(places).await?, *limit).await?,
    };
    for stored in newest {
        println!("{}", serde_json::to_string_pretty(&stored)?);
    }
    Ok(())
}

async fn newest<M: ReadModel>(model: &M, limit: u16) -> anyhow::Result<Vec<serde_json::Value>> {
    Ok(model.newest(model.live().await?, limit).await?)
}

fn pool(places: &Places) -> PgPool {
    postgres::pool(&places.postgres, APPLICATION)
}

fn users(places: &Places) -> UserStore {
    UserStore::new(pool(places), Names::default())
}

async fn orders(places: &Places) -> anyhow::Result<OrderStore> {
    let database = places.mongo.database().await?;
    Ok(OrderStore::new(database, &places.order_attribute_indexes.0))
}

async fn log(places: &Places) -> anyhow::Result<Log> {
    // Fails only when a provider is installed already, which is as good.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let kafka = places.kafka.clone();
    let schemas = schemas(&kafka).await?;
    let servers = &kafka.kafka_bootstrap_servers;
    let partitions = partition_count(&kafka).await.with_context(|| {
        format!("asking Kafka at {servers} (KAFKA_BOOTSTRAP_SERVERS), which must run")
    })?;
    Ok(Log {
        kafka,
        schemas,
        partitions,
    })
}

async fn schemas(kafka: &KafkaSettings) -> Result<Arc<Schemas>, RegistryError> {
    let mut backoff = Backoff::default();
    for _ in 1..REGISTRY_ATTEMPTS_MAX {
        match Schemas::load(kafka).await {
            // It may have lost its database a moment ago.
            Err(error @ RegistryError::Unreachable(_)) => {
                eprintln!("projections: {error}; trying again");
                tokio::time::sleep(backoff.next_pause()).await;
            }
            loaded => return loaded,
        }
    }
    Schemas::load(kafka).await
}
