//! [`Proof`]: two histories that one market has signed, for anybody to check who knows its fingerprint.
//!
//! A market that shows different indexes to different people can only do so by signing two of one number, or an index
//! that does not follow the one before it. Either is kept with the roots that vouch for the keys, and needs no witness.

use msm_protocol::{
    ContentHash, Envelope, MarketId, VerifyError,
    cbor::{self, CborError},
    document::{Head, Index},
};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{
    TrustError, TrustedMarket,
    trust::{Mark, NO_CLOCK},
};

/// Bytes of one proof: two small documents and the roots before them. *Judgement*: hundreds of roots fit.
pub const PROOF_BYTES: usize = 1024 * 1024;

/// Two documents of one market that cannot both be true. Nothing in it is believed before [`Proof::check`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// Envelope of a head.
    pub a: ByteBuf,
    /// Envelope of another head of the same number, or of the index after `a` that follows another one.
    pub b: ByteBuf,
    /// Format version, 1.
    pub v: u8,
    /// Every root up to the one under which both count.
    pub roots: Vec<ByteBuf>,
    /// The market.
    pub market: MarketId,
}

/// What a proof shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histories {
    /// The market.
    pub market: MarketId,
    /// Version of the root whose keys have signed both.
    pub root: u64,
    /// Number of the index of which there are two.
    pub version: u64,
    /// The two, by the hash of their envelopes. The second is absent when an index says that it follows none.
    pub hashes: (ContentHash, Option<ContentHash>),
}

/// Why something is no proof.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// Not readable.
    #[error("bad-message: {0}")]
    Cbor(#[from] CborError),
    /// Of another version.
    #[error("version {0} is not 1")]
    Version(u8),
    /// The roots are not those of the market.
    #[error("its roots: {0}")]
    Roots(#[from] TrustError),
    /// A document that the market has not signed under the last of the roots.
    #[error("one of its documents: {0}")]
    Document(#[from] VerifyError),
    /// Signed, and of another market.
    #[error("one of its documents belongs to {0}")]
    AnotherMarket(MarketId),
    /// Both can be true.
    #[error("its documents agree")]
    NoContradiction,
}

impl Proof {
    /// Reads a proof.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, ProofError> {
        let proof: Self = cbor::from_slice(bytes, PROOF_BYTES)?;
        if proof.v == 1 { Ok(proof) } else { Err(ProofError::Version(proof.v)) }
    }

    /// The bytes to keep and to pass on.
    pub fn to_vec(&self) -> Result<Vec<u8>, CborError> {
        cbor::to_vec(self)
    }

    /// What it shows, if it shows anything. Dates play no part: a contradiction does not expire.
    pub fn check(&self) -> Result<Histories, ProofError> {
        let mut trusted = TrustedMarket::pin(self.market);
        for root in &self.roots {
            trusted.update_root(root, NO_CLOCK)?;
        }
        let root = trusted.root().ok_or(TrustError::RootVersion { needed: 1, found: 0 })?;
        let head = |bytes: &[u8]| {
            let envelope = Envelope::from_slice::<Head>(bytes)?;
            envelope.verify::<Head>(&root.roles.head.keys, usize::from(root.roles.head.threshold))
        };
        let a = head(&self.a)?;
        let (market, other) = match head(&self.b) {
            Ok(b) => (b.market, (b.version == a.version).then_some(Some(b.hash))),
            Err(VerifyError::Type { .. }) => {
                let envelope = Envelope::from_slice::<Index>(&self.b)?;
                let role = &root.roles.index;
                let b = envelope.verify::<Index>(&role.keys, usize::from(role.threshold))?;
                (b.market, (a.version.checked_add(1) == Some(b.version)).then_some(b.prev))
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(other) = [a.market, market].into_iter().find(|market| *market != self.market) {
            return Err(ProofError::AnotherMarket(other));
        }
        match other {
            Some(other) if other != Some(a.hash) => {
                Ok(Histories { market, root: root.version, version: a.version, hashes: (a.hash, other) })
            }
            _ => Err(ProofError::NoContradiction),
        }
    }
}

/// The heads of older indexes that a device has believed, to be held against what others were shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Past(Vec<Step>);

/// One index that was in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Step {
    head: ByteBuf,
    mark: Mark,
}

impl Past {
    /// Keeps the head of an index that comes into use; the oldest is forgotten when there are
    /// [`HEADS_KEPT`](msm_protocol::limits::HEADS_KEPT).
    pub fn add(&mut self, mark: Mark, head: &[u8]) {
        self.0.retain(|step| step.mark.version < mark.version);
        self.0.push(Step { mark, head: ByteBuf::from(head) });
        let most = msm_protocol::limits::HEADS_KEPT;
        self.0.drain(..self.0.len().saturating_sub(most));
    }

    /// The head that announced index `version`.
    pub fn head(&self, version: u64) -> Option<&ByteBuf> {
        self.0.iter().find(|step| step.mark.version == version).map(|step| &step.head)
    }

    /// Forgets everything: other keys begin another history.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}
