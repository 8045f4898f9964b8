//! The markets that this owner trusts: what is believed of each, kept newest, never below its floor.
//!
//! Verification is `msm-market-index`'s; here bytes are brought to it from peers, the DHT, folders and web servers,
//! and what it accepts is written durably before it is used. Every reader sees whole [`MarketView`]s.

mod add;
mod alarm;
mod mirror;
pub mod saved;
mod search;
mod services;
pub mod source;
mod update;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use msm_market_index::{
    Freshness, HeadOutcome, PublishedFolder, ResolveError, ServiceRef, TrustError, TrustedMarket, entry::reviews_of,
    resolve,
};
use msm_protocol::{
    ContentHash, Manifest, MarketId, PeerId, Refusal, RefusalCode,
    document::{Index, Release, Status},
    limits::{MANIFEST_BYTES, REPORT_BYTES, ROOTS_PER_RESPONSE},
    manifest::is_name,
    message::{HeadRequest, HeadResponse},
    review::Report,
};
use tokio::sync::watch;

use self::{
    services::{Service, Services, TAKEN_WHOLE, read_services, read_whole},
    source::{Source, SourceError},
};
use super::{context::Context, job};
use crate::{
    command::{CommandError, ErrorCode, MarketRow},
    floors::{FloorError, Floors},
    home::{Home, MarketEntry},
    net::{NetError, Verdict},
};

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
    /// The market has signed two histories: nothing newer is believed under the same keys.
    #[error(
        "refused: equivocation: this market has signed two histories at index {version}; it is not followed any further"
    )]
    Split {
        /// Where they part.
        version: u64,
    },
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
    /// What is at hand of the index in use.
    services: Arc<Services>,
}

impl MarketView {
    /// Version of the index in use, 0 for none.
    pub fn version(&self) -> u64 {
        self.trusted.index().map_or(0, |index| index.version)
    }

    /// The index in use.
    pub fn index(&self) -> Option<&Index> {
        self.trusted.index().map(|index| &**index)
    }

    /// True for a small market whose catalogue is not all here.
    fn wants_whole(&self) -> bool {
        let small = |index: &Index| (1..=TAKEN_WHOLE).contains(&index.releases);
        !self.services.is_whole() && self.index().is_some_and(small)
    }

    /// Where its blobs may be had: its files on this device, peers (`hint` must have them), its web server.
    fn source(&self, hint: Option<PeerId>) -> Source {
        let source = self.entry.source.as_deref();
        let url = source.filter(|source| source.starts_with("http://")).map(str::to_owned);
        let own = self.entry.publish_folder.as_deref();
        let folder =
            own.or_else(|| source.filter(|_| url.is_none()).map(std::path::Path::new)).map(PublishedFolder::at);
        Source::Anyone { hint, folder, url }
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
            releases: self.index().map_or(0, |index| index.releases),
            freshness: freshness.to_owned(),
            expires: self.trusted.fresh_until().unwrap_or(0),
            published_here: self.entry.publish_folder.is_some(),
            two_histories: self.two_histories(),
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
    /// Counts uses of services: which was used longest ago.
    tick: AtomicU64,
    /// One catalogue is taken as a whole at a time.
    gathering: tokio::sync::Mutex<()>,
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
    /// Signed, and it names another index than the one known here: the market may show two histories.
    Contradiction,
    /// No honest peer passes it on.
    Bad,
}

impl HeadNews {
    /// What becomes of the gossip message that carried it.
    pub const fn verdict(self) -> Verdict {
        match self {
            Self::Newer => Verdict::Accept,
            Self::Current | Self::Old | Self::Unknown | Self::Contradiction => Verdict::Ignore,
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
            tick: AtomicU64::new(0),
            gathering: Default::default(),
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

    /// The release that `market` vouches for under this manifest hash, if its service is at hand.
    pub fn release(&self, market: &MarketId, manifest: &ContentHash) -> Option<Release> {
        let tick = self.tick.fetch_add(1, Ordering::Relaxed);
        self.get(market)?.services.release(manifest, tick).cloned()
    }

    /// The release of `name` that `market` vouches for under this manifest hash. `hint` must have the pages that lead
    /// to it, as far as they are not here.
    pub async fn release_of(
        &self,
        ctx: &Arc<Context>,
        market: &MarketId,
        name: &str,
        manifest: &ContentHash,
        hint: Option<PeerId>,
    ) -> Option<Release> {
        if !is_name(name) {
            return None;
        }
        match self.service(ctx, market, name, hint).await {
            Ok(service) => service.releases().iter().find(|release| release.manifest == *manifest).cloned(),
            Err(error) => {
                tracing::debug!(market = market.short(), name, %error, "not looked up");
                None
            }
        }
    }

    /// All versions of a service under the index in use. It is followed from now on.
    pub async fn service(
        &self,
        ctx: &Arc<Context>,
        market: &MarketId,
        name: &str,
        hint: Option<PeerId>,
    ) -> Result<Arc<Service>, MarketError> {
        loop {
            let tick = self.tick.fetch_add(1, Ordering::Relaxed);
            let view = self.get(market).ok_or(MarketError::NotTrusted(*market))?;
            if let Some(service) = view.services.get(name, tick) {
                return Ok(service);
            }
            let Some(index) = view.index() else { return Ok(Arc::default()) };
            let source = view.source(hint);
            let read = read_services(index, BTreeSet::from([name.to_owned()]), &|hash| source.page(ctx, hash)).await?;
            if read.found().is_empty() {
                // Not kept: whoever asks for names that nobody has would push out those that are used.
                return Ok(Arc::default());
            }
            let pages = read.pages().clone();
            // Another index may have come meanwhile: then its own tree is asked.
            if self.keep(market, view.version(), read, tick) {
                let (ctx, market) = (ctx.clone(), *market);
                tokio::spawn(async move {
                    for page in pages {
                        ctx.store.pin(page).await;
                    }
                    ctx.markets.write_down(&market).await;
                });
            }
        }
    }

    /// Adds to what is at hand under index `version`; false when that is not in use any more.
    fn keep(&self, market: &MarketId, version: u64, read: Services, tick: u64) -> bool {
        self.view.send_if_modified(|views| {
            let Some(at) = views.iter().position(|view| view.id == *market && view.version() == version) else {
                return false;
            };
            let mut all = Vec::clone(views);
            let mut services = Services::clone(&all[at].services);
            services.add(read, tick);
            all[at].services = Arc::new(services);
            *views = Arc::new(all);
            true
        })
    }

    /// Takes all pages of a small market, so that it goes on when whoever has published it is gone.
    async fn gather(&self, ctx: &Arc<Context>, market: &MarketId, source: &Source) {
        let Ok(_once) = self.gathering.try_lock() else { return };
        let Some(view) = self.get(market).filter(MarketView::wants_whole) else { return };
        let Some(index) = view.index() else { return };
        match read_whole(index, &|hash| source.page(ctx, hash)).await {
            Ok(read) => {
                let pages = read.pages().clone();
                if self.keep(market, view.version(), read, self.tick.fetch_add(1, Ordering::Relaxed)) {
                    for page in pages {
                        ctx.store.pin(page).await;
                    }
                }
            }
            Err(error) => tracing::debug!(market = market.short(), %error, "catalogue not whole yet"),
        }
    }

    /// Notes which services are followed, for the next start.
    async fn write_down(&self, market: &MarketId) {
        let _guard = self.lock_of(*market).lock_owned().await;
        let Some(view) = self.get(market) else { return };
        let names = view.services.found();
        if names == view.saved.names {
            return;
        }
        let saved = saved::Saved { names, ..saved::Saved::clone(&view.saved) };
        match saved::save(&self.floors, *market, &saved).await {
            Ok(()) => self.set_saved(market, saved),
            Err(error) => tracing::warn!(market = market.short(), %error, "services in use not written down"),
        }
    }

    /// What of `release` its market's own rules ask for before it is installed: enough reviews that hold.
    pub async fn reviewed(
        &self,
        ctx: &Arc<Context>,
        market: &MarketId,
        release: &Release,
        hint: Option<PeerId>,
    ) -> Result<(), Refusal> {
        let Some(view) = self.get(market) else { return Ok(()) };
        let policy = view.index().map(|index| index.policy.clone()).unwrap_or_default();
        let source = view.source(hint);
        let mut good = 0;
        let mut last = None;
        for review in release.reviews.iter().filter(|review| policy.reviewers.contains(&review.reviewer)) {
            if good >= policy.reviews {
                break;
            }
            let read = match source.get(ctx, review.report, REPORT_BYTES as u64, false).await {
                Ok(bytes) => Report::open(&bytes, &review.reviewer, &release.manifest).map_err(|e| e.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match read {
                Ok(_) => {
                    ctx.store.pin(review.report).await;
                    good += 1;
                }
                Err(error) => last = Some(error),
            }
        }
        if good >= policy.reviews {
            return Ok(());
        }
        let why = last.map(|last| format!(" ({last})")).unwrap_or_default();
        let reason = format!(
            "{}@{} has {good} of the {} reviews that its market asks for{why}",
            release.name, release.version, policy.reviews
        );
        Err(Refusal::new(RefusalCode::Unreviewed, reason))
    }

    /// A blob that one of the markets' folders on this device holds.
    pub async fn file_blob(&self, hash: ContentHash, limit: u64) -> Option<bytes::Bytes> {
        for view in self.view().iter() {
            if let Some(bytes) = view.source(None).folder_blob(hash, limit).await {
                return Some(bytes);
            }
        }
        None
    }

    /// A blob of `market` from wherever it may be had.
    pub async fn blob(
        &self,
        ctx: &Arc<Context>,
        market: &MarketId,
        hash: ContentHash,
        size: u64,
        hint: Option<PeerId>,
    ) -> Result<bytes::Bytes, SourceError> {
        let source = self.get(market).map_or(Source::peers(hint), |view| view.source(hint));
        source.get(ctx, hash, size, true).await
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
        let past = request.version.and_then(|version| view.saved.past.index(version).cloned());
        HeadResponse { head: view.saved.head.clone(), past, roots }
    }

    /// The newest head envelope of a market, to gossip and to put into the DHT.
    pub fn head(&self, market: &MarketId) -> Option<Vec<u8>> {
        self.get(market)?.saved.head.as_ref().map(|head| head.to_vec())
    }

    /// What a head is worth that somebody passes on.
    pub fn judge(&self, market: &MarketId, head: &[u8]) -> HeadNews {
        let Some(view) = self.get(market) else { return HeadNews::Unknown };
        if view.two_histories().is_some() {
            // It is known here, and believed no further: one proof is enough.
            return HeadNews::Unknown;
        }
        match TrustedMarket::clone(&view.trusted).update_head(head, now()) {
            Ok(HeadOutcome::Known) => HeadNews::Current,
            Ok(_) => HeadNews::Newer,
            // Signed by keys of a root that is not here yet, perhaps: its sender may have that root.
            Err(TrustError::RootVersion { .. } | TrustError::Untrusted { .. } | TrustError::Threshold { .. }) => {
                HeadNews::Unknown
            }
            Err(TrustError::Rollback { .. } | TrustError::Expired { .. } | TrustError::Equivocation { .. }) => {
                match view.contradiction(head) {
                    Some(_) => HeadNews::Contradiction,
                    None => HeadNews::Old,
                }
            }
            Err(TrustError::ClockSuspect { .. }) => HeadNews::Old,
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
            return self.find_hash(ctx, &views, hash).await;
        }
        let usage = |e: ResolveError| CommandError::new(ErrorCode::Usage, e.to_string()).or_try("msm search");
        let request: ServiceRef = service.parse().map_err(usage)?;
        let mut found = Vec::new();
        let (mut missed, mut unread) = (None, None);
        for view in views.iter().filter(|view| request.market.as_ref().is_none_or(|alias| *alias == view.entry.alias)) {
            let known = match self.service(ctx, &view.id, &request.name, None).await {
                Ok(known) => known,
                // Another market may have it.
                Err(error) => {
                    unread = Some(unreadable(error));
                    continue;
                }
            };
            let policy = view.index().map(|index| index.policy.clone()).unwrap_or_default();
            // What too few have reviewed is not picked; asked for by its hash it is refused with that reason.
            let reviewed = |release: &&Release| reviews_of(&policy, release) >= policy.reviews.into();
            let pickable: Vec<Release> = known.releases().iter().filter(reviewed).cloned().collect();
            match resolve(&pickable, service) {
                Ok(release) => found.push(Found::new(view, release)),
                Err(mut error) => {
                    if let ResolveError::NotFound { closest, .. } = &mut error {
                        if !known.releases().is_empty() {
                            return Err(unreviewed(&request.name, policy.reviews));
                        }
                        *closest = self.near_name(ctx, view, &request.name).await;
                    }
                    missed = Some(missed.map_or(error.clone(), |earlier| nearer(earlier, error)));
                }
            }
        }
        if let [_, second, ..] = found.as_slice() {
            let names: Vec<String> = found.iter().map(|f| format!("{}/{}", f.alias, f.release.name)).collect();
            let message = format!("{service:?} is in several markets: {}", names.join(", "));
            let hint = format!("msm show {}/{}", second.alias, second.release.name);
            return Err(CommandError::new(ErrorCode::Usage, message).or_try(hint));
        }
        found.pop().ok_or_else(|| unread.unwrap_or_else(|| not_found(&request, missed)))
    }

    /// Finds the release of a manifest. One whose service is not at hand is looked up by the name that the manifest
    /// says; only the market's tree is believed.
    async fn find_hash(
        &self,
        ctx: &Arc<Context>,
        views: &[MarketView],
        hash: ContentHash,
    ) -> Result<Found, CommandError> {
        let tick = self.tick.fetch_add(1, Ordering::Relaxed);
        let known = |view: &MarketView| view.services.release(&hash, tick).map(|release| Found::new(view, release));
        let mut found = views.iter().find_map(known);
        if found.is_none()
            && let Ok(bytes) = super::fetch::fetch(ctx, hash, MANIFEST_BYTES as u64, false, None).await
            && let Ok(manifest) = Manifest::from_slice(&bytes)
        {
            for view in views {
                if let Some(release) = self.release_of(ctx, &view.id, &manifest.name, &hash, None).await {
                    found = Some(Found::new(view, &release));
                    break;
                }
            }
        }
        if let Some(Found { release, .. }) = &found
            && release.status == Status::Revoked
        {
            let message = format!("refused: revoked: {}@{} was revoked by its market", release.name, release.version);
            return Err(
                CommandError::new(ErrorCode::Verification, message).or_try(format!("msm show {}", release.name))
            );
        }
        found.ok_or_else(|| {
            let message = format!("refused: unknown-package: {hash} is in no index of a market that is trusted here");
            CommandError::new(ErrorCode::NotFound, message).or_try("msm search")
        })
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

impl Found {
    fn new(view: &MarketView, release: &Release) -> Self {
        let (market, alias, index_version) = (view.id, view.entry.alias.clone(), view.version());
        Self { market, alias, index_version, release: release.clone() }
    }
}

/// Under what those who have a market's documents are found in the DHT: its id is the hash of its first root.
pub fn place_of(market: &MarketId) -> ContentHash {
    ContentHash::from_bytes(*market.as_bytes())
}

/// Why a market's tree could not be read.
fn unreadable(error: MarketError) -> CommandError {
    let code = match error {
        MarketError::Refused(_) | MarketError::Forged(_) => ErrorCode::Verification,
        _ => ErrorCode::NotFound,
    };
    CommandError::new(code, error.to_string()).or_try("msm market list")
}

fn unreviewed(name: &str, needed: u16) -> CommandError {
    let message =
        format!("refused: unreviewed: no version of {name} has the {needed} reviews that its market asks for");
    CommandError::new(ErrorCode::NotAllowed, message).or_try(format!("msm search {name} --unreviewed"))
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
