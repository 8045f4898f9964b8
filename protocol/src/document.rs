//! What a market signs: [`Root`] (who may sign), [`Index`] (what there is), [`Head`] (which index is newest), and the
//! [`Page`]s below an index.
//!
//! Times are Unix seconds. Fields stand in CBOR key order.

use serde::{Deserialize, Serialize};

use crate::{
    ContentHash, MarketId, PublicKey, Signed,
    limits::{HEAD_BYTES, INDEX_BYTES, ROOT_BYTES},
};

/// The format version of every document here.
pub const DOCUMENT_VERSION: u8 = 1;

/// The keys that may sign for one role, and how many of them it takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Distinct keys, at most [`crate::limits::KEYS_PER_ROLE`].
    pub keys: Vec<PublicKey>,
    /// 1 to `keys.len()`.
    pub threshold: u16,
}

/// The three roles of a market.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roles {
    /// May say which index is newest. Short-lived, near a network.
    pub head: Role,
    /// May sign the next root. Offline.
    pub root: Role,
    /// May sign indexes.
    pub index: Role,
}

/// A market's keys and thresholds. The hash of version 1's payload is the market's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// [`DOCUMENT_VERSION`].
    pub v: u8,
    /// The market's own name, for people: one line of at most 64 characters. Never an identity.
    pub name: String,
    /// Who may sign what.
    pub roles: Roles,
    /// Absent in version 1 (which defines it), present afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub market: Option<MarketId>,
    /// After this no longer to be believed.
    pub expires: u64,
    /// 1, 2, 3, …: version n+1 is signed by the root roles of n and of n+1.
    pub version: u64,
}

impl Signed for Root {
    const TYPE: &'static str = "root";
    const LIMIT: usize = ROOT_BYTES;
}

/// A market's own rules.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Reviews that a release needs before a node shows it.
    pub reviews: u16,
}

/// A market's catalogue: small, because the releases lie in a tree of pages below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// [`DOCUMENT_VERSION`].
    pub v: u8,
    /// Hash of the envelope of the index before this one, absent in the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<ContentHash>,
    /// Root page of the tree of releases, absent when there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<ContentHash>,
    /// When this was signed.
    pub issued: u64,
    /// The market it belongs to.
    pub market: MarketId,
    /// The market's rules.
    pub policy: Policy,
    /// After this, installed services keep running and nothing new installs.
    pub expires: u64,
    /// Counts up by one with each index.
    pub version: u64,
    /// Releases in the tree.
    pub releases: u64,
}

impl Signed for Index {
    const TYPE: &'static str = "index";
    const LIMIT: usize = INDEX_BYTES;
}

/// The tiny pointer to the newest index: what is gossiped and put into the DHT.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// [`DOCUMENT_VERSION`].
    pub v: u8,
    /// Hash of the index envelope.
    pub hash: ContentHash,
    /// Version of the newest root.
    pub root: u64,
    /// Bytes of the index envelope, not 0.
    pub size: u64,
    /// When this was signed.
    pub issued: u64,
    /// The market it belongs to.
    pub market: MarketId,
    /// After this the market is stale (somebody may be hiding a newer one).
    pub expires: u64,
    /// Version of the index.
    pub version: u64,
}

impl Signed for Head {
    const TYPE: &'static str = "head";
    const LIMIT: usize = HEAD_BYTES;
}

/// Whether a release may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// May be picked.
    Active,
    /// No new picks; pinned uses go on.
    Yanked,
    /// Never runs again.
    Revoked,
}

/// One version of one service in a market. `(name, version)` means the same `manifest` for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Service name.
    pub name: String,
    /// Bytes of the manifest blob.
    pub size: u64,
    /// Usage scope, such as `media/image`.
    pub scope: String,
    /// Permission rating, 1 (may see much) to 6 (may touch nothing).
    pub rating: u8,
    /// May it be used.
    pub status: Status,
    /// Engines of its variants, in order of preference.
    pub engines: Vec<String>,
    /// One line for people.
    pub summary: String,
    /// Semantic version.
    pub version: String,
    /// Hash of the manifest blob: what the market's signature vouches for.
    pub manifest: ContentHash,
    /// Who brought it in.
    pub publisher: PublicKey,
}

/// A child of an inner page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    /// Hash of the child page.
    pub page: ContentHash,
    /// The first key below it.
    pub first: PageKey,
}

/// What pages are ordered by: name, then version text, both by bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PageKey {
    /// Service name.
    pub name: String,
    /// Version text.
    pub version: String,
}

impl Release {
    /// Its place in the tree.
    pub fn key(&self) -> PageKey {
        PageKey { name: self.name.clone(), version: self.version.clone() }
    }
}

/// A page of the tree of releases: a blob named by its hash, unsigned, vouched for by the index above it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Page {
    /// Releases in order.
    Leaf(Vec<Release>),
    /// Child pages in order.
    Inner(Vec<Child>),
}
