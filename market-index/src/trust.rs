//! The user's side: which root, head and index of a pinned market to believe. Bytes and `now` in, decisions out.
//!
//! # Order of checks
//! Every document passes the same checks in the same order; each has its own error, named for the attack it stops:
//!
//! | check | stops | error |
//! |---|---|---|
//! | size and form | bombs, bytes that read in two ways | [`TrustError::BadMessage`] |
//! | type | a signature moved from another kind of document | [`TrustError::WrongType`] |
//! | signatures | forgery, one key counted twice | [`TrustError::Untrusted`], [`TrustError::Threshold`] |
//! | market id | a document of another market of the same operator | [`TrustError::MarketMismatch`] |
//! | root version | skipped or hidden key changes | [`TrustError::RootVersion`] |
//! | expiry | freezing a device on an old truth | [`TrustError::Expired`] |
//! | not signed in the future | a wrong clock, here or there, that would make all later documents look expired | [`TrustError::ClockSuspect`] |
//! | version >= floor | rollback | [`TrustError::Rollback`] |
//! | same version, same bytes | showing two truths to two devices | [`TrustError::Equivocation`] |
//! | step | a version so high that no later one can follow | [`TrustError::FastForward`] |
//!
//! State changes only after the last of them has passed.
//!
//! # Use
//! Feed every root from version 1 (or from the one after the newest held), then the head, then the index that
//! [`HeadOutcome::Fetch`] asks for. After each accepted step write [`TrustedMarket::floor`] durably, outside any cache,
//! *before* using what was accepted. After a restart begin with [`TrustedMarket::from_floor`] and feed the same
//! documents again from wherever they can be had.

mod error;
mod floor;
mod releases;

use msm_protocol::{
    ContentHash, Envelope, MarketId, PublicKey, Signed, Verified, VerifyError, cbor,
    document::{DOCUMENT_VERSION, Head, Index, Role, Root},
    limits::{CLOCK_SKEW, DELEGATIONS, KEYS_PER_ROLE, NAME_BYTES, REVIEWERS, SIGNATURES, VERSION_STEP},
    manifest::is_line,
};

pub use error::TrustError;
pub use floor::{Floor, Mark};
pub use releases::check_successor;

/// Characters of a market's own name.
pub const MARKET_NAME_CHARS: usize = 64;
/// For `now`: dates are not looked at. For what was believed before, and for whoever inspects or renews a market.
pub const NO_CLOCK: u64 = 0;

/// What became of a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootOutcome {
    /// Already held.
    Known,
    /// Now the newest.
    Accepted {
        /// Its version.
        version: u64,
        /// True when heads and indexes under it are refused, because its own time is over. A later root may end that.
        expired: bool,
    },
}

/// What became of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadOutcome {
    /// Nothing new.
    Known,
    /// The index that is held is still the newest; it stays fresh for longer now.
    Renewed,
    /// An index to be fetched and given to [`TrustedMarket::update_index`].
    Fetch {
        /// Hash of the index envelope.
        hash: ContentHash,
        /// Its bytes.
        size: u64,
        /// Its version.
        version: u64,
    },
}

/// What became of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexOutcome {
    /// Already in use.
    Known,
    /// In use from now on; the floor moved: write it first.
    Accepted {
        /// Its version.
        version: u64,
    },
}

/// How far an index can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Nothing newer can have been hidden for longer than the market allows.
    Fresh,
    /// Installed services keep running, nothing new installs.
    Stale {
        /// When it went stale, Unix seconds.
        since: u64,
    },
    /// No index is held.
    Unknown,
}

/// A document that was accepted, with the envelope it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held<T> {
    envelope: Envelope,
    document: Verified<T>,
}

/// What a device believes about one pinned market.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedMarket {
    market: MarketId,
    floor: Floor,
    root: Option<Verified<Root>>,
    /// Hash of the newest root's payload.
    root_hash: Option<ContentHash>,
    /// The head of the index in use.
    head: Option<Held<Head>>,
    /// A newer head whose index has not come yet.
    pending: Option<Held<Head>>,
    index: Option<Held<Index>>,
}

impl TrustedMarket {
    /// Begins to trust a market that this device has never seen.
    pub fn pin(market: MarketId) -> Self {
        Self::from_floor(market, Floor::default())
    }

    /// Goes on with a market after a restart: nothing is held, and nothing below `floor` will be believed.
    pub fn from_floor(market: MarketId, floor: Floor) -> Self {
        Self { market, floor, root: None, root_hash: None, head: None, pending: None, index: None }
    }

    /// The pinned market.
    pub fn market(&self) -> MarketId {
        self.market
    }

    /// What must be written durably before anything accepted is used.
    pub fn floor(&self) -> Floor {
        self.floor
    }

    /// The newest root.
    pub fn root(&self) -> Option<&Verified<Root>> {
        self.root.as_ref()
    }

    /// The head of the index in use.
    pub fn head(&self) -> Option<&Verified<Head>> {
        self.head.as_ref().map(|held| &held.document)
    }

    /// The index in use.
    pub fn index(&self) -> Option<&Verified<Index>> {
        self.index.as_ref().map(|held| &held.document)
    }

    /// Version of the root to ask for next.
    pub fn next_root(&self) -> u64 {
        self.root.as_ref().map_or(1, |root| root.version.saturating_add(1))
    }

    /// The index that is still to be fetched.
    pub fn wanted_index(&self) -> Option<HeadOutcome> {
        self.pending.as_ref().map(|head| fetch(&head.document))
    }

    /// How far the index in use can be relied on at `now` (Unix seconds).
    pub fn freshness(&self, now: u64) -> Freshness {
        match self.fresh_until() {
            None => Freshness::Unknown,
            Some(until) if until > self.time(now) => Freshness::Fresh,
            Some(since) => Freshness::Stale { since },
        }
    }

    /// When the index in use goes stale: the first end among root, head and index, Unix seconds.
    pub fn fresh_until(&self) -> Option<u64> {
        let (root, head, index) = (self.root.as_ref()?, self.head()?, self.index()?);
        Some(root.expires.min(head.expires).min(index.expires))
    }

    /// Takes the next root of the chain.
    ///
    /// The first root is believed because its hash is the pinned fingerprint, each later one because the root keys of
    /// the one before it and its own have signed it. An expired root is accepted as a step of the chain and says so.
    ///
    /// A root that takes the head or index role away from all of its keys begins a new line of versions: the floor of
    /// the index is lifted, which ends a fast-forward (B10), and nothing that the old keys have signed counts any more.
    pub fn update_root(&mut self, bytes: &[u8], now: u64) -> Result<RootOutcome, TrustError> {
        let envelope = self.open::<Root>(bytes)?;
        let hash = ContentHash::of(envelope.payload());
        if self.root_hash == Some(hash) {
            return Ok(RootOutcome::Known);
        }
        let root = match &self.root {
            None => self.first_root(&envelope, hash)?,
            Some(held) => self.next_in_chain(held, &envelope)?,
        };
        if let Some(mark) = self.floor.root
            && mark.version == root.version
            && mark.hash != hash
        {
            return Err(TrustError::Equivocation { document: Root::TYPE, version: root.version });
        }

        // Every check has passed.
        let outcome = RootOutcome::Accepted { version: root.version, expired: root.expires <= self.time(now) };
        if self.floor.root.is_none_or(|mark| mark.version < root.version) {
            if self.root.as_ref().is_some_and(|old| takes_over(old, &root)) {
                self.floor.index = None;
                self.floor.time = 0;
            }
            self.floor.root = Some(Mark { hash, version: root.version });
        }
        self.root = Some(root);
        self.root_hash = Some(hash);
        self.drop_what_lost_its_signatures();
        Ok(outcome)
    }

    /// Takes a head. `now` is the device's clock, Unix seconds.
    pub fn update_head(&mut self, bytes: &[u8], now: u64) -> Result<HeadOutcome, TrustError> {
        let envelope = self.open::<Head>(bytes)?;
        let root = self.whole_root()?;
        let head: Verified<Head> = self.verify(&envelope, &root.roles.head)?;
        self.same_market::<Head>(&head.market)?;
        format::<Head>(head.v == DOCUMENT_VERSION && head.version > 0 && head.issued < head.expires && head.size > 0)?;
        if head.root > root.version {
            return Err(TrustError::RootVersion { needed: head.root, found: root.version });
        }
        let mark = Mark { hash: head.hash, version: head.version };
        self.unexpired::<Head>(head.expires, mark, now)?;
        self.signed_by_now::<Head>(head.issued, now)?;
        self.in_line::<Head>(mark)?;
        if let Some(pending) = self.pending.as_ref().map(|held| &held.document) {
            if head.version < pending.version && Some(mark) != self.floor.index {
                let (trusted, offered) = (pending.version, head.version);
                return Err(TrustError::Rollback { document: Head::TYPE, trusted, offered });
            }
            if head.version == pending.version && head.hash != pending.hash {
                return Err(TrustError::Equivocation { document: Head::TYPE, version: head.version });
            }
        }

        // Every check has passed.
        self.floor.time = self.floor.time.max(head.issued);
        let newer = |held: &Option<Held<Head>>| held.as_ref().is_none_or(|held| held.document.issued < head.issued);
        if self.index.is_some() && self.floor.index == Some(mark) {
            if !newer(&self.head) {
                return Ok(HeadOutcome::Known);
            }
            self.head = Some(Held { envelope, document: head });
            return Ok(HeadOutcome::Renewed);
        }
        let outcome = fetch(&head);
        if newer(&self.pending) || self.pending.as_ref().is_some_and(|held| held.document.version < head.version) {
            self.pending = Some(Held { envelope, document: head });
        }
        Ok(outcome)
    }

    /// Takes the index that [`HeadOutcome::Fetch`] asked for.
    pub fn update_index(&mut self, bytes: &[u8], now: u64) -> Result<IndexOutcome, TrustError> {
        let envelope = self.open::<Index>(bytes)?;
        let root = self.whole_root()?;
        let index: Verified<Index> = self.verify(&envelope, &root.roles.index)?;
        self.same_market::<Index>(&index.market)?;
        format::<Index>(index.v == DOCUMENT_VERSION && index.issued < index.expires)?;
        format::<Index>(coherent(&index))?;
        let mark = Mark { hash: ContentHash::of(bytes), version: index.version };
        self.unexpired::<Index>(index.expires, mark, now)?;
        self.signed_by_now::<Index>(index.issued, now)?;
        self.in_line::<Index>(mark)?;
        if let Some(floor) = self.floor.index
            && floor.version.checked_add(1) == Some(index.version)
            && index.prev != Some(floor.hash)
        {
            return Err(TrustError::Equivocation { document: Index::TYPE, version: floor.version });
        }
        if self.index.is_some() && self.floor.index == Some(mark) {
            return Ok(IndexOutcome::Known);
        }
        let announced = self.pending.as_ref().map(|held| &held.document).filter(|head| head.version == index.version);
        match announced {
            Some(head) if head.hash != mark.hash || head.size != bytes.len() as u64 => {
                return Err(TrustError::Equivocation { document: Index::TYPE, version: index.version });
            }
            Some(_) => {}
            None => return Err(TrustError::Unannounced { version: index.version }),
        }

        // Every check has passed.
        self.floor.time = self.floor.time.max(index.issued);
        self.floor.index = Some(mark);
        self.head = self.pending.take();
        self.index = Some(Held { envelope, document: index });
        Ok(IndexOutcome::Accepted { version: mark.version })
    }

    /// Forgets the head whose index has not come: nobody has it, or what they had was refused. A stolen head key alone
    /// must not be able to stop updates by announcing an index that does not exist.
    pub fn abandon_head(&mut self) {
        self.pending = None;
    }

    /// The later of the device's clock and the latest moment that the market has signed: a clock that was set back does
    /// not make expired documents valid.
    fn time(&self, now: u64) -> u64 {
        now.max(self.floor.time)
    }

    fn open<T: Signed>(&self, bytes: &[u8]) -> Result<Envelope, TrustError> {
        Envelope::from_slice::<T>(bytes).map_err(|e| self.refusal::<T>(e))
    }

    fn verify<T: Signed>(&self, envelope: &Envelope, role: &Role) -> Result<Verified<T>, TrustError> {
        envelope.verify(&role.keys, usize::from(role.threshold)).map_err(|e| self.refusal::<T>(e))
    }

    fn refusal<T: Signed>(&self, error: VerifyError) -> TrustError {
        let document = T::TYPE;
        match error {
            VerifyError::Type { expected, found } => TrustError::WrongType { expected, found },
            VerifyError::Threshold { valid: 0, .. } => TrustError::Untrusted { document, market: self.market },
            VerifyError::Threshold { valid, threshold } => TrustError::Threshold { document, valid, threshold },
            other => TrustError::BadMessage { document, reason: other.to_string() },
        }
    }

    /// Believes a root by its fingerprint.
    fn first_root(&self, envelope: &Envelope, hash: ContentHash) -> Result<Verified<Root>, TrustError> {
        let found = MarketId::from_bytes(*hash.as_bytes());
        self.same_market::<Root>(&found)?;
        // The pinned hash vouches for these bytes, so that reading them before the signatures is safe; the keys in
        // them must have signed all the same, or nobody could ever replace them.
        let root: Root = cbor::from_slice(envelope.payload(), Root::LIMIT)
            .map_err(|e| self.refusal::<Root>(VerifyError::Cbor(e)))?;
        well_formed(&root)?;
        if root.version != 1 {
            return Err(TrustError::RootVersion { needed: 1, found: root.version });
        }
        format::<Root>(root.market.is_none())?;
        self.verify(envelope, &root.roles.root)
    }

    /// Believes a root because the one before it does.
    fn next_in_chain(&self, held: &Verified<Root>, envelope: &Envelope) -> Result<Verified<Root>, TrustError> {
        let root: Verified<Root> = self.verify(envelope, &held.roles.root)?;
        if let Some(found) = &root.market {
            self.same_market::<Root>(found)?;
        }
        well_formed(&root)?;
        if root.version == held.version {
            return Err(TrustError::Equivocation { document: Root::TYPE, version: root.version });
        }
        if root.version != held.version.saturating_add(1) {
            return Err(TrustError::RootVersion { needed: held.version.saturating_add(1), found: root.version });
        }
        format::<Root>(root.market.is_some())?;
        self.verify(envelope, &root.roles.root)
    }

    /// The newest root, if the chain reaches as far as it did before.
    fn whole_root(&self) -> Result<&Verified<Root>, TrustError> {
        let needed = self.floor.root.map_or(1, |mark| mark.version);
        match &self.root {
            Some(root) if root.version >= needed => Ok(root),
            held => Err(TrustError::RootVersion { needed, found: held.as_ref().map_or(0, |root| root.version) }),
        }
    }

    fn same_market<T: Signed>(&self, found: &MarketId) -> Result<(), TrustError> {
        if *found == self.market {
            return Ok(());
        }
        Err(TrustError::MarketMismatch { document: T::TYPE, expected: self.market, found: *found })
    }

    /// Refuses what has expired, unless it is the very index that was believed before (a device without contact keeps
    /// what it has; it is stale then, and a newer one is still needed to install anything).
    fn unexpired<T: Signed>(&self, expires: u64, mark: Mark, now: u64) -> Result<(), TrustError> {
        if self.floor.index == Some(mark) {
            return Ok(());
        }
        let now = self.time(now);
        let root = self.root.as_ref().map_or(0, |root| root.expires);
        for (document, expires) in [(Root::TYPE, root), (T::TYPE, expires)] {
            if expires <= now {
                return Err(TrustError::Expired { document, expires, now });
            }
        }
        Ok(())
    }

    /// Refuses what was signed later than it is: it would move the latest known moment, and with it the end of every
    /// document, by as much as a clock is wrong (B89).
    fn signed_by_now<T: Signed>(&self, issued: u64, now: u64) -> Result<(), TrustError> {
        let latest = self.time(now).saturating_add(CLOCK_SKEW.as_secs());
        if now == NO_CLOCK || issued <= latest {
            return Ok(());
        }
        Err(TrustError::ClockSuspect { document: T::TYPE, issued, now })
    }

    /// Compares a version with the floor: not below it, the same bytes on it, not far above it.
    fn in_line<T: Signed>(&self, offered: Mark) -> Result<(), TrustError> {
        let trusted = self.floor.index.map_or(0, |mark| mark.version);
        let document = T::TYPE;
        if offered.version < trusted {
            return Err(TrustError::Rollback { document, trusted, offered: offered.version });
        }
        if let Some(mark) = self.floor.index
            && mark.version == offered.version
            && mark.hash != offered.hash
        {
            return Err(TrustError::Equivocation { document, version: trusted });
        }
        if offered.version - trusted > VERSION_STEP {
            return Err(TrustError::FastForward { document, trusted, offered: offered.version });
        }
        Ok(())
    }

    /// After a new root: documents whose keys have lost their role are no longer believed, whoever holds those keys.
    fn drop_what_lost_its_signatures(&mut self) {
        let Some(root) = &self.root else { return };
        let still = |held: &Held<Head>| self.verify::<Head>(&held.envelope, &root.roles.head).is_ok();
        let head = self.head.as_ref().is_some_and(still);
        let pending = self.pending.as_ref().is_some_and(still);
        let index =
            self.index.as_ref().is_some_and(|held| self.verify::<Index>(&held.envelope, &root.roles.index).is_ok());
        if !pending {
            self.pending = None;
        }
        if !(head && index) {
            self.head = None;
            self.index = None;
        }
    }
}

fn fetch(head: &Head) -> HeadOutcome {
    HeadOutcome::Fetch { hash: head.hash, size: head.size, version: head.version }
}

/// True when no head or no index signed under `old` can count under `new`.
fn takes_over(old: &Root, new: &Root) -> bool {
    let replaced = |old: &Role, new: &Role| {
        new.keys.iter().filter(|key| old.keys.contains(key)).count() < usize::from(new.threshold)
    };
    replaced(&old.roles.head, &new.roles.head) || replaced(&old.roles.index, &new.roles.index)
}

fn format<T: Signed>(good: bool) -> Result<(), TrustError> {
    let reason = || "fields that contradict each other or an unknown format version".to_owned();
    if good { Ok(()) } else { Err(TrustError::BadMessage { document: T::TYPE, reason: reason() }) }
}

/// True when the roots of the trees fit the number of releases, and the rules are within their bounds.
fn coherent(index: &Index) -> bool {
    let distinct = |keys: &[PublicKey]| keys.iter().enumerate().all(|(n, key)| !keys[..n].contains(key));
    let policy = &index.policy;
    let delegations = &index.delegations;
    let prefix = |text: &str| {
        let name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        (1..=NAME_BYTES).contains(&text.len()) && text.chars().all(name)
    };
    index.names.is_some() == (index.releases > 0)
        && (index.words.is_none() || index.releases > 0)
        && usize::from(policy.reviews) <= policy.reviewers.len()
        && policy.reviewers.len() <= REVIEWERS
        && distinct(&policy.reviewers)
        && delegations.len() <= DELEGATIONS
        && delegations.windows(2).all(|pair| pair[0].prefix < pair[1].prefix)
        && delegations
            .iter()
            .all(|one| (1..=KEYS_PER_ROLE).contains(&one.keys.len()) && distinct(&one.keys) && prefix(&one.prefix))
}

fn well_formed(root: &Root) -> Result<(), TrustError> {
    let distinct = |keys: &[PublicKey]| keys.iter().enumerate().all(|(n, key)| !keys[..n].contains(key));
    let role = |role: &Role| {
        let most = role.keys.len().min(KEYS_PER_ROLE).min(SIGNATURES);
        role.keys.len() <= KEYS_PER_ROLE && distinct(&role.keys) && (1..=most).contains(&usize::from(role.threshold))
    };
    let roles = [&root.roles.root, &root.roles.index, &root.roles.head];
    format::<Root>(root.v == DOCUMENT_VERSION && is_line(&root.name, MARKET_NAME_CHARS) && roles.into_iter().all(role))
}
