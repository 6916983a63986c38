//! `projections serve`: the workers, the queries, and the lag, until told to end.

use std::sync::Arc;

use actix_web::web;
use runtime::{
    auth::{self, KeyRing, PublicKey, TokenVerifier},
    data_keys::{DataKeys, WrappingKey},
    grpc::Side,
    health::Health,
    http::{self, Listener},
    openapi, postgres,
    reload::Hangups,
    shutdown, telemetry, trace,
    vital::Vital,
};
use tokio::sync::OnceCell;

use crate::{
    described, grpc, lag, live, measures,
    orders::store::OrderStore,
    queries::Queries,
    settings::ServeSettings,
    users::store::{Names, UserStore},
    worker::{LogOpener, Worker},
};

const APPLICATION: &str = "projections";
const MONGODB_HINT: &str = "scripts/stack start mongodb";

/// Follows the log and answers queries until a signal comes.
pub async fn serve(settings: ServeSettings) -> anyhow::Result<()> {
    telemetry::init(APPLICATION, &settings.log)?;
    let hangups = Hangups::expect()?;
    trace::start(APPLICATION, None, &settings.tracing)?;
    measures::enter();
    let keys = PublicKey::read_all(&settings.token_public_key_file)?;
    let keys = Arc::new(KeyRing::new(&keys)?);
    let verifier = web::Data::new(TokenVerifier::new(Arc::clone(&keys)));
    let read_anew = move || keys.renew(&PublicKey::read_all(&settings.token_public_key_file)?);
    let wrapping_key = WrappingKey::from_file(&settings.data_key_wrapping_key_file)?;
    let pool = postgres::pool(&settings.places.postgres, APPLICATION);
    postgres::measure(&pool);
    let users = UserStore::new(pool.clone(), Names::default());
    let orders = OrderStore::new(settings.places.mongo.database().await?);
    let ((users_live, users_served), (orders_live, orders_served)) =
        (live::channel(), live::channel());
    let queries = Queries {
        users: users.clone(),
        orders: orders.clone(),
        keys: DataKeys::new(pool.clone(), wrapping_key),
        users_served: users_served.clone(),
        orders_served: orders_served.clone(),
    };
    let (health, shutdown) = (Health::default(), shutdown::on_signal()?);
    let places = Arc::new(settings.places);
    let users_lag = lag::report(
        users.clone(),
        places.kafka.clone(),
        users_served,
        shutdown.clone(),
    );
    let orders_lag = lag::report(
        orders.clone(),
        places.kafka.clone(),
        orders_served,
        shutdown.clone(),
    );
    let log = LogOpener {
        places: Arc::clone(&places),
        kafka: health.component("kafka"),
        registry: health.component("registry"),
        log: Arc::new(OnceCell::new()),
    };
    let users = Worker {
        model: users,
        log: log.clone(),
        live: users_live,
        component: health.component("users in postgres"),
        health: health.clone(),
        start_hint: postgres::START_HINT,
    };
    let orders = Worker {
        model: orders,
        log,
        live: orders_live,
        component: health.component("orders in mongodb"),
        health: health.clone(),
        start_hint: MONGODB_HINT,
    };
    let listener = Listener {
        address: settings.listen,
        workers: settings.http_workers.into(),
    };
    let queries = web::Data::new(queries);
    let methods = grpc::methods(queries.clone().into_inner(), verifier.clone().into_inner());
    let cutoffs = auth::follow_cutoffs(verifier.clone().into_inner(), pool, shutdown.clone());
    let routes = move |config: &mut web::ServiceConfig| {
        config.app_data(queries.clone()).app_data(verifier.clone());
        openapi::register(config, described::endpoints());
    };
    let mut vital = Vital::new(shutdown.clone());
    vital.spawn(
        "queries",
        http::serve_apart(listener, health.clone(), shutdown.clone(), routes),
    );
    vital.spawn(
        "queries over gRPC",
        runtime::grpc::serve_apart(
            settings.grpc_listen,
            Side::Queries,
            methods,
            health,
            shutdown.clone(),
        ),
    );
    vital.spawn("token cut-offs", cutoffs);
    vital.spawn("reload", hangups.follow(read_anew, shutdown.clone()));
    vital.spawn("users projection", users.run(shutdown.clone()));
    vital.spawn("orders projection", orders.run(shutdown.clone()));
    vital.spawn("lag of users", users_lag);
    vital.spawn("lag of orders", orders_lag);
    let ended = vital.run().await;
    trace::finish().await;
    ended
}
