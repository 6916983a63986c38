//! Who sends a request: access tokens, and nothing else that could be taken for one.

mod cutoffs;
mod keys;

use std::{
    future::{Ready, ready},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use actix_web::{FromRequest, HttpRequest, dev::Payload, http::header::AUTHORIZATION, web};
use events::{Actor, StreamVersion, ids::UserId, user::Role};
use jsonwebtoken::{Algorithm, Validation};
use moka::sync::Cache;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::problem::Problem;
use cutoffs::Cutoffs;

pub use cutoffs::follow as follow_cutoffs;
pub use keys::{KeyRing, PublicKey, Signed};

/// `iss` and `aud` of every access token.
pub const TOKEN_PARTY: &str = "orderlog";
/// `typ` in the header of every access token (RFC 9068), which nothing else that is signed has.
pub const TOKEN_TYPE: &str = "at+jwt";
/// How far the clocks of signer and checker may be apart.
pub const CLOCK_SKEW: Duration = Duration::from_secs(30);
/// Checked tokens that are remembered, so that a signature is checked once and not ten thousand times a second.
const TOKENS_REMEMBERED_MAX: u64 = 50_000;

/// Who sends a request. As a handler's argument it refuses requests without a valid token
/// (`not-authenticated`); the [`TokenVerifier`] must be in the application's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The signed-in user.
    pub user_id: UserId,
    /// What the token lets him do.
    pub role: Role,
}

impl Caller {
    /// The caller of a request, for handlers that decide themselves when to ask.
    pub fn of_request(request: &HttpRequest) -> Result<Self, Problem> {
        let verifier = request.app_data::<web::Data<TokenVerifier>>();
        let verifier = verifier.ok_or_else(Problem::not_authenticated)?;
        let values = request.headers().get_all(AUTHORIZATION);
        verifier.caller(values.map(|value| value.to_str().ok()))
    }

    /// Whether he may do everything.
    pub fn is_admin(self) -> bool {
        self.role == Role::Admin
    }

    /// Whether what belongs to `owner` exists for him.
    pub fn may_see(self, owner: UserId) -> bool {
        self.is_admin() || owner == self.user_id
    }
}

impl From<Caller> for Actor {
    fn from(caller: Caller) -> Self {
        Self::User(caller.user_id, caller.role)
    }
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::of_request(request))
    }
}

/// What an access token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// [`TOKEN_PARTY`]
    pub iss: String,
    /// [`TOKEN_PARTY`]
    pub aud: String,
    /// The user.
    pub sub: UserId,
    /// His role when it was signed.
    pub role: Role,
    /// His stream's version when it was signed: a later change of role or password, or an erasure, cuts it off.
    /// Compared instead of times, so that of two things in the same instant the order is known.
    #[serde(default)]
    pub user_version: StreamVersion,
    /// When it was signed, in seconds since the epoch.
    pub iat: u64,
    /// From when it is valid.
    pub nbf: u64,
    /// Until when it is valid.
    pub exp: u64,
    /// Names this token.
    pub jti: uuid::Uuid,
}

/// What a token for this audience must say, whatever its type.
pub fn validation_for(audience: &str) -> Validation {
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_issuer(&[TOKEN_PARTY]);
    validation.set_audience(&[audience]);
    validation.set_required_spec_claims(&["iss", "aud", "sub", "exp", "nbf"]);
    validation.validate_nbf = true;
    validation.leeway = CLOCK_SKEW.as_secs();
    validation
}

/// Checks access tokens. Cheap to share; one per process.
pub struct TokenVerifier {
    keys: Arc<KeyRing>,
    validation: Validation,
    remembered: Cache<[u8; 32], Remembered>,
    cutoffs: Cutoffs,
}

#[derive(Clone, Copy)]
struct Remembered {
    caller: Caller,
    user_version: StreamVersion,
    not_before: u64,
    expires: u64,
    /// The generation of keys that it was checked with.
    generation: u64,
}

impl TokenVerifier {
    /// Accepts tokens signed with any of `keys`, as they are when the token comes.
    pub fn new(keys: Arc<KeyRing>) -> Self {
        Self {
            keys,
            validation: validation_for(TOKEN_PARTY),
            remembered: Cache::new(TOKENS_REMEMBERED_MAX),
            cutoffs: Cutoffs::default(),
        }
    }

    /// Whom the Authorization headers of a request speak for; values that are no text are `None`.
    pub fn caller<'h>(
        &self,
        values: impl Iterator<Item = Option<&'h str>>,
    ) -> Result<Caller, Problem> {
        bearer_token(values)
            .and_then(|token| self.verify(token))
            .ok_or_else(Problem::not_authenticated)
    }

    /// Whom a token speaks for; `None` for whatever is wrong with it.
    pub fn verify(&self, token: &str) -> Option<Caller> {
        let digest = Sha256::digest(token).into();
        let known = self.remembered.get(&digest);
        let known = known.filter(|known| known.generation == self.keys.generation());
        let known = match known {
            Some(known) => known,
            None => {
                let known = self.check(token)?;
                self.remembered.insert(digest, known);
                known
            }
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        let valid = now < known.expires + CLOCK_SKEW.as_secs()
            && now + CLOCK_SKEW.as_secs() >= known.not_before
            && !self
                .cutoffs
                .refuses(known.caller.user_id, known.user_version);
        valid.then_some(known.caller)
    }

    fn check(&self, token: &str) -> Option<Remembered> {
        let Signed { claims, generation } =
            self.keys
                .claims::<Claims>(token, TOKEN_TYPE, &self.validation)?;
        Some(Remembered {
            caller: Caller {
                user_id: claims.sub,
                role: claims.role,
            },
            user_version: claims.user_version,
            not_before: claims.nbf,
            expires: claims.exp,
            generation,
        })
    }
}

/// The one token of these Authorization headers.
pub(crate) fn bearer_token<'h>(
    mut values: impl Iterator<Item = Option<&'h str>>,
) -> Option<&'h str> {
    let (only, more) = (values.next()?, values.next());
    let (scheme, token) = only?.split_once(' ')?;
    (more.is_none() && scheme.eq_ignore_ascii_case("bearer")).then_some(token.trim())
}

#[cfg(test)]
mod tests;
