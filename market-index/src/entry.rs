//! What a market says about one release, and the rules that publisher and user both check it by.

use msm_protocol::{
    ContentHash, Manifest, PublicKey,
    document::{Delegation, Entry as _, Policy, Release, Revocation, Status, Target, publication_digest},
    limits::{ENTRY_BYTES, MANIFEST_BYTES, REVIEWS, REVOCATION_REASON_CHARS, VARIANTS},
    manifest::{is_line, is_name, is_scope},
};
use semver::Version;

use crate::{Package, tree::Leaf};

/// Bytes of a version text. Semantic versions have no length of their own.
pub const VERSION_BYTES: usize = 64;
/// Characters of a summary: one line in a table.
pub const SUMMARY_CHARS: usize = 120;

/// Why a manifest blob does not belong to its release.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestMismatch {
    /// Not the bytes that the market vouches for.
    #[error("hash mismatch: the market says {expected}, the bytes are {found}")]
    Hash {
        /// In the market's entry.
        expected: ContentHash,
        /// Of the bytes.
        found: ContentHash,
    },
    /// Not a manifest.
    #[error(transparent)]
    Manifest(#[from] msm_protocol::manifest::ManifestError),
    /// The entry describes another service than the manifest.
    #[error("the market's entry and the manifest disagree on {0}")]
    Field(&'static str),
}

/// The entry of `package` when `publisher` brings it in.
pub fn release_of(package: &Package, publisher: PublicKey) -> Release {
    describe(&package.manifest, package.hash, package.manifest_bytes.len() as u64, publisher)
}

/// The delegation that a name falls under: the one with the longest prefix.
pub fn delegation_of<'a>(delegations: &'a [Delegation], name: &str) -> Option<&'a Delegation> {
    let fits = delegations.iter().filter(|delegation| name.starts_with(&delegation.prefix));
    fits.max_by_key(|delegation| delegation.prefix.len())
}

/// Why a release may not stand under its name: the name is delegated, and none of the keys that it is delegated to has
/// signed this very package. Whoever holds the market's own keys cannot get around it without a new index that says so.
pub fn undelegated(delegations: &[Delegation], release: &Release) -> Option<&'static str> {
    let delegation = delegation_of(delegations, &release.name)?;
    if !delegation.keys.contains(&release.publisher) {
        return Some("its publisher is none of those that its name is delegated to");
    }
    let digest = publication_digest(&release.name, &release.version, &release.manifest);
    match &release.signature {
        None => Some("its name is delegated, and its publisher has not signed it"),
        Some(signature) if !release.publisher.verifies(&digest, signature) => {
            Some("its publisher's signature is not of this package")
        }
        Some(_) => None,
    }
}

/// How many reviews of `release` count under `policy`, as far as the entry tells. Before anything is installed the
/// reviews themselves are read ([`msm_protocol::review::Report::open`]).
pub fn reviews_of(policy: &Policy, release: &Release) -> usize {
    release.reviews.iter().filter(|review| policy.reviewers.contains(&review.reviewer)).count()
}

/// Checks a manifest blob against the release that names it, and decodes it. The only way from an entry to a manifest.
pub fn open_manifest(release: &Release, bytes: &[u8]) -> Result<Manifest, ManifestMismatch> {
    let found = ContentHash::of(bytes);
    if found != release.manifest {
        return Err(ManifestMismatch::Hash { expected: release.manifest, found });
    }
    let manifest = Manifest::from_slice(bytes)?;
    // People choose by the entry: it must not promise what the manifest does not hold.
    let own = describe(&manifest, found, bytes.len() as u64, release.publisher);
    for (field, same) in [
        ("name", own.name == release.name),
        ("version", own.version == release.version),
        ("size", own.size == release.size),
        ("scope", own.scope == release.scope),
        ("rating", own.rating == release.rating),
        ("engines", own.engines == release.engines),
        ("summary", own.summary == release.summary),
    ] {
        if !same {
            return Err(ManifestMismatch::Field(field));
        }
    }
    Ok(manifest)
}

fn describe(manifest: &Manifest, hash: ContentHash, size: u64, publisher: PublicKey) -> Release {
    Release {
        name: manifest.name.clone(),
        size,
        scope: manifest.scope.clone(),
        rating: manifest.permissions.rating(),
        status: Status::Active,
        engines: manifest.variants.iter().map(|variant| variant.engine.as_str().to_owned()).collect(),
        reviews: Vec::new(),
        summary: manifest.summary.clone(),
        version: manifest.version.clone(),
        manifest: hash,
        publisher,
        signature: None,
    }
}

/// Why an entry may not stand in an index: the first of its fields that is out of its rules (B35: a name that is a
/// path, holds a NUL, is too long, is a device or reads in another direction never reaches a file or a terminal).
impl Leaf for Release {
    fn fault(&self) -> Option<&'static str> {
        let reviews = &self.reviews;
        let distinct = |n: usize| !reviews[..n].iter().any(|other| other.reviewer == reviews[n].reviewer);
        let checks = [
            ("name", is_name(&self.name)),
            ("version", self.version.len() <= VERSION_BYTES && Version::parse(&self.version).is_ok()),
            ("scope", is_scope(&self.scope)),
            ("summary", is_line(&self.summary, SUMMARY_CHARS)),
            ("rating", (1..=6).contains(&self.rating)),
            ("size", (1..=MANIFEST_BYTES as u64).contains(&self.size)),
            ("engines", (1..=VARIANTS).contains(&self.engines.len()) && self.engines.iter().all(|e| is_name(e))),
            ("reviews", reviews.len() <= REVIEWS && (0..reviews.len()).all(distinct)),
        ];
        checks.into_iter().find(|(_, good)| !good).map(|(field, _)| field)
    }

    fn label(&self) -> String {
        format!("release {} {}", self.name, self.version)
    }
}

impl Leaf for Revocation {
    fn fault(&self) -> Option<&'static str> {
        let good = !self.reason.is_empty() && is_line(&self.reason, REVOCATION_REASON_CHARS);
        (!good).then_some("reason")
    }

    fn label(&self) -> String {
        match self.key() {
            Target::Package(manifest) => format!("revocation of {manifest}"),
            Target::Publisher(key) => format!("revocation of {key}"),
        }
    }
}

// The rules above bound an entry by themselves: their sum stays under the limit of one entry.
const _: () = assert!(
    40 + VERSION_BYTES + 4 * 41 + 4 * SUMMARY_CHARS + 41 * VARIANTS + 34 + 34 + 66 + 96 * REVIEWS + 256 < ENTRY_BYTES
);
