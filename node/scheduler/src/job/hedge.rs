//! Second attempts of stragglers: when nothing is left to hand out, who is idle helps with what is late.

use std::time::Duration;

use super::{
    HEDGE_BLIND, HEDGE_GAIN, HEDGE_LATE, HEDGE_MIN, HEDGER_PATIENCE, JobState, Worker,
    member::{Held, Member},
    task::Task,
};

/// A second attempt that could be made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hedge {
    pub(super) due: Duration,
    pub(super) task: u32,
    pub(super) worker: Worker,
    /// Who has it now.
    pub(super) slow: Worker,
    /// Seconds that the second attempt would take.
    takes: f64,
}

impl JobState {
    /// The next second attempt that is due, by the worker that is measured to be the fastest.
    pub(super) fn due_hedge(&self) -> Option<Hedge> {
        let due = self.hedges_ahead().filter(|hedge| hedge.due <= self.now);
        due.min_by(|a, b| a.due.cmp(&b.due).then(a.takes.total_cmp(&b.takes)).then(a.worker.cmp(&b.worker)))
    }

    /// When the next second attempt is due if nothing else happens.
    pub(super) fn next_hedge(&self) -> Option<Duration> {
        self.hedges_ahead().map(|hedge| hedge.due).filter(|due| *due > self.now).min()
    }

    /// For each idle worker the second attempt that it would make first.
    fn hedges_ahead(&self) -> impl Iterator<Item = Hedge> {
        let handed_out = self.fresh.is_empty();
        let idle = self.members.values().filter(move |m| handed_out && m.idle() && m.free(self.now));
        idle.filter_map(|member| {
            let others = self.members.values().filter(|other| other.worker != member.worker);
            let held = others.flat_map(|other| other.held().iter().map(move |held| (other, held)));
            held.filter_map(|(other, held)| self.hedge(other, held, member)).min_by_key(|hedge| (hedge.due, hedge.task))
        })
    }

    /// When `member` should start a second attempt of what `other` holds; `None` for never. One attempt more than is
    /// needed runs at a time at most, and this device may always add its own: no set of slow workers can hold a job up.
    fn hedge(&self, other: &Member, held: &Held, member: &Member) -> Option<Hedge> {
        let index = held.attempt.task;
        let task = self.tasks.get(index as usize)?;
        let worker = member.worker;
        let mine = task.involves(worker) || task.last_worker() == Some(worker);
        let alone = task.running().count() as u32 <= self.missing_answers(task);
        if mine || !(alone || worker == Worker::Local) || !self.may_try(task, worker) {
            return None;
        }
        let takes = member.would_take(held.weight, self.now);
        let due = self.hedge_due(task, held, takes, alone)?;
        Some(Hedge { due, task: index, worker, slow: other.worker, takes: takes.unwrap_or(f64::MAX) })
    }

    fn hedge_due(&self, task: &Task, held: &Held, takes: Option<f64>, alone: bool) -> Option<Duration> {
        let attempt = task.attempts.get(held.attempt.attempt as usize)?;
        let takes = takes.map(|takes| Duration::try_from_secs_f64(takes).unwrap_or(Duration::MAX));
        // The newest attempt counts: where one is late, only one is added.
        let newest = task.running().map(|attempt| attempt.started).max()?;
        let Some(promised) = attempt.promised else {
            let patience = self.patience(held.weight);
            // A slow worker waits until the task has run as long as it would take itself: before, it would hardly win.
            return Some(newest + takes.unwrap_or_default().clamp(patience, patience.saturating_mul(HEDGER_PATIENCE)));
        };
        let ends = attempt.started + promised;
        let late = ends + attempt.alone.mul_f64(HEDGE_LATE - 1.0).max(HEDGE_MIN);
        // A slow worker waits until the newest attempt has run as long as its own would.
        let late = late.max(newest + takes.unwrap_or_default().min(promised.saturating_mul(HEDGER_PATIENCE)));
        let sooner = alone && takes.is_some_and(|takes| self.now + takes.mul_f64(HEDGE_GAIN) + HEDGE_MIN < ends);
        Some(if sooner { self.now } else { late })
    }

    /// How long an attempt whose worker was never measured may take.
    fn patience(&self, weight: u64) -> Duration {
        let (Some(p95), Some(median)) = (self.times.percentile(95), self.times.percentile(50)) else {
            return HEDGE_BLIND;
        };
        let seconds = p95.min(median * HEDGE_LATE) * weight as f64;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX).max(HEDGE_MIN)
    }
}
