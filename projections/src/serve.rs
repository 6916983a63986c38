//! `projections serve`: the workers, the queries, and the lag, until told to end.

use std::sync::Arc;

use actix_web::web;
use events::Topic;
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
    described, grpc, horizon, indexes, lag, live, measures,
    news::{self, Colleagues},
    orders::store::OrderStore,
    queries::Queries,
    retention,
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
    let database = settings.places.mongo.database().await?;
    let orders = OrderStore::new(database, &settings.places.order_attribute_indexes.0);
    let ((users_live, users_served), (orders_live, orders_served)) =
        (live::channel(), live::channel());
    let (users_lookout, users_horizon) = horizon::horizon();
    let (orders_lookout, orders_horizon) = horizon::horizon();
    let opened = Arc::new(OnceCell::new());
    let queries = Queries {
        users: users.clone(),
        orders: orders.clone(),
        keys: DataKeys::new(pool.clone(), wrapping_key),
        users_served: users_served.clone(),
        orders_served: orders_served.clone(),
        users_horizon,
        orders_horizon,
        log: Arc::clone(&opened),
        lookup: Arc::default(),
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
        orders_served.clone(),
        shutdown.clone(),
    );
    let kafka = places.kafka.clone();
    let users_lookout = users_lookout.run(Topic::Users, kafka.clone(), shutdown.clone());
    let orders_lookout = orders_lookout.run(Topic::Orders, kafka, shutdown.clone());
    let orders_indexes = indexes::make(orders.clone(), orders_served, shutdown.clone());
    let users_kept = retention::keep(users.clone(), shutdown.clone());
    let orders_kept = retention::keep(orders.clone(), shutdown.clone());
    let log = LogOpener {
        places: Arc::clone(&places),
        kafka: health.component("kafka"),
        registry: health.component("registry"),
        log: opened,
    };
    let users_colleagues = Colleagues::of::<UserStore>();
    let orders_colleagues = Colleagues::of::<OrderStore>();
    let all_colleagues = vec![users_colleagues.clone(), orders_colleagues.clone()];
    let progress = news::pass_on(pool.clone(), all_colleagues, shutdown.clone());
    let users = Worker {
        model: users,
        colleagues: users_colleagues,
        log: log.clone(),
        live: users_live,
        component: health.component("users in postgres"),
        share: health.component("partitions of users"),
        health: health.clone(),
        start_hint: postgres::START_HINT,
    };
    let orders = Worker {
        model: orders,
        colleagues: orders_colleagues,
        log,
        live: orders_live,
        component: health.component("orders in mongodb"),
        share: health.component("partitions of orders"),
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
    vital.spawn("progress of other processes", progress);
    vital.spawn("lag of users", users_lag);
    vital.spawn("lag of orders", orders_lag);
    vital.spawn("end of the log of users", users_lookout);
    vital.spawn("end of the log of orders", orders_lookout);
    vital.spawn("indexes of orders", orders_indexes);
    vital.spawn("generations of users", users_kept);
    vital.spawn("generations of orders", orders_kept);
    let ended = vital.run().await;
    trace::finish().await;
    ended
}
