//! Commands: one set of rules for whoever asks, through whatever door. A door (HTTP, gRPC) says who asks, on which
//! conditions and for what; here that is read, sealed and decided, and what became of it is given back to be shown.
//!
//! Nothing in here knows how a request came in or how its answer goes out.

pub mod accounts;
pub mod error;
pub mod idempotency;
pub mod orders;
pub mod read;
pub mod sessions;
mod shown;
pub mod users;

use std::sync::{Arc, OnceLock};

use events::{
    TraceContext,
    ids::{CorrelationId, UserId},
    timestamp::Timestamp,
};
use runtime::{auth::KeyRing, data_keys::DataKeys, etag::IfMatch, problem::Problem};
use serde::Serialize;
use time::OffsetDateTime;

use crate::{
    identity::{
        consequences::Drawn, credentials::Credentials, email_hash::EmailHasher,
        passwords::Passwords, sessions::Sessions, tokens::TokenSigner,
    },
    shard::{Command, IdempotencyRequest, KeyName, Request, Resource, Shards},
};

pub use shown::{ChangedOrder, ChangedUser, Done, Registered};

/// All that commands need.
pub struct Api {
    /// The way to the writers.
    pub shards: Shards,
    /// What personal data is sealed with.
    pub data_keys: DataKeys,
    /// Password hashes.
    pub credentials: Credentials,
    /// Sessions.
    pub sessions: Sessions,
    /// How far it has been done what follows from changes of users.
    pub consequences: Drawn,
    /// The threads that hash passwords.
    pub passwords: Passwords,
    /// What stands for e-mail addresses in the log.
    pub email_hasher: EmailHasher,
    /// Signs access tokens.
    pub token_signer: Arc<TokenSigner>,
    /// The keys that access tokens are checked with, for everyone to see.
    pub keys: Arc<KeyRing>,
}

/// All that commands need, once it is there: a process listens before it can serve, and says what it waits for.
pub type Slot = OnceLock<Arc<Api>>;

/// What a request says besides who asks for what.
#[derive(Debug)]
pub struct Context {
    /// The versions that the stream must be at.
    pub expected: Option<IfMatch>,
    /// The client's name for this intent.
    pub idempotency_key: Option<String>,
    /// The intent across all that it causes.
    pub correlation_id: CorrelationId,
    /// The caller's place in a trace.
    pub traceparent: Option<TraceContext>,
    /// How long its body was: what it weighs while it is under way.
    pub bytes: usize,
}

impl Context {
    /// What names this request, if its client did: sent by `caller` to `resource`, asking for `asked`.
    fn name(
        &mut self,
        caller: Option<UserId>,
        resource: Resource,
        asked: &impl Serialize,
    ) -> Result<Option<IdempotencyRequest>, Problem> {
        let Some(key) = self.idempotency_key.take() else {
            return Ok(None);
        };
        let fingerprint = idempotency::fingerprint(asked)?;
        let name = KeyName {
            caller,
            resource,
            key,
        };
        Ok(Some(IdempotencyRequest { name, fingerprint }))
    }

    /// A command on the conditions of this request.
    fn request(self, command: Command, idempotency: Option<IdempotencyRequest>) -> Request {
        Request {
            bytes: self.bytes,
            command,
            expected: self.expected,
            idempotency,
            correlation_id: self.correlation_id,
            traceparent: self.traceparent,
        }
    }
}

/// The id that a request names; what is no id names nothing (`not-found`).
fn id_of<T: std::str::FromStr>(text: &str) -> Result<T, Problem> {
    text.parse().map_err(|_| Problem::not_found())
}

/// The time that commands carry.
fn now() -> Timestamp {
    OffsetDateTime::now_utc().into()
}
