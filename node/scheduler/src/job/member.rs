//! What a job knows of one of its workers.

use std::time::Duration;

use msm_protocol::{job::AttemptRef, limits::CREDIT};

use super::{WORKER_FAULTS, Worker};
use crate::Trust;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Ready,
    /// Said nothing for a lease; its next word brings it back.
    Silent,
    /// The driver lost it; only `WorkerReady` brings it back.
    Gone,
}

#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) worker: Worker,
    pub(super) presence: Presence,
    /// It refused for a reason that lasts: it keeps what it holds and gets nothing new.
    pub(super) leaving: bool,
    pub(super) credit: u32,
    pub(super) held: Vec<AttemptRef>,
    /// When it last said anything.
    pub(super) heard: Duration,
    /// Gets nothing before this: it was busy.
    pub(super) paused_until: Duration,
    /// Failures, lost and expired attempts since its last accepted result.
    pub(super) faults: u32,
    /// Accepted results.
    pub(super) done: u32,
    /// Attempts that failed, expired or were lost with it.
    pub(super) lost: u32,
    /// Smoothed time from a start to its accepted result.
    pub(super) mean: Option<Duration>,
    /// Newest round trip, if anybody measured one.
    pub(super) rtt: Option<Duration>,
    pub(super) trust: Trust,
}

impl Member {
    pub(super) fn new(worker: Worker, now: Duration) -> Self {
        Self {
            worker,
            presence: Presence::Ready,
            leaving: false,
            credit: 0,
            held: Vec::new(),
            heard: now,
            paused_until: Duration::ZERO,
            faults: 0,
            done: 0,
            lost: 0,
            mean: None,
            rtt: None,
            trust: Trust::default(),
        }
    }

    /// Could get a task now or when it has finished what it holds. The local worker is never given up for its faults:
    /// each task's bound on attempts ends what cannot work.
    pub(super) fn usable(&self) -> bool {
        let trusted = self.worker == Worker::Local || self.faults < WORKER_FAULTS;
        self.presence == Presence::Ready && !self.leaving && self.credit > 0 && trusted && !self.trust.struck
    }

    /// Could start a task at this moment.
    pub(super) fn free(&self, now: Duration) -> bool {
        self.usable() && self.held.len() < self.allowance() && self.paused_until <= now
    }

    /// Attempts that it may hold. Until a remote worker has shown a result, its word about itself is worth [`CREDIT`]
    /// at most (B72).
    pub(super) fn allowance(&self) -> usize {
        let proven = self.worker == Worker::Local || self.done > 0;
        (if proven { self.credit } else { self.credit.min(CREDIT) }) as usize
    }

    /// How full it is, in thousandths of its allowance: the least full worker gets the next task.
    pub(super) fn load(&self) -> usize {
        self.held.len() * 1_000 / self.allowance().max(1)
    }

    pub(super) fn accepted(&mut self, took: Duration) {
        self.done += 1;
        self.faults = 0;
        self.mean = Some(self.mean.map_or(took, |mean| (mean * 3 + took) / 4));
    }
}
