//! What a process waits for: named components, each ready or waiting for a stated reason.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use actix_web::{
    HttpResponse,
    http::{StatusCode, header},
    web,
};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::openapi::{Answer, Description, Endpoint, Tag};

/// The state of all components of a process; clones are the same thing.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<States>>);

#[derive(Debug, Default)]
struct States {
    by_name: BTreeMap<String, State>,
    entered: u64,
}

#[derive(Debug)]
struct State {
    /// Which component this is of those that had the name.
    number: u64,
    waiting: Option<String>,
}

/// One component's place in [`Health`]; clones are the same thing. Once another has entered under its name, or it was
/// removed, it says nothing any more.
#[derive(Debug, Clone)]
pub struct Component {
    health: Health,
    name: String,
    number: u64,
}

impl Health {
    /// Enters a component in place of one of the same name; it waits ("starting") until it says that it is ready.
    pub fn component(&self, name: impl Into<String>) -> Component {
        let name = name.into();
        let mut states = self.states();
        states.entered += 1;
        let number = states.entered;
        let state = State {
            number,
            waiting: Some("starting".to_owned()),
        };
        states.by_name.insert(name.clone(), state);
        drop(states);
        Component {
            health: self.clone(),
            name,
            number,
        }
    }

    /// Whether no component waits.
    pub fn is_ready(&self) -> bool {
        let states = self.states();
        states.by_name.values().all(|state| state.waiting.is_none())
    }

    /// The components that wait, with their reasons, in the order of their names.
    pub fn waiting(&self) -> Vec<(String, String)> {
        let states = self.states();
        states
            .by_name
            .iter()
            .filter_map(|(name, state)| Some((name.clone(), state.waiting.clone()?)))
            .collect()
    }

    fn states(&self) -> MutexGuard<'_, States> {
        // A panic elsewhere leaves the map whole: each change is one insertion.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Component {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// It does its work.
    pub fn ready(&self) {
        self.say(None);
    }

    /// It cannot do its work, for this reason; told to whoever asks, so no secrets in it.
    pub fn waiting(&self, reason: impl Into<String>) {
        self.say(Some(reason.into()));
    }

    /// It is no longer part of the process.
    pub fn remove(&self) {
        let mut states = self.health.states();
        if let Some(state) = states.by_name.get(&self.name)
            && state.number == self.number
        {
            states.by_name.remove(&self.name);
        }
    }

    fn say(&self, waiting: Option<String>) {
        let mut states = self.health.states();
        if let Some(state) = states.by_name.get_mut(&self.name)
            && state.number == self.number
        {
            state.waiting = waiting;
        }
    }
}

/// How a service is.
#[derive(Serialize, ToSchema)]
struct Readiness {
    /// `alive`, `ready` or `waiting`.
    status: &'static str,
    /// What it waits for.
    waiting: Vec<Waiting>,
}

/// What a service waits for.
#[derive(Serialize, ToSchema)]
struct Waiting {
    /// The part that is not ready.
    component: String,
    /// Why.
    reason: String,
}

/// `/healthz` (200 while the process lives) and `/readyz` (200, or 503 with what it waits for). The [`Health`] must be
/// in the application's data.
pub(crate) fn endpoints() -> [Endpoint; 2] {
    [
        Endpoint::get("/healthz", web::to(healthz), || {
            Description::new("getHealth", Tag::Service, "Says that the service lives").answer(
                Answer::json::<Readiness>(
                    StatusCode::OK,
                    "It lives.",
                    json!({"status": "alive", "waiting": []}),
                ),
            )
        }),
        Endpoint::get("/readyz", web::to(readyz), || {
            let waiting = json!([{"component": "kafka", "reason": "connection refused"}]);
            Description::new(
                "getReadiness",
                Tag::Service,
                "Says whether the service can do its work, and what it waits for",
            )
            .answer(Answer::json::<Readiness>(
                StatusCode::OK,
                "It can.",
                json!({"status": "ready", "waiting": []}),
            ))
            .answer(
                Answer::json::<Readiness>(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "It waits for something.",
                    json!({"status": "waiting", "waiting": waiting}),
                )
                .header("Retry-After"),
            )
        }),
    ]
}

async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(Readiness {
        status: "alive",
        waiting: Vec::new(),
    })
}

async fn readyz(health: web::Data<Health>) -> HttpResponse {
    let waiting: Vec<_> = health
        .waiting()
        .into_iter()
        .map(|(component, reason)| Waiting { component, reason })
        .collect();
    if waiting.is_empty() {
        HttpResponse::Ok().json(Readiness {
            status: "ready",
            waiting,
        })
    } else {
        HttpResponse::ServiceUnavailable()
            .insert_header((header::RETRY_AFTER, "1"))
            .json(Readiness {
                status: "waiting",
                waiting,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_when_no_component_waits() {
        let health = Health::default();
        let (kafka, postgres) = (health.component("kafka"), health.component("postgres"));
        assert!(!health.is_ready());
        kafka.ready();
        postgres.waiting("connection refused");
        assert_eq!(
            health.waiting(),
            [("postgres".into(), "connection refused".into())]
        );
        postgres.remove();
        assert!(health.is_ready());
    }
}
