//! Watches a job from outside: what goes in and comes out must keep the promises, at every step.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use msm_protocol::{
    Refusal, RefusalCode,
    job::AttemptRef,
    limits::{CREDIT, LEASE_MIN, REMOTE_ATTEMPTS},
};
use msm_scheduler::{
    Input, JobConfig, JobState, OnLoss, Output, Worker,
    job::{ATTEMPT_MAX, ATTEMPTS_PER_TASK, LEASE_MAX, LOCAL_ATTEMPTS, REMOTE_ATTEMPTS_ALONE},
};

#[derive(Default)]
struct Seen {
    connected: bool,
    credit: u32,
    accepted: u32,
    heard: Duration,
    /// Its last word was that it is busy, or it leaves: the job may pass it over for a while.
    declined: bool,
}

pub struct Checker {
    config: JobConfig,
    running: HashMap<AttemptRef, (Worker, Duration)>,
    /// By task: the worker of each attempt.
    history: Vec<Vec<Worker>>,
    accepted: BTreeSet<u32>,
    workers: BTreeMap<Worker, Seen>,
    pub reruns: u32,
    pub end: Option<Output>,
    cancelled: bool,
    failure: Option<Refusal>,
    /// Time in which nobody called the job: leases do not end for it.
    pub asleep: Duration,
}

macro_rules! ensure {
    ($condition:expr, $($text:tt)*) => {
        if !$condition {
            return Err(format!($($text)*));
        }
    };
}

impl Checker {
    pub fn new(config: JobConfig) -> Self {
        Self {
            running: HashMap::new(),
            history: vec![vec![]; config.tasks as usize],
            accepted: BTreeSet::new(),
            workers: BTreeMap::new(),
            reruns: 0,
            end: None,
            cancelled: false,
            failure: None,
            asleep: Duration::ZERO,
            config,
        }
    }

    /// Before the job takes `input` in.
    pub fn input(&mut self, input: &Input, now: Duration) {
        let seen = |workers: &mut BTreeMap<Worker, Seen>, worker: &Worker, declined: bool| {
            let seen = workers.entry(*worker).or_default();
            seen.heard = now;
            seen.declined = declined;
        };
        match input {
            Input::WorkerReady { worker, credit, .. } => {
                seen(&mut self.workers, worker, false);
                let cap = if *worker == Worker::Local { u32::MAX } else { self.config.credit };
                let entry = self.workers.entry(*worker).or_default();
                (entry.connected, entry.credit) = (true, *credit.min(&cap));
            }
            Input::WorkerLost { worker, .. } => {
                self.workers.entry(*worker).or_default().connected = false;
            }
            Input::Heartbeat { worker, .. } => self.workers.entry(*worker).or_default().heard = now,
            Input::Result { worker, .. } => seen(&mut self.workers, worker, false),
            Input::Failed { worker, attempt, refusal } => {
                seen(&mut self.workers, worker, true);
                if self.running.get(attempt).is_some_and(|(holder, _)| holder == worker) {
                    self.running.remove(attempt);
                    self.failure = Some(refusal.clone());
                }
            }
            Input::Tick | Input::Link { .. } | Input::Restored { .. } | Input::Struck { .. } => {}
            Input::Cancel => self.cancelled = true,
        }
    }

    /// After the job took it in: its outputs in order, and its state.
    pub fn outputs(&mut self, input: &Input, outputs: &[Output], job: &JobState, now: Duration) -> Result<(), String> {
        for output in outputs {
            self.output(input, output, job, now)?;
        }
        let progress = job.progress();
        ensure!(
            progress.done as usize == self.accepted.len(),
            "{} done, {} counted",
            progress.done,
            self.accepted.len()
        );
        ensure!(progress.running as usize == self.running.len(), "{} run, {:?}", progress.running, self.running);
        ensure!(progress.reruns == self.reruns, "{} reruns, {} counted", progress.reruns, self.reruns);
        ensure!(progress.over == (self.end.is_some() || self.cancelled), "over is {}", progress.over);
        ensure!(!progress.over || self.running.is_empty(), "attempts outlive the job: {:?}", self.running);
        for (attempt, (worker, started)) in &self.running {
            if *worker != Worker::Local {
                let quiet = now.saturating_sub(self.workers[worker].heard.max(*started));
                let longest = LEASE_MAX.max(self.config.lease).max(LEASE_MIN) + self.asleep;
                ensure!(quiet <= longest, "{attempt:?} runs though {worker} said nothing for {quiet:?}");
                ensure!(now - *started <= ATTEMPT_MAX + self.asleep, "{attempt:?} runs for {:?}", now - *started);
            }
        }
        for (worker, seen) in &self.workers {
            let held = self.running.values().filter(|(holder, _)| holder == worker).count() as u32;
            let proven = *worker == Worker::Local || seen.accepted > 0;
            let credit = if proven { seen.credit } else { seen.credit.min(CREDIT) };
            ensure!(held <= credit, "{worker} holds {held} with a credit of {credit}");
        }
        match job.next_timeout() {
            Some(next) => ensure!(next > now, "asks to be called at {next:?}, which is now"),
            None => ensure!(
                progress.over || self.running.values().any(|(worker, _)| *worker == Worker::Local),
                "waits for nothing"
            ),
        }
        Ok(())
    }

    fn output(&mut self, input: &Input, output: &Output, job: &JobState, now: Duration) -> Result<(), String> {
        let after_end = matches!(output, Output::Dropped { .. });
        ensure!(after_end || self.end.is_none(), "{output:?} after the end");
        match output {
            Output::Start { worker, attempt, .. } => self.start(*worker, *attempt, job, now)?,
            Output::Cancel { worker, attempt } => {
                let holder = self.running.remove(attempt).map(|(holder, _)| holder);
                ensure!(holder == Some(*worker), "cancels {attempt:?}, which {worker} does not run");
            }
            Output::Accepted { attempt, worker } => {
                let holder = self.running.remove(attempt).map(|(holder, _)| holder);
                ensure!(holder == Some(*worker), "accepts {attempt:?}, which {worker} does not run");
                ensure!(self.accepted.insert(attempt.task), "task {} counted twice", attempt.task);
                let right = matches!(input, Input::Result { worker: w, attempt: a, output }
                    if w == worker && a == attempt && job.output_of(a.task) == Some(*output));
                ensure!(right, "{attempt:?} accepted without its result");
                self.workers.entry(*worker).or_default().accepted += 1;
            }
            Output::Dropped { attempt, worker, why } => {
                ensure!(
                    self.running.get(attempt).is_none_or(|(holder, _)| holder != worker),
                    "{attempt:?} runs, its answer is dropped"
                );
                let given = self.history.get(attempt.task as usize).and_then(|by| by.get(attempt.attempt as usize));
                let foreign = given != Some(worker);
                ensure!(foreign == (*why == RefusalCode::BadMessage), "{attempt:?} of {worker} dropped as {why}");
                let counted = self.accepted.contains(&attempt.task);
                ensure!(*why != RefusalCode::Duplicate || counted, "{attempt:?} is no duplicate: no output is there");
            }
            Output::Lost { worker, tasks_back, .. } => {
                let before = self.running.len();
                self.running.retain(|_, (holder, _)| holder != worker);
                // By silence, its attempts were cancelled just before.
                let held = (before - self.running.len()) as u32;
                ensure!(held == 0 || *tasks_back <= held, "{tasks_back} tasks back of {held}");
            }
            Output::Kept { .. } | Output::Withdrawn { .. } | Output::Checked { .. } | Output::Struck { .. } => {
                return Err(format!("{output:?} in a job without checks"));
            }
            Output::Done => {
                ensure!(self.accepted.len() == self.config.tasks as usize, "done with {} tasks", self.accepted.len());
                self.end = Some(output.clone());
            }
            Output::Failed { refusal } => {
                let deterministic = self.failure.as_ref().is_some_and(|failure| failure == refusal);
                let spent = refusal.reason.starts_with("task ") || refusal.reason.starts_with("no device is left");
                ensure!(deterministic || spent, "failed for no reason: {refusal}");
                self.end = Some(output.clone());
            }
            Output::Partial { missing } => {
                ensure!(self.config.on_loss == OnLoss::Partial, "a partial result was not allowed");
                let without: Vec<u32> = (0..self.config.tasks).filter(|task| !self.accepted.contains(task)).collect();
                ensure!(*missing == without && !missing.is_empty(), "missing {missing:?}, really {without:?}");
                self.end = Some(output.clone());
            }
        }
        Ok(())
    }

    fn start(&mut self, worker: Worker, attempt: AttemptRef, job: &JobState, now: Duration) -> Result<(), String> {
        let task = attempt.task;
        ensure!(self.workers.get(&worker).is_some_and(|seen| seen.connected), "{worker} is not there");
        ensure!(!self.accepted.contains(&task), "task {task} is done");
        let history = &self.history[task as usize];
        ensure!(attempt.attempt as usize == history.len(), "{attempt:?} after {} attempts", history.len());
        ensure!(history.len() < ATTEMPTS_PER_TASK as usize, "{attempt:?} is one too many");
        let local = history.iter().filter(|by| **by == Worker::Local).count() as u32;
        let remote = history.len() as u32 - local;
        ensure!(worker != Worker::Local || local < LOCAL_ATTEMPTS, "{attempt:?} is one too many here");
        let bound = if self.local_may(local, job) { REMOTE_ATTEMPTS } else { REMOTE_ATTEMPTS_ALONE };
        ensure!(worker == Worker::Local || remote < bound, "{attempt:?} is one too many elsewhere");
        let beside: Vec<Worker> = self.running.iter().filter(|(a, _)| a.task == task).map(|(_, (by, _))| *by).collect();
        ensure!(!beside.contains(&worker), "{worker} runs task {task} twice at a time");
        ensure!(
            beside.iter().filter(|by| **by != Worker::Local).count() < 2 || worker == Worker::Local,
            "a third remote"
        );
        if beside.is_empty() && !history.is_empty() {
            self.reruns += 1;
            let lossy = worker == Worker::Local && self.config.on_loss == OnLoss::Partial;
            ensure!(!lossy, "a lost task runs here");
            if history.last() == Some(&worker) {
                self.no_alternative(worker, task, local, remote, job)?;
            }
        } else if history.last() == Some(&worker) {
            return Err(format!("{worker} twice in a row beside {beside:?}"));
        }
        self.history[task as usize].push(worker);
        self.running.insert(attempt, (worker, now));
        Ok(())
    }

    /// This device, or its refusal, stands behind the remote workers.
    fn local_may(&self, local: u32, job: &JobState) -> bool {
        let there = job.progress().workers.iter().any(|w| w.ready && w.worker == Worker::Local);
        there || local >= LOCAL_ATTEMPTS || self.config.on_loss == OnLoss::Partial
    }

    /// The same worker twice in a row is right only when nobody else could take the task now.
    fn no_alternative(&self, worker: Worker, task: u32, local: u32, remote: u32, job: &JobState) -> Result<(), String> {
        let ready: BTreeSet<Worker> = job.progress().workers.iter().filter(|w| w.ready).map(|w| w.worker).collect();
        let local_may = local < LOCAL_ATTEMPTS && self.config.on_loss != OnLoss::Partial;
        let home_only =
            self.config.on_loss == OnLoss::Local && ready.contains(&Worker::Local) && local < LOCAL_ATTEMPTS;
        let bound = if self.local_may(local, job) { REMOTE_ATTEMPTS } else { REMOTE_ATTEMPTS_ALONE };
        for (other, seen) in &self.workers {
            let held = self.running.values().filter(|(holder, _)| holder == other).count() as u32;
            let free = ready.contains(other) && seen.connected && !seen.declined && held < seen.credit.min(CREDIT);
            let may = match other {
                Worker::Local => local_may,
                Worker::Remote(_) => remote < bound && !home_only,
            };
            ensure!(*other == worker || !free || !may, "{worker} again for task {task} though {other} is free");
        }
        Ok(())
    }
}
