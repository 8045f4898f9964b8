//! Who gets which task next: lost tasks, votes, fresh tasks, checks, then second attempts of stragglers.

use std::{collections::VecDeque, time::Duration};

use msm_protocol::{job::AttemptRef, limits::REMOTE_ATTEMPTS};

use super::{
    HEDGE_MIN, JobState, LOCAL_ATTEMPTS, OnLoss, Output, REMOTE_ATTEMPTS_ALONE, Redundancy, VOTES_WAITING, Why, Worker,
    member::{Held, Member},
    task::{Attempt, State, Task},
};
use crate::trust::CHECK_FIRST;

/// A worker leaves one of the last tasks to others only if they would have done them all in this part of its time.
/// *Judgement.*
const SOONER: f64 = 0.95;

impl JobState {
    /// Starts everything that can start now.
    pub(super) fn dispatch(&mut self) {
        self.look_again = None;
        self.hand_out_returned();
        self.hand_out();
        while let Some(hedge) = self.due_hedge() {
            self.hedges += 1;
            self.start(hedge.worker, hedge.task, Why::Straggler { slow: hedge.slow });
        }
    }

    pub(super) fn start(&mut self, worker: Worker, index: u32, why: Why) {
        let now = self.now;
        let weight = self.tasks.get(index as usize).map_or(1, |task| task.weight);
        let lease_ends = (worker != Worker::Local).then(|| now + self.lease(weight));
        let (Some(task), Some(member)) = (self.tasks.get_mut(index as usize), self.members.get_mut(&worker)) else {
            return;
        };
        let attempt = AttemptRef { task: index, attempt: task.attempts.len() as u32 };
        let time = |seconds: f64| Duration::try_from_secs_f64(seconds).ok();
        let promised = member.would_take(weight, now).and_then(time);
        let alone = member.unit(now).and_then(|unit| time(unit * weight as f64 * f64::from(member.slots)));
        let alone = alone.unwrap_or_default();
        let hedge = matches!(why, Why::Straggler { .. });
        let state = State::Running;
        task.attempts.push(Attempt { worker, state, started: now, lease_ends, named: false, promised, alone, hedge });
        task.void_of = None;
        member.take(Held { attempt, weight, started: now });
        self.fresh.remove(index, weight);
        self.running += 1;
        self.lease_floor = lease_ends.map_or(self.lease_floor, |end| end.min(self.lease_floor));
        self.checks_started += u32::from(matches!(why, Why::Check { .. } | Why::Vote));
        self.requeue(index);
        self.outputs.push_back(Output::Start { worker, attempt, why });
    }

    fn free(&self) -> impl Iterator<Item = &Member> {
        self.members.values().filter(|member| member.free(self.now))
    }

    // ---- Lost tasks ------------------------------------------------------------------------------------------------

    fn hand_out_returned(&mut self) {
        let mut kept = VecDeque::new();
        while let Some(task) = self.returned.pop_front() {
            if self.free().next().is_none() {
                self.returned.push_front(task);
                break;
            }
            match self.next_for(task) {
                Some(worker) => {
                    let why = self.why_again(task);
                    self.reruns += u32::from(!matches!(why, Why::Withdrawn { .. }));
                    self.start(worker, task, why);
                }
                None => kept.push_back(task),
            }
        }
        kept.append(&mut self.returned);
        self.returned = kept;
    }

    /// Why a task that nobody works on is started again.
    fn why_again(&self, index: u32) -> Why {
        let task = self.tasks.get(index as usize);
        match task.map(|task| (task.void_of, task.last_worker())) {
            Some((Some(from), _)) => Why::Withdrawn { from },
            Some((None, Some(from))) => Why::Lost { from },
            _ => Why::Fresh,
        }
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
            .filter(|m| m.worker != Worker::Local || self.fresh.is_empty() || !remote_left())
            .min_by_key(|member| {
                let local = member.worker == Worker::Local;
                let waits = !local && !member.held().is_empty();
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

    /// Whether the bounds on attempts leave one for this kind of worker.
    pub(super) fn may_try(&self, task: &Task, worker: Worker) -> bool {
        let local_tries = task.local_tries();
        if worker == Worker::Local {
            return local_tries < LOCAL_ATTEMPTS;
        }
        let local_may = self.config.on_loss == OnLoss::Partial
            || local_tries >= LOCAL_ATTEMPTS
            || self.members.get(&Worker::Local).is_some_and(Member::usable);
        let base = if local_may { REMOTE_ATTEMPTS } else { REMOTE_ATTEMPTS_ALONE };
        task.remote_tries() < base + self.votes_beside()
    }

    // ---- Votes, fresh tasks, checks --------------------------------------------------------------------------------

    fn hand_out(&mut self) {
        loop {
            let mut free: Vec<(usize, Worker)> = self.free().map(|m| (m.load(), m.worker)).collect();
            free.sort_unstable();
            let next = free.into_iter().find_map(|(_, worker)| {
                let (task, why) = self.next_of(worker)?;
                Some((worker, task, why))
            });
            let Some((worker, task, why)) = next else { return };
            self.start(worker, task, why);
        }
    }

    /// What this free worker should do next. This device decides what is in doubt before anything else and finds liars
    /// early; the others finish votes that were begun; then come fresh tasks, and checks for who has nothing better.
    fn next_of(&mut self, worker: Worker) -> Option<(u32, Why)> {
        let full = self.votes.len() >= VOTES_WAITING;
        let decides = worker == Worker::Local || !self.members.get(&Worker::Local).is_some_and(Member::usable);
        let votes = worker != Worker::Local || full;
        let urgent = self.urgent.iter().filter(|_| decides).chain(self.votes.iter().filter(|_| votes)).copied();
        if let Some(task) = self.first_judged(urgent, worker) {
            return Some((task, self.why_judged(task)));
        }
        if (worker == Worker::Local || !full)
            && let Some(task) = self.fresh_for(worker)
        {
            return Some((task, self.why_again(task)));
        }
        let rest = self.urgent.iter().chain(&self.votes).chain(&self.checks).copied();
        let task = self.first_judged(rest, worker)?;
        Some((task, self.why_judged(task)))
    }

    fn first_judged(&self, mut tasks: impl Iterator<Item = u32>, worker: Worker) -> Option<u32> {
        tasks.find(|task| self.may_judge(*task, worker))
    }

    /// The fresh task that this worker should take, if it should take any: the largest that it will have done when all of
    /// them are, or the smallest; and none of the last ones if the others will have done them all before this worker has
    /// done one.
    fn fresh_for(&mut self, worker: Worker) -> Option<u32> {
        let left = self.fresh.weight();
        let member = self.members.get(&worker)?;
        let (task, weight) = self.fresh.fitting(self.share_of(member))?;
        let Some(mine) = member.would_take(weight, self.now) else { return Some(task) };
        let others = self.members.values().filter(|m| m.worker != worker && m.usable() && m.paused_until <= self.now);
        let (mut done, mut next_free) = (0.0, f64::INFINITY);
        for other in others {
            let (Some(unit), Some(backlog)) = (other.unit(self.now), other.backlog(self.now)) else { continue };
            let each = unit * f64::from(other.slots) * weight as f64;
            let time = mine * SOONER - backlog - other.rtt.as_secs_f64();
            // Strictly before: of two equal workers not both leave it to the other.
            let rounds = ((time / each).ceil() - 1.0).max(0.0);
            done += rounds * f64::from(other.slots) * weight as f64;
            next_free = next_free.min(backlog);
        }
        if done < left as f64 {
            return Some(task);
        }
        let again = self.now + Duration::try_from_secs_f64(next_free).unwrap_or_default() + HEDGE_MIN;
        self.look_again = Some(self.look_again.map_or(again, |at| at.min(again)));
        None
    }

    /// The weight that one of this worker's slots would have done by the time at which all that is left ends, shared out
    /// by speed. Who was not measured yet counts as average. Nothing while all of its results are computed again: small
    /// ones show as much.
    fn share_of(&self, member: &Member) -> u64 {
        let unproven = member.trust.in_a_row.saturating_add(member.pending).saturating_add(member.held().len() as u32);
        if self.config.redundancy == Redundancy::Spot && member.worker != Worker::Local && unproven < CHECK_FIRST {
            return 0;
        }
        let measured = |member: &Member| member.unit(self.now).map(|unit| 1.0 / unit);
        let usable = || self.members.values().filter(|member| member.usable());
        let (sum, known) = usable().filter_map(measured).fold((0.0, 0.0), |(sum, n), speed| (sum + speed, n + 1.0));
        let average = if known > 0.0 { sum / known } else { 1.0 };
        let speed = |member: &Member| measured(member).unwrap_or(average);
        let ahead = |m: &Member| m.backlog(self.now).unwrap_or_else(|| m.held_weight() as f64 / speed(m));
        let (all, held) = usable().fold((0.0, 0.0), |(all, held), m| (all + speed(m), held + ahead(m) * speed(m)));
        let end = (held + self.fresh.weight() as f64) / all;
        let begin = if member.idle() { 0.0 } else { ahead(member) } + member.rtt.as_secs_f64();
        // Casts of floats saturate.
        ((end - begin) * speed(member) / f64::from(member.slots)) as u64
    }
}
