//! The operator's side: a market that is made, filled and changed in one folder.
//!
//! Keys are passed in; where they are kept is not this crate's matter. Every change is checked by the code that users
//! run ([`TrustedMarket`]) before a byte of it is written, so that what cannot be believed cannot be published.

mod change;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use msm_protocol::{
    ContentHash, MarketId, PublicKey, SecretKey, Signed,
    document::{Release, Role, Roles, Status},
    limits::{INDEX_BYTES, PAGE_BYTES},
};

use crate::{
    PackError, Package, TreeError, TreeWalk, TrustError, TrustedMarket, entry,
    folder::{FolderError, PublishedFolder, ROOTS},
    trust::HeadOutcome,
};

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

/// What publishing did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// False when the market had exactly this release already (its status may have changed since).
    pub new: bool,
    /// The release as it stands in the index.
    pub release: Release,
    /// Version of the index that holds it.
    pub index: u64,
}

/// A market's documents as they stand, verified.
#[derive(Debug, Clone)]
pub struct MarketState {
    /// Root, head and index.
    pub trusted: TrustedMarket,
    /// Every release, in order.
    pub releases: Vec<Release>,
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
        // At time 0 nothing has expired; signatures, versions and hashes are checked as always.
        let mut trusted = TrustedMarket::pin(self.market);
        for version in 1..=ROOTS {
            let Some(root) = self.folder.root(version)? else { break };
            trusted.update_root(&root, 0)?;
        }
        let head = self.folder.head()?.ok_or_else(|| missing(&self.folder, "head.cbor"))?;
        if let HeadOutcome::Fetch { hash, .. } = trusted.update_head(&head, 0)? {
            let index = self.folder.blob(&hash, INDEX_BYTES)?;
            let index = index.ok_or_else(|| missing(&self.folder, &format!("blobs/{hash}")))?;
            trusted.update_index(&index, 0)?;
        }
        let releases = read_releases(&self.folder, &trusted)?;
        Ok(MarketState { trusted, releases })
    }

    /// Puts `package` into the market. The same package again changes nothing and says so; another package under the
    /// same name and version is refused.
    pub fn publish(
        &self,
        package: &Package,
        publisher: PublicKey,
        signers: &Signers<'_>,
        now: u64,
    ) -> Result<Published, MarketError> {
        package.check()?;
        let _lock = self.folder.lock()?;
        let state = self.state()?;
        let release = entry::release_of(package, publisher);
        if let Some(there) = state.releases.iter().find(|there| there.key() == release.key()) {
            if there.manifest != release.manifest {
                let (name, version) = (release.name, release.version);
                return Err(MarketError::VersionTaken { name, version, published: there.manifest });
            }
            if there.status != Status::Revoked {
                self.folder.write(&change::package_files(package))?; // mends what a disk or a hand has removed
            }
            return Ok(Published { new: false, release: there.clone(), index: state.index_version() });
        }
        let mut releases = state.releases.clone();
        releases.push(release.clone());
        let mut files = change::package_files(package);
        let (index, signed) = change::next(state.trusted, &releases, signers, now)?;
        files.extend(signed);
        self.folder.write(&files)?;
        Ok(Published { new: true, release, index })
    }

    /// Yanks, un-yanks or revokes a release. Returns the version of the index that says so; a status that a release has
    /// already makes no new index. The blobs of a revoked package are removed.
    pub fn set_status(
        &self,
        name: &str,
        version: &str,
        status: Status,
        signers: &Signers<'_>,
        now: u64,
    ) -> Result<u64, MarketError> {
        let _lock = self.folder.lock()?;
        let state = self.state()?;
        let (owned_name, owned_version) = (name.to_owned(), version.to_owned());
        let mut releases = state.releases.clone();
        let Some(release) = releases.iter_mut().find(|release| release.name == name && release.version == version)
        else {
            return Err(MarketError::NotFound { name: owned_name, version: owned_version });
        };
        let mut index = state.index_version();
        if release.status == Status::Revoked && status != Status::Revoked {
            return Err(MarketError::Revoked { name: owned_name, version: owned_version });
        }
        if release.status != status {
            release.status = status;
            let (next, files) = change::next(state.trusted, &releases, signers, now)?;
            self.folder.write(&files)?;
            index = next;
        }
        if status == Status::Revoked {
            change::remove_revoked(&self.folder, &releases, name, version)?;
        }
        Ok(index)
    }

    /// Signs the newest state again, so that it stays fresh: head and index with an index key at hand, else the head
    /// alone. Returns when the market goes stale now, Unix seconds.
    pub fn refresh(&self, signers: &Signers<'_>, now: u64) -> Result<u64, MarketError> {
        let _lock = self.folder.lock()?;
        let state = self.state()?;
        let files = if signers.index.is_empty() {
            change::renewed_head(state.trusted, signers, now)?
        } else {
            change::next(state.trusted, &state.releases, signers, now)?.1
        };
        self.folder.write(&files)?;
        Ok(self.state()?.stale_from())
    }

    /// Gives the market new keys: a root signed by the old and the new root keys, then an index and a head signed by
    /// the new ones. With the old index and head keys among `signers` too, readers can follow at every moment in
    /// between; without them (they are lost or stolen) a reader in between finds the old head refused, and comes back.
    pub fn rotate(&self, roles: Roles, signers: &Signers<'_>, now: u64) -> Result<u64, MarketError> {
        let _lock = self.folder.lock()?;
        let state = self.state()?;
        let (version, files) = change::rotated(state, roles, signers, now)?;
        self.folder.write(&files)?;
        Ok(version)
    }
}

impl MarketState {
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

/// All releases of the index in use.
fn read_releases(folder: &PublishedFolder, trusted: &TrustedMarket) -> Result<Vec<Release>, MarketError> {
    let Some(index) = trusted.index() else {
        return Err(missing(folder, msm_protocol::document::Index::TYPE));
    };
    let mut walk = TreeWalk::all(index);
    let mut fault = None;
    let absent = walk.advance(|page| {
        folder.blob(page, PAGE_BYTES).unwrap_or_else(|e| {
            fault.get_or_insert(e);
            None
        })
    })?;
    if let Some(fault) = fault {
        return Err(fault.into());
    }
    if let Some(page) = absent.first() {
        return Err(missing(folder, &format!("blobs/{page}")));
    }
    Ok(walk.releases()?)
}
