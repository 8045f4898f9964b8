//! One running job: which worker gets which task, and what happens when an attempt or a worker fails.
//!
//! The driver calls [`JobState::handle`] with what happened and when, then carries out everything that
//! [`JobState::poll_output`] returns, and calls `handle(Input::Tick, now)` at [`JobState::next_timeout`]. The clock is the
//! time since some fixed moment (the job's start) and must not run backwards; the same inputs at the same times give the
//! same outputs.
//!
//! - **Pull with credit.** A worker holds what keeps it busy and no more; finishing one task makes room for the next, so
//!   a fast worker takes more. Of tasks of different size it gets one that fits its share of what is left. The local
//!   worker pulls like the others.
//! - **Leases.** A remote attempt counts as lost when its lease ends; heartbeats renew it. The driver also reports every
//!   piece of an input written or of an output read as a heartbeat of that attempt, so that a slow link is not taken for
//!   a dead worker. The local worker has no lease: the sandbox's deadline ends its attempts.
//! - **Loss.** A lost task goes to the front of the queue and on to another worker, then to this device
//!   ([`OnLoss`] says otherwise). Attempts per task are bounded, so a job always ends.
//! - **Stragglers.** When nothing is left to hand out, an idle worker makes a second attempt at what is late, or at what
//!   it would have done well before whoever holds it; the first good answer wins.
//! - **Checks and votes.** Results of other devices are compared with each other or with this device's, as
//!   [`Redundancy`] says. A liar gets nothing more and what nobody else has confirmed of it is done again. What a worker
//!   had not signed for when it left is no vote, and is checked. The job is over when its checks are decided too.
//! - **Failures of the guest** end the job with its message when this device or a second one says so too.
//! - **Late and double answers** are dropped: an output counts only while its attempt runs.

mod bounds;
mod config;
mod event;
mod progress;

mod dispatch;
mod fresh;
mod hedge;
mod judge;
mod lease;
mod member;
mod pace;
mod task;
mod times;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
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
pub use judge::UNDECIDED;
pub use progress::{Progress, WorkerProgress};

use fresh::Fresh;
use judge::Lie;
use member::{Member, Presence};
use task::{Accepted, State, Task};
use times::Times;

/// No task weighs more: sums of weights stay far from overflow.
const WEIGHT_MAX: u64 = 1 << 40;

/// The state of one job. See the module's description.
#[derive(Debug, Clone)]
pub struct JobState {
    config: JobConfig,
    /// The driver's clock without [`Self::asleep`].
    now: Duration,
    asleep: Duration,
    /// When the driver is to come although nothing ends: later means that this device slept.
    watch: Duration,
    tasks: Vec<Task>,
    members: BTreeMap<Worker, Member>,
    /// Tasks that nobody works on and nobody has answered.
    fresh: Fresh,
    /// Those of them that came back; they go before the others.
    returned: VecDeque<u32>,
    /// Tasks without an output that want more answers than run.
    votes: BTreeSet<u32>,
    /// Tasks with an output that is to be checked.
    checks: BTreeSet<u32>,
    /// Those of both that cannot wait: answers differ, or a newcomer gave them.
    urgent: BTreeSet<u32>,
    open_checks: u32,
    lies: Vec<Lie>,
    /// Devices that may still join.
    expected: u32,
    running: u32,
    done: u32,
    reruns: u32,
    hedges: u32,
    hedges_won: u32,
    checks_started: u32,
    checked: u32,
    unchecked: u32,
    unsigned: u32,
    withdrawn: u32,
    times: Times,
    /// No lease ends before this.
    lease_floor: Duration,
    /// When a fresh task that was left for a faster worker is thought about again.
    look_again: Option<Duration>,
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
        let weights = std::mem::take(&mut config.weights).into_iter().map(|weight| weight.clamp(1, WEIGHT_MAX));
        let weights = weights.chain(std::iter::repeat(1)).take(config.tasks as usize);
        let tasks: Vec<Task> = weights.map(|weight| Task { weight, ..Task::default() }).collect();
        let mut fresh = Fresh::default();
        (0..).zip(&tasks).for_each(|(index, task)| fresh.insert(index, task.weight));
        let mut job = Self {
            now,
            asleep: Duration::ZERO,
            watch: Duration::MAX,
            tasks,
            members: BTreeMap::new(),
            fresh,
            returned: VecDeque::new(),
            votes: BTreeSet::new(),
            checks: BTreeSet::new(),
            urgent: BTreeSet::new(),
            open_checks: 0,
            lies: Vec::new(),
            expected: 0,
            running: 0,
            done: 0,
            reruns: 0,
            hedges: 0,
            hedges_won: 0,
            checks_started: 0,
            checked: 0,
            unchecked: 0,
            unsigned: 0,
            withdrawn: 0,
            times: Times::default(),
            lease_floor: Duration::MAX,
            look_again: None,
            stuck_since: Some(now),
            last_failure: None,
            over: false,
            random: config.seed,
            outputs: VecDeque::new(),
            config,
        };
        let bad = |reason| Refusal::new(RefusalCode::BadInput, reason);
        match job.config.redundancy {
            Redundancy::Agree { agree, of } if agree < 2 || of < agree || of > VOTES_MAX => {
                job.fail(bad(format!("redundancy {agree}/{of}: it must be 2 <= K <= N <= {VOTES_MAX}")));
            }
            _ if asked > TASKS_PER_JOB as u32 => job.fail(bad(format!("{asked} tasks > {TASKS_PER_JOB} per job"))),
            _ => {
                job.finish();
            }
        }
        job
    }

    /// Takes in what happened at `now`. Drain [`Self::poll_output`] after each call.
    pub fn handle(&mut self, input: Input, now: Duration) {
        self.wake(now);
        match input {
            Input::WorkerReady { worker, credit, trust } => self.worker_ready(worker, credit, trust),
            Input::Link { worker, rtt, slots } => self.link(worker, rtt, slots),
            Input::Expected { workers } => self.expected = workers,
            Input::Restored { task, output, worker } => self.restored(task, output, worker),
            Input::Struck { worker, reason } => self.struck(worker, reason),
            Input::Unsigned { worker, claims } => self.unsigned(worker, &claims),
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
        if !self.over && !self.finish() {
            self.dispatch();
            if self.running == 0 {
                self.forget_overtaken();
                self.dispatch();
            }
            self.check_stuck();
        }
        self.watch = if self.running > 0 { self.now + WATCH } else { Duration::MAX };
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
        let lease = (self.lease_floor < Duration::MAX).then_some(self.lease_floor);
        let watch = (self.watch < Duration::MAX).then_some(self.watch);
        let others = [stuck, lease, watch, self.look_again, self.next_hedge()].into_iter().flatten();
        let next = pauses.chain(others).min();
        next.map(|next| next + self.asleep)
    }

    /// How far the job is.
    pub fn progress(&self) -> Progress {
        let workers = self.members.values().map(|member| WorkerProgress {
            worker: member.worker,
            done: member.done,
            running: member.held().len() as u32,
            lost: member.lost,
            ready: member.usable(),
            mean: member.mean,
            rate: member.pace.rate(),
            checked: member.checked,
            struck: member.trust.struck,
        });
        Progress {
            tasks: self.config.tasks,
            done: self.done,
            running: self.running,
            reruns: self.reruns,
            hedges: self.hedges,
            hedges_won: self.hedges_won,
            checks: self.checks_started,
            checked: self.checked,
            unchecked: self.unchecked,
            unsigned: self.unsigned,
            withdrawn: self.withdrawn,
            over: self.over,
            workers: workers.collect(),
        }
    }

    /// The accepted output of a task.
    pub fn output_of(&self, task: u32) -> Option<OutputId> {
        Some(self.tasks.get(task as usize)?.accepted?.output)
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
        if worker == Worker::Local {
            member.slots = member.credit;
        } else {
            // What this job has seen itself is newer.
            member.trust.in_a_row = member.trust.in_a_row.max(trust.in_a_row);
            member.trust.left = member.trust.left.max(trust.left);
            if trust.struck {
                self.struck(worker, "it lied before".into());
            } else if member.trust.struck {
                member.presence = Presence::Gone;
            }
        }
    }

    fn link(&mut self, worker: Worker, rtt: Duration, slots: u32) {
        if let Some(member) = self.members.get_mut(&worker).filter(|member| member.worker != Worker::Local) {
            member.link(rtt, slots.clamp(1, SLOTS_BELIEVED));
        }
    }

    fn restored(&mut self, index: u32, output: OutputId, worker: Worker) {
        let Some(task) = self.tasks.get_mut(index as usize) else { return };
        if task.attempts.is_empty() && task.accepted.is_none() && !self.over {
            task.accepted = Some(Accepted { worker, attempt: None, output });
            self.fresh.remove(index, task.weight);
            self.done += 1;
        }
    }

    fn worker_lost(&mut self, worker: Worker, reason: String) {
        let Some(member) = self.members.get_mut(&worker) else { return };
        let was = std::mem::replace(&mut member.presence, Presence::Gone);
        if was == Presence::Ready && !self.over {
            let held = member.attempts();
            self.forget_overtaken();
            self.lose(worker, &held, reason);
        }
    }

    fn forget_overtaken(&mut self) {
        self.members.values_mut().for_each(Member::forget_overtaken);
    }

    fn result(&mut self, worker: Worker, attempt: AttemptRef, output: OutputId) {
        self.hear(worker);
        let Some(started) = self.running_since(worker, attempt) else { return };
        let weight = self.tasks.get(attempt.task as usize).map_or(1, |task| task.weight);
        let held = self.members.get(&worker).map_or(0, |member| member.held().len());
        self.end_attempt(attempt, State::Answered);
        if let Some(member) = self.members.get_mut(&worker) {
            member.result(started, self.now, weight, held);
        }
        self.times.push(self.now.saturating_sub(started).as_secs_f64() / weight as f64);
        self.answer(worker, attempt, output);
    }

    fn failed(&mut self, worker: Worker, attempt: AttemptRef, refusal: Refusal) {
        self.hear(worker);
        if self.running_since(worker, attempt).is_none() {
            return;
        }
        self.end_attempt(attempt, State::Ended);
        if refusal.code.is_deterministic() && self.guest_fails(worker, attempt.task) {
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

    /// Whether the guest's failure is believed: this device says so, or as many others as have to agree, or nobody is
    /// left who could say anything else.
    fn guest_fails(&mut self, worker: Worker, index: u32) -> bool {
        let Some(task) = self.tasks.get_mut(index as usize) else { return false };
        if !task.claims.contains(&worker) {
            task.claims.push(worker);
        }
        let needed = match self.config.redundancy {
            Redundancy::Agree { agree, .. } => agree as usize,
            _ => 2,
        };
        if worker == Worker::Local || task.claims.len() >= needed {
            return true;
        }
        let Some(task) = self.tasks.get(index as usize) else { return false };
        let other = |m: &Member| m.usable() && !task.claims.contains(&m.worker) && self.may_take(index, m.worker);
        self.expected == 0 && task.accepted.is_none() && !self.members.values().any(other)
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

    /// Puts the tasks that nobody works on any more to the front of the queue, lowest first. What was withdrawn and any
    /// worker may do goes back among the fresh ones: it can be most of a job.
    fn give_back(&mut self, mut tasks: Vec<u32>) -> u32 {
        tasks.sort_unstable_by(|a, b| b.cmp(a));
        let mut back = 0;
        for index in tasks {
            self.requeue(index);
            let Some(task) = self.tasks.get(index as usize) else { continue };
            if task.accepted.is_some() || !task.answers.is_empty() || task.running().next().is_some() {
                continue;
            }
            let (spent, remote) = (task.attempts.len(), REMOTE_ATTEMPTS + self.votes_beside());
            let (here, elsewhere) = (task.local_tries() < LOCAL_ATTEMPTS, task.remote_tries() < remote);
            let hopeless = !here && !elsewhere;
            let anybody = self.config.on_loss == OnLoss::Remote && here && elsewhere;
            // What was done before a restart and withdrawn after it was never lost.
            if task.attempts.is_empty() || task.void_of.is_some() && anybody {
                self.fresh.insert(index, task.weight);
            } else {
                self.returned.push_front(index);
            }
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
        let attempt = attempt_mut(&mut self.tasks, which).filter(|attempt| attempt.state == State::Running)?;
        attempt.state = state;
        self.running -= 1;
        let worker = attempt.worker;
        if let Some(member) = self.members.get_mut(&worker) {
            member.give_up(which);
        }
        Some(worker)
    }

    /// Nothing runs: either someone comes soon, or the job ends with what there is.
    fn check_stuck(&mut self) {
        if self.over || self.running > 0 {
            self.stuck_since = None;
            return;
        }
        let since = *self.stuck_since.get_or_insert(self.now);
        let stalled = self.now >= since + STALL;
        if stalled || self.expected == 0 {
            self.waive_checks();
            if self.over || self.finish() {
                return;
            }
        }
        let partial = self.config.on_loss == OnLoss::Partial;
        if partial && (stalled || (self.fresh.is_empty() && !self.someone_may())) {
            self.end_partial();
        } else if stalled && let Some(task) = self.first_doubt() {
            self.fail(self.doubt(task));
        } else if stalled {
            let left = self.config.tasks - self.done;
            self.fail_with_last(format!("no device is left for {left} of {} tasks", self.config.tasks));
        }
    }

    /// A worker that is there could do something, now or after a pause.
    fn someone_may(&self) -> bool {
        let judged = || self.urgent.iter().chain(&self.votes).chain(&self.checks);
        self.members.values().filter(|member| member.usable()).any(|member| {
            self.returned.iter().any(|task| self.may_take(*task, member.worker))
                || judged().any(|task| self.may_judge(*task, member.worker))
        })
    }

    fn end_partial(&mut self) {
        for index in std::mem::take(&mut self.urgent) {
            let doubtful = self.tasks.get(index as usize).filter(|task| task.disputed());
            if let Some(accepted) = doubtful.and_then(|task| task.accepted) {
                self.withdraw(index, accepted);
            }
        }
        let missing =
            (0..).zip(&self.tasks).filter(|(_, task)| task.accepted.is_none()).map(|(index, _)| index).collect();
        self.end(Output::Partial { missing });
    }

    /// Ends the job if nothing is left to do.
    fn finish(&mut self) -> bool {
        let done = !self.over && self.done == self.config.tasks && self.open_checks == 0;
        if done {
            self.end(Output::Done);
        }
        done
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
        let running: Vec<AttemptRef> = self.members.values().flat_map(Member::attempts).collect();
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
                State::Answered | State::Overtaken => RefusalCode::Duplicate,
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
