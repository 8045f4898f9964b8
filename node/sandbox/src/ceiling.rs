//! [`Ceiling`]: how much processor time several guests together may take; what is more, they wait for, standing still.
//!
//! A thread reads the children's CPU clocks and stops all of them (SIGSTOP) while they have had more than was allowed.
//! It needs no privileges and no cgroup, and works on what guests really use: one that waits costs the others nothing.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::process::cpu_of;

/// Time between two looks while guests could take more than they may. *Judgement*: a guest with a quarter of a core then
/// runs for 5 ms and stands for 15, too short for anybody to see, and the looking costs less than 1 % of a core.
const LOOK: Duration = Duration::from_millis(5);
/// The longest time between two looks while they take much less than they may: a device with a twentieth of a core has
/// none to spare for looking. *Judgement.*
const LOOK_SELDOM: Duration = Duration::from_millis(40);
/// What guests have had too much is forgotten beyond what they may have in this time: on a machine with much else to do
/// a look may come late, and they must not stand for as long as a deadline afterwards. *Judgement.*
const MEMORY: Duration = Duration::from_secs(1);

/// A ceiling for the guests that run under it. Cheap to clone; its thread ends with the last clone.
#[derive(Clone, Debug)]
pub struct Ceiling(Arc<Owner>);

/// What the clones share; the thread holds only what is inside.
#[derive(Debug)]
struct Owner {
    stretch: f64,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Seconds of processor time that all guests together may take in a second.
    cores: f64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    guests: HashMap<u64, Guest>,
    last: u64,
    /// Seconds that the guests had beyond what they may; below zero what they may still have at once.
    owed: f64,
    /// When `owed` was last made less for the time that has passed.
    paid: Instant,
    /// All of them stand.
    stopped: bool,
    /// The thread sleeps until somebody wakes it.
    asleep: bool,
    over: bool,
}

#[derive(Debug)]
struct Guest {
    pid: u32,
    /// Its clock when it was last read.
    cpu: Duration,
    /// How long it stood in all, up to the last time that it went on.
    stood: Duration,
    /// Since when it stands.
    since: Option<Instant>,
}

impl Guest {
    fn stop(&mut self) {
        signal(self.pid, libc::SIGSTOP);
        self.since = Some(Instant::now());
    }

    fn go_on(&mut self) {
        if let Some(since) = self.since.take() {
            signal(self.pid, libc::SIGCONT);
            self.stood += since.elapsed();
        }
    }
}

impl Ceiling {
    /// Of `cores` seconds of processor time in a second, for at most `guests` guests at a time. `None` when those can
    /// never take more than that: each guest computes on one core.
    pub fn new(cores: f64, guests: usize) -> io::Result<Option<Self>> {
        let guests = guests as f64;
        // A ceiling of next to nothing still lets things end some day.
        let cores = cores.max(0.01);
        if guests <= cores {
            return Ok(None);
        }
        let state = State {
            guests: HashMap::new(),
            last: 0,
            owed: 0.0,
            paid: Instant::now(),
            stopped: false,
            asleep: false,
            over: false,
        };
        let shared = Arc::new(Shared { cores, state: Mutex::new(state), changed: Condvar::new() });
        let watched = shared.clone();
        thread::Builder::new().name("msm-ceiling".into()).spawn(move || watched.watch())?;
        Ok(Some(Self(Arc::new(Owner { stretch: guests / cores, shared }))))
    }

    /// How many times longer than alone a guest takes when all compute.
    pub(crate) fn stretch(&self) -> f64 {
        self.0.stretch
    }

    /// Puts a child under the ceiling until the guard is dropped, which must happen before the child is reaped.
    pub(crate) fn watch(&self, pid: u32) -> Under {
        let shared = self.0.shared.clone();
        let mut state = shared.lock();
        shared.pay(&mut state);
        state.last += 1;
        let id = state.last;
        let mut guest = Guest { pid, cpu: cpu_of(pid), stood: Duration::ZERO, since: None };
        if state.stopped {
            guest.stop();
        }
        state.guests.insert(id, guest);
        let wake = state.asleep && shared.is_crowded(&state);
        drop(state);
        if wake {
            shared.changed.notify_one();
        }
        Under { shared, id }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can leave the table half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what was allowed since the last time off the debt; how long ago that was, in seconds.
    fn pay(&self, state: &mut State) -> f64 {
        let now = Instant::now();
        let time = now.duration_since(state.paid).as_secs_f64();
        state.paid = now;
        // What nobody used is not saved up: two looks' worth, so that a late look loses nothing.
        state.owed = (state.owed - self.cores * time).max(-self.cores * 2.0 * LOOK.as_secs_f64());
        time
    }

    /// Runs until the last clone is gone.
    fn watch(&self) {
        let mut state = self.lock();
        let mut wait = LOOK;
        while !state.over {
            if !self.is_crowded(&state) {
                // Nobody can take too much.
                go_on(&mut state);
                state.asleep = true;
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                (state.asleep, wait) = (false, LOOK);
                continue;
            }
            let near = self.look(&mut state);
            wait = if near { LOOK } else { (2 * wait).min(LOOK_SELDOM) };
            state = self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
        go_on(&mut state);
    }

    /// Whether those who run could take too much.
    fn is_crowded(&self, state: &State) -> bool {
        state.guests.len() as f64 > self.cores
    }

    /// Stops them or lets them go on; whether they take more than half of what they may.
    fn look(&self, state: &mut State) -> bool {
        let time = self.pay(state);
        let mut used = Duration::ZERO;
        for guest in state.guests.values_mut() {
            let cpu = cpu_of(guest.pid);
            used += cpu.saturating_sub(guest.cpu);
            guest.cpu = guest.cpu.max(cpu);
        }
        state.owed = (state.owed + used.as_secs_f64()).min(self.cores * MEMORY.as_secs_f64());
        match (state.owed > 0.0, state.stopped) {
            (true, false) => {
                state.stopped = true;
                state.guests.values_mut().for_each(Guest::stop);
            }
            (false, true) => go_on(state),
            _ => {}
        }
        state.stopped || 2.0 * used.as_secs_f64() > self.cores * time
    }
}

/// Lets all guests run that stand.
fn go_on(state: &mut State) {
    state.stopped = false;
    state.guests.values_mut().for_each(Guest::go_on);
}

fn signal(pid: u32, signal: libc::c_int) {
    // SAFETY: no memory is involved. The pid is a child's that was not reaped: its guard is dropped before that.
    unsafe { libc::kill(pid.cast_signed(), signal) };
}

/// A child is under the ceiling for as long as this lives.
#[derive(Debug)]
pub(crate) struct Under {
    shared: Arc<Shared>,
    id: u64,
}

impl Under {
    /// How long the child has stood still because of the ceiling.
    pub(crate) fn stood(&self) -> Duration {
        let state = self.shared.lock();
        let stood = |guest: &Guest| guest.stood + guest.since.map_or(Duration::ZERO, |since| since.elapsed());
        state.guests.get(&self.id).map_or(Duration::ZERO, stood)
    }
}

impl Drop for Under {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let Some(mut guest) = state.guests.remove(&self.id) else { return };
        // What it used since the last look counts too: many short calls are one long one.
        state.owed += cpu_of(guest.pid).saturating_sub(guest.cpu).as_secs_f64();
        guest.go_on();
    }
}
