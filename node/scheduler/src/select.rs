//! Which devices take part in a job: filters, order, and how many; with the reason and its number for each.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use msm_protocol::{
    PeerId,
    device::{DeviceInfo, Requirements},
    limits::CREDIT,
};

use crate::{
    eqs,
    job::Redundancy,
    makespan::{self, Checks, DEVICES_MAX, Load, Server, Sure, Wire},
    rates,
    trust::{CHECK_FIRST, Trust},
};

/// When more than one device is wanted, the others must score at least this share of the requester's own EQS (the
/// paper's 20 % rule), both without the network factor.
pub const OWN_SHARE: f64 = 0.8;
/// Time until a device starts its first task when that was never measured, beside [`STARTUP_TRIPS`] round trips: it
/// fetches the package, compiles it and starts a child. *Measured* on a LAN of 2026: 10 to 40 ms; the paper, which starts
/// a process, has 0.8 to 0.9 s.
pub const STARTUP: Duration = Duration::from_millis(50);
/// Round trips of a device's first task: the stream, the offer, the package in two. *Judgement.*
pub const STARTUP_TRIPS: u32 = 4;
/// Input that one slot of a device with an EQS of 100 works off per second when nothing was measured: a blur in
/// JavaScript. *Guess.*
pub const BYTES_PER_SECOND: f64 = 1024.0 * 1024.0;
/// Bytes per second of a link that was never measured, each way: 100 Mbit/s. *Guess.*
pub const BANDWIDTH: f64 = 12.5e6;
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

/// Which score orders the devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// The one that falls with the distance.
    #[default]
    Net,
    /// The paper's Eq. 1, which rises with it: for comparison. Measured speeds are left out then too.
    Paper,
}

/// What was measured of one device in earlier jobs. What is absent is guessed.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Known {
    /// What all its slots together work off of this service, where 1 is one slot of the requester's device.
    pub power: Option<f64>,
    /// From being hired to the start of its first task.
    pub startup: Option<Duration>,
    /// Bytes per second to it.
    pub up: Option<f64>,
    /// Bytes per second from it.
    pub down: Option<f64>,
    /// What its checks have shown.
    pub trust: Trust,
}

/// What is known of a job before it starts.
#[derive(Debug, Clone, PartialEq)]
pub struct JobShape {
    /// Most tasks that the input can be cut into: 1 for a service that cannot split.
    pub tasks: u32,
    /// It is cut into them already.
    pub cut: bool,
    /// Bytes of input.
    pub bytes: u64,
    /// Bytes of output, as far as known.
    pub output: u64,
    /// How long one slot of this device would need for all of it, from earlier runs; otherwise guessed from `bytes`.
    pub work: Option<Duration>,
    /// Time that each task takes whatever its size.
    pub per_task: Duration,
    /// Time before the first task and after the last.
    pub around: Duration,
    /// Tasks that this device works on at a time.
    pub slots: u32,
    /// The requester's upload limit in bytes per second.
    pub upload: Option<u64>,
    /// What was measured of other devices.
    pub known: BTreeMap<PeerId, Known>,
    /// Why this device must not work on the job itself, when it must not.
    pub not_here: Option<String>,
    /// Which score orders the devices.
    pub order: Order,
    /// How results are checked: what is computed twice takes its time.
    pub redundancy: Redundancy,
}

impl Default for JobShape {
    fn default() -> Self {
        Self {
            tasks: u32::MAX,
            cut: false,
            bytes: 0,
            output: 0,
            work: None,
            per_task: Duration::ZERO,
            around: Duration::ZERO,
            slots: 1,
            upload: None,
            known: BTreeMap::new(),
            not_here: None,
            order: Order::Net,
            redundancy: Redundancy::None,
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
    /// Predicted time with 1, 2, … of [`Self::servers`].
    pub predicted: Vec<Duration>,
    /// All that fit, those that take part first, as the predictions see them; `None` for this device.
    pub servers: Vec<(Option<PeerId>, Server)>,
    /// The work as the predictions see it.
    pub load: Load,
}

impl Selection {
    /// The predicted time with the devices that take part.
    pub fn time(&self) -> Option<Duration> {
        self.predicted.get((self.count as usize).checked_sub(1)?).copied()
    }

    /// True when this device takes part.
    pub fn is_here(&self) -> bool {
        self.servers.iter().any(|(peer, _)| peer.is_none())
    }
}

/// A device that fits.
struct Fit {
    peer: Option<PeerId>,
    /// With the network factor, as people see it.
    eqs: f64,
    /// What the devices are ordered by.
    rank: f64,
    why: String,
    server: Server,
    /// How long the job would take with it, when that is longer than without: in seconds, with and without.
    hinders: Option<(f64, f64)>,
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
    let (mut fits, mut rows) = (Vec::new(), Vec::new());
    // What no owner can allow is said first.
    match need.unmet_by(own, own_eqs).or_else(|| job.not_here.clone()) {
        None => fits.push(Fit {
            peer: None,
            eqs: own_eqs,
            rank: own_eqs,
            // The paper's Fig. 5: asking a neighbour costs the way to him, and his receiver sees the same sky.
            why: if need.gps { "this device's own receiver: faster than any neighbour's" } else { "this device" }
                .into(),
            server: Server::here(f64::from(job.slots.max(1)), job.slots),
            hinders: None,
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
                let (server, rank) = remote(candidate, rtt, own_eqs, &job);
                fits.push(Fit { peer, eqs, rank, why, server, hinders: None });
            }
            Err(why) => rows.push(Row { peer, eqs, used: false, why }),
        }
    }
    // Worker 0 is this device; the others by score.
    fits.sort_by(|a, b| {
        a.peer.is_some().cmp(&b.peer.is_some()).then(b.rank.total_cmp(&a.rank)).then(a.peer.cmp(&b.peer))
    });

    let load = load(&job, own_eqs);
    if wish.auto && job.order == Order::Net {
        fits = hindrances_last(fits, &load);
    }
    let servers: Vec<Server> = fits.iter().map(|fit| fit.server).collect();
    let predicted = makespan::predictions(&servers, &load);
    let most = fits.len().min(wish.max as usize);
    let least = fits.len().min(wish.min as usize).min(most);
    let count = match wish.auto {
        true => makespan::smallest_good(&predicted[..most.min(predicted.len())]).clamp(least, most),
        false => most,
    };
    let fit = fits.len() as u32;
    let spare = fits.iter().skip(count).filter_map(|fit| fit.peer).collect();
    let servers = fits.iter().map(|fit| (fit.peer, fit.server)).collect();
    rows.extend(into_rows(fits, count, wish, &predicted));
    rows.sort_by(|a, b| b.used.cmp(&a.used).then(b.eqs.total_cmp(&a.eqs)).then(a.peer.cmp(&b.peer)));
    Selection { rows, count: count as u32, fit, spare, predicted, servers, load }
}

/// The better first still, but who would only make the job wait (for its start, for its link) after all others.
fn hindrances_last(fits: Vec<Fit>, load: &Load) -> Vec<Fit> {
    let (mut helps, mut hinders, mut servers) = (Vec::new(), Vec::new(), Vec::new());
    let mut best = f64::INFINITY;
    for mut fit in fits {
        servers.push(fit.server);
        let time = if servers.len() <= DEVICES_MAX { makespan::makespan(&servers, load) } else { f64::INFINITY };
        if time <= best {
            best = time;
            helps.push(fit);
        } else {
            servers.pop();
            fit.hinders = Some((time, best));
            hinders.push(fit);
        }
    }
    helps.append(&mut hinders);
    helps
}

/// Another device as the prediction sees it, and its rank: what was measured replaces what it says of itself.
fn remote(candidate: &Candidate, rtt: Duration, own_eqs: f64, job: &JobShape) -> (Server, f64) {
    let known = match job.order {
        Order::Net => job.known.get(&candidate.peer).copied().unwrap_or_default(),
        Order::Paper => Known::default(),
    };
    // Only as many slots as it will be given tasks at a time.
    let slots = u32::from(candidate.info.ext.slots).clamp(1, CREDIT);
    let eqs0 = eqs::with_net(candidate.info.eqs, Duration::ZERO);
    let measured = known.power.and_then(rates::sane);
    let power = measured.unwrap_or(eqs0.max(EQS_FLOOR) / own_eqs.max(EQS_FLOOR) * f64::from(slots));
    let rank = match (job.order, measured) {
        (Order::Paper, _) => eqs::paper(candidate.info.eqs, rtt),
        (Order::Net, None) => eqs::with_net(candidate.info.eqs, rtt),
        // The score that a device of this speed would have, by all its cores: those that are busy now were so then.
        (Order::Net, Some(power)) => {
            let cores = f64::from(u32::from(candidate.info.ext.cores).clamp(1, CREDIT));
            own_eqs.max(EQS_FLOOR) * power / cores * eqs::net_factor(rtt)
        }
    };
    let bandwidth = |known: Option<f64>| known.and_then(rates::sane).unwrap_or(BANDWIDTH);
    // Most links are about as good one way as the other.
    let link = Wire {
        rtt: rtt.as_secs_f64(),
        up: bandwidth(known.up.or(known.down)),
        down: bandwidth(known.down.or(known.up)),
    };
    let startup = known.startup.unwrap_or_else(|| STARTUP.saturating_add(rtt.saturating_mul(STARTUP_TRIPS)));
    let checks = match job.redundancy {
        Redundancy::Spot => {
            let trust = Trust { struck: false, ..known.trust };
            let first = CHECK_FIRST.saturating_sub(trust.in_a_row);
            let then = Trust { in_a_row: trust.in_a_row.max(CHECK_FIRST), ..trust };
            Checks { first, share: then.check_share() }
        }
        Redundancy::None | Redundancy::Agree { .. } => Checks::default(),
    };
    (Server { power, slots, startup: startup.as_secs_f64(), link: Some(link), checks }, rank)
}

fn load(job: &JobShape, own_eqs: f64) -> Load {
    let bytes = job.bytes as f64;
    let guess = bytes / BYTES_PER_SECOND * 100.0 / own_eqs.max(EQS_FLOOR);
    // Several devices that have to agree all do the work.
    let times = match job.redundancy {
        Redundancy::Agree { agree, .. } => agree.max(1),
        Redundancy::None | Redundancy::Spot => 1,
    };
    Load {
        tasks: job.tasks.saturating_mul(times),
        cut: job.cut,
        bytes: bytes * f64::from(times),
        output: job.output as f64 * f64::from(times),
        work: job.work.map_or(guess, |work| work.as_secs_f64()) * f64::from(times),
        per_task: job.per_task.as_secs_f64(),
        around: job.around.as_secs_f64(),
        upload: job.upload,
        sure: if job.work.is_some() { Sure::Measured } else { Sure::Guessed },
    }
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
    let takes = |devices: usize| {
        let time = predicted.get(devices.wrapping_sub(1)).copied().unwrap_or_default();
        format!("{devices} {} {}", if devices == 1 { "device takes" } else { "devices take" }, brief(time))
    };
    let row = |(rank, fit): (usize, Fit)| {
        let used = rank < count;
        let why = match used {
            true if fit.peer.is_some() && Some(fit.eqs) == best => "highest EQS".into(),
            true => fit.why,
            false if let Some((with, without)) = fit.hinders => {
                let [with, without] = [with, without].map(|time| brief(makespan::seconds(time)));
                format!("not needed: {without} without it, {with} with it")
            }
            false if wish.auto && count < wish.max as usize => {
                format!("not needed: {}, {}", takes(count), takes(rank + 1).replace(" devices", ""))
            }
            false => format!("you asked for {} at most", wish.max),
        };
        Row { peer: fit.peer, eqs: fit.eqs, used, why }
    };
    fits.into_iter().enumerate().map(row).collect()
}

/// A time for people: `12 ms`, `1.9 s`, `2 min`.
pub fn brief(time: Duration) -> String {
    match time.as_secs_f64() {
        s if s < 0.001 => "under 1 ms".to_owned(),
        s if s < 0.9995 => format!("{:.0} ms", s * 1e3),
        s if s < 9.95 => format!("{s:.1} s"),
        s if s < 119.5 => format!("{s:.0} s"),
        s if s < 1e7 => format!("{:.0} min", s / 60.0),
        _ => "for ever".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_brief() {
        let cases = [
            (0, "under 1 ms"),
            (1_000, "1 ms"),
            (12_400, "12 ms"),
            (999_600, "1.0 s"),
            (1_940_000, "1.9 s"),
            (34_000_000, "34 s"),
            (180_000_000, "3 min"),
            (u64::MAX, "for ever"),
        ];
        for (micros, text) in cases {
            assert_eq!(brief(Duration::from_micros(micros)), text);
        }
    }
}
