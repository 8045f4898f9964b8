//! `market add`, `market remove` and the markets that this home publishes itself.

use std::{collections::HashMap, path::Path, sync::Arc};

use msm_market_index::{PublishedFolder, catalogue::all_releases};
use msm_protocol::{
    Manifest, MarketId,
    document::Status,
    limits::{HEAD_BYTES, ROOT_BYTES},
};
use serde_bytes::ByteBuf;

use super::{
    MarketError, MarketView, Markets, now,
    services::{TAKEN_WHOLE, read, refused},
    source::{Source, SourceError},
};
use crate::{
    command::{CommandError, ErrorCode, MarketRow},
    home::{HomeError, MarketEntry},
    node::{
        context::{Ask, Context},
        job,
    },
};

/// Roots read from one folder or server; longer chains go on at the next update. *Judgement.*
const ROOTS_READ: u64 = 64;

/// What `market add` was given.
struct Target {
    market: MarketId,
    source: Source,
    /// As written, for the registry.
    written: Option<String>,
}

/// Reads `msm:market:FPR`, `FPR`, `FOLDER#FPR` or `http://…#FPR`.
fn parse(target: &str) -> Result<Target, CommandError> {
    let usage =
        |message: String| CommandError::new(ErrorCode::Usage, message).or_try("msm market add msm:market:FINGERPRINT");
    let Some((place, fingerprint)) = target.rsplit_once('#') else {
        let market = target.parse().map_err(|e| usage(format!("{target:?}: {e}")))?;
        return Ok(Target { market, source: Source::peers(None), written: None });
    };
    let market = fingerprint.parse().map_err(|e| usage(format!("{fingerprint:?}: {e}")))?;
    let source = if place.starts_with("http://") {
        Source::Http(place.trim_end_matches('/').to_owned())
    } else if place.contains("://") {
        return Err(usage(format!("{place:?}: only http:// and folders are read (the signature is what counts)")));
    } else {
        Source::Folder(PublishedFolder::at(place))
    };
    Ok(Target { market, source, written: Some(place.to_owned()) })
}

impl Markets {
    /// Trusts a market and looks for its index. When nobody around has it the market is trusted all the same, and its
    /// index is taken from the first who does.
    pub async fn add(&self, ctx: &Arc<Context>, target: &str, alias: Option<&str>) -> Result<MarketRow, CommandError> {
        let target = parse(target)?;
        if let Some(view) = self.get(&target.market) {
            self.find_index(ctx, &target).await?;
            return Ok(self.get(&target.market).unwrap_or(view).row());
        }
        let temporary = format!("market-{}", target.market.short());
        let mut entry = MarketEntry {
            alias: alias.map_or(temporary, str::to_owned),
            market: target.market,
            source: target.written.clone(),
            publish_folder: None,
            added: now(),
        };
        // What was believed of it before is not forgotten with the trust: it cannot be rolled back by adding it again.
        let saved = super::saved::load(&self.floors, target.market)
            .map_err(|e| CommandError::new(ErrorCode::Verification, e.to_string()))?;
        self.insert(super::saved::restore(entry.clone(), saved, &ctx.store).await);
        // A folder or server that is named must prove itself before it is written down.
        if let Err(error) = self.find_index(ctx, &target).await {
            self.forget(&target.market);
            return Err(error);
        }
        let view = self.get(&target.market);
        let name = view.as_ref().and_then(|view| view.trusted.root().map(|root| root.name.clone()));
        let registered = self.home.update_markets::<_, HomeError>(|markets| {
            if alias.is_none() {
                entry.alias = markets.free_alias(name.as_deref().unwrap_or("market"));
            }
            markets.add(entry.clone()).map_err(HomeError::from)
        });
        if let Err(error) = registered {
            self.forget(&target.market);
            return Err(error.into());
        }
        let row = self.rename(entry);
        ctx.tell(Ask::MarketChanged(target.market)).await;
        Ok(row)
    }

    async fn find_index(&self, ctx: &Arc<Context>, target: &Target) -> Result<(), CommandError> {
        match &target.source {
            Source::Anyone { .. } => {
                job::settle(ctx).await;
                self.sync_widely(ctx).await;
                Ok(())
            }
            source => self.import(ctx, target.market, source).await.map_err(|error| {
                let code = match &error {
                    MarketError::Refused(_) | MarketError::Forged(_) => ErrorCode::Verification,
                    MarketError::Source(SourceError::Wrong(_)) => ErrorCode::Verification,
                    MarketError::Source(_) => ErrorCode::NotFound,
                    _ => ErrorCode::Failed,
                };
                CommandError::new(code, error.to_string())
            }),
        }
    }

    /// Gives a market its final entry, whatever was learned of it meanwhile.
    fn rename(&self, entry: MarketEntry) -> MarketRow {
        let mut row = MarketView::pinned(entry.clone()).row();
        self.view.send_modify(|views| {
            let mut all = Vec::clone(views);
            if let Some(view) = all.iter_mut().find(|view| view.id == entry.market) {
                view.entry = entry.clone();
                row = view.row();
            }
            *views = Arc::new(all);
        });
        row
    }

    fn forget(&self, market: &MarketId) {
        self.view.send_modify(|views| *views = Arc::new(views.iter().filter(|v| v.id != *market).cloned().collect()));
    }

    /// Stops trusting a market. Its floor stays: a market that is added again cannot be rolled back.
    pub async fn remove(&self, ctx: &Context, name: &str) -> Result<MarketRow, CommandError> {
        let entry = self.home.update_markets::<_, HomeError>(|markets| Ok(markets.remove(name)))?;
        let Some(entry) = entry else {
            let message = format!("not-found: no market {name:?} is trusted here");
            return Err(CommandError::new(ErrorCode::NotFound, message).or_try("msm market list"));
        };
        let row = self.get(&entry.market).unwrap_or_else(|| MarketView::pinned(entry.clone())).row();
        self.forget(&entry.market);
        ctx.tell(Ask::MarketRemoved(entry.market)).await;
        Ok(row)
    }

    /// Reads the registry again and the folders of markets that this home publishes.
    pub async fn reload(&self, ctx: &Arc<Context>) -> Result<(), CommandError> {
        let registry = self.home.markets()?;
        // One damaged folder does not keep the others from being served.
        let mut failed = Ok(());
        for entry in registry.entries() {
            if self.get(&entry.market).is_none() {
                let saved = super::saved::load(&self.floors, entry.market)
                    .map_err(|e| CommandError::new(ErrorCode::Verification, e.to_string()))?;
                self.insert(super::saved::restore(entry.clone(), saved, &ctx.store).await);
                ctx.tell(Ask::MarketChanged(entry.market)).await;
            }
            if let Some(folder) = &entry.publish_folder {
                let source = Source::Folder(PublishedFolder::at(folder));
                if let Err(error) = self.import(ctx, entry.market, &source).await {
                    let message = format!("market {} in {}: {error}", entry.alias, Path::new(folder).display());
                    failed = Err(CommandError::new(ErrorCode::Verification, message));
                }
            }
        }
        failed
    }

    /// Takes a market from its files, packages included, so that this node can serve all of it.
    async fn import(&self, ctx: &Arc<Context>, market: MarketId, source: &Source) -> Result<(), MarketError> {
        let known = self.get(&market).map_or(1, |view| view.trusted.next_root());
        let mut roots = Vec::new();
        for version in known..known.saturating_add(ROOTS_READ) {
            match source.file(&format!("root/{version}.cbor"), ROOT_BYTES as u64).await? {
                Some(root) => roots.push(ByteBuf::from(root)),
                None => break,
            }
        }
        let head = source.file("head.cbor", HEAD_BYTES as u64).await?;
        if head.is_none() && known == 1 && roots.is_empty() {
            return Err(super::SourceError::Missing("a market (no root and no head is there)".into()).into());
        }
        self.learn(ctx, market, roots, head.map(ByteBuf::from), source).await?;
        let Some(view) = self.get(&market) else { return Err(MarketError::NotTrusted(market)) };
        let Some(index) = view.index().filter(|index| index.releases <= TAKEN_WHOLE) else { return Ok(()) };
        let walk = all_releases(index);
        let walk = read(walk, &mut HashMap::new(), &|hash| source.page(ctx, hash)).await?;
        for release in walk.entries().map_err(refused)?.iter().filter(|it| it.status != Status::Revoked) {
            let bytes = source.get(ctx, release.manifest, release.size, true).await?;
            ctx.net.provide(release.manifest).await;
            let Ok(manifest) = Manifest::from_slice(&bytes) else { continue };
            for (hash, size) in manifest.blobs() {
                source.get(ctx, hash, size, true).await?;
                ctx.net.provide(hash).await;
            }
        }
        self.gather(ctx, &market, source).await;
        Ok(())
    }
}

impl MarketView {
    /// A market of which nothing is known yet but its id.
    fn pinned(entry: MarketEntry) -> Self {
        let trusted = Arc::new(msm_market_index::TrustedMarket::pin(entry.market));
        Self { id: entry.market, entry, trusted, saved: Arc::default(), services: Arc::default() }
    }
}
