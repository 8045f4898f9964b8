//! Quantiles of measured times.

use std::time::Duration;

/// The value below which `part` (0..1) of the samples lie (nearest rank); zero when there are none.
pub fn quantile(samples: &[Duration], part: f64) -> Duration {
    let mut sorted = samples.to_vec();
    sorted.sort();
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// Half lie below it.
pub fn median(samples: &[Duration]) -> Duration {
    quantile(samples, 0.5)
}

/// Milliseconds with a fraction.
pub fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples() {
        let samples: Vec<_> = (1..=100).rev().map(Duration::from_millis).collect();
        let cases = [(0.0, 1), (0.5, 50), (0.99, 99), (1.0, 100)];
        for (part, expected) in cases {
            assert_eq!(quantile(&samples, part), Duration::from_millis(expected), "{part}");
        }
        assert_eq!(median(&[]), Duration::ZERO);
        assert_eq!(median(&samples[..1]), Duration::from_millis(100));
    }
}
