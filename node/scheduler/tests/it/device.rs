//! The workers of a simulated world: a queue, a speed, and what is wrong with them.

use std::{collections::VecDeque, time::Duration};

use msm_protocol::{
    ContentHash, Refusal, RefusalCode,
    job::AttemptRef,
    limits::{CREDIT, HEARTBEAT, RECEIPT_TIME},
};
use msm_scheduler::{Input, OutputId, Worker};

use crate::{
    net::{Message, Way},
    peer,
    world::{Event, World, guest_failure},
};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);
/// Results are signed for so soon after the first of them.
const SIGN_INTERVAL: Duration = Duration::from_millis(RECEIPT_TIME.as_millis() as u64 / 40);
/// A device that was cut to 5 % of its speed.
const SLOWED: u32 = 20;

/// What is wrong with a device or its link: the numbers of the faults, where each began.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ills {
    pub loss: Option<usize>,
    pub delay: Option<usize>,
    pub jitter: Option<usize>,
    pub slow_link: Option<usize>,
    pub cut: Option<usize>,
    pub slow: Option<(u32, usize)>,
    pub slowed: Option<usize>,
    pub silent: Option<usize>,
    pub hogs: Option<usize>,
    pub forgets: Option<usize>,
    pub doubles: Option<usize>,
    pub fails: Option<usize>,
    pub lies: Option<(u64, bool, usize)>,
    pub flees: Option<(u64, usize)>,
    pub boasts: Option<usize>,
}

pub struct Device {
    pub worker: Worker,
    pub ills: Ills,
    /// Its process runs.
    pub up: bool,
    pub frozen_until: Duration,
    /// The first is being worked on, as its turn says.
    pub queue: VecDeque<AttemptRef>,
    turn: u64,
    /// Results that it has not signed for.
    unsigned: usize,
    /// It will not sign any more before it leaves.
    fleeing: bool,
}

impl Device {
    pub fn new(n: usize) -> Self {
        Self {
            worker: Worker::Remote(peer(n as u16)),
            ills: Ills::default(),
            up: true,
            frozen_until: Duration::ZERO,
            queue: VecDeque::new(),
            turn: 0,
            unsigned: 0,
            fleeing: false,
        }
    }

    /// It has nothing more to do, and what it does now is for nobody.
    fn forget_all(&mut self) {
        self.queue.clear();
        self.turn += 1;
        (self.unsigned, self.fleeing) = (0, false);
    }
}

/// The wrong output of a liar. Plotters agree on theirs.
fn lie(task: u32, device: usize, plot: bool) -> OutputId {
    let who = if plot { u32::MAX } else { device as u32 };
    let bytes = [task.to_le_bytes(), who.to_le_bytes()].concat();
    OutputId { hash: ContentHash::of(&bytes), size: u64::from(task) }
}

impl World {
    // ---- Connections -----------------------------------------------------------------------------------------------

    /// The requester dials: at once when it can, in a while when it cannot.
    pub fn connect(&mut self, index: usize) {
        let (device, link) = (&self.devices[index], &self.links[index]);
        if self.over() || self.home.down || link.open || !device.up {
            return;
        }
        let ready_at = link.whole_at().max(self.home.asleep_until).max(device.frozen_until);
        if ready_at > self.now {
            return self.at(ready_at + S, Event::Connect(index));
        }
        let link = &mut self.links[index];
        link.connect();
        let epoch = link.epoch;
        self.devices[index].forget_all();
        let credit = match self.devices[index].ills.boasts {
            Some(fault) => {
                self.feel(fault);
                u32::MAX
            }
            None => CREDIT,
        };
        self.send(index, Way::Up, Message::Ready { credit });
        self.after(HEARTBEAT, Event::Beat(index, epoch));
    }

    /// A connection ends at both ends; the requester is told in a moment.
    pub fn drop_link(&mut self, index: usize, dials_again: bool) {
        if !self.links[index].open {
            return;
        }
        let unsigned = std::mem::take(&mut self.links[index].owed);
        self.hang_up(index);
        let (worker, notice) = (self.devices[index].worker, self.rng.ms(0..200));
        if !unsigned.is_empty() {
            let unsigned = Input::Unsigned { worker, claims: unsigned.into() };
            self.after(notice, Event::Tell(self.home.life, unsigned));
        }
        let lost = Input::WorkerLost { worker, reason: "connection closed".into() };
        self.after(notice, Event::Tell(self.home.life, lost));
        if dials_again {
            self.after(notice + S, Event::Connect(index));
        }
    }

    /// A connection is gone, and with it what the device did for it.
    pub fn hang_up(&mut self, index: usize) {
        self.links[index].close();
        self.devices[index].forget_all();
    }

    /// Three pings were not answered.
    pub fn unanswered(&mut self, index: usize, epoch: u32) {
        let link = &self.links[index];
        let asleep = self.home.asleep_until > self.now || self.devices[index].frozen_until > self.now;
        if link.open && link.epoch == epoch && (asleep || link.whole_at() > self.now || !self.devices[index].up) {
            self.drop_link(index, true);
        }
    }

    /// Something may be wrong with a connection: pings will tell, within 6 to 8 s.
    pub fn suspect(&mut self, index: usize) {
        let (epoch, patience) = (self.links[index].epoch, self.rng.ms(6_000..8_000));
        self.after(patience, Event::Unanswered(index, epoch));
    }

    // ---- Work ------------------------------------------------------------------------------------------------------

    pub fn device_hears(&mut self, index: usize, message: Message) {
        let device = &mut self.devices[index];
        if !device.up {
            return;
        }
        match message {
            Message::Start(attempt) => {
                if let Some(fault) = device.ills.forgets
                    && self.rng.chance(33)
                {
                    return self.feel(fault);
                }
                device.queue.push_back(attempt);
                if device.queue.len() == 1 {
                    self.work(index);
                }
            }
            Message::Cancel(attempt) => {
                let Some(place) = device.queue.iter().position(|queued| *queued == attempt) else { return };
                device.queue.remove(place);
                if place == 0 {
                    self.work(index);
                }
            }
            _ => {}
        }
    }

    /// Takes up the first attempt of the queue.
    fn work(&mut self, index: usize) {
        let device = &mut self.devices[index];
        device.turn += 1;
        let Some(attempt) = device.queue.front().copied() else { return };
        let (turn, ills) = (device.turn, device.ills);
        let mut time = self.rng.about(self.scene.time_of(attempt.task, self.scene.remote_time));
        if let Some((times, fault)) = ills.slow {
            time *= times;
            self.feel(fault);
        }
        if let Some(fault) = ills.slowed {
            time *= SLOWED;
            self.feel(fault);
        }
        match ills.hogs {
            Some(fault) => self.feel(fault),
            None => self.after(time, Event::Finish(index, turn, attempt)),
        }
    }

    /// From now on it works slowly, on what it holds as well.
    pub fn slow_down(&mut self, index: usize) {
        self.work(index);
    }

    pub fn finish(&mut self, index: usize, turn: u64, attempt: AttemptRef) {
        let device = &mut self.devices[index];
        if !device.up || device.turn != turn || !self.links[index].open {
            return;
        }
        if device.frozen_until > self.now {
            let until = device.frozen_until;
            return self.at(until, Event::Finish(index, turn, attempt));
        }
        device.queue.pop_front();
        self.answer(index, attempt);
        self.work(index);
    }

    fn answer(&mut self, index: usize, attempt: AttemptRef) {
        let ills = self.devices[index].ills;
        if self.scene.poison == Some(attempt.task) && ills.lies.is_none() && ills.flees.is_none() {
            return self.speak(index, Message::Failed(attempt, guest_failure()));
        }
        if let Some(fault) = ills.fails
            && self.rng.chance(50)
        {
            self.feel(fault);
            let refusal = Refusal::new(self.some_code(), "by lot");
            return self.speak(index, Message::Failed(attempt, refusal));
        }
        let mut output = self.truth[attempt.task as usize];
        if let Some((percent, plot, fault)) = ills.lies
            && (self.rng.chance(percent) || self.scene.poison == Some(attempt.task))
        {
            self.feel(fault);
            output = lie(attempt.task, index, plot);
        }
        if let Some((percent, fault)) = ills.flees
            && (self.rng.chance(percent) || self.scene.poison == Some(attempt.task))
        {
            self.feel(fault);
            output = lie(attempt.task, index, false);
            self.devices[index].fleeing = true;
            let soon = self.rng.ms(0..3_000);
            self.after(soon, Event::Fault(fault, 0));
        }
        self.give(index, attempt, output);
        if let Some(fault) = ills.doubles {
            self.feel(fault);
            let (late, epoch) = (self.rng.ms(0..10_000), self.links[index].epoch);
            self.after(late, Event::Again(index, epoch, attempt, output));
        }
    }

    /// A result, for which it signs in a moment.
    pub fn give(&mut self, index: usize, attempt: AttemptRef, output: OutputId) {
        self.speak(index, Message::Result(attempt, output));
        self.devices[index].unsigned += 1;
        if self.devices[index].unsigned == 1 {
            self.after(SIGN_INTERVAL, Event::Sign(index, self.links[index].epoch));
        }
    }

    pub fn sign(&mut self, index: usize, epoch: u32) {
        let (device, link) = (&mut self.devices[index], &self.links[index]);
        if !device.up || device.fleeing || !link.open || link.epoch != epoch {
            return;
        }
        if device.frozen_until > self.now {
            let until = device.frozen_until;
            return self.at(until, Event::Sign(index, epoch));
        }
        let results = std::mem::take(&mut device.unsigned);
        self.speak(index, Message::Receipt(results));
    }

    fn some_code(&mut self) -> RefusalCode {
        use RefusalCode::*;
        let codes = [TaskCrashed, Deadline, Busy, RateLimited, NotLending, Denied, Other, BadMessage, StaleLease];
        codes[self.rng.range(0..codes.len() as u64) as usize]
    }

    /// Says something, if anything that it says arrives.
    fn speak(&mut self, index: usize, message: Message) {
        match self.devices[index].ills.silent {
            Some(fault) => self.feel(fault),
            None => self.send(index, Way::Up, message),
        }
    }

    pub fn beat(&mut self, index: usize, epoch: u32) {
        let (device, link) = (&self.devices[index], &self.links[index]);
        if !device.up || !link.open || link.epoch != epoch || self.over() {
            return;
        }
        if device.frozen_until <= self.now {
            let held = device.queue.iter().copied().collect();
            self.speak(index, Message::Beat(held));
        }
        self.after(HEARTBEAT, Event::Beat(index, epoch));
    }

    // ---- Lies about what it was never given ------------------------------------------------------------------------

    /// Claims a result by lot; of an attempt of its own it would be none of its lies.
    pub fn forge(&mut self, index: usize, fault: usize, times: u32) {
        let task = self.rng.range(0..u64::from(self.scene.tasks) + 2) as u32;
        let attempt = AttemptRef { task, attempt: self.rng.range(0..3) as u32 };
        let device = &self.devices[index];
        if self.over() || !device.up {
            return;
        }
        if self.links[index].open && !self.checker.given(device.worker, attempt) {
            self.feel(fault);
            self.speak(index, Message::Result(attempt, lie(task, index, false)));
        }
        let again = self.rng.ms(10..800);
        self.after(again.max(MS), Event::Fault(fault, times + 1));
    }
}
