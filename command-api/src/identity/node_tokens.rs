//! How nodes prove to each other that they are nodes: tokens of a minute, signed with the key that signs access
//! tokens, for another audience and of another type. Neither kind passes where the other is asked for.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Validation, encode};
use parking_lot::Mutex;
use runtime::auth::{CLOCK_SKEW, KeyRing, Signed, TOKEN_PARTY, validation_for};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{IdentityError, tokens::TokenSigner};

/// `aud` of every node's token: the public doors ask for [`TOKEN_PARTY`].
const AUDIENCE: &str = "orderlog-nodes";
/// `typ` in the header of every node's token.
const TOKEN_TYPE: &str = "node+jwt";
/// How long a node's token is valid.
const TOKEN_SECONDS: u64 = 60;
/// After so long a node signs itself a new one.
const RENEWED_AFTER: Duration = Duration::from_secs(20);
/// Checked tokens that are remembered: more than nodes show each other within a token's life.
const REMEMBERED_MAX: usize = 256;

/// What a node's token says.
#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    /// The node's name.
    sub: String,
    iat: u64,
    nbf: u64,
    exp: u64,
    jti: Uuid,
}

/// Signs this node's tokens.
pub struct NodeSigner {
    signer: Arc<TokenSigner>,
    instance: String,
    current: Mutex<Option<Current>>,
}

/// The token that this node shows now.
struct Current {
    token: String,
    since: Instant,
    /// The key that it was signed with.
    key_id: Option<String>,
}

impl NodeSigner {
    /// Signs for the node of this name, with the key of `signer`.
    pub fn new(signer: Arc<TokenSigner>, instance: &str) -> Self {
        Self {
            signer,
            instance: instance.to_owned(),
            current: Mutex::default(),
        }
    }

    /// A token that is good for a while yet.
    pub fn token(&self) -> Result<String, IdentityError> {
        let mut current = self.current.lock();
        let key = self.signer.key();
        if let Some(current) = &*current
            && current.since.elapsed() < RENEWED_AFTER
            && current.key_id == key.header.kid
        {
            return Ok(current.token.clone());
        }
        let now = now().ok_or_else(|| IdentityError::Broken("the clock is before 1970".into()))?;
        let claims = Claims {
            iss: TOKEN_PARTY.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: self.instance.clone(),
            iat: now,
            nbf: now,
            exp: now + TOKEN_SECONDS,
            jti: Uuid::now_v7(),
        };
        let mut header = key.header.clone();
        header.typ = Some(TOKEN_TYPE.to_owned());
        let token = encode(&header, &claims, &key.secret)
            .map_err(|error| IdentityError::Broken(error.to_string()))?;
        *current = Some(Current {
            token: token.clone(),
            since: Instant::now(),
            key_id: header.kid,
        });
        Ok(token)
    }
}

/// Checks the tokens of other nodes.
pub struct NodeVerifier {
    keys: Arc<KeyRing>,
    validation: Validation,
    remembered: Mutex<HashMap<[u8; 32], Remembered>>,
}

/// A token that was checked.
#[derive(Clone, Copy)]
struct Remembered {
    /// Until when it is good.
    expires: u64,
    /// The generation of keys that it was checked with.
    generation: u64,
}

impl NodeVerifier {
    /// Accepts tokens signed with any of `keys`, as they are when the token comes.
    pub fn new(keys: Arc<KeyRing>) -> Self {
        Self {
            keys,
            validation: validation_for(AUDIENCE),
            remembered: Mutex::default(),
        }
    }

    /// Whether this is the token of a node.
    pub fn accepts(&self, token: &str) -> bool {
        let Some(now) = now() else { return false };
        let digest: [u8; 32] = Sha256::digest(token).into();
        let remembered = self.remembered.lock().get(&digest).copied();
        if let Some(known) = remembered
            && known.generation == self.keys.generation()
        {
            return now < known.expires + CLOCK_SKEW.as_secs();
        }
        let checked = self
            .keys
            .claims::<Claims>(token, TOKEN_TYPE, &self.validation);
        let Some(Signed { claims, generation }) = checked else {
            return false;
        };
        let mut remembered = self.remembered.lock();
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        let known = Remembered {
            expires: claims.exp,
            generation,
        };
        remembered.insert(digest, known);
        true
    }
}

fn now() -> Option<u64> {
    Some(SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use events::{ids::UserId, user::Role};
    use jsonwebtoken::Header;
    use p256::{
        elliptic_curve::Generate,
        pkcs8::{EncodePrivateKey, EncodePublicKey, LineEnding},
    };
    use runtime::auth::{PublicKey, TokenVerifier};
    use serde_json::{Value, json};

    struct Keys {
        signer: Arc<TokenSigner>,
        public: PublicKey,
    }

    fn signer(secret: &p256::SecretKey) -> Arc<TokenSigner> {
        let pem = secret.to_pkcs8_pem(LineEnding::LF).unwrap();
        Arc::new(TokenSigner::from_pem(&pem).unwrap())
    }

    fn ring(keys: &Keys) -> Arc<KeyRing> {
        Arc::new(KeyRing::new(std::slice::from_ref(&keys.public)).unwrap())
    }

    fn keys() -> Keys {
        let secret = p256::SecretKey::generate();
        let public = secret.public_key().to_public_key_pem(LineEnding::LF);
        Keys {
            signer: signer(&secret),
            public: PublicKey::from_pem(&public.unwrap()).unwrap(),
        }
    }

    fn verifier(keys: &Keys) -> NodeVerifier {
        NodeVerifier::new(ring(keys))
    }

    #[test]
    fn a_node_is_believed_under_the_key_of_its_installation_only() {
        let (ours, others) = (keys(), keys());
        let token = NodeSigner::new(Arc::clone(&ours.signer), "command-api-1")
            .token()
            .unwrap();
        let verifier_of_ours = verifier(&ours);
        assert!(verifier_of_ours.accepts(&token));
        assert!(verifier_of_ours.accepts(&token), "remembered");
        assert!(!verifier(&others).accepts(&token));
        assert!(!verifier_of_ours.accepts(""));
    }

    #[test]
    fn with_another_key_a_node_shows_another_token_and_the_former_is_no_good() {
        let (old, new) = (keys(), keys());
        let (accepted, nodes) = (ring(&old), NodeSigner::new(Arc::clone(&old.signer), "n"));
        let verifier = NodeVerifier::new(Arc::clone(&accepted));
        let by_old = nodes.token().unwrap();
        assert!(verifier.accepts(&by_old));
        old.signer.exchange(&new.signer);
        accepted.renew(std::slice::from_ref(&new.public)).unwrap();
        let by_new = nodes.token().unwrap();
        assert!(verifier.accepts(&by_new));
        assert!(!verifier.accepts(&by_old), "remembered");
    }

    #[test]
    fn neither_kind_of_token_passes_where_the_other_is_asked_for() {
        let keys = keys();
        let of_node = NodeSigner::new(Arc::clone(&keys.signer), "command-api-1")
            .token()
            .unwrap();
        let of_user = keys.signer.sign(UserId(Uuid::nil()), Role::Admin, 1);
        let public = TokenVerifier::new(ring(&keys));
        assert!(public.verify(&of_node).is_none());
        assert!(!verifier(&keys).accepts(&of_user.unwrap()));
    }

    #[test]
    fn wrong_claims_and_headers_are_refused() {
        let keys = keys();
        let verifier = verifier(&keys);
        let now = now().unwrap();
        let claims = json!({
            "iss": TOKEN_PARTY, "aud": AUDIENCE, "sub": "command-api-1",
            "iat": now, "nbf": now, "exp": now + TOKEN_SECONDS, "jti": Uuid::nil(),
        });
        let signed = |header: &Header, claims: &Value| {
            encode(header, claims, &keys.signer.key().secret).unwrap()
        };
        let mut header = keys.signer.key().header.clone();
        header.typ = Some(TOKEN_TYPE.to_owned());
        assert!(verifier.accepts(&signed(&header, &claims)));
        for (name, value) in [
            ("iss", json!("someone")),
            ("aud", json!(TOKEN_PARTY)),
            ("aud", Value::Null),
            ("sub", Value::Null),
            ("exp", json!(now - CLOCK_SKEW.as_secs() - 1)),
            ("exp", Value::Null),
            ("nbf", json!(now + CLOCK_SKEW.as_secs() + 60)),
        ] {
            let mut wrong = claims.clone();
            wrong[name] = value.clone();
            let token = signed(&header, &wrong);
            assert!(!verifier.accepts(&token), "{name}: {value}");
        }
        for (typ, kid) in [
            (Some(runtime::auth::TOKEN_TYPE), header.kid.clone()),
            (None, header.kid.clone()),
            (Some(TOKEN_TYPE), None),
        ] {
            let mut wrong = header.clone();
            (wrong.typ, wrong.kid) = (typ.map(str::to_owned), kid);
            assert!(!verifier.accepts(&signed(&wrong, &claims)), "{wrong:?}");
        }
    }
}
