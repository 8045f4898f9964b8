//! How long attempts took: the order statistics that leases and second attempts are measured against.

use std::collections::VecDeque;

/// The newest times that are kept: enough for a 95th percentile, and few enough to follow a change. *Judgement.*
const KEPT: usize = 256;

/// Seconds of answered attempts, for weight 1.
#[derive(Debug, Clone, Default)]
pub(super) struct Times {
    sorted: Vec<f64>,
    by_age: VecDeque<f64>,
}

impl Times {
    pub(super) fn push(&mut self, seconds: f64) {
        if self.by_age.len() == KEPT
            && let Some(oldest) = self.by_age.pop_front()
        {
            let at = self.sorted.partition_point(|known| *known < oldest);
            if at < self.sorted.len() {
                self.sorted.remove(at);
            }
        }
        let at = self.sorted.partition_point(|known| *known <= seconds);
        self.sorted.insert(at, seconds);
        self.by_age.push_back(seconds);
    }

    /// The smallest known time that at least `percent` of all are no longer than; `None` before the first.
    pub(super) fn percentile(&self, percent: usize) -> Option<f64> {
        let rank = (self.sorted.len() * percent).div_ceil(100);
        self.sorted.get(rank.max(1) - 1).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_by_nearest_rank() {
        let mut times = Times::default();
        assert_eq!(times.percentile(95), None);
        for seconds in [30.0, 10.0, 20.0] {
            times.push(seconds);
        }
        for (percent, seconds) in [(0, 10.0), (33, 10.0), (50, 20.0), (67, 30.0), (95, 30.0), (100, 30.0)] {
            assert_eq!(times.percentile(percent), Some(seconds), "p{percent}");
        }
        let mut many = Times::default();
        (1..=100).rev().for_each(|n| many.push(f64::from(n)));
        assert_eq!(many.percentile(95), Some(95.0));
    }

    #[test]
    fn old_times_are_forgotten() {
        let mut times = Times::default();
        (0..10 * KEPT).for_each(|n| times.push((n % 7) as f64));
        (0..KEPT).for_each(|_| times.push(50.0));
        assert_eq!((times.percentile(0), times.sorted.len(), times.by_age.len()), (Some(50.0), KEPT, KEPT));
    }
}
