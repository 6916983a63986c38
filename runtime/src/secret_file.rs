//! Secrets from files, read at start and some of them anew at SIGHUP: refused with a clear message when they are not what they must be.

use std::path::Path;

use anyhow::{Context, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

/// Larger than any key file.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The text of a secret file. Errors name the file and how secrets are made, never the contents.
pub fn text(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let hint = || {
        format!(
            "{}: write it with command-api create-secrets",
            path.display()
        )
    };
    let size = std::fs::metadata(path).with_context(hint)?.len();
    if size > FILE_BYTES_MAX {
        bail!("{}: is no key, it has {size} bytes", path.display());
    }
    Ok(Zeroizing::new(
        std::fs::read_to_string(path).with_context(hint)?,
    ))
}

/// The 32 bytes of a secret file that holds them in base64; any other length is refused.
pub fn key_32_bytes(path: &Path) -> anyhow::Result<Zeroizing<[u8; 32]>> {
    let text = text(path)?;
    let bytes = STANDARD.decode(text.trim()).map(Zeroizing::new).ok();
    match bytes
        .as_deref()
        .map(|bytes| <[u8; 32]>::try_from(bytes.as_slice()))
    {
        Some(Ok(key)) => Ok(Zeroizing::new(key)),
        Some(Err(_)) | None => {
            bail!(
                "{}: must hold exactly 32 bytes in base64 and nothing else",
                path.display()
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exactly_32_bytes_are_a_key() {
        let directory =
            std::env::temp_dir().join(format!("orderlog-secret-file-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&directory).unwrap();
        let file = directory.join("key");
        for (contents, good) in [
            (STANDARD.encode([7; 32]), true),
            (STANDARD.encode([7; 32]) + "\n", true),
            (STANDARD.encode([7; 31]), false),
            (STANDARD.encode([7; 33]), false),
            ("not base64 at all".to_owned(), false),
            (String::new(), false),
        ] {
            std::fs::write(&file, &contents).unwrap();
            let key = key_32_bytes(&file);
            assert_eq!(key.is_ok(), good, "{contents}");
            if let Err(error) = key {
                assert!(contents.is_empty() || !error.to_string().contains(&contents));
            }
        }
        assert!(key_32_bytes(&directory.join("absent")).is_err());
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
