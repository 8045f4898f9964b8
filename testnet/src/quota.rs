//! Devices of a known speed: processes that may use a share of a core, and what they have used of it (control groups v1).

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{node::Client, wait};

/// Where the two controllers are on a system that has version 1.
const CPU: &str = "/sys/fs/cgroup/cpu";
const ACCOUNT: &str = "/sys/fs/cgroup/cpuacct";
/// Shares are given out this often: with it a device of a fifth of a core stands still for 16 ms and not for 80.
const PERIOD: Duration = Duration::from_millis(20);
/// The kernel gives no less than this at a time; smaller shares need a longer period.
const LEAST: Duration = Duration::from_millis(1);
/// A group whose processes were ended is empty by then.
const EMPTY: Duration = Duration::from_secs(5);

/// A share of a core for some processes. Dropping it removes the group; its processes have to be gone.
#[derive(Debug)]
pub struct Quota {
    name: String,
}

impl Quota {
    /// A group that may use `share` of one core (1.0 is all of one).
    ///
    /// # Errors
    /// No control groups of version 1, or no right to make one.
    pub fn new(share: f64) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("msmt-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let quota = Self { name };
        for folder in quota.folders() {
            fs::create_dir(&folder).with_context(|| {
                format!("cannot make {}: CPU shares need root and control groups of version 1", folder.display())
            })?;
        }
        quota.set(share)?;
        Ok(quota)
    }

    fn folders(&self) -> [PathBuf; 2] {
        [CPU, ACCOUNT].map(|controller| Path::new(controller).join(&self.name))
    }

    /// From now on this share.
    pub fn set(&self, share: f64) -> Result<()> {
        ensure!(share > 0.0 && share.is_finite(), "{share} is no share of a core");
        let period = if PERIOD.mul_f64(share) < LEAST { LEAST.div_f64(share) } else { PERIOD };
        let [folder, _] = self.folders();
        for (file, time) in [("cpu.cfs_period_us", period), ("cpu.cfs_quota_us", period.mul_f64(share))] {
            let path = folder.join(file);
            fs::write(&path, time.as_micros().to_string()).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }

    /// CPU time that its processes have used so far, those that have ended included.
    pub fn used(&self) -> Result<Duration> {
        let [_, folder] = self.folders();
        let text = fs::read_to_string(folder.join("cpuacct.usage"))?;
        Ok(Duration::from_nanos(text.trim().parse()?))
    }

    /// Calls of `client` whose processes belong to the group from their first instruction on.
    pub fn holds(&self, client: Client) -> Client {
        let enter = self.folders().map(|folder| format!("echo $$ >{}/cgroup.procs && ", folder.display())).concat();
        client.by("sh", &["-c", &format!("{enter}exec \"$@\""), "sh"])
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        for folder in self.folders() {
            let gone = wait::until(EMPTY, "the group is empty", || Ok(fs::remove_dir(&folder).is_ok().then_some(())));
            if let Err(error) = gone {
                eprintln!("cannot remove {}: {error:#}", folder.display());
            }
        }
    }
}
