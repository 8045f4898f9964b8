//! What was measured of devices, services and links: bounded samples of finished work that grow old.
//!
//! A sample moves what is known by a factor of [`STEP`] at most, whatever it claims, and only accepted parts and bytes
//! that really arrived become samples. Time is in seconds of the Unix clock, passed in; a clock that runs backwards ages
//! nothing.

use serde::{Deserialize, Serialize};

/// One sample counts for at most this many times what is known, and for no less than one part of it: one odd
/// measurement (a device that slept, a lie that was accepted) moves little, and a real change is learned within a few
/// jobs. *Judgement.*
pub const STEP: f64 = 2.0;
/// After this long what was known counts half against a new sample: other work on a device changes by the hour, its
/// processor does not. *Judgement.*
pub const HALF_LIFE_S: f64 = 24.0 * 3_600.0;
/// Samples that are remembered: the newest counts a quarter at least. *Judgement.*
pub const MEMORY: f64 = 3.0;
/// What weighs less than this part of one sample is not known any more: after a single sample about a week. *Judgement.*
pub const FORGOTTEN: f64 = 0.01;
/// Values that a rate, a ratio or a time in seconds can have; everything else is refused as a mistake.
pub const SANE: (f64, f64) = (1e-9, 1e15);
/// A transfer of fewer bytes says more about the round trip than about the bandwidth. *Judgement.*
pub const TRANSFER_MIN: u64 = 256 * 1024;
/// Time of a part that does not depend on its size, while parts of one size only were seen: a warm child's call.
/// *Measured:* 0.04 to 0.3 ms.
pub const FIXED_S: f64 = 2e-4;
/// Samples of part sizes that a [`Cost`] remembers; more than [`MEMORY`], because two sizes must be seen to tell the
/// fixed part of a time from the part that grows. *Judgement.*
pub const COST_MEMORY: f64 = 8.0;
/// Sizes count as different when they vary by more than this share (squared): below, the noise of the times would be
/// taken for a slope. *Judgement:* a fifth.
const VARIES: f64 = 0.04;

/// What is fixed counts as far as it is larger than this many times its error: a part of a time that is noise would have
/// the next job cut into fewer and larger parts, whose noise is larger. *Judgement.*
const SURE: f64 = 2.0;

/// `value` if it can be a measurement.
pub fn sane(value: f64) -> Option<f64> {
    // NaN compares false, so it is refused too.
    (value >= SANE.0 && value <= SANE.1).then_some(value)
}

/// What is left of a weight after `age` seconds.
fn aged(weight: f64, at: u64, now: u64) -> f64 {
    weight * (-(now.saturating_sub(at) as f64) / HALF_LIFE_S).exp2()
}

/// One learned number: a rate, a ratio, a bandwidth, a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Estimate {
    value: f64,
    /// Samples that it rests on, when it was last touched.
    weight: f64,
    at: u64,
}

impl Estimate {
    /// Takes in one sample. True when it counted.
    pub fn learn(&mut self, sample: f64, now: u64) -> bool {
        let Some(sample) = sane(sample) else { return false };
        let (weight, sample) = match self.value(now) {
            // Averaged as a ratio: twice as fast and half as fast cancel out.
            Some(known) => (aged(self.weight, self.at, now), sample.clamp(known / STEP, known * STEP)),
            None => (0.0, sample),
        };
        let known = if weight > 0.0 { self.value } else { sample };
        let value = known * (sample / known).powf(1.0 / (weight + 1.0));
        *self = Self { value: value.clamp(SANE.0, SANE.1), weight: (weight + 1.0).min(MEMORY), at: now.max(self.at) };
        true
    }

    /// What is known, unless nothing is or it is too old.
    pub fn value(&self, now: u64) -> Option<f64> {
        (aged(self.weight, self.at, now) >= FORGOTTEN).then_some(self.value)
    }

    /// False for what no sequence of samples gives: kept numbers come from a file that may be damaged.
    pub fn is_sound(&self) -> bool {
        *self == Self::default() || sane(self.value).is_some() && (0.0..=MEMORY).contains(&self.weight)
    }

    /// When the newest sample came.
    pub fn at(&self) -> u64 {
        self.at
    }
}

/// Seconds that work takes as a straight line over its size in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// For nothing.
    pub fixed: f64,
    /// For each byte.
    pub per_byte: f64,
}

impl Line {
    /// Seconds for a piece of `bytes`.
    pub fn at(self, bytes: f64) -> f64 {
        self.fixed + self.per_byte * bytes
    }
}

/// What a service costs on one core of this device: learned from pairs of a part's size and its time.
///
/// A least-squares line of relative errors, over samples that are forgotten as those of an [`Estimate`] are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    // Sums over the samples (x bytes, y seconds), each with the weight 1 / y².
    one: f64,
    x: f64,
    xx: f64,
    y: f64,
    xy: f64,
    weight: f64,
    at: u64,
}

impl Cost {
    /// Takes in that work on `bytes` took so many `seconds`. True when it counted.
    pub fn learn(&mut self, bytes: u64, seconds: f64, now: u64) -> bool {
        let Some(seconds) = sane(seconds) else { return false };
        let x = bytes as f64;
        let line = self.line(now);
        let known = line.and_then(|line| sane(line.at(x)));
        let y = known.map_or(seconds, |known| seconds.clamp(known / STEP, known * STEP));
        let weight = if line.is_some() { aged(self.weight, self.at, now) } else { 0.0 };
        // What is kept: all of it until the memory is full, then the oldest fades.
        let keep = weight.min(COST_MEMORY - 1.0) / if self.weight > 0.0 { self.weight } else { 1.0 };
        let (w, was) = (1.0 / (y * y), *self);
        *self = Self {
            one: was.one * keep + w,
            x: was.x * keep + w * x,
            xx: was.xx * keep + w * x * x,
            y: was.y * keep + w * y,
            xy: was.xy * keep + w * x * y,
            weight: (was.weight * keep + 1.0).min(COST_MEMORY),
            at: now.max(was.at),
        };
        true
    }

    /// The line, unless nothing is known or it is too old.
    pub fn line(&self, now: u64) -> Option<Line> {
        if aged(self.weight, self.at, now) < FORGOTTEN {
            return None;
        }
        let flat = Line { fixed: self.y / self.one, per_byte: 0.0 };
        if self.xx <= 0.0 {
            return Some(flat);
        }
        // The best line with so much fixed.
        let with = |fixed: f64| Line { fixed, per_byte: ((self.xy - fixed * self.x) / self.xx).max(0.0) };
        let spread = self.one * self.xx - self.x * self.x;
        // Of two samples nobody can say how much they scatter.
        if self.weight < 3.0 || spread < VARIES * self.one * self.xx {
            // One size: no more is fixed than usual, and no more than half.
            return Some(with(FIXED_S.min(flat.fixed / 2.0)));
        }
        let per_byte = (self.one * self.xy - self.x * self.y) / spread;
        if per_byte < 0.0 {
            return Some(flat);
        }
        let fixed = (self.y - per_byte * self.x) / self.one;
        Some(with((fixed - SURE * self.error(fixed, per_byte, spread)).max(0.0)))
    }

    /// How wrong the fixed part may be by the scatter of the samples around the line: its standard error, seconds.
    fn error(&self, fixed: f64, per_byte: f64, spread: f64) -> f64 {
        // Of weights 1 / y² the sum of the squared times is the number of samples.
        let scatter = (self.weight - fixed * self.y - per_byte * self.xy).max(0.0);
        (scatter / (self.weight - 2.0).max(1.0) * self.xx / spread).sqrt()
    }

    /// False for what no sequence of samples gives.
    pub fn is_sound(&self) -> bool {
        let sums = [self.one, self.x, self.xx, self.y, self.xy];
        // Of `y = SANE.0`, the sum of 1 / y² is as large as a sum can be.
        let most = COST_MEMORY * (u64::MAX as f64 / SANE.0).powi(2);
        let empty = *self == Self::default();
        let finite = sums.iter().all(|sum| (0.0..=most).contains(sum)) && self.one > 0.0;
        empty || finite && (0.0..=COST_MEMORY).contains(&self.weight)
    }

    /// When the newest sample came.
    pub fn at(&self) -> u64 {
        self.at
    }
}

/// The way to one device and back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Bytes per second to it.
    #[serde(default)]
    pub up: Estimate,
    /// Bytes per second from it.
    #[serde(default)]
    pub down: Estimate,
}

/// Which way bytes went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the other device.
    Up,
    /// From it.
    Down,
}

impl Link {
    /// Takes in a transfer. True when it was large enough to count.
    pub fn learn(&mut self, way: Way, bytes: u64, seconds: f64, now: u64) -> bool {
        if bytes < TRANSFER_MIN || seconds.is_nan() {
            return false;
        }
        // What took no time to measure was at least as quick as the clock ticks.
        let rate = bytes as f64 / seconds.max(1e-6);
        match way {
            Way::Up => self.up.learn(rate, now),
            Way::Down => self.down.learn(rate, now),
        }
    }

    /// False for what no sequence of samples gives.
    pub fn is_sound(&self) -> bool {
        self.up.is_sound() && self.down.is_sound()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000_000;
    const DAY: u64 = HALF_LIFE_S as u64;

    fn learned(samples: &[f64]) -> Estimate {
        let mut estimate = Estimate::default();
        samples.iter().for_each(|sample| {
            estimate.learn(*sample, NOW);
        });
        estimate
    }

    #[test]
    fn b17_what_is_no_measurement_is_refused() {
        for odd in [f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0, -1.0, 1e308, -1e308, 1e-300] {
            let mut estimate = learned(&[5.0]);
            let before = estimate;
            assert!(!estimate.learn(odd, NOW) && !Estimate::default().learn(odd, NOW), "{odd}");
            assert_eq!(estimate, before, "{odd}");
            let mut cost = Cost::default();
            assert!(!cost.learn(100, odd, NOW), "{odd}");
            assert_eq!(cost.line(NOW), None);
        }
        let mut link = Link::default();
        assert!(!link.learn(Way::Up, TRANSFER_MIN, f64::NAN, NOW) && !link.learn(Way::Up, TRANSFER_MIN - 1, 1.0, NOW));
        assert!(link.learn(Way::Down, TRANSFER_MIN, 0.0, NOW) && link.is_sound());
        assert_eq!(link.up.value(NOW), None);
    }

    #[test]
    fn one_sample_moves_little_and_a_real_change_is_learned() {
        let mut estimate = learned(&[100.0; 10]);
        estimate.learn(1e12, NOW);
        let moved = estimate.value(NOW).unwrap();
        assert!(moved > 100.0 && moved <= 100.0 * STEP.powf(1.0 / (MEMORY + 1.0)) + 1e-9, "{moved}");
        for _ in 0..20 {
            estimate.learn(1_000.0, NOW);
        }
        assert!((900.0..=1_000.1).contains(&estimate.value(NOW).unwrap()), "{estimate:?}");
        // The first sample is all there is; the second may double it at most.
        assert!(learned(&[1.0, 1e9]).value(NOW).unwrap() <= STEP);
    }

    #[test]
    fn what_is_known_grows_old() {
        let mut estimate = learned(&[100.0; 10]);
        assert_eq!(estimate.value(NOW + DAY).map(f64::round), Some(100.0));
        assert_eq!(estimate.value(NOW - DAY).map(f64::round), Some(100.0), "a clock that ran backwards");
        assert_eq!(estimate.value(NOW + 30 * DAY), None);
        // An old one yields more to a new sample.
        let mut fresh = estimate;
        fresh.learn(150.0, NOW);
        estimate.learn(150.0, NOW + 3 * DAY);
        assert!(estimate.value(NOW + 3 * DAY) > fresh.value(NOW));
        // One that is forgotten starts anew, without a bound on the step.
        let mut forgotten = learned(&[100.0]);
        forgotten.learn(1.0, NOW + 30 * DAY);
        assert_eq!(forgotten.value(NOW + 30 * DAY), Some(1.0));
    }

    #[test]
    fn a_line_is_found_from_two_sizes() {
        let truth = Line { fixed: 0.01, per_byte: 1e-6 };
        let mut cost = Cost::default();
        for bytes in [10_000, 1_000_000, 20_000, 500_000] {
            assert!(cost.learn(bytes, truth.at(bytes as f64), NOW));
        }
        let line = cost.line(NOW).unwrap();
        for bytes in [0.0, 1e4, 1e6, 1e8] {
            assert!((line.at(bytes) / truth.at(bytes) - 1.0).abs() < 0.02, "{bytes}: {line:?}");
        }
        // What scatters by a fifth around nothing fixed is not taken for something fixed.
        let mut noisy = Cost::default();
        for (bytes, noise) in [(1_600, 0.8), (1_000, 1.2), (400, 1.2), (200, 1.2), (1_600, 0.9), (800, 1.0), (200, 1.1)]
        {
            noisy.learn(bytes, 1e-3 * bytes as f64 * noise, NOW);
        }
        let line = noisy.line(NOW).unwrap();
        assert!(line.fixed < 0.01 && (line.per_byte / 1e-3 - 1.0).abs() < 0.2, "{line:?}");
        // Of one size only: right there, and no negative time elsewhere.
        let mut one = Cost::default();
        (0..5).for_each(|_| {
            one.learn(1_000_000, 1.0, NOW);
        });
        let line = one.line(NOW).unwrap();
        assert!((line.at(1e6) - 1.0).abs() < 1e-6 && line.fixed <= FIXED_S && line.per_byte > 0.0, "{line:?}");
        // Parts without bytes have a time all the same.
        let mut none = Cost::default();
        none.learn(0, 0.25, NOW);
        assert_eq!(none.line(NOW), Some(Line { fixed: 0.25, per_byte: 0.0 }));
        assert_eq!(none.line(NOW + 30 * DAY), None);
    }

    #[test]
    fn a_cost_follows_a_change_and_bounds_each_step() {
        let mut cost = Cost::default();
        (0..20).for_each(|_| {
            cost.learn(1_000, 0.1, NOW);
        });
        cost.learn(1_000, 1e9, NOW);
        assert!(cost.line(NOW).unwrap().at(1_000.0) <= 0.1 * STEP);
        (0..40).for_each(|_| {
            cost.learn(1_000, 0.4, NOW);
        });
        let now = cost.line(NOW).unwrap().at(1_000.0);
        assert!((now / 0.4 - 1.0).abs() < 0.1, "{now}");
    }

    #[test]
    fn damaged_numbers_are_noticed() {
        assert!(Estimate::default().is_sound() && learned(&[3.0]).is_sound() && Cost::default().is_sound());
        for bad in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
            assert!(!Estimate { value: bad, ..learned(&[3.0]) }.is_sound(), "{bad}");
        }
        assert!(!Estimate { weight: f64::NAN, ..learned(&[3.0]) }.is_sound());
        assert!(!Estimate { weight: 1e9, ..learned(&[3.0]) }.is_sound());
        let mut cost = Cost::default();
        cost.learn(u64::MAX, SANE.0, NOW);
        assert!(cost.is_sound(), "{cost:?}");
        assert!(!Cost { xx: f64::NAN, ..cost }.is_sound() && !Cost { one: 0.0, ..cost }.is_sound());
    }
}
