//! Into how many tasks a job is cut.

use std::time::Duration;

use msm_protocol::limits::{TASK_TARGET_BYTES, TASKS_PER_JOB};

/// Tasks per device at least: a device twice as fast as the others then takes twice as many, and what is lost with a
/// device is a quarter of its share. *Judgement.*
pub const TASKS_PER_DEVICE: u32 = 4;
/// Tasks per slot at least, likewise: of two for each the largest is paired with the smallest. *Judgement.*
pub const TASKS_PER_SLOT: u32 = 2;
/// Aimed-at time of one task where it is known how long the work takes: what a task costs besides (a round trip, a
/// receipt, rows that two neighbours both need) is a small part of it, and a straggler is noticed soon. *Judgement.*
pub const TASK_TIME_TARGET: Duration = Duration::from_millis(200);
/// Tasks per device at most for the sake of that time. With so many the last ones, which are the smallest, leave a
/// hundredth of the time unused; on weak devices (a twentieth of a core) each further one costs more than it balances.
/// *Measured:* 2 to 4 ms of processor time for each.
pub const TASKS_PER_DEVICE_TIMED: u32 = 8;
/// Aimed-at time of one task of a long job: what is lost with a device, or waits for a straggler, is no more than that.
/// *Judgement.*
pub const LONG_TASK_TIME: Duration = Duration::from_secs(2);
/// Tasks per device at most for the sake of this one. *Judgement.*
pub const TASKS_PER_DEVICE_LONG: u32 = 32;
/// Part of the work that the cutting may cost: what each task takes whatever its size, summed up. *Judgement.*
pub const CUT_COST: f64 = 0.05;

/// Those that will share a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hands {
    /// Devices.
    pub devices: u32,
    /// Tasks that they work on at a time, together.
    pub slots: u32,
}

/// What was measured of a job's work, in seconds of one slot of the requester's device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timed {
    /// All of it.
    pub work: f64,
    /// Each task, whatever its size.
    pub per_task: f64,
}

/// Number of tasks for an input of `bytes`: 4 per device and 2 per slot; where the time is known, one per target time if
/// that is more and not too many for the devices, more of a long job, and fewer when each would cost too much, but one for
/// each slot; and in any case one per target size. Within `1..=TASKS_PER_JOB`. A service that cannot split its input runs as one task
/// whatever this says.
pub fn tasks(hands: Hands, bytes: u64, timed: Option<Timed>) -> u32 {
    let devices = u64::from(hands.devices);
    let slots = u64::from(hands.slots.max(hands.devices));
    let by_hands = (devices * u64::from(TASKS_PER_DEVICE)).max(slots * u64::from(TASKS_PER_SLOT));
    let wanted = timed.map_or(by_hands, |Timed { work, per_task }| {
        // Casts of floats saturate, and of NaN give 0.
        let by = |time: Duration, most: u32| ((work / time.as_secs_f64()).ceil() as u64).min(devices * u64::from(most));
        let by_time = by(TASK_TIME_TARGET, TASKS_PER_DEVICE_TIMED).max(by(LONG_TASK_TIME, TASKS_PER_DEVICE_LONG));
        let pays = if per_task > 0.0 { (CUT_COST * work / per_task) as u64 } else { u64::MAX };
        by_time.max(by_hands).min(pays.max(slots))
    });
    let by_size = bytes.div_ceil(TASK_TARGET_BYTES as u64);
    by_size.max(wanted).clamp(1, TASKS_PER_JOB as u64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn on(devices: u32, slots: u32) -> Hands {
        Hands { devices, slots }
    }

    #[test]
    fn the_largest_of_the_rules_within_bounds() {
        let cases = [
            (0, 0, 0, 1),
            (1, 1, 0, 4),
            (1, 8, 0, 16),
            (4, 8, 100, 16),
            (4, 8, 16 * MIB, 16),
            (4, 8, 16 * MIB + 1, 17),
            (2, 2, 64 * MIB, 64),
            (300, 300, 0, 1_200),
            (1, 1, u64::MAX, 16_384),
            (u32::MAX, u32::MAX, u64::MAX, 16_384),
        ];
        for (devices, slots, bytes, expected) in cases {
            assert_eq!(tasks(on(devices, slots), bytes, None), expected, "{devices} devices, {slots}, {bytes} bytes");
        }
    }

    #[test]
    fn a_long_job_has_more_tasks_and_one_whose_tasks_cost_much_has_fewer() {
        let cases = [
            // devices, bytes, work, per task -> tasks
            (4, 0, 0.0, 0.0, 16),
            (4, 0, 3.2, 0.0, 16),
            (4, 0, 3.201, 0.0, 17),
            (4, 0, 6.0, 0.0, 30),
            (4, 0, 10.0, 0.0, 32),
            (4, 0, 100.0, 0.0, 50),
            (4, 0, 3_600.0, 0.0, 128),
            (1, 0, 3_600.0, 0.0, 32),
            (4, 200 * MIB, 10.0, 0.0, 200),
            (u32::MAX, 0, f64::INFINITY, 0.0, 16_384),
            // A twentieth of the work.
            (4, 0, 10.0, 0.01, 32),
            (4, 0, 10.0, 0.025, 20),
            (4, 0, 1.0, 0.005, 10),
            // One for each slot, and none larger than it should be.
            (4, 0, 0.1, 0.1, 8),
            (1, 0, 0.0, 0.1, 2),
            (1, 9 * MIB, 0.1, 0.1, 9),
            (1, 0, f64::NAN, f64::NAN, 4),
            (1, 0, f64::NAN, 1.0, 2),
        ];
        for (devices, bytes, work, per_task, expected) in cases {
            let count = tasks(on(devices, 2 * devices.min(1 << 30)), bytes, Some(Timed { work, per_task }));
            assert_eq!(count, expected, "{devices} devices, {bytes} bytes, {work} s, {per_task} s each");
        }
    }
}
