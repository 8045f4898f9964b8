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

/// Of one service and worker there is more than one lane when those before are full.
type Table = HashMap<(PeerId, LaneKey), Vec<Lane>>;

/// All lanes of a node.
#[derive(Default)]
pub struct Lanes {
    all: Mutex<Table>,
}

/// Too many lanes are in use.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("{LANES} lanes to workers are in use")]
pub struct TooMany;

impl Lanes {
    fn all(&self) -> MutexGuard<'_, Table> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of the peers that may be asked and have taken such an offer the one with the fewest jobs on its lane.
    pub fn least_busy(&self, key: LaneKey, may_ask: impl Fn(&PeerId) -> bool) -> Option<PeerId> {
        let all = self.all();
        let warm = all.iter().filter(|((peer, of), _)| *of == key && may_ask(peer));
        let lanes = warm.flat_map(|((peer, _), lanes)| lanes.iter().map(|lane| (*peer, lane)));
        let jobs = lanes.filter_map(|(peer, lane)| Some((lane.lock().jobs()?, peer)));
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
        let (lane, is_warm) = lane_for(&mut all, peer, key, offer)?;
        if !is_warm {
            tokio::spawn(lane::serve(Arc::downgrade(ctx), ctx.net.clone(), peer, key, lane.clone()));
        }
        // Still under the table's lock: nobody closes a lane that was just chosen.
        let slot = lane.lock().attach(terms, desk, JOBS_PER_LANE).ok_or(TooMany)?;
        drop(all);
        Ok(Seat { lane, slot, is_warm })
    }

    /// Forgets a lane that has ended.
    fn remove(&self, peer: PeerId, key: LaneKey, lane: &Lane) {
        take_out(&mut self.all(), (peer, key), lane);
    }
}

/// The lane on which a job of this kind finds a place, and whether it was there before.
fn lane_for(all: &mut Table, peer: PeerId, key: LaneKey, offer: &Offer) -> Result<(Lane, bool), TooMany> {
    let known = all.get(&(peer, key));
    if let Some(lane) = known.and_then(|lanes| lanes.iter().find(|lane| lane.lock().has_place(JOBS_PER_LANE))) {
        return Ok((lane.clone(), true));
    }
    make_room(all, peer)?;
    let lane = Outbox::new(State::new(peer, offer.clone(), Instant::now()));
    all.entry((peer, key)).or_default().push(lane.clone());
    Ok((lane, false))
}

fn take_out(all: &mut Table, key: (PeerId, LaneKey), lane: &Lane) {
    if let Some(lanes) = all.get_mut(&key) {
        lanes.retain(|known| !Arc::ptr_eq(known, lane));
        if lanes.is_empty() {
            all.remove(&key);
        }
    }
}

/// Closes the lane that was not used for the longest time where too many are kept.
fn make_room(all: &mut Table, peer: PeerId) -> Result<(), TooMany> {
    let idle = |only: Option<PeerId>| {
        let of_peer = all.iter().filter(move |((other, _), _)| only.is_none_or(|peer| peer == *other));
        let lanes = of_peer.flat_map(|(key, lanes)| lanes.iter().map(move |lane| (*key, lane)));
        let mut idle: Vec<_> =
            lanes.filter_map(|(key, lane)| Some((lane.lock().idle_since()?, key, lane.clone()))).collect();
        idle.sort_by_key(|(since, ..)| *since);
        idle
    };
    let of_peer = idle(Some(peer));
    let oldest = match of_peer.len() >= WARM_PER_PEER {
        true => of_peer.first().cloned(),
        false if all.values().map(Vec::len).sum::<usize>() >= LANES => {
            Some(idle(None).first().cloned().ok_or(TooMany)?)
        }
        false => None,
    };
    if let Some((_, key, lane)) = oldest {
        take_out(all, key, &lane);
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

#[cfg(test)]
mod tests {
    use super::{state::stories, *};

    /// The job after the last that a lane takes goes to another lane, and the full one is still known.
    #[test]
    fn a_full_lane_is_not_forgotten() {
        let mut all = Table::new();
        let (peer, offer) = (stories::peer(), stories::offer());
        let key = LaneKey::of(&offer);
        let (first, is_warm) = lane_for(&mut all, peer, key, &offer).unwrap();
        assert!(!is_warm);
        let mut reports: Vec<_> = (0..JOBS_PER_LANE).map(|n| stories::job(&mut first.lock(), n as u8)).collect();
        let (second, is_warm) = lane_for(&mut all, peer, key, &offer).unwrap();
        assert!(!is_warm && !Arc::ptr_eq(&first, &second));
        first.lock().leave(reports.remove(0).0, Instant::now());
        let (third, is_warm) = lane_for(&mut all, peer, key, &offer).unwrap();
        assert!(is_warm && Arc::ptr_eq(&first, &third), "it takes jobs again");
        take_out(&mut all, (peer, key), &first);
        take_out(&mut all, (peer, key), &second);
        assert!(all.is_empty());
    }

    /// However many are in use, there are no more than this node keeps.
    #[test]
    fn lanes_in_use_are_bounded() {
        let mut all = Table::new();
        let (peer, offer) = (stories::peer(), stories::offer());
        let key = LaneKey::of(&offer);
        for _ in 0..LANES {
            let (lane, _) = lane_for(&mut all, peer, key, &offer).unwrap();
            (0..JOBS_PER_LANE).for_each(|n| drop(stories::job(&mut lane.lock(), n as u8)));
        }
        assert!(lane_for(&mut all, peer, key, &offer).is_err());
    }
}
