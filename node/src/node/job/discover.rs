//! Who is around and what they say of themselves: the paper's discovery message, sent to every connected peer.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use msm_protocol::{MarketId, device::Requirements, limits::DEVICE_LIST, message::Discovery};
use msm_scheduler::Candidate;
use tokio::time::Instant;

use crate::node::context::Context;

/// A node that has just started waits this long for its first neighbour: mDNS and a dial take far less.
const FIRST_NEIGHBOUR: Duration = Duration::from_secs(2);
/// After the first neighbour, others have this long to appear too.
const OTHERS: Duration = Duration::from_millis(300);
/// Answers that take longer come too late for this job.
const ANSWER: Duration = Duration::from_millis(1_500);
/// Peers asked at a time.
const ASKED_AT_ONCE: usize = 32;

/// A device that answered.
pub struct Found {
    /// What the scheduler needs.
    pub candidate: Candidate,
    /// Its owner's name for it.
    pub name: String,
}

impl Found {
    /// False when it says that its owner does not trust `market`. A full list may leave some out.
    pub fn trusts(&self, market: &MarketId) -> bool {
        let trusted = &self.candidate.info.ext.markets;
        trusted.contains(market) || trusted.len() >= DEVICE_LIST
    }
}

/// Waits, right after start, until neighbours are connected: once, however many ask.
pub async fn settle(ctx: &Context) {
    let age = ctx.started.elapsed();
    if age >= FIRST_NEIGHBOUR {
        return;
    }
    let settled = ctx.settled.get_or_init(|| async {
        if ctx.wait_anybody(FIRST_NEIGHBOUR - age).await {
            tokio::time::sleep(OTHERS).await;
        }
    });
    settled.await;
}

/// Asks every connected peer for its DeviceInfo.
pub async fn candidates(ctx: &Arc<Context>, need: &Requirements) -> Vec<Found> {
    settle(ctx).await;
    let message = Discovery { v: 1, need: Some(need.clone()) };
    let asks = ctx.peers().await.into_iter().map(|snapshot| {
        let (ctx, message) = (ctx.clone(), message.clone());
        async move {
            let asked = Instant::now();
            let info = tokio::time::timeout(ANSWER, ctx.net.device(snapshot.peer, &message)).await.ok()?.ok()?;
            // Before the first ping has come back the request itself is the best measure.
            let rtt = snapshot.rtt.unwrap_or_else(|| asked.elapsed());
            let name = if info.ext.name.is_empty() { snapshot.peer.short() } else { info.ext.name.clone() };
            let struck = ctx.is_banned(&snapshot.peer) || ctx.trust.is_struck(&snapshot.peer);
            Some(Found { candidate: Candidate { peer: snapshot.peer, info, rtt: Some(rtt), struck }, name })
        }
    });
    stream::iter(asks).buffer_unordered(ASKED_AT_ONCE).filter_map(|found| async { found }).collect().await
}
