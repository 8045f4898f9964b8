//! How quick one core of this machine is, next to a fixed reference: `S` of the execution quality score.

use std::{
    fs, hint,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use msm_protocol::{ContentHash, device::SPEED_RANGE};
use serde::{Deserialize, Serialize};

use crate::{
    home::{
        Home,
        files::{self, Secrecy},
    },
    monitor::{Quota, Roots},
};

/// Passes of the kernel in a millisecond on the reference: one core of a virtual machine whose processor calls itself
/// Intel Xeon, family 6, model 167, 2.6 GHz. Measured in November 2026 with this very code, optimised and as development
/// builds run it: the best of 120 slices, where the bests of 15 agreed to 2 % (development builds: 12 %). `S` = 1 is that
/// core, in either kind of build.
const REFERENCE_PASSES_PER_MS: f64 = if cfg!(debug_assertions) { 1.03 } else { 8.73 };

/// Slices of one measurement; the best counts, because other work on the machine can only make a slice slower.
const SLICES: u32 = 15;
/// Length of a slice: long enough to time, short enough to fit between two interruptions by other work or a quota.
const SLICE: Duration = Duration::from_millis(3);
/// Changes when the kernel or the reference changes: then every machine measures again.
const FORMAT: u32 = 1;
const SPEED_FILE_BYTES: u64 = 4 * 1024;

/// Measurements of a machine, of which the best counts: what else starts with it, or beside a node, slows a first one down,
/// and devices that are equal must not be told apart for long by that. *Judgement.*
const TIMES: u32 = 4;

/// The measured speed of one core.
#[derive(Debug)]
pub struct Speed {
    /// Bits of the float.
    measured: AtomicU64,
    /// Cores' worth of time that this process may use, when that is limited.
    quota: Option<f64>,
    file: PathBuf,
    /// How often it was measured.
    times: AtomicU32,
}

/// What is kept from start to start.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    format: u32,
    /// Machine, processor, version and kind of build: a home that was copied elsewhere measures again.
    machine: String,
    /// Relative to the reference.
    speed: f64,
    /// How often it was measured.
    #[serde(default)]
    times: u32,
}

impl Speed {
    /// The kept measurement of this machine or, at the first start, a new one (about 50 ms).
    pub fn load_or_measure(home: &Home) -> Self {
        let quota = Quota::read(&Roots::default()).map(|quota| quota.cores);
        Self::of(home.speed_file(), quota, &machine(), measure)
    }

    fn of(file: PathBuf, quota: Option<f64>, machine: &str, measure: impl FnOnce() -> f64) -> Self {
        let (measured, times) = kept(&file, machine).unwrap_or_else(|| {
            let measured = measure();
            tracing::info!(speed = measured, "measured the speed of this machine");
            keep(&file, machine, measured, 1);
            (measured, 1)
        });
        Self { measured: AtomicU64::new(measured.to_bits()), quota, file, times: times.into() }
    }

    /// `S`, 0.1..3: the speed that one core sustains. A quota below one core counts: with a fifth of a core's time, a
    /// long task takes five times as long.
    pub fn value(&self) -> f64 {
        let measured = f64::from_bits(self.measured.load(Ordering::Relaxed));
        let sustained = measured * self.quota.map_or(1.0, |quota| quota.min(1.0));
        if sustained.is_finite() { sustained.clamp(SPEED_RANGE.0, SPEED_RANGE.1) } else { SPEED_RANGE.0 }
    }

    /// How long to wait for the next measurement; `None` when there were enough.
    pub fn next(&self) -> Option<Duration> {
        let times = self.times.load(Ordering::Relaxed);
        (times < TIMES).then(|| Duration::from_secs(3_u64.saturating_pow(times + 1) / 3))
    }

    /// Measures once more, which takes about 50 ms of one core; the better one counts.
    pub fn measure_again(&self) {
        self.improve(&machine(), measure());
    }

    /// Measures until there is no need to any more.
    pub fn settle(self) {
        while self.next().is_some() {
            self.measure_again();
        }
    }

    fn improve(&self, machine: &str, measured: f64) {
        let before = f64::from_bits(self.measured.load(Ordering::Relaxed));
        let best = if measured.is_finite() { before.max(measured) } else { before };
        if best > before {
            tracing::info!(speed = best, before, "this machine is faster than it was measured to be");
        }
        self.measured.store(best.to_bits(), Ordering::Relaxed);
        let times = self.times.fetch_add(1, Ordering::Relaxed) + 1;
        keep(&self.file, machine, best, times);
    }
}

/// The best of what was measured and how often that was, if it is this machine's.
fn kept(file: &Path, machine: &str) -> Option<(f64, u32)> {
    let bytes = files::read(file, SPEED_FILE_BYTES, Secrecy::Plain).ok().flatten()?;
    let kept = toml::from_str::<Kept>(&String::from_utf8(bytes).ok()?).ok()?;
    let usable = kept.format == FORMAT && kept.machine == machine && kept.speed.is_finite() && kept.speed > 0.0;
    usable.then_some((kept.speed, kept.times))
}

/// Not kept (full disk, say) means measured again at the next start, no more.
fn keep(file: &Path, machine: &str, speed: f64, times: u32) {
    let kept = Kept { format: FORMAT, machine: machine.to_owned(), speed, times };
    let written = toml::to_string(&kept).map_err(|error| error.to_string());
    let written = written.and_then(|text| files::replace(file, text.as_bytes()).map_err(|error| error.to_string()));
    if let Err(error) = written {
        tracing::warn!(error, "the measured speed was not kept");
    }
}

/// Names this machine, processor, version and kind of build. Hashed: the machine's id is nobody's business.
fn machine() -> String {
    let id = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor.lines().filter(|line| line.starts_with("model name") || line.starts_with("CPU part"));
    let model = model.map(str::trim).next().unwrap_or_default();
    let build = if cfg!(debug_assertions) { "development" } else { "optimised" };
    // Another version may be compiled otherwise.
    let version = env!("CARGO_PKG_VERSION");
    ContentHash::of(format!("{id}\n{model}\n{build}\n{version}").as_bytes()).short()
}

fn measure() -> f64 {
    let mut picture = Picture::new();
    let best = (0..SLICES).map(|_| picture.passes_per_ms()).fold(0.0, f64::max);
    best / REFERENCE_PASSES_PER_MS
}

/// Side of the kernel's picture in pixels; with four bytes a pixel and two buffers it stays in the second-level cache,
/// as a task's rows do.
const SIDE: usize = 128;
const CHANNELS: usize = 4;
const RADIUS: usize = 3;

/// The kernel: a box blur of a small picture, integer sums and memory moves as in the services that this network runs.
struct Picture {
    from: Vec<u8>,
    to: Vec<u8>,
}

impl Picture {
    fn new() -> Self {
        let noise = (0..SIDE * SIDE * CHANNELS).scan(1u32, |state, _| {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Some((*state >> 24) as u8)
        });
        Self { from: noise.collect(), to: vec![0; SIDE * SIDE * CHANNELS] }
    }

    /// Blurs rows into columns: twice is once in each direction, with the strided writes of a real blur.
    fn pass(&mut self) {
        const WINDOW: u32 = 2 * RADIUS as u32 + 1;
        for y in 0..SIDE {
            let row = &self.from[y * SIDE * CHANNELS..(y + 1) * SIDE * CHANNELS];
            for channel in 0..CHANNELS {
                let pixel = |x: usize| u32::from(row[x.min(SIDE - 1) * CHANNELS + channel]);
                let mut sum = pixel(0) * (RADIUS as u32 + 1) + (1..=RADIUS).map(pixel).sum::<u32>();
                for x in 0..SIDE {
                    self.to[(x * SIDE + y) * CHANNELS + channel] = (sum / WINDOW) as u8;
                    sum = sum + pixel(x + RADIUS + 1) - pixel(x.saturating_sub(RADIUS));
                }
            }
        }
        std::mem::swap(&mut self.from, &mut self.to);
    }

    /// Works for one slice and says how fast.
    fn passes_per_ms(&mut self) -> f64 {
        let start = Instant::now();
        let mut passes = 0;
        loop {
            self.pass();
            hint::black_box(&self.from);
            passes += 1;
            let elapsed = start.elapsed();
            if elapsed >= SLICE {
                return f64::from(passes) / (elapsed.as_secs_f64() * 1e3);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_blurs() {
        let mut picture = Picture::new();
        let before = picture.from.clone();
        picture.pass();
        picture.pass();
        // Rows, then columns: the middle pixel is the mean of its neighbourhood, up to rounding.
        let at = |picture: &[u8], x: usize, y: usize| u32::from(picture[(y * SIDE + x) * CHANNELS]);
        let (x, y) = (SIDE / 2, SIDE / 3);
        let around = |centre: usize| centre - RADIUS..=centre + RADIUS;
        let sum: u32 = around(y).flat_map(|y| around(x).map(move |x| (x, y))).map(|(x, y)| at(&before, x, y)).sum();
        let mean = sum / 49;
        let blurred = at(&picture.from, x, y);
        assert!(blurred.abs_diff(mean) <= 2, "{blurred} {mean}");
    }

    #[test]
    fn a_measurement_is_positive_and_repeats() {
        let (one, two) = (measure(), measure());
        assert!(one > 0.0 && one.is_finite());
        // Other tests run beside this one; the best slice still is of the same order.
        assert!((0.2..5.0).contains(&(one / two)), "{one} {two}");
    }

    #[test]
    fn it_is_measured_once_for_each_machine() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("speed.toml");
        let load = |machine, measured| Speed::of(file.clone(), None, machine, move || measured).value();
        let never = |machine| Speed::of(file.clone(), None, machine, || panic!("measured again")).value();
        assert_eq!(load("a", 1.5), 1.5);
        assert_eq!(never("a"), 1.5);
        // Another machine, another format, nonsense.
        assert_eq!(load("b", 0.5), 0.5);
        assert_eq!(never("b"), 0.5);
        let kept = fs::read_to_string(&file).unwrap();
        for bad in [
            kept.replace("format = 1", "format = 0"),
            kept.replace("0.5", "nan"),
            kept.replace("0.5", "-1.0"),
            format!("{kept}surprise = 1\n"),
            String::new(),
        ] {
            fs::write(&file, bad).unwrap();
            assert_eq!(load("b", 0.7), 0.7);
        }
    }

    /// A device that was busy when it was measured is found out to be quicker, and never to be slower.
    #[test]
    fn the_best_of_several_measurements_counts() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("speed.toml");
        let speed = Speed::of(file.clone(), None, "a", || 0.6);
        assert!(speed.next().is_some());
        for (measured, expected) in [(0.5, 0.6), (1.1, 1.1), (f64::NAN, 1.1)] {
            speed.improve("a", measured);
            assert_eq!(speed.value(), expected, "{measured}");
        }
        let later = Speed::of(file, None, "a", || panic!("measured again"));
        assert!(later.next().is_none() && later.value() == 1.1, "enough, after the node was started again too");
    }

    #[test]
    fn speed_is_clamped_and_a_quota_slows_it() {
        let dir = tempfile::tempdir().unwrap();
        for (measured, quota, expected) in [
            (1.0, None, 1.0),
            (1.0, Some(4.0), 1.0),
            (2.0, Some(0.25), 0.5),
            (9.0, None, 3.0),
            (9.0, Some(0.5), 3.0),
            (0.01, None, 0.1),
            (f64::NAN, None, 0.1),
        ] {
            let speed = Speed::of(dir.path().join("none"), quota, "a", || measured);
            fs::remove_file(dir.path().join("none")).unwrap();
            assert_eq!(speed.value(), expected, "{measured} {quota:?}");
        }
    }
}
