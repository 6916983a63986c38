//! The keyed hash that stands for an e-mail address in the log.

use std::path::Path;

use domain::values::EmailAddress;
use events::ids::EmailHash;
use hmac::{Hmac, KeyInit, Mac};
use runtime::secret_file;
use sha2::Sha256;

/// Hashes addresses with a secret key, so that whoever reads the log cannot try addresses out.
#[derive(Clone)]
pub struct EmailHasher(Hmac<Sha256>);

impl EmailHasher {
    /// The key of a file with 32 bytes in base64.
    pub fn from_file(path: &Path) -> anyhow::Result<Self> {
        Ok(Self::new(&*secret_file::key_32_bytes(path)?))
    }

    /// From the secret bytes.
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(keyed(secret))
    }

    /// The hash of an address, which is normalised already.
    pub fn hash(&self, address: &EmailAddress) -> EmailHash {
        let mut mac = self.0.clone();
        mac.update(address.as_str().as_bytes());
        EmailHash(mac.finalize().into_bytes().into())
    }
}

fn keyed(secret: &[u8; 32]) -> Hmac<Sha256> {
    // A key of 32 bytes is shorter than the block and used as it is, padded.
    let mut block = [0; 64];
    block
        .iter_mut()
        .zip(secret)
        .for_each(|(block, secret)| *block = *secret);
    <Hmac<Sha256> as KeyInit>::new((&block).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_hmac_sha_256_of_the_normalised_address() {
        let address = EmailAddress::parse(" Ada@Example.COM ").unwrap();
        let hasher = EmailHasher::new(&[7; 32]);
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&[7; 32]).unwrap();
        mac.update(b"ada@example.com");
        assert_eq!(
            hasher.hash(&address).0,
            <[u8; 32]>::from(mac.finalize().into_bytes())
        );
        assert_ne!(
            hasher.hash(&address),
            EmailHasher::new(&[8; 32]).hash(&address)
        );
    }
}
