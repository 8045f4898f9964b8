//! The figures as a table, with what they should be.

use std::io::Write;

use anyhow::Result;
use serde_json::Value;

use super::Report;

/// Key, unit, and the goal in words.
const ROWS: [(&str, &str, &str); 30] = [
    ("noop_p50_us", "us", ""),
    ("raw_p50_us", "us", "the same round trip on a raw libp2p stream"),
    ("noop_p50_ratio", "x", "<= 2.2"),
    ("noop_p99_ratio", "x", "<= 3"),
    ("noop_calls_per_s", "/s", ">= 20,000 with 64 at a time"),
    ("tasks_per_s", "/s", ">= 20,000; Dask 940, Ray 2,010"),
    ("bulk_mb_per_s", "MB/s", ">= 300 each way"),
    ("raw_mb_per_s", "MB/s", "the same on a raw libp2p stream"),
    ("bulk_ratio", "x", ">= 0.9"),
    ("cold_ms_0", "ms", "<= 10"),
    ("cold_ms_100", "ms", "<= 900; the paper: 809-896 on a LAN, 1,153-1,775 across an ocean"),
    ("cold_ms_100_connected", "ms", "<= 450"),
    ("eff_equal_1", "x", ">= 0.95 of what the work allows; Dask 0.90"),
    ("eff_equal_1_got", "x", "the processor time that was used at all"),
    ("eff_equal_2", "x", ">= 0.95; Dask 0.92"),
    ("eff_equal_2_got", "x", "the processor time that was used at all"),
    ("eff_equal_4", "x", ">= 0.92; Dask 0.84"),
    ("eff_equal_4_got", "x", "the processor time that was used at all"),
    ("eff_uneven", "x", ">= 0.90 of the sum of speeds"),
    ("eff_uneven_got", "x", "the processor time that was used at all"),
    ("eff_uneven_share_error", "x", "<= 0.10: a device's share of the tasks against its speed"),
    ("worse_than_local_max", "x", "<= 1.05 after 5 ms"),
    ("loss_2_of_4", "x", "<= 1.15 of the ideal for what was left"),
    ("loss_wasted", "x", "CPU time beyond the work itself"),
    ("straggler_p95", "x", "<= 1.3 of the ideal for what was left"),
    ("straggler_wasted", "x", "CPU time beyond the work itself"),
    ("predict_error", "x", "<= 0.15, median"),
    ("predict_error_after_search", "x", ""),
    ("predict_regret", "x", "<= 0.10, median"),
    ("predict_regret_mean", "x", ""),
];

pub fn print(report: &Report, out: &mut impl Write) -> Result<()> {
    writeln!(out, "Devices are processes with a share of a core; links of 100 ms are a model (a relay), not a place.")?;
    writeln!(
        out,
        "{} cores, load before {}, {}, wire figures over {}",
        report["cores"],
        report["load_before"],
        if report["optimised"] == true { "release build" } else { "DEBUG BUILD: no figure of it counts" },
        report.get("transport").and_then(Value::as_str).unwrap_or("-"),
    )?;
    let head = ["figure", "value", "n", "median", "p99", "min..max"];
    writeln!(
        out,
        "{:<24} {:>14} {:>5} {:>10} {:>10} {:>21}  goal",
        head[0], head[1], head[2], head[3], head[4], head[5]
    )?;
    for (key, unit, goal) in ROWS {
        let Some(value) = report.get(key) else { continue };
        let at = |name: &str| report.get(&format!("{key}_{name}")).and_then(Value::as_f64);
        let shown = |value: Option<f64>| value.map_or("-".to_owned(), short);
        let headline = value.as_f64().map_or("-".to_owned(), |value| format!("{} {unit}", short(value)));
        let range = format!("{}..{}", shown(at("min")), shown(at("max")));
        let count = at("n").map_or("-".to_owned(), |n| n.to_string());
        let note = report.get(&format!("{key}_note")).and_then(Value::as_str).unwrap_or(goal);
        writeln!(
            out,
            "{key:<24} {headline:>14} {count:>5} {:>10} {:>10} {range:>21}  {note}",
            shown(at("p50")),
            shown(at("p99"))
        )?;
    }
    for (key, value) in report.iter().filter(|(key, _)| {
        key.contains("phase") || key.ends_with("_shares") || key.ends_with("_tasks") || key.ends_with("_error")
    }) {
        if let Some(text) = value.as_str() {
            writeln!(out, "{key}: {text}")?;
        }
    }
    Ok(())
}

fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 1000.0 => format!("{value:.0}"),
        v if v >= 100.0 => format!("{value:.1}"),
        v if v >= 10.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
