//! Searching a market by its tree of words: as many pages as the answer needs, however large the market is.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use msm_market_index::{TreeWalk, entry::reviews_of, tree::Scope, words};
use msm_protocol::document::{Mention, Release, Status};

use super::{
    MarketError, MarketView, Markets,
    services::{read, refused},
};
use crate::{command::Search, node::context::Context};

/// Services that one word may find before the search asks for more words. *Judgement.*
const FOUND_BY_WORD: usize = 1_000;
/// Services in one answer. *Judgement*: more than anybody reads.
const LISTED: usize = 100;
/// Releases read for a list of everything.
const RELEASES_LISTED: usize = 1_000;

/// What a search found in one market.
#[derive(Debug, Default)]
pub struct Hits {
    /// Releases that may be picked, all versions of each service.
    pub releases: Vec<Release>,
    /// There may be more: more words would tell.
    pub cut: bool,
}

impl Markets {
    /// The services of one market that `search` is about.
    pub async fn search(&self, ctx: &Arc<Context>, view: &MarketView, search: &Search) -> Result<Hits, MarketError> {
        let Some(index) = view.index() else { return Ok(Hits::default()) };
        let source = view.source(None);
        let get = |hash| source.page(ctx, hash);
        let mut pages = HashMap::new();
        let mut asked: Vec<String> = search.words.iter().map(|word| word.to_lowercase()).collect();
        let words = asked.clone();
        asked.extend(search.scope.iter().map(|scope| scope.to_lowercase()));
        let mut hits = Hits::default();
        let walk = if asked.is_empty() {
            TreeWalk::new(index.names.as_ref(), Scope::all()).at_most(RELEASES_LISTED)
        } else {
            let mut names: Option<BTreeSet<String>> = None;
            for word in &asked {
                let walk = TreeWalk::<Mention>::new(index.words.as_ref(), Scope::words(word)).at_most(FOUND_BY_WORD);
                let walk = read(walk, &mut pages, &get).await?;
                hits.cut |= walk.is_cut();
                let found: BTreeSet<String> =
                    walk.entries().map_err(refused)?.into_iter().map(|it| it.service).collect();
                names = Some(match names {
                    None => found,
                    Some(names) => names.intersection(&found).cloned().collect(),
                });
            }
            let mut names = names.unwrap_or_default();
            hits.cut |= names.len() > LISTED;
            names = names.into_iter().take(LISTED).collect();
            TreeWalk::new(index.names.as_ref(), Scope::names(names))
        };
        let walk = read(walk, &mut pages, &get).await?;
        hits.cut |= walk.is_cut();
        let fits = |release: &Release| {
            let scope = search.scope.as_deref().is_none_or(|scope| {
                release.scope == scope || release.scope.strip_prefix(scope).is_some_and(|rest| rest.starts_with('/'))
            });
            let engine = search.engine.as_ref().is_none_or(|engine| release.engines.contains(engine));
            let reviewed = search.unreviewed || reviews_of(&index.policy, release) >= index.policy.reviews.into();
            release.status == Status::Active && scope && engine && reviewed && words::answers(release, &words)
        };
        hits.releases = walk.entries().map_err(refused)?.into_iter().filter(fits).collect();
        Ok(hits)
    }

    /// The name in `view` that is nearest to one that it does not have: of a large market among those that begin alike.
    pub async fn near_name(&self, ctx: &Arc<Context>, view: &MarketView, name: &str) -> Option<String> {
        let index = view.index()?;
        let source = view.source(None);
        let get = |hash| source.page(ctx, hash);
        let mut pages = HashMap::new();
        let names: Vec<String> = if index.releases <= RELEASES_LISTED as u64 {
            let walk =
                read(TreeWalk::<Release>::new(index.names.as_ref(), Scope::all()), &mut pages, &get).await.ok()?;
            walk.entries().ok()?.into_iter().map(|release| release.name).collect()
        } else {
            let begin: String = name.chars().take(2).collect();
            let walk = TreeWalk::<Mention>::new(index.words.as_ref(), Scope::words(&begin)).at_most(LISTED);
            let walk = read(walk, &mut pages, &get).await.ok()?;
            walk.entries().ok()?.into_iter().map(|mention| mention.service).collect()
        };
        msm_market_index::resolve::closest(names.iter().map(String::as_str), name)
    }
}
