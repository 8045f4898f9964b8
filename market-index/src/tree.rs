//! What a market lists, as ordered trees of content-addressed pages: its releases, the words that find them, and what it
//! has revoked.
//!
//! Leaves hold entries in the order of their keys; inner pages hold the hash and the first key of each page below. Where
//! a page ends is decided by its content: after [`FILL_MIN`] entries or more, at the first one whose key hashes to five
//! low zero bits, and at the caps of a page at the latest. So the same set of entries has the same root whatever the
//! order in which it was edited, an edit changes only a few pages, and one entry is found by reading one page a level.
//!
//! Readers accept any ordered tree inside the caps: where pages end is the publisher's matter.

mod read;
mod scope;

use msm_protocol::{
    ContentHash,
    cbor::{self, CborError},
    document::{Child, Entry, Page},
    limits::{PAGE_BYTES, PAGE_ENTRIES, TREE_LEVELS},
};
use sha2::{Digest, Sha256};

pub use read::TreeWalk;
pub use scope::Scope;

/// An entry with its own rules.
pub trait Leaf: Entry {
    /// The first of its fields that is out of its rules.
    fn fault(&self) -> Option<&'static str>;

    /// Names it in errors.
    fn label(&self) -> String;
}

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
    /// The page to begin with; absent when there are no entries.
    pub root: Option<ContentHash>,
    /// Every page once, children before parents.
    pub pages: Vec<(ContentHash, Vec<u8>)>,
}

/// Why pages are not a tree.
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
    /// An entry that may not stand in an index.
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
    /// An entry that cannot be built into a tree.
    #[error("{entry}: {reason}")]
    Entries {
        /// The entry.
        entry: String,
        /// What is wrong.
        reason: &'static str,
    },
}

/// Builds the tree of `entries`, given in any order.
pub fn build<E: Leaf>(entries: &[E]) -> Result<Tree, TreeError> {
    let mut sorted: Vec<(E::Key, &E)> = entries.iter().map(|entry| (entry.key(), entry)).collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    let refuse = |entry: &E, reason| Err(TreeError::Entries { entry: entry.label(), reason });
    if let Some((entry, fault)) = entries.iter().find_map(|entry| Some((entry, entry.fault()?))) {
        return refuse(entry, fault);
    }
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return refuse(pair[0].1, "is there twice");
    }
    let mut pages = Vec::new();
    let leaves = sorted.into_iter().map(|(key, entry)| (key, entry.clone())).collect();
    let mut level = pack_level(leaves, Page::<E>::Leaf, &mut pages)?;
    for _ in 1..TREE_LEVELS {
        if level.len() <= 1 {
            break;
        }
        let children = level.into_iter().map(|child| (child.first.clone(), child)).collect();
        level = pack_level(children, Page::<E>::Inner, &mut pages)?;
    }
    match level.as_slice() {
        [] => Ok(Tree::default()),
        [child] => Ok(Tree { root: Some(child.page), pages }),
        [first, ..] => Err(TreeError::Depth { page: first.page }),
    }
}

/// Cuts one level into pages, adds them to `pages`, and returns the entries of the level above.
fn pack_level<E: Leaf, T: serde::Serialize>(
    entries: Vec<(E::Key, T)>,
    page_of: fn(Vec<T>) -> Page<E>,
    pages: &mut Vec<(ContentHash, Vec<u8>)>,
) -> Result<Vec<Child<E::Key>>, TreeError> {
    let mut above = Vec::new();
    let mut open: Vec<T> = Vec::new();
    let mut first: Option<E::Key> = None;
    let mut size = PAGE_OVERHEAD;
    let mut close = |first: &mut Option<E::Key>, open: &mut Vec<T>, size: &mut usize| {
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
        let ends_page = is_boundary(&encode(&key)?);
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
fn is_boundary(key: &[u8]) -> bool {
    let digest: [u8; 32] = Sha256::digest(key).into();
    digest[31] & BOUNDARY_MASK == 0
}
