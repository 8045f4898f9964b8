//! Virtual devices around a real [`JobState`]: a discrete-event simulation in which everything follows from one seed.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use msm_protocol::{ContentHash, Refusal, RefusalCode, job::AttemptRef, limits::HEARTBEAT};
use msm_scheduler::{
    Input, JobConfig, JobState, Output, OutputId, Progress, Redundancy, Trust, Worker, job::OVERSLEPT,
};

use crate::{
    checker::Checker,
    peer,
    rng::Rng,
    scene::{Habit, Scene},
};

const S: Duration = Duration::from_secs(1);

enum Event {
    /// A message reaches the job.
    Deliver(Input),
    Tick,
    Arrive(usize, u32, AttemptRef),
    Recall(usize, u32, AttemptRef),
    Finish(usize, u32, AttemptRef),
    Beat(usize, u32),
    /// The next step of a device's habit.
    Fault(usize),
    Connect(usize),
    LocalFinish(AttemptRef),
}

struct Remote {
    worker: Worker,
    habit: Habit,
    /// Its connections are numbered; what belongs to an earlier one is void.
    epoch: u32,
    up: bool,
    mute: bool,
    frozen_until: Duration,
    /// The first is being worked on.
    queue: VecDeque<AttemptRef>,
    latency: Duration,
}

/// What a run showed.
#[derive(Debug)]
pub struct Report {
    pub end: Output,
    pub took: Duration,
    pub progress: Progress,
    pub outputs: Vec<Output>,
}

pub struct World {
    scene: Scene,
    rng: Rng,
    now: Duration,
    job: JobState,
    checker: Checker,
    events: BTreeMap<(Duration, u64), Event>,
    count: u64,
    tick_at: Option<Duration>,
    remotes: Vec<Remote>,
    outputs: Vec<Output>,
    trace: bool,
}

fn output_of(task: u32) -> OutputId {
    OutputId { hash: ContentHash::of(&task.to_le_bytes()), size: u64::from(task) }
}

impl World {
    pub fn new(scene: Scene, mut rng: Rng, trace: bool) -> Self {
        let lease = if rng.chance(80) { 5 * S } else { rng.ms(0..12_000) };
        let config = JobConfig {
            tasks: scene.tasks,
            on_loss: scene.on_loss,
            credit: scene.credit,
            lease,
            seed: rng.next(),
            redundancy: Redundancy::None,
            ..JobConfig::default()
        };
        let remotes = (0..).zip(&scene.remotes).map(|(n, habit)| Remote {
            worker: Worker::Remote(peer(n)),
            habit: *habit,
            epoch: 0,
            up: false,
            mute: false,
            frozen_until: Duration::ZERO,
            queue: VecDeque::new(),
            latency: rng.ms(0..60),
        });
        let remotes = remotes.collect();
        let job = JobState::new(config.clone(), Duration::ZERO);
        let (events, outputs) = (BTreeMap::new(), Vec::new());
        let checker = Checker::new(config);
        let now = Duration::ZERO;
        Self { scene, rng, now, job, checker, events, count: 0, tick_at: None, remotes, outputs, trace }
    }

    /// Runs the job to its end and a little beyond. Errors name the broken promise.
    pub fn run(mut self) -> Result<Report, String> {
        if let Some(credit) = self.scene.local {
            let after = self.rng.ms(0..500);
            self.after(
                after,
                Event::Deliver(Input::WorkerReady { worker: Worker::Local, credit, trust: Trust::default() }),
            );
        }
        for index in 0..self.remotes.len() {
            let after = self.rng.ms(0..500);
            self.after(after, Event::Connect(index));
            let after = self.rng.ms(0..4_000);
            self.after(after, Event::Fault(index));
        }
        self.apply(Input::Tick)?;
        let mut took = None;
        while let Some(((at, _), event)) = self.events.pop_first() {
            self.now = at;
            self.happen(event)?;
            if self.job.progress().over {
                // Stragglers of the network still knock for a while.
                if at > *took.get_or_insert(at) + 40 * S {
                    break;
                }
            } else if at > self.scene.deadline() {
                return Err(format!("not over by {at:?}: {:?}", self.job.progress()));
            }
        }
        let progress = self.job.progress();
        let end = self.checker.end.take().ok_or_else(|| format!("nothing happens any more: {progress:?}"))?;
        let report = Report { end, took: took.unwrap_or_default(), progress, outputs: self.outputs };
        match (&report.end, self.scene.poison) {
            // Unless a liar guessed right: a result of its own attempt before that had reached it.
            (Output::Done, Some(task)) if !self.scene.remotes.contains(&Habit::Lies) => {
                Err(format!("task {task} cannot succeed"))
            }
            (Output::Failed { refusal }, Some(_)) if refusal.code == RefusalCode::ServiceFailed => Ok(report),
            (Output::Done, _) => Ok(report),
            _ if self.scene.sound_at_home() => Err(format!("this device could have finished: {:?}", report.end)),
            _ => Ok(report),
        }
    }

    fn after(&mut self, time: Duration, event: Event) {
        self.count += 1;
        self.events.insert((self.now + time, self.count), event);
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        if let (Some((from, time)), Event::Deliver(_) | Event::Tick) = (self.scene.sleep, &event)
            && (from..from + time).contains(&self.now)
        {
            // The job notices by its last call before and its first one after.
            self.checker.asleep = time + OVERSLEPT;
            self.after(from + time - self.now, event);
            return Ok(());
        }
        match event {
            Event::Deliver(input) => self.apply(input)?,
            Event::Tick if self.tick_at.is_some_and(|at| at <= self.now) => {
                self.tick_at = None;
                self.apply(Input::Tick)?;
            }
            Event::Tick => {}
            Event::Arrive(index, epoch, attempt) => self.arrive(index, epoch, attempt),
            Event::Recall(index, epoch, attempt) => self.recall(index, epoch, attempt),
            Event::Finish(index, epoch, attempt) => self.finish(index, epoch, attempt),
            Event::Beat(index, epoch) => self.beat(index, epoch),
            Event::Fault(index) => self.fault(index),
            Event::Connect(index) => self.connect(index),
            Event::LocalFinish(attempt) => self.local_finish(attempt)?,
        }
        Ok(())
    }

    /// Gives the job an input, carries out what it says, and checks all of it.
    fn apply(&mut self, input: Input) -> Result<(), String> {
        self.checker.input(&input, self.now);
        self.job.handle(input.clone(), self.now);
        let outputs: Vec<Output> = std::iter::from_fn(|| self.job.poll_output()).collect();
        if self.trace && !(outputs.is_empty() && matches!(input, Input::Heartbeat { .. } | Input::Tick)) {
            eprintln!("{:>9.3} {input:?} -> {outputs:?}", self.now.as_secs_f64());
        }
        for output in &outputs {
            self.carry_out(output);
        }
        self.checker.outputs(&input, &outputs, &self.job, self.now)?;
        self.outputs.extend(outputs);
        let next = self.job.next_timeout();
        if next != self.tick_at
            && let Some(next) = next
        {
            self.after(next - self.now, Event::Tick);
        }
        self.tick_at = next;
        Ok(())
    }

    fn carry_out(&mut self, output: &Output) {
        let index = |worker: &Worker| self.remotes.iter().position(|remote| remote.worker == *worker);
        match output {
            Output::Start { worker: Worker::Local, attempt, .. } => {
                let time = self.rng.about(self.scene.local_time);
                self.after(time, Event::LocalFinish(*attempt));
            }
            Output::Start { worker, attempt, .. } => {
                if let Some(index) = index(worker) {
                    let Remote { epoch, latency, .. } = self.remotes[index];
                    self.after(latency, Event::Arrive(index, epoch, *attempt));
                }
            }
            Output::Cancel { worker, attempt } => {
                if let Some(index) = index(worker) {
                    let Remote { epoch, latency, .. } = self.remotes[index];
                    self.after(latency, Event::Recall(index, epoch, *attempt));
                }
            }
            _ => {}
        }
    }

    // ---- This device -----------------------------------------------------------------------------------------------

    fn local_finish(&mut self, attempt: AttemptRef) -> Result<(), String> {
        let worker = Worker::Local;
        let input = if self.scene.poison == Some(attempt.task) {
            Input::Failed { worker, attempt, refusal: guest_failure() }
        } else if self.rng.chance(self.scene.local_crashes) {
            Input::Failed { worker, attempt, refusal: Refusal::new(RefusalCode::TaskCrashed, "signal 11") }
        } else {
            Input::Result { worker, attempt, output: output_of(attempt.task) }
        };
        // Through the queue, because a device that sleeps handles nothing.
        self.after(Duration::ZERO, Event::Deliver(input));
        Ok(())
    }

    // ---- The others ------------------------------------------------------------------------------------------------

    fn connect(&mut self, index: usize) {
        let credit = self.rng.range(1..20) as u32;
        let remote = &mut self.remotes[index];
        if self.job.progress().over || remote.up {
            return;
        }
        remote.up = true;
        remote.epoch += 1;
        remote.queue.clear();
        let (worker, epoch) = (remote.worker, remote.epoch);
        self.after(Duration::ZERO, Event::Deliver(Input::WorkerReady { worker, credit, trust: Trust::default() }));
        self.after(HEARTBEAT, Event::Beat(index, epoch));
    }

    /// The process or its link ends; the requester sees it a moment later.
    fn disconnect(&mut self, index: usize) {
        let notice = self.rng.ms(0..2_000);
        let remote = &mut self.remotes[index];
        if std::mem::replace(&mut remote.up, false) {
            let lost = Input::WorkerLost { worker: remote.worker, reason: "connection closed".into() };
            self.after(notice, Event::Deliver(lost));
        }
    }

    fn fault(&mut self, index: usize) {
        let habit = self.remotes[index].habit;
        let awhile = self.rng.ms(500..20_000);
        let again = self.rng.ms(200..15_000);
        let remote = &mut self.remotes[index];
        match habit {
            Habit::Dies => self.disconnect(index),
            Habit::DiesUnnoticed => remote.up = false,
            Habit::Flaps => {
                self.disconnect(index);
                // After the loss was noticed.
                self.after(2 * S + awhile / 10, Event::Connect(index));
                self.after(2 * S + awhile / 10 + again, Event::Fault(index));
            }
            Habit::Mute => remote.mute = true,
            Habit::MuteAwhile => {
                let pause = if remote.mute { again } else { awhile };
                remote.mute = !remote.mute;
                self.after(pause, Event::Fault(index));
            }
            Habit::Freezes => {
                remote.frozen_until = self.now + awhile;
                self.after(awhile + again, Event::Fault(index));
            }
            Habit::Lies => {
                let task = self.rng.range(0..u64::from(self.scene.tasks) + 2) as u32;
                let attempt = AttemptRef { task, attempt: self.rng.range(0..3) as u32 };
                let worker = remote.worker;
                // A result of one of its own attempts would be none of its lies.
                if !remote.queue.contains(&attempt) {
                    self.send(index, Input::Result { worker, attempt, output: output_of(task) });
                }
                self.after(again / 20, Event::Fault(index));
            }
            _ => {}
        }
    }

    fn send(&mut self, index: usize, input: Input) {
        let remote = &self.remotes[index];
        if remote.up && !remote.mute {
            self.after(remote.latency, Event::Deliver(input));
        }
    }

    fn alive(&self, index: usize, epoch: u32) -> bool {
        self.remotes[index].up && self.remotes[index].epoch == epoch
    }

    fn arrive(&mut self, index: usize, epoch: u32, attempt: AttemptRef) {
        if !self.alive(index, epoch) || (self.remotes[index].habit == Habit::Forgets && self.rng.chance(30)) {
            return;
        }
        self.remotes[index].queue.push_back(attempt);
        if self.remotes[index].queue.len() == 1 {
            self.work(index);
        }
    }

    fn recall(&mut self, index: usize, epoch: u32, attempt: AttemptRef) {
        let remote = &mut self.remotes[index];
        let Some(place) = remote.queue.iter().position(|queued| *queued == attempt) else { return };
        if remote.epoch == epoch {
            remote.queue.remove(place);
            if place == 0 {
                self.work(index);
            }
        }
    }

    /// Starts the first attempt of the queue.
    fn work(&mut self, index: usize) {
        let remote = &self.remotes[index];
        let Some(attempt) = remote.queue.front().copied() else { return };
        let (epoch, habit) = (remote.epoch, remote.habit);
        let time = self.rng.about(self.scene.remote_time) * if habit == Habit::Slow { 50 } else { 1 };
        if habit != Habit::Hogs {
            self.after(time, Event::Finish(index, epoch, attempt));
        }
    }

    fn finish(&mut self, index: usize, epoch: u32, attempt: AttemptRef) {
        let remote = &mut self.remotes[index];
        if !(remote.up && remote.epoch == epoch && remote.queue.front() == Some(&attempt)) {
            return;
        }
        if remote.frozen_until > self.now {
            let rest = remote.frozen_until - self.now;
            return self.after(rest, Event::Finish(index, epoch, attempt));
        }
        remote.queue.pop_front();
        let (worker, habit) = (remote.worker, remote.habit);
        let failure = match habit {
            _ if self.scene.poison == Some(attempt.task) => Some(guest_failure()),
            Habit::Fails if self.rng.chance(50) => Some(Refusal::new(self.some_code(), "by lot")),
            _ => None,
        };
        match failure {
            Some(refusal) => self.send(index, Input::Failed { worker, attempt, refusal }),
            None => {
                let result = Input::Result { worker, attempt, output: output_of(attempt.task) };
                self.send(index, result.clone());
                if habit == Habit::Doubles {
                    let late = self.rng.ms(0..20_000);
                    self.after(late, Event::Deliver(result));
                }
            }
        }
        self.work(index);
    }

    fn some_code(&mut self) -> RefusalCode {
        use RefusalCode::*;
        let codes = [TaskCrashed, Deadline, Busy, RateLimited, NotLending, Denied, Other, BadMessage, StaleLease];
        codes[self.rng.range(0..codes.len() as u64) as usize]
    }

    fn beat(&mut self, index: usize, epoch: u32) {
        if !self.alive(index, epoch) {
            return;
        }
        let remote = &self.remotes[index];
        if remote.frozen_until <= self.now {
            let beat = Input::Heartbeat { worker: remote.worker, attempts: remote.queue.iter().copied().collect() };
            self.send(index, beat);
        }
        self.after(HEARTBEAT, Event::Beat(index, epoch));
    }
}

fn guest_failure() -> Refusal {
    Refusal::new(RefusalCode::ServiceFailed, "cannot read this input")
}
