//! Signing access tokens: ES256, short-lived, named after their key. (Checking them is `runtime::auth`.)

use std::{
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, ensure};
use events::{StreamVersion, ids::UserId, user::Role};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use p256::pkcs8::{DecodePrivateKey, EncodePublicKey, LineEnding};
use parking_lot::RwLock;
use runtime::{
    auth::{Claims, PublicKey, TOKEN_PARTY, TOKEN_TYPE},
    secret_file,
};
use uuid::Uuid;

use super::IdentityError;

/// How long an access token is valid.
pub const ACCESS_TOKEN_SECONDS: u64 = 15 * 60;

/// Signs access tokens.
pub struct TokenSigner(RwLock<Arc<SigningKey>>);

/// What tokens are signed with.
pub(super) struct SigningKey {
    /// Names the key.
    pub header: Header,
    /// The key.
    pub secret: EncodingKey,
}

impl TokenSigner {
    /// The private key of a PEM file (PKCS#8, P-256). Its public half must be among `published`, or nobody
    /// would accept what it signs.
    pub fn from_file(path: &Path, published: &[PublicKey]) -> anyhow::Result<Self> {
        let pem = secret_file::text(path)?;
        let signer = Self::from_pem(&pem).with_context(|| {
            format!(
                "{}: must hold a P-256 private key as PKCS#8 in PEM form",
                path.display()
            )
        })?;
        ensure!(
            published
                .iter()
                .any(|key| Some(&key.id) == signer.key().header.kid.as_ref()),
            "{}: its public half is not in TOKEN_PUBLIC_KEY_FILE",
            path.display()
        );
        Ok(signer)
    }

    pub(crate) fn from_pem(pem: &str) -> anyhow::Result<Self> {
        // Neither error shows anything of the key.
        let secret = p256::SecretKey::from_pkcs8_pem(pem.trim()).context("not such a key")?;
        let public = PublicKey::from_pem(&secret.public_key().to_public_key_pem(LineEnding::LF)?)?;
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some(TOKEN_TYPE.to_owned());
        header.kid = Some(public.id);
        let secret = EncodingKey::from_ec_pem(pem.trim().as_bytes())?;
        Ok(Self(RwLock::new(Arc::new(SigningKey { header, secret }))))
    }

    /// The key as it is now.
    pub(super) fn key(&self) -> Arc<SigningKey> {
        Arc::clone(&self.0.read())
    }

    /// From now on signs with the key of `other`.
    pub fn exchange(&self, other: &Self) {
        let key = other.key();
        *self.0.write() = key;
    }

    /// A token for a user who has just shown who he is, and who was at this version when that was checked.
    pub fn sign(
        &self,
        user_id: UserId,
        role: Role,
        user_version: StreamVersion,
    ) -> Result<String, IdentityError> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_err(|_| IdentityError::Broken("the clock is before 1970".into()))?
            .as_secs();
        let claims = Claims {
            iss: TOKEN_PARTY.to_owned(),
            aud: TOKEN_PARTY.to_owned(),
            sub: user_id,
            role,
            user_version,
            iat: now,
            nbf: now,
            exp: now + ACCESS_TOKEN_SECONDS,
            jti: Uuid::now_v7(),
        };
        let key = self.key();
        encode(&key.header, &claims, &key.secret)
            .map_err(|error| IdentityError::Broken(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use p256::{elliptic_curve::Generate, pkcs8::EncodePrivateKey};
    use runtime::auth::{Caller, KeyRing, TokenVerifier};

    #[test]
    fn what_it_signs_is_accepted_under_its_own_key_only() {
        let (ours, other) = (p256::SecretKey::generate(), p256::SecretKey::generate());
        let public = |key: &p256::SecretKey| {
            PublicKey::from_pem(&key.public_key().to_public_key_pem(LineEnding::LF).unwrap())
                .unwrap()
        };
        let signer = TokenSigner::from_pem(&ours.to_pkcs8_pem(LineEnding::LF).unwrap()).unwrap();
        let user_id = UserId(Uuid::from_u128(7));
        let token = signer.sign(user_id, Role::Admin, 1).unwrap();
        let verified = |key| {
            let keys = KeyRing::new(&[public(key)]).unwrap();
            TokenVerifier::new(Arc::new(keys)).verify(&token)
        };
        assert_eq!(
            verified(&ours),
            Some(Caller {
                user_id,
                role: Role::Admin
            })
        );
        assert_eq!(verified(&other), None);
    }
}
