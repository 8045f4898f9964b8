//! Makes the faults of a scene happen in its world.

use std::time::Duration;

use crate::{
    fault::Fault,
    net::Way,
    world::{Event, World},
};

const S: Duration = Duration::from_secs(1);

impl World {
    /// Before the job starts: faults that are there from the beginning begin, the others are put into the calendar.
    pub fn prepare(&mut self, number: usize) {
        let fault = self.scene.faults[number];
        match fault {
            Fault::Loss { on, percent } => {
                self.links[on].loss = percent;
                self.devices[on].ills.loss = Some(number);
            }
            Fault::Delay { on, by } => {
                self.links[on].latency += by;
                self.devices[on].ills.delay = Some(number);
            }
            Fault::Jitter { on, by } => {
                self.links[on].jitter = by;
                self.devices[on].ills.jitter = Some(number);
            }
            Fault::SlowLink { on, bytes_per_s } => {
                self.links[on].bytes_per_s = bytes_per_s;
                self.devices[on].ills.slow_link = Some(number);
            }
            Fault::Slow { on, times } => self.devices[on].ills.slow = Some((times, number)),
            Fault::Hogs { on } => self.devices[on].ills.hogs = Some(number),
            Fault::Forgets { on } => self.devices[on].ills.forgets = Some(number),
            Fault::Doubles { on } => self.devices[on].ills.doubles = Some(number),
            Fault::Fails { on } => self.devices[on].ills.fails = Some(number),
            Fault::Lies { on, percent, plot } => self.devices[on].ills.lies = Some((percent, plot, number)),
            Fault::Flees { on, percent } => self.devices[on].ills.flees = Some((percent, number)),
            Fault::Boasts { on } => self.devices[on].ills.boasts = Some(number),
            Fault::CrashesAtHome { percent } => self.home.crashes = Some((percent, number)),
            Fault::Cut { at, .. }
            | Fault::Flaps { at, .. }
            | Fault::SlowsDown { at, .. }
            | Fault::Silent { at, .. }
            | Fault::Freezes { at, .. }
            | Fault::Crashes { at, .. }
            | Fault::Forges { at, .. }
            | Fault::Sleeps { at, .. }
            | Fault::ClockJumps { at, .. }
            | Fault::Dies { at, .. } => self.at(at, Event::Fault(number, 0)),
        }
    }

    /// The moment of a fault has come, for the `times`th time.
    pub fn strike(&mut self, number: usize, times: u32) {
        if self.over() {
            return;
        }
        let now = self.now;
        match self.scene.faults[number] {
            Fault::Cut { on, lasts, up, down, .. } => self.cut(number, on, lasts, up, down),
            Fault::Flaps { on, times: most, .. } if times < most => {
                self.cut(number, on, S, true, true);
                self.after(2 * S, Event::Fault(number, times + 1));
            }
            Fault::SlowsDown { on, .. } => {
                self.devices[on].ills.slowed = Some(number);
                self.slow_down(on);
            }
            Fault::Silent { on, .. } => self.devices[on].ills.silent = Some(number),
            Fault::Freezes { on, lasts, .. } => {
                let device = &mut self.devices[on];
                device.frozen_until = device.frozen_until.max(now + lasts);
                if device.up && self.links[on].open {
                    self.feel(number);
                }
                self.suspect(on);
            }
            Fault::Crashes { on, back, noticed, .. } => self.crash(number, times, on, back, noticed),
            Fault::Forges { on, .. } => self.forge(on, number, times),
            Fault::Flees { on, .. } => self.drop_link(on, true),
            Fault::Sleeps { lasts, counted, .. } if !self.home.down => self.fall_asleep(number, lasts, counted),
            Fault::ClockJumps { by, .. } if !self.home.down => {
                self.feel(number);
                self.home.ahead += by;
                self.checker.asleep += by;
                self.at(now, Event::Tell(self.home.life, msm_scheduler::Input::Tick));
            }
            Fault::Dies { down, last_line_lost, .. } if !self.home.down => {
                self.feel(number);
                self.die(down, last_line_lost);
            }
            _ => {}
        }
    }

    fn cut(&mut self, number: usize, on: usize, lasts: Duration, up: bool, down: bool) {
        let until = self.now + lasts;
        for (way, cut) in [(Way::Up, up), (Way::Down, down)] {
            if cut {
                self.links[on].cut(way, until);
            }
        }
        self.devices[on].ills.cut = Some(number);
        if self.links[on].open {
            self.suspect(on);
        }
    }

    /// The first time the process ends, the second time it is there again.
    fn crash(&mut self, number: usize, times: u32, on: usize, back: Option<Duration>, noticed: bool) {
        if times > 0 {
            self.devices[on].up = true;
            self.drop_link(on, false);
            return self.after(S, Event::Connect(on));
        }
        if self.devices[on].up {
            self.feel(number);
        }
        self.devices[on].up = false;
        if noticed {
            self.drop_link(on, true);
        } else {
            self.suspect(on);
        }
        if let Some(back) = back {
            self.after(back, Event::Fault(number, times + 1));
        }
    }

    fn fall_asleep(&mut self, number: usize, lasts: Duration, counted: bool) {
        self.feel(number);
        let until = self.now + lasts;
        if until > self.home.asleep_until {
            if !counted {
                self.home.behind += until - self.home.asleep_until.max(self.now);
            }
            self.home.asleep_until = until;
        }
        self.checker.asleep += lasts;
        (0..self.devices.len()).for_each(|on| self.suspect(on));
    }
}
