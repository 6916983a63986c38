//! The peer: the same event stored by `cqrs-es` in Postgres, as its own documentation sets it up.

use std::{collections::HashMap, sync::Arc};

use actix_web::{HttpResponse, web};
use anyhow::Context;
use clap::Args;
use cqrs_es::{Aggregate, DomainEvent, event_sink::EventSink};
use events::order::OrderCreated;
use postgres_es::{PostgresCqrs, postgres_cqrs};
use serde::{Deserialize, Serialize};
use sqlx_of_postgres_es::{
    Executor,
    postgres::{PgConnectOptions, PgPool, PgPoolOptions},
};
use uuid::Uuid;

use super::order;

/// The table as `postgres-es` documents it.
const TABLES: &str = "CREATE TABLE events (
    aggregate_type text NOT NULL,
    aggregate_id text NOT NULL,
    sequence bigint CHECK (sequence >= 0) NOT NULL,
    event_type text NOT NULL,
    event_version text NOT NULL,
    payload json NOT NULL,
    metadata json NOT NULL,
    PRIMARY KEY (aggregate_type, aggregate_id, sequence)
)";

/// Where Postgres is.
#[derive(Debug, Args)]
pub struct Settings {
    /// Where Postgres is, and an account that may make databases.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,
    /// Connections to it. The default of `postgres-es` is 10.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=150))]
    connections: u32,
    /// Answers before the commit is on disk: quicker, and a crash of Postgres loses what was answered last.
    #[arg(long)]
    asynchronous_commit: bool,
}

/// The store, in a database of its own that goes with it.
#[derive(Clone)]
pub struct Store {
    cqrs: Arc<PostgresCqrs<Order>>,
    pool: PgPool,
    admin: PgPool,
    database: &'static str,
}

impl Store {
    /// Makes the database.
    pub async fn open(settings: &Settings) -> anyhow::Result<Self> {
        let options: PgConnectOptions = settings.database_url.parse()?;
        let admin = PgPoolOptions::new().max_connections(1);
        let admin = admin.connect_with(options.clone()).await?;
        let database = match settings.asynchronous_commit {
            true => "benchmark_cqrs_es_async",
            false => "benchmark_cqrs_es",
        };
        // A run that was killed may have left it.
        for statement in [drop_it(database), format!("CREATE DATABASE {database}")] {
            admin
                .execute(statement.as_str())
                .await
                .context("the database could not be made")?;
        }
        let options = options.database(database);
        let options = match settings.asynchronous_commit {
            true => options.options([("synchronous_commit", "off")]),
            false => options,
        };
        let pool = PgPoolOptions::new()
            .max_connections(settings.connections)
            .connect_with(options)
            .await?;
        pool.execute(TABLES).await?;
        let cqrs = Arc::new(postgres_cqrs(pool.clone(), Vec::new(), ()));
        Ok(Self {
            cqrs,
            pool,
            admin,
            database,
        })
    }

    /// Deletes the database.
    pub async fn close(self) {
        self.pool.close().await;
        if let Err(error) = self.admin.execute(drop_it(self.database).as_str()).await {
            eprintln!("peers: {} stays: {error}", self.database);
        }
    }

    async fn create(&self, order: OrderCreated) -> anyhow::Result<()> {
        let id = order.order_id.to_string();
        let metadata = HashMap::from([
            ("time".to_owned(), order.occurred_at.to_string()),
            ("command_id".to_owned(), Uuid::now_v7().to_string()),
            ("correlation_id".to_owned(), Uuid::now_v7().to_string()),
            ("actor".to_owned(), format!("user:{}", order.customer_id)),
        ]);
        self.cqrs
            .execute_with_metadata(&id, order, metadata)
            .await
            .map_err(|error| anyhow::anyhow!("not stored: {error}"))
    }
}

fn drop_it(database: &str) -> String {
    format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)")
}

/// An order as the framework sees it.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Order {
    created: Option<OrderCreated>,
}

/// The event of Orderlog with the same fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Created(OrderCreated);

/// There is an order of this id already.
#[derive(Debug, thiserror::Error)]
#[error("there is an order of this id")]
struct IsThere;

impl DomainEvent for Created {
    fn event_type(&self) -> String {
        "order_created".to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

impl Aggregate for Order {
    const TYPE: &'static str = "order";
    type Command = OrderCreated;
    type Event = Created;
    type Error = IsThere;
    type Services = ();

    async fn handle(
        &mut self,
        command: OrderCreated,
        (): &(),
        sink: &EventSink<Self>,
    ) -> Result<(), IsThere> {
        if self.created.is_some() {
            return Err(IsThere);
        }
        sink.write(Created(command), self).await;
        Ok(())
    }

    fn apply(&mut self, Created(order): Created) {
        self.created = Some(order);
    }
}

/// Takes orders.
pub fn routes(config: &mut web::ServiceConfig, store: &Store) {
    let store = web::Data::new(store.clone());
    config.service(order::at_orders(create).app_data(store));
}

async fn create(body: web::Bytes, store: web::Data<Store>) -> HttpResponse {
    let order = match order::created(&body) {
        Ok(order) => order,
        Err(error) => return order::unreadable(&error),
    };
    match store.create(order.clone()).await {
        Ok(()) => order::answer(&order),
        Err(error) => order::broken(&error),
    }
}
