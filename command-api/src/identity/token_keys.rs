//! The keys that tokens are signed and checked with, as their files say, and how they are exchanged while the process serves.

use std::{path::PathBuf, sync::Arc};

use runtime::auth::{KeyRing, PublicKey};

use super::tokens::TokenSigner;
use crate::settings::KeyFiles;

/// All keys for tokens.
pub struct TokenKeys {
    /// What is accepted.
    pub ring: Arc<KeyRing>,
    /// What signs.
    pub signer: Arc<TokenSigner>,
    signing_file: PathBuf,
    public_file: PathBuf,
}

impl TokenKeys {
    /// Reads them for the first time.
    pub fn read(files: &KeyFiles) -> anyhow::Result<Self> {
        let published = PublicKey::read_all(&files.token_public_key_file)?;
        let signer = TokenSigner::from_file(&files.token_signing_key_file, &published)?;
        Ok(Self {
            ring: Arc::new(KeyRing::new(&published)?),
            signer: Arc::new(signer),
            signing_file: files.token_signing_key_file.clone(),
            public_file: files.token_public_key_file.clone(),
        })
    }

    /// Reads them again, and exchanges all or, with an error, none.
    pub fn read_anew(&self) -> anyhow::Result<()> {
        let published = PublicKey::read_all(&self.public_file)?;
        let signer = TokenSigner::from_file(&self.signing_file, &published)?;
        self.ring.renew(&published)?;
        self.signer.exchange(&signer);
        Ok(())
    }
}
