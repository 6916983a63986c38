//! A certificate of the stand-in's own for this machine: what clients check it with is a file.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The names it is valid for.
const NAMES: [&str; 2] = ["127.0.0.1", "localhost"];
const CERTIFICATE_FILE: &str = "smtp.pem";
const KEY_FILE: &str = "smtp-key.pem";
const ONLY_THE_OWNER: u32 = 0o600;

/// A certificate that signs itself, with its key.
pub struct Certificate {
    /// The certificate, PEM: what a client must trust.
    pub pem: String,
    key_pem: String,
}

impl Certificate {
    /// A new one.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn new() -> anyhow::Result<Self> {
        let made = rcgen::generate_simple_self_signed(NAMES.map(str::to_owned))?;
        Ok(Self {
            pem: made.cert.pem(),
            key_pem: made.signing_key.serialize_pem(),
        })
    }

    /// The one in a directory; where there is none, a new one is put there, so that clients may go on
    /// trusting it after a restart.
    ///
    /// # Errors
    /// When files cannot be read or written.
    pub fn in_directory(directory: &Path) -> anyhow::Result<Self> {
        let (pem, key) = (directory.join(CERTIFICATE_FILE), directory.join(KEY_FILE));
        if !pem.exists() {
            let made = Self::new()?;
            fs::create_dir_all(directory)
                .with_context(|| format!("cannot make {}", directory.display()))?;
            write(&key, &made.key_pem)?;
            write(&pem, &made.pem)?;
        }
        let read = |file: &Path| {
            fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
        };
        Ok(Self {
            pem: read(&pem)?,
            key_pem: read(&key)?,
        })
    }

    /// How a server shows it.
    pub(crate) fn server(&self) -> anyhow::Result<Arc<ServerConfig>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certificate = CertificateDer::from_pem_slice(self.pem.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)?;
        Ok(Arc::new(config))
    }
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(ONLY_THE_OWNER);
    let written = options
        .open(file)
        .and_then(|mut open| open.write_all(text.as_bytes()));
    written.with_context(|| format!("cannot write {}", file.display()))
}
