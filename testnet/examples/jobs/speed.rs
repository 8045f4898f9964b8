//! How much of what devices have a job uses, and whether it is ever worse than doing it here.

use anyhow::Result;
use serde_json::{Value, json};

use super::{Report, bed::Bed, figure, median, quick};

/// CPU seconds of the heavy job: 12 s on one device of a fifth of a core.
const HEAVY_S: f64 = 2.4;
const FIFTH: f64 = 0.2;
/// The slowest asks, so that all others are worth asking: a device takes none that is much slower than itself.
const UNEVEN: [f64; 4] = [0.05, 0.2, 0.1, 0.05];

fn scale() -> (f64, usize) {
    if quick() { (HEAVY_S / 6.0, 1) } else { (HEAVY_S, 3) }
}

/// Efficiency on equal and on uneven devices.
pub fn measure(report: &mut Report) -> Result<()> {
    let (seconds, runs) = scale();
    for (count, key) in [(1, "eff_equal_1"), (2, "eff_equal_2"), (4, "eff_equal_4")] {
        let mut bed = Bed::new(&vec![FIFTH; count])?;
        let line = format!("--devices {count}");
        Use::default().of_runs(&mut bed, seconds, runs, &line)?.tell(report, key);
    }
    let mut bed = Bed::new(&UNEVEN)?;
    let used = Use::default().of_runs(&mut bed, seconds, runs, "--devices 4")?;
    used.tell(report, "eff_uneven");
    let (errors, shares): (Vec<f64>, Vec<String>) = used.reports.iter().map(share_error).unzip();
    median(report, "eff_uneven_share_error", &errors);
    report.insert("eff_uneven_shares".into(), json!(shares.last()));
    Ok(())
}

/// What jobs made of what their devices have.
#[derive(Default)]
struct Use {
    /// The part of it that the work itself takes.
    effs: Vec<f64>,
    /// The part of it that was used at all: what is missing was waited.
    got: Vec<f64>,
    reports: Vec<Value>,
}

impl Use {
    /// Of so many runs of a job of so many CPU seconds, after a first one that shows who is slow and what the job takes.
    /// Each is measured by what its work costs right before it, as a machine that others use too is not as fast at any
    /// time.
    fn of_runs(mut self, bed: &mut Bed, seconds: f64, runs: usize, line: &str) -> Result<Self> {
        let sum: f64 = bed.devices.iter().map(|device| device.share).sum();
        bed.calibrate(3)?;
        let turns = bed.turns(seconds);
        bed.run(turns, line)?;
        for _ in 0..runs {
            bed.calibrate(1)?;
            let before = bed.used()?;
            let done = bed.run(turns, line)?;
            self.effs.push(bed.cost(turns) / (sum * done.wall));
            self.got.push((bed.used()? - before) / (sum * done.wall));
            self.reports.push(done.report);
        }
        Ok(self)
    }

    fn tell(&self, report: &mut Report, key: &str) {
        median(report, key, &self.effs);
        median(report, &format!("{key}_got"), &self.got);
        let again = self.reports.iter().map(|job| {
            let reruns = &job["reruns"];
            format!("{} tasks, {} checked, {} stragglers", job["tasks"], reruns["check"], reruns["straggler"])
        });
        report.insert(format!("{key}_tasks"), json!(again.collect::<Vec<_>>().join("; ")));
    }
}

/// How far a device's share of the tasks is from its share of the speed at most, and all of them in words.
fn share_error(job: &Value) -> (f64, String) {
    let tasks = job["tasks"].as_f64().unwrap_or(1.0);
    let sum: f64 = UNEVEN.iter().sum();
    let mut worst: f64 = 0.0;
    let mut words = Vec::new();
    for (number, speed) in UNEVEN.iter().enumerate() {
        let name = format!("device{number}");
        let mine = job["devices"].as_array().into_iter().flatten().find(|device| {
            device["name"].as_str().is_some_and(|it| it.starts_with(&name)) || (number == 0 && device["local"] == true)
        });
        let share = mine.and_then(|device| device["tasks"].as_f64()).unwrap_or(0.0) / tasks;
        worst = worst.max((share / (speed / sum) - 1.0).abs());
        words.push(format!(
            "{name} of {:.0} % did {:.1} % (its speed: {:.1} %)",
            speed * 100.0,
            share * 100.0,
            speed / sum * 100.0
        ));
    }
    (worst, words.join(", "))
}

/// Jobs from 1 ms to 20 s: alone, and as the node thinks best.
pub fn never_worse(report: &mut Report) -> Result<()> {
    const SHARE: f64 = 0.45;
    const SIZES: i32 = 20;
    // From 1 ms to 20 s of wall time on this device alone.
    let (smallest, largest) = (0.001_f64, if quick() { 0.5 } else { 20.0 });
    let mut bed = Bed::new(&[SHARE; 4])?;
    bed.calibrate(3)?;
    let mut worst = Vec::new();
    let mut rows = Vec::new();
    for size in 0..SIZES {
        let wanted = smallest * (largest / smallest).powf(f64::from(size) / f64::from(SIZES - 1));
        let turns = bed.turns(wanted * SHARE);
        // Short ones are noise unless they are done more than once.
        let runs = if wanted < 0.2 {
            9
        } else if wanted < 2.0 {
            3
        } else {
            1
        };
        let (mut alone, mut chosen) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            alone.push(bed.run(turns, "--local")?.wall);
            chosen.push(bed.run(turns, "--devices auto")?.wall);
        }
        let (alone, chosen) = (super::quantile(&alone, 0.5), super::quantile(&chosen, 0.5));
        worst.push((chosen - 0.005) / alone);
        rows.push(format!("{:.0}:{:.0}", alone * 1e3, chosen * 1e3));
    }
    figure(report, "worse_than_local_max", worst.iter().copied().fold(0.0, f64::max), &worst);
    report.insert("worse_than_local_shares".into(), json!(format!("ms alone:as chosen {}", rows.join(" "))));
    Ok(())
}
