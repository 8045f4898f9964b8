//! How long attempts took: the order statistics that leases and second attempts are measured against.

use std::time::Duration;

/// Durations of accepted attempts, sorted; at most one per task, so at most `TASKS_PER_JOB`.
#[derive(Debug, Clone, Default)]
pub(super) struct Times(Vec<Duration>);

impl Times {
    pub(super) fn push(&mut self, time: Duration) {
        let at = self.0.partition_point(|known| *known <= time);
        self.0.insert(at, time);
    }

    /// The smallest known time that at least `percent` of all are no longer than; `None` before the first.
    pub(super) fn percentile(&self, percent: usize) -> Option<Duration> {
        let rank = (self.0.len() * percent).div_ceil(100);
        self.0.get(rank.max(1) - 1).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_by_nearest_rank() {
        let mut times = Times::default();
        assert_eq!(times.percentile(95), None);
        for ms in [30, 10, 20] {
            times.push(Duration::from_millis(ms));
        }
        for (percent, ms) in [(0, 10), (33, 10), (50, 20), (67, 30), (95, 30), (100, 30)] {
            assert_eq!(times.percentile(percent), Some(Duration::from_millis(ms)), "p{percent}");
        }
        let mut many = Times::default();
        (1..=100).rev().for_each(|ms| many.push(Duration::from_millis(ms)));
        assert_eq!(many.percentile(95), Some(Duration::from_millis(95)));
    }
}
