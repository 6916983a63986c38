//! A token is good only if it is ours in every respect.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{EncodingKey, Header, encode};
use p256::{
    elliptic_curve::Generate, pkcs8::EncodePrivateKey, pkcs8::EncodePublicKey, pkcs8::LineEnding,
};
use serde_json::{Value, json};

use super::*;

struct Signer {
    private_pem: String,
    public_pem: String,
    public: PublicKey,
}

impl Signer {
    fn new() -> Self {
        let secret = p256::SecretKey::generate();
        let public_pem = secret
            .public_key()
            .to_public_key_pem(LineEnding::LF)
            .unwrap();
        Self {
            private_pem: secret.to_pkcs8_pem(LineEnding::LF).unwrap().to_string(),
            public: PublicKey::from_pem(&public_pem).unwrap(),
            public_pem,
        }
    }

    fn header(&self) -> Header {
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some(TOKEN_TYPE.into());
        header.kid = Some(self.public.id.clone());
        header
    }

    fn sign(&self, header: &Header, claims: &Value) -> String {
        encode(
            header,
            claims,
            &EncodingKey::from_ec_pem(self.private_pem.as_bytes()).unwrap(),
        )
        .unwrap()
    }
}

const USER: UserId = UserId(uuid::Uuid::from_u128(7));

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

fn claims() -> Value {
    json!({
        "iss": TOKEN_PARTY, "aud": TOKEN_PARTY, "sub": USER, "role": "user",
        "iat": now(), "nbf": now(), "exp": now() + 900, "jti": uuid::Uuid::nil(),
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    let members = claims.as_object_mut().unwrap();
    if value.is_null() {
        members.remove(name)
    } else {
        members.insert(name.into(), value)
    };
    claims
}

fn ring(signers: &[&Signer]) -> Arc<KeyRing> {
    Arc::new(KeyRing::new(&public_keys(signers)).unwrap())
}

fn public_keys(signers: &[&Signer]) -> Vec<PublicKey> {
    let keys = signers.iter().map(|signer| signer.public.clone());
    keys.collect()
}

fn verifier(signer: &Signer) -> TokenVerifier {
    TokenVerifier::new(ring(&[signer]))
}

#[test]
fn a_token_of_ours_names_its_user() {
    let signer = Signer::new();
    let token = signer.sign(&signer.header(), &claims());
    let verifier = verifier(&signer);
    let caller = Caller {
        user_id: USER,
        role: Role::User,
    };
    assert_eq!(verifier.verify(&token), Some(caller));
    assert_eq!(verifier.verify(&token), Some(caller), "remembered");
}

#[test]
fn wrong_claims_are_refused() {
    let signer = Signer::new();
    let verifier = verifier(&signer);
    for (name, value) in [
        ("iss", json!("someone")),
        ("iss", Value::Null),
        ("aud", json!("someone")),
        ("aud", Value::Null),
        ("sub", json!("root")),
        ("sub", Value::Null),
        ("role", json!("god")),
        ("role", Value::Null),
        ("exp", json!(now() - 60)),
        ("exp", Value::Null),
        ("nbf", json!(now() + 90)),
        ("nbf", Value::Null),
    ] {
        let token = signer.sign(&signer.header(), &with(name, value.clone()));
        assert_eq!(verifier.verify(&token), None, "{name}: {value}");
    }
}

#[test]
fn a_remembered_token_still_expires() {
    let signer = Signer::new();
    let verifier = verifier(&signer);
    let token = signer.sign(&signer.header(), &claims());
    verifier.verify(&token).unwrap();
    let digest = Sha256::digest(&token).into();
    let known = verifier.remembered.get(&digest).unwrap();
    verifier.remembered.insert(
        digest,
        Remembered {
            expires: now() - 60,
            ..known
        },
    );
    assert_eq!(verifier.verify(&token), None);
}

#[test]
fn what_was_signed_before_a_change_is_cut_off_also_when_it_is_remembered() {
    let signer = Signer::new();
    let verifier = verifier(&signer);
    let at = |version: u64| signer.sign(&signer.header(), &with("user_version", json!(version)));
    let (before, after) = (at(2), at(3));
    let unversioned = signer.sign(&signer.header(), &claims());
    for token in [&before, &after, &unversioned] {
        assert!(verifier.verify(token).is_some(), "nothing is cut off yet");
    }
    verifier.cutoffs.replace([(USER, 3)].into());
    assert_eq!(verifier.verify(&before), None);
    assert_eq!(verifier.verify(&unversioned), None);
    assert!(verifier.verify(&after).is_some());
    let other = UserId(uuid::Uuid::from_u128(8));
    verifier.cutoffs.replace([(other, 3)].into());
    assert!(verifier.verify(&before).is_some(), "somebody else's");
}

#[test]
fn other_types_keys_and_algorithms_are_refused() {
    let (signer, other) = (Signer::new(), Signer::new());
    let verifier = verifier(&signer);
    let header = |change: fn(&mut Header)| {
        let mut header = signer.header();
        change(&mut header);
        signer.sign(&header, &claims())
    };
    let unsigned = |algorithm: &str, secret: Option<&[u8]>| {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let head = json!({"alg": algorithm, "typ": TOKEN_TYPE, "kid": signer.public.id});
        let signed = format!("{}.{}", encode(&head), encode(&claims()));
        let signature = secret.map_or(String::new(), |secret| {
            jsonwebtoken::crypto::sign(
                signed.as_bytes(),
                &EncodingKey::from_secret(secret),
                Algorithm::HS256,
            )
            .unwrap()
        });
        format!("{signed}.{signature}")
    };
    let good = signer.sign(&signer.header(), &claims());
    for (what, token) in [
        (
            "another typ",
            header(|header| header.typ = Some("JWT".into())),
        ),
        ("no typ", header(|header| header.typ = None)),
        ("no kid", header(|header| header.kid = None)),
        (
            "unknown kid",
            header(|header| header.kid = Some("../../dev/null".into())),
        ),
        (
            "another's key under our kid",
            other.sign(&signer.header(), &claims()),
        ),
        (
            "another's key under its kid",
            other.sign(&other.header(), &claims()),
        ),
        ("alg none", unsigned("none", None)),
        ("alg NoNe", unsigned("NoNe", None)),
        ("ES256 without signature", unsigned("ES256", None)),
        (
            "HS256 with the public key",
            unsigned("HS256", Some(signer.public_pem.as_bytes())),
        ),
        ("cut", good[..good.len() - 4].to_owned()),
        ("two parts", good.rsplit_once('.').unwrap().0.to_owned()),
        ("empty", String::new()),
        ("huge", "a".repeat(100_000)),
    ] {
        assert_eq!(verifier.verify(&token), None, "{what}");
    }
}

#[test]
fn a_key_in_the_header_means_nothing() {
    let (signer, other) = (Signer::new(), Signer::new());
    let mut header = signer.header();
    header.jku = Some("http://attacker.example/jwks.json".into());
    header.x5u = Some("http://attacker.example/cert.pem".into());
    header.jwk = serde_json::from_value(
        json!({"kty": "EC", "crv": "P-256", "x": other.public.x, "y": other.public.y}),
    )
    .unwrap();
    assert_eq!(
        verifier(&signer).verify(&other.sign(&header, &claims())),
        None
    );
}

#[test]
fn while_keys_are_changed_both_are_accepted() {
    let (old, new) = (Signer::new(), Signer::new());
    let file =
        std::env::temp_dir().join(format!("orderlog-public-keys-{}.pem", uuid::Uuid::now_v7()));
    std::fs::write(&file, format!("{}\n{}", new.public_pem, old.public_pem)).unwrap();
    let keys = KeyRing::new(&PublicKey::read_all(&file).unwrap()).unwrap();
    let verifier = TokenVerifier::new(Arc::new(keys));
    std::fs::remove_file(&file).unwrap();
    for signer in [&old, &new] {
        assert!(
            verifier
                .verify(&signer.sign(&signer.header(), &claims()))
                .is_some()
        );
    }
    assert!(
        verifier
            .verify(&Signer::new().sign(&new.header(), &claims()))
            .is_none()
    );
}

#[test]
fn exchanged_keys_count_at_once_also_for_what_was_checked_before() {
    let (old, new) = (Signer::new(), Signer::new());
    let keys = ring(&[&old]);
    let verifier = TokenVerifier::new(Arc::clone(&keys));
    let signed = |signer: &Signer| signer.sign(&signer.header(), &claims());
    let (by_old, by_new) = (signed(&old), signed(&new));
    assert!(verifier.verify(&by_old).is_some());
    assert!(verifier.verify(&by_new).is_none());
    keys.renew(&public_keys(&[&old, &new])).unwrap();
    assert!(verifier.verify(&by_old).is_some());
    assert!(verifier.verify(&by_new).is_some());
    keys.renew(&public_keys(&[&new])).unwrap();
    assert!(verifier.verify(&by_old).is_none(), "remembered");
    assert!(verifier.verify(&by_new).is_some());
}

#[test]
fn only_one_bearer_token_is_read() {
    use actix_web::test::TestRequest;
    let token = |values: &[&'static str]| {
        let mut request = TestRequest::default();
        for value in values {
            request = request.append_header((AUTHORIZATION, *value));
        }
        {
            let request = request.to_http_request();
            let values = request.headers().get_all(AUTHORIZATION);
            bearer_token(values.map(|value| value.to_str().ok())).map(str::to_owned)
        }
    };
    assert_eq!(token(&["Bearer abc"]), Some("abc".into()));
    assert_eq!(token(&["bearer abc"]), Some("abc".into()));
    assert_eq!(token(&["Basic abc"]), None);
    assert_eq!(token(&["abc"]), None);
    assert_eq!(token(&[]), None);
    assert_eq!(token(&["Bearer abc", "Bearer def"]), None);
}
