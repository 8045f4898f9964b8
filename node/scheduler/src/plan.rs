//! Into how many tasks a job is cut.

use msm_protocol::limits::{TASK_TARGET_BYTES, TASKS_PER_JOB};

/// Tasks per device at least: a device twice as fast as the others then takes twice as many, and what is lost with a
/// device is a quarter of its share. *Judgement.*
pub const TASKS_PER_DEVICE: u32 = 4;

/// Number of tasks for an input of `bytes` on `devices`: the larger of 4 per device and one per target size, within
/// `1..=TASKS_PER_JOB`. A service that cannot split its input runs as one task whatever this says.
pub fn tasks(devices: u32, bytes: u64) -> u32 {
    let by_size = bytes.div_ceil(TASK_TARGET_BYTES as u64);
    let by_devices = u64::from(devices) * u64::from(TASKS_PER_DEVICE);
    by_size.max(by_devices).clamp(1, TASKS_PER_JOB as u64) as u32
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
            (300, 0, 1_024),
            (1, u64::MAX, 1_024),
            (u32::MAX, u64::MAX, 1_024),
        ];
        for (devices, bytes, expected) in cases {
            assert_eq!(tasks(devices, bytes), expected, "{devices} devices, {bytes} bytes");
        }
    }
}
