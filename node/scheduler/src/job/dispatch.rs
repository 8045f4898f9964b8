//! Who gets which task next: lost tasks first, then fresh ones, then second attempts of stragglers.

use std::time::Duration;

use msm_protocol::{job::AttemptRef, limits::REMOTE_ATTEMPTS};

use super::{
    HEDGE_BLIND, HEDGE_MIN, HEDGER_PATIENCE, JobState, LOCAL_ATTEMPTS, OnLoss, Output, REMOTE_ATTEMPTS_ALONE, Why,
    Worker,
    member::Member,
    task::{Attempt, State, Task},
};

/// A second attempt that could be made.
struct Hedge {
    due: Duration,
    task: u32,
    worker: Worker,
    mean: Option<Duration>,
}

impl JobState {
    /// Starts everything that can start now.
    pub(super) fn dispatch(&mut self) {
        self.hand_out_returned();
        self.hand_out_fresh();
        while let Some((worker, task)) = self.due_hedge() {
            self.hedges += 1;
            let running = self.tasks.get(task as usize).and_then(|task| task.running().next());
            let slow = running.map_or(worker, |attempt| attempt.worker);
            self.start(worker, task, Why::Straggler { slow });
        }
    }

    fn start(&mut self, worker: Worker, index: u32, why: Why) {
        let lease_ends = (worker != Worker::Local).then(|| self.now + self.lease());
        let (Some(task), Some(member)) = (self.tasks.get_mut(index as usize), self.members.get_mut(&worker)) else {
            return;
        };
        let attempt = AttemptRef { task: index, attempt: task.attempts.len() as u32 };
        task.attempts.push(Attempt { worker, state: State::Running, started: self.now, lease_ends, named: false });
        member.held.push(attempt);
        self.outputs.push_back(Output::Start { worker, attempt, why });
    }

    fn free(&self) -> impl Iterator<Item = &Member> {
        self.members.values().filter(|member| member.free(self.now))
    }

    // ---- Lost tasks ------------------------------------------------------------------------------------------------

    fn hand_out_returned(&mut self) {
        let mut kept = std::collections::VecDeque::new();
        while let Some(task) = self.returned.pop_front() {
            if self.free().next().is_none() {
                self.returned.push_front(task);
                break;
            }
            match self.next_for(task) {
                Some(worker) => {
                    self.reruns += 1;
                    let last = self.tasks.get(task as usize).and_then(Task::last_worker);
                    self.start(worker, task, Why::Lost { from: last.unwrap_or(worker) });
                }
                None => kept.push_back(task),
            }
        }
        kept.append(&mut self.returned);
        self.returned = kept;
    }

    /// The free worker that this lost task should go to: one that has not had it, where it need not wait, a remote one
    /// before this device, the least loaded. Not the one that had it last if anybody else could ever take it.
    fn next_for(&self, index: u32) -> Option<Worker> {
        let task = self.tasks.get(index as usize)?;
        let others = |worker: Worker| {
            self.members.values().filter(move |m| m.worker != worker && m.usable() && self.may_take(index, m.worker))
        };
        let remote_left = || others(Worker::Local).any(|member| Some(member.worker) != task.last_worker());
        self.free()
            .filter(|member| self.may_take(index, member.worker))
            .filter(|member| task.last_worker() != Some(member.worker) || others(member.worker).next().is_none())
            // While fresh tasks are left this device takes those, and leaves a lost one to the workers around.
            .filter(|m| m.worker != Worker::Local || self.fresh == self.config.tasks || !remote_left())
            .min_by_key(|member| {
                let local = member.worker == Worker::Local;
                let waits = !local && !member.held.is_empty();
                let mean = member.mean.unwrap_or(Duration::MAX);
                (task.tries_by(member.worker), waits, local, member.load(), mean)
            })
            .map(|member| member.worker)
    }

    /// Whether a lost task may go to this worker at all.
    pub(super) fn may_take(&self, index: u32, worker: Worker) -> bool {
        let Some(task) = self.tasks.get(index as usize) else { return false };
        match (worker, self.config.on_loss) {
            (Worker::Local, OnLoss::Partial) => false,
            (Worker::Local, _) => self.may_try(task, worker),
            (Worker::Remote(_), OnLoss::Local) => {
                let local = self.members.get(&Worker::Local).is_some_and(Member::usable);
                self.may_try(task, worker) && !(local && self.may_try(task, Worker::Local))
            }
            (Worker::Remote(_), _) => self.may_try(task, worker),
        }
    }

    // ---- Fresh tasks -----------------------------------------------------------------------------------------------

    fn hand_out_fresh(&mut self) {
        while self.fresh < self.config.tasks {
            if self.output_of(self.fresh).is_some() {
                self.fresh += 1;
                continue;
            }
            let Some(worker) = self.free().min_by_key(|member| member.load()).map(|member| member.worker) else {
                return;
            };
            let task = self.fresh;
            self.fresh += 1;
            self.start(worker, task, Why::Fresh);
        }
    }

    // ---- Stragglers ------------------------------------------------------------------------------------------------

    /// The next second attempt that is due, by the worker that is measured to be the fastest.
    fn due_hedge(&self) -> Option<(Worker, u32)> {
        let due = self.hedges_ahead().filter(|hedge| hedge.due <= self.now);
        let best = due.min_by_key(|hedge| (hedge.due, hedge.mean.unwrap_or(Duration::MAX), hedge.worker));
        best.map(|hedge| (hedge.worker, hedge.task))
    }

    /// When the next second attempt is due if nothing else happens.
    pub(super) fn next_hedge(&self) -> Option<Duration> {
        self.hedges_ahead().map(|hedge| hedge.due).filter(|due| *due > self.now).min()
    }

    /// For each idle worker the second attempt that it would make first.
    fn hedges_ahead(&self) -> impl Iterator<Item = Hedge> {
        let handed_out = self.fresh == self.config.tasks;
        // A remote worker's second place is a queue: an attempt there would wait behind the first.
        let idle = self.free().filter(move |m| handed_out && (m.worker == Worker::Local || m.held.is_empty()));
        idle.filter_map(|member| {
            let running = self.members.values().flat_map(|other| &other.held).map(|held| held.task);
            let (due, task) = running.filter_map(|task| Some((self.hedge_due(task, member)?, task))).min()?;
            Some(Hedge { due, task, worker: member.worker, mean: member.mean })
        })
    }

    /// When `member` should start a second attempt of this task; `None` for never. Two remote attempts run at a time at
    /// most, and this device may always add its own: no set of slow workers can hold a job up.
    fn hedge_due(&self, index: u32, member: &Member) -> Option<Duration> {
        let task = self.tasks.get(index as usize)?;
        let worker = member.worker;
        let mine = task.running().any(|attempt| attempt.worker == worker) || task.last_worker() == Some(worker);
        let room = worker == Worker::Local || task.running().count() == 1;
        if mine || !room || !self.may_try(task, worker) {
            return None;
        }
        let started = task.running().map(|attempt| attempt.started).max()?;
        let patience = match (self.times.percentile(95), self.times.percentile(50)) {
            (Some(p95), Some(median)) => p95.min(median * 3 / 2).max(HEDGE_MIN),
            _ => HEDGE_BLIND,
        };
        // A slow worker waits until the task has run as long as it would take itself: before, it would hardly win.
        Some(started + member.mean.unwrap_or_default().clamp(patience, patience * HEDGER_PATIENCE))
    }

    /// Whether the bounds on attempts leave one for this kind of worker.
    pub(super) fn may_try(&self, task: &Task, worker: Worker) -> bool {
        let local_tries = task.tries_by(Worker::Local);
        if worker == Worker::Local {
            return local_tries < LOCAL_ATTEMPTS;
        }
        let local_may = self.config.on_loss == OnLoss::Partial
            || local_tries >= LOCAL_ATTEMPTS
            || self.members.get(&Worker::Local).is_some_and(Member::usable);
        task.remote_tries() < if local_may { REMOTE_ATTEMPTS } else { REMOTE_ATTEMPTS_ALONE }
    }
}
