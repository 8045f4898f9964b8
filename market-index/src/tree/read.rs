//! Reading a tree page by page as pages arrive, believing none of them.

use msm_protocol::{
    ContentHash, cbor,
    document::Page,
    limits::{PAGE_BYTES, PAGE_ENTRIES, TREE_LEVELS},
};

use super::{FILL_MIN, Leaf, Scope, TreeError};

/// A page that is still to be read, and what the page above says about it.
#[derive(Debug)]
struct Wanted<K> {
    page: ContentHash,
    /// 1 for the root.
    level: usize,
    /// The first key in it; unknown for the root.
    first: Option<K>,
    /// The first key behind it; unknown for the last page of a level.
    end: Option<K>,
}

/// A part of the tree, in order.
#[derive(Debug)]
enum Slot<E: Leaf> {
    Wanted(Wanted<E::Key>),
    Read(Vec<E>),
}

/// A walk over a tree, or over the part of it that a question needs, that goes on as pages arrive.
///
/// Call [`TreeWalk::advance`], fetch the pages that it names, call it again; when it names none, take the
/// [`TreeWalk::entries`]. A walk over a part reads one page a level, and a few more where the part lies on several: at
/// most [`TREE_LEVELS`] rounds, unless it is [limited](TreeWalk::at_most). After an error the tree is refused as a whole.
#[derive(Debug)]
pub struct TreeWalk<E: Leaf> {
    scope: Scope<E>,
    slots: Vec<Slot<E>>,
    /// Entries that a whole walk must find.
    expected: Option<u64>,
    /// Entries after which it ends.
    most: usize,
    cut: bool,
    pages: usize,
    leaf_level: Option<usize>,
    failed: bool,
}

impl<E: Leaf> TreeWalk<E> {
    /// Begins to read what `scope` names of the tree below `root`.
    pub fn new(root: Option<&ContentHash>, scope: Scope<E>) -> Self {
        let root = root.map(|page| Slot::Wanted(Wanted { page: *page, level: 1, first: None, end: None }));
        let slots = root.into_iter().collect();
        Self { scope, slots, expected: None, most: usize::MAX, cut: false, pages: 0, leaf_level: None, failed: false }
    }

    /// The whole tree must hold this many entries.
    pub fn expecting(self, entries: u64) -> Self {
        Self { expected: Some(entries), ..self }
    }

    /// Ends when this many entries are found, the first in order; [`TreeWalk::is_cut`] says whether there may be more.
    pub fn at_most(self, entries: usize) -> Self {
        Self { most: entries, ..self }
    }

    /// True when it ended before everything was read.
    pub fn is_cut(&self) -> bool {
        self.cut || self.found() > self.most as u64
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
        let mut todo: Vec<Slot<E>> = std::mem::take(&mut self.slots);
        todo.reverse();
        let mut missing = Vec::new();
        // Entries found so far, and whether all before this place is read.
        let (mut found, mut whole) = (0, true);
        while let Some(slot) = todo.pop() {
            if found >= self.most && whole {
                self.cut = true;
                break;
            }
            let wanted = match slot {
                Slot::Wanted(wanted) => wanted,
                Slot::Read(entries) => {
                    found += entries.len();
                    self.slots.push(Slot::Read(entries));
                    continue;
                }
            };
            if let Some(expected) = self.expected.filter(|expected| found as u64 > *expected) {
                return Err(TreeError::Count { expected, found: found as u64 });
            }
            if self.pages + missing.len() == self.scope.pages {
                return Err(TreeError::TooManyPages { limit: self.scope.pages });
            }
            // Of a limited walk no more is asked for than it will use.
            let enough = self.most != usize::MAX && missing.len() * FILL_MIN + found > self.most;
            let bytes = if enough { None } else { get(&wanted.page) };
            let Some(bytes) = bytes else {
                if !enough {
                    missing.push(wanted.page);
                }
                whole = false;
                self.slots.push(Slot::Wanted(wanted));
                continue;
            };
            self.pages += 1;
            match read_page::<E>(&wanted, bytes.as_ref())? {
                Page::Leaf(entries) => {
                    let expected = *self.leaf_level.get_or_insert(wanted.level);
                    if wanted.level != expected {
                        return Err(TreeError::Uneven { page: wanted.page, expected, found: wanted.level });
                    }
                    let entries: Vec<E> = entries.into_iter().filter(|entry| (self.scope.has)(&entry.key())).collect();
                    found += entries.len();
                    self.slots.push(Slot::Read(entries));
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
                    let meets = |page: &Wanted<E::Key>| (self.scope.meets)(page.first.as_ref(), page.end.as_ref());
                    let below: Vec<_> = below.filter(meets).map(Slot::Wanted).collect();
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

    /// The entries in order, once every page has been read.
    pub fn entries(self) -> Result<Vec<E>, TreeError> {
        let mut all = Vec::new();
        for slot in self.slots {
            match slot {
                Slot::Read(entries) if !self.failed => all.extend(entries),
                _ => return Err(TreeError::Incomplete),
            }
        }
        if self.failed {
            return Err(TreeError::Incomplete);
        }
        all.truncate(self.most);
        Ok(all)
    }

    fn found(&self) -> u64 {
        let count = |slot: &Slot<E>| if let Slot::Read(entries) = slot { entries.len() as u64 } else { 0 };
        self.slots.iter().map(count).sum()
    }
}

/// Decodes one page and checks everything that can be known about it: its hash, form, size, order, range and entries.
fn read_page<E: Leaf>(wanted: &Wanted<E::Key>, bytes: &[u8]) -> Result<Page<E>, TreeError> {
    let page = wanted.page;
    if wanted.level > TREE_LEVELS {
        return Err(TreeError::Depth { page });
    }
    if bytes.len() <= PAGE_BYTES && ContentHash::of(bytes) != page {
        return Err(TreeError::Hash { page });
    }
    let decoded: Page<E> = cbor::from_slice(bytes, PAGE_BYTES).map_err(|source| TreeError::Cbor { page, source })?;
    let keys: Vec<E::Key> = match &decoded {
        Page::Leaf(entries) => entries.iter().map(E::key).collect(),
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
    if let Page::Leaf(entries) = &decoded {
        for (n, entry) in entries.iter().enumerate() {
            if let Some(field) = entry.fault() {
                return Err(TreeError::Entry { page, entry: n + 1, field });
            }
        }
    }
    Ok(decoded)
}
