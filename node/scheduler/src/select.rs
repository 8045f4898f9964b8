//! Which devices take part in a job: filters, order, and how many; with the reason and its number for each.

use std::{collections::BTreeSet, time::Duration};

use msm_protocol::{
    PeerId,
    device::{DeviceInfo, Requirements},
    limits::CREDIT,
};

use crate::{
    eqs,
    makespan::{self, DEVICES_MAX, Load, Server},
};

/// When more than one device is wanted, the others must score at least this share of the requester's own EQS (the
/// paper's 20 % rule), both without the network factor.
pub const OWN_SHARE: f64 = 0.8;
/// Time until a new worker starts its first task: offer, package, sandbox. The paper measured 0.8 to 0.9 s on a LAN
/// with a process start; a warm child takes less. *Guess.*
pub const STARTUP: Duration = Duration::from_millis(300);
/// Input that a device with an EQS of 100 works off per second when nothing was measured: a blur in JavaScript.
/// *Guess.*
pub const BYTES_PER_SECOND: f64 = 1024.0 * 1024.0;
/// Smallest score in a prediction: a device that claims 0 is slow, not infinitely slow.
const EQS_FLOOR: f64 = 1.0;

/// A device that answered the discovery message.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Who.
    pub peer: PeerId,
    /// Its answer, already clamped.
    pub info: DeviceInfo,
    /// Measured round trip.
    pub rtt: Option<Duration>,
    /// It gave wrong results before.
    pub struck: bool,
}

/// How many devices the application wants, this one included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceWish {
    /// At least.
    pub min: u32,
    /// At most.
    pub max: u32,
    /// Take as many as shorten the job; otherwise as many of `max` as fit.
    pub auto: bool,
}

impl DeviceWish {
    /// As many as shorten the job.
    pub const fn auto() -> Self {
        Self { min: 1, max: DEVICES_MAX as u32, auto: true }
    }

    /// The best `max` that fit, and at least `min`.
    pub const fn between(min: u32, max: u32) -> Self {
        Self { min, max, auto: false }
    }

    /// This many.
    pub const fn exactly(devices: u32) -> Self {
        Self::between(devices, devices)
    }
}

impl Default for DeviceWish {
    fn default() -> Self {
        Self::auto()
    }
}

/// What is known of a job before it starts.
#[derive(Debug, Clone, PartialEq)]
pub struct JobShape {
    /// Most tasks that the input can be cut into: 1 for a service that cannot split.
    pub tasks: u32,
    /// Bytes of input.
    pub bytes: u64,
    /// How long this device alone would take, from earlier runs; otherwise guessed from `bytes`.
    pub work: Option<Duration>,
    /// Time until a new worker starts its first task.
    pub startup: Duration,
    /// The requester's upload limit in bytes per second.
    pub upload: Option<u64>,
    /// Throughput measured in earlier jobs of this service, relative to this device's; others are taken to be as fast
    /// as their EQS.
    pub rates: Vec<(PeerId, f64)>,
    /// Why this device must not work on the job itself, when it must not.
    pub not_here: Option<String>,
}

impl Default for JobShape {
    fn default() -> Self {
        Self {
            tasks: u32::MAX,
            bytes: 0,
            work: None,
            startup: STARTUP,
            upload: None,
            rates: Vec::new(),
            not_here: None,
        }
    }
}

/// One line of the plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// `None` for this device.
    pub peer: Option<PeerId>,
    /// With the network factor.
    pub eqs: f64,
    /// Takes part.
    pub used: bool,
    /// Why, or why not, with the number.
    pub why: String,
}

/// The devices of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// Those that take part first, then by EQS; the better first, equal ones by peer id.
    pub rows: Vec<Row>,
    /// How many take part, this device included. Below the wished minimum when not enough fit.
    pub count: u32,
    /// How many would have fitted.
    pub fit: u32,
    /// Other devices that fit and do not take part, the better first: for the place of one that refuses.
    pub spare: Vec<PeerId>,
    /// Predicted time with 1, 2, … of the fitting devices in the order of the rows. A guess unless rates are known.
    pub predicted: Vec<Duration>,
}

/// A device that fits.
struct Fit {
    peer: Option<PeerId>,
    eqs: f64,
    why: String,
    server: Server,
}

/// Chooses the devices for a job. This device is one of them whenever it meets the requirements itself.
pub fn select(
    own: &DeviceInfo,
    candidates: &[Candidate],
    need: &Requirements,
    wish: DeviceWish,
    job: JobShape,
) -> Selection {
    let own_eqs = eqs::with_net(own.eqs, Duration::ZERO);
    let own_power = power(own_eqs, own.ext.slots);
    let (mut fits, mut rows) = (Vec::new(), Vec::new());
    // What no owner can allow is said first.
    match need.unmet_by(own, own_eqs).or_else(|| job.not_here.clone()) {
        None => fits.push(Fit {
            peer: None,
            eqs: own_eqs,
            // The paper's Fig. 5: asking a neighbour costs the way to him, and his receiver sees the same sky.
            why: if need.gps { "this device's own receiver: faster than any neighbour's" } else { "this device" }
                .into(),
            server: Server { power: own_power, startup: 0.0, remote: false },
        }),
        Some(why) => rows.push(Row { peer: None, eqs: own_eqs, used: false, why }),
    }
    // Slower than this device is too slow to help it. A device that cannot do the work itself has nothing to compare.
    let own_share = (!fits.is_empty()).then_some(own_eqs);
    let mut seen = BTreeSet::new();
    for candidate in candidates.iter().filter(|candidate| seen.insert(candidate.peer)) {
        let rtt = candidate.rtt.unwrap_or(eqs::RTT_UNKNOWN);
        let eqs = eqs::with_net(candidate.info.eqs, rtt);
        let peer = Some(candidate.peer);
        match judge(candidate, eqs, own_share, need, wish) {
            Ok(why) => {
                let measured = job.rates.iter().find(|(peer, _)| *peer == candidate.peer).map(|(_, rate)| *rate);
                let measured = measured.filter(|rate| rate.is_finite() && *rate > 0.0).map(|rate| rate * own_power);
                // Only as many slots as it will be given tasks at a time.
                let power = measured.unwrap_or_else(|| power(eqs, candidate.info.ext.slots.min(CREDIT as u16)));
                let startup = (job.startup + rtt).as_secs_f64();
                fits.push(Fit { peer, eqs, why, server: Server { power, startup, remote: true } });
            }
            Err(why) => rows.push(Row { peer, eqs, used: false, why }),
        }
    }
    // Worker 0 is this device; the others by score.
    fits.sort_by(|a, b| {
        a.peer.is_some().cmp(&b.peer.is_some()).then(b.eqs.total_cmp(&a.eqs)).then(a.peer.cmp(&b.peer))
    });

    let servers: Vec<Server> = fits.iter().map(|fit| fit.server).collect();
    let work = job.work.map_or(job.bytes as f64 / BYTES_PER_SECOND, |alone| alone.as_secs_f64() * own_power);
    let load = Load { tasks: job.tasks, bytes: job.bytes, work, upload: job.upload };
    let predicted = makespan::predictions(&servers, &load);
    let most = fits.len().min(wish.max as usize);
    let least = fits.len().min(wish.min as usize).min(most);
    let count = match wish.auto {
        true => makespan::smallest_good(&predicted[..most.min(predicted.len())]).clamp(least, most),
        false => most,
    };
    let fit = fits.len() as u32;
    let spare = fits.iter().skip(count).filter_map(|fit| fit.peer).collect();
    rows.extend(into_rows(fits, count, wish, &predicted));
    rows.sort_by(|a, b| b.used.cmp(&a.used).then(b.eqs.total_cmp(&a.eqs)).then(a.peer.cmp(&b.peer)));
    Selection { rows, count: count as u32, fit, spare, predicted }
}

/// Why a candidate fits, or why not.
fn judge(
    candidate: &Candidate,
    eqs: f64,
    own_eqs: Option<f64>,
    need: &Requirements,
    wish: DeviceWish,
) -> Result<String, String> {
    let info = &candidate.info;
    if candidate.struck {
        return Err("struck out: it gave wrong results".into());
    }
    // A device that falls short says that it does not lend; why, it says too.
    if let Some(unmet) = need.unmet_by(info, eqs) {
        return Err(unmet);
    }
    if !info.availability {
        return Err("does not lend now".into());
    }
    if info.ext.slots == 0 {
        return Err(format!("0 of {} slots are free", info.ext.cores));
    }
    let own_eqs = match own_eqs {
        Some(own_eqs) if wish.max > 1 => own_eqs,
        _ => return Ok(format!("EQS {eqs:.0}")),
    };
    let (score, floor) = (eqs::with_net(info.eqs, Duration::ZERO), OWN_SHARE * own_eqs);
    let rule = |sign| {
        // Whole numbers, unless they would hide the difference.
        let digits = usize::from(sign == "<" && format!("{score:.0}") == format!("{floor:.0}"));
        format!("{score:.digits$} {sign} {floor:.digits$} (80 % of your own {own_eqs:.digits$})")
    };
    if score < floor { Err(rule("<")) } else { Ok(rule(">=")) }
}

fn into_rows(fits: Vec<Fit>, count: usize, wish: DeviceWish, predicted: &[Duration]) -> Vec<Row> {
    let best = fits.iter().map(|fit| fit.eqs).max_by(f64::total_cmp);
    let seconds = |devices: usize| predicted.get(devices.wrapping_sub(1)).map_or(0.0, Duration::as_secs_f64);
    let row = |(rank, fit): (usize, Fit)| {
        let used = rank < count;
        let why = match used {
            true if fit.peer.is_some() && Some(fit.eqs) == best => "highest EQS".into(),
            true => fit.why,
            false if wish.auto && count < wish.max as usize => {
                let (few, many) = (seconds(count), seconds(rank + 1));
                let takes = if count == 1 { "device takes" } else { "devices take" };
                format!("not needed: {count} {takes} {few:.1} s, {} take {many:.1} s", rank + 1)
            }
            false => format!("you asked for {} at most", wish.max),
        };
        Row { peer: fit.peer, eqs: fit.eqs, used, why }
    };
    fits.into_iter().enumerate().map(row).collect()
}

/// Work per second, where 1 is one slot of a device with an EQS of 100.
fn power(eqs: f64, slots: u16) -> f64 {
    eqs.max(EQS_FLOOR) / 100.0 * f64::from(slots.max(1))
}
