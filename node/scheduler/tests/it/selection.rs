//! Scores and selection: every input's direction, odd values, the 20 % rule, and how many devices.

use std::time::Duration;

use msm_protocol::device::{DeviceExt, DeviceInfo, Network, Requirements};
use msm_scheduler::{Candidate, DeviceWish, JobShape, Known, Order, Sure, eqs, select};
use proptest::prelude::*;

use crate::{peer, rng::Rng};

const MS: Duration = Duration::from_millis(1);

fn device(eqs: f64) -> DeviceInfo {
    let ext = DeviceExt {
        cpu: 1.0,
        mem: 1.0,
        name: String::new(),
        cores: 2,
        slots: 1,
        speed: 1.0,
        battery: 1.0,
        engines: vec!["js".into()],
        markets: vec![],
    };
    DeviceInfo { v: 1, eqs, ext, gps: false, network: Network::High, availability: true }
}

fn candidate(n: u16, eqs: f64, rtt: Duration) -> Candidate {
    Candidate { peer: peer(n), info: device(eqs), rtt: Some(rtt), struck: false }
}

fn anything() -> Requirements {
    Requirements { eqs: 0.0, gps: false, battery: 0, network: None }
}

/// Ten seconds of work that can be cut at will.
fn long_job() -> JobShape {
    JobShape { work: Some(10_000 * MS), ..JobShape::default() }
}

proptest! {
    #[test]
    fn eqs_rises_with_each_input_and_falls_with_distance(
        speed in 0.1..3.0, cpu in 0.0..1.0, mem in 0.0..1.0, battery in 0.0..1.0, more in 0.01..1.0, rtt in 0u64..5_000,
    ) {
        let score = eqs::eqs0(speed, cpu, mem, battery);
        prop_assert!((0.0..=300.0).contains(&score));
        prop_assert!(eqs::eqs0(speed + more, cpu, mem, battery) >= score);
        prop_assert!(eqs::eqs0(speed, cpu + more, mem, battery) >= score);
        prop_assert!(eqs::eqs0(speed, cpu, mem + more, battery) >= score);
        prop_assert!(eqs::eqs0(speed, cpu, mem, battery + more) >= score);
        // Inside the range it rises in earnest.
        prop_assert!(eqs::eqs0(speed, cpu / 2.0, mem, battery) < score || cpu == 0.0);
        prop_assert!(eqs::eqs0(speed, cpu, mem / 2.0, battery) < score || mem == 0.0);
        prop_assert!(eqs::eqs0(speed, cpu, mem, battery / 2.0) < score || battery == 0.0);
        prop_assert!(eqs::eqs0((speed / 2.0).max(0.1), cpu, mem, battery) < score || speed == 0.1 || score == 0.0);
        let near = eqs::with_net(score, Duration::from_millis(rtt));
        prop_assert!(near <= score);
        prop_assert!(eqs::with_net(score, Duration::from_millis(rtt + 1)) < near || score == 0.0);
    }

    /// B17: whatever the floats are, scores are finite and in range.
    #[test]
    fn b17_any_floats_give_a_score(speed: f64, cpu: f64, mem: f64, battery: f64, eqs0: f64, rtt: u64) {
        prop_assert!((0.0..=300.0).contains(&eqs::eqs0(speed, cpu, mem, battery)));
        prop_assert!((0.0..=300.0).contains(&eqs::with_net(eqs0, Duration::from_nanos(rtt))));
    }
}

#[test]
fn b17_a_thousand_odd_devices_are_sorted_without_panic() {
    let odd =
        [f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0, 1e308, -1e308, f64::MIN_POSITIVE, 88.0];
    let mut rng = Rng(17);
    let mut pick = || odd[rng.range(0..odd.len() as u64) as usize];
    let candidates: Vec<Candidate> = (0..1_000)
        .map(|n| {
            // Not clamped, as if the caller had forgotten to.
            let mut candidate = candidate(n, pick(), MS);
            let ext = &mut candidate.info.ext;
            (ext.cpu, ext.mem, ext.battery, ext.speed) = (pick(), pick(), pick(), pick());
            candidate
        })
        .collect();
    for wish in [DeviceWish::auto(), DeviceWish::between(1, 1_000)] {
        let known = candidates.iter().map(|candidate| {
            let known =
                Known { power: Some(pick()), startup: None, up: Some(pick()), down: Some(pick()), ..Known::default() };
            (candidate.peer, known)
        });
        let shape = JobShape { known: known.collect(), ..long_job() };
        let selection = select(&device(f64::NAN), &candidates, &anything(), wish, shape);
        assert_eq!(selection.rows.len(), 1_001);
        assert!(selection.rows.iter().all(|row| row.eqs.is_finite()));
        assert!(selection.predicted.iter().all(|time| *time > Duration::ZERO && *time < 21_000 * MS), "{selection:?}");
        assert!(selection.rows.is_sorted_by(|a, b| a.used && !b.used || a.used == b.used && a.eqs >= b.eqs));
        assert_eq!(selection.rows.iter().filter(|row| row.used).count(), selection.count as usize);
    }
}

/// The paper's Fig. 5: who has a receiver asks nobody; who has none gets the best neighbour's, and then the next one's.
#[test]
fn a_position_comes_from_ones_own_receiver_first() {
    let seeing = |n, eqs| {
        let mut candidate = candidate(n, eqs, MS);
        candidate.info.gps = true;
        candidate
    };
    let candidates = [seeing(1, 60.0), candidate(2, 200.0, MS), seeing(3, 300.0), seeing(4, 90.0)];
    let need = Requirements { gps: true, ..anything() };
    let of = |own: &DeviceInfo| {
        let selection = select(own, &candidates, &need, DeviceWish::exactly(1), JobShape::default());
        let used: Vec<_> =
            selection.rows.iter().filter(|row| row.used).map(|row| (row.peer, row.why.clone())).collect();
        (used, selection.spare)
    };
    // However slow it is.
    let mut own = device(5.0);
    own.gps = true;
    let expected = (None, "this device's own receiver: faster than any neighbour's".to_owned());
    assert_eq!(of(&own), (vec![expected], vec![peer(3), peer(4), peer(1)]));
    own.gps = false;
    assert_eq!(of(&own), (vec![(Some(peer(3)), "highest EQS".into())], vec![peer(4), peer(1)]));
}

#[test]
fn the_plan_says_why_with_the_number() {
    let mut phone = candidate(3, 90.0, 9 * MS);
    phone.info.ext.battery = 0.41;
    let mut paused = candidate(4, 150.0, MS);
    paused.info.availability = false;
    let mut full = candidate(5, 150.0, MS);
    full.info.ext.slots = 0;
    let liar = Candidate { struck: true, ..candidate(6, 300.0, MS) };
    let far = candidate(7, 100.0, 450 * MS);
    let almost = candidate(8, 56.7, MS);
    let candidates = [candidate(1, 93.28, 3 * MS), candidate(2, 41.0, 6 * MS), phone, paused, full, liar, far, almost];
    let need = Requirements { eqs: 20.0, battery: 50, ..anything() };
    let selection = select(&device(71.0), &candidates, &need, DeviceWish::exactly(4), long_job());
    let rows: Vec<_> = selection.rows.iter().map(|row| (row.peer, row.used, row.why.as_str())).collect();
    let expected = [
        (Some(peer(1)), true, "highest EQS"),
        (None, true, "this device"),
        (Some(peer(6)), false, "struck out: it gave wrong results"),
        (Some(peer(4)), false, "does not lend now"),
        (Some(peer(5)), false, "0 of 2 slots are free"),
        (Some(peer(3)), false, "battery 41 % < 50 %"),
        (Some(peer(8)), false, "56.7 < 56.8 (80 % of your own 71.0)"),
        (Some(peer(2)), false, "41 < 57 (80 % of your own 71)"),
        (Some(peer(7)), false, "EQS 10 < 20"),
    ];
    assert_eq!(rows, expected);
    assert_eq!((selection.count, selection.fit), (2, 2));
    assert!((selection.rows[0].eqs - 88.0).abs() < 0.01);
}

#[test]
fn the_20_percent_rule_counts_only_when_more_than_one_device_is_wanted() {
    let candidates = [candidate(1, 79.9, MS), candidate(2, 80.0, MS)];
    let used = |wish| {
        let selection = select(&device(100.0), &candidates, &anything(), wish, long_job());
        selection.rows.into_iter().filter(|row| row.used).map(|row| row.peer).collect::<Vec<_>>()
    };
    assert_eq!(used(DeviceWish::exactly(3)), [None, Some(peer(2))]);
    assert_eq!(used(DeviceWish::exactly(1)), [None]);
    // Where this device cannot do it, one other device is enough, however weak.
    let need = Requirements { gps: true, ..anything() };
    let mut weak = candidate(3, 10.0, MS);
    weak.info.gps = true;
    let selection = select(&device(100.0), &[weak], &need, DeviceWish::exactly(1), long_job());
    let rows: Vec<_> = selection.rows.iter().map(|row| (row.peer, row.used, row.why.as_str())).collect();
    assert_eq!(rows, [(Some(peer(3)), true, "highest EQS"), (None, false, "no position source (gps is required)")]);
    // And so are several: a strong device without the web is helped by weak ones that have it.
    let not_here = JobShape { not_here: Some("its owner has not granted it".into()), ..long_job() };
    let selection = select(&device(100.0), &candidates, &anything(), DeviceWish::exactly(2), not_here);
    let used: Vec<_> = selection.rows.iter().filter(|row| row.used).map(|row| row.peer).collect();
    assert_eq!(used, [Some(peer(2)), Some(peer(1))]);
}

#[test]
fn an_explicit_number_takes_the_best_that_fit_and_ties_go_by_peer_id() {
    let candidates: Vec<_> = [(4, 90.0), (1, 90.0), (3, 95.0), (2, 90.0)].map(|(n, eqs)| candidate(n, eqs, MS)).into();
    let selection = select(&device(85.0), &candidates, &anything(), DeviceWish::between(2, 3), JobShape::default());
    let rows: Vec<_> = selection.rows.iter().map(|row| (row.peer, row.used)).collect();
    let expected =
        [(Some(peer(3)), true), (Some(peer(1)), true), (None, true), (Some(peer(2)), false), (Some(peer(4)), false)];
    assert_eq!(rows, expected);
    assert_eq!((selection.count, selection.fit), (3, 5));
    assert_eq!(selection.rows[3].why, "you asked for 3 at most");
    let doubled: Vec<_> = candidates.iter().chain(&candidates).cloned().collect();
    let again = select(&device(85.0), &doubled, &anything(), DeviceWish::between(2, 3), JobShape::default());
    assert_eq!(again, selection, "a peer that is listed twice is one device");
}

#[test]
fn the_automatic_number_grows_with_the_work() {
    let candidates: Vec<_> = (1..8).map(|n| candidate(n, 100.0, 5 * MS)).collect();
    let count = |ms: u64| {
        let shape = JobShape { work: Some(Duration::from_millis(ms)), ..JobShape::default() };
        select(&device(100.0), &candidates, &anything(), DeviceWish::auto(), shape).count
    };
    let counts = [0, 10, 100, 1_000, 10_000, 1_000_000].map(count);
    assert_eq!((counts[0], counts[1], counts[5]), (1, 1, 8));
    assert!(counts.is_sorted(), "{counts:?}");
    let whole = JobShape { tasks: 1, ..long_job() };
    assert_eq!(select(&device(100.0), &candidates, &anything(), DeviceWish::auto(), whole).count, 1);
    let unneeded = select(&device(100.0), &candidates, &anything(), DeviceWish::auto(), JobShape::default());
    assert_eq!(unneeded.count, 1);
    assert!(
        unneeded.rows.iter().any(|row| row.why == "not needed: under 1 ms without it, 72 ms with it"),
        "{:?}",
        unneeded.rows
    );
}

#[test]
fn measured_rates_replace_claims() {
    let candidates: Vec<_> = (1..4).map(|n| candidate(n, 300.0, MS)).collect();
    let own = device(100.0);
    let slow = Known { power: Some(0.01), ..Known::default() };
    let shape = JobShape { known: candidates.iter().map(|c| (c.peer, slow)).collect(), ..long_job() };
    let measured = select(&own, &candidates, &anything(), DeviceWish::auto(), shape);
    assert_eq!((measured.count, measured.load.sure), (1, Sure::Measured));
    let claimed = select(&own, &candidates, &anything(), DeviceWish::auto(), long_job());
    assert!(claimed.count > 1);
    let guessed =
        select(&own, &candidates, &anything(), DeviceWish::auto(), JobShape { bytes: 1, ..JobShape::default() });
    assert_eq!(guessed.load.sure, Sure::Guessed);
    // The one that was measured to be fast goes before those that say that they are.
    let fast = Known { power: Some(8.0), ..Known::default() };
    let shape = JobShape { known: [(peer(3), fast)].into(), ..long_job() };
    let selection = select(&own, &candidates, &anything(), DeviceWish::between(2, 2), shape);
    assert_eq!(selection.spare, [peer(1), peer(2)]);
    assert!(selection.rows.iter().any(|row| row.used && row.peer == Some(peer(3))));
}

/// What `--eqs paper` gets wrong.
#[test]
fn the_papers_order_takes_the_most_distant_device() {
    let candidates = [candidate(1, 100.0, MS), candidate(2, 100.0, 300 * MS), candidate(3, 90.0, 40 * MS)];
    let chosen = |order| {
        let shape = JobShape { order, ..long_job() };
        let selection = select(&device(100.0), &candidates, &anything(), DeviceWish::between(2, 2), shape);
        let row = selection.rows.iter().find(|row| row.used && row.peer.is_some()).unwrap();
        (row.peer.unwrap(), selection.time().unwrap())
    };
    let ((near, ours), (far, papers)) = (chosen(Order::Net), chosen(Order::Paper));
    assert_eq!((near, far), (peer(1), peer(2)));
    assert!(papers > ours, "{papers:?} {ours:?}");
}

/// What is known of a device in earlier jobs.
fn known() -> impl Strategy<Value = Known> {
    let ms = proptest::option::of(0u64..2_000).prop_map(|ms| ms.map(Duration::from_millis));
    let rate = || proptest::option::of(1e4..1e9);
    (proptest::option::of(0.05..8.0), ms, rate(), rate()).prop_map(|(power, startup, up, down)| Known {
        power,
        startup,
        up,
        down,
        ..Known::default()
    })
}

proptest! {
    /// Every input's direction: a device that is faster, nearer, freer or fuller, or measured to be better connected or
    /// sooner there, is not passed over where it was taken, and no prediction with it grows.
    #[test]
    fn whatever_gets_better_does_not_lower_the_chance(
        own in 20.0..200.0, eqs in 20.0..290.0, rtt in 2u64..200, others in proptest::collection::vec((20.0..200.0, 1u64..200), 0..5),
        known in known(), what in 0usize..9, more in 1.01..3.0, work in 1u64..20_000, bytes in 0u64..50_000_000,
    ) {
        let shape = |known| JobShape {
            work: Some(Duration::from_millis(work)), bytes, output: bytes, tasks: 32, cut: true,
            known: [(peer(1), known)].into(), ..JobShape::default()
        };
        let others = (2..).zip(&others).map(|(n, (eqs, rtt))| candidate(n, *eqs, *rtt as u32 * MS));
        let before = candidate(1, eqs, rtt as u32 * MS);
        // What all its slots do together was measured with those that are free, or it was not.
        let known = if what == 2 { Known { power: None, ..known } } else { known };
        let (mut after, mut better) = (before.clone(), known);
        match what {
            0 => after.info.eqs = f64::min(eqs * more, 300.0),
            1 => after.rtt = before.rtt.map(|rtt| rtt.div_f64(more)),
            2 => after.info.ext.slots = 2,
            3 => after.info.ext.battery = 1.0,
            4 => better.power = known.power.map(|power| power * more),
            5 => better.startup = known.startup.map(|startup| startup.div_f64(more)),
            6 => better.up = known.up.map(|up| up * more),
            7 => better.down = known.down.map(|down| down * more),
            _ => after.info.network = Network::High,
        }
        let need = Requirements { eqs: 10.0, gps: false, battery: 20, network: None };
        let all: Vec<_> = others.collect();
        let with = |one: &Candidate, known, wish| {
            let candidates: Vec<_> = all.iter().cloned().chain([one.clone()]).collect();
            select(&device(own), &candidates, &need, wish, shape(known))
        };
        let place = |selection: &msm_scheduler::Selection| selection.servers.iter().position(|(p, _)| *p == Some(peer(1)));
        let fixed = DeviceWish::between(1, 3);
        let (was, is) = (with(&before, known, fixed), with(&after, better, fixed));
        if let Some(was) = place(&was) {
            let is = place(&is);
            prop_assert!(is.is_some_and(|is| is <= was), "place {was} -> {is:?}");
        }
        // Alone with this device: T(2) does not grow, and a job that was worth sharing still is.
        let pair = |one: &Candidate, known| select(&device(own), std::slice::from_ref(one), &need, DeviceWish::auto(), shape(known));
        let (was, is) = (pair(&before, known), pair(&after, better));
        if was.predicted.len() == 2 {
            // Greedy order is not optimal with links in between: a task may end up on the other device.
            let (was_time, is_time) = (was.predicted[1].as_secs_f64(), is.predicted[1].as_secs_f64());
            prop_assert!(is_time <= was_time * 1.001 + 1e-6, "{was_time} -> {is_time}");
            prop_assert!(is.count >= was.count, "{} -> {}", was.count, is.count);
        }
    }
}

proptest! {
    /// The automatic number is what its definition says, found by trying them all.
    #[test]
    fn the_automatic_number_is_the_smallest_within_five_percent(
        own in 10.0..300.0, others in proptest::collection::vec((0.0..300.0, 0u64..200), 0..12),
        work in 1u64..20_000, tasks in 1u32..200, min in 1u32..4, max in 4u32..20,
    ) {
        let candidates: Vec<_> = (1..).zip(&others).map(|(n, (eqs, rtt))| candidate(n, *eqs, *rtt as u32 * MS)).collect();
        let shape = JobShape { work: Some(Duration::from_millis(work)), tasks, ..JobShape::default() };
        let wish = DeviceWish { min, max, auto: true };
        let selection = select(&device(own), &candidates, &anything(), wish, shape);
        let most = selection.predicted.len().min(max as usize);
        let times = &selection.predicted[..most];
        let best = times.iter().min().unwrap().as_secs_f64();
        let smallest = times.iter().position(|time| time.as_secs_f64() <= best * 1.05).unwrap() + 1;
        prop_assert_eq!(selection.count as usize, smallest.max(min as usize).min(most));
        let used: Vec<_> = selection.rows.iter().filter(|row| row.used).collect();
        prop_assert_eq!(used.len(), selection.count as usize);
        prop_assert!(used.iter().any(|row| row.peer.is_none()), "this device takes part");
        prop_assert!(used.is_sorted_by(|a, b| a.eqs >= b.eqs));
        // Nobody who fits is passed over for somebody worse, but for those that would only make the job wait.
        let worst = used.iter().filter(|row| row.peer.is_some()).map(|row| row.eqs).fold(f64::INFINITY, f64::min);
        let helps = |row: &&msm_scheduler::Row| !row.used && !row.why.contains("80 %") && !row.why.contains("with it");
        let passed = selection.rows.iter().filter(helps).map(|row| row.eqs);
        prop_assert!(passed.fold(0.0, f64::max) <= worst);
    }
}
