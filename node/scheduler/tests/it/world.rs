//! Virtual devices and a virtual network around a real [`JobState`]: a discrete-event simulation in which everything
//! follows from one seed.
//!
//! This file holds the calendar and the requester; [`crate::device`] the workers; [`crate::trouble`] makes faults happen.

use std::{collections::BTreeMap, time::Duration};

use msm_protocol::{ContentHash, Refusal, RefusalCode, job::AttemptRef};
use msm_scheduler::{Input, JobConfig, JobState, Output, OutputId, Progress, Redundancy, Trust, Worker};

use crate::{
    checker::{Broken, Checker, Promise, View},
    device::Device,
    journal::Journal,
    net::{Link, Message, Stream, Way},
    rng::Rng,
    sabotage::Sabotage,
    scene::Scene,
};

const S: Duration = Duration::from_secs(1);
/// Time that late messages have to knock at a job that is over.
const AFTERMATH: Duration = Duration::from_secs(15);
/// Events in one run at most: a simulation that never ends is a broken promise too.
const EVENTS: u64 = 400_000;

#[derive(Debug, Clone)]
pub enum Event {
    Tick,
    /// Something that the requester's own parts tell the job, of the requester's life number.
    Tell(u32, Input),
    /// A stream of a connection has something.
    Look(usize, u32, Stream),
    Connect(usize),
    /// Both ends notice that a connection is dead.
    Unanswered(usize, u32),
    Beat(usize, u32),
    /// A device has finished an attempt that it took up as its `n`th.
    Finish(usize, u64, AttemptRef),
    /// A device signs for what it has answered.
    Sign(usize, u32),
    /// An answer is sent once more.
    Again(usize, u32, AttemptRef, OutputId),
    /// Something goes wrong, for the `n`th time.
    Fault(usize, u32),
    /// The requester's process starts again.
    Restart,
}

/// The requester's own state.
pub struct Home {
    /// Its processes are numbered.
    pub life: u32,
    /// Its process does not run.
    pub down: bool,
    /// It handles nothing before this.
    pub asleep_until: Duration,
    /// What its clock shows more (or less) than the time of the world.
    pub ahead: Duration,
    pub behind: Duration,
    pub crashes: Option<(u64, usize)>,
}

impl Home {
    fn awake(now: Duration) -> Self {
        let (ahead, behind) = (Duration::ZERO, Duration::ZERO);
        Self { life: 0, down: false, asleep_until: now, ahead, behind, crashes: None }
    }
}

/// What a run showed.
#[derive(Debug)]
pub struct Report {
    pub scene: Scene,
    pub end: Output,
    pub took: Duration,
    pub progress: Progress,
    pub outputs: Vec<Output>,
    /// How often each fault of the scene was felt.
    pub felt: Vec<u32>,
    pub events: u64,
}

impl Report {
    /// Faults that were felt at least once.
    pub fn faults(&self) -> usize {
        self.felt.iter().filter(|times| **times > 0).count()
    }
}

pub struct World {
    pub scene: Scene,
    pub rng: Rng,
    pub now: Duration,
    pub job: JobState,
    pub checker: Checker,
    pub home: Home,
    pub devices: Vec<Device>,
    pub links: Vec<Link>,
    pub felt: Vec<u32>,
    pub truth: Vec<OutputId>,
    pub journal: Journal,
    config: JobConfig,
    /// Every life's clock starts at zero.
    epoch: Duration,
    /// Boxed, because they move a lot.
    events: BTreeMap<(Duration, u64), Box<Event>>,
    deadline: Duration,
    count: u64,
    tick_at: Option<Duration>,
    outputs: Vec<Output>,
    sabotage: Option<Sabotage>,
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
            weights: scene.weights.clone(),
            on_loss: scene.on_loss,
            credit: scene.credit,
            lease,
            seed: rng.next(),
            redundancy: scene.redundancy,
        };
        let truth: Vec<OutputId> = (0..scene.tasks).map(output_of).collect();
        let devices: Vec<Device> = (0..scene.devices).map(Device::new).collect();
        let links = devices.iter().map(|_| Link::new(rng.ms(0..60))).collect();
        let now = Duration::ZERO;
        let home = Home::awake(now);
        Self {
            job: JobState::new(config.clone(), now),
            checker: Checker::new(config.clone(), truth.clone(), scene.plotters()),
            felt: vec![0; scene.faults.len()],
            epoch: now,
            events: BTreeMap::new(),
            deadline: scene.deadline(),
            count: 0,
            tick_at: None,
            outputs: Vec::new(),
            journal: Journal::default(),
            sabotage: None,
            scene,
            rng,
            now,
            home,
            devices,
            links,
            truth,
            config,
            trace,
        }
    }

    /// With a scheduler that is broken in this way.
    pub fn sabotaged(mut self, sabotage: Sabotage) -> Self {
        self.sabotage = Some(sabotage);
        self
    }

    /// Runs the job to its end and a little beyond. Errors name the broken promise.
    pub fn run(mut self) -> Result<Report, Broken> {
        self.arrive_home();
        for index in 0..self.devices.len() {
            let after = self.rng.ms(0..500);
            self.after(after, Event::Connect(index));
        }
        for index in 0..self.scene.faults.len() {
            self.prepare(index);
        }
        self.apply(Input::Tick)?;
        let mut took = None;
        while let Some(((at, _), event)) = self.events.pop_first() {
            self.now = at;
            self.happen(*event)?;
            if self.over() {
                // Stragglers of the network still knock for a while.
                if at > *took.get_or_insert(at) + AFTERMATH {
                    break;
                }
            } else if at > self.deadline || self.count > EVENTS {
                let what = format!("not over by {at:?}: {:?}", self.job.progress());
                return Err(Broken { promise: Promise::EndsInTime, what });
            }
        }
        self.judge(took)
    }

    /// The end, and whether it had to be another.
    fn judge(mut self, took: Option<Duration>) -> Result<Report, Broken> {
        let progress = self.job.progress();
        let Some(end) = self.checker.end.take() else {
            return Err(Broken {
                promise: Promise::EndsInTime,
                what: format!("nothing happens any more: {progress:?}"),
            });
        };
        self.checker.at_the_end(&end, &progress)?;
        let guest_failed = matches!(&end, Output::Failed { refusal } if refusal.code == RefusalCode::ServiceFailed);
        let broken = match (&end, self.scene.poison) {
            // Unless somebody made its output up.
            (Output::Done, Some(task)) if !self.scene.has_liars() => Some(format!("task {task} cannot succeed")),
            (Output::Done, _) => None,
            (_, poison) if guest_failed => poison.is_none().then(|| "the guest never fails".into()),
            (Output::Failed { refusal }, _)
                if refusal.reason.starts_with("no device is left") && self.scene.skips_the_wait() =>
            {
                None
            }
            _ if self.scene.sound_at_home() => Some(format!("this device could have finished: {end:?}")),
            _ => None,
        };
        if let Some(what) = broken {
            return Err(Broken { promise: Promise::RightEnd, what });
        }
        let (scene, felt, events, outputs) = (self.scene, self.felt, self.count, self.outputs);
        Ok(Report { scene, end, took: took.unwrap_or_default(), progress, outputs, felt, events })
    }

    pub fn over(&self) -> bool {
        !self.home.down && self.checker.is_over()
    }

    pub fn after(&mut self, time: Duration, event: Event) {
        self.at(self.now + time, event);
    }

    pub fn at(&mut self, time: Duration, event: Event) {
        self.count += 1;
        self.events.insert((time, self.count), Box::new(event));
    }

    /// A fault was felt.
    pub fn feel(&mut self, fault: usize) {
        self.felt[fault] += 1;
        self.note(|world| format!("felt: {:?}", world.scene.faults[fault]));
    }

    pub fn note(&self, what: impl FnOnce(&Self) -> String) {
        if self.trace {
            eprintln!("{:>9.3}   {}", self.now.as_secs_f64(), what(self));
        }
    }

    fn happen(&mut self, event: Event) -> Result<(), Broken> {
        let to_home = match event {
            Event::Tick | Event::Tell(..) => true,
            Event::Look(_, _, (way, _)) => way == Way::Up,
            _ => false,
        };
        if to_home && self.home.down {
            return Ok(());
        }
        if to_home && self.home.asleep_until > self.now {
            self.at(self.home.asleep_until, event);
            return Ok(());
        }
        match event {
            Event::Tick if self.tick_at.is_some_and(|at| at <= self.now) => {
                self.tick_at = None;
                self.apply(Input::Tick)?;
            }
            Event::Tick => {}
            Event::Tell(life, input) if life == self.home.life => self.apply(input)?,
            Event::Tell(..) => {}
            Event::Look(index, epoch, stream) => self.look(index, epoch, stream)?,
            Event::Connect(index) => self.connect(index),
            Event::Unanswered(index, epoch) => self.unanswered(index, epoch),
            Event::Beat(index, epoch) => self.beat(index, epoch),
            Event::Finish(index, turn, attempt) => self.finish(index, turn, attempt),
            Event::Sign(index, epoch) => self.sign(index, epoch),
            Event::Again(index, epoch, attempt, output) => {
                if self.links[index].open && self.links[index].epoch == epoch {
                    self.give(index, attempt, output);
                }
            }
            Event::Fault(fault, times) => self.strike(fault, times),
            Event::Restart => self.restart()?,
        }
        Ok(())
    }

    // ---- The requester ---------------------------------------------------------------------------------------------

    /// The requester's clock, which its job's times are measured with.
    pub fn clock(&self) -> Duration {
        (self.now + self.home.ahead).saturating_sub(self.home.behind).saturating_sub(self.epoch)
    }

    /// The local worker reports for work.
    fn arrive_home(&mut self) {
        if let Some(credit) = self.scene.local {
            // Where votes are counted, who decides is there first, as it is in a node.
            let votes = matches!(self.scene.redundancy, Redundancy::Agree { .. });
            let after = if votes { Duration::ZERO } else { self.rng.ms(0..500) };
            let ready = Input::WorkerReady { worker: Worker::Local, credit, trust: Trust::default() };
            self.after(after, Event::Tell(self.home.life, ready));
        }
    }

    /// Gives the job an input, carries out what it says, and checks all of it.
    fn apply(&mut self, input: Input) -> Result<(), Broken> {
        let clock = self.clock();
        self.checker.input(&input, clock);
        let told = match &mut self.sabotage {
            Some(sabotage) => sabotage.hears(input.clone()),
            None => vec![input.clone()],
        };
        let mut outputs = Vec::new();
        for told in told {
            self.job.handle(told, clock);
            outputs.extend(std::iter::from_fn(|| self.job.poll_output()));
        }
        if let Some(sabotage) = &mut self.sabotage {
            sabotage.says(&mut outputs, self.scene.tasks);
        }
        if self.trace && !(outputs.is_empty() && matches!(input, Input::Heartbeat { .. } | Input::Tick)) {
            eprintln!("{:>9.3} {input:?} -> {outputs:?}", self.now.as_secs_f64());
        }
        for output in &outputs {
            self.carry_out(output);
        }
        let mut view = View { job: &self.job, progress: self.job.progress(), next: self.job.next_timeout() };
        if let Some(sabotage) = &self.sabotage {
            sabotage.twist(&mut view, clock);
        }
        self.checker.outputs(&input, &outputs, &view, clock)?;
        self.outputs.extend(outputs);
        let next = view.next.map(|next| self.now + next.saturating_sub(clock));
        if next != self.tick_at
            && let Some(next) = next
        {
            self.at(next, Event::Tick);
        }
        self.tick_at = next;
        Ok(())
    }

    fn carry_out(&mut self, output: &Output) {
        match output {
            Output::Start { worker: Worker::Local, attempt, .. } => self.work_at_home(*attempt),
            Output::Start { worker, attempt, .. } => self.tell(*worker, Message::Start(*attempt)),
            Output::Cancel { worker, attempt } => self.tell(*worker, Message::Cancel(*attempt)),
            Output::Accepted { attempt, worker, output } => self.journal.accepted(attempt.task, *output, *worker),
            Output::Withdrawn { task, .. } => self.journal.withdrawn(*task),
            Output::Struck { worker, .. } => self.journal.struck(*worker),
            _ => {}
        }
    }

    fn work_at_home(&mut self, attempt: AttemptRef) {
        let worker = Worker::Local;
        let time = self.rng.about(self.scene.time_of(attempt.task, self.scene.local_time));
        let crash = self.home.crashes.filter(|(percent, _)| self.rng.chance(*percent));
        let input = if self.scene.poison == Some(attempt.task) {
            Input::Failed { worker, attempt, refusal: guest_failure() }
        } else if let Some((_, fault)) = crash {
            self.feel(fault);
            Input::Failed { worker, attempt, refusal: Refusal::new(RefusalCode::TaskCrashed, "signal 11") }
        } else {
            Input::Result { worker, attempt, output: self.truth[attempt.task as usize] }
        };
        self.after(time, Event::Tell(self.home.life, input));
    }

    /// Sends a message to a worker, if it is connected.
    fn tell(&mut self, worker: Worker, message: Message) {
        let index = self.devices.iter().position(|device| device.worker == worker);
        if let Some(index) = index.filter(|index| self.links[*index].open) {
            self.send(index, Way::Down, message);
        }
    }

    /// Puts a message on the wire.
    pub fn send(&mut self, index: usize, way: Way, message: Message) {
        let bytes = match message {
            Message::Start(_) | Message::Result(..) => self.scene.bytes,
            _ => 0,
        };
        let (device, link) = (&self.devices[index], &mut self.links[index]);
        let (epoch, cut) = (link.epoch, link.is_cut(way, self.now));
        let ills = [
            device.ills.delay.filter(|_| bytes > 0),
            device.ills.jitter.filter(|_| bytes > 0),
            device.ills.slow_link.filter(|_| bytes > 0),
            device.ills.cut.filter(|_| cut),
        ];
        let sent = link.send(way, message, bytes, self.now, &mut self.rng);
        let lossy = device.ills.loss.filter(|_| sent.lost_packets);
        ills.into_iter().chain([lossy]).flatten().for_each(|fault| self.feel(fault));
        if let Some((stream, at)) = sent.look {
            self.at(at, Event::Look(index, epoch, stream));
        }
    }

    /// Takes what a stream holds, if it is there yet.
    fn look(&mut self, index: usize, epoch: u32, stream: Stream) -> Result<(), Broken> {
        let link = &mut self.links[index];
        if link.epoch != epoch || !link.open {
            return Ok(());
        }
        let (message, next) = link.receive(stream, self.now);
        if let Some(next) = next {
            self.at(next, Event::Look(index, epoch, stream));
        }
        match message {
            Some(message) if stream.0 == Way::Down => self.device_hears(index, message),
            Some(message) => self.home_hears(index, message)?,
            None => {}
        }
        Ok(())
    }

    fn home_hears(&mut self, index: usize, message: Message) -> Result<(), Broken> {
        let worker = self.devices[index].worker;
        let input = match message {
            Message::Ready { credit } => {
                let trust = Trust { in_a_row: self.scene.known, ..self.journal.trust(worker) };
                Input::WorkerReady { worker, credit, trust }
            }
            Message::Beat(attempts) => Input::Heartbeat { worker, attempts },
            Message::Result(attempt, output) => {
                if self.checker.given(worker, attempt) {
                    self.links[index].owed.push_back((attempt.task, output.hash));
                }
                Input::Result { worker, attempt, output }
            }
            Message::Receipt(results) => {
                let owed = &mut self.links[index].owed;
                owed.drain(..results.min(owed.len()));
                return Ok(());
            }
            Message::Failed(attempt, refusal) => Input::Failed { worker, attempt, refusal },
            Message::Start(_) | Message::Cancel(_) => return Ok(()),
        };
        self.apply(input)
    }

    /// The process is gone; its connections with it.
    pub fn die(&mut self, down: Duration, last_line_lost: bool) {
        self.home.down = true;
        self.home.life += 1;
        for index in 0..self.devices.len() {
            self.hang_up(index);
        }
        if last_line_lost {
            self.journal.lose_last_line();
        }
        self.after(down, Event::Restart);
    }

    /// A new process goes on with what the journal says.
    fn restart(&mut self) -> Result<(), Broken> {
        self.home.down = false;
        self.home = Home { life: self.home.life, crashes: self.home.crashes, ..Home::awake(self.now) };
        self.epoch = self.now;
        self.job = JobState::new(self.config.clone(), Duration::ZERO);
        self.checker.restarted();
        self.tick_at = None;
        for (task, (output, worker)) in self.journal.tasks() {
            self.apply(Input::Restored { task, output, worker })?;
        }
        for worker in self.journal.liars() {
            self.apply(Input::Struck { worker, reason: "it lied before".into() })?;
        }
        self.apply(Input::Tick)?;
        self.arrive_home();
        for index in 0..self.devices.len() {
            let after = self.rng.ms(0..1_000);
            self.after(after, Event::Connect(index));
        }
        Ok(())
    }
}

pub fn guest_failure() -> Refusal {
    Refusal::new(RefusalCode::ServiceFailed, "cannot read this input")
}
