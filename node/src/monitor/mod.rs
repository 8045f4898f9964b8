//! What this device has to lend right now, sampled in the background: a question never waits for a measurement.

mod battery;
mod cpu;
mod gps;
mod idle;
mod network;

use std::{
    path::PathBuf,
    sync::mpsc,
    time::{Duration, Instant, SystemTime},
};

use msm_protocol::device::Network;
use sysinfo::System;
use tokio::sync::watch;

use self::{battery::Batteries, cpu::Cpu, gps::Gps, idle::Idle};
pub use self::{
    battery::Battery,
    cpu::Quota,
    gps::{Fix, Receiver, Signal},
};
use crate::{
    clock,
    config::{Config, When},
};

/// Time between samples. *Judgement*: a job's selection is seconds old at most, and a sample costs about a millisecond.
pub const INTERVAL: Duration = Duration::from_secs(2);
/// CPU use is a difference over time: the second sample is taken this soon, so that a node that was just started knows.
const FIRST_INTERVAL: Duration = Duration::from_millis(250);
/// Batteries are asked at every n-th sample: some firmware takes tens of milliseconds to answer.
const BATTERY_EVERY: u32 = 5;

/// Where the system's files are; another place only in tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// `/proc`
    pub proc: PathBuf,
    /// `/sys`
    pub sys: PathBuf,
    /// `/dev`
    pub dev: PathBuf,
    /// `/run`
    pub run: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { proc: "/proc".into(), sys: "/sys".into(), dev: "/dev".into(), run: "/run".into() }
    }
}

/// What to watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonitorConfig {
    /// Time between samples.
    pub interval: Duration,
    /// Host and port of a gpsd.
    pub gps: Option<(String, u16)>,
    /// Look whether somebody uses the device.
    pub idle: bool,
    /// Where the system's files are.
    pub roots: Roots,
}

impl Default for MonitorConfig {
    fn default() -> Self {
        Self { interval: INTERVAL, gps: None, idle: false, roots: Roots::default() }
    }
}

impl From<&Config> for MonitorConfig {
    fn from(config: &Config) -> Self {
        let idle = config.offer.when == When::Idle;
        Self { gps: config.sensors.gps.clone(), idle, ..Self::default() }
    }
}

/// The device at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Share of the CPU that is free, 0..1, smoothed over about ten seconds. Under a CPU quota: share of the quota.
    pub cpu_free: f64,
    /// Share of the memory that is free, 0..1.
    pub mem_free: f64,
    /// Where the power comes from.
    pub battery: Battery,
    /// Class of the link to the internet.
    pub network: Network,
    /// A position is known right now.
    pub gps: bool,
    /// For how long nobody has used the device; very long where that is not looked at.
    pub idle_for: Duration,
    /// Minutes since midnight by the clock on the wall.
    pub minute_of_day: u16,
    /// When this was measured.
    pub at: Instant,
}

/// Samples the device until it is dropped.
#[derive(Debug)]
pub struct Monitor {
    samples: watch::Receiver<Sample>,
    position: watch::Receiver<Receiver>,
    /// Dropping it ends the sampler.
    _stop: mpsc::SyncSender<()>,
}

impl Monitor {
    /// Takes a first sample and starts to take more on a thread of its own. Takes some milliseconds.
    pub fn start(config: impl Into<MonitorConfig>) -> Self {
        let config = config.into();
        let interval = config.interval;
        let mut sampler = Sampler::new(config);
        // Without a receiver nobody will ever send, and the value stays.
        let position = sampler.gps.as_ref().map_or_else(|| watch::channel(Receiver::default()).1, Gps::subscribe);
        let (sender, samples) = watch::channel(sampler.sample());
        let (stop, stopped) = mpsc::sync_channel::<()>(0);
        let run = move || {
            let mut wait = FIRST_INTERVAL.min(interval);
            while let Err(mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(wait) {
                sender.send_replace(sampler.sample());
                wait = interval;
            }
        };
        if let Err(error) = std::thread::Builder::new().name("msm-monitor".into()).spawn(run) {
            tracing::error!(%error, "the device is not watched: its state stays as it was at the start");
        }
        Self { samples, position, _stop: stop }
    }

    /// The newest sample.
    pub fn sample(&self) -> Sample {
        *self.samples.borrow()
    }

    /// Every sample from now on.
    pub fn subscribe(&self) -> watch::Receiver<Sample> {
        self.samples.clone()
    }

    /// Where this device is, as far as its receiver knows now.
    pub fn position(&self) -> Receiver {
        *self.position.borrow()
    }
}

/// What the sampling thread owns.
struct Sampler {
    system: Option<System>,
    cpu: Cpu,
    batteries: Batteries,
    battery: Battery,
    gps: Option<Gps>,
    idle: Option<Idle>,
    roots: Roots,
    taken: u32,
}

impl Sampler {
    fn new(config: MonitorConfig) -> Self {
        let system = System::new().inspect_err(|error| tracing::warn!(%error, "CPU and memory cannot be measured"));
        Self {
            system: system.ok(),
            cpu: Cpu::new(&config.roots),
            batteries: Batteries::new(&config.roots),
            battery: Battery::MAINS,
            gps: config.gps.map(Gps::start),
            idle: config.idle.then(|| Idle::new(&config.roots)),
            roots: config.roots,
            taken: 0,
        }
    }

    fn sample(&mut self) -> Sample {
        if self.taken.is_multiple_of(BATTERY_EVERY) {
            self.battery = self.batteries.read();
        }
        self.taken = self.taken.wrapping_add(1);
        let at = Instant::now();
        // A device that cannot tell what is free lends nothing rather than too much.
        let (cpu_free, mem_free) = match &mut self.system {
            Some(system) => (self.cpu.free(system, at), memory_free(system)),
            None => (0.0, 0.0),
        };
        Sample {
            cpu_free,
            mem_free,
            battery: self.battery,
            network: network::class(&self.roots),
            gps: self.gps.as_ref().is_some_and(Gps::has_fix),
            idle_for: self.idle.as_mut().map_or(Duration::MAX, |idle| idle.read(SystemTime::now())),
            minute_of_day: clock::local(clock::now()).minute_of_day(),
            at,
        }
    }
}

/// The free share of the machine's memory, or of what a container may use when that is less.
fn memory_free(system: &mut System) -> f64 {
    system.refresh_memory();
    let machine = ratio(system.available_memory(), system.total_memory());
    match system.cgroup_limits() {
        Some(limit) if limit.total_memory < system.total_memory() => {
            machine.min(ratio(limit.free_memory, limit.total_memory))
        }
        _ => machine,
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64).clamp(0.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_sample_is_there_at_once_and_more_follow() {
        let config = MonitorConfig { interval: Duration::from_millis(20), ..MonitorConfig::default() };
        let monitor = Monitor::start(config);
        let first = monitor.sample();
        let mut samples = monitor.subscribe();
        for _ in 0..3 {
            samples.changed().await.unwrap();
        }
        let last = *samples.borrow();
        assert!(last.at > first.at);
        for sample in [first, last] {
            assert!((0.0..=1.0).contains(&sample.cpu_free), "{sample:?}");
            assert!(sample.mem_free > 0.0 && sample.mem_free < 1.0, "{sample:?}");
            assert!((0.0..=1.0).contains(&sample.battery.level), "{sample:?}");
            assert!(!sample.gps);
        }
        // The thread ends with the monitor, and with it the channel.
        drop(monitor);
        while samples.changed().await.is_ok() {}
    }

    #[test]
    fn ratios_stay_in_their_range() {
        for (part, whole, expected) in [(0, 0, 0.0), (1, 0, 0.0), (1, 2, 0.5), (3, 2, 1.0)] {
            assert_eq!(ratio(part, whole), expected);
        }
    }
}
