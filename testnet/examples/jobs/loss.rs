//! Devices that die or become slow in the middle of a job.

use anyhow::Result;

use super::{
    Report,
    bed::{Bed, Done, Moment},
    figure, median, quantile, quick,
};

const SHARE: f64 = 0.2;
/// CPU seconds of a job: on five such devices 3.6 s.
const WORK_S: f64 = 3.6;

pub fn measure(report: &mut Report) -> Result<()> {
    let (seconds, runs) = if quick() { (WORK_S / 3.0, 1) } else { (WORK_S, 5) };
    let mut bed = Bed::new(&[SHARE; 5])?;
    bed.calibrate(3)?;
    let turns = bed.turns(seconds);
    let healthy = undisturbed(&mut bed, turns)?;
    let (mut ratios, mut wasted) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let before = bed.used()?;
        let (done, moment) = bed.disturbed(turns, healthy / 2.0, |devices| {
            devices[1].node.kill()?;
            devices[2].node.kill()
        })?;
        ratios.push(against_ideal(&bed, turns, &done, &moment, (healthy, 3.0 * SHARE)));
        wasted.push((bed.used()? - before) / bed.cost(turns) - 1.0);
        bed.back(1)?;
        bed.back(2)?;
    }
    median(report, "loss_2_of_4", &ratios);
    median(report, "loss_wasted", &wasted);

    let (mut ratios, mut wasted) = (Vec::new(), Vec::new());
    for _ in 0..runs * 2 {
        let before = bed.used()?;
        // To a twentieth of its speed.
        let slow = SHARE / 20.0;
        let (done, moment) = bed.disturbed(turns, healthy / 2.0, |devices| devices[3].quota.set(slow))?;
        bed.devices[3].quota.set(SHARE)?;
        ratios.push(against_ideal(&bed, turns, &done, &moment, (healthy, 4.0 * SHARE + slow)));
        wasted.push((bed.used()? - before) / bed.cost(turns) - 1.0);
    }
    figure(report, "straggler_p95", quantile(&ratios, 0.95), &ratios);
    median(report, "straggler_wasted", &wasted);
    Ok(())
}

/// CPU seconds that the job takes when nothing happens to anybody.
fn undisturbed(bed: &mut Bed, turns: u32) -> Result<f64> {
    let mut used = f64::INFINITY;
    for _ in 0..2 {
        let before = bed.used()?;
        bed.run(turns, &format!("--devices {}", bed.devices.len()))?;
        used = used.min(bed.used()? - before);
    }
    Ok(used)
}

/// How long what was left took, against those of this speed who were left doing nothing but the work itself. What was under
/// way on a device that died counts as done: to do it again is a part of what its loss costs.
fn against_ideal(bed: &Bed, turns: u32, done: &Done, moment: &Moment, (healthy, speed): (f64, f64)) -> f64 {
    let left = bed.cost(turns) * (1.0 - moment.used / healthy);
    (done.wall - moment.at) / (left / speed)
}
