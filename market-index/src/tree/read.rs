//! Reading a tree page by page as pages arrive, believing none of them.

use msm_protocol::{
    ContentHash, cbor,
    document::{Index, Page, PageKey, Release},
    limits::{PAGE_BYTES, PAGE_ENTRIES, PAGES_PER_MARKET, TREE_LEVELS},
};

use super::TreeError;
use crate::entry;

/// What one key leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// The release.
    Found(Box<Release>),
    /// The market has no such release.
    Absent,
    /// This page has to be fetched first.
    Missing(ContentHash),
}

/// Finds one release below `root`, reading one page per level. `get` returns a page's bytes if they are at hand.
pub fn lookup<B: AsRef<[u8]>>(
    root: Option<&ContentHash>,
    key: &PageKey,
    get: impl FnMut(&ContentHash) -> Option<B>,
) -> Result<Lookup, TreeError> {
    let mut walk = TreeWalk::begin(root, Scope::Key(key.clone()), None);
    if let Some(missing) = walk.advance(get)?.into_iter().next() {
        return Ok(Lookup::Missing(missing));
    }
    Ok(walk.releases()?.into_iter().next().map_or(Lookup::Absent, |release| Lookup::Found(Box::new(release))))
}

/// Which releases a walk looks for.
#[derive(Debug, Clone)]
enum Scope {
    All,
    Name(String),
    Key(PageKey),
}

/// A page that is still to be read, and what the page above says about it.
#[derive(Debug)]
struct Wanted {
    page: ContentHash,
    /// 1 for the root.
    level: usize,
    /// The first key in it; unknown for the root.
    first: Option<PageKey>,
    /// The first key behind it; unknown for the last page of a level.
    end: Option<PageKey>,
}

/// A part of the tree, in order.
#[derive(Debug)]
enum Slot {
    Wanted(Wanted),
    Read(Vec<Release>),
}

/// A walk over a tree (or the part of it that a name needs) that goes on as pages arrive.
///
/// Call [`TreeWalk::advance`], fetch the pages that it names, call it again; when it names none, take the
/// [`TreeWalk::releases`]. At most [`TREE_LEVELS`] rounds are needed. After an error the tree is refused as a whole.
#[derive(Debug)]
pub struct TreeWalk {
    scope: Scope,
    slots: Vec<Slot>,
    /// Releases that a whole walk must find.
    expected: Option<u64>,
    pages: usize,
    leaf_level: Option<usize>,
    failed: bool,
}

impl TreeWalk {
    /// Begins to read all releases of a verified index.
    pub fn all(index: &Index) -> Self {
        Self::begin(index.names.as_ref(), Scope::All, Some(index.releases))
    }

    /// Begins to read all versions of one service of a verified index.
    pub fn name(index: &Index, name: &str) -> Self {
        Self::begin(index.names.as_ref(), Scope::Name(name.to_owned()), None)
    }

    fn begin(root: Option<&ContentHash>, scope: Scope, expected: Option<u64>) -> Self {
        let root = root.map(|page| Slot::Wanted(Wanted { page: *page, level: 1, first: None, end: None }));
        Self { scope, slots: root.into_iter().collect(), expected, pages: 0, leaf_level: None, failed: false }
    }

    /// Reads every page that `get` has. Returns the pages to fetch next, in order; none when the walk is complete.
    pub fn advance<B: AsRef<[u8]>>(
        &mut self,
        mut get: impl FnMut(&ContentHash) -> Option<B>,
    ) -> Result<Vec<ContentHash>, TreeError> {
        if self.failed {
            return Err(TreeError::Incomplete);
        }
        self.failed = true;
        let mut todo: Vec<Slot> = std::mem::take(&mut self.slots);
        todo.reverse();
        let mut missing = Vec::new();
        while let Some(slot) = todo.pop() {
            let Slot::Wanted(wanted) = slot else {
                self.slots.push(slot);
                continue;
            };
            if self.pages + missing.len() == PAGES_PER_MARKET {
                return Err(TreeError::TooManyPages { limit: PAGES_PER_MARKET });
            }
            let Some(bytes) = get(&wanted.page) else {
                missing.push(wanted.page);
                self.slots.push(Slot::Wanted(wanted));
                continue;
            };
            self.pages += 1;
            match read_page(&wanted, bytes.as_ref())? {
                Page::Leaf(releases) => {
                    let expected = *self.leaf_level.get_or_insert(wanted.level);
                    if wanted.level != expected {
                        return Err(TreeError::Uneven { page: wanted.page, expected, found: wanted.level });
                    }
                    self.slots.push(Slot::Read(releases.into_iter().filter(|r| self.scope.has(&r.key())).collect()));
                }
                Page::Inner(children) => {
                    let ends = children.iter().skip(1).map(|child| Some(child.first.clone()));
                    let ends: Vec<_> = ends.chain([wanted.end]).collect();
                    let below = children.into_iter().zip(ends).map(|(child, end)| Wanted {
                        page: child.page,
                        level: wanted.level + 1,
                        first: Some(child.first),
                        end,
                    });
                    let below: Vec<_> = below.filter(|child| self.scope.meets(child)).map(Slot::Wanted).collect();
                    todo.extend(below.into_iter().rev());
                }
            }
        }
        self.failed = false;
        if missing.is_empty()
            && let Some(expected) = self.expected
            && expected != self.found()
        {
            self.failed = true;
            return Err(TreeError::Count { expected, found: self.found() });
        }
        Ok(missing)
    }

    /// The releases in order, once every page has been read.
    pub fn releases(self) -> Result<Vec<Release>, TreeError> {
        let mut all = Vec::new();
        for slot in self.slots {
            match slot {
                Slot::Read(releases) if !self.failed => all.extend(releases),
                _ => return Err(TreeError::Incomplete),
            }
        }
        if self.failed { Err(TreeError::Incomplete) } else { Ok(all) }
    }

    fn found(&self) -> u64 {
        let count = |slot: &Slot| if let Slot::Read(releases) = slot { releases.len() as u64 } else { 0 };
        self.slots.iter().map(count).sum()
    }
}

impl Scope {
    fn has(&self, key: &PageKey) -> bool {
        match self {
            Self::All => true,
            Self::Name(name) => key.name == *name,
            Self::Key(wanted) => key == wanted,
        }
    }

    /// True when the page may hold what is looked for.
    fn meets(&self, page: &Wanted) -> bool {
        let behind = |name: &str| page.end.as_ref().is_some_and(|end| end.name.as_str() < name);
        match self {
            Self::All => true,
            Self::Name(name) => !behind(name) && page.first.as_ref().is_none_or(|first| first.name <= *name),
            Self::Key(key) => {
                page.end.as_ref().is_none_or(|end| key < end) && page.first.as_ref().is_none_or(|first| first <= key)
            }
        }
    }
}

/// Decodes one page and checks everything that can be known about it: its hash, form, size, order, range and entries.
fn read_page(wanted: &Wanted, bytes: &[u8]) -> Result<Page, TreeError> {
    let page = wanted.page;
    if wanted.level > TREE_LEVELS {
        return Err(TreeError::Depth { page });
    }
    if bytes.len() <= PAGE_BYTES && ContentHash::of(bytes) != page {
        return Err(TreeError::Hash { page });
    }
    let decoded: Page = cbor::from_slice(bytes, PAGE_BYTES).map_err(|source| TreeError::Cbor { page, source })?;
    let keys: Vec<PageKey> = match &decoded {
        Page::Leaf(releases) => releases.iter().map(Release::key).collect(),
        Page::Inner(children) => children.iter().map(|child| child.first.clone()).collect(),
    };
    if keys.len() > PAGE_ENTRIES {
        return Err(TreeError::Oversized { page, entries: keys.len() });
    }
    let (Some(first), Some(last)) = (keys.first(), keys.last()) else {
        return Err(TreeError::Empty { page });
    };
    if let Some(n) = keys.windows(2).position(|pair| pair[0] >= pair[1]) {
        return Err(TreeError::Unsorted { page, entry: n + 2 });
    }
    if wanted.first.as_ref().is_some_and(|expected| expected != first)
        || wanted.end.as_ref().is_some_and(|end| last >= end)
    {
        return Err(TreeError::Range { page });
    }
    if let Page::Leaf(releases) = &decoded {
        for (n, release) in releases.iter().enumerate() {
            if let Some(field) = entry::fault(release) {
                return Err(TreeError::Entry { page, entry: n + 1, field });
            }
        }
    }
    Ok(decoded)
}
