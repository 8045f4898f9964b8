//! What the host knows of the run in progress: its deadline, its log, its allowances, and what it waits for.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rquickjs::{Ctx, Exception, Result, Value};

use super::{
    chance::Chance,
    channel::Channel,
    heap::Account,
    js::{buffers::LentBytes, readable, rejections::Rejections, turns::Turns},
};
use crate::{
    call::{Asks, Engine, Work},
    wire::{self, Loaded},
    work::WorkError,
};

/// Calls of `ctx.image` in one run: a service needs a few; each costs the host real work. *Judgement.*
const HOST_CALLS: u32 = 1_000;
/// How often progress is passed on, however often the guest tells it.
const PROGRESS_EVERY: Duration = Duration::from_millis(50);

/// One per child, started anew for each run.
pub struct Host {
    pub account: Rc<Account>,
    pub chance: Chance,
    pub turns: Turns,
    pub rejections: Rejections,
    /// What the host lends the guest: its input, decoded pictures, fetched pages.
    pub lent: LentBytes,
    package: RefCell<Rc<Loaded>>,
    /// None between runs: what the host itself has the engine do is not timed.
    deadline: Cell<Option<Instant>>,
    time: Cell<Duration>,
    log: RefCell<String>,
    host_calls: Cell<u32>,
    told: Cell<Option<Instant>>,
}

/// What a guest may ask for in its manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    Image,
    Random,
    Gps,
    Net,
    Device,
}

impl Right {
    /// The right of a name in prelude.js.
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Image, Self::Random, Self::Gps, Self::Net, Self::Device];
        all.into_iter().find(|right| right.key() == name)
    }

    /// Its key in the manifest.
    const fn key(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Random => "random",
            Self::Gps => "gps",
            Self::Net => "net",
            Self::Device => "device",
        }
    }

    /// What the manifest could say to ask for it.
    const fn example(self) -> &'static str {
        match self {
            Self::Image | Self::Random | Self::Device => "true",
            Self::Gps => "\"coarse\"",
            Self::Net => "[\"example.org\"]",
        }
    }

    const fn is_in(self, asks: Asks) -> bool {
        match self {
            Self::Image => asks.image,
            Self::Random => asks.random,
            Self::Gps => asks.gps,
            Self::Net => asks.net,
            Self::Device => asks.device,
        }
    }
}

impl Host {
    pub fn new() -> Rc<Self> {
        let nothing = Loaded {
            engine: Engine::Js,
            work: Work::Whole,
            asks: Asks::default(),
            label: String::new(),
            modules: Vec::new(),
            assets: Vec::new(),
            source: Vec::new(),
        };
        Rc::new(Self {
            account: Rc::default(),
            chance: Chance::new(),
            turns: Turns::default(),
            rejections: Rejections::default(),
            lent: LentBytes::default(),
            package: RefCell::new(Rc::new(nothing)),
            deadline: Cell::default(),
            time: Cell::default(),
            log: RefCell::default(),
            host_calls: Cell::default(),
            told: Cell::default(),
        })
    }

    /// Starts a run: everything is as it was at the first one.
    pub fn start(&self, time: Duration, memory: u64, package: &Rc<Loaded>) {
        self.deadline.set(Instant::now().checked_add(time));
        self.time.set(time);
        self.log.borrow_mut().clear();
        self.host_calls.set(0);
        *self.package.borrow_mut() = package.clone();
        self.lent.allow(memory);
        self.chance.start();
        self.told.set(None);
        self.account.allow(memory);
    }

    /// Ends a run: no deadline, no memory limit, for what the host itself does between runs.
    pub fn rest(&self) {
        self.deadline.set(None);
        self.account.unlimited();
    }

    /// The package that runs.
    pub fn package(&self) -> Rc<Loaded> {
        self.package.borrow().clone()
    }

    /// When the run's time is over.
    pub const fn deadline(&self) -> Option<Instant> {
        self.deadline.get()
    }

    /// Whether the run's time is over.
    pub fn is_late(&self) -> bool {
        self.deadline.get().is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// The run's whole time.
    pub const fn time(&self) -> Duration {
        self.time.get()
    }

    /// Milliseconds since 1970 for guests that may know; 0 for the others, so that their runs are all alike.
    pub fn now_ms(&self) -> f64 {
        if !self.package().asks.clock {
            return 0.0;
        }
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| (time.as_millis() as f64).trunc())
    }

    /// The next of the guest's random numbers.
    pub fn random(&self) -> f64 {
        let real = if self.package().asks.random { self.chance.real() } else { None };
        real.unwrap_or_else(|| self.chance.fixed())
    }

    /// Why the guest may not use `what`, if its manifest does not ask for it.
    pub fn missing(&self, right: Right, what: &str) -> Option<String> {
        if right.is_in(self.package().asks) {
            return None;
        }
        let (key, example) = (right.key(), right.example());
        Some(format!("{what} is not permitted: add `{key} = {example}` under [permissions] in service.toml"))
    }

    /// What the guest logged.
    pub fn take_log(&self) -> String {
        self.log.take()
    }

    /// Adds a line of these values to the log.
    pub fn log<'js>(&self, ctx: &Ctx<'js>, level: &str, values: &[Value<'js>]) {
        const CUT: &str = "… log cut\n";
        let room = wire::LOG_BYTES - CUT.len();
        if self.log.borrow().len() >= room {
            return;
        }
        let mut line = level.to_owned();
        for (index, value) in values.iter().enumerate() {
            if index > 0 {
                line.push(' ');
            }
            line.push_str(&readable(ctx, value));
            if line.len() > room {
                break;
            }
        }
        line.push('\n');
        let mut log = self.log.borrow_mut();
        // Showing the values may have run code that logs too.
        let left = room.saturating_sub(log.len());
        if line.len() > left {
            log.push_str(&line[..line.floor_char_boundary(left)]);
            log.push_str(CUT);
        } else {
            log.push_str(&line);
        }
    }

    /// Passes progress on, now and then.
    pub fn progress(&self, part: f64) {
        let now = Instant::now();
        if part.is_finite() && self.told.get().is_none_or(|told| now.duration_since(told) >= PROGRESS_EVERY) {
            self.told.set(Some(now));
            Channel::inherited().send(wire::kind::PROGRESS, &[&(part.clamp(0.0, 1.0) as f32).to_le_bytes()]);
        }
    }

    /// Counts a call of `ctx.image` and checks that the manifest asks for it.
    pub fn image_call(&self, ctx: &Ctx<'_>, what: &str) -> Result<()> {
        if let Some(why) = self.missing(Right::Image, what) {
            return Err(Exception::throw_message(ctx, &why));
        }
        let calls = self.host_calls.get() + 1;
        if calls > HOST_CALLS {
            return Err(Exception::throw_range(ctx, &format!("more than {HOST_CALLS} calls of ctx.image in one run")));
        }
        self.host_calls.set(calls);
        Ok(())
    }

    /// A work error as the guest sees it.
    pub fn throw(&self, ctx: &Ctx<'_>, error: &WorkError) -> rquickjs::Error {
        match error {
            WorkError::Memory { .. } => {
                self.account.refuse();
                Exception::throw_range(ctx, &error.to_string())
            }
            WorkError::Bad(_) => Exception::throw_message(ctx, &error.to_string()),
        }
    }
}
