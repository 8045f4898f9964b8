//! Execution quality score: a device's speed times how much of it is free, discounted by its distance.
//!
//! The paper's Eq. 1 multiplies by the round trip itself, which would favour the slowest link; here the score falls with
//! it. Every function takes any float and returns a finite score: what is not a number counts as the worst value.

use std::time::Duration;

use msm_protocol::device::SPEED_RANGE;

/// Round trip that halves a score: on the same LAN (1 to 5 ms) it hardly counts, across an ocean it does.
pub const RTT_HALF: Duration = Duration::from_millis(50);
/// Round trip assumed for a device that was not measured yet: worse than any neighbour. *Judgement.*
pub const RTT_UNKNOWN: Duration = Duration::from_millis(100);

/// Score without the network factor, 0 to 300: 100 x speed x mean(cpu, mem, battery).
///
/// `speed` is relative to the reference benchmark (0.1 to 3); the others are free shares, 0 to 1. Values outside are
/// clamped.
pub fn eqs0(speed: f64, cpu: f64, mem: f64, battery: f64) -> f64 {
    let speed = finite_in(speed, SPEED_RANGE.0, SPEED_RANGE.1);
    let share = |value| finite_in(value, 0.0, 1.0);
    100.0 * speed * (share(cpu) + share(mem) + share(battery)) / 3.0
}

/// What a round trip leaves of a score: 1 at no distance, 0.5 at [`RTT_HALF`], towards 0 beyond.
pub fn net_factor(rtt: Duration) -> f64 {
    1.0 / (1.0 + rtt.as_secs_f64() / RTT_HALF.as_secs_f64())
}

/// A worker's own score with the round trip that the requester measured.
pub fn with_net(eqs0: f64, rtt: Duration) -> f64 {
    finite_in(eqs0, 0.0, 100.0 * SPEED_RANGE.1) * net_factor(rtt)
}

/// The paper's Eq. 1 as printed: the score *times* the round trip, here in seconds. For comparison only (`--eqs paper`):
/// of two like devices it takes the more distant one, and a device's own score, at no distance, is nothing.
pub fn paper(eqs0: f64, rtt: Duration) -> f64 {
    finite_in(eqs0, 0.0, 100.0 * SPEED_RANGE.1) * rtt.as_secs_f64()
}

/// `value` forced into `low..=high`; NaN and the infinities count as `low`, so that no claim gains by being absurd.
fn finite_in(value: f64, low: f64, high: f64) -> f64 {
    if value.is_finite() { value.clamp(low, high) } else { low }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        let cases = [
            ((1.0, 1.0, 1.0, 1.0), 100.0),
            ((3.0, 1.0, 1.0, 1.0), 300.0),
            ((1.0, 0.5, 0.25, 0.75), 50.0),
            ((0.0, 1.0, 1.0, 1.0), 10.0),
            ((1.0, 0.0, 0.0, 0.0), 0.0),
        ];
        for ((speed, cpu, mem, battery), expected) in cases {
            assert!((eqs0(speed, cpu, mem, battery) - expected).abs() < 1e-9, "{speed} {cpu} {mem} {battery}");
        }
        assert_eq!(with_net(80.0, Duration::ZERO), 80.0);
        assert!((with_net(80.0, RTT_HALF) - 40.0).abs() < 1e-9);
        assert!(with_net(80.0, Duration::MAX) >= 0.0);
    }

    /// What `--eqs paper` gets wrong: it runs to the other side of the world, past the neighbour and past oneself.
    #[test]
    fn the_papers_equation_prefers_the_slowest_link() {
        let ms = Duration::from_millis;
        let (here, near, far) = (Duration::ZERO, ms(2), ms(300));
        assert!(paper(80.0, far) > paper(80.0, near) && paper(80.0, near) > paper(80.0, here));
        assert!(paper(10.0, far) > paper(300.0, near), "a thirtieth of the speed, 150 times the distance");
        assert_eq!(paper(300.0, here), 0.0);
        assert!(with_net(80.0, here) > with_net(80.0, near) && with_net(80.0, near) > with_net(80.0, far));
        assert!(paper(f64::NAN, far) == 0.0 && paper(f64::INFINITY, Duration::MAX).is_finite());
    }

    #[test]
    fn b17_odd_floats_count_as_the_worst() {
        for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, -1e308] {
            assert_eq!(eqs0(1.0, odd, odd, odd), 0.0, "{odd}");
            assert!((eqs0(odd, 1.0, 1.0, 1.0) - 10.0).abs() < 1e-9, "{odd}");
            assert_eq!(with_net(odd, Duration::ZERO), 0.0, "{odd}");
        }
        assert!((eqs0(1e308, 1e308, 1e308, 1e308) - 300.0).abs() < 1e-9);
    }
}
