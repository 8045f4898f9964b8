//! Who is around and what they say of themselves: the paper's discovery message, sent to those of whom it is not known.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use msm_protocol::{MarketId, PeerId, device::DeviceInfo, limits::DEVICE_LIST, message::Discovery};
use msm_scheduler::Candidate;
use tokio::task::JoinSet;

use crate::node::context::{Ask, Context};

/// A node that has just started waits this long for its first neighbour when it needs one: mDNS and a dial take far less.
pub(super) const FIRST_NEIGHBOUR: Duration = Duration::from_secs(2);
/// After the first neighbour, others have this long to appear too.
const OTHERS: Duration = Duration::from_millis(300);
/// Answers that take longer come too late for this job.
const ANSWER: Duration = Duration::from_millis(1_500);
/// Peers asked at a time.
const ASKED_AT_ONCE: usize = 32;
/// What a peer said of itself is used for this long by jobs that begin without asking: the coordinator asks everybody
/// every 10 s, and an answer takes a moment.
const FRESH: Duration = Duration::from_secs(12);
/// A peer that said that it has no time is asked again after this long: by calls in a loop once each time, far below
/// what it lets a peer ask. *Judgement.*
const ASK_AGAIN: Duration = Duration::from_secs(3);

/// A device that answered.
#[derive(Debug, Clone)]
pub struct Found {
    /// What the scheduler needs.
    pub candidate: Candidate,
    /// Its owner's name for it.
    pub name: String,
}

impl Found {
    fn new(ctx: &Context, peer: PeerId, info: DeviceInfo, rtt: Option<Duration>) -> Self {
        let struck = ctx.is_banned(&peer) || ctx.trust.is_struck(&peer);
        let name = if info.ext.name.is_empty() { peer.short() } else { info.ext.name.clone() };
        Self { candidate: Candidate { peer, info, rtt, struck }, name }
    }

    /// False when it says that its owner does not trust `market`. A full list may leave some out.
    pub fn trusts(&self, market: &MarketId) -> bool {
        let trusted = &self.candidate.info.ext.markets;
        trusted.contains(market) || trusted.len() >= DEVICE_LIST
    }
}

/// Questions under way; dropped, they end.
pub type Asks = JoinSet<Option<Found>>;

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

/// Asks every connected peer for its DeviceInfo and waits for the answers: for a job that needs others.
pub(super) async fn candidates(ctx: &Arc<Context>) -> Vec<Found> {
    settle(ctx).await;
    let asks = ctx.peers().await.into_iter().map(|snapshot| ask(ctx.clone(), snapshot.peer, snapshot.rtt));
    stream::iter(asks).buffer_unordered(ASKED_AT_ONCE).filter_map(|found| async { found }).collect().await
}

/// What is known of the connected peers now, and questions to the others: for a job that begins here in any case.
pub(super) async fn at_once(ctx: &Arc<Context>) -> (Vec<Found>, Asks) {
    let (mut found, mut asks) = (Vec::new(), Asks::new());
    for snapshot in ctx.peers().await {
        let known = snapshot.info.clone().filter(|_| snapshot.told.is_some_and(|told| told.elapsed() < FRESH));
        let busy = known.as_ref().is_none_or(|info| !info.availability || info.ext.slots == 0);
        found.extend(known.map(|info| Found::new(ctx, snapshot.peer, info, snapshot.rtt)));
        if busy && asks.len() < ASKED_AT_ONCE && may_ask(ctx, snapshot.peer) {
            asks.spawn(ask(ctx.clone(), snapshot.peer, snapshot.rtt));
        }
    }
    (found, asks)
}

/// Questions to those of `peers` of whom nothing is known yet.
pub(super) fn ask_newcomers(ctx: &Arc<Context>, peers: &[PeerId], known: &[Found], asks: &mut Asks) {
    for peer in peers {
        let is_known = known.iter().any(|found| found.candidate.peer == *peer);
        if !is_known && asks.len() < ASKED_AT_ONCE && may_ask(ctx, *peer) {
            asks.spawn(ask(ctx.clone(), *peer, None));
        }
    }
}

/// Whether `peer` was not asked a moment ago.
fn may_ask(ctx: &Context, peer: PeerId) -> bool {
    let now = Instant::now();
    let mut asked = ctx.asked.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    asked.retain(|_, at| now.duration_since(*at) < ASK_AGAIN);
    // No more than there are connections.
    !asked.contains_key(&peer) && asked.insert(peer, now).is_none()
}

async fn ask(ctx: Arc<Context>, peer: PeerId, rtt: Option<Duration>) -> Option<Found> {
    let asked = Instant::now();
    let message = Discovery { v: 1, need: None };
    let info = tokio::time::timeout(ANSWER, ctx.net.device(peer, &message)).await.ok()?.ok()?;
    ctx.tell(Ask::Told(peer, Some(Box::new(info.clone())))).await;
    // Before the first ping has come back the request itself is the best measure.
    let rtt = rtt.unwrap_or_else(|| asked.elapsed());
    Some(Found::new(&ctx, peer, info, Some(rtt)))
}
