//! [`ContentHash`]: the SHA-256 of some bytes, shown as a CIDv1.

use std::{fmt, str::FromStr};

use data_encoding::BASE32_NOPAD;
use sha2::{Digest, Sha256};

/// CIDv1 (0x01), codec raw (0x55), multihash sha2-256 (0x12), 32 bytes (0x20).
const CID_PREFIX: [u8; 4] = [0x01, 0x55, 0x12, 0x20];
/// The multihash part of [`CID_PREFIX`]: the key under which Kademlia knows the bytes.
const MULTIHASH_PREFIX: [u8; 2] = [0x12, 0x20];

/// The SHA-256 of a blob: its only name.
///
/// On the wire 32 bytes; in text a CIDv1 (raw codec, base32, `bafkrei…`) that any IPFS tool computes too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash([u8; 32]);

impl ContentHash {
    /// Hashes `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Wraps a digest that was computed elsewhere.
    pub const fn from_bytes(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// The 32 digest bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The multihash (34 bytes): the Kademlia key of this blob.
    pub fn multihash(&self) -> [u8; 34] {
        let mut out = [0; 34];
        out[..2].copy_from_slice(&MULTIHASH_PREFIX);
        out[2..].copy_from_slice(&self.0);
        out
    }

    /// The first characters after `bafkrei`, for logs.
    pub fn short(&self) -> String {
        self.to_string().chars().skip(7).take(8).collect()
    }
}

/// Hashes bytes that arrive in pieces.
#[derive(Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of everything added.
    pub fn finish(self) -> ContentHash {
        ContentHash(self.0.finalize().into())
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cid = [0; 36];
        cid[..4].copy_from_slice(&CID_PREFIX);
        cid[4..].copy_from_slice(&self.0);
        write!(f, "b{}", BASE32_NOPAD.encode(&cid).to_ascii_lowercase())
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is not a content hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a content hash: expected a CIDv1 of a raw sha2-256 blob (bafkrei…, 59 characters)")]
pub struct NotAContentHash;

impl FromStr for ContentHash {
    type Err = NotAContentHash;

    fn from_str(text: &str) -> Result<Self, NotAContentHash> {
        let base32 = text.strip_prefix('b').ok_or(NotAContentHash)?;
        if base32.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(NotAContentHash);
        }
        let cid = BASE32_NOPAD.decode(base32.to_ascii_uppercase().as_bytes()).map_err(|_| NotAContentHash)?;
        let digest = cid.strip_prefix(&CID_PREFIX).ok_or(NotAContentHash)?;
        Ok(Self(digest.try_into().map_err(|_| NotAContentHash)?))
    }
}

crate::cbor::bytes_on_the_wire_text_for_people!(ContentHash, 32);

#[cfg(test)]
mod tests {
    use super::*;

    /// The CID of the empty blob as `ipfs add --raw-leaves` prints it.
    const EMPTY: &str = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku";

    #[test]
    fn text_is_the_cid_of_ipfs() {
        let hash = ContentHash::of(b"");
        assert_eq!(hash.to_string(), EMPTY);
        assert_eq!(EMPTY.parse(), Ok(hash));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "b", "bafkrei", &EMPTY.to_uppercase(), &EMPTY[..58], &format!("{EMPTY}a"), "Qmabc", "bé"] {
            assert_eq!(text.parse::<ContentHash>(), Err(NotAContentHash), "{text}");
        }
    }

    #[test]
    fn pieces_hash_like_the_whole() {
        let mut hasher = Hasher::default();
        hasher.update(b"ab");
        hasher.update(b"c");
        assert_eq!(hasher.finish(), ContentHash::of(b"abc"));
    }
}
