//! `scripts/bench jobs`: what jobs cost and how good the scheduler is, as a table or as one flat JSON object.
//!
//! Small calls, tiny tasks and bulk come from `bench_jobs`, which has a node of its own; here are whole processes whose
//! shares of the cores are limited, and slow links. A figure's key holds its headline, `KEY_n`, `KEY_p50`, `KEY_p99`,
//! `KEY_min` and `KEY_max` what it was made of. `null` and `KEY_note` stand for a figure that could not be measured.

mod bed;
mod cold;
mod loss;
mod predict;
mod speed;
mod table;

use std::{io::Write, process::Command};

use anyhow::{Context, Result, bail, ensure};
use msm_testnet::binary;
use serde_json::{Map, Value, json};

/// The object that is printed.
pub type Report = Map<String, Value>;
/// A part of the report, by the name that the command line has for it.
type Part = fn(&mut Report) -> Result<()>;

const PARTS: [(&str, Part); 6] = [
    ("wire", wire),
    ("cold", cold::measure),
    ("speed", speed::measure),
    ("local", speed::never_worse),
    ("loss", loss::measure),
    ("predict", predict::measure),
];

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let wanted: Vec<&str> = args.iter().map(String::as_str).filter(|arg| !arg.starts_with("--")).collect();
    if let Some(unknown) = wanted.iter().find(|it| PARTS.iter().all(|(name, _)| name != *it)) {
        bail!("no part {unknown}; there are: {}", PARTS.map(|(name, _)| name).join(" "));
    }
    let mut report = Map::new();
    report.insert("schema".into(), json!("msm.bench-jobs/1"));
    report.insert("cores".into(), json!(std::thread::available_parallelism()?.get()));
    report.insert("optimised".into(), json!(!cfg!(debug_assertions)));
    report.insert("load_before".into(), json!(load()));
    for (name, measure) in PARTS {
        if wanted.is_empty() || wanted.contains(&name) {
            eprintln!("bench: {name}");
            // One that fails must not hide the others.
            if let Err(error) = measure(&mut report) {
                eprintln!("bench: {name}: {error:#}");
                report.insert(format!("{name}_error"), json!(format!("{error:#}")));
            }
        }
    }
    let mut out = std::io::stdout().lock();
    if args.iter().any(|arg| arg == "--json") {
        writeln!(out, "{}", Value::Object(report))?;
    } else {
        table::print(&report, &mut out)?;
    }
    Ok(())
}

/// `MSM_BENCH_QUICK=1` only sees that all of it works.
pub fn quick() -> bool {
    std::env::var_os("MSM_BENCH_QUICK").is_some_and(|value| value == "1")
}

/// How much of what is measured here others took: the mean number of runnable processes in the last minute.
fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// What crosses a wire, measured by an example of the node's crate that lies beside this one.
fn wire(report: &mut Report) -> Result<()> {
    let built = std::env::current_exe()?.with_file_name("bench_jobs");
    let output = Command::new(&built).env(binary::VARIABLE, binary::msm()?).output();
    let output = output.with_context(|| format!("cannot start {}", built.display()))?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let Value::Object(figures) = serde_json::from_slice(&output.stdout)? else { bail!("no figures") };
    report.extend(figures.into_iter().filter(|(key, _)| key != "cores" && key != "optimised"));
    Ok(())
}

/// A figure: its headline, and how the samples that it was made of varied.
pub fn figure(report: &mut Report, key: &str, headline: f64, samples: &[f64]) {
    report.insert(key.into(), json!(rounded(headline)));
    report.insert(format!("{key}_n"), json!(samples.len()));
    for (name, part) in [("p50", 0.5), ("p99", 0.99), ("min", 0.0), ("max", 1.0)] {
        report.insert(format!("{key}_{name}"), json!(rounded(quantile(samples, part))));
    }
}

/// A figure that is the median of its samples.
pub fn median(report: &mut Report, key: &str, samples: &[f64]) {
    figure(report, key, quantile(samples, 0.5), samples);
}

/// A figure that could not be measured, and why.
pub fn missing(report: &mut Report, key: &str, why: &str) {
    report.insert(key.into(), Value::Null);
    report.insert(format!("{key}_note"), json!(why));
}

fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// The value below which `part` (0..1) of the samples lie (nearest rank).
pub fn quantile(samples: &[f64], part: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}
