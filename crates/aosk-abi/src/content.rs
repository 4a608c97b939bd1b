//! Contents: the free text and bytes that events name by hash.
//!
//! Events stay small because everything of unbounded size (prompts, replies, tool output) is a
//! [`Content`]: bytes addressed by a BLAKE3 hash **keyed per tenant**. The key keeps one tenant
//! from learning, by comparing hashes, that another holds the same document; it lives beside the
//! tenant's data and travels with it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A 32-byte BLAKE3 hash; 64 lower-case hexadecimal digits as text, the bytes themselves in binary
/// formats.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hash([u8; 32]);

/// The bytes are uniform already: a table needs no more of them than it makes a number of.
impl std::hash::Hash for Hash {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        state.write_u64(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
    }
}

/// The text is not 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a hash: expected 64 lower-case hexadecimal digits")]
pub struct HashParseError(String);

impl Hash {
    /// What stands before the first event of a process that was not forked.
    pub const ZERO: Self = Self([0; 32]);

    /// The hash from its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes of the hash.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The unkeyed BLAKE3 hash of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = HashParseError;

    fn from_str(text: &str) -> Result<Self, HashParseError> {
        let error = || HashParseError(text.to_owned());
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(error());
        }
        blake3::Hash::from_hex(text).map(|hash| Self(*hash.as_bytes())).map_err(|_| error())
    }
}

impl Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&blake3::Hash::from_bytes(self.0).to_hex())
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(HashVisitor)
        } else {
            deserializer.deserialize_bytes(HashVisitor)
        }
    }
}

struct HashVisitor;

impl serde::de::Visitor<'_> for HashVisitor {
    type Value = Hash;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("64 lower-case hexadecimal digits or 32 bytes")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Hash, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Hash, E> {
        bytes.try_into().map(Hash).map_err(|_| E::invalid_length(bytes.len(), &self))
    }
}

/// The key under which a tenant's contents are hashed. Not printed, not logged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ContentKey {
    bytes: [u8; 32],
    id: u64,
}

impl ContentKey {
    /// The key from 32 random bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = blake3::derive_key("aosk content key id", &bytes);
        Self { bytes, id: u64::from_le_bytes([a, b, c, d, e, f, g, h]) }
    }

    /// The bytes, for a store to keep.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// The address of `bytes` under this key.
    #[must_use]
    pub fn hash(&self, bytes: &[u8]) -> Hash {
        Hash(*blake3::keyed_hash(&self.bytes, bytes).as_bytes())
    }

    /// `bytes` together with their address.
    #[must_use]
    pub fn seal(&self, bytes: impl Into<Arc<[u8]>>) -> Content {
        let bytes = bytes.into();
        Content { hash: self.hash(&bytes), key: self.id, bytes }
    }
}

impl fmt::Debug for ContentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContentKey(..)")
    }
}

/// Bytes with their address. Made by [`ContentKey::seal`], so the two always agree.
#[derive(Clone, PartialEq, Eq)]
pub struct Content {
    hash: Hash,
    key: u64,
    bytes: Arc<[u8]>,
}

impl Content {
    /// Contents of up to this many bytes are carried beside the event; larger ones are blobs.
    pub const INLINE_MAX: usize = 4096;

    /// The address.
    #[must_use]
    pub const fn hash(&self) -> Hash {
        self.hash
    }

    /// The bytes.
    #[must_use]
    pub const fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }

    /// Whether the address was made with that key, without hashing the bytes again.
    #[must_use]
    pub const fn is_sealed_with(&self, key: &ContentKey) -> bool {
        self.key == key.id
    }

    /// How events name this content.
    #[must_use]
    pub fn reference(&self) -> ContentRef {
        ContentRef { hash: self.hash, len: self.bytes.len() as u64 }
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({}, {} bytes)", self.hash, self.bytes.len())
    }
}

/// How an event names a content: its hash and its length in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContentRef {
    /// Address under the tenant's key.
    pub hash: Hash,
    /// Length in bytes.
    pub len: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_bytes_have_other_addresses_under_other_keys() {
        let (a, b) = (ContentKey::from_bytes([1; 32]), ContentKey::from_bytes([2; 32]));
        assert_eq!(a.hash(b"x"), a.seal(*b"x").hash());
        assert_ne!(a.hash(b"x"), b.hash(b"x"));
        assert_ne!(a.hash(b"x"), Hash::of(b"x"));
    }

    #[test]
    fn hash_text_round_trips_and_refuses_other_spellings() {
        let hash = Hash::of(b"abc");
        assert_eq!(hash.to_string().parse::<Hash>(), Ok(hash));
        assert!(hash.to_string().to_uppercase().parse::<Hash>().is_err());
        assert!("00".parse::<Hash>().is_err());
    }

    #[test]
    fn a_content_knows_its_key() {
        let (a, b) = (ContentKey::from_bytes([1; 32]), ContentKey::from_bytes([2; 32]));
        let content = a.seal(*b"x");
        assert!(
            content.is_sealed_with(&a) && content.is_sealed_with(&ContentKey::from_bytes([1; 32]))
        );
        assert!(!content.is_sealed_with(&b));
    }

    #[test]
    fn a_key_never_prints() {
        assert_eq!(format!("{:?}", ContentKey::from_bytes([7; 32])), "ContentKey(..)");
    }
}
