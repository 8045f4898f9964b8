//! How fast one worker is in this job, measured from when its results come.

use std::time::Duration;

/// Results that come closer together than this are taken as one sample: they came in one piece of the stream.
/// *Judgement.*
const GATHERED: f64 = 0.01;
/// Each sample moves the estimate by this part: a device that slows down is known after two. *Judgement.*
const MOVES: f64 = 0.5;
/// No device computes anything in less, in seconds: keeps what is divided by it finite.
const UNIT_MIN: f64 = 1e-9;

#[derive(Debug, Clone, Default)]
pub(super) struct Pace {
    /// Seconds that the device needs for weight 1, all of its slots together.
    unit: Option<f64>,
    samples: u32,
    /// Busy seconds and weight that no sample was made of yet.
    gathered: (f64, u64),
    /// Busy seconds and weight of the whole job.
    total: (f64, u64),
    /// When its newest result came.
    newest: Duration,
}

impl Pace {
    /// A result of an attempt that was started at `started`, over a link with this round trip.
    pub(super) fn result(&mut self, started: Duration, rtt: Duration, now: Duration, weight: u64) {
        // Before, it worked on the one before it or waited for this one's input.
        let busy = now.saturating_sub(self.newest.max(started + rtt)).as_secs_f64();
        self.newest = now;
        self.total = (self.total.0 + busy, self.total.1.saturating_add(weight));
        self.gathered = (self.gathered.0 + busy, self.gathered.1.saturating_add(weight));
        let (busy, weight) = self.gathered;
        if self.unit.is_some() && busy < GATHERED {
            return;
        }
        let sample = (busy / weight.max(1) as f64).max(UNIT_MIN);
        self.unit = Some(match self.unit {
            None => sample,
            // The first result waited for the package to be fetched and compiled, perhaps.
            Some(first) if self.samples == 1 => first.min(sample),
            Some(unit) => unit + (sample - unit) * MOVES,
        });
        self.samples += 1;
        self.gathered = (0.0, 0);
    }

    /// Seconds for weight 1, once known.
    pub(super) fn unit(&self) -> Option<f64> {
        self.unit
    }

    /// Weight per second over the whole job.
    pub(super) fn rate(&self) -> Option<f64> {
        let (busy, weight) = self.total;
        (busy > 0.0).then(|| weight as f64 / busy)
    }

    pub(super) fn newest(&self) -> Duration {
        self.newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_queue_behind_the_running_task_does_not_count_as_work() {
        let mut pace = Pace::default();
        // Four tasks of weight 2 at once, one done every 100 ms, 40 ms away.
        for n in 1..=4 {
            pace.result(ms(0), ms(40), ms(40 + 100 * n), 2);
        }
        assert!((pace.unit().unwrap() - 0.05).abs() < 1e-9, "{:?}", pace.unit());
        assert!((pace.rate().unwrap() - 20.0).abs() < 1e-9);
    }

    #[test]
    fn a_cold_start_is_forgotten_at_once_and_a_slower_pace_is_learned() {
        let mut pace = Pace::default();
        pace.result(ms(0), ms(0), ms(2_000), 1);
        pace.result(ms(0), ms(0), ms(2_100), 1);
        assert!((pace.unit().unwrap() - 0.1).abs() < 1e-9);
        for n in 1..=20 {
            pace.result(ms(2_100), ms(0), ms(2_100 + 1_000 * n), 1);
        }
        assert!(pace.unit().unwrap() > 0.9);
    }

    #[test]
    fn results_that_come_together_are_one_sample() {
        let mut pace = Pace::default();
        for round in 1..=10 {
            (0..64).for_each(|_| pace.result(ms(100 * (round - 1)), ms(0), ms(100 * round), 1));
        }
        assert!((pace.unit().unwrap() - 0.1 / 64.0).abs() < 0.001, "{:?}", pace.unit());
        let mut instant = Pace::default();
        instant.result(ms(5), ms(90), ms(5), u64::MAX);
        assert!(instant.unit().unwrap() > 0.0 && instant.rate().is_none());
    }
}
