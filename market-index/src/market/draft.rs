//! A change that waits for signatures: documents with some of them, in the market's own folder.
//!
//! ```text
//! draft/root.cbor    the next root, if the keys change
//! draft/index.cbor   the next index
//! draft/head.cbor    its head; made when the index has all its signatures, because it names them
//! ```
//!
//! Keys that are kept away from networks sign a copy of the folder; the signatures are merged from there.

use msm_protocol::{
    ContentHash, Envelope, PublicKey, SecretKey, Signed, cbor,
    document::{DOCUMENT_VERSION, Head, Index, Role, Root},
    limits::{HEAD_BYTES, INDEX_BYTES, ROOT_BYTES},
};

use super::{HEAD_LIFE, MarketError, Signers, change};
use crate::{
    TrustError, TrustedMarket,
    folder::{FileWrite, PublishedFolder},
};

const ROOT: &str = "draft/root.cbor";
const INDEX: &str = "draft/index.cbor";
const HEAD: &str = "draft/head.cbor";

/// A document that too few keys have signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanting {
    /// `root`, `index` or `head`.
    pub document: &'static str,
    /// Distinct keys that have signed.
    pub signed: usize,
    /// Keys that it takes.
    pub threshold: usize,
    /// Keys that have not.
    pub missing: Vec<PublicKey>,
}

impl std::fmt::Display for Wanting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} of {} signatures", self.document, self.signed, self.threshold)
    }
}

/// The documents of one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Draft {
    pub(super) root: Option<Envelope>,
    pub(super) index: Envelope,
    pub(super) head: Option<Envelope>,
}

/// What there is to be written when everything is signed: the head last.
pub(super) struct Signature {
    pub(super) version: u64,
    pub(super) files: Vec<FileWrite>,
}

impl Draft {
    /// The draft in `folder`, if there is one.
    pub(super) fn load(folder: &PublishedFolder) -> Result<Option<Self>, MarketError> {
        let Some(index) = read::<Index>(folder, INDEX, INDEX_BYTES)? else { return Ok(None) };
        Ok(Some(Self {
            root: read::<Root>(folder, ROOT, ROOT_BYTES)?,
            index,
            head: read::<Head>(folder, HEAD, HEAD_BYTES)?,
        }))
    }

    /// Its files. The index comes last: without it there is no draft.
    pub(super) fn files(&self) -> Result<Vec<FileWrite>, MarketError> {
        let mut files = Vec::new();
        if let Some(root) = &self.root {
            files.push(FileWrite::at(ROOT, change::encode::<Root>(root)?));
        }
        if let Some(head) = &self.head {
            files.push(FileWrite::at(HEAD, change::encode::<Head>(head)?));
        }
        files.push(FileWrite::at(INDEX, change::encode::<Index>(&self.index)?));
        Ok(files)
    }

    /// Its index, as whoever signs it will say.
    pub(super) fn index(&self) -> Result<Index, MarketError> {
        cbor::from_slice(self.index.payload(), Index::LIMIT).map_err(|e| unreadable::<Index>(&e))
    }

    /// The number of its index.
    pub(super) fn number(&self) -> Result<u64, MarketError> {
        Ok(self.index()?.version)
    }

    /// Removes every draft from `folder`.
    pub(super) fn remove(folder: &PublishedFolder) -> Result<(), MarketError> {
        for file in [INDEX, HEAD, ROOT] {
            folder.remove(file)?;
        }
        Ok(())
    }

    /// Takes the signatures that another copy of this draft has; false when it is the draft of another change.
    pub(super) fn merge(&mut self, other: &Self) -> bool {
        let roots = match (&mut self.root, &other.root) {
            (Some(root), Some(other)) => root.merge(other),
            (None, None) => true,
            _ => false,
        };
        if !roots || !self.index.merge(&other.index) {
            return false;
        }
        match (&mut self.head, &other.head) {
            (Some(head), Some(other)) => drop(head.merge(other)),
            (None, Some(other)) => self.head = Some(other.clone()),
            _ => {}
        }
        true
    }

    /// Adds the signatures of the keys at hand where a role of `before` or of the new root asks for them, and says what
    /// is still wanting; with nothing wanting, what is to be written.
    pub(super) fn sign(
        &mut self,
        before: &TrustedMarket,
        signers: &Signers<'_>,
        now: u64,
    ) -> Result<Result<Signature, Vec<Wanting>>, MarketError> {
        let held = before.root().ok_or(TrustError::RootVersion { needed: 1, found: 0 })?;
        let (mut after, mut wanting) = (before.clone(), Vec::new());
        let mut files = Vec::new();
        let mut roles = held.roles.clone();
        if let Some(root) = &mut self.root {
            // Its own payload: whoever signs it believes it. The code that users run looks at it below.
            let next: Root = cbor::from_slice(root.payload(), Root::LIMIT).map_err(|e| unreadable::<Root>(&e))?;
            if next.market != Some(before.market()) || next.version != held.version + 1 {
                return Err(TrustError::RootVersion { needed: held.version + 1, found: next.version }.into());
            }
            for role in [&held.roles.root, &next.roles.root] {
                add(root, &signers.root, role);
                wanting.extend(want::<Root>(root, role));
            }
            roles = next.roles.clone();
            if wanting.is_empty() {
                let bytes = change::encode::<Root>(root)?;
                after.update_root(&bytes, now)?;
                files.push(FileWrite::root(next.version, bytes));
            }
        }
        add(&mut self.index, &signers.index, &roles.index);
        wanting.extend(want::<Index>(&self.index, &roles.index));
        if !wanting.is_empty() {
            wanting.push(Wanting {
                document: Head::TYPE,
                signed: 0,
                threshold: roles.head.threshold.into(),
                missing: roles.head.keys,
            });
            return Ok(Err(wanting));
        }
        let index: Index = cbor::from_slice(self.index.payload(), Index::LIMIT).map_err(|e| unreadable::<Index>(&e))?;
        let bytes = change::encode::<Index>(&self.index)?;
        let hash = ContentHash::of(&bytes);
        let of_index = |head: &Envelope| {
            cbor::from_slice::<Head>(head.payload(), Head::LIMIT)
                .is_ok_and(|head| head.hash == hash && head.expires > now)
        };
        if !self.head.as_ref().is_some_and(of_index) {
            let issued = now.max(before.floor().time).max(index.issued);
            let root = after.root().map_or(0, |root| root.version);
            let (size, market, version) = (bytes.len() as u64, before.market(), index.version);
            let expires = issued + HEAD_LIFE;
            let head = Head { v: DOCUMENT_VERSION, hash, root, size, issued, market, expires, version };
            self.head = Some(change::sign(&head, &[])?);
        }
        let Some(head) = &mut self.head else { return Ok(Err(wanting)) };
        add(head, &signers.head, &roles.head);
        wanting.extend(want::<Head>(head, &roles.head));
        if !wanting.is_empty() {
            return Ok(Err(wanting));
        }
        let head = change::encode::<Head>(head)?;
        change::believe(&mut after, &head, &bytes, now)?;
        let blob = FileWrite::blob(&hash, bytes);
        files.insert(0, blob);
        files.push(FileWrite::head(head));
        Ok(Ok(Signature { version: index.version, files }))
    }
}

fn read<T: Signed>(folder: &PublishedFolder, file: &str, limit: usize) -> Result<Option<Envelope>, MarketError> {
    let Some(bytes) = folder.file(file, limit)? else { return Ok(None) };
    let envelope = Envelope::from_slice::<T>(&bytes).map_err(|e| unreadable::<T>(&e))?;
    // Signatures are bound to the type: one must not be led to sign another kind of document.
    match envelope.document_type() == T::TYPE {
        true => Ok(Some(envelope)),
        false => Err(unreadable::<T>(&format!("is a {:?}", envelope.document_type()))),
    }
}

fn unreadable<T: Signed>(error: &dyn std::fmt::Display) -> MarketError {
    TrustError::BadMessage { document: T::TYPE, reason: error.to_string() }.into()
}

/// Signs with those of `keys` that `role` knows and that have not signed.
fn add(envelope: &mut Envelope, keys: &[&SecretKey], role: &Role) {
    for key in keys.iter().filter(|key| role.keys.contains(&key.public())) {
        if !envelope.is_signed_by(&key.public()) {
            envelope.add_signature(key);
        }
    }
}

/// What `role` still asks for.
fn want<T: Signed>(envelope: &Envelope, role: &Role) -> Option<Wanting> {
    let missing: Vec<_> = role.keys.iter().filter(|key| !envelope.is_signed_by(key)).copied().collect();
    let (signed, threshold) = (role.keys.len() - missing.len(), usize::from(role.threshold));
    (signed < threshold).then_some(Wanting { document: T::TYPE, signed, threshold, missing })
}
