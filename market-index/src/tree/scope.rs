//! [`Scope`]: which entries a walk looks for.

use std::{collections::BTreeSet, fmt, ops::Bound};

use msm_protocol::{
    document::{Mention, Release, ReleaseKey},
    limits::{PAGES_PER_LOOKUP, PAGES_PER_TREE},
};

use super::Leaf;

/// True for the keys that are looked for.
type Has<K> = Box<dyn Fn(&K) -> bool + Send + Sync>;
/// True when a page from the first key to before the second (unknown ends are `None`) may hold what is looked for.
type Meets<K> = Box<dyn Fn(Option<&K>, Option<&K>) -> bool + Send + Sync>;

/// Which entries a walk looks for, and how many pages it may read.
pub struct Scope<E: Leaf> {
    pub(super) has: Has<E::Key>,
    pub(super) meets: Meets<E::Key>,
    pub(super) pages: usize,
}

impl<E: Leaf> fmt::Debug for Scope<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("pages", &self.pages).finish_non_exhaustive()
    }
}

impl<E: Leaf> Scope<E>
where
    E::Key: Send + Sync + 'static,
{
    /// Everything.
    pub fn all() -> Self {
        Self { has: Box::new(|_| true), meets: Box::new(|_, _| true), pages: PAGES_PER_TREE }
    }

    /// One entry.
    pub fn key(key: E::Key) -> Self {
        Self::keys(BTreeSet::from([key]))
    }

    /// These entries.
    pub fn keys(keys: BTreeSet<E::Key>) -> Self {
        let keys = std::sync::Arc::new(keys);
        let wanted = keys.clone();
        Self {
            has: Box::new(move |key| wanted.contains(key)),
            meets: Box::new(move |first, end| {
                keys.range((
                    first.map_or(Bound::Unbounded, Bound::Included),
                    end.map_or(Bound::Unbounded, Bound::Excluded),
                ))
                .next()
                .is_some()
            }),
            pages: PAGES_PER_TREE,
        }
    }
}

impl Scope<Release> {
    /// All versions of one service.
    pub fn name(name: &str) -> Self {
        Self::names(BTreeSet::from([name.to_owned()]))
    }

    /// All versions of these services.
    pub fn names(names: BTreeSet<String>) -> Self {
        let pages = (PAGES_PER_LOOKUP * names.len().max(1)).min(PAGES_PER_TREE);
        let names = std::sync::Arc::new(names);
        let wanted = names.clone();
        let name = |key: &ReleaseKey| key.name.clone();
        Self {
            has: Box::new(move |key| wanted.contains(&key.name)),
            meets: Box::new(move |first, end| {
                // The page before the first key of a name may end with earlier versions of it.
                let (first, end) = (first.map(name), end.map(name));
                names
                    .range((
                        first.map_or(Bound::Unbounded, Bound::Included),
                        end.map_or(Bound::Unbounded, Bound::Included),
                    ))
                    .next()
                    .is_some()
            }),
            pages,
        }
    }
}

impl Scope<Mention> {
    /// Every service that a word beginning with `prefix` finds.
    pub fn words(prefix: &str) -> Self {
        let (wanted, prefix) = (prefix.to_owned(), prefix.to_owned());
        Self {
            has: Box::new(move |mention| mention.word.starts_with(&wanted)),
            meets: Box::new(move |first, end| {
                let before_end = end.is_none_or(|end| prefix.as_str() <= end.word.as_str());
                before_end
                    && first
                        .is_none_or(|first| first.word.starts_with(&prefix) || first.word.as_str() <= prefix.as_str())
            }),
            pages: PAGES_PER_LOOKUP,
        }
    }
}
