//! Content hashes: what a stream's state says, in 16 bytes.

use std::fmt;

use events::sealed::Sealed;
use sha2::{Digest as _, Sha256};

/// The first 16 bytes of a SHA-256: enough to tell two states apart that nobody made to collide.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 16]);

impl Digest {
    /// Of nothing.
    pub const NOTHING: Self = Self([0; 16]);

    /// Of all that this is of, and one more, in whatever order they come: their sum. Enough for what nobody made to collide.
    #[must_use]
    pub fn plus(self, one: Self) -> Self {
        let sum = u128::from_be_bytes(self.0).wrapping_add(u128::from_be_bytes(one.0));
        Self(sum.to_be_bytes())
    }

    /// Of all that this is of but one: the opposite of [`Self::plus`].
    #[must_use]
    pub fn minus(self, one: Self) -> Self {
        let rest = u128::from_be_bytes(self.0).wrapping_sub(u128::from_be_bytes(one.0));
        Self(rest.to_be_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl AsRef<[u8]> for Digest {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Sealed> for Digest {
    fn from(sealed: Sealed) -> Self {
        Hasher::default().bytes(sealed.as_bytes()).finish()
    }
}

/// Hashes a sequence of fields so that no two sequences read the same.
#[derive(Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// A field of any length.
    pub fn bytes(mut self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
        self
    }

    /// A field that may be missing.
    pub fn optional(self, bytes: Option<impl AsRef<[u8]>>) -> Self {
        match bytes {
            Some(bytes) => self.bytes([1]).bytes(bytes),
            None => self.bytes([0]),
        }
    }

    /// A number.
    pub fn number(self, number: i64) -> Self {
        self.bytes(number.to_be_bytes())
    }

    /// The hash of all fields so far.
    pub fn finish(self) -> Digest {
        let full = self.0.finalize();
        let mut short = [0; 16];
        short.iter_mut().zip(full).for_each(|(to, from)| *to = from);
        Digest(short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_run_into_each_other() {
        let two = |a: &str, b: &str| Hasher::default().bytes(a).bytes(b).finish();
        assert_ne!(two("ab", "c"), two("a", "bc"));
        assert_ne!(
            Hasher::default().optional(Some("")).finish(),
            Hasher::default().optional(None::<&str>).finish()
        );
    }
}
