//! Figures as flat JSON: the headline, and how what it was made of varied.

use serde_json::{Map, Value, json};

/// The object that is printed.
pub type Report = Map<String, Value>;

/// The value below which `part` (0..1) of the samples lie (nearest rank).
pub fn quantile(samples: &[f64], part: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// The median of samples, with their number, 99th percentile and range.
pub fn median(report: &mut Report, key: &str, samples: &[f64]) {
    let at = |part| quantile(samples, part);
    report.insert(key.into(), json!(at(0.5)));
    report.insert(format!("{key}_n"), json!(samples.len()));
    for (name, part) in [("p50", 0.5), ("p99", 0.99), ("min", 0.0), ("max", 1.0)] {
        report.insert(format!("{key}_{name}"), json!(at(part)));
    }
}

/// A figure that is one number made of `n` others.
pub fn one(report: &mut Report, key: &str, value: f64, n: usize) {
    report.insert(key.into(), json!(value));
    report.insert(format!("{key}_n"), json!(n));
}

/// A figure that could not be measured, and why.
pub fn none(report: &mut Report, key: &str, why: &str) {
    report.insert(key.into(), Value::Null);
    report.insert(format!("{key}_note"), json!(why));
}
