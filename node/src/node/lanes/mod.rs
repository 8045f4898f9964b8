//! [`Lanes`]: the streams to workers, one for each service and worker, kept warm between jobs.
//!
//! `state`: what a lane holds, pure. `lane`: the task that reads one. A job gets a [`Seat`] on a lane and hears
//! [`Report`]s from it; dropping the seat ends the job there.

mod lane;
mod state;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use msm_protocol::{
    ContentHash, PeerId, cbor,
    job::{AttemptRef, Offer},
    limits::JOBS_PER_LANE,
};

use self::state::State;
pub use self::state::{DESK, Delivery, Desk, JobTerms, Report};
use super::{context::Context, frames::Outbox};
use crate::blob::Blob;

/// Lanes of this node in all. *Judgement: a few jobs on many devices each.*
const LANES: usize = 256;
/// Lanes to one worker that are kept without a job: half of what it takes. *Judgement.*
const WARM_PER_PEER: usize = 4;
/// A lane without a job is closed after this: before its worker does (60 s), so that none breaks in the face of a call.
const WARM_TIME: Duration = Duration::from_secs(45);

/// What a lane is for: the peer, and everything that is offered but the version of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LaneKey(ContentHash);

impl LaneKey {
    /// Of lanes for this offer.
    pub fn of(offer: &Offer) -> Self {
        let offer = Offer { version: 0, ..offer.clone() };
        // What cannot be encoded is refused by every worker.
        Self(ContentHash::of(&cbor::to_vec(&offer).unwrap_or_default()))
    }
}

type Lane = Arc<Outbox<State>>;

/// All lanes of a node.
#[derive(Default)]
pub struct Lanes {
    all: Mutex<HashMap<(PeerId, LaneKey), Lane>>,
}

/// Too many lanes are in use.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("{LANES} lanes to workers are in use")]
pub struct TooMany;

impl Lanes {
    fn all(&self) -> MutexGuard<'_, HashMap<(PeerId, LaneKey), Lane>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of the peers that may be asked and have taken such an offer the one with the fewest jobs on its lane.
    pub fn least_busy(&self, key: LaneKey, may_ask: impl Fn(&PeerId) -> bool) -> Option<PeerId> {
        let all = self.all();
        let warm = all.iter().filter(|((peer, of), _)| *of == key && may_ask(peer));
        let jobs = warm.filter_map(|((peer, _), lane)| Some((lane.lock().jobs()?, *peer)));
        jobs.min_by_key(|(jobs, _)| *jobs).map(|(_, peer)| peer)
    }

    /// Gives a job a place on a lane to `peer`, a warm one or a new one.
    pub fn attach(
        ctx: &Arc<Context>,
        peer: PeerId,
        key: LaneKey,
        offer: &Offer,
        terms: JobTerms,
        desk: Desk,
    ) -> Result<Seat, TooMany> {
        let mut all = ctx.lanes.all();
        let found = all.get(&(peer, key)).filter(|lane| lane.lock().has_place(JOBS_PER_LANE)).cloned();
        let (lane, is_warm) = match found {
            Some(lane) => (lane, true),
            None => {
                make_room(&mut all, peer)?;
                let lane = Outbox::new(State::new(peer, offer.clone(), Instant::now()));
                all.insert((peer, key), lane.clone());
                tokio::spawn(lane::serve(Arc::downgrade(ctx), ctx.net.clone(), peer, key, lane.clone()));
                (lane, false)
            }
        };
        // Still under the table's lock: nobody closes a lane that was just chosen.
        let slot = lane.lock().attach(terms, desk, JOBS_PER_LANE).ok_or(TooMany)?;
        drop(all);
        Ok(Seat { lane, slot, is_warm })
    }

    /// Forgets a lane that has ended.
    fn remove(&self, peer: PeerId, key: LaneKey, lane: &Lane) {
        let mut all = self.all();
        if all.get(&(peer, key)).is_some_and(|known| Arc::ptr_eq(known, lane)) {
            all.remove(&(peer, key));
        }
    }
}

/// Closes the lane that was not used for the longest time where too many are kept.
fn make_room(all: &mut HashMap<(PeerId, LaneKey), Lane>, peer: PeerId) -> Result<(), TooMany> {
    let idle = |only: Option<PeerId>| {
        let of_peer = all.iter().filter(move |((other, _), _)| only.is_none_or(|peer| peer == *other));
        let mut idle: Vec<_> = of_peer.filter_map(|(key, lane)| Some((lane.lock().idle_since()?, *key))).collect();
        idle.sort_by_key(|(since, _)| *since);
        idle
    };
    let of_peer = idle(Some(peer));
    let oldest = match of_peer.len() >= WARM_PER_PEER {
        true => of_peer.first().copied(),
        false if all.len() >= LANES => Some(*idle(None).first().ok_or(TooMany)?),
        false => None,
    };
    if let Some(lane) = oldest.and_then(|(_, key)| all.remove(&key)) {
        lane.change(State::close);
    }
    Ok(())
}

/// A job's place on a lane. Dropping it ends the job there.
pub struct Seat {
    lane: Lane,
    slot: u32,
    /// The lane was there before this job.
    pub is_warm: bool,
}

impl Seat {
    /// Sends a task; it is written when its turn comes. False when the lane has ended: its last report says why.
    pub fn start(&self, attempt: AttemptRef, input: Blob, hash: ContentHash) -> bool {
        self.lane.change(|state| state.start(self.slot, attempt, input, hash))
    }

    /// Takes a task back.
    pub fn cancel(&self, attempt: AttemptRef) {
        self.lane.change(|state| state.cancel(self.slot, attempt));
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.lane.lock();
        let is_urgent = state.leave(self.slot, Instant::now());
        drop(state);
        // That a job is over goes with the next frame, or within a second; what still runs for it is stopped at once.
        if is_urgent {
            self.lane.change(|_| ());
        }
    }
}
