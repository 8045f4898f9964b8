//! What a market says about one release, and the rules that publisher and user both check it by.

use msm_protocol::{
    ContentHash, Manifest, PublicKey,
    document::{Release, Status},
    limits::{ENTRY_BYTES, MANIFEST_BYTES, VARIANTS},
    manifest::{is_line, is_name, is_scope},
};
use semver::Version;

use crate::Package;

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
        summary: manifest.summary.clone(),
        version: manifest.version.clone(),
        manifest: hash,
        publisher,
    }
}

/// Why an entry may not stand in an index: the first of its fields that is out of its rules (B35: a name that is a
/// path, holds a NUL, is too long, is a device or reads in another direction never reaches a file or a terminal).
pub fn fault(release: &Release) -> Option<&'static str> {
    let checks = [
        ("name", is_name(&release.name)),
        ("version", release.version.len() <= VERSION_BYTES && Version::parse(&release.version).is_ok()),
        ("scope", is_scope(&release.scope)),
        ("summary", is_line(&release.summary, SUMMARY_CHARS)),
        ("rating", (1..=6).contains(&release.rating)),
        ("size", (1..=MANIFEST_BYTES as u64).contains(&release.size)),
        ("engines", (1..=VARIANTS).contains(&release.engines.len()) && release.engines.iter().all(|e| is_name(e))),
    ];
    checks.into_iter().find(|(_, good)| !good).map(|(field, _)| field)
}

// The rules above bound an entry by themselves: their sum stays under the limit of one entry.
const _: () = assert!(40 + VERSION_BYTES + 4 * 41 + 4 * SUMMARY_CHARS + 41 * VARIANTS + 34 + 34 + 128 < ENTRY_BYTES);
