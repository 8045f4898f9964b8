//! The markets that this owner trusts: what is believed of each, kept newest, never below its floor.
//!
//! Verification is `msm-market-index`'s; here bytes are brought to it from peers, the DHT, folders and web servers,
//! and what it accepts is written durably before it is used. Every reader sees whole [`MarketView`]s.

mod add;
mod saved;
pub mod source;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use msm_market_index::{
    Freshness, HeadOutcome, ResolveError, ServiceRef, TreeWalk, TrustError, TrustedMarket, resolve,
};
use msm_protocol::{
    ContentHash, MarketId, PeerId, Refusal, RefusalCode,
    document::{Release, Status},
    limits::{PAGE_BYTES, ROOTS_PER_RESPONSE},
    message::{HeadRequest, HeadResponse},
};
use serde_bytes::ByteBuf;
use tokio::sync::watch;

use self::source::{Source, SourceError};
use super::{
    context::{Ask, Context},
    fetch::CONNECT_TIME,
    job,
};
use crate::{
    command::{CommandError, ErrorCode, Event, MarketRow},
    floors::{FloorError, Floors},
    home::{Home, MarketEntry},
    net::{NetError, Verdict},
};

/// One peer's whole answer about one market: a mute one is not waited for any longer.
const SYNC_TIME: Duration = Duration::from_secs(10);

/// Why a market could not be brought up to date.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MarketError {
    /// What was offered is not to be believed.
    #[error("refused: {0}")]
    Refused(String),
    /// What was offered is not to be believed, and whoever offered it could see that.
    #[error("refused: {0}")]
    Forged(String),
    /// The bytes could not be had.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A peer did not answer.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The floor could not be read or written: nothing new is believed.
    #[error(transparent)]
    Floor(#[from] FloorError),
    /// The node is ending.
    #[error("the node is ending")]
    Interrupted,
    /// Not one of this owner's markets.
    #[error("{0} is not trusted here")]
    NotTrusted(MarketId),
}

impl From<TrustError> for MarketError {
    fn from(error: TrustError) -> Self {
        let text = bare(&error);
        match error {
            // Other keys may be those of a root that is not here yet: no proof of ill will.
            TrustError::BadMessage { .. } | TrustError::WrongType { .. } | TrustError::MarketMismatch { .. } => {
                Self::Forged(text)
            }
            // Old news, or what the market itself has signed.
            _ => Self::Refused(text),
        }
    }
}

/// The text without its `refused: `, which [`MarketError`] puts before it.
fn bare(error: &TrustError) -> String {
    let text = error.to_string();
    text.strip_prefix("refused: ").unwrap_or(&text).to_owned()
}

/// One trusted market as everybody reads it.
#[derive(Debug, Clone)]
pub struct MarketView {
    /// The pinned id.
    pub id: MarketId,
    /// The owner's name for it, and where it came from.
    pub entry: MarketEntry,
    /// What is believed.
    trusted: Arc<TrustedMarket>,
    /// Envelopes as they came, to pass on and to start from.
    saved: Arc<saved::Saved>,
    /// Releases of the index in use.
    pub releases: Arc<Vec<Release>>,
    by_manifest: Arc<HashMap<ContentHash, usize>>,
    /// Pages of the index in use: pinned in the store, so that an offline restart finds them.
    pages: Arc<Vec<ContentHash>>,
}

impl MarketView {
    /// Version of the index in use, 0 for none.
    pub fn version(&self) -> u64 {
        self.trusted.index().map_or(0, |index| index.version)
    }

    fn row(&self) -> MarketRow {
        let freshness = match self.trusted.freshness(now()) {
            Freshness::Fresh => "fresh",
            Freshness::Stale { .. } => "stale",
            Freshness::Unknown => "unknown",
        };
        MarketRow {
            alias: self.entry.alias.clone(),
            name: self.trusted.root().map(|root| root.name.clone()).unwrap_or_default(),
            market: self.id,
            fingerprint: self.id.fingerprint(),
            version: self.version(),
            services: self.releases.len() as u64,
            freshness: freshness.to_owned(),
            expires: self.trusted.fresh_until().unwrap_or(0),
            published_here: self.entry.publish_folder.is_some(),
        }
    }
}

/// A release and the market it was found in.
#[derive(Debug, Clone)]
pub struct Found {
    /// The market.
    pub market: MarketId,
    /// Its alias.
    pub alias: String,
    /// Version of its index.
    pub index_version: u64,
    /// The release.
    pub release: Release,
}

/// All trusted markets of a node.
pub struct Markets {
    home: Home,
    floors: Arc<Floors>,
    view: watch::Sender<Arc<Vec<MarketView>>>,
    /// One round of asking everybody at a time.
    round: tokio::sync::Mutex<()>,
    /// One update of one market at a time.
    updating: Mutex<HashMap<MarketId, Arc<tokio::sync::Mutex<()>>>>,
}

/// What a head is worth that somebody passes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadNews {
    /// Newer than what is here: fetch its index.
    Newer,
    /// What is here.
    Current,
    /// Believable once, not any more.
    Old,
    /// Nothing can be said: the market, or its newest root, is not known here.
    Unknown,
    /// No honest peer passes it on.
    Bad,
}

impl HeadNews {
    /// What becomes of the gossip message that carried it.
    pub const fn verdict(self) -> Verdict {
        match self {
            Self::Newer => Verdict::Accept,
            Self::Current | Self::Old | Self::Unknown => Verdict::Ignore,
            Self::Bad => Verdict::Reject,
        }
    }
}

/// Unix seconds by this device's clock.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Markets {
    /// Reads what the home trusts and what is known of it. Bytes below a floor are not believed again; pages that the
    /// store has lost are fetched at the next update.
    pub async fn open(
        home: Home,
        floors: Arc<Floors>,
        store: &crate::store::StoreHandle,
    ) -> Result<Self, CommandError> {
        let entries = home.markets()?;
        let mut views = Vec::new();
        for entry in entries.entries() {
            match saved::load(&floors, entry.market) {
                Ok(saved) => views.push(saved::restore(entry.clone(), saved, store).await),
                // What was believed is not known any more, so nothing of this market is. The others go on.
                Err(error) => tracing::error!(market = entry.alias, %error, "market left out"),
            }
        }
        Ok(Self {
            home,
            floors,
            view: watch::Sender::new(Arc::new(views)),
            round: Default::default(),
            updating: Mutex::default(),
        })
    }

    /// All trusted markets.
    pub fn view(&self) -> Arc<Vec<MarketView>> {
        self.view.borrow().clone()
    }

    fn get(&self, market: &MarketId) -> Option<MarketView> {
        self.view.borrow().iter().find(|view| view.id == *market).cloned()
    }

    /// True when this owner trusts `market`.
    pub fn trusts(&self, market: &MarketId) -> bool {
        self.view.borrow().iter().any(|view| view.id == *market)
    }

    /// The release that `market` vouches for under this manifest hash.
    pub fn release(&self, market: &MarketId, manifest: &ContentHash) -> Option<Release> {
        let view = self.get(market)?;
        view.by_manifest.get(manifest).and_then(|at| view.releases.get(*at)).cloned()
    }

    /// Whether `market` still vouches for a package; once it did. Trust can end while a job runs.
    pub fn vouches(&self, market: &MarketId, manifest: &ContentHash) -> Result<(), Refusal> {
        match self.release(market, manifest) {
            Some(release) if release.status == Status::Revoked => {
                Err(Refusal::new(RefusalCode::Revoked, format!("{} was revoked by its market", release.name)))
            }
            Some(_) => Ok(()),
            None => Err(Refusal::new(RefusalCode::UntrustedMarket, "its market does not vouch for it here any more")),
        }
    }

    /// Hears of every newer index and every market that is added or removed.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Vec<MarketView>>> {
        self.view.subscribe()
    }

    /// The owner's name for `market`; its id where it is not trusted any more.
    pub fn alias(&self, market: &MarketId) -> String {
        self.get(market).map_or_else(|| market.to_string(), |view| view.entry.alias)
    }

    /// Whether something new of `market` may be installed now.
    pub fn is_fresh(&self, market: &MarketId) -> bool {
        self.get(market).is_some_and(|view| view.trusted.freshness(now()) == Freshness::Fresh)
    }

    /// Version of the index of `market` in use, 0 for none.
    pub fn version(&self, market: &MarketId) -> u64 {
        self.get(market).map_or(0, |view| view.version())
    }

    /// Rows for listings.
    pub fn rows(&self) -> Vec<MarketRow> {
        self.view.borrow().iter().map(MarketView::row).collect()
    }

    /// What a peer gets that asks for a market's newest head.
    pub fn head_response(&self, request: &HeadRequest) -> HeadResponse {
        let Some(view) = self.get(&request.market) else { return HeadResponse::default() };
        let skip = usize::try_from(request.root).unwrap_or(usize::MAX);
        let roots = view.saved.roots.iter().skip(skip).take(ROOTS_PER_RESPONSE).cloned().collect();
        HeadResponse { head: view.saved.head.clone(), roots }
    }

    /// The newest head envelope of a market, to gossip and to put into the DHT.
    pub fn head(&self, market: &MarketId) -> Option<Vec<u8>> {
        self.get(market)?.saved.head.as_ref().map(|head| head.to_vec())
    }

    /// What a head is worth that somebody passes on.
    pub fn judge(&self, market: &MarketId, head: &[u8]) -> HeadNews {
        let Some(view) = self.get(market) else { return HeadNews::Unknown };
        match TrustedMarket::clone(&view.trusted).update_head(head, now()) {
            Ok(HeadOutcome::Known) => HeadNews::Current,
            Ok(_) => HeadNews::Newer,
            // Signed by keys of a root that is not here yet, perhaps: its sender may have that root.
            Err(TrustError::RootVersion { .. } | TrustError::Untrusted { .. } | TrustError::Threshold { .. }) => {
                HeadNews::Unknown
            }
            Err(TrustError::Rollback { .. } | TrustError::Expired { .. }) => HeadNews::Old,
            Err(_) => HeadNews::Bad,
        }
    }

    /// Finds the release that a text names: `[market/]name[@range]` or a manifest hash.
    pub async fn find(&self, ctx: &Arc<Context>, service: &str) -> Result<Found, CommandError> {
        if self.view().iter().any(|view| view.version() == 0) {
            // A market was added before anybody who knows it was around.
            job::settle(ctx).await;
            self.sync_all(ctx).await;
        }
        let views = self.view();
        if views.is_empty() {
            return Err(no_market(ctx).await);
        }
        if let Ok(hash) = service.parse::<ContentHash>() {
            return find_hash(&views, hash);
        }
        let usage = |e: ResolveError| CommandError::new(ErrorCode::Usage, e.to_string()).or_try("msm search");
        let request: ServiceRef = service.parse().map_err(usage)?;
        let mut found = Vec::new();
        let mut missed = None;
        for view in views.iter().filter(|view| request.market.as_ref().is_none_or(|alias| *alias == view.entry.alias)) {
            match resolve(&view.releases, service) {
                Ok(release) => found.push(Found {
                    market: view.id,
                    alias: view.entry.alias.clone(),
                    index_version: view.version(),
                    release: release.clone(),
                }),
                Err(error) => missed = Some(missed.map_or(error.clone(), |earlier| nearer(earlier, error))),
            }
        }
        if let [_, second, ..] = found.as_slice() {
            let names: Vec<String> = found.iter().map(|f| format!("{}/{}", f.alias, f.release.name)).collect();
            let message = format!("{service:?} is in several markets: {}", names.join(", "));
            let hint = format!("msm show {}/{}", second.alias, second.release.name);
            return Err(CommandError::new(ErrorCode::Usage, message).or_try(hint));
        }
        found.pop().ok_or_else(|| not_found(&request, missed))
    }

    /// Asks `peer` for a newer index of `market` and takes it if its signatures hold.
    pub async fn sync_from(&self, ctx: &Arc<Context>, market: MarketId, peer: PeerId) -> Result<(), MarketError> {
        loop {
            let view = self.get(&market).ok_or(MarketError::NotTrusted(market))?;
            let root = view.trusted.next_root() - 1;
            let answer = ctx.net.head(peer, &HeadRequest { v: 1, root, market }).await?;
            let more = answer.roots.len() == ROOTS_PER_RESPONSE;
            let head = answer.head.filter(|_| !more);
            let result = self.learn(ctx, market, answer.roots, head, &Source::Peers(Some(peer))).await;
            match &result {
                Err(MarketError::Refused(why)) => {
                    tracing::warn!(peer = peer.short(), market = market.short(), why, "market update refused");
                }
                Err(error @ MarketError::Forged(_)) => ctx.tell(Ask::Strike(peer, error.to_string())).await,
                _ => {}
            }
            result?;
            // A peer that repeats what is known must not keep this going.
            let progress = self.get(&market).is_some_and(|view| view.trusted.next_root() - 1 > root);
            if !more || !progress {
                return Ok(());
            }
        }
    }

    /// Asks everybody connected for newer indexes of every market; a mute peer delays the others by nothing.
    pub async fn sync_all(&self, ctx: &Arc<Context>) {
        let _one_round = self.round.lock().await;
        let peers = ctx.connected();
        for view in self.view().iter() {
            let asks = peers.iter().map(async |peer| {
                match tokio::time::timeout(SYNC_TIME, self.sync_from(ctx, view.id, *peer)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::debug!(peer = peer.short(), market = view.id.short(), %error, "no update")
                    }
                    Err(_) => tracing::debug!(peer = peer.short(), market = view.id.short(), "no update in time"),
                }
            });
            futures::future::join_all(asks).await;
        }
    }

    /// [`Markets::sync_all`], and the DHT for markets that nobody around knows; nothing while a round is under way.
    pub async fn sync_widely(&self, ctx: &Arc<Context>) {
        if self.round.try_lock().is_err() {
            return;
        }
        self.sync_all(ctx).await;
        for view in self.view().iter().filter(|view| view.version() == 0) {
            self.sync_from_dht(ctx, view.id).await;
        }
    }

    /// Looks in the DHT for peers that have the market, and for its head.
    async fn sync_from_dht(&self, ctx: &Arc<Context>, market: MarketId) {
        let mut holders = ctx.net.find_providers(place_of(&market)).await;
        while let Some(peer) = holders.recv().await {
            if peer == ctx.local || !ctx.wait_connected(peer, CONNECT_TIME).await {
                continue;
            }
            match self.sync_from(ctx, market, peer).await {
                Ok(()) if self.version(&market) > 0 => return,
                Ok(()) => {}
                Err(error) => tracing::debug!(peer = peer.short(), market = market.short(), %error, "no update"),
            }
        }
        let mut heads = ctx.net.find_heads(market).await;
        while let Some(head) = heads.recv().await {
            let result = self.learn(ctx, market, Vec::new(), Some(ByteBuf::from(head)), &Source::Peers(None)).await;
            if let Err(error) = result {
                tracing::debug!(market = market.short(), %error, "head record not used");
            }
        }
    }

    fn lock_of(&self, market: MarketId) -> Arc<tokio::sync::Mutex<()>> {
        let mut updating: MutexGuard<'_, _> = self.updating.lock().unwrap_or_else(PoisonError::into_inner);
        updating.entry(market).or_default().clone()
    }

    /// Takes newer roots, head and index of a market, from wherever they come. All or nothing, and the floor first.
    async fn learn(
        &self,
        ctx: &Arc<Context>,
        market: MarketId,
        roots: Vec<ByteBuf>,
        head: Option<ByteBuf>,
        source: &Source,
    ) -> Result<(), MarketError> {
        let guard = self.lock_of(market).lock_owned().await;
        let view = self.get(&market).ok_or(MarketError::NotTrusted(market))?;
        let mut trusted = TrustedMarket::clone(&view.trusted);
        let mut saved = saved::Saved::clone(&view.saved);
        let (mut content, mut changed) = ((view.releases.to_vec(), view.pages.to_vec()), false);
        for root in roots {
            if let msm_market_index::RootOutcome::Accepted { .. } = trusted.update_root(&root, now())? {
                saved.roots.push(root);
                changed = true;
            }
        }
        if trusted.index().is_none() {
            // New keys for index or head begin a new line: what the old ones signed neither binds nor stays.
            (saved.head, saved.index) = (None, None);
            content = Default::default();
        }
        if let Some(head) = head {
            match trusted.update_head(&head, now())? {
                HeadOutcome::Known => {}
                HeadOutcome::Renewed => {
                    saved.head = Some(head);
                    changed = true;
                }
                HeadOutcome::Fetch { hash, size, .. } => {
                    let same_line = trusted.index().is_some();
                    let index = source.get(ctx, hash, size, true).await?;
                    // Its hash was signed: what is wrong with it is not the fault of whoever passed it on.
                    trusted.update_index(&index, now()).map_err(|error| MarketError::Refused(bare(&error)))?;
                    let all = read_releases(ctx, &trusted, source).await?;
                    if same_line {
                        msm_market_index::trust::check_successor(&view.releases, &all.0)?;
                    }
                    saved.head = Some(head);
                    saved.index = Some(ByteBuf::from(index.to_vec()));
                    content = all;
                    changed = true;
                }
            }
        }
        if !changed {
            return Ok(());
        }
        saved.floor = trusted.floor();
        let before = view.version();
        let next = MarketView::new(view.entry, trusted, saved, content.0, content.1);
        // From here on whoever asked may go away: what is on disk and what is believed stay the same.
        let ctx = ctx.clone();
        let commit = tokio::spawn(async move {
            let _guard = guard;
            ctx.markets.commit(&ctx, next, before).await
        });
        commit.await.map_err(|_| MarketError::Interrupted)?
    }

    /// Writes the floor, then lets everybody see the new view.
    async fn commit(&self, ctx: &Context, next: MarketView, before: u64) -> Result<(), MarketError> {
        saved::save(&self.floors, next.id, &next.saved).await?;
        let (market, alias, version) = (next.id, next.entry.alias.clone(), next.version());
        for page in next.pages.iter() {
            ctx.store.pin(*page).await;
        }
        let Some(old) = self.replace(next) else { return Err(MarketError::NotTrusted(market)) };
        let current = self.get(&market);
        for page in old.pages.iter().filter(|page| current.as_ref().is_none_or(|view| !view.pages.contains(page))) {
            ctx.store.unpin(*page).await;
        }
        tracing::info!(market = market.short(), alias, version, "market updated");
        if version != before {
            ctx.emit(Event::MarketUpdated { alias, version });
        }
        ctx.tell(Ask::MarketChanged(market)).await;
        Ok(())
    }

    /// Replaces the view of a market that is still trusted; returns the old one.
    fn replace(&self, next: MarketView) -> Option<MarketView> {
        let mut old = None;
        self.view.send_modify(|views| {
            let mut all = Vec::clone(views);
            if let Some(place) = all.iter_mut().find(|view| view.id == next.id) {
                // The owner may have renamed it meanwhile.
                let entry = place.entry.clone();
                old = Some(std::mem::replace(place, MarketView { entry, ..next }));
            }
            *views = Arc::new(all);
        });
        old
    }

    /// Begins to trust a market.
    fn insert(&self, view: MarketView) {
        self.view.send_modify(|views| {
            let mut all: Vec<_> = views.iter().filter(|known| known.id != view.id).cloned().collect();
            all.push(view);
            *views = Arc::new(all);
        });
    }
}

impl MarketView {
    fn new(
        entry: MarketEntry,
        trusted: TrustedMarket,
        saved: saved::Saved,
        releases: Vec<Release>,
        pages: Vec<ContentHash>,
    ) -> Self {
        let by_manifest = releases.iter().enumerate().map(|(at, release)| (release.manifest, at)).collect();
        Self {
            id: entry.market,
            entry,
            trusted: Arc::new(trusted),
            saved: Arc::new(saved),
            releases: Arc::new(releases),
            by_manifest: Arc::new(by_manifest),
            pages: Arc::new(pages),
        }
    }
}

/// Under what those who have a market's documents are found in the DHT: its id is the hash of its first root.
pub fn place_of(market: &MarketId) -> ContentHash {
    ContentHash::from_bytes(*market.as_bytes())
}

/// Reads the whole tree of releases of the index in use, fetching the pages that are not here.
async fn read_releases(
    ctx: &Arc<Context>,
    trusted: &TrustedMarket,
    source: &Source,
) -> Result<(Vec<Release>, Vec<ContentHash>), MarketError> {
    let refused =
        |error: msm_market_index::TreeError| MarketError::Refused(format!("bad-message: index tree: {error}"));
    let Some(index) = trusted.index() else { return Ok(Default::default()) };
    let mut walk = TreeWalk::all(index);
    let mut pages: HashMap<ContentHash, Bytes> = HashMap::new();
    loop {
        let missing = walk.advance(|hash| pages.get(hash).cloned()).map_err(refused)?;
        if missing.is_empty() {
            return Ok((walk.releases().map_err(refused)?, pages.into_keys().collect()));
        }
        for hash in missing {
            let page = source.get(ctx, hash, PAGE_BYTES as u64, false).await?;
            pages.insert(hash, page);
        }
    }
}

fn find_hash(views: &[MarketView], hash: ContentHash) -> Result<Found, CommandError> {
    let found = views.iter().find_map(|view| {
        let release = view.releases.get(*view.by_manifest.get(&hash)?)?.clone();
        Some(Found { market: view.id, alias: view.entry.alias.clone(), index_version: view.version(), release })
    });
    if let Some(Found { release, .. }) = &found
        && release.status == Status::Revoked
    {
        let message = format!("refused: revoked: {}@{} was revoked by its market", release.name, release.version);
        return Err(CommandError::new(ErrorCode::Verification, message).or_try(format!("msm show {}", release.name)));
    }
    found.ok_or_else(|| {
        let message = format!("refused: unknown-package: {hash} is in no index of a market that is trusted here");
        CommandError::new(ErrorCode::NotFound, message).or_try("msm search")
    })
}

/// Of two misses the one that helps more: a near name beats none.
fn nearer(a: ResolveError, b: ResolveError) -> ResolveError {
    match (&a, &b) {
        (ResolveError::NotFound { closest: None, .. }, _) => b,
        _ => a,
    }
}

fn not_found(request: &ServiceRef, missed: Option<ResolveError>) -> CommandError {
    let Some(error) = missed else {
        let alias = request.market.clone().unwrap_or_default();
        let message = format!("not-found: no market {alias:?} is trusted here");
        return CommandError::new(ErrorCode::NotFound, message).or_try("msm market list");
    };
    let hint = match &error {
        ResolveError::NotFound { closest: Some(name), .. } => format!("msm show {name}"),
        _ => "msm search".to_owned(),
    };
    CommandError::new(ErrorCode::NotFound, error.to_string()).or_try(hint)
}

/// Nothing is trusted here. Neighbours may name markets; whether to trust one is the owner's choice.
async fn no_market(ctx: &Context) -> CommandError {
    let message = "refused: untrusted-market: this device trusts no market, so it runs nobody's code";
    let error = CommandError::new(ErrorCode::NotAllowed, message);
    let offered = ctx.peers().await.into_iter().find_map(|peer| peer.info?.ext.markets.first().copied());
    match offered {
        Some(market) => error.or_try(format!("msm market add {market}")),
        None => error.or_try("msm market add msm:market:FINGERPRINT"),
    }
}
