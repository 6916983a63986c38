//! Who sends a request: access tokens, and nothing else that could be taken for one.

mod cutoffs;

use std::{
    future::{Ready, ready},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use actix_web::{FromRequest, HttpRequest, dev::Payload, http::header::AUTHORIZATION, web};
use anyhow::{Context, ensure};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use events::{Actor, StreamVersion, ids::UserId, user::Role};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use moka::sync::Cache;
use p256::{elliptic_curve::sec1::ToSec1Point, pkcs8::DecodePublicKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{problem::Problem, secret_file};
use cutoffs::Cutoffs;

pub use cutoffs::follow as follow_cutoffs;

/// `iss` and `aud` of every access token.
pub const TOKEN_PARTY: &str = "orderlog";
/// `typ` in the header of every access token (RFC 9068), which nothing else that is signed has.
pub const TOKEN_TYPE: &str = "at+jwt";
/// How far the clocks of signer and checker may be apart.
const CLOCK_SKEW: Duration = Duration::from_secs(30);
/// Longer than any token of ours.
const TOKEN_BYTES_MAX: usize = 2_048;
/// Checked tokens that are remembered, so that a signature is checked once and not ten thousand times a second.
const TOKENS_REMEMBERED_MAX: u64 = 50_000;
const PEM_BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const COORDINATE_BYTES: usize = 32;

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

/// A public key of the ES256 key pair that tokens are signed with.
#[derive(Clone)]
pub struct PublicKey {
    /// `kid`: the key's RFC 7638 thumbprint, so that signer and checkers agree on it without configuration.
    pub id: String,
    /// The first coordinate, as a JWK has it.
    pub x: String,
    /// The second coordinate, as a JWK has it.
    pub y: String,
}

impl PublicKey {
    /// Every key of a PEM file with one or more `PUBLIC KEY` blocks: the signing key's and, while keys are
    /// being changed, former ones.
    pub fn read_all(path: &Path) -> anyhow::Result<Vec<Self>> {
        let text = secret_file::text(path)?;
        let blocks = text
            .match_indices(PEM_BEGIN)
            .map(|(start, _)| text.get(start..).unwrap_or_default());
        let keys: Vec<Self> = blocks
            .map(|block| {
                let end = block
                    .find("-----END")
                    .and_then(|end| Some(end + block.get(end..)?.find('\n')? + 1));
                Self::from_pem(block.get(..end.unwrap_or(block.len())).unwrap_or_default())
            })
            .collect::<anyhow::Result<_>>()
            .with_context(|| {
                format!(
                    "{}: must hold P-256 public keys in PEM form",
                    path.display()
                )
            })?;
        ensure!(
            !keys.is_empty(),
            "{}: holds no public key in PEM form",
            path.display()
        );
        Ok(keys)
    }

    /// A key in PEM form (SPKI).
    pub fn from_pem(pem: &str) -> anyhow::Result<Self> {
        let key = p256::PublicKey::from_public_key_pem(pem.trim())?;
        let point = key.to_sec1_point(false);
        let bytes = point.as_bytes();
        let coordinates = bytes
            .get(1..)
            .unwrap_or_default()
            .split_at_checked(COORDINATE_BYTES);
        let (x, y) = coordinates.context("not an uncompressed point")?;
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        // RFC 7638: the required members, in this order, without blanks.
        let thumbprint = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        Ok(Self {
            id: URL_SAFE_NO_PAD.encode(Sha256::digest(thumbprint)),
            x,
            y,
        })
    }
}

/// Checks access tokens. Cheap to share; one per process.
pub struct TokenVerifier {
    keys: Vec<(String, DecodingKey)>,
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
}

impl TokenVerifier {
    /// Accepts tokens signed with any of `keys`.
    pub fn new(keys: &[PublicKey]) -> anyhow::Result<Self> {
        let keys = keys.iter().map(|key| {
            Ok((
                key.id.clone(),
                DecodingKey::from_ec_components(&key.x, &key.y).context("token key")?,
            ))
        });
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_issuer(&[TOKEN_PARTY]);
        validation.set_audience(&[TOKEN_PARTY]);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp", "nbf"]);
        validation.validate_nbf = true;
        validation.leeway = CLOCK_SKEW.as_secs();
        Ok(Self {
            keys: keys.collect::<anyhow::Result<_>>()?,
            validation,
            remembered: Cache::new(TOKENS_REMEMBERED_MAX),
            cutoffs: Cutoffs::default(),
        })
    }

    /// Accepts tokens signed with any key of a PEM file.
    pub fn from_file(path: &Path) -> anyhow::Result<Self> {
        Self::new(&PublicKey::read_all(path)?)
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
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let digest = Sha256::digest(token).into();
        let known = match self.remembered.get(&digest) {
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
        let header = decode_header(token).ok()?;
        if header.typ.as_deref() != Some(TOKEN_TYPE) || header.alg != Algorithm::ES256 {
            return None;
        }
        // The key is looked up among ours by its id; keys and addresses of keys in the header mean nothing.
        let (_, key) = self
            .keys
            .iter()
            .find(|(id, _)| Some(id) == header.kid.as_ref())?;
        let claims = decode::<Claims>(token, key, &self.validation).ok()?.claims;
        Some(Remembered {
            caller: Caller {
                user_id: claims.sub,
                role: claims.role,
            },
            user_version: claims.user_version,
            not_before: claims.nbf,
            expires: claims.exp,
        })
    }
}

fn bearer_token<'h>(mut values: impl Iterator<Item = Option<&'h str>>) -> Option<&'h str> {
    let (only, more) = (values.next()?, values.next());
    let (scheme, token) = only?.split_once(' ')?;
    (more.is_none() && scheme.eq_ignore_ascii_case("bearer")).then_some(token.trim())
}

#[cfg(test)]
mod tests;
