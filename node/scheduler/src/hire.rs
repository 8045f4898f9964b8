//! Whom to hire now: the choice of devices made again while the job runs, with what its own parts have shown.
//!
//! A job begins on the requester's device at once. Others are hired as soon as measured time says that the job ends
//! sooner with them, start-up included: a short job is over before, a long one uses everybody. A service that was never
//! measured is judged by its first parts: by how long they took, or by how long they have been running already, which is
//! the least that they take.
//!
//! Pure, like the job itself: it sees what the job sees ([`Hiring::heard`], [`Hiring::told`]), in the same clock.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use msm_protocol::{PeerId, job::AttemptRef};

use crate::{
    job::{Input, Output, Worker},
    makespan::{self, DEVICES_MAX, Load, Server, Sure, TOLERANCE},
    rates,
    select::{DeviceWish, Selection},
};

/// The first look at a job whose parts give no answer: before, no start-up could pay. *Judgement.*
pub const LOOK_FIRST: Duration = Duration::from_millis(4);
/// Looks are at least this far apart: one costs some 10 µs for each device around. *Judgement.*
pub const LOOK_PAUSE: Duration = Duration::from_millis(4);
/// Hiring somebody must save as much as this beside its share of the whole: what a prediction is off by in a job of a
/// few milliseconds. *Judgement.*
pub const GAIN_MIN: f64 = 0.004;
/// A part that runs counts as done by this share at most: one that takes longer than expected is not done.
const NEARLY: f64 = 0.9;

/// Task and number of an attempt.
type Key = (u32, u32);

/// What the job has shown of this device.
#[derive(Debug, Default)]
struct Own {
    server: Option<Server>,
    /// Attempts that run, and since when.
    open: BTreeMap<Key, Duration>,
    parts: u32,
    /// Share of the work in them.
    share: f64,
    /// Bytes in them.
    bytes: u64,
    /// Seconds of one slot that they took.
    seconds: f64,
}

/// A device that was hired.
#[derive(Debug)]
struct Hired {
    /// As it was predicted.
    server: Server,
    since: Duration,
    /// When its first attempt was sent.
    started: Option<Duration>,
    open: BTreeSet<Key>,
    /// Seconds that its slots were busy since its first result: so far, until `counted`, and until its last result.
    busy: f64,
    counted: Duration,
    busy_to_last: f64,
    parts: u32,
    /// Share of the work in its accepted parts: in all, and in those after the first of each slot.
    share: f64,
    after_first: f64,
    first_at: Duration,
    first_share: f64,
    last_at: Duration,
    gone: bool,
    lied: bool,
}

/// What a finished job has shown: for the tables of rates.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Shown {
    /// This device's own parts.
    pub own: Option<OwnParts>,
    /// The others that had parts accepted, or kept theirs so long that others did them.
    pub peers: Vec<(PeerId, PeerParts)>,
}

/// Parts of this device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OwnParts {
    /// How many.
    pub parts: u32,
    /// Mean bytes of one.
    pub bytes: u64,
    /// Mean seconds of one on one slot.
    pub seconds: f64,
}

/// Parts of another device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PeerParts {
    /// How many were accepted.
    pub parts: u32,
    /// What all its slots work off, where 1 is one slot of this device.
    pub power: Option<f64>,
    /// From being hired to the start of its first part.
    pub startup: Option<Duration>,
}

/// Decides when to hire whom for one running job.
#[derive(Debug)]
pub struct Hiring {
    /// Share of the work in each task.
    shares: Vec<f64>,
    bytes: Vec<u64>,
    accepted: Vec<bool>,
    left: u32,
    load: Load,
    wish: DeviceWish,
    own: Own,
    hired: BTreeMap<PeerId, Hired>,
    /// Others that fit, the better first.
    pool: Vec<(PeerId, Server)>,
    /// Who starts with the job.
    first: Vec<PeerId>,
    /// How many the selection takes, this device included.
    count: usize,
    looked: Duration,
    /// Something is known that was not at the last look.
    news: bool,
}

impl Hiring {
    /// For a job whose tasks have inputs of so many `bytes`, with the devices that were selected for it.
    pub fn new(selection: &Selection, wish: DeviceWish, bytes: Vec<u64>) -> Self {
        // Parts without bytes are work too.
        let all: f64 = bytes.iter().map(|bytes| *bytes as f64 + 1.0).sum();
        let mut hiring = Self {
            shares: bytes.iter().map(|bytes| (*bytes as f64 + 1.0) / all).collect(),
            accepted: vec![false; bytes.len()],
            left: bytes.len() as u32,
            bytes,
            load: Load { cut: true, ..selection.load },
            wish,
            own: Own::default(),
            hired: BTreeMap::new(),
            pool: Vec::new(),
            first: Vec::new(),
            count: 0,
            looked: Duration::ZERO,
            news: false,
        };
        hiring.renew(selection);
        let peers = hiring.pool.iter().map(|(peer, _)| *peer);
        let others = (selection.count as usize).saturating_sub(usize::from(selection.is_here()));
        // A guess is no reason to have others fetch a package: the first part will tell.
        let waits = wish.auto && selection.is_here() && selection.load.sure == Sure::Guessed;
        let others = if waits { others.min(wish.min.saturating_sub(1) as usize) } else { others };
        hiring.first = peers.take(others).collect();
        hiring
    }

    /// Others have appeared, or left: the selection made again.
    pub fn renew(&mut self, selection: &Selection) {
        self.own.server = selection.servers.iter().find(|(peer, _)| peer.is_none()).map(|(_, server)| *server);
        let others = selection.servers.iter().filter_map(|(peer, server)| Some(((*peer)?, *server)));
        self.pool = others.filter(|(peer, _)| !self.hired.contains_key(peer)).take(DEVICES_MAX).collect();
        self.count = selection.count as usize;
        self.news = true;
    }

    /// Takes the next best device that fits, for the place of one that refused or was lost; the caller hires it.
    pub fn spare(&mut self, now: Duration) -> Option<PeerId> {
        let (peer, _) = *self.pool.first()?;
        self.hire(peer, now);
        Some(peer)
    }

    /// How many others could be hired.
    pub fn spares(&self) -> usize {
        self.pool.len()
    }

    /// Everybody who was hired, those that refused or left included.
    pub fn hired(&self) -> impl Iterator<Item = PeerId> {
        self.hired.keys().copied()
    }

    fn hire(&mut self, peer: PeerId, now: Duration) {
        let Some(at) = self.pool.iter().position(|(other, _)| *other == peer) else { return };
        let (_, server) = self.pool.remove(at);
        let hired = Hired {
            server,
            since: now,
            started: None,
            open: BTreeSet::new(),
            busy: 0.0,
            counted: now,
            busy_to_last: 0.0,
            parts: 0,
            share: 0.0,
            after_first: 0.0,
            first_at: Duration::ZERO,
            first_share: 0.0,
            last_at: Duration::ZERO,
            gone: false,
            lied: false,
        };
        self.hired.insert(peer, hired);
    }

    /// A device did not take the job.
    pub fn refused(&mut self, peer: &PeerId) {
        if let Some(hired) = self.hired.get_mut(peer) {
            hired.gone = true;
        }
        self.news = true;
    }

    // ---- What happens in the job -----------------------------------------------------------------------------------

    /// What the job is about to be told.
    pub fn heard(&mut self, input: &Input, now: Duration) {
        match input {
            Input::Failed { worker, attempt, .. } | Input::Result { worker, attempt, .. } => match worker {
                // Its time counts when it is accepted, which follows at once.
                Worker::Local if matches!(input, Input::Result { .. }) => {}
                _ => self.close(*worker, attempt, now),
            },
            Input::WorkerLost { worker: Worker::Remote(peer), .. } => self.refused(peer),
            Input::Struck { worker: Worker::Remote(peer), .. } => self.lied(peer),
            // What was done before a restart says nothing of today's speeds.
            Input::Restored { task, .. } => {
                if let Some(done) = self.accepted.get_mut(*task as usize) {
                    self.left -= u32::from(!std::mem::replace(done, true));
                }
            }
            _ => {}
        }
    }

    /// What the job has decided.
    pub fn told(&mut self, output: &Output, now: Duration) {
        match output {
            Output::Start { worker, attempt, .. } => self.open(*worker, *attempt, now),
            Output::Accepted { worker, attempt, .. } => self.accepted(*worker, *attempt, now),
            Output::Cancel { worker, attempt, .. }
            | Output::Kept { worker, attempt, .. }
            | Output::Dropped { worker, attempt, .. } => self.close(*worker, attempt, now),
            Output::Lost { worker: Worker::Remote(peer), .. } => self.refused(peer),
            Output::Withdrawn { task, worker } => self.withdrawn(*task, *worker),
            Output::Struck { worker: Worker::Remote(peer), .. } => self.lied(peer),
            _ => {}
        }
    }

    fn open(&mut self, worker: Worker, attempt: AttemptRef, now: Duration) {
        let attempt = key(&attempt);
        match worker {
            Worker::Local => drop(self.own.open.insert(attempt, now)),
            Worker::Remote(peer) => {
                let Some(hired) = self.hired.get_mut(&peer) else { return };
                hired.count(now);
                hired.open.insert(attempt);
                hired.started.get_or_insert(now);
            }
        }
    }

    fn close(&mut self, worker: Worker, attempt: &AttemptRef, now: Duration) {
        let attempt = &key(attempt);
        match worker {
            Worker::Local => drop(self.own.open.remove(attempt)),
            Worker::Remote(peer) => {
                let Some(hired) = self.hired.get_mut(&peer) else { return };
                hired.count(now);
                hired.open.remove(attempt);
            }
        }
    }

    fn accepted(&mut self, worker: Worker, attempt: AttemptRef, now: Duration) {
        let task = attempt.task as usize;
        let (Some(share), Some(done)) = (self.shares.get(task).copied(), self.accepted.get_mut(task)) else { return };
        if std::mem::replace(done, true) {
            return;
        }
        self.left -= 1;
        self.news = true;
        match worker {
            Worker::Local => {
                let Some(since) = self.own.open.remove(&key(&attempt)) else { return };
                self.own.parts += 1;
                self.own.share += share;
                self.own.bytes += self.bytes.get(task).copied().unwrap_or(0);
                self.own.seconds += now.saturating_sub(since).as_secs_f64();
            }
            Worker::Remote(peer) => {
                let Some(hired) = self.hired.get_mut(&peer) else { return };
                if hired.parts == 0 {
                    (hired.first_at, hired.first_share) = (now, share);
                }
                hired.share += share;
                if hired.parts >= hired.server.slots {
                    hired.after_first += share;
                }
                hired.parts += 1;
                (hired.last_at, hired.busy_to_last) = (now, hired.busy);
            }
        }
    }

    /// A task has to be done again, because its worker lied.
    fn withdrawn(&mut self, task: u32, worker: Worker) {
        if let Some(done) = self.accepted.get_mut(task as usize) {
            self.left += u32::from(std::mem::take(done));
            self.news = true;
        }
        if let Worker::Remote(peer) = worker {
            self.lied(&peer);
        }
    }

    /// Nothing is learned from a liar: it may have been quick because it did not work.
    fn lied(&mut self, peer: &PeerId) {
        if let Some(hired) = self.hired.get_mut(peer) {
            (hired.gone, hired.lied) = (true, true);
        }
        self.news = true;
    }

    // ---- What follows ----------------------------------------------------------------------------------------------

    /// Those to hire now. The first call gives those that start with the job.
    pub fn whom(&mut self, now: Duration) -> Vec<PeerId> {
        let mut whom = std::mem::take(&mut self.first);
        whom.iter().for_each(|peer| self.hire(*peer, now));
        if self.next_look().is_some_and(|at| at <= now) {
            (self.looked, self.news) = (now, false);
            let more = self.worth(now).min(self.room());
            let next: Vec<PeerId> = self.pool.iter().take(more).map(|(peer, _)| *peer).collect();
            next.iter().for_each(|peer| self.hire(*peer, now));
            whom.extend(next);
        }
        whom
    }

    /// When to call [`Self::whom`] if nothing happens before; `None` while nobody could be hired.
    pub fn next_look(&self) -> Option<Duration> {
        if !self.first.is_empty() {
            return Some(Duration::ZERO);
        }
        if self.left == 0 || self.pool.is_empty() || self.room() == 0 {
            return None;
        }
        Some(match self.news {
            _ if !self.wish.auto => Duration::ZERO,
            true => (self.looked + LOOK_PAUSE).min((self.looked * 2).max(LOOK_FIRST)),
            false => (self.looked * 2).max(LOOK_FIRST),
        })
    }

    /// Places that the wish leaves.
    pub fn room(&self) -> usize {
        (self.wish.max as usize).saturating_sub(self.takes_part())
    }

    /// True while fewer take part than the wish demands.
    pub fn lacks(&self) -> bool {
        self.takes_part() < self.wish.min.max(1) as usize
    }

    /// How many take part, this device included.
    fn takes_part(&self) -> usize {
        self.hired.values().filter(|hired| !hired.gone).count() + usize::from(self.own.server.is_some())
    }

    /// How many of the pool make the job shorter.
    fn worth(&self, now: Duration) -> usize {
        let own = match self.own.server {
            _ if !self.wish.auto => return self.pool.len(),
            // There is nothing to measure the others by: as many as are chosen now that these are known.
            None => return self.count.max(1).min(self.left as usize).saturating_sub(self.takes_part()),
            Some(own) => own,
        };
        let Some(work) = self.work(now) else { return 0 };
        let left: f64 =
            self.shares.iter().zip(&self.accepted).filter(|(_, done)| !**done).map(|(share, _)| share).sum();
        let left = (left - self.under_way(work, now)).max(0.0);
        let rest = Load {
            tasks: self.left,
            bytes: self.load.bytes * left,
            output: self.load.output * left,
            work: work * left,
            // The work holds it already.
            per_task: 0.0,
            around: 0.0,
            ..self.load
        };
        let mut servers = vec![own];
        servers.extend(self.hired.values().filter(|hired| !hired.gone).map(|hired| self.seen(hired, work, now)));
        let without = makespan::makespan(&servers, &rest);
        let more = self.pool.iter().take(self.room()).map(|(_, server)| {
            servers.push(*server);
            makespan::makespan(&servers, &rest)
        });
        let times: Vec<f64> = more.collect();
        let best = times.iter().copied().fold(f64::INFINITY, f64::min);
        if best * TOLERANCE + GAIN_MIN > without {
            return 0;
        }
        times.iter().position(|time| *time <= best * TOLERANCE).map_or(0, |at| at + 1)
    }

    /// Seconds of one slot of this device for the whole job: what was known before, corrected by the parts so far; of a
    /// job without a finished part the least that it can be.
    fn work(&self, now: Duration) -> Option<f64> {
        let known = (self.load.sure == Sure::Measured).then_some(self.all());
        let shown = (self.own.parts > 0).then(|| self.own.seconds / self.own.share);
        match (known.and_then(rates::sane), shown) {
            (Some(known), Some(shown)) => {
                // Each part says more than the tables, the first not much: a child may have been started for it.
                let parts = f64::from(self.own.parts);
                Some(known * (shown / known).max(1e-9).powf(parts / (parts + 1.0)))
            }
            (None, Some(shown)) => Some(shown),
            (known, None) => {
                let running = self.open_here().map(|(share, since)| now.saturating_sub(since).as_secs_f64() / share);
                running.chain(known).reduce(f64::max)
            }
        }
    }

    /// The whole work as it was predicted, seconds of one slot.
    fn all(&self) -> f64 {
        self.load.work + self.load.per_task * self.shares.len() as f64
    }

    /// Share of the work that this device's running parts have behind them.
    fn under_way(&self, work: f64, now: Duration) -> f64 {
        let behind = self
            .open_here()
            .map(|(share, since)| f64::min(now.saturating_sub(since).as_secs_f64() / work.max(1e-9), share * NEARLY));
        behind.sum()
    }

    /// This device's running parts: the share of the work in each, and since when. Not those that it only checks.
    fn open_here(&self) -> impl Iterator<Item = (f64, Duration)> {
        self.own.open.iter().filter_map(|((task, _), since)| {
            let (share, done) = self.shares.get(*task as usize).zip(self.accepted.get(*task as usize))?;
            (!done).then_some((*share, *since))
        })
    }

    /// A hired device as it has shown itself.
    fn seen(&self, hired: &Hired, work: f64, now: Duration) -> Server {
        let waited = now.saturating_sub(hired.since).as_secs_f64();
        let startup = if hired.parts > 0 { 0.0 } else { (hired.server.startup - waited).max(0.0) };
        let power = hired.power(work).or_else(|| Some(hired.at_most(self.grain(), work, now)?.min(hired.server.power)));
        Server { power: power.unwrap_or(hired.server.power), startup, ..hired.server }
    }

    /// Share of the work in a task of usual size.
    fn grain(&self) -> f64 {
        1.0 / self.shares.len().max(1) as f64
    }

    /// What the job has shown of everybody, at its end.
    pub fn shown(&self, now: Duration) -> Shown {
        let own = (self.own.parts > 0).then(|| OwnParts {
            parts: self.own.parts,
            bytes: self.own.bytes / u64::from(self.own.parts),
            seconds: self.own.seconds / f64::from(self.own.parts),
        });
        let work = if self.own.parts > 0 { self.own.seconds / self.own.share } else { self.all() };
        let peers = self.hired.iter().filter(|(_, hired)| !hired.lied).filter_map(|(peer, hired)| {
            let power = hired.power(work).or_else(|| {
                // Who was waited for in vain is no faster than that, whatever it says of itself.
                hired.at_most(self.grain(), work, now).filter(|most| *most < hired.server.power)
            });
            let parts = PeerParts { parts: hired.parts, power, startup: hired.startup(work, &self.load) };
            (parts.power.is_some() || parts.startup.is_some()).then_some((*peer, parts))
        });
        Shown { own, peers: peers.collect() }
    }
}

fn key(attempt: &AttemptRef) -> Key {
    (attempt.task, attempt.attempt)
}

impl Hired {
    /// Counts how busy its slots were until now.
    fn count(&mut self, now: Duration) {
        let since = std::mem::replace(&mut self.counted, now);
        if self.parts > 0 {
            let busy = self.open.len().min(self.server.slots as usize) as f64;
            self.busy += now.saturating_sub(since).as_secs_f64() * busy;
        }
    }

    /// What it works off, by its accepted parts: those after the first of each slot, which hold the start-up.
    fn power(&self, work: f64) -> Option<f64> {
        let slots = f64::from(self.server.slots.max(1));
        if self.after_first > 0.0 && self.busy_to_last > 0.0 {
            return rates::sane(self.after_first * work / self.busy_to_last * slots);
        }
        // One part for each slot at most: the predicted start-up is all there is to take off.
        let all = self.last_at.checked_sub(self.started?)?.as_secs_f64();
        let busy = (all - self.server.startup).max(all / 2.0);
        (self.parts > 0 && busy > 0.0).then(|| rates::sane(self.share * work / busy)).flatten()
    }

    /// The most that it can work off when a task of `grain` is not back yet.
    fn at_most(&self, grain: f64, work: f64, now: Duration) -> Option<f64> {
        let waited = now.saturating_sub(self.started.filter(|_| self.parts == 0 && !self.gone)?).as_secs_f64();
        let busy = waited - self.server.startup;
        (busy > 0.0).then(|| rates::sane(f64::from(self.server.slots.max(1)) * grain * work / busy)).flatten()
    }

    /// From being hired to the start of its first part.
    fn startup(&self, work: f64, load: &Load) -> Option<Duration> {
        let slot = self.power(work)? / f64::from(self.server.slots.max(1));
        let wire = self.server.link?;
        let way = wire.rtt + self.first_share * load.bytes / wire.up + self.first_share * load.output / wire.down;
        let first = self.first_at.checked_sub(self.since)?.as_secs_f64();
        (self.parts > 0).then(|| makespan::seconds((first - self.first_share * work / slot - way).max(0.0)))
    }
}
