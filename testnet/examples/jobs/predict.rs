//! Whether a job takes as long as was said before, and whether another number of devices had been better.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use msm_testnet::delay::line::Draw;
use serde_json::json;

use super::{Report, bed::Bed, figure, median, missing, quantile, quick};

/// Shares that a device may have. Four of the largest fit into two cores.
const SHARES: [f64; 4] = [0.1, 0.2, 0.3, 0.45];
const DEVICES: usize = 4;

pub fn measure(report: &mut Report) -> Result<()> {
    let settings = if quick() { 3 } else { 50 };
    let seed = std::env::var("MSM_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.as_secs()));
    report.insert("predict_seed".into(), json!(seed));
    let mut draw = Draw::new(seed);
    let turn = Bed::new(&[SHARES[3]; DEVICES])?.calibrate(3)?;
    let (mut errors, mut after_search, mut regrets) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..settings {
        // Devices that have not met: what was learned of the same ones at other speeds would tell nothing of these.
        let mut bed = Bed::new(&[(); DEVICES].map(|()| *draw.one(&SHARES)))?;
        // 0.1 to 1 CPU seconds, evenly in its order of magnitude.
        let turns = (0.1 * 10_f64.powf(draw.share()) / turn).round() as u32;
        // One job shows these speeds. It is another one than is predicted, or it would be found by heart.
        bed.run_half(turns, &format!("--devices {DEVICES}"))?;
        let chosen = bed.run(turns, "--devices auto")?;
        if let Some(predicted) = chosen.report["predicted_ms"].as_f64() {
            let error = |wall: f64| (predicted / 1e3 / wall - 1.0).abs();
            errors.push(error(chosen.wall));
            // The prediction is made when the search is over.
            after_search.push(error(chosen.wall - chosen.phase("discover")));
        }
        let mut best = chosen.wall.min(bed.run(turns, "--local")?.wall);
        for count in 2..=DEVICES {
            best = best.min(bed.run(turns, &format!("--devices {count}"))?.wall);
        }
        regrets.push(chosen.wall / best - 1.0);
    }
    if errors.is_empty() {
        missing(report, "predict_error", "this version's jobs do not say what was predicted");
    } else {
        median(report, "predict_error", &errors);
        median(report, "predict_error_after_search", &after_search);
    }
    median(report, "predict_regret", &regrets);
    let mean = regrets.iter().sum::<f64>() / regrets.len() as f64;
    figure(report, "predict_regret_mean", mean, &regrets);
    report.insert("predict_regret_p95".into(), json!(quantile(&regrets, 0.95)));
    Ok(())
}
