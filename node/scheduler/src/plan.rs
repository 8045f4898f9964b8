//! Into how many tasks a job is cut.

use std::time::Duration;

use msm_protocol::limits::{TASK_TARGET_BYTES, TASKS_PER_JOB};

/// Tasks per device at least: a device twice as fast as the others then takes twice as many, and what is lost with a
/// device is a quarter of its share. *Judgement.*
pub const TASKS_PER_DEVICE: u32 = 4;
/// Aimed-at time of one task where it is known how long the work takes: what a task costs besides (a round trip, a
/// receipt, rows that two neighbours both need) is a small part of it, and a straggler is noticed soon. *Judgement.*
pub const TASK_TIME_TARGET: Duration = Duration::from_millis(200);
/// Tasks per device at most for the sake of their time: more do not balance better. *Judgement.*
pub const TASKS_PER_DEVICE_TIMED: u32 = 32;

/// Number of tasks for an input of `bytes` on `devices`: the larger of 4 per device and one per target size, within
/// `1..=TASKS_PER_JOB`. A service that cannot split its input runs as one task whatever this says.
pub fn tasks(devices: u32, bytes: u64) -> u32 {
    tasks_timed(devices, bytes, None)
}

/// [`tasks`] where one device of the kind would need `work` for all of it: then also one per target time, as long as
/// that is not too many for the devices.
pub fn tasks_timed(devices: u32, bytes: u64, work: Option<Duration>) -> u32 {
    let devices = u64::from(devices);
    let by_size = bytes.div_ceil(TASK_TARGET_BYTES as u64);
    let by_devices = devices * u64::from(TASKS_PER_DEVICE);
    let by_time = work.map_or(0, |work| work.as_nanos().div_ceil(TASK_TIME_TARGET.as_nanos()));
    let by_time = u64::try_from(by_time).unwrap_or(u64::MAX).min(devices * u64::from(TASKS_PER_DEVICE_TIMED));
    by_size.max(by_devices).max(by_time).clamp(1, TASKS_PER_JOB as u64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_of_both_rules_within_bounds() {
        const MIB: u64 = 1024 * 1024;
        let cases = [
            (0, 0, 1),
            (1, 0, 4),
            (4, 100, 16),
            (4, 16 * MIB, 16),
            (4, 16 * MIB + 1, 17),
            (2, 64 * MIB, 64),
            (300, 0, 1_200),
            (1, u64::MAX, 16_384),
            (u32::MAX, u64::MAX, 16_384),
        ];
        for (devices, bytes, expected) in cases {
            assert_eq!(tasks(devices, bytes), expected, "{devices} devices, {bytes} bytes");
        }
    }

    #[test]
    fn a_known_time_makes_more_tasks_but_never_fewer_and_not_too_many() {
        let cases = [
            (4, 0, 0, 16),
            (4, 0, 3_000, 16),
            (4, 0, 3_201, 17),
            (4, 0, 10_000, 50),
            (4, 0, 3_600_000, 128),
            (1, 0, 3_600_000, 32),
            (4, 200 << 20, 10_000, 200),
            (u32::MAX, 0, u64::MAX, 16_384),
        ];
        for (devices, bytes, ms, expected) in cases {
            let work = Some(Duration::from_millis(ms));
            assert_eq!(tasks_timed(devices, bytes, work), expected, "{devices} devices, {bytes} bytes, {ms} ms");
        }
    }
}
