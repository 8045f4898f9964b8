//! [`Proof`]: two histories that one market has signed, for anybody to check who knows its fingerprint.
//!
//! A market that shows different indexes to different people can only do so by signing two of one number, or an index
//! that does not follow the one before it. Either is kept with the roots that vouch for the keys, and needs no witness.
//! Heads prove nothing: the head key lies near a network, and a thief of it alone must not be able to stop a market.

use msm_protocol::{
    ContentHash, Envelope, MarketId, VerifyError,
    cbor::{self, CborError},
    document::Index,
};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{
    TrustError, TrustedMarket,
    trust::{Mark, NO_CLOCK},
};

/// Bytes of one proof: two documents and the roots before them. *Judgement*: hundreds of roots fit.
pub const PROOF_BYTES: usize = 1024 * 1024;
/// Bytes of the indexes that are kept of one market.
const PAST_BYTES: usize = 256 * 1024;

/// Two documents of one market that cannot both be true. Nothing in it is believed before [`Proof::check`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// Envelope of an index.
    pub a: ByteBuf,
    /// Envelope of another index of the same number, or of the next one that follows another than `a`.
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
        let role = &root.roles.index;
        let index = |bytes: &[u8]| {
            let envelope = Envelope::from_slice::<Index>(bytes)?;
            let index = envelope.verify::<Index>(&role.keys, usize::from(role.threshold))?;
            Ok::<_, VerifyError>((index, ContentHash::of(envelope.payload())))
        };
        let ((a, a_payload), (b, b_payload)) = (index(&self.a)?, index(&self.b)?);
        if let Some(other) = [a.market, b.market].into_iter().find(|market| *market != self.market) {
            return Err(ProofError::AnotherMarket(other));
        }
        let (own, market) = (ContentHash::of(&self.a), self.market);
        // The same words under other signatures are no other history.
        let other = if a.version == b.version {
            (a_payload != b_payload).then(|| Some(ContentHash::of(&self.b)))
        } else if a.version.checked_add(1) == Some(b.version) {
            (b.prev != Some(own)).then_some(b.prev)
        } else {
            None
        };
        match other {
            Some(other) => Ok(Histories { market, root: root.version, version: a.version, hashes: (own, other) }),
            None => Err(ProofError::NoContradiction),
        }
    }
}

/// The older indexes that a device has believed, to be held against what others were shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Past(Vec<Step>);

/// One index that was in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Step {
    mark: Mark,
    index: ByteBuf,
}

impl Past {
    /// Keeps the envelope of an index that comes into use; the oldest is forgotten when there are
    /// [`INDEXES_KEPT`](msm_protocol::limits::INDEXES_KEPT), or when they are larger than a record may be.
    pub fn add(&mut self, mark: Mark, index: &[u8]) {
        self.0.retain(|step| step.mark.version < mark.version);
        self.0.push(Step { mark, index: ByteBuf::from(index) });
        let bytes = |steps: &[Step]| steps.iter().map(|step| step.index.len()).sum::<usize>();
        while self.0.len() > 1 && bytes(&self.0) > PAST_BYTES {
            self.0.remove(0);
        }
        let most = msm_protocol::limits::INDEXES_KEPT;
        self.0.drain(..self.0.len().saturating_sub(most));
    }

    /// The envelope of index `version`.
    pub fn index(&self, version: u64) -> Option<&ByteBuf> {
        self.0.iter().find(|step| step.mark.version == version).map(|step| &step.index)
    }

    /// The hash of that envelope.
    pub fn hash(&self, version: u64) -> Option<ContentHash> {
        self.0.iter().find(|step| step.mark.version == version).map(|step| step.mark.hash)
    }

    /// Forgets everything: other keys begin another history.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}
