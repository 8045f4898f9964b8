//! Bringing a market up to date: newer roots, heads and indexes from wherever they come, all or nothing, the floor first.

use std::{
    collections::BTreeSet,
    sync::{Arc, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use msm_market_index::{HeadOutcome, RootOutcome, TrustedMarket, trust::check_successor};
use msm_protocol::{ContentHash, MarketId, PeerId, limits::ROOTS_PER_RESPONSE, message::HeadRequest};
use serde_bytes::ByteBuf;

use super::{
    MarketError, MarketView, Markets, bare, now, place_of, saved,
    services::{Services, read_services},
    source::Source,
};
use crate::{
    command::Event,
    node::{
        context::{Ask, Context},
        fetch::CONNECT_TIME,
    },
};

/// How often services that came to be used meanwhile are read before a new index is used. *Judgement.*
const COMMIT_PASSES: usize = 3;
/// One peer's whole answer about one market: a mute one is not waited for any longer.
const SYNC_TIME: Duration = Duration::from_secs(10);

impl Markets {
    /// Asks `peer` for a newer index of `market` and takes it if its signatures hold.
    pub async fn sync_from(&self, ctx: &Arc<Context>, market: MarketId, peer: PeerId) -> Result<(), MarketError> {
        loop {
            let view = self.get(&market).ok_or(MarketError::NotTrusted(market))?;
            let root = view.trusted.next_root() - 1;
            let version = Some(view.version()).filter(|version| *version > 0);
            let answer = ctx.net.head(peer, &HeadRequest { v: 1, root, market, version }).await?;
            if let Some(past) = &answer.past {
                self.accuse(ctx, &market, past).await;
            }
            let more = answer.roots.len() == ROOTS_PER_RESPONSE;
            let head = answer.head.filter(|_| !more);
            let result = self.learn(ctx, market, answer.roots, head, &view.source(Some(peer))).await;
            match &result {
                Err(MarketError::Refused(why)) => {
                    tracing::warn!(peer = peer.short(), market = market.short(), why, "market update refused");
                }
                Err(error @ MarketError::Forged(_)) => ctx.tell(Ask::Strike(peer, error.to_string())).await,
                _ => {}
            }
            result?;
            if self.get(&market).is_some_and(|view| view.wants_whole()) {
                let (ctx, source) = (ctx.clone(), view.source(Some(peer)));
                tokio::spawn(async move { ctx.markets.gather(&ctx, &market, &source).await });
            }
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
            let result = self.learn(ctx, market, Vec::new(), Some(ByteBuf::from(head)), &Source::peers(None)).await;
            if let Err(error) = result {
                tracing::debug!(market = market.short(), %error, "head record not used");
            }
        }
    }

    pub(super) fn lock_of(&self, market: MarketId) -> Arc<tokio::sync::Mutex<()>> {
        let mut updating: MutexGuard<'_, _> = self.updating.lock().unwrap_or_else(PoisonError::into_inner);
        updating.entry(market).or_default().clone()
    }

    /// Takes newer roots, head and index of a market, from wherever they come. All or nothing, and the floor first.
    pub(super) async fn learn(
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
        let (mut services, mut changed) = (Arc::clone(&view.services), false);
        for root in roots {
            if let RootOutcome::Accepted { .. } = trusted.update_root(&root, now())? {
                saved.roots.push(root);
                changed = true;
            }
        }
        if trusted.index().is_none() {
            // New keys for index or head begin a new line: what the old ones signed neither binds nor stays.
            // Until an index under the new ones has come, what runs goes on, and nothing new is installed.
            (saved.head, saved.index) = (None, None);
            saved.past.clear();
        }
        if let Some(head) = head {
            if let Some(version) = saved.two_histories() {
                return Err(MarketError::Split { version });
            }
            match trusted.update_head(&head, now()) {
                Ok(HeadOutcome::Known) => {}
                Ok(HeadOutcome::Renewed) => {
                    saved.head = Some(head);
                    changed = true;
                }
                Ok(HeadOutcome::Fetch { hash, size, .. }) => {
                    let same_line = trusted.index().is_some();
                    let index = source.get(ctx, hash, size, true).await?;
                    // Its hash was signed: what is wrong with it is not the fault of whoever passed it on.
                    if let Err(error) = trusted.update_index(&index, now()) {
                        drop(guard);
                        self.accuse(ctx, &market, &index).await;
                        return Err(MarketError::Refused(bare(&error)));
                    }
                    let names = view.services.names().into_iter().chain(saved.names.iter().cloned()).collect();
                    if let Some(index) = trusted.index() {
                        services = Arc::new(read_services(index, names, &|hash| source.page(ctx, hash)).await?);
                    }
                    if same_line {
                        let (old, new): (Vec<_>, Vec<_>) =
                            (view.services.releases().cloned().collect(), services.releases().cloned().collect());
                        check_successor(&old, &new)?;
                    }
                    if let Some(mark) = trusted.floor().index {
                        saved.past.add(mark, &index);
                    }
                    saved.head = Some(head);
                    saved.index = Some(ByteBuf::from(index.to_vec()));
                    saved.names = services.found();
                    changed = true;
                }
                Err(error) => {
                    drop(guard);
                    self.compare(ctx, &market, &head, source.hint()).await;
                    return Err(error.into());
                }
            }
        }
        if !changed {
            return Ok(());
        }
        saved.floor = trusted.floor();
        let before = view.version();
        let next =
            MarketView { entry: view.entry, id: view.id, trusted: Arc::new(trusted), saved: Arc::new(saved), services };
        // From here on whoever asked may go away: what is on disk and what is believed stay the same.
        let ctx = ctx.clone();
        let commit = tokio::spawn(async move {
            let _guard = guard;
            ctx.markets.commit(&ctx, next, before).await
        });
        commit.await.map_err(|_| MarketError::Interrupted)?
    }

    /// Writes the floor, then lets everybody see the new view.
    async fn commit(&self, ctx: &Arc<Context>, mut next: MarketView, before: u64) -> Result<(), MarketError> {
        saved::save(&self.floors, next.id, &next.saved).await?;
        let (market, alias, version) = (next.id, next.entry.alias.clone(), next.version());
        let (mut give_up, mut passes) = (BTreeSet::new(), 0);
        let old = loop {
            for page in next.services.pages() {
                ctx.store.pin(*page).await;
            }
            // What came to be used while the index was read is read too: a job that runs must not find itself unlisted.
            let lacking = match self.replace(&next, &give_up) {
                Replaced::Done(old) => break old,
                Replaced::Gone => return Err(MarketError::NotTrusted(market)),
                Replaced::Lacking(names) => names,
            };
            passes += 1;
            let source = next.source(None);
            let read = match next.index().filter(|_| passes <= COMMIT_PASSES) {
                Some(index) => read_services(index, lacking.clone(), &|hash| source.page(ctx, hash)).await.ok(),
                None => None,
            };
            match read {
                Some(read) => {
                    let mut services = Services::clone(&next.services);
                    services.add(read, self.tick.fetch_add(1, Ordering::Relaxed));
                    next.services = Arc::new(services);
                }
                // An index that is written down does not wait for them: they are looked up when they are needed again.
                None => give_up.extend(lacking),
            }
        };
        let views = self.view();
        let unused = |page: &&ContentHash| !views.iter().any(|view| view.services.pages().contains(*page));
        for page in old.services.pages().iter().filter(unused) {
            ctx.store.unpin(*page).await;
        }
        tracing::info!(market = market.short(), alias, version, "market updated");
        if version != before {
            ctx.emit(Event::MarketUpdated { alias, version });
        }
        ctx.tell(Ask::MarketChanged(market)).await;
        Ok(())
    }

    /// Replaces the view of a market that is still trusted, unless services are in use that `next` does not know; but for
    /// those in `give_up`.
    fn replace(&self, next: &MarketView, give_up: &BTreeSet<String>) -> Replaced {
        let mut replaced = Replaced::Gone;
        self.view.send_if_modified(|views| {
            let Some(at) = views.iter().position(|view| view.id == next.id) else { return false };
            let mut lacking = next.services.lacks(&views[at].services);
            lacking.retain(|name| !give_up.contains(name));
            if next.index().is_some() && !lacking.is_empty() {
                replaced = Replaced::Lacking(lacking);
                return false;
            }
            let mut all = Vec::clone(views);
            // The owner may have renamed it meanwhile.
            let entry = all[at].entry.clone();
            replaced = Replaced::Done(std::mem::replace(&mut all[at], MarketView { entry, ..next.clone() }));
            *views = Arc::new(all);
            true
        });
        replaced
    }

    /// Replaces what is kept of a market; what is at hand stays.
    pub(super) fn set_saved(&self, market: &MarketId, saved: saved::Saved) {
        self.view.send_modify(|views| {
            let mut all = Vec::clone(views);
            if let Some(view) = all.iter_mut().find(|view| view.id == *market) {
                view.saved = Arc::new(saved);
            }
            *views = Arc::new(all);
        });
    }
}

/// What became of a new view.
enum Replaced {
    /// It is everybody's; this was the old one.
    Done(MarketView),
    /// Services are in use that it does not know.
    Lacking(BTreeSet<String>),
    /// The market is not trusted any more.
    Gone,
}
