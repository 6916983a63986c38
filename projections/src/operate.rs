//! What operators run by hand: rebuild, verify, status, show. Text for people on standard output.

use anyhow::Context;
use event_log::{Schemas, registry::RegistryError};
use runtime::{postgres, retry::Backoff};

use crate::{
    model::Model,
    orders::store::OrderStore,
    rebuild,
    settings::{Places, RebuildSettings, ShowSettings, StatusSettings, VerifySettings},
    source::Log,
    status,
    store::ReadModel,
    users::store::{Names, UserStore},
    verify,
};

const APPLICATION: &str = "projections by hand";
/// How often the schema registry is asked for the schemas at most.
const REGISTRY_ATTEMPTS_MAX: usize = 10;

/// `projections rebuild`
pub async fn rebuild(settings: &RebuildSettings) -> anyhow::Result<()> {
    let places = &settings.places;
    let (log, pool) = (
        log(places).await?,
        postgres::pool(&places.postgres, APPLICATION),
    );
    let model = settings.model;
    let say = move |line: String| println!("{model}: {line}");
    match model {
        Model::Users => rebuild::rebuild(&users(places), &log, &pool, say).await?,
        Model::Orders => rebuild::rebuild(&orders(places).await?, &log, &pool, say).await?,
    };
    Ok(())
}

/// `projections verify`: whether everything is equal.
pub async fn verify(settings: &VerifySettings) -> anyhow::Result<bool> {
    let places = &settings.places;
    let log = log(places).await?;
    let mut equal = true;
    for model in settings
        .model
        .map_or(Model::ALL.to_vec(), |model| vec![model])
    {
        equal &= match model {
            Model::Users => verify_one(&users(places), &log).await?,
            Model::Orders => verify_one(&orders(places).await?, &log).await?,
        };
    }
    Ok(equal)
}

async fn verify_one<M: ReadModel>(model: &M, log: &Log) -> anyhow::Result<bool> {
    let generation = model.pointer().await?.live;
    let report = verify::verify(model, log, generation).await?;
    let verdict = match report.different {
        0 => "equal to a fold of the log".to_owned(),
        different => format!("{different} streams DIFFER from a fold of the log"),
    };
    println!(
        "{} {generation}: {} streams, {} events folded, {verdict}, content {}",
        M::MODEL,
        report.streams,
        report.events,
        report.content
    );
    for difference in &report.differences {
        println!("  {difference}");
    }
    if report.different > report.differences.len() {
        println!("  and {} more", report.different - report.differences.len());
    }
    Ok(report.is_equal())
}

/// `projections status`
pub async fn status(settings: &StatusSettings) -> anyhow::Result<()> {
    let places = &settings.places;
    let statuses = [
        status::status(&users(places), &places.kafka)
            .await
            .context("users")?,
        status::status(&orders(places).await?, &places.kafka)
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
    Ok(model.newest(model.pointer().await?.live, limit).await?)
}

fn users(places: &Places) -> UserStore {
    UserStore::new(
        postgres::pool(&places.postgres, APPLICATION),
        Names::default(),
    )
}

async fn orders(places: &Places) -> anyhow::Result<OrderStore> {
    Ok(OrderStore::new(places.mongo.database().await?))
}

async fn log(places: &Places) -> anyhow::Result<Log> {
    // Fails only when a provider is installed already, which is as good.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let kafka = places.kafka.clone();
    let mut backoff = Backoff::default();
    for _ in 1..REGISTRY_ATTEMPTS_MAX {
        match Schemas::load(&kafka).await {
            Ok(schemas) => return Ok(Log { kafka, schemas }),
            // It may have lost its database a moment ago.
            Err(error @ RegistryError::Unreachable(_)) => {
                eprintln!("projections: {error}; trying again");
                tokio::time::sleep(backoff.next_pause()).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let schemas = Schemas::load(&kafka).await?;
    Ok(Log { kafka, schemas })
}
