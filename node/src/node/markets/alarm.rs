//! Markets that show two histories: proofs are made of what peers show, kept, and stop what they concern.

use std::sync::Arc;

use msm_market_index::{Proof, proof::Histories};
use msm_protocol::{
    ContentHash, Envelope, MarketId, PeerId, cbor,
    document::{Head, Index},
    limits::INDEX_BYTES,
};
use serde_bytes::ByteBuf;

use super::{MarketView, Markets, saved};
use crate::{command::Event, node::context::Context};

impl MarketView {
    /// Number of the index of which there are two, while that stops this market.
    pub fn two_histories(&self) -> Option<u64> {
        self.saved.two_histories()
    }

    /// The proof of it.
    pub fn proof(&self) -> Option<&ByteBuf> {
        self.saved.proof.as_ref()
    }

    /// The index that `head` names, if it is not the one of that number that was in use here.
    pub(super) fn contradiction(&self, head: &[u8]) -> Option<(ContentHash, u64)> {
        let said: Head = payload(head)?;
        (self.saved.past.hash(said.version)? != said.hash).then_some((said.hash, said.size))
    }

    /// A proof, if `index` is signed, and is another one than that of its number here, or follows another one.
    fn prove(&self, index: &[u8]) -> Option<(Proof, Histories)> {
        let said: Index = payload(index)?;
        let past = &self.saved.past;
        let same = past.index(said.version).into_iter();
        let before = said.version.checked_sub(1).and_then(|version| past.index(version));
        same.chain(before).find_map(|own| {
            let (a, b, roots) = (own.clone(), ByteBuf::from(index), self.saved.roots.clone());
            let proof = Proof { a, b, v: 1, roots, market: self.id };
            let histories = proof.check().ok()?;
            Some((proof, histories))
        })
    }
}

impl saved::Saved {
    /// Number of the index of which there are two, under the keys in use. A root that came later ends it: its operator
    /// has dealt with it.
    pub fn two_histories(&self) -> Option<u64> {
        let proof = Proof::from_slice(self.proof.as_ref()?).ok()?;
        (proof.roots.len() == self.roots.len()).then(|| proof.check().ok().map(|histories| histories.version))?
    }
}

impl Markets {
    /// Looks into a head that `from` passes on and that names another index than the one known of its number. The head
    /// alone says nothing: a thief of the head key could make any number of them. The index behind it must be signed.
    pub async fn compare(&self, ctx: &Arc<Context>, market: &MarketId, head: &[u8], from: Option<PeerId>) {
        let Some(view) = self.get(market) else { return };
        let Some((hash, size)) = view.contradiction(head).filter(|_| view.two_histories().is_none()) else { return };
        match view.source(from).get(ctx, hash, size.min(INDEX_BYTES as u64), false).await {
            Ok(index) => {
                if self.accuse(ctx, market, &index).await {
                    // For those who have not met whoever was shown the other one.
                    ctx.net.publish_head(*market, head.to_vec()).await;
                }
            }
            Err(error) => {
                tracing::warn!(market = market.short(), %error, "a head of another history, without an index")
            }
        }
    }

    /// Holds an index that somebody shows against those that were believed here; true when it proves something new.
    pub async fn accuse(&self, ctx: &Arc<Context>, market: &MarketId, index: &[u8]) -> bool {
        let Some((proof, histories)) = self.get(market).and_then(|view| view.prove(index)) else { return false };
        self.alarm(ctx, market, proof, histories).await
    }

    /// Keeps a proof, and tells the owner.
    async fn alarm(&self, ctx: &Context, market: &MarketId, proof: Proof, histories: Histories) -> bool {
        let _guard = self.lock_of(*market).lock_owned().await;
        let Some(view) = self.get(market) else { return false };
        let Ok(bytes) = proof.to_vec() else { return false };
        // A root may have come meanwhile.
        if view.two_histories().is_some() || view.saved.roots != proof.roots {
            return false;
        }
        let saved = saved::Saved { proof: Some(ByteBuf::from(bytes)), ..saved::Saved::clone(&view.saved) };
        if let Err(error) = saved::save(&self.floors, *market, &saved).await {
            tracing::warn!(market = market.short(), %error, "proof of two histories not written down");
        }
        let (alias, version) = (view.entry.alias.clone(), histories.version);
        self.set_saved(market, saved);
        tracing::error!(alias, version, "this market has signed two histories: it is not followed any further");
        ctx.emit(Event::MarketSplit { alias, version });
        true
    }
}

/// What an envelope says, without asking who has signed it.
fn payload<T: msm_protocol::Signed>(bytes: &[u8]) -> Option<T> {
    let envelope = Envelope::from_slice::<T>(bytes).ok()?;
    cbor::from_slice(envelope.payload(), T::LIMIT).ok()
}
