//! Who is around and what they say of themselves: the paper's discovery message, sent to those of whom it is not known.
//!
//! The coordinator asks everybody all the time; a job uses what it was told. It asks only those of whom nothing fresh is
//! known, those that had no time, and, where it lacks devices, those that did not fit; it waits only while it lacks some.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use msm_protocol::{MarketId, PeerId, device::DeviceInfo, limits::DEVICE_LIST, message::Discovery};
use msm_scheduler::Candidate;
use tokio::task::JoinSet;

use crate::node::{
    context::{Ask, Context},
    peers::PeerSnapshot,
};

/// A node that has just started waits this long for its first neighbour when it needs one: mDNS and a dial take far less.
pub(super) const FIRST_NEIGHBOUR: Duration = Duration::from_secs(2);
/// After the first neighbour, others have this long to appear too.
const OTHERS: Duration = Duration::from_millis(300);
/// Answers that take longer come too late for this job.
pub(super) const ANSWER: Duration = Duration::from_millis(1_500);
/// Peers asked at a time.
const ASKED_AT_ONCE: usize = 32;
/// What a peer said of itself is used for this long: the coordinator asks everybody every 10 s, and an answer takes a
/// moment.
const FRESH: Duration = Duration::from_secs(12);
/// A peer that said that it has no time is asked again after this long: by calls in a loop once each time, far below
/// what it lets a peer ask. *Judgement.*
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(3);
/// A job that lacks devices asks those that did not fit again after this long. *Judgement: half as often as a peer answers
/// in the long run.*
const ASK_SOON: Duration = Duration::from_secs(1);

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

    fn is_busy(&self) -> bool {
        let info = &self.candidate.info;
        !info.availability || info.ext.slots == 0
    }

    /// False when it says that its owner does not trust `market`. A full list may leave some out.
    pub fn trusts(&self, market: &MarketId) -> bool {
        let trusted = &self.candidate.info.ext.markets;
        trusted.contains(market) || trusted.len() >= DEVICE_LIST
    }
}

/// A connected peer, and what it said of itself a moment ago, if it did.
pub(super) struct Neighbour {
    pub(super) peer: PeerId,
    rtt: Option<Duration>,
    pub(super) found: Option<Found>,
}

impl Neighbour {
    /// Whether a job may ask it now: one that waits for the answer because it lacks devices, and knows whether this one
    /// `fits`; or one that goes on without.
    pub(super) fn is_asked(&self, ctx: &Context, waits: bool, fits: bool) -> bool {
        let busy = self.found.as_ref().map(Found::is_busy);
        pause(busy, waits, fits).is_some_and(|pause| may_ask(ctx, self.peer, pause))
    }
}

/// How long a peer was not asked, at least, before it is asked now; `None` when there is no reason to ask it. `busy`:
/// whether it had no time, when something fresh is known of it.
fn pause(busy: Option<bool>, waits: bool, fits: bool) -> Option<Duration> {
    match (busy, waits) {
        // Another job may have asked it; but its answer reaches only that one.
        (None, true) => Some(Duration::ZERO),
        (Some(_), true) => (!fits).then_some(ASK_SOON),
        (None | Some(true), false) => Some(ASK_AGAIN),
        (Some(false), false) => None,
    }
}

/// Questions under way, and those that wait for their turn; dropped, they end. The table of peers bounds them.
#[derive(Default)]
pub struct Asks {
    under_way: JoinSet<Option<Found>>,
    waiting: VecDeque<(PeerId, Option<Duration>)>,
}

impl Asks {
    pub(super) fn ask(&mut self, ctx: &Arc<Context>, neighbour: &Neighbour) {
        self.add(ctx, neighbour.peer, neighbour.rtt);
    }

    fn add(&mut self, ctx: &Arc<Context>, peer: PeerId, rtt: Option<Duration>) {
        self.waiting.push_back((peer, rtt));
        self.go_on(ctx);
    }

    fn go_on(&mut self, ctx: &Arc<Context>) {
        while self.under_way.len() < ASKED_AT_ONCE
            && let Some((peer, rtt)) = self.waiting.pop_front()
        {
            self.under_way.spawn(ask(ctx.clone(), peer, rtt));
        }
    }

    /// The next that has answered, or did not in time (`Some(None)`); `None` when nobody is asked. May be dropped.
    pub(super) async fn next(&mut self, ctx: &Arc<Context>) -> Option<Option<Found>> {
        let answer = self.under_way.join_next().await?;
        self.go_on(ctx);
        Some(answer.ok().flatten())
    }

    /// How many are asked.
    pub(super) fn len(&self) -> usize {
        self.under_way.len() + self.waiting.len()
    }
}

/// What a neighbour has said takes the place of what it said before.
pub(super) fn renew(found: &mut Vec<Found>, news: Found) {
    found.retain(|known| known.candidate.peer != news.candidate.peer);
    found.push(news);
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

/// The connected peers, with what is known of them.
pub(super) async fn neighbours(ctx: &Context) -> Vec<Neighbour> {
    let neighbour = |snapshot: PeerSnapshot| {
        let PeerSnapshot { peer, info, told, rtt, .. } = snapshot;
        let info = info.filter(|_| told.is_some_and(|told| told.elapsed() < FRESH));
        Neighbour { peer, rtt, found: info.map(|info| Found::new(ctx, peer, info, rtt)) }
    };
    ctx.peers().await.into_iter().map(neighbour).collect()
}

/// A question to `peer`, of whom nothing is known yet.
pub(super) fn ask_newcomer(ctx: &Arc<Context>, peer: PeerId, asks: &mut Asks) {
    if may_ask(ctx, peer, ASK_AGAIN) {
        asks.add(ctx, peer, None);
    }
}

/// Whether `peer` was not asked for this long.
fn may_ask(ctx: &Context, peer: PeerId, pause: Duration) -> bool {
    let now = Instant::now();
    let mut asked = ctx.asked.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    asked.retain(|_, at| now.duration_since(*at) < ASK_AGAIN);
    if asked.get(&peer).is_some_and(|at| now.duration_since(*at) < pause) {
        return false;
    }
    // No more than there are connections.
    asked.insert(peer, now);
    true
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_known_is_not_asked_again() {
        let (known, busy, unknown) = (Some(false), Some(true), None);
        for (said, waits, fits, expected) in [
            (known, false, false, None),
            (known, true, true, None),
            (known, true, false, Some(ASK_SOON)),
            (busy, false, false, Some(ASK_AGAIN)),
            (busy, true, false, Some(ASK_SOON)),
            (unknown, false, false, Some(ASK_AGAIN)),
            (unknown, true, false, Some(Duration::ZERO)),
        ] {
            assert_eq!(pause(said, waits, fits), expected, "{said:?} {waits} {fits}");
        }
    }
}
