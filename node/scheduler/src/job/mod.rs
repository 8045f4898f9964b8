//! One running job: which worker gets which task, and what happens when an attempt or a worker fails.
//!
//! The driver calls [`JobState::handle`] with what happened and when, then carries out everything that
//! [`JobState::poll_output`] returns, and calls `handle(Input::Tick, now)` at [`JobState::next_timeout`]. The clock is the
//! time since some fixed moment (the job's start) and must not run backwards; the same inputs at the same times give the
//! same outputs.
//!
//! - **Pull with credit.** Each worker holds at most its credit; finishing one task makes room for the next, so a fast
//!   worker takes more. The local worker pulls like the others.
//! - **Leases.** A remote attempt counts as lost when its lease ends; heartbeats renew it. The driver also reports every
//!   piece of an input written or of an output read as a heartbeat of that attempt, so that a slow link is not taken for
//!   a dead worker. The local worker has no lease: the sandbox's deadline ends its attempts.
//! - **Loss.** A lost task goes to the front of the queue and on to another worker, then to this device
//!   ([`OnLoss`] says otherwise). Attempts per task are bounded, so a job always ends.
//! - **Stragglers.** When nothing is left to hand out, an idle worker makes a second attempt at the task that runs the
//!   longest; the first good answer wins.
//! - **Late and double answers** are dropped: an output counts only while its attempt runs.

mod bounds;
mod config;
mod event;
mod progress;

mod dispatch;
mod member;
mod task;
mod times;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use msm_protocol::{
    Refusal, RefusalCode,
    job::AttemptRef,
    limits::{LEASE_MIN, REMOTE_ATTEMPTS, TASKS_PER_JOB},
};

use crate::Trust;

pub use bounds::*;
pub use config::{JobConfig, OnLoss, Redundancy};
pub use event::{Input, Output, OutputId, Why, Worker};
pub use progress::{Progress, WorkerProgress};

use member::{Member, Presence};
use task::{State, Task};
use times::Times;

/// The state of one job. See the module's description.
#[derive(Debug, Clone)]
pub struct JobState {
    config: JobConfig,
    /// The driver's clock without [`Self::asleep`].
    now: Duration,
    asleep: Duration,
    tasks: Vec<Task>,
    members: BTreeMap<Worker, Member>,
    /// Tasks that came back; they go before the fresh ones.
    returned: VecDeque<u32>,
    /// First task that was never started.
    fresh: u32,
    done: u32,
    reruns: u32,
    hedges: u32,
    times: Times,
    /// Since when nothing runs.
    stuck_since: Option<Duration>,
    last_failure: Option<Refusal>,
    over: bool,
    random: u64,
    outputs: VecDeque<Output>,
}

impl JobState {
    /// A job that starts at `now` with no workers yet. With no tasks it is done at once; with more than
    /// [`TASKS_PER_JOB`] it fails at once.
    pub fn new(mut config: JobConfig, now: Duration) -> Self {
        let asked = config.tasks;
        config.tasks = asked.min(TASKS_PER_JOB as u32);
        config.lease = config.lease.max(LEASE_MIN);
        let mut job = Self {
            now,
            asleep: Duration::ZERO,
            tasks: vec![Task::default(); config.tasks as usize],
            members: BTreeMap::new(),
            returned: VecDeque::new(),
            fresh: 0,
            done: 0,
            reruns: 0,
            hedges: 0,
            times: Times::default(),
            stuck_since: Some(now),
            last_failure: None,
            over: false,
            random: config.seed,
            outputs: VecDeque::new(),
            config,
        };
        if asked > TASKS_PER_JOB as u32 {
            job.fail(Refusal::new(RefusalCode::BadInput, format!("{asked} tasks > {TASKS_PER_JOB} per job")));
        } else if asked == 0 {
            job.end(Output::Done);
        }
        job
    }

    /// Takes in what happened at `now`. Drain [`Self::poll_output`] after each call.
    pub fn handle(&mut self, input: Input, now: Duration) {
        self.wake(now);
        match input {
            Input::WorkerReady { worker, credit, trust } => self.worker_ready(worker, credit, trust),
            Input::Link { worker, rtt } => self.link(worker, rtt),
            Input::Restored { task, output, worker } => self.restored(task, output, worker),
            Input::Struck { worker, reason } => self.struck(worker, reason),
            Input::WorkerLost { worker, reason } => self.worker_lost(worker, reason),
            Input::Heartbeat { worker, attempts } => self.heartbeat(worker, &attempts),
            Input::Result { worker, attempt, output } => self.result(worker, attempt, output),
            Input::Failed { worker, attempt, refusal } => self.failed(worker, attempt, refusal.sanitised()),
            Input::Tick => {}
            Input::Cancel if self.over => {}
            Input::Cancel => self.stop(),
        }
        if !self.over {
            self.expire();
        }
        if !self.over {
            self.dispatch();
            self.check_stuck();
        }
    }

    /// The next thing to do, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call `handle(Input::Tick, …)` if nothing happens before; `None` while only inputs can change anything.
    pub fn next_timeout(&self) -> Option<Duration> {
        if self.over {
            return None;
        }
        let stuck = self.stuck_since.map(|since| since + STALL);
        let pauses = self.members.values().filter(|m| m.usable() && m.paused_until > self.now).map(|m| m.paused_until);
        let next = self.leases().chain(stuck).chain(pauses).chain(self.next_hedge()).min();
        next.map(|next| next + self.asleep)
    }

    /// How far the job is.
    pub fn progress(&self) -> Progress {
        let workers = self.members.values().map(|member| WorkerProgress {
            worker: member.worker,
            done: member.done,
            running: member.held.len() as u32,
            lost: member.lost,
            ready: member.usable(),
            mean: member.mean,
            rate: None,
            checked: 0,
            struck: member.trust.struck,
        });
        Progress {
            tasks: self.config.tasks,
            done: self.done,
            running: self.members.values().map(|member| member.held.len() as u32).sum(),
            reruns: self.reruns,
            hedges: self.hedges,
            hedges_won: 0,
            checks: 0,
            checked: 0,
            unchecked: 0,
            withdrawn: 0,
            over: self.over,
            workers: workers.collect(),
        }
    }

    /// The accepted output of a task.
    pub fn output_of(&self, task: u32) -> Option<OutputId> {
        self.tasks.get(task as usize)?.output
    }

    // ---- Inputs ----------------------------------------------------------------------------------------------------

    fn worker_ready(&mut self, worker: Worker, credit: u32, trust: Trust) {
        if self.members.len() >= WORKERS && !self.members.contains_key(&worker) {
            return;
        }
        let cap = if worker == Worker::Local { CREDIT_MAX } else { self.config.credit.min(CREDIT_MAX) };
        let member = self.members.entry(worker).or_insert_with(|| Member::new(worker, self.now));
        member.presence = Presence::Ready;
        member.leaving = false;
        member.credit = credit.min(cap);
        member.heard = self.now;
        member.trust = Trust { struck: member.trust.struck || trust.struck, ..trust };
    }

    fn link(&mut self, worker: Worker, rtt: Duration) {
        if let Some(member) = self.members.get_mut(&worker) {
            member.rtt = Some(rtt);
        }
    }

    fn restored(&mut self, task: u32, output: OutputId, _worker: Worker) {
        let Some(place) = self.tasks.get_mut(task as usize) else { return };
        if place.output.replace(output).is_none() {
            self.done += 1;
        }
        if self.done == self.config.tasks && !self.over {
            self.end(Output::Done);
        }
    }

    fn struck(&mut self, worker: Worker, reason: String) {
        if let Some(member) = self.members.get_mut(&worker) {
            member.trust.wrong();
        }
        self.worker_lost(worker, reason);
    }

    fn worker_lost(&mut self, worker: Worker, reason: String) {
        let Some(member) = self.members.get_mut(&worker) else { return };
        let was = std::mem::replace(&mut member.presence, Presence::Gone);
        if was == Presence::Ready && !self.over {
            let held = member.held.clone();
            self.lose(worker, &held, reason);
        }
    }

    fn heartbeat(&mut self, worker: Worker, attempts: &[AttemptRef]) {
        self.hear(worker);
        let Some(member) = self.members.get(&worker) else { return };
        let lease_ends = self.now + self.lease();
        for held in &member.held {
            let Some(attempt) = attempt_mut(&mut self.tasks, *held) else { continue };
            let named = attempts.contains(held);
            attempt.named |= named;
            let carried_to = match (named, attempt.named) {
                (true, _) => attempt.started + ATTEMPT_MAX,
                (false, false) => attempt.started + DELIVERY,
                // The worker knew of it and does not work on it any more.
                (false, true) => continue,
            };
            if let Some(end) = &mut attempt.lease_ends {
                *end = (*end).max(lease_ends.min(carried_to));
            }
        }
    }

    fn result(&mut self, worker: Worker, attempt: AttemptRef, output: OutputId) {
        self.hear(worker);
        let Some(started) = self.running_since(worker, attempt) else { return };
        self.end_attempt(attempt, State::Accepted);
        let took = self.now.saturating_sub(started);
        if let Some(member) = self.members.get_mut(&worker) {
            member.accepted(took);
        }
        self.times.push(took);
        self.done += 1;
        self.outputs.push_back(Output::Accepted { attempt, worker });
        if let Some(task) = self.tasks.get_mut(attempt.task as usize) {
            task.output = Some(output);
        }
        for other in self.running_attempts(attempt.task) {
            if let Some(worker) = self.end_attempt(other, State::Overtaken) {
                self.outputs.push_back(Output::Cancel { worker, attempt: other });
            }
        }
        if self.done == self.config.tasks {
            self.end(Output::Done);
        }
    }

    fn failed(&mut self, worker: Worker, attempt: AttemptRef, refusal: Refusal) {
        self.hear(worker);
        if self.running_since(worker, attempt).is_none() {
            return;
        }
        self.end_attempt(attempt, State::Ended);
        if refusal.code.is_deterministic() {
            return self.fail(refusal);
        }
        let pause = self.busy_pause(worker);
        if let Some(member) = self.members.get_mut(&worker) {
            member.faults += 1;
            member.lost += 1;
            match refusal.code {
                RefusalCode::Busy | RefusalCode::RateLimited => member.paused_until = self.now + pause,
                code => member.leaving |= lasts(code),
            }
        }
        self.last_failure = Some(refusal);
        self.give_back(vec![attempt.task]);
    }

    // ---- Time ------------------------------------------------------------------------------------------------------

    /// Moves the clock. Time in which this device itself was not there to listen does not count, and leases wait for
    /// their workers to speak again.
    fn wake(&mut self, now: Duration) {
        let mut now = now.saturating_sub(self.asleep).max(self.now);
        let stalled = self.stuck_since.map(|since| since + STALL);
        if self.leases().chain(stalled).min().is_some_and(|due| now > due + OVERSLEPT) {
            self.asleep += now - self.now;
            now = self.now;
            let running = self.tasks.iter_mut().flat_map(|task| &mut task.attempts);
            for end in running.filter(|a| a.state == State::Running).filter_map(|a| a.lease_ends.as_mut()) {
                *end = (*end).max(now + OVERSLEPT);
            }
        }
        self.now = now;
    }

    /// Ends leases. A worker that said nothing for a whole lease is lost with all that it holds; of one that speaks only
    /// the attempt that it no longer names.
    fn expire(&mut self) {
        let now = self.now;
        let over = |tasks: &[Task], held: &AttemptRef| {
            attempt(tasks, *held).is_some_and(|a| a.lease_ends.is_some_and(|end| end <= now))
        };
        let late: Vec<(Worker, Vec<AttemptRef>)> = self
            .members
            .values()
            .map(|m| (m.worker, m.held.iter().copied().filter(|held| over(&self.tasks, held)).collect::<Vec<_>>()))
            .filter(|(_, ended)| !ended.is_empty())
            .collect();
        for (worker, mut ended) in late {
            if self.over {
                return;
            }
            let Some(member) = self.members.get_mut(&worker) else { continue };
            let quiet = now.saturating_sub(member.heard);
            let silent = quiet >= LEASE_MIN;
            if silent {
                member.presence = Presence::Silent;
                ended.clone_from(&member.held);
            }
            self.outputs.extend(ended.iter().map(|attempt| Output::Cancel { worker, attempt: *attempt }));
            if silent {
                self.lose(worker, &ended, format!("silent for {} s", quiet.as_secs()));
            } else {
                self.fault(worker, &ended);
            }
        }
    }

    fn lease(&self) -> Duration {
        self.times.percentile(95).map_or(self.config.lease, |p95| (p95 * 2).clamp(LEASE_MIN, LEASE_MAX))
    }

    fn leases(&self) -> impl Iterator<Item = Duration> {
        let held = self.members.values().flat_map(|member| &member.held);
        held.filter_map(|held| attempt(&self.tasks, *held)?.lease_ends)
    }

    // ---- Ends ------------------------------------------------------------------------------------------------------

    /// A worker is lost with `held`.
    fn lose(&mut self, worker: Worker, held: &[AttemptRef], reason: String) {
        let at = self.outputs.len();
        let tasks_back = self.fault(worker, held);
        self.outputs.insert(at, Output::Lost { worker, tasks_back, reason });
    }

    /// Attempts ended through their worker's fault, once for all of them. Returns how many tasks went back.
    fn fault(&mut self, worker: Worker, ended: &[AttemptRef]) -> u32 {
        ended.iter().for_each(|attempt| {
            self.end_attempt(*attempt, State::Ended);
        });
        if let Some(member) = self.members.get_mut(&worker) {
            member.faults += u32::from(!ended.is_empty());
            member.lost += ended.len() as u32;
        }
        self.give_back(ended.iter().map(|attempt| attempt.task).collect())
    }

    /// Puts the tasks that nobody works on any more to the front of the queue, lowest first.
    fn give_back(&mut self, mut tasks: Vec<u32>) -> u32 {
        tasks.sort_unstable_by(|a, b| b.cmp(a));
        let mut back = 0;
        for index in tasks {
            let Some(task) = self.tasks.get(index as usize) else { continue };
            if task.output.is_some() || task.running().next().is_some() {
                continue;
            }
            let spent = task.attempts.len();
            let hopeless = task.remote_tries() >= REMOTE_ATTEMPTS && task.tries_by(Worker::Local) >= LOCAL_ATTEMPTS;
            self.returned.push_front(index);
            back += 1;
            if hopeless && self.config.on_loss != OnLoss::Partial {
                self.fail_with_last(format!("task {index} was lost or failed {spent} times"));
                break;
            }
        }
        back
    }

    /// Ends a running attempt and frees its worker's place.
    fn end_attempt(&mut self, which: AttemptRef, state: State) -> Option<Worker> {
        let attempt = attempt_mut(&mut self.tasks, which)?;
        attempt.state = state;
        let worker = attempt.worker;
        if let Some(member) = self.members.get_mut(&worker) {
            member.held.retain(|held| *held != which);
        }
        Some(worker)
    }

    /// Nothing runs: either someone comes soon, or the job ends with what there is.
    fn check_stuck(&mut self) {
        if self.members.values().any(|member| !member.held.is_empty()) {
            self.stuck_since = None;
            return;
        }
        let since = *self.stuck_since.get_or_insert(self.now);
        let partial = self.config.on_loss == OnLoss::Partial;
        let nobody_may = || {
            !self
                .returned
                .iter()
                .any(|task| self.members.values().any(|m| m.usable() && self.may_take(*task, m.worker)))
        };
        if partial && self.fresh == self.config.tasks && nobody_may() {
            return self.end_partial();
        }
        if self.now < since + STALL {
            return;
        }
        if partial {
            self.end_partial();
        } else {
            let left = self.config.tasks - self.done;
            self.fail_with_last(format!("no device is left for {left} of {} tasks", self.config.tasks));
        }
    }

    fn end_partial(&mut self) {
        let missing =
            (0..).zip(&self.tasks).filter(|(_, task)| task.output.is_none()).map(|(index, _)| index).collect();
        self.end(Output::Partial { missing });
    }

    fn fail_with_last(&mut self, what: String) {
        let refusal = match &self.last_failure {
            Some(last) => {
                Refusal::new(last.code, format!("{what}; the last failure was {}: {}", last.code, last.reason))
            }
            None => Refusal::new(RefusalCode::Other, what),
        };
        self.fail(refusal);
    }

    fn fail(&mut self, refusal: Refusal) {
        self.end(Output::Failed { refusal });
    }

    fn end(&mut self, last: Output) {
        self.stop();
        self.outputs.push_back(last);
    }

    fn stop(&mut self) {
        self.over = true;
        let running: Vec<AttemptRef> = self.members.values().flat_map(|member| member.held.iter().copied()).collect();
        for attempt in running {
            if let Some(worker) = self.end_attempt(attempt, State::Stopped) {
                self.outputs.push_back(Output::Cancel { worker, attempt });
            }
        }
    }

    // ---- Small things ----------------------------------------------------------------------------------------------

    /// Any word from a worker shows that it is there.
    fn hear(&mut self, worker: Worker) {
        if let Some(member) = self.members.get_mut(&worker) {
            member.heard = self.now;
            if member.presence == Presence::Silent {
                member.presence = Presence::Ready;
            }
        }
    }

    /// When this running attempt of this worker started; otherwise the answer to it is dropped.
    fn running_since(&mut self, worker: Worker, which: AttemptRef) -> Option<Duration> {
        let why = match attempt(&self.tasks, which).filter(|attempt| attempt.worker == worker) {
            Some(attempt) => match attempt.state {
                State::Running => return Some(attempt.started),
                State::Accepted | State::Overtaken => RefusalCode::Duplicate,
                State::Ended | State::Stopped => RefusalCode::StaleLease,
            },
            None => RefusalCode::BadMessage,
        };
        self.outputs.push_back(Output::Dropped { attempt: which, worker, why });
        None
    }

    fn running_attempts(&self, task: u32) -> Vec<AttemptRef> {
        let attempts = self.tasks.get(task as usize).map_or(&[][..], |task| &task.attempts);
        let running = (0..).zip(attempts).filter(|(_, attempt)| attempt.state == State::Running);
        running.map(|(attempt, _)| AttemptRef { task, attempt }).collect()
    }

    fn busy_pause(&mut self, worker: Worker) -> Duration {
        let faults = self.members.get(&worker).map_or(0, |member| member.faults).min(WORKER_FAULTS);
        let base = BUSY_PAUSE * (1 << faults);
        base / 2 + base.mul_f64(self.random())
    }

    /// A number in 0..1 (splitmix64).
    fn random(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A worker that refuses for this reason will refuse the next task as well.
fn lasts(code: RefusalCode) -> bool {
    use RefusalCode::*;
    matches!(
        code,
        UnknownPackage | UntrustedMarket | StaleMarket | Revoked | BadPackage | Constraint | NotLending | Denied
    )
}

fn attempt(tasks: &[Task], which: AttemptRef) -> Option<&task::Attempt> {
    tasks.get(which.task as usize)?.attempts.get(which.attempt as usize)
}

fn attempt_mut(tasks: &mut [Task], which: AttemptRef) -> Option<&mut task::Attempt> {
    tasks.get_mut(which.task as usize)?.attempts.get_mut(which.attempt as usize)
}
