//! The schema registry: registering what is committed under `schemas/`, and knowing the schemas by their ids.
//! Everything registered is fetched at start, so that the registry may go away afterwards.

use std::{collections::HashMap, sync::Arc, time::Duration};

use events::{EventType, codec::WriterSchema};
use parking_lot::RwLock;
use schema_registry_converter::{
    async_impl::schema_registry::{
        SrSettings, get_all_versions, get_schema_by_id, get_schema_by_subject_and_version,
        post_schema,
    },
    error::SRCError,
    schema_registry_common::{SchemaType, SuppliedSchema},
};

use crate::{KafkaSettings, record::Unreadable};

const REGISTRY_TIMEOUT: Duration = Duration::from_secs(10);
/// What two versions of a schema must be to each other.
const COMPATIBILITY: &str = "FULL_TRANSITIVE";

/// Why the registry is of no use.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// It could not be reached or did not answer as a registry does.
    #[error("schema registry: {0}")]
    Unreachable(String),
    /// It refused a schema, for instance as incompatible.
    #[error("schema registry refused {subject}: {reason}")]
    Refused {
        /// The subject.
        subject: String,
        /// What it said.
        reason: String,
    },
    /// A committed schema is not registered.
    #[error("{0} is not registered in this version: run `command-api prepare`")]
    NotRegistered(String),
    /// A registered schema is no Avro schema that we can read.
    #[error("schema {id} of {subject} cannot be read: {reason}")]
    Unreadable {
        /// The subject.
        subject: String,
        /// Its id.
        id: u32,
        /// What is wrong with it.
        reason: String,
    },
}

/// The schemas that values are written and read with.
pub struct Schemas {
    settings: SrSettings,
    runtime: tokio::runtime::Handle,
    own: HashMap<EventType, u32>,
    writers: RwLock<HashMap<u32, Arc<WriterSchema>>>,
}

impl Schemas {
    /// Fetches every version of every event's schema.
    pub async fn load(settings: &KafkaSettings) -> Result<Arc<Self>, RegistryError> {
        let settings = connect(settings)?;
        let mut own = HashMap::new();
        let mut writers = HashMap::new();
        for &event_type in EventType::ALL {
            let subject = event_type.subject();
            let committed = parsed(event_type.schema_json());
            // A subject that is not there yet is told from an unreachable registry by the listing's answer.
            for version in get_all_versions(&settings, subject.clone())
                .await
                .map_err(not_registered(&subject))?
            {
                let registered =
                    get_schema_by_subject_and_version(&settings, &subject, Some(version))
                        .await
                        .map_err(unreachable)?;
                let writer =
                    registered
                        .schema
                        .parse()
                        .map_err(
                            |error: events::codec::CodecError| RegistryError::Unreadable {
                                subject: subject.clone(),
                                id: registered.id,
                                reason: error.to_string(),
                            },
                        )?;
                writers.insert(registered.id, Arc::new(writer));
                if parsed(&registered.schema) == committed {
                    own.insert(event_type, registered.id);
                }
            }
            if !own.contains_key(&event_type) {
                return Err(RegistryError::NotRegistered(subject));
            }
        }
        let runtime = tokio::runtime::Handle::current();
        Ok(Arc::new(Self {
            settings,
            runtime,
            own,
            writers: RwLock::new(writers),
        }))
    }

    /// The id under which the committed schema of `event_type` is registered.
    pub(crate) fn own(&self, event_type: EventType) -> Option<u32> {
        self.own.get(&event_type).copied()
    }

    /// The schema of that id. One that came after the start is fetched: call it outside of the async threads.
    pub(crate) fn writer(&self, id: u32) -> Result<Arc<WriterSchema>, Unreadable> {
        if let Some(writer) = self.writers.read().get(&id) {
            return Ok(Arc::clone(writer));
        }
        let registered = self
            .runtime
            .block_on(get_schema_by_id(id, &self.settings))
            .map_err(|error| {
                let reason = format!("schema {id}: {error}");
                match is_unknown(&error) {
                    true => Unreadable::Wrong(reason),
                    false => Unreadable::RegistryAway(reason),
                }
            })?;
        let writer: Arc<WriterSchema> = Arc::new(
            registered
                .schema
                .parse()
                .map_err(|error| format!("schema {id}: {error}"))?,
        );
        self.writers.write().insert(id, Arc::clone(&writer));
        Ok(writer)
    }
}

/// Demands [`COMPATIBILITY`] and registers every committed schema. Registering again changes nothing.
pub async fn register(settings: &KafkaSettings) -> Result<usize, RegistryError> {
    let http = reqwest::Client::builder()
        .timeout(REGISTRY_TIMEOUT)
        .build()
        .map_err(|error| RegistryError::Unreachable(error.to_string()))?;
    http.put(format!(
        "{}/config",
        settings.schema_registry_url.trim_end_matches('/')
    ))
    .json(&serde_json::json!({ "compatibility": COMPATIBILITY }))
    .send()
    .await
    .and_then(reqwest::Response::error_for_status)
    .map_err(|error| RegistryError::Unreachable(error.to_string()))?;
    let settings = connect(settings)?;
    for event_type in EventType::ALL {
        let schema = SuppliedSchema::new(
            Some(event_type.record_name()),
            SchemaType::Avro,
            event_type.schema_json().to_owned(),
        );
        let subject = event_type.subject();
        post_schema(&settings, subject.clone(), schema)
            .await
            .map_err(|error| {
                if error.retriable {
                    unreachable(error)
                } else {
                    RegistryError::Refused {
                        subject,
                        reason: error.to_string(),
                    }
                }
            })?;
    }
    Ok(EventType::ALL.len())
}

fn connect(settings: &KafkaSettings) -> Result<SrSettings, RegistryError> {
    SrSettings::new_builder(
        settings
            .schema_registry_url
            .trim_end_matches('/')
            .to_owned(),
    )
    .set_timeout(REGISTRY_TIMEOUT)
    .build()
    .map_err(unreachable)
}

fn unreachable(error: SRCError) -> RegistryError {
    RegistryError::Unreachable(error.to_string())
}

fn not_registered(subject: &str) -> impl FnOnce(SRCError) -> RegistryError {
    let subject = subject.to_owned();
    move |error| {
        if is_unknown(&error) {
            RegistryError::NotRegistered(subject)
        } else {
            unreachable(error)
        }
    }
}

/// Whether the registry answered that it does not know what was asked for. The library gives the status only as text.
fn is_unknown(error: &SRCError) -> bool {
    error.error.contains("status 404")
}

fn parsed(json: &str) -> Option<serde_json::Value> {
    serde_json::from_str(json).ok()
}
