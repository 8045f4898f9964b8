//! Predicts how long a job takes on the first `k` devices, and picks the smallest `k` that is about as fast as any.
//!
//! The paper's equation for the number of devices is missing from its text; this one is ours. A device is a few slots of
//! some power behind a start-up delay and a link; what all remote inputs share is the requester's uplink. Equal tasks go,
//! one after the other, to whichever device would give them back first, which is what pulling with a second attempt at
//! stragglers tends to. Each device does one task at least: who is hired gets one, and the job may have to wait for it.

use std::time::Duration;

use crate::plan::{self, Hands, Timed};

/// A larger number of devices must save more than this: 5 % of the shortest prediction.
pub const TOLERANCE: f64 = 1.05;
/// Devices considered for one job; the manifest's own limit. Each adds to every prediction's cost.
pub const DEVICES_MAX: usize = 64;
/// Tasks followed one by one in a prediction; of more, several are taken for one. Four for each of the most devices
/// keeps the grain of the real ones. *Judgement.*
pub const TASKS_FOLLOWED: u32 = 4 * DEVICES_MAX as u32;
/// Slots followed for one device: more than any lends to one job. *Judgement.*
const SLOTS_MAX: u32 = 64;
/// Smallest power in a prediction: a device that claims none is slow, not infinitely slow.
const POWER_MIN: f64 = 1e-3;

/// A device as the prediction sees it. Numbers that are none count as the worst.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Server {
    /// What all its slots together work off: 1 is one slot of the requester's device.
    pub power: f64,
    /// Tasks at a time.
    pub slots: u32,
    /// Seconds before its first task can start.
    pub startup: f64,
    /// The way to it; `None` for the requester's own device.
    pub link: Option<Wire>,
    /// How many of its results are computed again, and by whom: by the requester's device.
    pub checks: Checks,
}

/// How many results of a device are computed again.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Checks {
    /// All of so many first ones.
    pub first: u32,
    /// Then this share.
    pub share: f64,
}

/// The way to a remote device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wire {
    /// Seconds there and back.
    pub rtt: f64,
    /// Bytes per second there.
    pub up: f64,
    /// Bytes per second back.
    pub down: f64,
}

impl Wire {
    /// A link that costs nothing.
    pub const FREE: Self = Self { rtt: 0.0, up: f64::INFINITY, down: f64::INFINITY };
}

impl Server {
    /// The requester's own device.
    pub const fn here(power: f64, slots: u32) -> Self {
        Self { power, slots, startup: 0.0, link: None, checks: Checks { first: 0, share: 0.0 } }
    }

    /// Seconds for `work` on one of its slots.
    fn takes(&self, work: f64) -> f64 {
        work * f64::from(self.slots()) / if self.power.is_finite() { self.power.max(POWER_MIN) } else { POWER_MIN }
    }

    fn slots(&self) -> u32 {
        self.slots.clamp(1, SLOTS_MAX)
    }
}

/// The work to be shared out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Most tasks that the input can be cut into.
    pub tasks: u32,
    /// It is cut into that many already, however many devices there will be.
    pub cut: bool,
    /// Bytes of all inputs.
    pub bytes: f64,
    /// Bytes of all outputs.
    pub output: f64,
    /// Seconds that one slot of the requester's device needs for all of it, apart from `per_task`.
    pub work: f64,
    /// Seconds that it needs for each task, whatever its size.
    pub per_task: f64,
    /// Seconds before the first task and after the last, whoever works.
    pub around: f64,
    /// Bytes per second of the requester's uplink, if known.
    pub upload: Option<u64>,
    /// What `work` and `per_task` rest on: how it is cut follows only what was measured.
    pub sure: Sure,
}

/// How sure a prediction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sure {
    /// It rests on scores and on guesses.
    #[default]
    Guessed,
    /// The service was measured on this device before.
    Measured,
}

impl Load {
    /// Tasks when these share the work.
    pub fn tasks_on(&self, hands: Hands) -> u32 {
        let most = self.tasks.max(1);
        let Self { work, per_task, .. } = *self;
        let timed = (self.sure == Sure::Measured).then_some(Timed { work, per_task });
        if self.cut { most } else { most.min(plan::tasks(hands, self.bytes as u64, timed)) }
    }
}

impl Hands {
    /// Of these devices.
    pub fn of<'a>(servers: impl IntoIterator<Item = &'a Server>) -> Self {
        let add = |hands: Self, server: &Server| Self {
            devices: hands.devices + 1,
            slots: hands.slots.saturating_add(server.slots()),
        };
        servers.into_iter().fold(Self { devices: 0, slots: 0 }, add)
    }
}

/// A device in the course of a prediction; times in seconds.
struct Course<'a> {
    server: &'a Server,
    /// When each slot is free.
    free: Vec<f64>,
    /// When its link has taken all inputs sent so far, and given back all outputs.
    sent: f64,
    returned: f64,
    tasks: u32,
}

/// What a task would do to a device.
struct Step {
    slot: usize,
    slot_free: f64,
    sent: f64,
    returned: f64,
    end: f64,
}

/// One of equal tasks.
struct Piece {
    bytes: f64,
    output: f64,
    work: f64,
    upload: Option<f64>,
}

impl<'a> Course<'a> {
    fn begin(server: &'a Server) -> Self {
        let startup = if server.startup.is_finite() { f64::max(server.startup, 0.0) } else { f64::MAX };
        Self { server, free: vec![startup; server.slots() as usize], sent: 0.0, returned: 0.0, tasks: 0 }
    }

    fn step(&self, piece: &Piece, uplink_free: f64) -> Option<Step> {
        let (slot, free) = self.free.iter().copied().enumerate().min_by(|a, b| a.1.total_cmp(&b.1))?;
        let takes = self.server.takes(piece.work);
        let Some(wire) = self.server.link else {
            let end = free + takes;
            return Some(Step { slot, slot_free: end, sent: 0.0, returned: end, end });
        };
        // The input leaves when the device's own link and the shared uplink have room, and may be ahead of the slot.
        let leaves = match piece.upload {
            Some(_) => f64::max(self.sent, uplink_free),
            None => self.sent,
        };
        let sent =
            leaves + f64::max(over(piece.bytes, wire.up), piece.upload.map_or(0.0, |all| over(piece.bytes, all)));
        let slot_free = f64::max(free, sent + wire.rtt / 2.0) + takes;
        let returned = f64::max(slot_free, self.returned) + over(piece.output, wire.down);
        Some(Step { slot, slot_free, sent, returned, end: returned + wire.rtt / 2.0 })
    }

    fn take(&mut self, step: &Step) {
        if let Some(free) = self.free.get_mut(step.slot) {
            *free = step.slot_free;
        }
        self.sent = step.sent;
        self.returned = step.returned;
        self.tasks += 1;
    }

    /// Share of its newest task that is computed again.
    fn checked(&self) -> f64 {
        let Checks { first, share } = self.server.checks;
        if self.tasks <= first {
            1.0
        } else if share.is_finite() {
            share.clamp(0.0, 1.0)
        } else {
            1.0
        }
    }

    /// Computes somebody else's task again, or a share of it: when a slot has time for it, and not before the answer came.
    fn check(&mut self, piece: &Piece, share: f64, came: f64) -> f64 {
        let takes = self.server.takes(piece.work) * share;
        let Some(free) = self.free.iter_mut().min_by(|a, b| a.total_cmp(b)) else { return 0.0 };
        *free += takes;
        f64::max(*free, came + takes)
    }
}

fn over(bytes: f64, rate: f64) -> f64 {
    if rate > 0.0 { bytes / rate } else { f64::MAX }
}

/// Seconds until the last task ends on all of `servers`, each of which does at least one.
pub fn makespan(servers: &[Server], load: &Load) -> f64 {
    let tasks = load.tasks_on(Hands::of(servers));
    let followed = tasks.min(TASKS_FOLLOWED);
    let share = 1.0 / f64::from(followed);
    let piece = Piece {
        bytes: load.bytes * share,
        output: load.output * share,
        work: load.work * share + load.per_task * f64::from(tasks) * share,
        upload: load.upload.map(|rate| rate.max(1) as f64),
    };
    let mut courses: Vec<Course> = servers.iter().map(Course::begin).collect();
    let (mut uplink_free, mut end) = (0.0, 0.0_f64);
    for _ in 0..followed {
        let steps = courses.iter_mut().filter_map(|course| Some((course.step(&piece, uplink_free)?, course)));
        let Some((step, course)) = steps.min_by(|a, b| a.0.end.total_cmp(&b.0.end)) else { return f64::INFINITY };
        course.take(&step);
        end = end.max(step.end);
        if course.server.link.is_none() {
            continue;
        }
        uplink_free = step.sent;
        let share = course.checked();
        let here = courses.iter_mut().find(|course| course.server.link.is_none()).filter(|_| share > 0.0);
        end = end.max(here.map_or(0.0, |here| here.check(&piece, share, step.end)));
    }
    // Who got nothing here would get something as soon as it is ready.
    let first = |course: &Course| course.step(&piece, 0.0).map_or(0.0, |step| step.end);
    let idle = courses.iter().filter(|course| course.tasks == 0).map(first);
    load.around + idle.fold(end, f64::max)
}

/// Predictions for the first 1, 2, … of `servers` (at most [`DEVICES_MAX`]).
pub fn predictions(servers: &[Server], load: &Load) -> Vec<Duration> {
    let most = servers.len().min(DEVICES_MAX);
    (1..=most).map(|k| seconds(makespan(servers.get(..k).unwrap_or(servers), load))).collect()
}

/// Any float as a time: what is none is the longest.
pub fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

/// The smallest number of devices whose prediction is within [`TOLERANCE`] of the best; 0 for no predictions.
pub fn smallest_good(predictions: &[Duration]) -> usize {
    let Some(best) = predictions.iter().min() else { return 0 };
    let enough = best.as_secs_f64() * TOLERANCE;
    predictions.iter().position(|time| time.as_secs_f64() <= enough).map_or(0, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(power: f64) -> Server {
        Server::here(power, 1)
    }

    fn there(power: f64, startup: f64) -> Server {
        Server { startup, link: Some(Wire::FREE), ..here(power) }
    }

    const LOAD: Load = Load {
        tasks: 1_024,
        cut: false,
        bytes: 0.0,
        output: 0.0,
        work: 8.0,
        per_task: 0.0,
        around: 0.0,
        upload: None,
        sure: Sure::Guessed,
    };

    #[test]
    fn equal_devices_share_equally() {
        for k in 1..=8 {
            let servers = vec![there(1.0, 0.0); k];
            assert!((makespan(&servers, &LOAD) - 8.0 / k as f64).abs() < 1e-9, "{k}");
        }
        // A device of two slots is two devices of one.
        assert!((makespan(&[Server::here(2.0, 2)], &LOAD) - 4.0).abs() < 1e-9);
        assert_eq!(makespan(&[Server::here(2.0, 2)], &Load { tasks: 1, ..LOAD }), 8.0, "one task, one slot");
    }

    #[test]
    fn the_smallest_number_within_five_percent() {
        let cases: [(&[u64], usize); 6] = [
            (&[], 0),
            (&[100], 1),
            (&[100, 50, 49], 2),
            (&[100, 50, 47], 3),
            (&[104, 100, 120], 1),
            (&[200, 120, 130, 100, 99], 4),
        ];
        for (ms, expected) in cases {
            let times: Vec<Duration> = ms.iter().map(|ms| Duration::from_millis(*ms)).collect();
            assert_eq!(smallest_good(&times), expected, "{ms:?}");
        }
    }

    #[test]
    fn start_up_and_uplink_limit_the_number() {
        let mut servers = vec![here(1.0)];
        servers.resize(8, there(1.0, 0.0));
        assert_eq!(smallest_good(&predictions(&servers, &LOAD)), 8);

        // Work of 100 ms does not pay for a start-up of 200 ms, and the numbers say so.
        let short = Load { work: 0.1, ..LOAD };
        let late = [here(1.0), there(1.0, 0.2)];
        let times = predictions(&late, &short);
        assert_eq!(times, [Duration::from_millis(100), Duration::from_micros(212_500)]);
        assert_eq!(smallest_good(&times), 1);

        // The slower the shared link, the fewer devices it can feed with 8 MB of input for 8 s of work.
        let through = |upload| smallest_good(&predictions(&servers, &Load { bytes: 8e6, upload, ..LOAD }));
        let counts = [None, Some(4_000_000), Some(1_000_000), Some(10_000)].map(through);
        assert!(counts.is_sorted_by(|a, b| a > b), "{counts:?}");
        assert_eq!((counts[0], counts[3]), (8, 1));
    }

    #[test]
    fn a_link_counts_both_ways() {
        let wire = Wire { rtt: 0.1, up: 4e6, down: 2e6 };
        let far = |wire| [Server { link: Some(wire), ..there(1.0, 0.0) }];
        // One task of 4 MB for 8 s, and 4 MB back.
        let load = Load { tasks: 1, bytes: 4e6, output: 4e6, ..LOAD };
        assert!((makespan(&far(wire), &load) - (1.0 + 8.0 + 2.0 + 0.1)).abs() < 1e-9);
        // Of many, only the first input and the last output are not hidden behind the work.
        let many = Load { tasks: 64, cut: true, ..load };
        let expected = 8.0 + 0.1 + 1.0 / 64.0 + 2.0 / 64.0;
        assert!((makespan(&far(wire), &many) - expected).abs() < 1e-9);
        // Unless the link is what takes the time.
        let narrow = Wire { down: 1e4, ..wire };
        assert!((400.0..410.0).contains(&makespan(&far(narrow), &many)));
        assert_eq!(smallest_good(&predictions(&[here(1.0), far(narrow)[0]], &many)), 1);
        assert_eq!(smallest_good(&predictions(&[here(1.0), far(wire)[0]], &many)), 2);
    }

    #[test]
    fn what_is_computed_again_is_work_too() {
        let load = Load { tasks: 16, cut: true, work: 16.0, ..LOAD };
        let with = |checks| makespan(&[here(1.0), Server { checks, ..there(1.0, 0.0) }], &load);
        assert_eq!(with(Checks::default()), 8.0);
        // Three results of a new device are checked: this one does three tasks twice.
        assert_eq!(with(Checks { first: 3, share: 0.0 }), 10.0);
        assert!((8.0..9.0).contains(&with(Checks { first: 0, share: 0.05 })));
        // All of them: two devices are no quicker than one.
        assert_eq!(with(Checks { first: 0, share: 1.0 }), 16.0);
        assert_eq!(with(Checks { first: 0, share: f64::NAN }), 16.0);
        // Where this device does not work the others would; that is not followed.
        let elsewhere = Server { checks: Checks { first: 3, share: 1.0 }, ..there(1.0, 0.0) };
        assert_eq!(makespan(&[elsewhere; 2], &load), 8.0);
    }

    #[test]
    fn tasks_cost_something_each() {
        let load = Load { per_task: 0.5, ..LOAD };
        // Four for one device.
        assert_eq!(makespan(&[here(1.0)], &load), 10.0);
        // Once that is known, one.
        assert_eq!(makespan(&[here(1.0)], &Load { sure: Sure::Measured, ..load }), 8.5);
        assert_eq!(makespan(&[here(1.0)], &Load { tasks: 16, cut: true, ..load }), 16.0);
        // Several are taken for one when there are very many.
        assert!((makespan(&[here(1.0)], &Load { tasks: 1_000, cut: true, ..load }) - 508.0).abs() < 1e-9);
        assert_eq!(makespan(&[here(1.0)], &Load { around: 3.0, ..load }), 13.0);
    }

    #[test]
    fn an_input_that_cannot_be_cut_goes_to_one_device() {
        let whole = Load { tasks: 1, ..LOAD };
        assert_eq!(smallest_good(&predictions(&[here(1.0), there(1.0, 0.0)], &whole)), 1);
    }

    #[test]
    fn b17_odd_numbers_make_a_device_the_worst() {
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, -1.0, 1e308, -1e308];
        for odd in odd {
            let wire = Wire { rtt: 0.0, up: odd, down: odd };
            for server in [there(odd, 0.0), there(1.0, odd), Server { link: Some(wire), ..there(1.0, 0.0) }] {
                let (alone, times) = (here(1.0), predictions(&[here(1.0), server], &Load { bytes: 1e6, ..LOAD }));
                assert_eq!(times[0], seconds(makespan(&[alone], &LOAD)), "{server:?}");
                assert!((1..=2).contains(&smallest_good(&times)), "{server:?}");
            }
        }
    }

    /// For tasks that only wait for their device the greedy order is the best of all orders.
    #[test]
    fn greedy_equals_the_best_of_all_assignments() {
        let powers = [0.3, 0.5, 1.0, 1.7, 3.0];
        let startups = [0.0, 0.2, 1.0];
        for case in 0..200_usize {
            let pick = |salt: usize| case.wrapping_mul(2_654_435_761).wrapping_add(salt * 40_503) >> 3;
            let mut servers: Vec<Server> =
                (0..3).map(|i| there(powers[pick(i) % powers.len()], startups[pick(i + 7) % startups.len()])).collect();
            servers[0].startup = 0.0;
            servers[0].link = None;
            let tasks = 3 + (pick(99) % 4) as u32;
            let load = Load { tasks, ..LOAD };
            let mut best = f64::INFINITY;
            for code in 0..3_u32.pow(tasks) {
                let mut count = [0_u32; 3];
                (0..tasks).for_each(|task| count[(code / 3_u32.pow(task) % 3) as usize] += 1);
                // Everybody does something.
                let ends = servers
                    .iter()
                    .zip(count)
                    .map(|(s, n)| s.startup + f64::from(n.max(1)) * (8.0 / f64::from(tasks)) / s.power);
                best = best.min(ends.fold(0.0, f64::max));
            }
            let greedy = makespan(&servers, &load);
            assert!((greedy - best).abs() < 1e-9, "{servers:?} {tasks} tasks: {greedy} against {best}");
        }
    }
}
