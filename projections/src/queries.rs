//! What every query does before and after it asks its read model: waiting for the caller's own writes,
//! opening personal data, and saying in one place what a failure means to a client.

use std::{
    collections::HashMap,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{
    HttpResponse,
    http::header::{ETAG, HeaderMap},
};
use event_log::lookup::Lookup;
use events::{StreamVersion, Topic, ids::UserId, sealed::DataKey};
use runtime::{
    consistency::ConsistencyToken, data_keys::DataKeys, etag, problem::Problem,
    representation::NotShown,
};
use serde::Serialize;
use tokio::sync::OnceCell;

use crate::{
    horizon::Horizon,
    live::Served,
    measures,
    model::{Generation, Model},
    orders::{
        history::{Archive, PastError},
        store::OrderStore,
    },
    query::{bounded, patience},
    source::Log,
    store::{StoreError, within},
    users::store::UserStore,
};

/// How long a database may take for a query.
const QUERY_TIMEOUT_S: u64 = 5;
const RETRY_AFTER_S: u32 = 1;

/// What a query wants to be true before it is answered: read before anything else of the request is judged.
pub struct After {
    token: Option<ConsistencyToken>,
    patience: Duration,
}

impl After {
    /// The consistency token and the patience that a message gives; as [`After::of_request`].
    pub fn given(token: Option<&str>, wait: Option<Duration>) -> Result<Self, Problem> {
        let token = token.map(str::parse).transpose();
        Ok(Self {
            token: token.map_err(|_| Problem::invalid_consistency_token())?,
            patience: bounded(wait),
        })
    }

    /// The consistency token of a request and how long it may be waited for; the problem
    /// `invalid-consistency-token` where it is none.
    pub fn of_request(headers: &HeaderMap) -> Result<Self, Problem> {
        Ok(Self {
            token: ConsistencyToken::of_request(headers)?,
            patience: patience(headers),
        })
    }
}

/// Everything that queries are answered from.
#[derive(Clone)]
pub struct Queries {
    /// The users.
    pub users: UserStore,
    /// The orders.
    pub orders: OrderStore,
    /// The keys that personal data is opened with.
    pub keys: DataKeys,
    /// How far the users are.
    pub users_served: Served,
    /// How far the orders are.
    pub orders_served: Served,
    /// How far the log of users reaches.
    pub users_horizon: Horizon,
    /// How far the log of orders reaches.
    pub orders_horizon: Horizon,
    /// The log, once it is open.
    pub log: Arc<OnceCell<Log>>,
    /// The way to single records of it, once it was asked for.
    pub lookup: Arc<OnceCell<Lookup>>,
}

impl Queries {
    /// The generation of `model` to ask, once the read model of the request's consistency token has got
    /// there. A token of the other topic is waited for just the same.
    pub async fn generation(&self, model: Model, after: After) -> Result<Generation, Problem> {
        if let Some(token) = after.token {
            let mut served = match token.topic {
                Topic::Users => self.users_served.clone(),
                Topic::Orders => self.orders_served.clone(),
            };
            let mut horizon = match token.topic {
                Topic::Users => self.users_horizon.clone(),
                Topic::Orders => self.orders_horizon.clone(),
            };
            let begun = Instant::now();
            let reached = tokio::select! {
                biased;
                reached = served.reached(token, after.patience) => {
                    reached.map_err(|_| Problem::not_yet_consistent(RETRY_AFTER_S))
                }
                () = horizon.is_short_of(token) => Err(Problem::invalid_consistency_token()),
            };
            measures::waited(reached.is_ok(), begun.elapsed());
            reached?;
        }
        let served = match model {
            Model::Users => &self.users_served,
            Model::Orders => &self.orders_served,
        };
        let view = served.view().ok_or_else(|| {
            Problem::unavailable("the read model is not there yet", RETRY_AFTER_S)
        })?;
        Ok(view.generation)
    }

    /// The way to what the log says of single orders.
    pub async fn archive(&self, generation: Generation) -> Result<Archive<'_>, Problem> {
        let unavailable = || Problem::unavailable("the log cannot be read yet", RETRY_AFTER_S);
        let log = self.log.get().ok_or_else(unavailable)?;
        let start = async || Lookup::start(&log.kafka, &log.schemas);
        let lookup = self.lookup.get_or_try_init(start).await.map_err(|error| {
            tracing::error!(%error, "the log cannot be looked into");
            unavailable()
        })?;
        Ok(Archive {
            store: &self.orders,
            generation,
            lookup,
            partitions: log.partitions,
        })
    }

    /// The data key of a user, where there still is one.
    pub async fn key(&self, user_id: UserId) -> Result<Option<DataKey>, Problem> {
        // Boxed: the cache's future is large.
        let key = Box::pin(self.keys.get(user_id));
        ask(async { key.await.map_err(StoreError::from) }).await
    }

    /// The data keys of several users; those without one are left out.
    pub async fn keys_of(&self, user_ids: &[UserId]) -> Result<HashMap<UserId, DataKey>, Problem> {
        let keys = Box::pin(self.keys.get_many(user_ids));
        ask(async { keys.await.map_err(StoreError::from) }).await
    }
}

/// An item of this version with its tag; to a client that has it already, only that. What is not whole any more, as personal
/// data was erased, is no longer what the client has.
pub fn known_or(
    headers: &HeaderMap,
    version: StreamVersion,
    is_whole: bool,
    item: impl Serialize,
) -> HttpResponse {
    let tag = (ETAG, etag::of_version(version));
    if is_whole && etag::is_known(headers, version) {
        return HttpResponse::NotModified().insert_header(tag).finish();
    }
    HttpResponse::Ok().insert_header(tag).json(item)
}

/// Asks a read model; when it does not answer, that is the problem `unavailable`.
pub async fn ask<T>(question: impl Future<Output = Result<T, StoreError>>) -> Result<T, Problem> {
    within(QUERY_TIMEOUT_S, question).await.map_err(|error| {
        tracing::warn!(%error, "a query could not be answered");
        Problem::unavailable("the read model cannot be reached", RETRY_AFTER_S)
    })
}

/// What an order was cannot be told now: the problem `unavailable`.
pub fn not_told(error: PastError) -> Problem {
    tracing::warn!(%error, "what an order was could not be told");
    Problem::unavailable("what is recorded of it cannot be reached", RETRY_AFTER_S)
}

/// Stored data that cannot be shown is a fault of ours, and repeating the query later is all a client can do.
pub fn not_shown(what: impl std::fmt::Display, error: NotShown) -> Problem {
    tracing::error!(%what, %error, "stored data cannot be shown");
    Problem::unavailable("what is stored cannot be shown", RETRY_AFTER_S)
}
