//! What a device never forgets about a market: below this nothing is believed.

use msm_protocol::ContentHash;
use serde::{Deserialize, Serialize};

/// A version and the bytes it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Of a root the payload, of an index the envelope.
    pub hash: ContentHash,
    /// The version.
    pub version: u64,
}

/// The lowest state of one market that may be believed.
///
/// It is small and fixed in form: keep it outside every cache, in two copies, written and synced before what moved it is
/// used. Its CBOR is deterministic (fields stand in key order).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floor {
    /// The newest root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Mark>,
    /// The latest moment that the market has signed, Unix seconds.
    pub time: u64,
    /// The newest index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<Mark>,
}
