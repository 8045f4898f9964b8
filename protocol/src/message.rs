//! The short messages: discovery, heads, blobs, presence. Fields stand in CBOR key order.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{ContentHash, MarketId, Refusal, Signed, device::Requirements, limits::GOSSIP_BYTES};

/// Protocol and topic names, exactly as they are negotiated.
pub mod name {
    use crate::MarketId;

    /// Prefix of the identify protocol version.
    pub const IDENTIFY: &str = "/msm/id/1";
    /// Kademlia.
    pub const KAD: &str = "/msm/kad/1";
    /// Discovery message and DeviceInfo.
    pub const DEVICE: &str = "/msm/device/1";
    /// Newest head and roots of a market.
    pub const HEAD: &str = "/msm/head/1";
    /// Ranges of blobs.
    pub const BLOB: &str = "/msm/blob/1";
    /// One stream for each (job, worker).
    pub const JOB: &str = "/msm/job/1";
    /// Gossip: "I am here".
    pub const PRESENCE: &str = "/msm/presence/1";

    /// Gossip: new heads of one market.
    pub fn market_topic(market: &MarketId) -> String {
        format!("/msm/market/{}/1", &market.to_string()["msm:market:".len()..])
    }

    /// Kademlia key of a market's head record.
    pub fn head_key(market: &MarketId) -> Vec<u8> {
        let mut key = b"/msm/head/".to_vec();
        key.extend_from_slice(market.as_bytes());
        key
    }
}

/// `/msm/device/1` request: the paper's discovery message. Answered by a [`crate::device::DeviceInfo`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Discovery {
    /// Format version, 1.
    pub v: u8,
    /// What the job would ask; a device that does not meet it answers `availability: false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub need: Option<Requirements>,
}

/// `/msm/head/1` request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadRequest {
    /// Format version, 1.
    pub v: u8,
    /// Send roots of higher versions than this; 0 when nothing is known of the market.
    pub root: u64,
    /// The market asked about.
    pub market: MarketId,
    /// An index that was in use here: the one of that number is asked for, to tell whether both were shown the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

/// `/msm/head/1` response. Empty when the peer does not know the market.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HeadResponse {
    /// Newest head envelope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<ByteBuf>,
    /// The envelope of index [`HeadRequest::version`], if that was asked for and is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub past: Option<ByteBuf>,
    /// Root envelopes in order of version, from the first one asked for; at most
    /// [`crate::limits::ROOTS_PER_RESPONSE`], and as many mean that there may be more.
    pub roots: Vec<ByteBuf>,
}

/// `/msm/blob/1` request: bytes `offset..offset + len` of a blob. `len` 0 asks only whether the peer has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlobRequest {
    /// Format version, 1.
    pub v: u8,
    /// Bytes wanted, at most [`crate::limits::CHUNK_BYTES`].
    pub len: u32,
    /// The blob.
    pub hash: ContentHash,
    /// If the blob is a manifest that is sent whole: bytes of the blobs it names that may come with it. 0 is left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u32,
    /// Place of the first byte in the blob.
    pub offset: u64,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// `/msm/blob/1` response.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlobResponse {
    /// The bytes asked for (fewer at the end of the blob) and the blob's whole size.
    Have(BlobRange),
    /// The peer does not have it.
    Missing,
    /// The peer has no room for this request now.
    Refused(Refusal),
}

/// A piece of a blob.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlobRange {
    /// Blobs that the asked-for manifest names, those that fit into [`BlobRequest::more`], in its order, at
    /// most [`crate::limits::MORE_BLOBS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more: Vec<ByteBuf>,
    /// Bytes of the whole blob, as the sender says.
    pub size: u64,
    /// The bytes.
    pub bytes: ByteBuf,
}

/// `/msm/presence/1` gossip, in an envelope signed by the peer's own key: small, and with nothing about its state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Presence {
    /// Format version, 1.
    pub v: u8,
    /// Sender's Unix seconds: an old message is not repeated as news.
    pub time: u64,
    /// Where it listens: at most [`crate::limits::PRESENCE_ADDRESSES`] multiaddresses in text.
    pub addresses: Vec<String>,
}

impl Signed for Presence {
    const TYPE: &'static str = "presence";
    const LIMIT: usize = GOSSIP_BYTES;
}
