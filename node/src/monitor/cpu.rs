//! The free share of the CPU: smoothed, and never more than a container's quota leaves.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use sysinfo::System;

use super::Roots;

/// A change has mostly arrived in the smoothed value after this time, so that a spike decides nothing.
const SMOOTHING: Duration = Duration::from_secs(10);
/// Folders looked at above the process's own control group.
const CGROUP_DEPTH: usize = 16;

/// Follows the CPU.
#[derive(Debug)]
pub(super) struct Cpu {
    quota: Option<Quota>,
    /// When it was read, what the control group had used then, and the smoothed free share.
    last: Option<(Instant, Option<Duration>, f64)>,
}

impl Cpu {
    pub(super) fn new(roots: &Roots) -> Self {
        Self { quota: Quota::read(roots), last: None }
    }

    /// The free share at `now`, 0..1. The first answer comes from the load average: use is a difference over time.
    pub(super) fn free(&mut self, system: &mut System, now: Instant) -> f64 {
        system.refresh_cpu_usage();
        let cores = system.cpus().len().max(1) as f64;
        let used = self.quota.as_ref().and_then(Quota::used);
        let Some((then, used_then, smoothed)) = self.last else {
            let busy = System::load_average().map_or(0.0, |load| load.one.max(0.0));
            let free = free_share(cores, (cores - busy).max(0.0), self.quota.as_ref().map(|quota| (quota.cores, 0.0)));
            self.last = Some((now, used, free));
            return free;
        };
        let elapsed = now.saturating_duration_since(then);
        let machine_free = cores * (1.0 - f64::from(system.global_cpu_usage()) / 100.0);
        let quota = self.quota.as_ref().map(|quota| {
            let spent = used.zip(used_then).map_or(Duration::ZERO, |(used, then)| used.saturating_sub(then));
            (quota.cores, spent.as_secs_f64() / elapsed.as_secs_f64().max(1e-3))
        });
        let free = smooth(smoothed, free_share(cores, machine_free, quota), elapsed);
        self.last = Some((now, used, free));
        free
    }
}

/// The free share of `cores` cores of which `free` are free. With a quota `(cores, used)`: of those.
fn free_share(cores: f64, free: f64, quota: Option<(f64, f64)>) -> f64 {
    let (whole, free) = match quota {
        Some((quota, used)) if quota < cores => (quota, free.min(quota - used)),
        _ => (cores, free),
    };
    let share = free / whole;
    if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
}

/// Moves `smoothed` towards `now` as far as `elapsed` allows (exponential moving average).
fn smooth(smoothed: f64, now: f64, elapsed: Duration) -> f64 {
    let weight = 1.0 - (-elapsed.as_secs_f64() / SMOOTHING.as_secs_f64()).exp();
    smoothed + weight * (now - smoothed)
}

/// A limit that a container or service manager sets on this process's CPU time (cgroup v1 or v2).
#[derive(Debug, Clone, PartialEq)]
pub struct Quota {
    /// Cores' worth of time; may be below 1.
    pub cores: f64,
    /// A file with the time used so far, and its unit in nanoseconds.
    usage: (PathBuf, u32),
}

impl Quota {
    /// The tightest quota on this process, or `None`.
    pub fn read(roots: &Roots) -> Option<Self> {
        let groups = fs::read_to_string(roots.proc.join("self/cgroup")).ok()?;
        let top = roots.sys.join("fs/cgroup");
        let mut quotas: Vec<Self> = groups.lines().flat_map(|line| Self::of_group(&top, line)).collect();
        quotas.sort_by(|a, b| a.cores.total_cmp(&b.cores));
        quotas.into_iter().next()
    }

    /// All quotas of one line of `/proc/self/cgroup` (`number:controllers:path`) and the groups above it.
    fn of_group(top: &Path, line: &str) -> Vec<Self> {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            return Vec::new();
        };
        let (mount, read): (PathBuf, fn(&Path) -> Option<Self>) = if controllers.is_empty() {
            (top.to_owned(), Self::unified)
        } else if controllers.split(',').any(|controller| controller == "cpu") {
            (top.join(controllers), Self::legacy)
        } else {
            return Vec::new();
        };
        // In a container the path may be the host's, which is not there; its top is the container's own group.
        let group = mount.join(path.trim_start_matches('/'));
        let above = group.ancestors().take_while(|folder| folder.starts_with(&mount));
        above.take(CGROUP_DEPTH).chain([mount.as_path()]).filter_map(read).collect()
    }

    /// cgroup v2: `cpu.max` holds `QUOTA PERIOD` or `max PERIOD`.
    fn unified(group: &Path) -> Option<Self> {
        let text = fs::read_to_string(group.join("cpu.max")).ok()?;
        let (quota, period) = text.trim().split_once(' ')?;
        Self::of(quota, period, (group.join("cpu.stat"), 1_000))
    }

    /// cgroup v1: two files; a quota of -1 is none.
    fn legacy(group: &Path) -> Option<Self> {
        let quota = fs::read_to_string(group.join("cpu.cfs_quota_us")).ok()?;
        let period = fs::read_to_string(group.join("cpu.cfs_period_us")).ok()?;
        Self::of(quota.trim(), period.trim(), (group.join("cpuacct.usage"), 1))
    }

    fn of(quota: &str, period: &str, usage: (PathBuf, u32)) -> Option<Self> {
        let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
        (quota > 0 && period > 0).then(|| Self { cores: quota as f64 / period as f64, usage })
    }

    /// CPU time that the group has used since it was made.
    fn used(&self) -> Option<Duration> {
        let (file, unit) = &self.usage;
        let text = fs::read_to_string(file).ok()?;
        let number = text.lines().find_map(|line| line.strip_prefix("usage_usec ")).unwrap_or(&text);
        let count: u64 = number.trim().parse().ok()?;
        Some(Duration::from_nanos(count.saturating_mul(u64::from(*unit))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spike_decides_nothing_and_a_change_arrives() {
        let tick = Duration::from_secs(2);
        let spike = smooth(1.0, 0.0, tick);
        assert!(spike > 0.8, "{spike}");
        let mut free = 1.0;
        for _ in 0..15 {
            free = smooth(free, 0.0, tick);
        }
        assert!(free < 0.06, "{free}");
        // The same time in other steps is the same change; no time is none.
        let steps = (0..20).fold(1.0, |free, _| smooth(free, 0.0, tick / 20));
        assert!((steps - spike).abs() < 1e-9);
        assert_eq!(smooth(0.3, 1.0, Duration::ZERO), 0.3);
    }

    #[test]
    fn a_quota_is_the_whole_when_it_is_tighter() {
        for (cores, free, quota, expected) in [
            (4.0, 3.0, None, 0.75),
            (4.0, 3.0, Some((8.0, 1.0)), 0.75),
            (4.0, 3.0, Some((0.2, 0.0)), 1.0),
            (4.0, 3.0, Some((0.2, 0.2)), 0.0),
            (4.0, 0.1, Some((0.2, 0.0)), 0.5),
            (4.0, -0.5, None, 0.0),
            (4.0, f64::NAN, None, 0.0),
        ] {
            let share = free_share(cores, free, quota);
            assert!((share - expected).abs() < 1e-9, "{cores} {free} {quota:?}: {share}");
        }
    }

    /// Writes files below a fresh root and reads the quota there.
    fn quota(groups: &str, files: &[(&str, &str)]) -> Option<(f64, Option<Duration>)> {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots { proc: dir.path().join("proc"), sys: dir.path().join("sys"), ..Roots::default() };
        fs::create_dir_all(roots.proc.join("self")).unwrap();
        fs::write(roots.proc.join("self/cgroup"), groups).unwrap();
        for (file, text) in files {
            let path = roots.sys.join("fs/cgroup").join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{text}\n")).unwrap();
        }
        Quota::read(&roots).map(|quota| (quota.cores, quota.used()))
    }

    #[test]
    fn quotas_of_both_cgroup_versions_are_found() {
        let ms = |ms| Some(Duration::from_millis(ms));
        let v2 = "0::/user.slice/msm.service\n";
        let v1 = "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/\n";
        for (what, groups, files, expected) in [
            ("nothing there", "", &[][..], None),
            ("unlimited", v2, &[("user.slice/msm.service/cpu.max", "max 100000")], None),
            (
                "v2",
                v2,
                &[
                    ("user.slice/msm.service/cpu.max", "20000 100000"),
                    ("user.slice/msm.service/cpu.stat", "usage_usec 7000\nuser_usec 1"),
                ],
                Some((0.2, ms(7))),
            ),
            (
                "v2, tighter above",
                v2,
                &[("user.slice/msm.service/cpu.max", "200000 100000"), ("user.slice/cpu.max", "50000 100000")],
                Some((0.5, None)),
            ),
            (
                "v1",
                v1,
                &[
                    ("cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "4000"),
                    ("cpu,cpuacct/docker/abc/cpu.cfs_period_us", "20000"),
                    ("cpu,cpuacct/docker/abc/cpuacct.usage", "3000000"),
                ],
                Some((0.2, ms(3))),
            ),
            (
                "v1 seen from inside the container",
                v1,
                &[("cpu,cpuacct/cpu.cfs_quota_us", "150000"), ("cpu,cpuacct/cpu.cfs_period_us", "100000")],
                Some((1.5, None)),
            ),
            (
                "v1 unlimited",
                v1,
                &[("cpu,cpuacct/cpu.cfs_quota_us", "-1"), ("cpu,cpuacct/cpu.cfs_period_us", "100000")],
                None,
            ),
            ("garbage", "x\n::\n0::/../../etc\n", &[("cpu.max", "0 0")], None),
        ] {
            assert_eq!(quota(groups, files), expected, "{what}");
        }
    }
}
