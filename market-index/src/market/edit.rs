//! [`Change`]: what an operator may do to a market's catalogue.

use std::collections::BTreeSet;

use msm_protocol::{
    ContentHash, Manifest, PublicKey, SecretKey, Signature,
    document::{Delegation, Entry as _, Policy, Release, Review, Revocation, Status, Target, publication_digest},
    limits::{MANIFEST_BYTES, REVIEWS},
    review::{Report, ReportError},
};

use super::{MarketError, change};
use crate::{
    Package,
    catalogue::Catalogue,
    entry,
    folder::{FileWrite, FolderError, PublishedFolder},
};

/// Who brings a package in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publisher {
    /// The key.
    pub key: PublicKey,
    /// Its signature of the package; needed where the name is delegated.
    pub signature: Option<Signature>,
}

impl Publisher {
    /// A publisher who is only named.
    pub fn named(key: PublicKey) -> Self {
        Self { key, signature: None }
    }

    /// A publisher who signs `package`.
    pub fn signing(key: &SecretKey, package: &Package) -> Self {
        let manifest = &package.manifest;
        let digest = publication_digest(&manifest.name, &manifest.version, &package.hash);
        Self { key: key.public(), signature: Some(key.sign(&digest)) }
    }
}

/// One change of a catalogue.
#[derive(Debug)]
#[non_exhaustive]
pub enum Change<'a> {
    /// A new release. A name and version mean the same bytes for ever, and a revoked publisher brings nothing in.
    Publish {
        /// The package.
        package: &'a Package,
        /// Who brings it in.
        publisher: &'a Publisher,
    },
    /// Yanks, un-yanks or revokes a release. A revocation is for ever.
    Status {
        /// Service name.
        name: &'a str,
        /// Service version.
        version: &'a str,
        /// Its status from now on.
        status: Status,
        /// Why, for people; looked at for a revocation.
        reason: &'a str,
    },
    /// Revokes everything that a key has brought in or will.
    RevokePublisher {
        /// The key.
        publisher: PublicKey,
        /// Why, for people.
        reason: &'a str,
    },
    /// Adds a reviewer's signed report to the release that it is about; an earlier one of the same reviewer goes.
    Review {
        /// The envelope of a [`Report`].
        report: &'a [u8],
        /// Who has signed it.
        reviewer: PublicKey,
    },
    /// Gives all names with a prefix to some keys, or back to everybody when there are none.
    Delegate(Delegation),
    /// Sets how many reviews a release needs, and whose count.
    Policy(Policy),
}

impl Change<'_> {
    /// Changes `catalogue`, and returns the files that belong to the change.
    pub(super) fn make(&self, catalogue: &mut Catalogue, now: u64) -> Result<Vec<FileWrite>, MarketError> {
        match self {
            Self::Publish { package, publisher } => publish(catalogue, package, publisher),
            Self::Status { name, version, status, reason } => {
                set_status(catalogue, name, version, *status, reason, now).map(|()| Vec::new())
            }
            Self::RevokePublisher { publisher, reason } => {
                for release in catalogue.releases.iter_mut().filter(|release| release.publisher == *publisher) {
                    release.status = Status::Revoked;
                }
                revoke(catalogue, Target::Publisher(*publisher), reason, now);
                Ok(Vec::new())
            }
            Self::Review { report, reviewer } => review(catalogue, report, *reviewer),
            Self::Delegate(delegation) => {
                let all = &mut catalogue.delegations;
                all.retain(|other| other.prefix != delegation.prefix);
                if !delegation.keys.is_empty() {
                    all.push(delegation.clone());
                    all.sort_by(|a, b| a.prefix.cmp(&b.prefix));
                }
                Ok(Vec::new())
            }
            Self::Policy(policy) => {
                if usize::from(policy.reviews) > policy.reviewers.len() {
                    let (needed, reviewers) = (policy.reviews, policy.reviewers.len());
                    let reason = format!("{needed} reviews are asked for, and the reviews of {reviewers} keys count");
                    return Err(MarketError::Rules(reason));
                }
                catalogue.policy = policy.clone();
                Ok(Vec::new())
            }
        }
    }

    /// Removes from `folder` what nobody is to get any more.
    pub(super) fn clean(&self, folder: &PublishedFolder, catalogue: &Catalogue) -> Result<(), MarketError> {
        let gone: Vec<&Release> = match self {
            Self::Status { name, version, status: Status::Revoked, .. } => {
                catalogue.releases.iter().filter(|it| it.name == *name && it.version == *version).collect()
            }
            Self::RevokePublisher { publisher, .. } => {
                catalogue.releases.iter().filter(|it| it.publisher == *publisher).collect()
            }
            _ => return Ok(()),
        };
        remove_packages(folder, catalogue, &gone)
    }
}

fn publish(catalogue: &mut Catalogue, package: &Package, publisher: &Publisher) -> Result<Vec<FileWrite>, MarketError> {
    package.check()?;
    let release = Release { signature: publisher.signature, ..entry::release_of(package, publisher.key) };
    let place = catalogue.releases.binary_search_by_key(&release.key(), Release::key);
    if let Ok(place) = place {
        let there = &mut catalogue.releases[place];
        if there.manifest != release.manifest {
            let (name, version) = (release.name, release.version);
            return Err(MarketError::VersionTaken { name, version, published: there.manifest });
        }
        // Whoever brought it in may sign for it later: a name that comes to be delegated needs that.
        if release.signature.is_some() && there.status != Status::Revoked {
            (there.publisher, there.signature) = (release.publisher, release.signature);
            if let Some(reason) = entry::undelegated(&catalogue.delegations, &release) {
                return Err(MarketError::Rules(format!("{} {}: {reason}", release.name, release.version)));
            }
        }
        let there = &catalogue.releases[place];
        return Ok(if there.status == Status::Revoked { Vec::new() } else { change::package_files(package) });
    }
    if let Some(revocation) = catalogue.revocation(&release) {
        let (publisher, reason) = (release.publisher, revocation.reason.clone());
        return Err(match revocation.target {
            Target::Publisher(_) => MarketError::PublisherRevoked { publisher, reason },
            Target::Package(_) => MarketError::Revoked { name: release.name, version: release.version },
        });
    }
    if let Some(reason) = entry::undelegated(&catalogue.delegations, &release) {
        return Err(MarketError::Rules(format!("{} {}: {reason}", release.name, release.version)));
    }
    let place = place.unwrap_or_else(|place| place);
    catalogue.releases.insert(place, release);
    Ok(change::package_files(package))
}

fn set_status(
    catalogue: &mut Catalogue,
    name: &str,
    version: &str,
    status: Status,
    reason: &str,
    now: u64,
) -> Result<(), MarketError> {
    let found = catalogue.releases.iter_mut().find(|release| release.name == name && release.version == version);
    let (name, version) = (name.to_owned(), version.to_owned());
    let Some(release) = found else { return Err(MarketError::NotFound { name, version }) };
    if release.status == Status::Revoked && status != Status::Revoked {
        return Err(MarketError::Revoked { name, version });
    }
    release.status = status;
    let manifest = release.manifest;
    if status == Status::Revoked {
        revoke(catalogue, Target::Package(manifest), reason, now);
    }
    Ok(())
}

/// Notes a revocation; the first one stays.
fn revoke(catalogue: &mut Catalogue, target: Target, reason: &str, now: u64) {
    let all = &mut catalogue.revocations;
    if let Err(place) = all.binary_search_by(|it| it.target.cmp(&target)) {
        all.insert(place, Revocation { since: now, reason: reason.to_owned(), target });
    }
}

fn review(catalogue: &mut Catalogue, report: &[u8], reviewer: PublicKey) -> Result<Vec<FileWrite>, MarketError> {
    let read = Report::read(report, &reviewer)?;
    if !read.passed {
        return Err(ReportError::Failed(read.checks.iter().find_map(|check| check.fault.clone())).into());
    }
    let Some(release) = catalogue.releases.iter_mut().find(|release| release.manifest == read.manifest) else {
        let (name, version) = (read.name.clone(), read.version.clone());
        return Err(MarketError::NotFound { name, version });
    };
    if (&release.name, &release.version) != (&read.name, &read.version) {
        return Err(ReportError::Another(read.manifest).into());
    }
    let hash = ContentHash::of(report);
    release.reviews.retain(|other| other.reviewer != reviewer);
    if release.reviews.len() == REVIEWS {
        return Err(MarketError::Rules(format!("{} {} has {REVIEWS} reviews already", release.name, release.version)));
    }
    release.reviews.push(Review { report: hash, reviewer });
    release.reviews.sort_by_key(|review| review.reviewer);
    Ok(vec![FileWrite::blob(&hash, report.to_vec())])
}

/// Removes the blobs of packages, but for those that another release still uses.
fn remove_packages(folder: &PublishedFolder, catalogue: &Catalogue, gone: &[&Release]) -> Result<(), MarketError> {
    let blobs = |release: &Release| -> Result<Vec<ContentHash>, FolderError> {
        let bytes = folder.blob(&release.manifest, MANIFEST_BYTES)?;
        let manifest: Option<Manifest> = bytes.and_then(|bytes| entry::open_manifest(release, &bytes).ok());
        Ok(manifest.map(|manifest| manifest.blobs().map(|(hash, _)| hash).collect()).unwrap_or_default())
    };
    // A damaged manifest keeps nothing from being removed.
    let there: Vec<_> = gone.iter().map(|release| (release.manifest, blobs(release).unwrap_or_default())).collect();
    let mut in_use = BTreeSet::new();
    for release in catalogue.releases.iter().filter(|release| release.status != Status::Revoked) {
        in_use.extend(blobs(release)?);
    }
    for (manifest, blobs) in there {
        for hash in blobs.iter().filter(|hash| !in_use.contains(hash)) {
            folder.remove_blob(hash)?;
        }
        // Last: it is what leads to the others.
        folder.remove_blob(&manifest)?;
    }
    Ok(())
}
