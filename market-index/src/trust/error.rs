//! [`TrustError`]: why a document of a market is not believed, one name per attack.

use msm_protocol::{MarketId, limits::VERSION_STEP};

/// Why a document is not believed. The texts after `refused: ` are names that other programs may rely on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// Too long, not deterministic CBOR, or not the document that it claims to be.
    #[error("refused: bad-message: {document}: {reason}")]
    BadMessage {
        /// `root`, `head` or `index`.
        document: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Another kind of document.
    #[error("refused: wrong-type: expected a {expected}, got a {found:?}")]
    WrongType {
        /// The kind asked for.
        expected: &'static str,
        /// The kind found.
        found: String,
    },
    /// None of the keys that the market allows has signed.
    #[error("refused: untrusted-market: no key that {market} allows has signed this {document}")]
    Untrusted {
        /// `root`, `head` or `index`.
        document: &'static str,
        /// The pinned market.
        market: MarketId,
    },
    /// Some of the keys have signed, but not enough of them.
    #[error("refused: threshold {valid}/{threshold}: too few keys have signed this {document}")]
    Threshold {
        /// `root`, `head` or `index`.
        document: &'static str,
        /// Distinct keys that have.
        valid: usize,
        /// Keys that it takes.
        threshold: usize,
    },
    /// Signed by the right keys for another market, or a first root with another fingerprint.
    #[error("refused: market-mismatch: this {document} belongs to {found}, not to {expected}")]
    MarketMismatch {
        /// `root`, `head` or `index`.
        document: &'static str,
        /// The pinned market.
        expected: MarketId,
        /// The market it says.
        found: MarketId,
    },
    /// The chain of roots has a gap, or does not reach as far as it should.
    #[error("refused: root-version: root {needed} is needed, got root {found}")]
    RootVersion {
        /// The version that may come now.
        needed: u64,
        /// The version that came, or that is held.
        found: u64,
    },
    /// Valid until a moment that has passed. Somebody may be holding back what came after it.
    #[error("refused: expired: this {document} was good until {expires}, it is {now} (Unix seconds)")]
    Expired {
        /// `root`, `head` or `index`.
        document: &'static str,
        /// Its end, Unix seconds.
        expires: u64,
        /// The latest time known, Unix seconds.
        now: u64,
    },
    /// Signed at a moment that has not come by this device's clock. One of the two clocks is wrong.
    #[error(
        "refused: clock-suspect: this {document} was signed at {issued}, this device's clock says {now} (Unix seconds); set the clock"
    )]
    ClockSuspect {
        /// `head` or `index`.
        document: &'static str,
        /// When it was signed, Unix seconds.
        issued: u64,
        /// This device's clock, Unix seconds.
        now: u64,
    },
    /// Older than what was believed before.
    #[error("refused: rollback {offered}<{trusted}: an older {document} than this device has seen")]
    Rollback {
        /// `root`, `head` or `index`.
        document: &'static str,
        /// Version seen before.
        trusted: u64,
        /// Version offered.
        offered: u64,
    },
    /// Two documents where there can be one. The market's keys are misused, or its operator has lost a state.
    #[error("refused: equivocation: the market has signed two histories at {document} {version}")]
    Equivocation {
        /// `root`, `head` or `index`.
        document: &'static str,
        /// Where they part.
        version: u64,
    },
    /// A version that jumps further than any market gets by publishing.
    #[error("refused: fast-forward {trusted}->{offered}: a {document} may step by at most {VERSION_STEP}")]
    FastForward {
        /// `head` or `index`.
        document: &'static str,
        /// Version seen before.
        trusted: u64,
        /// Version offered.
        offered: u64,
    },
    /// An index that no believed head points to.
    #[error("refused: unannounced: no head of this market points to index {version} with these bytes")]
    Unannounced {
        /// Version of the index.
        version: u64,
    },
    /// A release changed in a way that no release may.
    #[error("refused: {reason}: {name}@{version}")]
    Release {
        /// `changed` or `unrevoked`.
        reason: &'static str,
        /// Service name.
        name: String,
        /// Service version.
        version: String,
    },
}
