//! What this node has measured of services, devices and links in its jobs: a bounded table, kept as a cache.
//!
//! Numbers come from accepted parts and from bytes that arrived, each clamped by [`msm_scheduler::rates`]; a damaged file
//! means that everything is measured anew.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use msm_protocol::{ContentHash, MarketId, PeerId, document::Release, manifest::Engine};
use msm_scheduler::{
    Known, Trust,
    hire::Shown,
    rates::{Cost, Estimate, Line, Link, Way},
};
use serde::{Deserialize, Serialize};

use crate::home::{
    Home,
    files::{self, Secrecy},
};

/// Services with their parameters; the one not used for the longest time makes room. *Judgement.*
const SERVICES: usize = 256;
/// Pairs of a device and a service, likewise. *Judgement.*
const DEVICES: usize = 1_024;
/// Links, likewise: as many as peers are remembered.
const LINKS: usize = 256;
/// A full table is about half of this.
const FILE_BYTES: u64 = 2 * 1024 * 1024;
/// Changes with what the numbers mean.
const FORMAT: u32 = 1;
/// A device that worked on a service this recently still has a child with its package: children idle for 30 s end.
const WARM_S: u64 = 30;

/// A service as far as its speed goes: parts of another version, engine or market are other parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceKey {
    /// Market, name, major version and engine.
    service: String,
    /// The same with the parameters: how much work a byte is depends on them, who is the faster does not.
    call: String,
}

impl ServiceKey {
    /// Of one call.
    pub fn new(market: &MarketId, release: &Release, engine: Engine, params: &str) -> Self {
        let major = release.version.split('.').next().unwrap_or_default();
        let service = format!("{}/{}@{major}/{}", market.short(), release.name, engine.as_str());
        let call = format!("{service} {}", ContentHash::of(params.as_bytes()).short());
        Self { service, call }
    }
}

/// What a job as a whole has shown.
#[derive(Debug, Clone, Copy)]
pub struct Whole {
    /// Bytes of the input.
    pub input: u64,
    /// Bytes of the inputs of its tasks.
    pub cut: u64,
    /// Bytes of their outputs.
    pub output: u64,
    /// Time before the first task and after the last.
    pub around: Duration,
}

/// What is known of a call before it starts.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Expected {
    /// Seconds of a part on one slot of this device, by its bytes.
    pub part: Option<Line>,
    /// Seconds before the first task and after the last, by the bytes of the input.
    pub around: Option<Line>,
    /// Bytes of the inputs of tasks for each byte of input.
    pub cut: Option<f64>,
    /// Bytes of their outputs for each of theirs.
    pub output: Option<f64>,
}

/// One call's row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CallRow {
    part: Cost,
    around: Cost,
    cut: Estimate,
    output: Estimate,
    /// Unix seconds.
    used: u64,
}

/// One device's row for one service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceRow {
    /// Of all its slots together, where 1 is one slot of this device.
    power: Estimate,
    /// Seconds from being hired to the start of its first part: when it worked on the service a moment ago, or did not.
    warm: Estimate,
    cold: Estimate,
    /// Unix seconds.
    used: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkRow {
    link: Link,
    /// Unix seconds.
    used: u64,
}

/// The table as it is kept.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    format: u32,
    calls: BTreeMap<String, CallRow>,
    devices: BTreeMap<String, DeviceRow>,
    links: BTreeMap<String, LinkRow>,
}

impl Kept {
    /// What was read, if every number in it can be a measurement.
    fn checked(self) -> Option<Self> {
        let bounded = self.calls.len() <= SERVICES && self.devices.len() <= DEVICES && self.links.len() <= LINKS;
        let calls = self
            .calls
            .values()
            .all(|row| row.part.is_sound() && row.around.is_sound() && row.cut.is_sound() && row.output.is_sound());
        let device = |row: &DeviceRow| row.power.is_sound() && row.warm.is_sound() && row.cold.is_sound();
        let sound = calls && self.devices.values().all(device) && self.links.values().all(|row| row.link.is_sound());
        (self.format == FORMAT && bounded && sound).then_some(self)
    }
}

/// The row of `key`, a new one if need be: then the one used least recently goes when there are `most`.
fn row<V: Default>(rows: &mut BTreeMap<String, V>, key: String, most: usize, used: impl Fn(&V) -> u64) -> &mut V {
    if rows.len() >= most
        && !rows.contains_key(&key)
        && let Some(oldest) = rows.iter().min_by_key(|(_, row)| used(row)).map(|(key, _)| key.clone())
    {
        rows.remove(&oldest);
    }
    rows.entry(key).or_default()
}

fn device_key(peer: &PeerId, key: &ServiceKey) -> String {
    format!("{peer} {}", key.service)
}

/// The table.
#[derive(Debug)]
pub struct Measured {
    file: PathBuf,
    kept: Mutex<Kept>,
    changed: AtomicBool,
}

impl Measured {
    /// What this home has kept, or an empty table.
    pub fn open(home: &Home) -> Self {
        Self::of(home.measured_file())
    }

    fn of(file: PathBuf) -> Self {
        let bytes = files::read(&file, FILE_BYTES, Secrecy::Plain).ok().flatten();
        let kept = bytes.as_deref().and_then(|bytes| serde_json::from_slice::<Kept>(bytes).ok()?.checked());
        if bytes.is_some() && kept.is_none() {
            tracing::warn!(file = %file.display(), "measured speeds are damaged or of another format: measured anew");
        }
        let kept = kept.unwrap_or_else(|| Kept { format: FORMAT, ..Kept::default() });
        Self { file, kept: Mutex::new(kept), changed: AtomicBool::new(false) }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Writes the table if it has changed. Waits for the disk: not for a task that others wait for.
    pub fn save(&self) {
        if !self.changed.swap(false, Ordering::Relaxed) {
            return;
        }
        let bytes = serde_json::to_vec(&*self.kept());
        let written = bytes
            .map_err(|e| e.to_string())
            .and_then(|bytes| files::replace(&self.file, &bytes).map_err(|e| e.to_string()));
        // Not kept (full disk, say) means measured again after the next start, no more.
        if let Err(error) = written {
            tracing::warn!(error, "measured speeds were not kept");
        }
    }

    /// What is known of a call.
    pub fn call(&self, key: &ServiceKey, now: u64) -> Expected {
        let row = self.kept().calls.get(&key.call).copied().unwrap_or_default();
        let (part, around) = (row.part.line(now), row.around.line(now));
        Expected { part, around, cut: row.cut.value(now), output: row.output.value(now) }
    }

    /// What is known of a device for a service.
    pub fn device(&self, peer: &PeerId, key: &ServiceKey, trust: Trust, now: u64) -> Known {
        let kept = self.kept();
        let row = kept.devices.get(&device_key(peer, key)).copied().unwrap_or_default();
        let Link { up, down } = kept.links.get(&peer.to_string()).copied().unwrap_or_default().link;
        let warm = now.saturating_sub(row.used) <= WARM_S;
        let startup = if warm { row.warm.value(now).or(row.cold.value(now)) } else { row.cold.value(now) };
        Known {
            power: row.power.value(now),
            startup: startup.map(Duration::from_secs_f64),
            up: up.value(now),
            down: down.value(now),
            trust,
        }
    }

    /// Learns from a job that has ended.
    pub fn job(&self, key: &ServiceKey, shown: &Shown, whole: &Whole, now: u64) {
        let mut kept = self.kept();
        let call = row(&mut kept.calls, key.call.clone(), SERVICES, |row| row.used);
        call.used = now;
        if let Some(own) = shown.own {
            call.part.learn(own.bytes, own.seconds, now);
        }
        call.around.learn(whole.input, whole.around.as_secs_f64(), now);
        if whole.input > 0 {
            call.cut.learn(whole.cut as f64 / whole.input as f64, now);
        }
        if whole.cut > 0 {
            call.output.learn(whole.output as f64 / whole.cut as f64, now);
        }
        for (peer, parts) in &shown.peers {
            let device = row(&mut kept.devices, device_key(peer, key), DEVICES, |row| row.used);
            if let Some(power) = parts.power {
                device.power.learn(power, now);
            }
            if let Some(startup) = parts.startup {
                let warm = now.saturating_sub(device.used) <= WARM_S;
                let estimate = if warm { &mut device.warm } else { &mut device.cold };
                // No time at all is a time too short to tell.
                estimate.learn(startup.as_secs_f64().max(STARTUP_MIN_S), now);
            }
            if parts.parts > 0 {
                device.used = now;
            }
        }
        self.changed.store(true, Ordering::Relaxed);
    }

    /// Learns from bytes that went one way.
    pub fn transfer(&self, peer: &PeerId, way: Way, bytes: u64, took: Duration, now: u64) {
        if bytes < msm_scheduler::rates::TRANSFER_MIN {
            return;
        }
        let mut kept = self.kept();
        let row = row(&mut kept.links, peer.to_string(), LINKS, |row| row.used);
        row.used = now;
        if row.link.learn(way, bytes, took.as_secs_f64(), now) {
            self.changed.store(true, Ordering::Relaxed);
        }
    }
}

/// The shortest start-up that is told apart from none. *Judgement.*
const STARTUP_MIN_S: f64 = 1e-4;

#[cfg(test)]
mod tests {
    use msm_protocol::SecretKey;
    use msm_scheduler::hire::{OwnParts, PeerParts};

    use super::*;

    const NOW: u64 = 1_790_000_000;

    fn peer(n: u16) -> PeerId {
        let mut seed = [3; 32];
        seed[..2].copy_from_slice(&n.to_le_bytes());
        PeerId::of(&SecretKey::from_seed(&seed).public())
    }

    fn key(service: &str, call: &str) -> ServiceKey {
        ServiceKey { service: service.to_owned(), call: format!("{service} {call}") }
    }

    fn shown(n: u16, power: f64, startup_ms: u64) -> Shown {
        let own = OwnParts { parts: 4, bytes: 1_000_000, seconds: 0.5 };
        let startup = Some(Duration::from_millis(startup_ms));
        Shown { own: Some(own), peers: vec![(peer(n), PeerParts { parts: 4, power: Some(power), startup })] }
    }

    const WHOLE: Whole =
        Whole { input: 1_000_000, cut: 4_000_000, output: 2_000_000, around: Duration::from_millis(20) };

    fn table() -> (tempfile::TempDir, Measured) {
        let dir = tempfile::tempdir().unwrap();
        let table = Measured::of(dir.path().join("measured.json"));
        (dir, table)
    }

    #[test]
    fn what_a_job_has_shown_is_known_to_the_next_after_a_restart_too() {
        let (_dir, table) = table();
        let (blur, wide) = (key("blur", "3"), key("blur", "50"));
        assert_eq!(table.call(&blur, NOW), Expected::default());
        table.job(&blur, &shown(1, 2.5, 40), &WHOLE, NOW);
        table.transfer(&peer(1), Way::Down, 1_000_000, Duration::from_millis(100), NOW);
        table.transfer(&peer(1), Way::Up, 10, Duration::from_millis(100), NOW);
        table.save();
        let again = Measured::of(table.file.clone());
        assert_eq!(*again.kept(), *table.kept());
        let expected = again.call(&blur, NOW);
        assert!((expected.part.unwrap().at(1e6) - 0.5).abs() < 1e-6, "{expected:?}");
        assert_eq!((expected.cut, expected.output), (Some(4.0), Some(0.5)));
        // How long a byte takes depends on the parameters; how fast a device is does not.
        assert_eq!(again.call(&wide, NOW), Expected::default());
        let known = again.device(&peer(1), &wide, Trust::default(), NOW + WARM_S + 1);
        assert_eq!((known.power, known.startup), (Some(2.5), Some(Duration::from_millis(40))));
        assert_eq!((known.up, known.down.map(f64::round)), (None, Some(1e7)));
        assert_eq!(again.device(&peer(2), &blur, Trust::default(), NOW), Known::default());
        assert_eq!(again.device(&peer(1), &key("gzip", "3"), Trust::default(), NOW).power, None);
    }

    #[test]
    fn a_warm_start_is_another_than_a_cold_one() {
        let (_dir, table) = table();
        let blur = key("blur", "3");
        let startup = |at| table.device(&peer(1), &blur, Trust::default(), at).startup.map(|time| time.as_millis());
        table.job(&blur, &shown(1, 1.0, 400), &WHOLE, NOW);
        // Nothing is known of a warm one yet: not longer than a cold one.
        assert_eq!((startup(NOW + 1), startup(NOW + 3_600)), (Some(400), Some(400)));
        table.job(&blur, &shown(1, 1.0, 2), &WHOLE, NOW + 5);
        assert_eq!((startup(NOW + 6), startup(NOW + 3_600)), (Some(2), Some(400)));
    }

    #[test]
    fn a_damaged_file_is_a_new_start() {
        let (_dir, table) = table();
        table.job(&key("blur", "3"), &shown(1, 2.5, 40), &WHOLE, NOW);
        table.save();
        let good = std::fs::read_to_string(&table.file).unwrap();
        assert!(good.contains("2.5"), "{good}");
        let bad = [
            String::new(),
            good[..good.len() / 2].to_owned(),
            good.replace("\"format\":1", "\"format\":0"),
            good.replace("\"value\":2.5", "\"value\":-2.5"),
            good.replace("\"value\":2.5", "\"value\":1e300"),
            good.replace("\"value\":2.5", "\"value\":null"),
            good.replace("\"links\"", "\"surprise\""),
        ];
        for bad in bad {
            assert_ne!(bad, good);
            std::fs::write(&table.file, &bad).unwrap();
            let anew = Measured::of(table.file.clone());
            assert_eq!(*anew.kept(), Kept { format: FORMAT, ..Kept::default() }, "{bad}");
        }
        std::fs::write(&table.file, &good).unwrap();
        assert_eq!(*Measured::of(table.file.clone()).kept(), *table.kept());
    }

    #[test]
    fn the_table_is_bounded_and_forgets_what_was_not_used_for_the_longest_time() {
        let (_dir, table) = table();
        let first = key("first", "");
        table.job(&first, &shown(0, 1.0, 1), &WHOLE, NOW);
        for n in 0..DEVICES as u16 + 50 {
            table.job(&key(&format!("s{n}"), ""), &shown(n, 1.0, 1), &WHOLE, NOW + 1 + u64::from(n));
            table.transfer(&peer(n), Way::Up, 1_000_000, Duration::from_secs(1), NOW + u64::from(n));
        }
        let kept = table.kept();
        assert_eq!((kept.calls.len(), kept.devices.len(), kept.links.len()), (SERVICES, DEVICES, LINKS));
        assert!(!kept.calls.contains_key(&first.call));
        let bytes = serde_json::to_vec(&*kept).unwrap().len() as u64;
        assert!(bytes < FILE_BYTES / 2, "{bytes}");
    }
}
