//! `notifier serve`: starts everything, in the order in which it is needed, and waits for the end.

use std::{collections::BTreeMap, sync::Arc};

use event_log::Schemas;
use events::Topic;
use runtime::{
    data_keys::{DataKeys, WrappingKey},
    health::Health,
    http::{self, Listener},
    postgres,
    reload::Hangups,
    retry, shutdown, telemetry, trace,
    vital::Vital,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    channel::Route,
    courier::Courier,
    lag, measures, providers,
    sender::{SendLimits, Sender},
    settings::Settings,
    store,
    texts::Texts,
    worker::{Wake, Worker},
};

/// Threads that answer health checks and metrics.
const HTTP_WORKERS: usize = 1;

/// Follows the log and sends until SIGTERM or SIGINT.
///
/// # Errors
/// When a setting makes no sense, the address is taken, or a vital task ends.
pub async fn serve(settings: Settings) -> anyhow::Result<()> {
    telemetry::init("notifier", &settings.log)?;
    let hangups = Hangups::expect()?;
    trace::start("notifier", None, &settings.tracing)?;
    measures::enter();
    let limits = settings.sending.limits()?;
    let texts = Arc::new(Texts::load()?);
    let routes = providers::routes(&settings.providers, &settings.sending)?.map(Arc::new);
    routes.iter().for_each(Route::measure);
    let wrapping_key = WrappingKey::from_file(&settings.data_key_wrapping_key_file)?;
    let shutdown = shutdown::on_signal()?;
    let health = Health::default();
    let mut vital = Vital::new(shutdown.clone());
    let listener = Listener {
        address: settings.listen,
        workers: HTTP_WORKERS,
    };
    let answers = http::serve_apart(listener, health.clone(), shutdown.clone(), |_| {});
    vital.spawn("http", answers);
    vital.spawn("reload", hangups.follow(|| Ok(()), shutdown.clone()));
    vital.spawn(
        "notifier",
        notify(
            settings,
            limits,
            routes,
            texts,
            wrapping_key,
            health,
            shutdown,
        ),
    );
    let ended = vital.run().await;
    trace::finish().await;
    ended
}

/// Waits for what is needed, then follows and sends.
async fn notify(
    settings: Settings,
    limits: SendLimits,
    routes: [Arc<Route>; 2],
    texts: Arc<Texts>,
    wrapping_key: WrappingKey,
    health: Health,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let pool = postgres::pool(&settings.postgres, "notifier");
    postgres::measure(&pool);
    let (ledger, registry) = (health.component("postgres"), health.component("registry"));
    let migrate = || store::migrate(&pool);
    if retry::until_ready(&ledger, postgres::START_HINT, &shutdown, migrate)
        .await
        .is_none()
    {
        return Ok(());
    }
    let hint = "scripts/stack start registry, and command-api prepare";
    let load = || Schemas::load(&settings.kafka);
    let Some(schemas) = retry::until_ready(&registry, hint, &shutdown, load).await else {
        return Ok(());
    };
    let wake = Wake::default();
    let mut vital = Vital::new(shutdown.clone());
    let keys = DataKeys::new(pool.clone(), wrapping_key);
    for route in routes {
        let channel = route.channel();
        let sender = Sender {
            pool: pool.clone(),
            courier: Courier {
                route,
                texts: Arc::clone(&texts),
                keys: keys.clone(),
            },
            schedule: settings.sending.schedule(),
            limits,
            wake: Arc::clone(wake.of(channel)),
            component: health.component(format!("sender {}", channel.name())),
            shutdown: shutdown.clone(),
        };
        vital.spawn(format!("sender {}", channel.name()), sender.run());
    }
    for topic in Topic::ALL {
        let (reached, told) = watch::channel(BTreeMap::new());
        let worker = Worker {
            topic,
            kafka: settings.kafka.clone(),
            schemas: Arc::clone(&schemas),
            pool: pool.clone(),
            wake: wake.clone(),
            reached,
            component: health.component(format!("feed {}", topic.name())),
            shutdown: shutdown.clone(),
        };
        vital.spawn(format!("feed {}", topic.name()), worker.run());
        let lag = lag::report(topic, settings.kafka.clone(), told, shutdown.clone());
        vital.spawn(format!("lag of {}", topic.name()), lag);
    }
    vital.run().await
}
