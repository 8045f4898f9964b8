//! The releases of a market as an ordered tree of content-addressed pages.
//!
//! Leaves hold releases in the order of [`PageKey`]; inner pages hold the hash and the first key of each page below.
//! Where a page ends is decided by its content: after [`FILL_MIN`] entries or more, at the first one whose key hashes to
//! five low zero bits, and at the caps of a page at the latest. So the same set of releases has the same root whatever
//! the order in which it was edited, and an edit changes only a few pages.
//!
//! Readers accept any ordered tree inside the caps: where pages end is the publisher's matter.

mod read;

use msm_protocol::{
    ContentHash,
    cbor::{self, CborError},
    document::{Child, Page, PageKey, Release},
    limits::{PAGE_BYTES, PAGE_ENTRIES, TREE_LEVELS},
};
use sha2::{Digest, Sha256};

use crate::entry;

pub use read::{Lookup, TreeWalk, lookup};

/// Entries that a page holds before its end is looked for (the last page of a level may hold fewer). Without it a
/// publisher who tries out version texts until each one ends a page would make a tree as deep as a list.
pub const FILL_MIN: usize = 16;
/// A page ends after one entry in 32 on average.
const BOUNDARY_MASK: u8 = 0b1_1111;
/// CBOR around the entries of a page: a map of one, its key, the head of an array.
const PAGE_OVERHEAD: usize = 16;

/// All pages of one tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    /// The page to begin with; absent when there are no releases.
    pub root: Option<ContentHash>,
    /// Every page once, children before parents.
    pub pages: Vec<(ContentHash, Vec<u8>)>,
}

/// Why pages are not a tree of releases.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// Bytes that are not those of the page.
    #[error("page {page}: hash mismatch")]
    Hash {
        /// The page asked for.
        page: ContentHash,
    },
    /// Not a page.
    #[error("page {page}: bad-message: {source}")]
    Cbor {
        /// The page.
        page: ContentHash,
        /// What is wrong with its bytes.
        source: CborError,
    },
    /// A page without entries.
    #[error("page {page}: empty")]
    Empty {
        /// The page.
        page: ContentHash,
    },
    /// More entries than a page may have.
    #[error("page {page}: {entries} entries, at most {PAGE_ENTRIES} are allowed")]
    Oversized {
        /// The page.
        page: ContentHash,
        /// Its entries.
        entries: usize,
    },
    /// Keys that do not go up.
    #[error("page {page}: entry {entry} is out of order or there twice")]
    Unsorted {
        /// The page.
        page: ContentHash,
        /// Counted from 1.
        entry: usize,
    },
    /// Keys outside what the page above says.
    #[error("page {page}: its keys lie outside the range that the page above gives it")]
    Range {
        /// The page.
        page: ContentHash,
    },
    /// Leaves on different levels.
    #[error("page {page}: a leaf on level {found}, others are on level {expected}")]
    Uneven {
        /// The page.
        page: ContentHash,
        /// Level of the first leaf.
        expected: usize,
        /// Level of this one.
        found: usize,
    },
    /// Too many levels.
    #[error("page {page}: deeper than {TREE_LEVELS} levels")]
    Depth {
        /// The first page below the last allowed level.
        page: ContentHash,
    },
    /// A release that may not stand in an index.
    #[error("page {page}: entry {entry}: bad {field}")]
    Entry {
        /// The page.
        page: ContentHash,
        /// Counted from 1.
        entry: usize,
        /// The first field that is out of its rules.
        field: &'static str,
    },
    /// More pages than anybody reads.
    #[error("more than {limit} pages")]
    TooManyPages {
        /// Pages allowed.
        limit: usize,
    },
    /// The index promises another number of releases.
    #[error("{found} releases, the index says {expected}")]
    Count {
        /// In the index.
        expected: u64,
        /// In the tree.
        found: u64,
    },
    /// Asked for the result before every page was there, or after an error.
    #[error("the tree has not been read to its end")]
    Incomplete,
    /// Releases that cannot be built into a tree.
    #[error("release {name} {version}: {reason}")]
    Release {
        /// Its name.
        name: String,
        /// Its version.
        version: String,
        /// What is wrong.
        reason: &'static str,
    },
}

/// Builds the tree of `releases`, given in any order.
pub fn build(releases: &[Release]) -> Result<Tree, TreeError> {
    let mut sorted: Vec<&Release> = releases.iter().collect();
    sorted.sort_by_cached_key(|release| release.key());
    let refuse = |release: &Release, reason| {
        Err(TreeError::Release { name: release.name.clone(), version: release.version.clone(), reason })
    };
    if let Some(release) = sorted.iter().find(|release| entry::fault(release).is_some()) {
        return refuse(release, entry::fault(release).unwrap_or_default());
    }
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0].key() == pair[1].key()) {
        return refuse(pair[0], "is there twice");
    }
    let mut pages = Vec::new();
    let leaves = sorted.into_iter().map(|release| (release.key(), release.clone())).collect();
    let mut level = pack_level(leaves, Page::Leaf, &mut pages)?;
    for _ in 1..TREE_LEVELS {
        if level.len() <= 1 {
            break;
        }
        let children = level.into_iter().map(|child| (child.first.clone(), child)).collect();
        level = pack_level(children, Page::Inner, &mut pages)?;
    }
    match level.as_slice() {
        [] => Ok(Tree::default()),
        [child] => Ok(Tree { root: Some(child.page), pages }),
        [first, ..] => Err(TreeError::Depth { page: first.page }),
    }
}

/// Cuts one level into pages, adds them to `pages`, and returns the entries of the level above.
fn pack_level<T: serde::Serialize>(
    entries: Vec<(PageKey, T)>,
    page_of: fn(Vec<T>) -> Page,
    pages: &mut Vec<(ContentHash, Vec<u8>)>,
) -> Result<Vec<Child>, TreeError> {
    let mut above = Vec::new();
    let mut open: Vec<T> = Vec::new();
    let mut first: Option<PageKey> = None;
    let mut size = PAGE_OVERHEAD;
    let mut close = |first: &mut Option<PageKey>, open: &mut Vec<T>, size: &mut usize| {
        if let Some(first) = first.take() {
            let bytes = encode(&page_of(std::mem::take(open)))?;
            let page = ContentHash::of(&bytes);
            above.push(Child { page, first });
            pages.push((page, bytes));
            *size = PAGE_OVERHEAD;
        }
        Ok(())
    };
    for (key, entry) in entries {
        let entry_size = encode(&entry)?.len();
        if size + entry_size > PAGE_BYTES || open.len() == PAGE_ENTRIES {
            close(&mut first, &mut open, &mut size)?;
        }
        let ends_page = is_boundary(&key);
        first.get_or_insert(key);
        open.push(entry);
        size += entry_size;
        if ends_page && open.len() >= FILL_MIN {
            close(&mut first, &mut open, &mut size)?;
        }
    }
    close(&mut first, &mut open, &mut size)?;
    Ok(above)
}

fn encode<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, TreeError> {
    cbor::to_vec(value).map_err(|source| TreeError::Cbor { page: ContentHash::of(b""), source })
}

/// True for one key in 32, by its hash alone.
fn is_boundary(key: &PageKey) -> bool {
    let mut hasher = Sha256::new();
    hasher.update(key.name.as_bytes());
    hasher.update([0]);
    hasher.update(key.version.as_bytes());
    let digest: [u8; 32] = hasher.finalize().into();
    digest[31] & BOUNDARY_MASK == 0
}
