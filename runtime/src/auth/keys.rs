//! The public keys that tokens are checked with, and how they are exchanged while they are in use.

use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context, ensure};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use p256::{elliptic_curve::sec1::ToSec1Point, pkcs8::DecodePublicKey};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::secret_file;

/// Longer than any token of ours.
const TOKEN_BYTES_MAX: usize = 2_048;
const PEM_BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const COORDINATE_BYTES: usize = 32;

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

/// The public keys that tokens may be signed with now. One per process; whoever checks tokens shares it.
pub struct KeyRing {
    keys: RwLock<Vec<(PublicKey, DecodingKey)>>,
    /// Grows with each exchange of the keys.
    generation: AtomicU64,
}

/// What a token says whose signature was checked.
pub struct Signed<Claims> {
    /// What it says.
    pub claims: Claims,
    /// The generation of keys that it was checked with: with those of another it has to be checked again.
    pub generation: u64,
}

impl KeyRing {
    /// These keys, until they are exchanged.
    pub fn new(keys: &[PublicKey]) -> anyhow::Result<Self> {
        Ok(Self {
            keys: RwLock::new(with_decoding(keys)?),
            generation: AtomicU64::new(0),
        })
    }

    /// Exchanges the keys: from now on only what these have signed is good, whatever was checked before.
    pub fn renew(&self, keys: &[PublicKey]) -> anyhow::Result<()> {
        let renewed = with_decoding(keys)?;
        let mut keys = self.keys.write();
        *keys = renewed;
        // Under the lock: what is checked with the former keys is of the former generation.
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// The generation of the keys as they are now.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The keys as they are now.
    pub fn published(&self) -> Vec<PublicKey> {
        self.keys
            .read()
            .iter()
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// What a token of the type `typ` says; `None` for whatever is wrong with it.
    pub fn claims<Claims: DeserializeOwned>(
        &self,
        token: &str,
        typ: &str,
        validation: &Validation,
    ) -> Option<Signed<Claims>> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let header = decode_header(token).ok()?;
        if header.typ.as_deref() != Some(typ) || header.alg != Algorithm::ES256 {
            return None;
        }
        let (generation, key) = {
            let keys = self.keys.read();
            // The key is looked up among ours by its id; keys and addresses of keys in the header mean nothing.
            let named = |(key, _): &&(PublicKey, DecodingKey)| Some(&key.id) == header.kid.as_ref();
            let (_, key) = keys.iter().find(named)?;
            (self.generation(), key.clone())
        };
        let claims = decode::<Claims>(token, &key, validation).ok()?.claims;
        Some(Signed { claims, generation })
    }
}

fn with_decoding(keys: &[PublicKey]) -> anyhow::Result<Vec<(PublicKey, DecodingKey)>> {
    let keys = keys.iter().map(|key| {
        let decoding = DecodingKey::from_ec_components(&key.x, &key.y);
        Ok((key.clone(), decoding.context("token key")?))
    });
    keys.collect()
}
