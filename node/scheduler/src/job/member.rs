//! What a job knows of one of its workers.

use std::time::Duration;

use msm_protocol::{job::AttemptRef, limits::CREDIT};

use super::{PREFETCH, WORKER_FAULTS, Worker, pace::Pace};
use crate::Trust;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Ready,
    /// Said nothing for a lease; its next word brings it back.
    Silent,
    /// The driver lost it, or it was struck; only `WorkerReady` brings it back.
    Gone,
}

/// An attempt that a worker holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) attempt: AttemptRef,
    pub(super) weight: u64,
    pub(super) started: Duration,
}

#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) worker: Worker,
    pub(super) presence: Presence,
    /// It refused for a reason that lasts: it keeps what it holds and gets nothing new.
    pub(super) leaving: bool,
    pub(super) credit: u32,
    /// Attempts that it works on at a time, as far as is known.
    pub(super) slots: u32,
    /// In the order of their starts.
    held: Vec<Held>,
    held_weight: u64,
    /// When it last said anything.
    pub(super) heard: Duration,
    /// Gets nothing before this: it was busy.
    pub(super) paused_until: Duration,
    /// Failures, lost and expired attempts since its last result.
    pub(super) faults: u32,
    /// Results that arrived whole, whatever became of them.
    pub(super) answered: u32,
    /// Tasks whose output is its.
    pub(super) done: u32,
    /// Attempts that failed, expired or were lost with it.
    pub(super) lost: u32,
    /// Attempts that others were done with first, before it had shown a result.
    overtaken: u32,
    /// Answers that another worker has confirmed.
    pub(super) checked: u32,
    /// Its answers that wait for a check.
    pub(super) pending: u32,
    /// Smoothed time from a start to its result.
    pub(super) mean: Option<Duration>,
    pub(super) pace: Pace,
    /// Newest round trip, if anybody measured one.
    pub(super) rtt: Duration,
    pub(super) trust: Trust,
    /// The driver has said what `rtt` and `slots` are; otherwise the credit grows by trying.
    told: bool,
    grown: u32,
    /// The least seconds for weight 1 from a start to its result.
    least: f64,
}

/// Results that take no longer than this many times the least show no queue. *Judgement.*
const GROW_BELOW: f64 = 1.25;
/// Results that take longer than this many times the least have waited in one. *Judgement.*
const SHRINK_ABOVE: f64 = 2.0;

impl Member {
    pub(super) fn new(worker: Worker, now: Duration) -> Self {
        Self {
            worker,
            presence: Presence::Ready,
            leaving: false,
            credit: 0,
            slots: 1,
            held: Vec::new(),
            held_weight: 0,
            heard: now,
            paused_until: Duration::ZERO,
            faults: 0,
            answered: 0,
            done: 0,
            lost: 0,
            overtaken: 0,
            checked: 0,
            pending: 0,
            mean: None,
            pace: Pace::default(),
            rtt: Duration::ZERO,
            trust: Trust::default(),
            told: false,
            grown: 0,
            least: f64::INFINITY,
        }
    }

    pub(super) fn held(&self) -> &[Held] {
        &self.held
    }

    pub(super) fn held_weight(&self) -> u64 {
        self.held_weight
    }

    pub(super) fn attempts(&self) -> Vec<AttemptRef> {
        self.held.iter().map(|held| held.attempt).collect()
    }

    pub(super) fn take(&mut self, held: Held) {
        self.held.push(held);
        self.held_weight = self.held_weight.saturating_add(held.weight);
    }

    pub(super) fn give_up(&mut self, attempt: AttemptRef) {
        if let Some(at) = self.held.iter().position(|held| held.attempt == attempt) {
            self.held_weight = self.held_weight.saturating_sub(self.held.remove(at).weight);
        }
    }

    /// Others were done with one of its attempts first.
    pub(super) fn overtaken(&mut self) {
        self.overtaken += u32::from(self.pace.unit().is_none());
    }

    /// It gets another chance: who overtook it is gone, or nobody else does anything.
    pub(super) fn forget_overtaken(&mut self) {
        self.overtaken = 0;
    }

    /// Could get a task now or when it has finished what it holds. The local worker is never given up for its faults:
    /// each task's bound on attempts ends what cannot work.
    pub(super) fn usable(&self) -> bool {
        let trusted = self.worker == Worker::Local || self.faults < WORKER_FAULTS;
        self.presence == Presence::Ready && !self.leaving && self.credit > 0 && trusted && !self.trust.struck
    }

    /// Could start a task at this moment.
    pub(super) fn free(&self, now: Duration) -> bool {
        self.usable() && self.paused_until <= now && self.held.len() < self.allowance()
    }

    /// Has nothing to do with one of its slots.
    pub(super) fn idle(&self) -> bool {
        self.held.len() < self.slots as usize
    }

    /// Attempts that it may hold now. Until a remote worker has shown a result, its word about itself is worth
    /// [`CREDIT`] at most (B72). Then it is given what keeps it busy while a result travels here and a task there.
    pub(super) fn allowance(&self) -> usize {
        let credit = self.credit as usize;
        if self.worker == Worker::Local {
            return credit;
        }
        let Some(unit) = self.pace.unit() else { return credit.min(CREDIT.saturating_sub(self.overtaken) as usize) };
        let mean = self.held_weight as f64 / self.held.len().max(1) as f64 * unit;
        let ahead = (self.rtt + PREFETCH).as_secs_f64() / mean;
        // With nothing held the mean is 0, and whatever the credit is leaves room for one.
        let wanted = if ahead.is_finite() { ahead.min(f64::from(self.credit)).ceil() as usize } else { 1 };
        (wanted + self.slots as usize).max(CREDIT as usize + self.grown as usize).min(credit)
    }

    /// How full it is, in thousandths of its allowance: the least full worker gets the next task.
    pub(super) fn load(&self) -> usize {
        self.held.len() * 1_000 / self.allowance().max(1)
    }

    /// Seconds that the oldest attempt has run, as far as can be told from here.
    fn since(&self, now: Duration) -> f64 {
        let started = self.held.first().map_or(now, |head| self.pace.newest().max(head.started + self.rtt));
        now.saturating_sub(started).as_secs_f64()
    }

    /// Seconds that it needs for weight 1, once known: by its results, or by how long it has been at its oldest attempt
    /// already.
    pub(super) fn unit(&self, now: Duration) -> Option<f64> {
        let unit = self.pace.unit()?;
        let Some(head) = self.held.first() else { return Some(unit) };
        Some(unit.max(self.since(now) / (head.weight as f64 * f64::from(self.slots))))
    }

    /// Seconds until it has done what it holds, once its speed is known. What runs for too long already is expected to
    /// run on for as long again.
    pub(super) fn backlog(&self, now: Duration) -> Option<f64> {
        let (known, unit) = (self.pace.unit()?, self.unit(now)?);
        let Some(head) = self.held.first() else { return Some(0.0) };
        let behind = self.held_weight.saturating_sub(head.weight) as f64 * unit / f64::from(self.slots);
        let (whole, since) = (head.weight as f64 * known * f64::from(self.slots), self.since(now));
        Some(behind + if since <= whole { whole - since } else { since })
    }

    /// Seconds until it would have done a task of this weight that it is given now.
    pub(super) fn would_take(&self, weight: u64, now: Duration) -> Option<f64> {
        let ahead = if self.idle() { 0.0 } else { self.backlog(now)? };
        Some(self.rtt.as_secs_f64() + ahead + weight as f64 * self.unit(now)? * f64::from(self.slots))
    }

    /// The driver knows the link.
    pub(super) fn link(&mut self, rtt: Duration, slots: u32) {
        (self.rtt, self.slots, self.told, self.grown) = (rtt, slots, true, 0);
    }

    /// Where nobody says how far away a worker is, and how many tasks it does at a time, it gets one more while that does
    /// not make results take longer, and one less when they take twice as long.
    fn grow(&mut self, took: Duration, weight: u64, full: bool) {
        let took = took.as_secs_f64() / weight as f64;
        let least = self.least.min(took);
        self.least = least;
        if self.told || self.worker == Worker::Local {
            return;
        }
        if took <= least * GROW_BELOW && full {
            self.grown = (self.grown + 1).min(self.credit);
        } else if took > least * SHRINK_ABOVE {
            self.grown = self.grown.saturating_sub(1);
        }
    }

    /// A result came; `held` attempts were held before it.
    pub(super) fn result(&mut self, started: Duration, now: Duration, weight: u64, held: usize) {
        let took = now.saturating_sub(started);
        let full = held >= self.allowance();
        self.grow(took, weight, full);
        self.answered += 1;
        self.faults = 0;
        self.mean = Some(self.mean.map_or(took, |mean| (mean * 3 + took) / 4));
        self.pace.result(started, self.rtt, now, weight);
    }
}
