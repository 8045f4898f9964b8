//! [`Inputs`]: the memory for inputs of others, of which nobody holds more than a part before its tasks run.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use msm_protocol::PeerId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Inputs of others that may be held at a time, KiB: 64 MiB.
const INPUTS_KIB: usize = 64 * 1024;
/// Of these one peer's inputs that arrive or wait for a slot, KiB: a quarter, so two of the largest. Those that run are
/// not counted: slots are shared out already, and alone a peer may fill them all. *Judgement.*
const INPUTS_PER_PEER_KIB: usize = INPUTS_KIB / 4;

/// Memory for the inputs of everybody.
pub struct Inputs {
    all: Arc<Semaphore>,
    peers: Mutex<HashMap<PeerId, Weak<Semaphore>>>,
}

impl Default for Inputs {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(INPUTS_KIB)), peers: Mutex::default() }
    }
}

impl Inputs {
    /// What `peer` may take, over all its lanes.
    pub fn share_of(&self, peer: PeerId) -> Share {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        // As long as there are lanes: their number bounds the map.
        peers.retain(|_, mine| mine.strong_count() > 0);
        let known = peers.get(&peer).and_then(Weak::upgrade);
        let mine = known.unwrap_or_else(|| {
            let mine = Arc::new(Semaphore::new(INPUTS_PER_PEER_KIB));
            peers.insert(peer, Arc::downgrade(&mine));
            mine
        });
        Share { all: self.all.clone(), mine }
    }
}

/// What one peer may take.
#[derive(Clone)]
pub struct Share {
    all: Arc<Semaphore>,
    mine: Arc<Semaphore>,
}

impl Share {
    /// Memory for `here` bytes that have come, if there is some now. With the first of an input comes its `whole` size,
    /// which is kept free for it in the peer's part: two of its inputs never wait for each other's last bytes.
    pub fn try_take(&self, here: u64, whole: u64) -> Option<Held> {
        let mine = self.mine.clone().try_acquire_many_owned(kib(whole)).ok()?;
        let all = self.all.clone().try_acquire_many_owned(kib(here)).ok()?;
        Some(Held { all, mine })
    }

    /// The same, waiting for it: so long for what the peer itself holds, and so long for what others do.
    pub async fn take(self, here: u64, whole: u64, own: Duration, others: Duration) -> Option<Held> {
        let mine = tokio::time::timeout(own, self.mine.acquire_many_owned(kib(whole))).await.ok()?.ok()?;
        let all = tokio::time::timeout(others, self.all.acquire_many_owned(kib(here))).await.ok()?.ok()?;
        Some(Held { all, mine })
    }
}

/// What one input holds.
pub struct Held {
    all: OwnedSemaphorePermit,
    mine: OwnedSemaphorePermit,
}

impl Held {
    /// More of the same input.
    pub fn merge(&mut self, more: Self) {
        self.all.merge(more.all);
        self.mine.merge(more.mine);
    }

    /// The task runs: its input takes nothing of the peer's part any more.
    pub fn runs(self) -> OwnedSemaphorePermit {
        self.all
    }
}

fn kib(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use msm_protocol::{SecretKey, limits::TASK_BYTES};

    use super::*;

    fn peer(n: u8) -> PeerId {
        PeerId::of(&SecretKey::from_seed(&[n; 32]).public())
    }

    /// One that sends all but the last byte of many large inputs keeps others out of nothing.
    #[test]
    fn one_peer_holds_a_part_of_the_memory_for_inputs() {
        let inputs = Inputs::default();
        let (evil, honest) = (inputs.share_of(peer(1)), inputs.share_of(peer(2)));
        let size = TASK_BYTES as u64;
        let mut held: Vec<Held> = std::iter::from_fn(|| evil.try_take(size - 1, size)).take(9).collect();
        assert_eq!(held.len(), INPUTS_PER_PEER_KIB * 1024 / TASK_BYTES);
        assert!(inputs.share_of(peer(1)).try_take(1, 1).is_none(), "another lane of it shares the part");
        assert!(honest.try_take(size, size).is_some());
        // What runs makes room for the next, up to all there is.
        let mut running = Vec::new();
        while let Some(input) = held.pop().or_else(|| evil.try_take(size, size)) {
            running.push(input.runs());
        }
        assert_eq!(running.len(), INPUTS_KIB * 1024 / TASK_BYTES);
        assert!(honest.try_take(1, 1).is_none());
    }

    /// An input that has begun finds its part of the peer's memory free for all of it.
    #[test]
    fn inputs_of_one_peer_do_not_wait_for_each_other() {
        let inputs = Inputs::default();
        let share = inputs.share_of(peer(1));
        let size = TASK_BYTES as u64;
        let mut begun: Vec<Held> = std::iter::from_fn(|| share.try_take(1024, size)).take(9).collect();
        for input in &mut begun {
            input.merge(share.try_take(size - 1024, 0).unwrap());
        }
        drop(begun);
        assert_eq!(inputs.all.available_permits(), INPUTS_KIB);
        drop(share);
        inputs.share_of(peer(2));
        assert_eq!(inputs.peers.lock().unwrap().len(), 1, "who has gone is forgotten");
    }
}
