//! [`Catalogue`]: all that a market lists, and the trees that carry it.

use msm_protocol::{
    ContentHash,
    document::{Delegation, Index, Mention, Policy, Release, Revocation, Status, Target},
    limits::PAGES_PER_TREE,
};

use crate::{
    entry,
    tree::{self, Leaf, Scope, TreeError, TreeWalk},
    words,
};

/// All that a market lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// In the order of their keys.
    pub releases: Vec<Release>,
    /// In the order of their targets.
    pub revocations: Vec<Revocation>,
    /// The market's rules.
    pub policy: Policy,
    /// Names that are others' to publish.
    pub delegations: Vec<Delegation>,
}

/// A catalogue as pages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trees {
    /// Of releases, by name.
    pub names: Option<ContentHash>,
    /// Of words.
    pub words: Option<ContentHash>,
    /// Of revocations.
    pub revoked: Option<ContentHash>,
    /// Every page once, children before parents.
    pub pages: Vec<(ContentHash, Vec<u8>)>,
}

/// Why a catalogue cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogueError<E: std::error::Error + 'static> {
    /// A tree is not one.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A page could not be had.
    #[error(transparent)]
    Page(E),
    /// A page is not there.
    #[error("page {0} is missing")]
    Missing(ContentHash),
}

impl Catalogue {
    /// Releases that may run.
    fn listed(&self) -> impl Iterator<Item = &Release> {
        self.releases.iter().filter(|release| release.status != Status::Revoked)
    }

    /// The trees that carry it.
    pub fn trees(&self) -> Result<Trees, TreeError> {
        if let Some((release, reason)) =
            self.listed().find_map(|release| Some((release, entry::undelegated(&self.delegations, release)?)))
        {
            return Err(TreeError::Entries { entry: release.label(), reason });
        }
        let names = tree::build(&self.releases)?;
        let words = tree::build(&words::mentions(&self.releases))?;
        let revoked = tree::build(&self.revocations)?;
        let roots = (names.root, words.root, revoked.root);
        let mut pages = names.pages;
        pages.extend(words.pages);
        pages.extend(revoked.pages);
        if pages.len() > PAGES_PER_TREE {
            return Err(TreeError::TooManyPages { limit: PAGES_PER_TREE });
        }
        Ok(Trees { names: roots.0, words: roots.1, revoked: roots.2, pages })
    }

    /// Reads all that `index` names. `get` returns a page's bytes if they are there.
    pub fn read<B: AsRef<[u8]>, F: std::error::Error + 'static>(
        index: &Index,
        mut get: impl FnMut(&ContentHash) -> Result<Option<B>, F>,
    ) -> Result<Self, CatalogueError<F>> {
        let releases = whole(all_releases(index), &mut get)?;
        let revocations = whole(all_revocations(index), &mut get)?;
        Ok(Self { releases, revocations, policy: index.policy.clone(), delegations: index.delegations.clone() })
    }

    /// The newest revocation that hits `release`, if any does.
    pub fn revocation(&self, release: &Release) -> Option<&Revocation> {
        targets_of(release).iter().find_map(|target| self.revocations.iter().find(|it| it.target == *target))
    }
}

/// What a revocation may name to hit `release`.
pub fn targets_of(release: &Release) -> [Target; 2] {
    [Target::Package(release.manifest), Target::Publisher(release.publisher)]
}

/// A walk over all releases of a verified index.
pub fn all_releases(index: &Index) -> TreeWalk<Release> {
    TreeWalk::new(index.names.as_ref(), Scope::all()).expecting(index.releases)
}

/// A walk over all revocations of a verified index.
pub fn all_revocations(index: &Index) -> TreeWalk<Revocation> {
    TreeWalk::new(index.revoked.as_ref(), Scope::all())
}

/// A walk over all words of a verified index.
pub fn all_words(index: &Index) -> TreeWalk<Mention> {
    TreeWalk::new(index.words.as_ref(), Scope::all())
}

fn whole<E: Leaf, B: AsRef<[u8]>, F: std::error::Error + 'static>(
    mut walk: TreeWalk<E>,
    get: &mut impl FnMut(&ContentHash) -> Result<Option<B>, F>,
) -> Result<Vec<E>, CatalogueError<F>> {
    let mut fault = None;
    let missing = walk.advance(|page| {
        get(page).unwrap_or_else(|error| {
            fault.get_or_insert(error);
            None
        })
    })?;
    match (fault, missing.first()) {
        (Some(fault), _) => Err(CatalogueError::Page(fault)),
        (None, Some(page)) => Err(CatalogueError::Missing(*page)),
        (None, None) => Ok(walk.entries()?),
    }
}
