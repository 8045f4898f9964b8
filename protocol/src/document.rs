//! What a market signs: [`Root`] (who may sign), [`Index`] (what there is), [`Head`] (which index is newest), and the
//! [`Page`]s of the three trees below an index: of [`Release`]s, of the [`Mention`]s of words, of [`Revocation`]s.
//!
//! Times are Unix seconds. Fields stand in CBOR key order.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::{
    ContentHash, MarketId, PublicKey, Signature, Signed,
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
    /// Reviews by different [`Policy::reviewers`] that a release needs before a node shows or installs it.
    pub reviews: u16,
    /// Whose reviews count, at most [`crate::limits::REVIEWERS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reviewers: Vec<PublicKey>,
}

/// Who alone may bring in services whose names begin with a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegation {
    /// One of these has signed each release ([`Release::signature`]), at most [`crate::limits::KEYS_PER_ROLE`].
    pub keys: Vec<PublicKey>,
    /// What the names begin with, or a whole name. Of several that fit, the longest decides.
    pub prefix: String,
}

/// A market's catalogue: small, because all that grows with the market lies in trees of pages below it.
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
    /// Root page of the tree of [`Mention`]s, by which services are searched; absent when there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words: Option<ContentHash>,
    /// When this was signed.
    pub issued: u64,
    /// The market it belongs to.
    pub market: MarketId,
    /// The market's rules.
    pub policy: Policy,
    /// After this, installed services keep running and nothing new installs.
    pub expires: u64,
    /// Root page of the tree of [`Revocation`]s, absent when there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<ContentHash>,
    /// Counts up by one with each index.
    pub version: u64,
    /// Releases in the tree.
    pub releases: u64,
    /// Names that are others' to publish, at most [`crate::limits::DELEGATIONS`], in the order of their prefixes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub delegations: Vec<Delegation>,
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
    /// Signed reports about it, at most [`crate::limits::REVIEWS`], each by another reviewer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reviews: Vec<Review>,
    /// One line for people.
    pub summary: String,
    /// Semantic version.
    pub version: String,
    /// Hash of the manifest blob: what the market's signature vouches for.
    pub manifest: ContentHash,
    /// Who brought it in.
    pub publisher: PublicKey,
    /// The publisher's own, over [`publication_digest`]; present where a [`Delegation`] asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
}

/// A review in a market's entry: who wrote it, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Review {
    /// Hash of the envelope of a [`crate::review::Report`], a blob.
    pub report: ContentHash,
    /// Whose signature it carries.
    pub reviewer: PublicKey,
}

/// What a publisher signs about a release: `SHA-256("msm:publication:1" 0x00 name 0x00 version 0x00 manifest)`. No name
/// and no version holds a zero byte.
pub fn publication_digest(name: &str, version: &str, manifest: &ContentHash) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in [b"msm:publication:1", name.as_bytes(), version.as_bytes()] {
        hasher.update(part);
        hasher.update([0]);
    }
    hasher.update(manifest.as_bytes());
    hasher.finalize().into()
}

/// One service that a word finds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mention {
    /// In lower case: of its name, scope or summary.
    pub word: String,
    /// The name of the service.
    pub service: String,
}

/// What is never to run again, whichever release brings it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The package with this manifest.
    Package(ContentHash),
    /// Every release that this key has brought in.
    Publisher(PublicKey),
}

/// A revocation: it stays for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// When it was signed for the first time.
    pub since: u64,
    /// For people: one line.
    pub reason: String,
    /// What is revoked.
    pub target: Target,
}

/// An entry of a market's trees.
pub trait Entry: Clone + Serialize + DeserializeOwned {
    /// What the entries of its tree are ordered by, each once.
    type Key: Clone + Ord + std::fmt::Debug + Serialize + DeserializeOwned;

    /// Its place in the tree.
    fn key(&self) -> Self::Key;
}

/// A child of an inner page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child<K> {
    /// Hash of the child page.
    pub page: ContentHash,
    /// The first key below it.
    pub first: K,
}

/// What the tree of releases is ordered by: name, then version text, both by bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReleaseKey {
    /// Service name.
    pub name: String,
    /// Version text.
    pub version: String,
}

impl Entry for Release {
    type Key = ReleaseKey;

    fn key(&self) -> ReleaseKey {
        ReleaseKey { name: self.name.clone(), version: self.version.clone() }
    }
}

/// Ordered by word, then service name, both by bytes.
impl Entry for Mention {
    type Key = Self;

    fn key(&self) -> Self {
        self.clone()
    }
}

impl Entry for Revocation {
    type Key = Target;

    fn key(&self) -> Target {
        self.target.clone()
    }
}

/// A page of one of a market's trees: a blob named by its hash, unsigned, vouched for by the index above it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    rename_all = "kebab-case",
    bound(
        serialize = "E: Serialize, E::Key: Serialize",
        deserialize = "E: DeserializeOwned, E::Key: DeserializeOwned"
    )
)]
pub enum Page<E: Entry> {
    /// Entries in order.
    Leaf(Vec<E>),
    /// Child pages in order.
    Inner(Vec<Child<E::Key>>),
}
