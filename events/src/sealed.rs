//! Personal data as it stands in the log: encrypted with its subject's own key.
//!
//! AES-256-GCM with a synthetic nonce: the nonce is a keyed hash of what is sealed (the construction
//! of SIV modes, RFC 5297), so the same text sealed twice for the same subject and field is the same
//! bytes. A decider can tell "unchanged" from "changed" without the key, and no randomness is needed
//! in a pure crate. What it gives away is just that: equal texts of one field of one subject look equal.

use std::fmt;

use aes_gcm::{
    Aes256Gcm, Nonce,
    aead::{Aead, KeyInit, Payload},
};
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::ids::UserId;

/// Leads every sealed value, so that another way to seal can follow.
const FORMAT: u8 = 1;
const NONCE_BYTES: usize = 12;

/// Personal data encrypted with the data key of the user it is about.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(#[serde(with = "serde_bytes")] Vec<u8>);

impl Sealed {
    /// The bytes as a database or a log stores them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Takes stored bytes for sealed ones; whether they are shows when they are opened.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

/// Which piece of a user's data is sealed; bound to the ciphertext, so that one field's
/// bytes do not open as another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// E-mail address.
    Email,
    /// Name.
    Name,
    /// Phone number.
    Phone,
    /// An order's shipping address, as JSON.
    ShippingAddress,
    /// An order's note.
    Note,
}

impl Field {
    fn name(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Name => "name",
            Self::Phone => "phone",
            Self::ShippingAddress => "shipping_address",
            Self::Note => "note",
        }
    }
}

/// Sealed bytes that this key does not open: damaged, another subject's or field's, or of an unknown format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sealed data does not open with this key")]
pub struct NotOpened;

/// The key that one user's personal data is sealed with. Destroying it erases the user.
#[derive(Clone)]
pub struct DataKey {
    cipher: Aes256Gcm,
    nonces: Hmac<Sha256>,
}

impl DataKey {
    /// Length of a data key in bytes.
    pub const BYTES: usize = 32;

    /// A key from its 32 secret bytes.
    pub fn new(secret: &[u8; Self::BYTES]) -> Self {
        // Encryption and nonces get a key each, derived from the one secret.
        let derive = |label: &[u8]| {
            let mut mac = keyed(secret);
            mac.update(label);
            Zeroizing::new(<[u8; 32]>::from(mac.finalize().into_bytes()))
        };
        Self {
            cipher: Aes256Gcm::new((&*derive(b"orderlog data key: encryption")).into()),
            nonces: keyed(&derive(b"orderlog data key: nonces")),
        }
    }

    /// Seals `text`, the `field` of `subject`. `None` only beyond the cipher's limit of 64 GiB.
    pub fn seal(&self, subject: UserId, field: Field, text: &str) -> Option<Sealed> {
        let context = context(subject, field);
        let mut mac = self.nonces.clone();
        mac.update(&context);
        mac.update(text.as_bytes());
        let digest = mac.finalize().into_bytes();
        let nonce = digest.first_chunk::<NONCE_BYTES>()?;
        let payload = Payload {
            msg: text.as_bytes(),
            aad: &context,
        };
        let ciphertext = self.cipher.encrypt(&Nonce::from(*nonce), payload).ok()?;
        let mut bytes = Vec::with_capacity(1 + NONCE_BYTES + ciphertext.len());
        bytes.push(FORMAT);
        bytes.extend_from_slice(nonce);
        bytes.extend_from_slice(&ciphertext);
        Some(Sealed(bytes))
    }

    /// Opens what [`DataKey::seal`] sealed for the same subject and field.
    pub fn open(
        &self,
        subject: UserId,
        field: Field,
        sealed: &Sealed,
    ) -> Result<String, NotOpened> {
        let (format, rest) = sealed.0.split_first().ok_or(NotOpened)?;
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(NotOpened)?;
        if *format != FORMAT {
            return Err(NotOpened);
        }
        let context = context(subject, field);
        let payload = Payload {
            msg: ciphertext,
            aad: &context,
        };
        let text = self
            .cipher
            .decrypt(&Nonce::from(*nonce), payload)
            .map_err(|_| NotOpened)?;
        String::from_utf8(text).map_err(|_| NotOpened)
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(secret)")
    }
}

fn keyed(secret: &[u8; 32]) -> Hmac<Sha256> {
    // HMAC fills a key up to the hash's block with zeros; done here, where the length is fixed.
    let mut block = Zeroizing::new([0; 64]);
    let (key, _zeros) = block.split_at_mut(secret.len());
    key.copy_from_slice(secret);
    <Hmac<Sha256> as KeyInit>::new((&*block).into())
}

fn context(subject: UserId, field: Field) -> Vec<u8> {
    let mut context = Vec::with_capacity(32);
    context.extend_from_slice(subject.0.as_bytes());
    context.extend_from_slice(field.name().as_bytes());
    context.push(0);
    context
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const SUBJECT: UserId = UserId(Uuid::from_u128(7));

    #[test]
    fn what_is_sealed_opens_again_and_does_not_show() {
        let key = DataKey::new(&[1; 32]);
        let sealed = key.seal(SUBJECT, Field::Email, "ada@example.com").unwrap();
        assert_eq!(
            key.open(SUBJECT, Field::Email, &sealed).unwrap(),
            "ada@example.com"
        );
        assert!(!sealed.as_bytes().windows(3).any(|window| window == b"ada"));
    }

    #[test]
    fn another_key_subject_field_or_byte_does_not_open_it() {
        let key = DataKey::new(&[1; 32]);
        let sealed = key.seal(SUBJECT, Field::Email, "ada@example.com").unwrap();
        assert_eq!(
            DataKey::new(&[2; 32]).open(SUBJECT, Field::Email, &sealed),
            Err(NotOpened)
        );
        assert_eq!(
            key.open(UserId(Uuid::from_u128(8)), Field::Email, &sealed),
            Err(NotOpened)
        );
        assert_eq!(key.open(SUBJECT, Field::Name, &sealed), Err(NotOpened));
        for index in 0..sealed.as_bytes().len() {
            let mut damaged = sealed.as_bytes().to_vec();
            damaged[index] ^= 1;
            assert_eq!(
                key.open(SUBJECT, Field::Email, &Sealed(damaged)),
                Err(NotOpened)
            );
        }
        assert_eq!(
            key.open(SUBJECT, Field::Email, &Sealed(vec![1; 5])),
            Err(NotOpened)
        );
    }

    #[test]
    fn the_same_text_is_the_same_bytes_and_another_text_has_another_nonce() {
        let key = DataKey::new(&[1; 32]);
        let seal = |text| key.seal(SUBJECT, Field::Note, text).unwrap();
        assert_eq!(seal("leave at door"), seal("leave at door"));
        assert_ne!(
            seal("leave at door").0[1..13],
            seal("leave at the door").0[1..13]
        );
    }
}
