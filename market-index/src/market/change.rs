//! Changes of a market as lists of files in the order in which they must be written. Pure.

use msm_protocol::{
    ContentHash, Envelope, MarketId, SecretKey, Signed,
    document::{DOCUMENT_VERSION, Head, Index, Role, Roles, Root},
};

use super::{HEAD_LIFE, INDEX_LIFE, MarketError, MarketState, ROOT_LIFE, Signers, draft::Draft};
use crate::{Freshness, Package, TrustError, TrustedMarket, catalogue::Catalogue, folder::FileWrite};

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
    let signed = sign_next(&trusted, 1, &Catalogue::default(), signers, now)?;
    believe(&mut trusted, &signed.head, &signed.index, now)?;
    // The root comes last: a market that was interrupted while it was made is none, and can be made again.
    let mut files = signed.into_files();
    files.push(FileWrite::root(1, bytes));
    Ok((market, files))
}

/// The files of a package.
pub(super) fn package_files(package: &Package) -> Vec<FileWrite> {
    let manifest = FileWrite::blob(&package.hash, package.manifest_bytes.clone());
    let variants = package.blobs.iter().map(|(hash, bytes)| FileWrite::blob(hash, bytes.clone()));
    variants.chain([manifest]).collect()
}

/// The next index, unsigned, and the pages below it. `root` is the root that it comes with, if the keys change too.
pub(super) fn draft(
    trusted: &TrustedMarket,
    catalogue: &Catalogue,
    root: Option<&Root>,
    now: u64,
) -> Result<(Draft, Vec<FileWrite>), MarketError> {
    let (index, pages) = next_index(trusted, catalogue, now)?;
    let root = root.map(|root| sign(root, &[])).transpose()?;
    let pages = pages.into_iter().map(|(hash, bytes)| FileWrite::blob(&hash, bytes)).collect();
    Ok((Draft { root, index: sign(&index, &[])?, head: None }, pages))
}

/// The root after the one in use, with other keys.
pub(super) fn next_root(trusted: &TrustedMarket, roles: Roles, now: u64) -> Result<Root, MarketError> {
    let old = trusted.root().ok_or(TrustError::RootVersion { needed: 1, found: 0 })?;
    Ok(Root {
        v: DOCUMENT_VERSION,
        name: old.name.clone(),
        roles,
        market: Some(trusted.market()),
        expires: now + ROOT_LIFE,
        version: old.version + 1,
    })
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
    let MarketState { trusted: before, catalogue } = state;
    let old = before.root().ok_or(TrustError::RootVersion { needed: 1, found: 0 })?;
    let root = next_root(&before, roles, now)?;
    let version = root.version;
    allowed(&signers.root, &[&old.roles.root, &root.roles.root], Root::TYPE)?;
    allowed(&signers.index, &[&old.roles.index, &root.roles.index], Index::TYPE)?;
    allowed(&signers.head, &[&old.roles.head, &root.roles.head], Head::TYPE)?;
    let root_bytes = encode::<Root>(&sign(&root, &signers.root)?)?;
    let mut after = before.clone();
    after.update_root(&root_bytes, now)?;

    let bridge = sign_next(&before, old.version, &catalogue, signers, now)?;
    let last = sign_next(&before, version, &catalogue, signers, now)?;
    let mut files = Vec::new();
    let passes = |trusted: &TrustedMarket| believe(&mut trusted.clone(), &bridge.head, &bridge.index, now).is_ok();
    if passes(&before) && passes(&after) {
        files.extend(bridge.into_files());
    }
    believe(&mut after, &last.head, &last.index, now)?;
    let index = last.version;
    let mut last = last.into_files();
    let head = last.pop();
    files.extend(last);
    files.push(FileWrite::root(version, root_bytes));
    files.extend(head);
    Ok((index, files))
}

/// An index and its head, encoded.
struct SignedIndex {
    version: u64,
    pages: Pages,
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
    catalogue: &Catalogue,
    signers: &Signers<'_>,
    now: u64,
) -> Result<SignedIndex, MarketError> {
    let (index, pages) = next_index(trusted, catalogue, now)?;
    let (market, issued, version) = (index.market, index.issued, index.version);
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
    Ok(SignedIndex { version, pages, index, head })
}

/// Pages by their hashes.
type Pages = Vec<(ContentHash, Vec<u8>)>;

/// The index after the one in use, and its pages.
fn next_index(trusted: &TrustedMarket, catalogue: &Catalogue, now: u64) -> Result<(Index, Pages), MarketError> {
    let trees = catalogue.trees()?;
    let floor = trusted.floor();
    let issued = now.max(floor.time);
    let index = Index {
        v: DOCUMENT_VERSION,
        prev: floor.index.map(|mark| mark.hash),
        names: trees.names,
        words: trees.words,
        issued,
        market: trusted.market(),
        policy: catalogue.policy.clone(),
        expires: issued + INDEX_LIFE,
        revoked: trees.revoked,
        version: floor.index.map_or(0, |mark| mark.version) + 1,
        releases: catalogue.releases.len() as u64,
        delegations: catalogue.delegations.clone(),
    };
    Ok((index, trees.pages))
}

/// Does what every user's device will do with these documents.
pub(super) fn believe(trusted: &mut TrustedMarket, head: &[u8], index: &[u8], now: u64) -> Result<(), TrustError> {
    trusted.update_head(head, now)?;
    trusted.update_index(index, now).map(|_| ())
}

/// Refuses keys that no role knows, before they have signed anything.
pub(super) fn allowed(keys: &[&SecretKey], roles: &[&Role], role: &'static str) -> Result<(), MarketError> {
    match keys.iter().map(|key| key.public()).find(|key| !roles.iter().any(|role| role.keys.contains(key))) {
        Some(key) => Err(MarketError::WrongKey { key, role }),
        None => Ok(()),
    }
}

pub(super) fn sign<T: Signed>(document: &T, keys: &[&SecretKey]) -> Result<Envelope, MarketError> {
    Envelope::sign(document, keys).map_err(|e| MarketError::Encode { document: T::TYPE, reason: e.to_string() })
}

pub(super) fn encode<T: Signed>(envelope: &Envelope) -> Result<Vec<u8>, MarketError> {
    envelope.to_vec().map_err(|e| MarketError::Encode { document: T::TYPE, reason: e.to_string() })
}
