//! Names of peers, markets and jobs.

use std::{fmt, str::FromStr};

use data_encoding::{BASE32_NOPAD, HEXLOWER};

use crate::{ContentHash, PublicKey, cbor::bytes_on_the_wire_text_for_people};

/// Why a text is not the name it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a {0}")]
pub struct BadId(&'static str);

/// A libp2p peer id of an Ed25519 key: every MSM node has one, so a peer's id *is* its public key.
///
/// In text base58btc of the identity multihash (`12D3Koo…`), as libp2p prints it; on the wire the 32 key bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId([u8; 32]);

/// Identity multihash (0x00) of 36 bytes (0x24): protobuf field 1 = key type Ed25519, field 2 = 32 key bytes.
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

impl PeerId {
    /// The id of the node that holds `key`.
    pub const fn of(key: &PublicKey) -> Self {
        Self(*key.as_bytes())
    }

    /// Reads libp2p's binary form (38 bytes). Peers with other key types than Ed25519 are not MSM nodes.
    pub fn from_libp2p_bytes(bytes: &[u8]) -> Result<Self, BadId> {
        let key = bytes.strip_prefix(&PEER_ID_PREFIX).ok_or(BadId("peer id of an Ed25519 key"))?;
        Ok(Self(key.try_into().map_err(|_| BadId("peer id of an Ed25519 key"))?))
    }

    /// libp2p's binary form.
    pub fn to_libp2p_bytes(&self) -> [u8; 38] {
        let mut out = [0; 38];
        out[..6].copy_from_slice(&PEER_ID_PREFIX);
        out[6..].copy_from_slice(&self.0);
        out
    }

    /// The key that signs for this peer.
    pub fn key(&self) -> Result<PublicKey, crate::key::BadKey> {
        PublicKey::from_bytes(self.0)
    }

    /// The last characters, for logs and tables: the first are the same for every peer.
    pub fn short(&self) -> String {
        base58_end(&self.to_libp2p_bytes())
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base58(&self.to_libp2p_bytes()))
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

impl FromStr for PeerId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        let bytes = from_base58::<38>(text).ok_or(BadId("peer id (12D3Koo…)"))?;
        Self::from_libp2p_bytes(&bytes)
    }
}

bytes_on_the_wire_text_for_people!(PeerId, 32);

const BASE58: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/// Letters of a short id.
const SHORT: u32 = 6;

fn base58(bytes: &[u8]) -> String {
    let mut digits: Vec<u8> = Vec::with_capacity(bytes.len() * 138 / 100 + 1);
    for &byte in bytes {
        let mut carry = u32::from(byte);
        for digit in &mut digits {
            carry += u32::from(*digit) << 8;
            *digit = (carry % 58) as u8;
            carry /= 58;
        }
        while carry > 0 {
            digits.push((carry % 58) as u8);
            carry /= 58;
        }
    }
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let leading = std::iter::repeat_n(BASE58[0], zeros);
    leading.chain(digits.iter().rev().map(|digit| BASE58[usize::from(*digit)])).map(char::from).collect()
}

/// The last [`SHORT`] characters of `base58`, without the others: ids are in most lines of a log.
fn base58_end(bytes: &[u8]) -> String {
    let modulus = 58u64.pow(SHORT);
    let mut rest = bytes.iter().fold(0, |rest, byte| (rest << 8 | u64::from(*byte)) % modulus);
    let mut letters = [BASE58[0]; SHORT as usize];
    for letter in letters.iter_mut().rev() {
        *letter = BASE58[(rest % 58) as usize];
        rest /= 58;
    }
    letters.into_iter().map(char::from).collect()
}

fn from_base58<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() > N * 2 {
        return None;
    }
    let mut out = [0u8; N];
    for letter in text.bytes() {
        let mut carry = BASE58.iter().position(|b| *b == letter)? as u32;
        for byte in out.iter_mut().rev() {
            carry += u32::from(*byte) * 58;
            *byte = carry as u8;
            carry >>= 8;
        }
        if carry != 0 {
            return None;
        }
    }
    (base58(&out) == text).then_some(out)
}

/// A market: the SHA-256 of its first root's payload. It never changes, whatever keys or addresses do.
///
/// In text `msm:market:` and 52 base32 characters; people see them in groups of four.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MarketId([u8; 32]);

impl MarketId {
    const SCHEME: &str = "msm:market:";

    /// The id of the market whose first root has this payload.
    pub fn of_first_root(payload: &[u8]) -> Self {
        Self(*ContentHash::of(payload).as_bytes())
    }

    /// Wraps 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The fingerprint as people compare it: `7QK3-M2XD-…`, 13 groups of 4.
    pub fn fingerprint(&self) -> String {
        let text = BASE32_NOPAD.encode(&self.0);
        text.as_bytes().chunks(4).map(String::from_utf8_lossy).collect::<Vec<_>>().join("-")
    }

    /// Eight characters, for logs and file names.
    pub fn short(&self) -> String {
        self.to_string()[Self::SCHEME.len()..][..8].to_owned()
    }
}

impl fmt::Display for MarketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::SCHEME, BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

impl fmt::Debug for MarketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

impl FromStr for MarketId {
    type Err = BadId;

    /// Reads `msm:market:…` or a bare fingerprint, with or without groups, in either case.
    fn from_str(text: &str) -> Result<Self, BadId> {
        const BAD: BadId = BadId("market fingerprint (52 characters A-Z and 2-7, usually in groups of 4)");
        let text = text.strip_prefix(Self::SCHEME).unwrap_or(text);
        if text.len() > 100 {
            return Err(BAD);
        }
        let base32 = text.replace(['-', ' '], "").to_ascii_uppercase();
        let bytes = BASE32_NOPAD.decode(base32.as_bytes()).map_err(|_| BAD)?;
        Ok(Self(bytes.try_into().map_err(|_| BAD)?))
    }
}

bytes_on_the_wire_text_for_people!(MarketId, 32);

/// One job: 16 random bytes drawn by its requester; 32 hex digits in text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId([u8; 16]);

impl JobId {
    /// Wraps 16 random bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Eight of its random bytes: a seed that differs from job to job.
    pub fn random(&self) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0[8..]);
        bytes
    }

    /// Four hex digits, enough to tell the jobs on one screen apart.
    pub fn short(&self) -> String {
        HEXLOWER.encode(&self.0[..2])
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

impl FromStr for JobId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| BadId("job id (32 hex digits)"))?;
        Ok(Self(bytes.try_into().map_err(|_| BadId("job id (32 hex digits)"))?))
    }
}

bytes_on_the_wire_text_for_people!(JobId, 16);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SecretKey;

    #[test]
    fn peer_id_is_libp2ps() {
        // Seed 1, 0, 0, …: the id that libp2p 0.57 prints for the same key.
        let mut seed = [0; 32];
        seed[0] = 1;
        let peer = PeerId::of(&SecretKey::from_seed(&seed).public());
        let text = peer.to_string();
        assert_eq!(text.len(), 52);
        assert!(text.starts_with("12D3KooW"), "{text}");
        assert_eq!(text.parse(), Ok(peer));
        assert_eq!(peer.short(), text[text.len() - 6..]);
        assert!(text[1..].parse::<PeerId>().is_err());
        assert!(format!("1{text}").parse::<PeerId>().is_err());
    }

    #[test]
    fn a_short_id_is_the_end_of_the_long_one() {
        for n in 0..=255u8 {
            let peer = PeerId([n.wrapping_mul(151); 32]);
            assert!(peer.to_string().ends_with(&peer.short()), "{peer}: {}", peer.short());
        }
    }

    #[test]
    fn market_fingerprint_reads_back_in_every_form() {
        let market = MarketId::of_first_root(b"root");
        for text in [market.to_string(), market.fingerprint(), market.fingerprint().to_lowercase().replace('-', "")] {
            assert_eq!(text.parse(), Ok(market), "{text}");
        }
        assert_eq!(market.fingerprint().len(), 52 + 12);
        assert!("7QK3-M2XD".parse::<MarketId>().is_err());
    }
}
