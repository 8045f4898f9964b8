//! What is kept of a market across restarts: its floor and the envelopes that lead to the index in use.
//!
//! It lies outside the content store, in two checksummed copies ([`crate::floors`]): the store is a cache.

use std::{collections::HashMap, sync::Arc};

use msm_market_index::{Floor, TreeWalk, TrustedMarket};
use msm_protocol::{MarketId, cbor};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{MarketError, MarketView};
use crate::{floors::Floors, home::MarketEntry, store::StoreHandle};

/// Bytes of one market's record: roots are small, and a chain of hundreds fits.
const SAVED_BYTES: usize = 1024 * 1024;

/// The record, in CBOR.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Saved {
    /// Newest head envelope.
    pub head: Option<ByteBuf>,
    /// Nothing below this is believed.
    pub floor: Floor,
    /// Envelope of the index in use.
    pub index: Option<ByteBuf>,
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
            trusted.update_root(root, 0)?;
        }
        if let (Some(head), Some(index)) = (&saved.head, &saved.index) {
            trusted.update_head(head, 0)?;
            trusted.update_index(index, 0)?;
        }
        Ok::<_, msm_market_index::TrustError>(())
    };
    if let Err(error) = verify() {
        tracing::warn!(market = entry.market.short(), %error, "saved state not usable; asking peers again");
    }
    let (mut releases, mut held) = (Vec::new(), Vec::new());
    if let Some(index) = trusted.index() {
        let mut walk = TreeWalk::all(index);
        let mut pages = HashMap::new();
        while let Ok(missing) = walk.advance(|hash| pages.get(hash).cloned()) {
            if missing.is_empty() {
                releases = walk.releases().unwrap_or_default();
                held = pages.into_keys().collect();
                break;
            }
            let mut lost = false;
            for hash in missing {
                match store.get(hash).await {
                    Some(page) => drop(pages.insert(hash, page)),
                    None => lost = true,
                }
            }
            if lost {
                // The store lost a page. Forget the index, so that the next update fetches it again.
                trusted = TrustedMarket::from_floor(entry.market, saved.floor);
                for root in &saved.roots {
                    let _ = trusted.update_root(root, 0);
                }
                break;
            }
        }
    }
    MarketView::new(entry, trusted, saved, releases, held)
}
