//! Watches a job from outside: what goes in and comes out must keep the promises, at every step.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use msm_protocol::{
    ContentHash, Refusal, RefusalCode,
    job::AttemptRef,
    limits::{CREDIT, HEARTBEAT, LEASE_MIN, REMOTE_ATTEMPTS},
};
use msm_scheduler::{
    Input, JobConfig, JobState, OnLoss, Output, OutputId, Progress, Redundancy, Why, Worker,
    job::{
        ATTEMPT_MAX, ATTEMPTS_PER_TASK, CREDIT_MAX, LEASE_MAX, LOCAL_ATTEMPTS, OVERSLEPT, REMOTE_ATTEMPTS_ALONE, STALL,
        VOTES_MAX, VOTES_WAITING,
    },
    trust::CHECK_FIRST,
};

/// A task that nobody works on waits no longer than this while somebody who may take it does nothing.
/// Where everything waits for a second voter, the job gives up after `STALL`; nothing waits longer.
const STARVES: Duration = Duration::from_secs(STALL.as_secs() + 1);

/// What a job promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// The output of a task is that of this device alone, wherever that can be promised: without liars always, by votes
    /// while fewer than `agree` liars tell the same lie, with spot checks for every task that was checked and for all of
    /// a liar that was caught.
    OutputIsLocal,
    /// One accepted output for each task, and another only after that was withdrawn.
    CountedOnce,
    /// A job is done when every task has an output; a partial one names exactly those that have none.
    NothingLost,
    /// A worker holds no more attempts than its credit, nor than the job's, and only while it is there.
    WithinCredit,
    /// An attempt of a silent worker ends with its lease; none runs for ever.
    LeasesEnd,
    /// What is accepted is what the worker said that held the attempt.
    HoldersOnly,
    /// Attempts of a task are numbered and bounded, and so are those beside each other.
    Bounded,
    /// A lost task does not go back to the same worker while another one is free to take it.
    Rotates,
    /// Nobody who could take a task idles for long while it waits.
    NoStarvation,
    /// A liar that was found out gets nothing more, and nothing stays of it but what others confirmed.
    StruckIsOut,
    /// What its worker never signed for before it left is confirmed by another, or told as not checked.
    NobodysWord,
    /// Nobody is struck who did not lie.
    OnlyLiarsStruck,
    /// An agreement is one, a check is made by another worker, votes are as many as were asked for.
    ChecksCount,
    /// It ends, within a bound.
    EndsInTime,
    /// It ends as it should, and fails only for a reason.
    RightEnd,
    /// What it says of itself is true.
    Counts,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    pub promise: Promise,
    pub what: String,
}

macro_rules! ensure {
    ($promise:ident, $condition:expr, $($text:tt)*) => {
        if !$condition {
            return Err(Broken { promise: Promise::$promise, what: format!($($text)*) });
        }
    };
}

#[derive(Debug, Default)]
struct Seen {
    connected: bool,
    credit: u32,
    heard: Duration,
    /// Failures and losses since its last good answer: the job may pass it over.
    faults: u32,
    /// It said that it takes nothing more.
    left: bool,
    struck: bool,
    /// It was right for long before this job.
    known: bool,
    /// Answers of this life that another worker confirmed.
    confirmed: u32,
    /// Attempts that others were done with before it was.
    overtaken: u32,
}

#[derive(Debug, Default)]
struct TaskSeen {
    /// The worker of each attempt of this life.
    history: Vec<Worker>,
    accepted: Option<(Worker, OutputId)>,
    restored: bool,
    /// Another worker computed the accepted output too.
    confirmed: bool,
    /// Outputs heard from those who held an attempt.
    answers: Vec<(Worker, u32, OutputId)>,
    kept: BTreeSet<u32>,
    /// Attempts whose answers count no more.
    void: BTreeSet<u32>,
    /// Attempts that ended because another was first.
    overtaken: BTreeSet<u32>,
    /// The accepted output is one that nobody stands for.
    unsigned: bool,
}

impl TaskSeen {
    /// Attempts that brought no answer, or none yet, or one that is not believed: here, and elsewhere.
    fn in_vain(&self, workers: &BTreeMap<Worker, Seen>) -> (u32, u32) {
        let believed = |worker: &Worker| workers.get(worker).is_none_or(|seen| !seen.struck);
        let said = |number| self.answers.iter().any(|(by, attempt, _)| *attempt == number && believed(by));
        let answered = |number| said(number) && !self.void.contains(&number);
        // That a liar was first is no failure of this device.
        let forgives = self.history.len() < (ATTEMPTS_PER_TASK - LOCAL_ATTEMPTS) as usize;
        let forgiven = |by: &Worker, number| forgives && *by == Worker::Local && self.overtaken.contains(&number);
        let vain = (0..).zip(&self.history).filter(|(number, by)| !answered(*number) && !forgiven(by, *number));
        vain.fold((0, 0), |(here, elsewhere), (_, by)| match by {
            Worker::Local => (here + 1, elsewhere),
            Worker::Remote(_) => (here, elsewhere + 1),
        })
    }

    /// A worker has left and never signed for what it said here.
    fn unsigned(&mut self, worker: Worker, claimed: ContentHash) {
        match self.accepted.filter(|(by, output)| *by == worker && output.hash == claimed) {
            Some(_) => self.unsigned |= !self.confirmed && !self.restored,
            None => {
                let votes = self.answers.iter().filter(|(by, number, output)| {
                    *by == worker && output.hash == claimed && self.kept.contains(number)
                });
                self.void.extend(votes.map(|(_, number, _)| *number));
            }
        }
    }

    /// The output of the task is gone.
    fn withdrawn(&mut self) -> Option<Worker> {
        let (by, _) = self.accepted.take()?;
        let theirs = self.answers.iter().filter(|(worker, ..)| *worker == by);
        self.void.extend(theirs.map(|(_, number, _)| *number));
        (self.restored, self.confirmed, self.unsigned) = (false, false, false);
        Some(by)
    }

    fn has_spoken(&self, worker: Worker) -> bool {
        let restored = self.restored && self.accepted.is_some_and(|(by, _)| by == worker);
        restored || self.answers.iter().any(|(by, number, _)| *by == worker && !self.void.contains(number))
    }

    fn answer_of(&self, worker: Worker) -> Option<OutputId> {
        let restored = self.accepted.filter(|(by, _)| self.restored && *by == worker).map(|(_, output)| output);
        self.answers.iter().rev().find(|(by, ..)| *by == worker).map(|(.., output)| *output).or(restored)
    }
}

pub struct Checker {
    config: JobConfig,
    truth: Vec<OutputId>,
    /// How many workers tell the same lies.
    plotters: u32,
    running: HashMap<AttemptRef, (Worker, Duration, Why)>,
    tasks: Vec<TaskSeen>,
    workers: BTreeMap<Worker, Seen>,
    done: u32,
    /// Since when tasks wait while somebody idles.
    waiting: BTreeMap<u32, Duration>,
    reruns: u32,
    pub end: Option<Output>,
    cancelled: bool,
    failure: Option<Refusal>,
    /// Time in which nobody called the job, and jumps of its clock: leases do not end for it.
    pub asleep: Duration,
}

/// What a job shows of itself after a step.
pub struct View<'a> {
    pub job: &'a JobState,
    pub progress: Progress,
    pub next: Option<Duration>,
}

type Kept = Result<(), Broken>;

impl Checker {
    pub fn new(config: JobConfig, truth: Vec<OutputId>, plotters: u32) -> Self {
        Self {
            running: HashMap::new(),
            tasks: (0..config.tasks).map(|_| TaskSeen::default()).collect(),
            workers: BTreeMap::new(),
            done: 0,
            waiting: BTreeMap::new(),
            reruns: 0,
            end: None,
            cancelled: false,
            failure: None,
            asleep: Duration::ZERO,
            config,
            truth,
            plotters,
        }
    }

    /// The requester's process has gone and a new one begins.
    pub fn restarted(&mut self) {
        let fresh = Self::new(self.config.clone(), std::mem::take(&mut self.truth), self.plotters);
        *self = Self { asleep: self.asleep, ..fresh };
    }

    pub fn is_over(&self) -> bool {
        self.end.is_some() || self.cancelled
    }

    /// Whether this worker was ever given this attempt.
    pub fn given(&self, worker: Worker, attempt: AttemptRef) -> bool {
        let task = self.tasks.get(attempt.task as usize);
        task.and_then(|task| task.history.get(attempt.attempt as usize)) == Some(&worker)
    }

    // ---- What goes in ----------------------------------------------------------------------------------------------

    /// Before the job takes `input` in.
    pub fn input(&mut self, input: &Input, now: Duration) {
        match input {
            Input::WorkerReady { worker, credit, trust } => {
                let cap = if *worker == Worker::Local { u32::MAX } else { self.config.credit };
                let seen = self.hear(*worker, now);
                (seen.connected, seen.credit, seen.left) = (true, *credit.min(&cap), false);
                seen.struck |= trust.struck;
                seen.known |= trust.in_a_row >= CHECK_FIRST;
            }
            Input::WorkerLost { worker, .. } => {
                let seen = self.workers.entry(*worker).or_default();
                (seen.connected, seen.faults) = (false, seen.faults + 1);
            }
            Input::Unsigned { worker, claims } if !self.is_over() && self.config.redundancy != Redundancy::None => {
                for (task, claimed) in claims {
                    self.tasks[*task as usize].unsigned(*worker, *claimed);
                }
            }
            Input::Unsigned { .. } => {}
            Input::Heartbeat { worker, .. } => drop(self.hear(*worker, now)),
            Input::Result { worker, attempt, output } => {
                let held = self.running.get(attempt).is_some_and(|(holder, ..)| holder == worker);
                let seen = self.hear(*worker, now);
                if held {
                    seen.faults = 0;
                    self.tasks[attempt.task as usize].answers.push((*worker, attempt.attempt, *output));
                }
            }
            Input::Failed { worker, attempt, refusal } => {
                let seen = self.hear(*worker, now);
                (seen.faults, seen.left) = (seen.faults + 1, seen.left || lasts(refusal.code));
                if self.running.get(attempt).is_some_and(|(holder, ..)| holder == worker) {
                    self.running.remove(attempt);
                    self.failure = Some(refusal.clone());
                }
            }
            Input::Restored { task, output, worker } => {
                let task = &mut self.tasks[*task as usize];
                self.done += u32::from(task.accepted.is_none());
                (task.accepted, task.restored) = (Some((*worker, *output)), true);
            }
            Input::Struck { worker, .. } => self.workers.entry(*worker).or_default().struck = true,
            Input::Link { .. } | Input::Expected { .. } | Input::Tick => {}
            Input::Cancel => self.cancelled = true,
        }
    }

    fn hear(&mut self, worker: Worker, now: Duration) -> &mut Seen {
        let seen = self.workers.entry(worker).or_default();
        seen.heard = now;
        seen
    }

    // ---- What comes out --------------------------------------------------------------------------------------------

    /// After the job took it in: its outputs in order, and its state.
    pub fn outputs(&mut self, input: &Input, outputs: &[Output], view: &View<'_>, now: Duration) -> Kept {
        for output in outputs {
            self.output(input, output, view, now)?;
        }
        for output in outputs {
            if let Output::Accepted { attempt, .. } = output {
                let counted = self.tasks[attempt.task as usize].accepted.map(|(_, output)| output);
                let shown = view.job.output_of(attempt.task);
                ensure!(HoldersOnly, counted == shown, "task {} is not what was accepted", attempt.task);
            }
        }
        self.counts(view, now)?;
        if self.end.is_none() && !self.cancelled {
            self.leases_end(now)?;
            self.within_credit()?;
            self.little_is_kept()?;
            self.struck_is_out()?;
            self.nobody_starves(view, now)?;
        }
        Ok(())
    }

    fn output(&mut self, input: &Input, output: &Output, view: &View<'_>, now: Duration) -> Kept {
        let after_end = matches!(output, Output::Dropped { .. });
        ensure!(RightEnd, after_end || self.end.is_none(), "{output:?} after the end");
        match output {
            Output::Start { worker, attempt, why } => self.start(*worker, *attempt, *why, view, now)?,
            Output::Cancel { worker, attempt } => {
                let holder = self.running.remove(attempt).map(|(holder, ..)| holder);
                ensure!(HoldersOnly, holder == Some(*worker), "cancels {attempt:?}, which {worker} does not run");
                let decided = matches!(input, Input::Result { attempt: of, .. } if of.task == attempt.task);
                let seen = self.workers.entry(*worker).or_default();
                // Another was first, or its lease has ended.
                if decided {
                    seen.overtaken += 1;
                    self.tasks[attempt.task as usize].overtaken.insert(attempt.attempt);
                } else {
                    seen.faults += 1;
                }
            }
            Output::Accepted { attempt, worker, output } => self.accept(input, *attempt, *worker, *output)?,
            Output::Kept { attempt, worker } => {
                let holder = self.running.remove(attempt).map(|(holder, ..)| holder);
                ensure!(HoldersOnly, holder == Some(*worker), "keeps {attempt:?}, which {worker} does not run");
                ensure!(HoldersOnly, is_result(input, *worker, *attempt), "{attempt:?} kept without its result");
                self.tasks[attempt.task as usize].kept.insert(attempt.attempt);
            }
            Output::Dropped { attempt, worker, why } => self.drop_answer(input, *attempt, *worker, *why)?,
            Output::Withdrawn { task, worker } => {
                let by = self.tasks[*task as usize].withdrawn();
                self.done -= u32::from(by.is_some());
                ensure!(CountedOnce, by == Some(*worker), "withdraws task {task} of {worker}, which is {by:?}'s");
            }
            Output::Checked { task, worker, by, agrees } => self.checked(*task, *worker, *by, *agrees)?,
            Output::Struck { worker, task, claimed, right, by } => {
                self.struck(*worker, *task, *claimed, *right, *by)?;
            }
            Output::Lost { worker, tasks_back, .. } => {
                let before = self.running.len();
                self.running.retain(|_, (holder, ..)| holder != worker);
                self.workers.entry(*worker).or_default().faults += 1;
                // By silence, its attempts were cancelled just before.
                let held = (before - self.running.len()) as u32;
                ensure!(Counts, held == 0 || *tasks_back <= held, "{tasks_back} tasks back of {held}");
            }
            Output::Done => {
                let without = self.without();
                ensure!(NothingLost, without.is_empty(), "done without the tasks {without:?}");
                self.end = Some(output.clone());
            }
            Output::Failed { refusal } => {
                let deterministic = self.failure.as_ref().is_some_and(|failure| failure == refusal);
                let doubt = if self.config.redundancy == Redundancy::None { "task " } else { "verification: task " };
                let reasons = ["task ", "no device is left", doubt];
                let spent = reasons.iter().any(|reason| refusal.reason.starts_with(reason));
                ensure!(RightEnd, deterministic || spent, "failed for no reason: {refusal}");
                self.end = Some(output.clone());
            }
            Output::Partial { missing } => {
                ensure!(RightEnd, self.config.on_loss == OnLoss::Partial, "a partial result was not allowed");
                let without = self.without();
                let right = *missing == without && !missing.is_empty();
                ensure!(NothingLost, right, "missing {missing:?}, really {without:?}");
                self.end = Some(output.clone());
            }
        }
        Ok(())
    }

    /// Tasks that have no output.
    fn without(&self) -> Vec<u32> {
        (0..).zip(&self.tasks).filter(|(_, task)| task.accepted.is_none()).map(|(index, _)| index).collect()
    }

    fn accept(&mut self, input: &Input, attempt: AttemptRef, worker: Worker, told: OutputId) -> Kept {
        let task = &mut self.tasks[attempt.task as usize];
        ensure!(CountedOnce, task.accepted.is_none(), "task {} counted twice", attempt.task);
        if !task.kept.remove(&attempt.attempt) {
            let holder = self.running.remove(&attempt).map(|(holder, ..)| holder);
            ensure!(HoldersOnly, holder == Some(worker), "accepts {attempt:?}, which {worker} does not run");
            ensure!(HoldersOnly, is_result(input, worker, attempt), "{attempt:?} accepted without its result");
        }
        let said = task.answers.iter().find(|(by, number, _)| (*by, *number) == (worker, attempt.attempt));
        ensure!(HoldersOnly, said.is_some(), "{attempt:?} accepted, of which {worker} said nothing");
        let Some((.., output)) = said.copied() else { return Ok(()) };
        ensure!(HoldersOnly, output == told, "{attempt:?} accepted as what {worker} did not say");
        task.accepted = Some((worker, output));
        self.done += 1;
        let voters: BTreeSet<Worker> = task
            .answers
            .iter()
            .filter(|(_, n, said)| *said == output && !task.void.contains(n))
            .map(|it| it.0)
            .collect();
        task.confirmed = voters.len() > 1;
        if let Redundancy::Agree { agree, .. } = self.config.redundancy {
            let enough = voters.len() >= agree as usize || voters.contains(&Worker::Local);
            ensure!(ChecksCount, enough, "{attempt:?} accepted with {} votes of {agree}", voters.len());
        }
        Ok(())
    }

    fn drop_answer(&mut self, input: &Input, attempt: AttemptRef, worker: Worker, why: RefusalCode) -> Kept {
        let holds = self.running.get(&attempt).is_some_and(|(holder, ..)| *holder == worker);
        if holds {
            let decided = is_result(input, worker, attempt) && why != RefusalCode::BadMessage;
            ensure!(HoldersOnly, decided, "{attempt:?} runs, its answer is dropped");
            self.running.remove(&attempt);
        }
        let given = self.given(worker, attempt);
        let foreign = !given;
        ensure!(HoldersOnly, foreign == (why == RefusalCode::BadMessage), "{attempt:?} of {worker} dropped as {why}");
        let Some(task) = self.tasks.get_mut(attempt.task as usize).filter(|_| given) else { return Ok(()) };
        // What has just arrived, or else what was kept.
        if !is_result(input, worker, attempt) {
            task.kept.remove(&attempt.attempt);
        }
        // A late one is told by what there was when its attempt ended.
        let counted = if holds { task.accepted.is_some() || !task.kept.is_empty() } else { !task.answers.is_empty() };
        ensure!(NothingLost, why != RefusalCode::Duplicate || counted, "{attempt:?} is no duplicate: nothing is there");
        Ok(())
    }

    fn checked(&mut self, index: u32, worker: Worker, by: Worker, agrees: bool) -> Kept {
        let task = &mut self.tasks[index as usize];
        ensure!(ChecksCount, worker != by, "{worker} checks itself");
        let (said, other) = (task.answer_of(worker), task.answer_of(by));
        ensure!(ChecksCount, said.is_some() && other.is_some(), "task {index} of {worker} checked without an answer");
        ensure!(ChecksCount, (said == other) == agrees, "{worker} and {by} on task {index}: agrees is {agrees}");
        let stands = task.accepted.map(|(_, output)| output);
        self.workers.entry(worker).or_default().confirmed += u32::from(agrees);
        task.confirmed |= agrees && stands.is_none_or(|output| Some(output) == said);
        Ok(())
    }

    fn struck(&mut self, worker: Worker, index: u32, claimed: OutputId, right: OutputId, by: Worker) -> Kept {
        let task = &self.tasks[index as usize];
        ensure!(OnlyLiarsStruck, task.answer_of(worker) == Some(claimed), "{worker} never said {claimed:?}");
        ensure!(OnlyLiarsStruck, task.answer_of(by) == Some(right), "{by} never said {right:?}");
        let honest = claimed == self.truth[index as usize];
        ensure!(OnlyLiarsStruck, !honest || self.may_be_outvoted(), "{worker} was right about task {index}");
        ensure!(OnlyLiarsStruck, worker != Worker::Local, "this device strikes itself");
        self.workers.entry(worker).or_default().struck = true;
        Ok(())
    }

    /// Enough liars tell the same lie to pass for the truth where this device does not look itself.
    fn may_be_outvoted(&self) -> bool {
        match self.config.redundancy {
            Redundancy::Agree { agree, .. } => self.plotters >= agree,
            _ => self.plotters > 1,
        }
    }

    fn start(&mut self, worker: Worker, attempt: AttemptRef, why: Why, view: &View<'_>, now: Duration) -> Kept {
        let index = attempt.task;
        let seen = self.workers.get(&worker);
        ensure!(StruckIsOut, seen.is_none_or(|seen| !seen.struck), "{worker} is struck and gets {attempt:?}");
        ensure!(WithinCredit, seen.is_some_and(|seen| seen.connected), "{worker} is not there");
        let task = &self.tasks[index as usize];
        let history = &task.history;
        // A check that takes too long gets a second attempt, as any task does.
        let slow_look = matches!(why, Why::Straggler { .. }) && self.is_looked_at(index);
        let second_look = slow_look || matches!(why, Why::Check { .. } | Why::Vote);
        ensure!(CountedOnce, task.accepted.is_none() || second_look, "task {index} is done and is started again");
        ensure!(Bounded, attempt.attempt as usize == history.len(), "{attempt:?} after {} attempts", history.len());
        ensure!(Bounded, history.len() < ATTEMPTS_PER_TASK as usize, "{attempt:?} is one too many");
        let beside: Vec<Worker> =
            self.running.iter().filter(|(a, _)| a.task == index).map(|(_, (by, ..))| *by).collect();
        ensure!(Bounded, !beside.contains(&worker), "{worker} runs task {index} twice at a time");
        if second_look {
            let own = task.has_spoken(worker);
            ensure!(ChecksCount, !own, "{worker} looks again at its own answer to task {index}");
        } else {
            self.ordinary_start(worker, attempt, why, &beside, view)?;
        }
        self.reruns += u32::from(matches!(why, Why::Lost { .. }));
        self.tasks[index as usize].history.push(worker);
        self.running.insert(attempt, (worker, now, why));
        Ok(())
    }

    /// Its output is there, and an attempt that runs still will say whether it is right.
    fn is_looked_at(&self, index: u32) -> bool {
        self.tasks[index as usize].accepted.is_some() && self.running.keys().any(|attempt| attempt.task == index)
    }

    fn ordinary_start(
        &self,
        worker: Worker,
        attempt: AttemptRef,
        why: Why,
        beside: &[Worker],
        view: &View<'_>,
    ) -> Kept {
        let history = &self.tasks[attempt.task as usize].history;
        let (local, remote) = self.tasks[attempt.task as usize].in_vain(&self.workers);
        ensure!(Bounded, worker != Worker::Local || local < LOCAL_ATTEMPTS, "{attempt:?} is one too many here");
        let bound = self.remote_bound(local, view);
        ensure!(Bounded, worker == Worker::Local || remote < bound, "{attempt:?} is one too many elsewhere");
        let remotes_beside = beside.iter().filter(|by| **by != Worker::Local).count();
        let most = match self.config.redundancy {
            Redundancy::Agree { of, .. } => 1 + of as usize,
            _ => 2,
        };
        ensure!(Bounded, remotes_beside < most || worker == Worker::Local, "a third remote beside {beside:?}");
        match why {
            Why::Fresh => ensure!(Counts, history.is_empty(), "{attempt:?} is not fresh"),
            Why::Lost { .. } => {
                ensure!(Counts, beside.is_empty() && !history.is_empty(), "{attempt:?} was not lost");
                let lossy = worker == Worker::Local && self.config.on_loss == OnLoss::Partial;
                ensure!(RightEnd, !lossy, "a lost task runs here");
                if history.last() == Some(&worker) {
                    self.no_alternative(worker, attempt.task, local, remote, view)?;
                }
            }
            Why::Straggler { .. } => {
                ensure!(Rotates, history.last() != Some(&worker), "{worker} twice in a row beside {beside:?}");
            }
            _ => {}
        }
        Ok(())
    }

    /// This device, or its refusal, stands behind the remote workers.
    fn local_may(&self, local: u32, view: &View<'_>) -> bool {
        let there = view.progress.workers.iter().any(|w| w.ready && w.worker == Worker::Local);
        there || local >= LOCAL_ATTEMPTS || self.config.on_loss == OnLoss::Partial
    }

    /// Remote attempts in vain at most.
    fn remote_bound(&self, local: u32, view: &View<'_>) -> u32 {
        let votes = match self.config.redundancy {
            Redundancy::Agree { of, .. } => of - 1,
            _ => 0,
        };
        votes + if self.local_may(local, view) { REMOTE_ATTEMPTS } else { REMOTE_ATTEMPTS_ALONE }
    }

    /// The same worker twice in a row is right only when nobody else could take the task now.
    fn no_alternative(&self, worker: Worker, task: u32, local: u32, remote: u32, view: &View<'_>) -> Kept {
        let ready: BTreeSet<Worker> = view.progress.workers.iter().filter(|w| w.ready).map(|w| w.worker).collect();
        let local_may = local < LOCAL_ATTEMPTS && self.config.on_loss != OnLoss::Partial;
        let home_only =
            self.config.on_loss == OnLoss::Local && ready.contains(&Worker::Local) && local < LOCAL_ATTEMPTS;
        let bound = self.remote_bound(local, view);
        for (other, seen) in &self.workers {
            let free =
                ready.contains(other) && seen.connected && seen.faults == 0 && !seen.left && self.held(*other) == 0;
            let may = match other {
                Worker::Local => local_may,
                Worker::Remote(_) => remote < bound && !home_only,
            };
            ensure!(Rotates, *other == worker || !free || !may, "{worker} again for task {task}, {other} is free");
        }
        Ok(())
    }

    fn held(&self, worker: Worker) -> u32 {
        self.running.values().filter(|(holder, ..)| *holder == worker).count() as u32
    }

    // ---- After each step -------------------------------------------------------------------------------------------

    fn counts(&self, view: &View<'_>, now: Duration) -> Kept {
        let progress = &view.progress;
        ensure!(Counts, progress.done == self.done, "{} done, {} counted", progress.done, self.done);
        ensure!(
            Counts,
            progress.running as usize == self.running.len(),
            "{} run, {:?}",
            progress.running,
            self.running
        );
        ensure!(Counts, progress.reruns == self.reruns, "{} reruns, {} counted", progress.reruns, self.reruns);
        ensure!(Counts, progress.over == (self.end.is_some() || self.cancelled), "over is {}", progress.over);
        ensure!(Counts, !progress.over || self.running.is_empty(), "attempts outlive the job: {:?}", self.running);
        match view.next {
            Some(next) => ensure!(Counts, next > now, "asks to be called at {next:?}, which is now"),
            None => ensure!(
                Counts,
                progress.over || self.running.values().any(|(worker, ..)| *worker == Worker::Local),
                "waits for nothing"
            ),
        }
        Ok(())
    }

    fn leases_end(&self, now: Duration) -> Kept {
        for (attempt, (worker, started, _)) in &self.running {
            if *worker != Worker::Local {
                let asleep = if self.asleep.is_zero() { Duration::ZERO } else { self.asleep + OVERSLEPT };
                let quiet = now.saturating_sub(self.workers[worker].heard.max(*started));
                let longest = LEASE_MAX.max(self.config.lease).max(LEASE_MIN) + asleep;
                ensure!(LeasesEnd, quiet <= longest, "{attempt:?} runs though {worker} said nothing for {quiet:?}");
                let runs = now - *started;
                ensure!(LeasesEnd, runs <= ATTEMPT_MAX + asleep, "{attempt:?} runs for {runs:?}");
            }
        }
        Ok(())
    }

    fn within_credit(&self) -> Kept {
        for (worker, seen) in &self.workers {
            let held = self.held(*worker);
            ensure!(WithinCredit, held <= seen.credit, "{worker} holds {held} with a credit of {}", seen.credit);
        }
        Ok(())
    }

    /// What the driver has to hold beside the outputs: votes and disagreements.
    fn little_is_kept(&self) -> Kept {
        let most = VOTES_WAITING as u32 + CREDIT_MAX * self.workers.len() as u32;
        let kept = || self.tasks.iter().map(|task| task.kept.len() as u32).filter(|kept| *kept > 0);
        ensure!(Bounded, kept().count() as u32 <= most, "{} tasks are undecided, at most {most}", kept().count());
        let largest = kept().max().unwrap_or(0);
        ensure!(Bounded, largest <= VOTES_MAX + 1, "{largest} outputs of one task are kept");
        Ok(())
    }

    fn struck_is_out(&self) -> Kept {
        for (worker, _) in self.workers.iter().filter(|(_, seen)| seen.struck) {
            ensure!(StruckIsOut, self.held(*worker) == 0, "{worker} is struck and still holds {}", self.held(*worker));
            let stays = self
                .tasks
                .iter()
                .position(|task| task.accepted.is_some_and(|(by, _)| by == *worker) && !task.confirmed);
            ensure!(StruckIsOut, stays.is_none(), "{worker} is struck and task {stays:?} is still its");
        }
        Ok(())
    }

    fn nobody_starves(&mut self, view: &View<'_>, now: Duration) -> Kept {
        let idle: Vec<Worker> = self
            .workers
            .iter()
            .filter(|(_, seen)| seen.connected && seen.credit > 0 && seen.faults == 0 && !seen.left && !seen.struck)
            .filter(|(worker, seen)| **worker == Worker::Local || now.saturating_sub(seen.heard) <= 2 * HEARTBEAT)
            .map(|(worker, _)| *worker)
            .filter(|worker| self.held(*worker) == 0 && !self.has_shown_nothing(*worker))
            .collect();
        let before = std::mem::take(&mut self.waiting);
        if idle.is_empty() || self.done == self.config.tasks {
            return Ok(());
        }
        let undecided = self.tasks.iter().filter(|task| !task.kept.is_empty()).count();
        if undecided >= VOTES_WAITING {
            // Only votes on those are wanted now: what is kept undecided is bounded.
            return Ok(());
        }
        let runs: BTreeSet<u32> = self.running.keys().map(|attempt| attempt.task).collect();
        for (index, task) in (0..).zip(&self.tasks) {
            let waits = task.accepted.is_none() && !runs.contains(&index) && task.kept.is_empty();
            let idler = idle.iter().find(|worker| waits && self.may_take(**worker, index, view));
            if let Some(worker) = idler {
                let since = before.get(&index).copied().unwrap_or(now);
                self.waiting.insert(index, since);
                let waited = now.saturating_sub(since + self.asleep);
                let own = view.progress.workers.iter().find(|w| w.worker == *worker).and_then(|w| w.mean);
                // One that would take longer itself leaves the last tasks to those who are faster.
                let longest = STARVES.max(2 * own.unwrap_or_default());
                ensure!(NoStarvation, waited <= longest, "task {index} waits for {waited:?} while {worker} idles");
            }
        }
        Ok(())
    }

    /// A newcomer that others overtook with both of its first tasks, whatever it said of itself: it gets no third one
    /// while anybody else works (B72).
    fn has_shown_nothing(&self, worker: Worker) -> bool {
        let overtaken = self.workers.get(&worker).is_some_and(|seen| seen.overtaken >= CREDIT);
        let answered = || self.tasks.iter().any(|task| task.answers.iter().any(|(by, ..)| *by == worker));
        worker != Worker::Local && overtaken && !self.running.is_empty() && !answered()
    }

    /// Whether nothing speaks against giving this waiting task to this worker.
    fn may_take(&self, worker: Worker, index: u32, view: &View<'_>) -> bool {
        let history = &self.tasks[index as usize].history;
        let (local, remote) = self.tasks[index as usize].in_vain(&self.workers);
        let lost = !history.is_empty();
        match worker {
            _ if history.last() == Some(&worker) => false,
            Worker::Local => local < LOCAL_ATTEMPTS && !(lost && self.config.on_loss == OnLoss::Partial),
            Worker::Remote(_) if lost && self.config.on_loss == OnLoss::Local => false,
            Worker::Remote(_) => remote < self.remote_bound(local, view),
        }
    }

    // ---- At the end ------------------------------------------------------------------------------------------------

    /// When the job is over: whether its outputs are to be believed as far as was promised.
    pub fn at_the_end(&self, end: &Output, progress: &Progress) -> Kept {
        for (index, task) in (0..).zip(&self.tasks) {
            let Some((worker, output)) = task.accepted else { continue };
            let right = output == self.truth[index as usize];
            let excused = match self.config.redundancy {
                Redundancy::None => true,
                Redundancy::Spot => !task.confirmed || self.may_be_outvoted(),
                Redundancy::Agree { .. } => self.may_be_outvoted(),
            };
            let excused = excused && worker != Worker::Local;
            ensure!(OutputIsLocal, right || excused, "task {index} of {worker} is wrong");
        }
        let alone = self.tasks.iter().filter(|task| task.unsigned && !task.confirmed).count() as u32;
        let told = *end != Output::Done || alone <= progress.unchecked;
        ensure!(NobodysWord, told, "{alone} outputs that nobody stands for, {} unchecked", progress.unchecked);
        if *end == Output::Done && self.config.redundancy == Redundancy::Spot {
            self.first_are_checked(progress.unchecked)?;
        }
        Ok(())
    }

    /// Of a worker that nobody knew, the first outputs are checked, where this device is there to do it: all but those
    /// that it said nobody was left to check.
    fn first_are_checked(&self, waived: u32) -> Kept {
        if !self.workers.get(&Worker::Local).is_some_and(|local| local.connected) {
            return Ok(());
        }
        for (worker, seen) in self.workers.iter().filter(|(worker, seen)| **worker != Worker::Local && !seen.known) {
            let theirs = |task: &&TaskSeen| !task.restored && task.accepted.is_some_and(|(by, _)| by == *worker);
            let all = self.tasks.iter().filter(theirs).count() as u32;
            let due = all.min(CHECK_FIRST).saturating_sub(waived);
            ensure!(ChecksCount, seen.confirmed >= due, "{} of {all} outputs of {worker} were checked", seen.confirmed);
        }
        Ok(())
    }
}

/// Who refuses for such a reason takes no task until it says so.
fn lasts(code: RefusalCode) -> bool {
    matches!(code, RefusalCode::NotLending | RefusalCode::Denied)
}

fn is_result(input: &Input, worker: Worker, attempt: AttemptRef) -> bool {
    matches!(input, Input::Result { worker: by, attempt: of, .. } if *by == worker && *of == attempt)
}
