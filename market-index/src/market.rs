//! The operator's side: a market that is made, filled and changed in one folder.
//!
//! Keys are passed in; where they are kept is not this crate's matter. Every change is checked by the code that users
//! run ([`TrustedMarket`]) before a byte of it is written, so that what cannot be believed cannot be published.

mod change;
mod draft;
mod edit;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use msm_protocol::{
    ContentHash, MarketId, PublicKey, SecretKey, Signed,
    document::{Head, Index, Role, Roles, Status},
    limits::{INDEX_BYTES, PAGE_BYTES},
    review::ReportError,
};

use crate::{
    PackError, Package, TreeError, TrustError, TrustedMarket,
    catalogue::{Catalogue, CatalogueError},
    folder::{FileWrite, FolderError, PublishedFolder, ROOTS},
    trust::{HeadOutcome, NO_CLOCK, check_successor},
};

pub use draft::Wanting;
pub use edit::{Change, Publisher};

use draft::Draft;

/// How long a root is good, seconds: its keys are used once a year, so that they can be kept away from networks.
pub const ROOT_LIFE: u64 = 365 * DAY;
/// How long an index is good, seconds: a device that has met nobody of its market for a month installs nothing new.
pub const INDEX_LIFE: u64 = 30 * DAY;
/// How long a head is good, seconds. As long as an index for now, because operators sign both by hand; a head key on a
/// machine that signs by itself can make this three days, which is how long a hidden revocation could then last.
pub const HEAD_LIFE: u64 = INDEX_LIFE;
const DAY: u64 = 24 * 60 * 60;

/// Why a market was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MarketError {
    /// A file of the market.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The market's own documents are not to be believed, or the change would not be.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The market's own tree is not to be believed.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The package is not one.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// No market here.
    #[error("{path}: holds no market ({missing} is missing)", path = .path.display())]
    NotAMarket {
        /// The folder.
        path: PathBuf,
        /// The first file that is not there.
        missing: String,
    },
    /// A market already.
    #[error("{path}: holds a market already", path = .path.display())]
    AlreadyAMarket {
        /// The folder.
        path: PathBuf,
    },
    /// A key that has no such role in this market.
    #[error("wrong key: {key} may not sign as {role} in this market")]
    WrongKey {
        /// The key.
        key: PublicKey,
        /// `root`, `index` or `head`.
        role: &'static str,
    },
    /// A version means the same bytes for ever.
    #[error("{name} {version} is published already with other bytes ({published}); choose a new version")]
    VersionTaken {
        /// Service name.
        name: String,
        /// Service version.
        version: String,
        /// Hash of the published manifest.
        published: ContentHash,
    },
    /// Not in the index.
    #[error("{name} {version} is not in this market")]
    NotFound {
        /// Service name.
        name: String,
        /// Service version.
        version: String,
    },
    /// A revocation is for ever: devices refuse an index that takes one back.
    #[error("{name} {version} is revoked; publish a new version instead")]
    Revoked {
        /// Service name.
        name: String,
        /// Service version.
        version: String,
    },
    /// Nothing more of its publisher is taken.
    #[error("{publisher} is revoked in this market ({reason})")]
    PublisherRevoked {
        /// The key.
        publisher: PublicKey,
        /// Why it was revoked.
        reason: String,
    },
    /// The market's rules contradict each other, or are out of their bounds.
    #[error("{0}")]
    Rules(String),
    /// A review that does not count.
    #[error("the review: {0}")]
    Review(#[from] ReportError),
    /// A change before this one waits for signatures.
    #[error("index {index} waits for signatures; sign it or discard it first")]
    Draft {
        /// Its number.
        index: u64,
    },
    /// There is no change that waits for signatures, or it is another one.
    #[error("{path}: {reason}", path = .path.display())]
    NoDraft {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// Fewer keys at hand than a role asks for, where all must be.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Wanting(Vec<Wanting>),
    /// A document that cannot be encoded.
    #[error("cannot encode a {document}: {reason}")]
    Encode {
        /// `root`, `index` or `head`.
        document: &'static str,
        /// Why.
        reason: String,
    },
}

/// The keys at hand, by role. A threshold above one takes several.
#[derive(Debug, Clone, Default)]
pub struct Signers<'a> {
    /// Sign roots.
    pub root: Vec<&'a SecretKey>,
    /// Sign indexes.
    pub index: Vec<&'a SecretKey>,
    /// Sign heads.
    pub head: Vec<&'a SecretKey>,
}

impl Signers<'_> {
    /// Roles in which each of these keys suffices alone.
    pub fn roles(&self) -> Roles {
        let role = |keys: &[&SecretKey]| Role { keys: keys.iter().map(|key| key.public()).collect(), threshold: 1 };
        Roles { head: role(&self.head), root: role(&self.root), index: role(&self.index) }
    }
}

/// What a change did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Version of the index that holds it.
    pub index: u64,
    /// False when nothing had to be changed.
    pub changed: bool,
    /// What is still to be signed before anybody sees it; empty when all is done.
    pub wanting: Vec<Wanting>,
}

/// A market's documents as they stand, verified.
#[derive(Debug, Clone)]
pub struct MarketState {
    /// Root, head and index.
    pub trusted: TrustedMarket,
    /// All that it lists.
    pub catalogue: Catalogue,
}

/// A market that its operator changes.
#[derive(Debug, Clone)]
pub struct MarketFolder {
    folder: PublishedFolder,
    market: MarketId,
}

impl MarketFolder {
    /// Makes an empty market in `folder` in which each key suffices alone for its role.
    pub fn init(folder: &Path, name: &str, signers: &Signers<'_>, now: u64) -> Result<Self, MarketError> {
        Self::init_with(folder, name, signers.roles(), signers, now)
    }

    /// Makes an empty market with these roles. Enough of their keys must be among `signers`.
    pub fn init_with(
        folder: &Path,
        name: &str,
        roles: Roles,
        signers: &Signers<'_>,
        now: u64,
    ) -> Result<Self, MarketError> {
        std::fs::create_dir_all(folder).map_err(|source| FolderError::Io { path: folder.to_owned(), source })?;
        let folder = PublishedFolder::at(folder);
        let _lock = folder.lock()?;
        if folder.root(1)?.is_some() {
            return Err(MarketError::AlreadyAMarket { path: folder.path().to_owned() });
        }
        let (market, files) = change::first(name, roles, signers, now)?;
        folder.write(&files)?;
        Ok(Self { folder, market })
    }

    /// Opens the market in `folder` and verifies its documents.
    pub fn open(folder: &Path) -> Result<Self, MarketError> {
        let folder = PublishedFolder::at(folder);
        let first = folder.root(1)?.ok_or_else(|| missing(&folder, "root/1.cbor"))?;
        let envelope = msm_protocol::Envelope::from_slice::<msm_protocol::document::Root>(&first)
            .map_err(|e| TrustError::BadMessage { document: "root", reason: e.to_string() })?;
        let opened = Self { market: MarketId::of_first_root(envelope.payload()), folder };
        opened.state()?;
        Ok(opened)
    }

    /// The line to give to others.
    pub fn share(&self) -> MarketId {
        self.market
    }

    /// Its files.
    pub fn folder(&self) -> &PublishedFolder {
        &self.folder
    }

    /// Reads and verifies everything but the packages. Expired documents are read too: their operator renews them.
    pub fn state(&self) -> Result<MarketState, MarketError> {
        // Signatures, versions and hashes are checked as always.
        let mut trusted = TrustedMarket::pin(self.market);
        for version in 1..=ROOTS {
            let Some(root) = self.folder.root(version)? else { break };
            trusted.update_root(&root, NO_CLOCK)?;
        }
        let head = self.folder.head()?.ok_or_else(|| missing(&self.folder, "head.cbor"))?;
        if let HeadOutcome::Fetch { hash, .. } = trusted.update_head(&head, NO_CLOCK)? {
            let index = self.folder.blob(&hash, INDEX_BYTES)?;
            let index = index.ok_or_else(|| missing(&self.folder, &format!("blobs/{hash}")))?;
            trusted.update_index(&index, NO_CLOCK)?;
        }
        let Some(index) = trusted.index() else {
            return Err(missing(&self.folder, Index::TYPE));
        };
        let catalogue = self.catalogue(index)?;
        Ok(MarketState { trusted, catalogue })
    }

    /// Makes the changes that `edit` lists, in one index. Which of them are allowed is said at [`Change`].
    ///
    /// With too few keys at hand the change is kept as a draft, to be signed by [`MarketFolder::sign`].
    pub fn change(&self, edits: Vec<Change<'_>>, signers: &Signers<'_>, now: u64) -> Result<Outcome, MarketError> {
        let _lock = self.folder.lock()?;
        let state = self.state()?;
        let mut catalogue = state.catalogue.clone();
        let mut files = Vec::new();
        for edit in &edits {
            files.extend(edit.make(&mut catalogue, now)?);
        }
        let mut outcome = Outcome { index: state.index_version(), ..Outcome::default() };
        if catalogue == state.catalogue {
            self.folder.write(&files)?; // mends what a disk or a hand has removed
        } else {
            self.no_draft()?;
            state.allows(signers)?;
            let (draft, pages) = change::draft(&state.trusted, &catalogue, None, now)?;
            files.extend(pages);
            outcome = self.finish(&state.trusted, draft, files, signers, now)?;
        }
        if outcome.wanting.is_empty() {
            for edit in &edits {
                edit.clean(&self.folder, &catalogue)?;
            }
        }
        Ok(outcome)
    }

    /// Puts `package` into the market. The same package again changes nothing and says so; another package under the
    /// same name and version is refused.
    pub fn publish(
        &self,
        package: &Package,
        publisher: &Publisher,
        signers: &Signers<'_>,
        now: u64,
    ) -> Result<Outcome, MarketError> {
        self.change(vec![Change::Publish { package, publisher }], signers, now)
    }

    /// Yanks, un-yanks or revokes a release. The blobs of a revoked package are removed.
    pub fn set_status(
        &self,
        name: &str,
        version: &str,
        status: Status,
        reason: &str,
        signers: &Signers<'_>,
        now: u64,
    ) -> Result<Outcome, MarketError> {
        self.change(vec![Change::Status { name, version, status, reason }], signers, now)
    }

    /// Signs with `draft` what the keys at hand can sign: if that is all, it is published, else kept.
    fn finish(
        &self,
        before: &TrustedMarket,
        mut draft: Draft,
        mut files: Vec<FileWrite>,
        signers: &Signers<'_>,
        now: u64,
    ) -> Result<Outcome, MarketError> {
        let index = before.floor().index.map_or(0, |mark| mark.version) + 1;
        match draft.sign(before, signers, now)? {
            Ok(signed) => {
                files.extend(signed.files);
                self.folder.write(&files)?;
                Draft::remove(&self.folder)?;
                Ok(Outcome { index: signed.version, changed: true, wanting: Vec::new() })
            }
            Err(wanting) => {
                files.extend(draft.files()?);
                self.folder.write(&files)?;
                Ok(Outcome { index, changed: true, wanting })
            }
        }
    }

    fn no_draft(&self) -> Result<(), MarketError> {
        match self.draft()? {
            Some(index) => Err(MarketError::Draft { index }),
            None => Ok(()),
        }
    }

    /// The number of the index that waits for signatures, if one does.
    pub fn draft(&self) -> Result<Option<u64>, MarketError> {
        let Some(draft) = Draft::load(&self.folder)? else { return Ok(None) };
        Ok(Some(draft.number()?))
    }

    /// Signs the change that waits with the keys at hand, and publishes it when it has all that it needs. `copies` are
    /// folders of the same market in which others have signed: their signatures are taken too.
    pub fn sign(&self, copies: &[PathBuf], signers: &Signers<'_>, now: u64) -> Result<Outcome, MarketError> {
        let _lock = self.folder.lock()?;
        let none = |path: &Path, reason| MarketError::NoDraft { path: path.to_owned(), reason };
        let state = self.state()?;
        let Some(mut draft) = Draft::load(&self.folder)? else {
            return Err(none(self.folder.path(), "nothing waits for signatures here"));
        };
        for copy in copies {
            let Some(other) = Draft::load(&PublishedFolder::at(copy))? else {
                return Err(none(copy, "nothing waits for signatures there"));
            };
            if !draft.merge(&other) {
                return Err(none(copy, "what waits for signatures there is another change"));
            }
        }
        self.successor(&state, &draft)?;
        self.finish(&state.trusted, draft, Vec::new(), signers, now)
    }

    /// Signs the change that waits in a copy of the folder, and publishes nothing even when no signature is wanting: the
    /// market itself is where that is done, once.
    pub fn cosign(&self, signers: &Signers<'_>, now: u64) -> Result<Outcome, MarketError> {
        let _lock = self.folder.lock()?;
        let state = self.state()?;
        let Some(mut draft) = Draft::load(&self.folder)? else {
            let reason = "nothing waits for signatures here";
            return Err(MarketError::NoDraft { path: self.folder.path().to_owned(), reason });
        };
        self.successor(&state, &draft)?;
        let signed = draft.sign(&state.trusted, signers, now)?;
        self.folder.write(&draft.files()?)?;
        let wanting = signed.err().unwrap_or_default();
        Ok(Outcome { index: draft.number()?, changed: true, wanting })
    }

    /// Refuses to sign what devices would not believe as the next state of this market: the tree is read, and compared.
    fn successor(&self, state: &MarketState, draft: &Draft) -> Result<(), MarketError> {
        let index = draft.index()?;
        let follows = (state.index_version() + 1, state.trusted.floor().index.map(|mark| mark.hash), self.market);
        if (index.version, index.prev, index.market) != follows {
            let reason = "what waits for signatures does not follow the index in use; discard it";
            return Err(MarketError::NoDraft { path: self.folder.path().to_owned(), reason });
        }
        let next = self.catalogue(&index)?;
        check_successor(&state.catalogue.releases, &next.releases)?;
        let gone =
            state.catalogue.revocations.iter().find(|old| !next.revocations.iter().any(|it| it.target == old.target));
        if let Some(gone) = gone {
            let reason = format!("what waits for signatures takes back a revocation ({})", gone.reason);
            return Err(MarketError::Rules(reason));
        }
        Ok(())
    }

    fn catalogue(&self, index: &Index) -> Result<Catalogue, MarketError> {
        Catalogue::read(index, |page| self.folder.blob(page, PAGE_BYTES)).map_err(|error| match error {
            CatalogueError::Tree(error) => MarketError::Tree(error),
            CatalogueError::Page(error) => error.into(),
            CatalogueError::Missing(page) => missing(&self.folder, &format!("blobs/{page}")),
        })
    }

    /// Gives up the change that waits for signatures. What it would have published stays unlisted.
    pub fn discard(&self) -> Result<(), MarketError> {
        let _lock = self.folder.lock()?;
        Draft::remove(&self.folder)
    }

    /// Signs the newest state again, so that it stays fresh: head and index with an index key at hand, else the head
    /// alone. [`MarketState::stale_from`] says until when.
    pub fn refresh(&self, signers: &Signers<'_>, now: u64) -> Result<Outcome, MarketError> {
        let _lock = self.folder.lock()?;
        let state = self.state()?;
        if signers.index.is_empty() {
            let files = change::renewed_head(state.trusted.clone(), signers, now)?;
            self.folder.write(&files)?;
            return Ok(Outcome { index: state.index_version(), changed: true, wanting: Vec::new() });
        }
        self.no_draft()?;
        state.allows(signers)?;
        let (draft, pages) = change::draft(&state.trusted, &state.catalogue, None, now)?;
        self.finish(&state.trusted, draft, pages, signers, now)
    }

    /// Gives the market new keys: a root signed by the old and the new root keys, then an index and a head signed by
    /// the new ones. With the old index and head keys among `signers` too, readers can follow at every moment in
    /// between; without them (they are lost or stolen) a reader in between finds the old head refused, and comes back.
    /// With too few root keys at hand it is kept as a draft.
    pub fn rotate(&self, roles: Roles, signers: &Signers<'_>, now: u64) -> Result<Outcome, MarketError> {
        let _lock = self.folder.lock()?;
        let state = self.state()?;
        self.no_draft()?;
        let root = change::next_root(&state.trusted, roles.clone(), now)?;
        let (draft, pages) = change::draft(&state.trusted, &state.catalogue, Some(&root), now)?;
        if draft.clone().sign(&state.trusted, signers, now)?.is_ok() {
            // Every key is here: readers are led across.
            let (index, files) = change::rotated(state, roles, signers, now)?;
            self.folder.write(&files)?;
            return Ok(Outcome { index, changed: true, wanting: Vec::new() });
        }
        self.finish(&state.trusted, draft, pages, signers, now)
    }
}

impl MarketState {
    /// Refuses keys that no role of the market knows.
    fn allows(&self, signers: &Signers<'_>) -> Result<(), MarketError> {
        let root = self.trusted.root().ok_or(TrustError::RootVersion { needed: 1, found: 0 })?;
        change::allowed(&signers.index, &[&root.roles.index], Index::TYPE)?;
        change::allowed(&signers.head, &[&root.roles.head], Head::TYPE)
    }

    /// Version of the index.
    pub fn index_version(&self) -> u64 {
        self.trusted.index().map_or(0, |index| index.version)
    }

    /// When devices stop installing from it, Unix seconds, unless it is refreshed.
    pub fn stale_from(&self) -> u64 {
        self.trusted.fresh_until().unwrap_or(0)
    }
}

fn missing(folder: &PublishedFolder, file: &str) -> MarketError {
    MarketError::NotAMarket { path: folder.path().to_owned(), missing: file.to_owned() }
}
