//! What this device knows of a market below its index: the releases of the services that it uses, and what of them is
//! revoked. Pages are read as far as a question needs them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, future::BoxFuture};
use msm_market_index::{
    TreeError, TreeWalk,
    catalogue::{all_releases, all_revocations, all_words, targets_of},
    entry,
    tree::{Leaf, Scope},
};
use msm_protocol::{
    ContentHash,
    document::{Index, Release, Revocation, Status, Target},
};

use super::MarketError;
use crate::net::limits::BLOB_STREAMS;

/// Services of one market that are kept at hand, and followed from index to index. *Judgement*: far more than one device
/// runs; the one used longest ago makes room.
pub const SERVICES_KEPT: usize = 1_024;
/// Releases of a market that every device that follows it holds the catalogue of, and that is taken from its files as a
/// whole, packages included, so that its files need not stay. Of a larger one what is needed is taken when it is needed.
/// *Judgement*: about half a megabyte of pages.
pub const TAKEN_WHOLE: u64 = 1_000;
/// Bytes of pages that one question may take. *Judgement*: a whole catalogue of [`TAKEN_WHOLE`] releases has one or two
/// megabytes.
const READ_BYTES: usize = 16 * 1024 * 1024;
/// Pages on their way at the same time: fewer than one peer answers at once.
const PAGES_AT_ONCE: usize = BLOB_STREAMS - 1;

/// Brings a page.
pub type Get<'a> = &'a (dyn Fn(ContentHash) -> BoxFuture<'a, Result<Bytes, MarketError>> + Send + Sync);

/// All versions of one service, in the order of their version texts; empty when the market has no such service.
#[derive(Debug, Default)]
pub struct Service {
    releases: Vec<Release>,
    used: AtomicU64,
}

impl Service {
    /// Its releases.
    pub fn releases(&self) -> &[Release] {
        &self.releases
    }
}

/// The services at hand under one index.
#[derive(Debug, Clone, Default)]
pub struct Services {
    by_name: BTreeMap<String, Arc<Service>>,
    by_manifest: HashMap<ContentHash, Release>,
    /// What was read: pinned in the store, so that an offline restart finds it.
    pages: BTreeSet<ContentHash>,
    /// All pages of the market's trees are here.
    whole: bool,
}

impl Services {
    /// The service, if it was read under this index.
    pub fn get(&self, name: &str, tick: u64) -> Option<Arc<Service>> {
        let service = self.by_name.get(name)?;
        service.used.store(tick, Ordering::Relaxed);
        Some(service.clone())
    }

    /// The release with this manifest, if its service is at hand. What is asked for stays.
    pub fn release(&self, manifest: &ContentHash, tick: u64) -> Option<&Release> {
        let release = self.by_manifest.get(manifest)?;
        self.get(&release.name, tick);
        Some(release)
    }

    /// All releases at hand.
    pub fn releases(&self) -> impl Iterator<Item = &Release> {
        self.by_name.values().flat_map(|service| service.releases.iter())
    }

    /// Names at hand, also of services that the market does not have any more.
    pub fn names(&self) -> BTreeSet<String> {
        self.by_name.keys().cloned().collect()
    }

    /// Names that are at hand in `other` and not here.
    pub fn lacks(&self, other: &Self) -> BTreeSet<String> {
        other.by_name.keys().filter(|name| !self.by_name.contains_key(*name)).cloned().collect()
    }

    /// Names of services that the market has, to be written down.
    pub fn found(&self) -> Vec<String> {
        self.by_name.iter().filter(|(_, service)| !service.releases.is_empty()).map(|(name, _)| name.clone()).collect()
    }

    /// True when all pages of the market's trees are here, for this device and for others.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Pages that were read.
    pub fn pages(&self) -> &BTreeSet<ContentHash> {
        &self.pages
    }

    /// Adds what was read later under the same index.
    pub fn add(&mut self, more: Self, tick: u64) {
        for service in more.by_name.values() {
            service.used.store(tick, Ordering::Relaxed);
        }
        self.by_name.extend(more.by_name);
        self.pages.extend(more.pages);
        self.whole |= more.whole;
        while self.by_name.len() > SERVICES_KEPT {
            let oldest = self.by_name.iter().min_by_key(|(_, service)| service.used.load(Ordering::Relaxed));
            let Some(name) = oldest.map(|(name, _)| name.clone()) else { break };
            self.by_name.remove(&name);
        }
        self.by_manifest = self.releases().map(|release| (release.manifest, release.clone())).collect();
    }
}

/// Reads all versions of these services and what of them is revoked, under `index`.
///
/// A release that its market may not list under its name (its name is delegated to others) is left out; one that a
/// revocation names counts as revoked, whatever it says of itself.
pub async fn read_services(index: &Index, names: BTreeSet<String>, get: Get<'_>) -> Result<Services, MarketError> {
    let mut pages = HashMap::new();
    let walk = TreeWalk::new(index.names.as_ref(), Scope::names(names.clone()));
    let mut releases = read(walk, &mut pages, get).await?.entries().map_err(refused)?;
    releases.retain(|release| match entry::undelegated(&index.delegations, release) {
        Some(why) => {
            tracing::warn!(service = release.name, version = release.version, why, "release left out");
            false
        }
        None => true,
    });
    let targets: BTreeSet<Target> = releases.iter().flat_map(targets_of).collect();
    let walk = TreeWalk::<Revocation>::new(index.revoked.as_ref(), Scope::keys(targets));
    let revoked: BTreeSet<Target> =
        read(walk, &mut pages, get).await?.entries().map_err(refused)?.into_iter().map(|it| it.target).collect();
    for release in &mut releases {
        if targets_of(release).iter().any(|target| revoked.contains(target)) {
            release.status = Status::Revoked;
        }
    }
    let mut by_name: BTreeMap<String, Vec<Release>> = names.into_iter().map(|name| (name, Vec::new())).collect();
    for release in releases {
        by_name.entry(release.name.clone()).or_default().push(release);
    }
    let service = |releases| Arc::new(Service { releases, used: AtomicU64::new(0) });
    let by_name = by_name.into_iter().map(|(name, releases)| (name, service(releases))).collect();
    let mut services = Services { by_name, pages: pages.into_keys().collect(), ..Services::default() };
    services.add(Services::default(), 0);
    Ok(services)
}

/// Reads all pages of a market's trees, for others too: a market of this size lives on every device that follows it.
pub async fn read_whole(index: &Index, get: Get<'_>) -> Result<Services, MarketError> {
    let mut pages = HashMap::new();
    read(all_releases(index), &mut pages, get).await?;
    read(all_words(index), &mut pages, get).await?;
    read(all_revocations(index), &mut pages, get).await?;
    Ok(Services { pages: pages.into_keys().collect(), whole: true, ..Services::default() })
}

/// Takes a walk to its end, for a question of limited size.
pub async fn read<E: Leaf + Send>(
    walk: TreeWalk<E>,
    pages: &mut HashMap<ContentHash, Bytes>,
    get: Get<'_>,
) -> Result<TreeWalk<E>, MarketError>
where
    E::Key: Send + Sync,
{
    read_within(walk, pages, get, READ_BYTES).await
}

/// Takes a walk to its end, with `most` bytes of pages in all.
pub async fn read_within<E: Leaf + Send>(
    mut walk: TreeWalk<E>,
    pages: &mut HashMap<ContentHash, Bytes>,
    get: Get<'_>,
    most: usize,
) -> Result<TreeWalk<E>, MarketError>
where
    E::Key: Send + Sync,
{
    loop {
        let missing = walk.advance(|hash| pages.get(hash).cloned()).map_err(refused)?;
        if missing.is_empty() {
            return Ok(walk);
        }
        let fetched =
            futures::stream::iter(missing.into_iter().map(|hash| async move { Ok((hash, get(hash).await?)) }));
        let fetched: Vec<_> =
            fetched.buffer_unordered(PAGES_AT_ONCE).try_collect().await.map_err(|e: MarketError| e)?;
        pages.extend(fetched);
        if pages.values().map(Bytes::len).sum::<usize>() > most {
            return Err(MarketError::Refused(format!("index tree: its answer takes more than {most} bytes")));
        }
    }
}

/// A tree that is not one was signed: whoever passed it on is not to blame.
pub fn refused(error: TreeError) -> MarketError {
    MarketError::Refused(format!("bad-message: index tree: {error}"))
}
