//! Changes of a market as lists of files in the order in which they must be written. Pure but for [`remove_revoked`].

use std::collections::BTreeSet;

use msm_protocol::{
    ContentHash, Envelope, Manifest, MarketId, SecretKey, Signed,
    document::{DOCUMENT_VERSION, Head, Index, Policy, Release, Role, Roles, Root, Status},
    limits::{MANIFEST_BYTES, PAGES_PER_MARKET},
};

use super::{HEAD_LIFE, INDEX_LIFE, MarketError, MarketState, ROOT_LIFE, Signers};
use crate::{
    Freshness, Package, TreeError, TrustError, TrustedMarket, entry,
    folder::{FileWrite, FolderError, PublishedFolder},
    tree,
};

/// The files of a new, empty market.
pub(super) fn first(
    name: &str,
    roles: Roles,
    signers: &Signers<'_>,
    now: u64,
) -> Result<(MarketId, Vec<FileWrite>), MarketError> {
    let root =
        Root { v: DOCUMENT_VERSION, name: name.to_owned(), roles, market: None, expires: now + ROOT_LIFE, version: 1 };
    allowed(&signers.root, &[&root.roles.root], Root::TYPE)?;
    let envelope = sign(&root, &signers.root)?;
    let market = MarketId::of_first_root(envelope.payload());
    let bytes = encode::<Root>(&envelope)?;
    let mut trusted = TrustedMarket::pin(market);
    trusted.update_root(&bytes, now)?;
    // The root comes last: a market that was interrupted while it was made is none, and can be made again.
    let (_, mut files) = next(trusted, &[], signers, now)?;
    files.push(FileWrite::root(1, bytes));
    Ok((market, files))
}

/// The files of a package.
pub(super) fn package_files(package: &Package) -> Vec<FileWrite> {
    let manifest = FileWrite::blob(&package.hash, package.manifest_bytes.clone());
    let variants = package.blobs.iter().map(|(hash, bytes)| FileWrite::blob(hash, bytes.clone()));
    variants.chain([manifest]).collect()
}

/// The next index with these releases, and its head. The head comes last.
pub(super) fn next(
    mut trusted: TrustedMarket,
    releases: &[Release],
    signers: &Signers<'_>,
    now: u64,
) -> Result<(u64, Vec<FileWrite>), MarketError> {
    let root = trusted.root().ok_or(TrustError::RootVersion { needed: 1, found: 0 })?;
    allowed(&signers.index, &[&root.roles.index], Index::TYPE)?;
    allowed(&signers.head, &[&root.roles.head], Head::TYPE)?;
    let signed = sign_next(&trusted, root.version, releases, signers, now)?;
    believe(&mut trusted, &signed, now)?;
    Ok((signed.version, signed.into_files()))
}

/// A new head for the index in use.
pub(super) fn renewed_head(
    mut trusted: TrustedMarket,
    signers: &Signers<'_>,
    now: u64,
) -> Result<Vec<FileWrite>, MarketError> {
    let (Some(root), Some(head)) = (trusted.root(), trusted.head()) else {
        return Err(TrustError::RootVersion { needed: 1, found: 0 }.into());
    };
    allowed(&signers.head, &[&root.roles.head], Head::TYPE)?;
    // Later than the old one, even on a clock that stands: of two heads devices keep the later.
    let issued = now.max(trusted.floor().time + 1);
    let (root, head) = (root.version, Head { issued, expires: issued + HEAD_LIFE, ..(**head).clone() });
    let bytes = encode::<Head>(&sign(&Head { root, ..head }, &signers.head)?)?;
    trusted.update_head(&bytes, now)?;
    // An expired index or root is not made fresh by a head.
    match trusted.freshness(now) {
        Freshness::Fresh => Ok(vec![FileWrite::head(bytes)]),
        _ => {
            let expires = trusted.fresh_until().unwrap_or(0);
            Err(TrustError::Expired { document: Index::TYPE, expires, now }.into())
        }
    }
}

/// The files of a market with new keys: index, a head that both roots allow (if the keys are there), the new root, and
/// the head that names it.
pub(super) fn rotated(
    state: MarketState,
    roles: Roles,
    signers: &Signers<'_>,
    now: u64,
) -> Result<(u64, Vec<FileWrite>), MarketError> {
    let MarketState { trusted: before, releases } = state;
    let old = before.root().ok_or(TrustError::RootVersion { needed: 1, found: 0 })?;
    let version = old.version + 1;
    let root = Root {
        v: DOCUMENT_VERSION,
        name: old.name.clone(),
        roles,
        market: Some(before.market()),
        expires: now + ROOT_LIFE,
        version,
    };
    allowed(&signers.root, &[&old.roles.root, &root.roles.root], Root::TYPE)?;
    allowed(&signers.index, &[&old.roles.index, &root.roles.index], Index::TYPE)?;
    allowed(&signers.head, &[&old.roles.head, &root.roles.head], Head::TYPE)?;
    let root_bytes = encode::<Root>(&sign(&root, &signers.root)?)?;
    let mut after = before.clone();
    after.update_root(&root_bytes, now)?;

    let bridge = sign_next(&before, old.version, &releases, signers, now)?;
    let last = sign_next(&before, version, &releases, signers, now)?;
    let mut files = Vec::new();
    if believe(&mut before.clone(), &bridge, now).is_ok() && believe(&mut after.clone(), &bridge, now).is_ok() {
        files.extend(bridge.into_files());
    }
    believe(&mut after, &last, now)?;
    let mut last = last.into_files();
    let head = last.pop();
    files.extend(last);
    files.push(FileWrite::root(version, root_bytes));
    files.extend(head);
    Ok((version, files))
}

/// Removes the blobs of a revoked release, but for those that another release still uses.
pub(super) fn remove_revoked(
    folder: &PublishedFolder,
    releases: &[Release],
    name: &str,
    version: &str,
) -> Result<(), MarketError> {
    let manifest = |release: &Release| -> Result<Option<Manifest>, FolderError> {
        let bytes = folder.blob(&release.manifest, MANIFEST_BYTES)?;
        Ok(bytes.and_then(|bytes| entry::open_manifest(release, &bytes).ok()))
    };
    let Some(revoked) = releases.iter().find(|release| release.name == name && release.version == version) else {
        return Ok(());
    };
    let gone =
        manifest(revoked).ok().flatten().map(|manifest| manifest.blobs().collect::<Vec<_>>()).unwrap_or_default();
    let mut in_use = BTreeSet::new();
    for release in releases.iter().filter(|release| release.status != Status::Revoked) {
        if let Some(manifest) = manifest(release)? {
            in_use.extend(manifest.blobs().map(|(hash, _)| hash));
        }
    }
    for (hash, _) in gone.iter().filter(|(hash, _)| !in_use.contains(hash)) {
        folder.remove_blob(hash)?;
    }
    // Last: it is what leads to the others.
    folder.remove_blob(&revoked.manifest)?;
    Ok(())
}

/// An index and its head, encoded.
struct SignedIndex {
    version: u64,
    pages: Vec<(ContentHash, Vec<u8>)>,
    index: Vec<u8>,
    head: Vec<u8>,
}

impl SignedIndex {
    /// Pages, then the index, then the head: a reader never meets a name before the thing it names.
    fn into_files(self) -> Vec<FileWrite> {
        let pages = self.pages.into_iter().map(|(hash, bytes)| FileWrite::blob(&hash, bytes));
        let index = FileWrite::blob(&ContentHash::of(&self.index), self.index);
        pages.chain([index, FileWrite::head(self.head)]).collect()
    }
}

fn sign_next(
    trusted: &TrustedMarket,
    root: u64,
    releases: &[Release],
    signers: &Signers<'_>,
    now: u64,
) -> Result<SignedIndex, MarketError> {
    let tree = tree::build(releases)?;
    if tree.pages.len() > PAGES_PER_MARKET {
        return Err(TreeError::TooManyPages { limit: PAGES_PER_MARKET }.into());
    }
    let floor = trusted.floor();
    let (market, issued) = (trusted.market(), now.max(floor.time));
    let version = floor.index.map_or(0, |mark| mark.version) + 1;
    let index = Index {
        v: DOCUMENT_VERSION,
        prev: floor.index.map(|mark| mark.hash),
        names: tree.root,
        issued,
        market,
        policy: Policy::default(),
        expires: issued + INDEX_LIFE,
        version,
        releases: releases.len() as u64,
    };
    let index = encode::<Index>(&sign(&index, &signers.index)?)?;
    let head = Head {
        v: DOCUMENT_VERSION,
        hash: ContentHash::of(&index),
        root,
        size: index.len() as u64,
        issued,
        market,
        expires: issued + HEAD_LIFE,
        version,
    };
    let head = encode::<Head>(&sign(&head, &signers.head)?)?;
    Ok(SignedIndex { version, pages: tree.pages, index, head })
}

/// Does what every user's device will do with these documents.
fn believe(trusted: &mut TrustedMarket, signed: &SignedIndex, now: u64) -> Result<(), TrustError> {
    trusted.update_head(&signed.head, now)?;
    trusted.update_index(&signed.index, now).map(|_| ())
}

/// Refuses keys that no role knows, before they have signed anything.
fn allowed(keys: &[&SecretKey], roles: &[&Role], role: &'static str) -> Result<(), MarketError> {
    match keys.iter().map(|key| key.public()).find(|key| !roles.iter().any(|role| role.keys.contains(key))) {
        Some(key) => Err(MarketError::WrongKey { key, role }),
        None => Ok(()),
    }
}

fn sign<T: Signed>(document: &T, keys: &[&SecretKey]) -> Result<Envelope, MarketError> {
    Envelope::sign(document, keys).map_err(|e| MarketError::Encode { document: T::TYPE, reason: e.to_string() })
}

fn encode<T: Signed>(envelope: &Envelope) -> Result<Vec<u8>, MarketError> {
    envelope.to_vec().map_err(|e| MarketError::Encode { document: T::TYPE, reason: e.to_string() })
}
