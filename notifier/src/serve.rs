//! `notifier serve`: starts everything, in the order in which it is needed, and waits for the end.

use std::sync::Arc;

use event_log::Schemas;
use events::Topic;
use runtime::{
    data_keys::{DataKeys, WrappingKey},
    health::Health,
    http::{self, Listener},
    postgres, retry, shutdown, telemetry, trace,
    vital::Vital,
};
use tokio_util::sync::CancellationToken;

use crate::{
    channel::{self, SendGrid, Twilio, twilio::Account},
    courier::{Courier, Provider},
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
    telemetry::init("notifier", &settings.log_filter)?;
    trace::start("notifier", None, &settings.tracing)?;
    let limits = settings.sending.limits()?;
    let texts = Arc::new(Texts::load()?);
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
    vital.spawn(
        "notifier",
        notify(settings, limits, texts, wrapping_key, health, shutdown),
    );
    let ended = vital.run().await;
    trace::finish().await;
    ended
}

/// Waits for what is needed, then follows and sends.
async fn notify(
    settings: Settings,
    limits: SendLimits,
    texts: Arc<Texts>,
    wrapping_key: WrappingKey,
    health: Health,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let pool = postgres::pool(&settings.postgres, "notifier");
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
    for provider in providers(&settings)? {
        let channel = provider.channel();
        let sender = Sender {
            pool: pool.clone(),
            courier: Courier {
                provider,
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
        let worker = Worker {
            topic,
            kafka: settings.kafka.clone(),
            schemas: Arc::clone(&schemas),
            pool: pool.clone(),
            wake: wake.clone(),
            component: health.component(format!("feed {}", topic.name())),
            shutdown: shutdown.clone(),
        };
        vital.spawn(format!("feed {}", topic.name()), worker.run());
    }
    vital.run().await
}

fn providers(settings: &Settings) -> anyhow::Result<[Provider; 2]> {
    let bounds = settings.sending.bounds();
    let client = channel::client(bounds)?;
    let with = &settings.providers;
    let sendgrid = SendGrid::new(
        client.clone(),
        bounds,
        &with.sendgrid_api_url,
        with.sendgrid_api_key.expose().to_owned(),
        with.mail_from.clone(),
    );
    let account = Account {
        sid: with.twilio_account_sid.clone(),
        auth_token: with.twilio_auth_token.expose().to_owned(),
    };
    let twilio = Twilio::new(
        client,
        bounds,
        &with.twilio_api_url,
        account,
        with.sms_from.clone(),
        &with.public_url,
    );
    Ok([Provider::SendGrid(sendgrid), Provider::Twilio(twilio)])
}
