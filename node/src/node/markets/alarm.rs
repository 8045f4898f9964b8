//! Markets that show two histories: proofs are made of what peers show, kept, and stop what they concern.

use std::sync::Arc;

use msm_market_index::{Proof, TrustError, proof::Histories};
use msm_protocol::{
    Envelope, MarketId, cbor,
    document::{Head, Index},
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

    /// A proof, if `head` is signed and says of an index that was in use here that it was another one.
    pub(super) fn contradiction(&self, head: &[u8]) -> Option<(Proof, Histories)> {
        let said: Head = payload(head)?;
        let own = self.saved.past.head(said.version)?;
        let believed: Head = payload(own)?;
        if believed.hash == said.hash {
            return None;
        }
        self.prove(own, head)
    }

    /// A proof, if `index` follows another index than the one that was in use here.
    fn broken_chain(&self, index: &[u8]) -> Option<(Proof, Histories)> {
        let next: Index = payload(index)?;
        self.prove(self.saved.past.head(next.version.checked_sub(1)?)?, index)
    }

    fn prove(&self, a: &[u8], b: &[u8]) -> Option<(Proof, Histories)> {
        let (a, b, roots) = (ByteBuf::from(a), ByteBuf::from(b), self.saved.roots.clone());
        let proof = Proof { a, b, v: 1, roots, market: self.id };
        let histories = proof.check().ok()?;
        Some((proof, histories))
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
    /// Holds a head that somebody passes on against those that were believed here.
    pub async fn compare(&self, ctx: &Arc<Context>, market: &MarketId, head: &[u8]) {
        let Some(view) = self.view().iter().find(|view| view.id == *market).cloned() else { return };
        if let Some((proof, histories)) = view.contradiction(head) {
            self.alarm(ctx, market, proof, histories).await;
        }
    }

    /// Looks into an index that was refused.
    pub(super) async fn accuse_index(&self, ctx: &Arc<Context>, market: &MarketId, error: &TrustError, index: &[u8]) {
        let Some(view) = self.view().iter().find(|view| view.id == *market).cloned() else { return };
        if let TrustError::Equivocation { .. } = error
            && let Some((proof, histories)) = view.broken_chain(index)
        {
            self.alarm(ctx, market, proof, histories).await;
        }
    }

    /// Keeps a proof, and tells the owner.
    async fn alarm(&self, ctx: &Arc<Context>, market: &MarketId, proof: Proof, histories: Histories) {
        let _guard = self.lock_of(*market).lock_owned().await;
        let Some(view) = self.get(market) else { return };
        let Ok(bytes) = proof.to_vec() else { return };
        if view.two_histories().is_some() {
            return;
        }
        let saved = saved::Saved { proof: Some(ByteBuf::from(bytes)), ..saved::Saved::clone(&view.saved) };
        if let Err(error) = saved::save(&self.floors, *market, &saved).await {
            tracing::warn!(market = market.short(), %error, "proof of two histories not written down");
        }
        let (alias, version) = (view.entry.alias.clone(), histories.version);
        self.set_saved(market, saved);
        tracing::error!(alias, version, "this market has signed two histories: it is not followed any further");
        ctx.emit(Event::MarketSplit { alias, version });
    }
}

/// What an envelope says, without asking who has signed it.
fn payload<T: msm_protocol::Signed>(bytes: &[u8]) -> Option<T> {
    let envelope = Envelope::from_slice::<T>(bytes).ok()?;
    cbor::from_slice(envelope.payload(), T::LIMIT).ok()
}
