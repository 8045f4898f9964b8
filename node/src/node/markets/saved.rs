//! What is kept of a market across restarts: its floor and the envelopes that lead to the index in use.
//!
//! It lies outside the content store, in two checksummed copies ([`crate::floors`]): the store is a cache.

use std::sync::Arc;

use futures::FutureExt as _;
use msm_market_index::{Floor, TrustedMarket, proof::Past, trust::NO_CLOCK};
use msm_protocol::{MarketId, cbor};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{
    MarketError, MarketView,
    services::{Services, read_services, read_whole},
    source::SourceError,
};
use crate::{
    floors::{FLOOR_BYTES, Floors},
    home::MarketEntry,
    store::StoreHandle,
};

/// Bytes of one market's record: roots are small, and a chain of hundreds fits, once more in a proof.
const SAVED_BYTES: usize = FLOOR_BYTES;

/// The record, in CBOR.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Saved {
    /// Newest head envelope.
    pub head: Option<ByteBuf>,
    /// Heads of the indexes that were in use.
    #[serde(default)]
    pub past: Past,
    /// Nothing below this is believed.
    pub floor: Floor,
    /// Envelope of the index in use.
    pub index: Option<ByteBuf>,
    /// Services that are followed.
    #[serde(default)]
    pub names: Vec<String>,
    /// A proof that the market has signed two histories.
    #[serde(default)]
    pub proof: Option<ByteBuf>,
    /// Root envelopes from version 1 on.
    pub roots: Vec<ByteBuf>,
}

/// Reads a market's record; a market that is new has none.
pub fn load(floors: &Floors, market: MarketId) -> Result<Saved, MarketError> {
    let Some(bytes) = floors.load(market)? else { return Ok(Saved::default()) };
    cbor::from_slice(&bytes, SAVED_BYTES).map_err(|e| MarketError::Refused(format!("saved state: {e}")))
}

/// Writes a market's record durably.
pub async fn save(floors: &Arc<Floors>, market: MarketId, saved: &Saved) -> Result<(), MarketError> {
    let bytes = cbor::to_vec(saved).map_err(|e| MarketError::Refused(format!("saved state: {e}")))?;
    let floors = floors.clone();
    let written = tokio::task::spawn_blocking(move || floors.save(market, &bytes)).await;
    Ok(written.map_err(|_| MarketError::Interrupted)??)
}

/// Builds the view of a market from its record and the pages in the store.
///
/// The record was verified when it was written, and expired documents still let installed services run: so it is
/// verified as of the latest moment that the market itself has signed.
pub async fn restore(entry: MarketEntry, saved: Saved, store: &StoreHandle) -> MarketView {
    let mut trusted = TrustedMarket::from_floor(entry.market, saved.floor);
    let mut verify = || {
        for root in &saved.roots {
            trusted.update_root(root, NO_CLOCK)?;
        }
        if let (Some(head), Some(index)) = (&saved.head, &saved.index) {
            trusted.update_head(head, NO_CLOCK)?;
            trusted.update_index(index, NO_CLOCK)?;
        }
        Ok::<_, msm_market_index::TrustError>(())
    };
    if let Err(error) = verify() {
        tracing::warn!(market = entry.market.short(), %error, "saved state not usable; asking peers again");
    }
    let mut services = Services::default();
    if let Some(index) = trusted.index() {
        let page = |hash| {
            let page = async move {
                let missing = || SourceError::Missing(msm_protocol::ContentHash::to_string(&hash));
                store.get(hash).await.ok_or_else(|| missing().into())
            };
            page.boxed()
        };
        // What is pinned is known, so that it can be given up again.
        if let Ok(whole) = read_whole(index, &page).await {
            services.add(whole, 0);
        }
        // One by one: a page that the store has lost costs the services on it, and they are looked up again when they
        // are needed.
        for name in &saved.names {
            match read_services(index, [name.clone()].into(), &page).await {
                Ok(read) => services.add(read, 0),
                Err(error) => tracing::warn!(market = entry.market.short(), name, %error, "not at hand any more"),
            }
        }
    }
    MarketView {
        id: entry.market,
        entry,
        trusted: Arc::new(trusted),
        saved: Arc::new(saved),
        services: Arc::new(services),
    }
}
