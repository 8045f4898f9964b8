//! The guest's timers: what is to be called when.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use rquickjs::{Function, Persistent};

/// Timers of one run at a time. They are held outside the guest's heap, so they need a bound of their own. *Judgement.*
pub const TIMERS: usize = 4_096;
/// Longer waits than any run: a later time would not fit a clock.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// Intervals are no shorter, so that one alone does not take all of the run's time.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// What a timer calls.
pub type Act = Persistent<Function<'static>>;

struct Timer {
    act: Act,
    every: Option<Duration>,
}

/// The timers of a run.
#[derive(Default)]
pub struct Timers {
    /// By their time and then their age.
    due: BTreeMap<(Instant, u32), Timer>,
    times: HashMap<u32, Instant>,
    last: u32,
}

impl Timers {
    /// Adds a timer and gives its number, or none when there are too many.
    pub fn add(&mut self, act: Act, now: Instant, wait_ms: f64, repeats: bool) -> Option<u32> {
        if self.due.len() >= TIMERS {
            return None;
        }
        // What is no number, or is below 0, means at once; as on the web.
        let wait = Duration::try_from_secs_f64(wait_ms.max(0.0) / 1e3).unwrap_or(LONGEST).min(LONGEST);
        let every = repeats.then(|| wait.max(SHORTEST_INTERVAL));
        self.last = self.last.wrapping_add(1);
        let number = self.last;
        self.put(number, now + every.unwrap_or(wait), Timer { act, every });
        Some(number)
    }

    fn put(&mut self, number: u32, at: Instant, timer: Timer) {
        self.times.insert(number, at);
        self.due.insert((at, number), timer);
    }

    /// Takes a timer away.
    pub fn remove(&mut self, number: u32) {
        if let Some(at) = self.times.remove(&number) {
            self.due.remove(&(at, number));
        }
    }

    /// When the next one is due.
    pub fn next(&self) -> Option<Instant> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    /// What the longest due timer calls; an interval is set anew.
    pub fn take_due(&mut self, now: Instant) -> Option<Act> {
        if self.next()? > now {
            return None;
        }
        let ((_, number), timer) = self.due.pop_first()?;
        self.times.remove(&number);
        let act = timer.act.clone();
        if let Some(every) = timer.every {
            self.put(number, now + every, timer);
        }
        Some(act)
    }
}
