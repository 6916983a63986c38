//! `create-secrets`: the secret files that a new installation needs.

use std::{
    fs::{DirBuilder, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use anyhow::Context;
use base64::{Engine, engine::general_purpose::STANDARD};
use p256::{
    elliptic_curve::Generate,
    pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey, LineEnding},
};
use runtime::secret_file;
use zeroize::Zeroizing;

const SIGNING_KEY: &str = "token-signing-key.pem";
const PUBLIC_KEY: &str = "token-public-key.pem";
const WRAPPING_KEY: &str = "data-key-wrapping-key";
const EMAIL_HASH_KEY: &str = "email-hash-key";

/// Writes the files that are missing, readable by their owner only, and keeps those that are there: what was
/// sealed, hashed and signed with them needs them. Prints what it did.
pub fn create(directory: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("{}: cannot be made", directory.display()))?;
    write_new(&directory.join(SIGNING_KEY), || {
        Ok(p256::SecretKey::generate()
            .to_pkcs8_pem(LineEnding::LF)?
            .to_string())
    })?;
    let signing_key = directory.join(SIGNING_KEY);
    write_new(&directory.join(PUBLIC_KEY), || {
        let secret = p256::SecretKey::from_pkcs8_pem(secret_file::text(&signing_key)?.trim())
            .with_context(|| format!("{}: is no P-256 private key", signing_key.display()))?;
        Ok(secret.public_key().to_public_key_pem(LineEnding::LF)?)
    })?;
    for name in [WRAPPING_KEY, EMAIL_HASH_KEY] {
        write_new(&directory.join(name), || {
            let secret = Zeroizing::new(rand::random::<[u8; 32]>());
            Ok(STANDARD.encode(*secret) + "\n")
        })?;
    }
    Ok(())
}

fn write_new(path: &Path, contents: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<()> {
    if path.try_exists()? {
        tracing::info!(file = %path.display(), "kept");
        return Ok(());
    }
    let contents = Zeroizing::new(contents()?);
    // Written aside and then named, so that an interruption leaves no half a key.
    let aside = path.with_extension(format!("{}.new", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&aside)
        .and_then(|mut file| {
            file.write_all(contents.as_bytes())?;
            file.sync_all()
        })
        // Fails when somebody else was first; his file stays.
        .and_then(|()| std::fs::hard_link(&aside, path));
    std::fs::remove_file(&aside).ok();
    match written {
        Ok(()) => tracing::info!(file = %path.display(), "written"),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            tracing::info!(file = %path.display(), "kept")
        }
        Err(error) => {
            return Err(error).with_context(|| format!("{}: cannot be written", path.display()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{email_hash::EmailHasher, tokens::TokenSigner};
    use runtime::{auth::PublicKey, data_keys::WrappingKey};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_files_are_private_fit_together_and_are_kept() {
        let directory =
            std::env::temp_dir().join(format!("orderlog-secrets-{}", uuid::Uuid::now_v7()));
        create(&directory).unwrap();
        let read = |name| std::fs::read_to_string(directory.join(name)).unwrap();
        let before = [SIGNING_KEY, PUBLIC_KEY, WRAPPING_KEY, EMAIL_HASH_KEY].map(|name| {
            let mode = std::fs::metadata(directory.join(name))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
            (name, read(name))
        });
        let published = PublicKey::read_all(&directory.join(PUBLIC_KEY)).unwrap();
        TokenSigner::from_file(&directory.join(SIGNING_KEY), &published).unwrap();
        WrappingKey::from_file(&directory.join(WRAPPING_KEY)).unwrap();
        EmailHasher::from_file(&directory.join(EMAIL_HASH_KEY)).unwrap();
        create(&directory).unwrap();
        for (name, contents) in before {
            assert_eq!(read(name), contents, "{name} was kept");
        }
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 4);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
