//! Many seeds of many worlds: whatever the network, the devices and the requester's own machine do, a job keeps its
//! promises (see [`crate::checker`]).
//!
//! A failing seed is printed with the line that replays it with a trace. `MSM_SEEDS=<number>` (or
//! `<from>..<to>`) runs more of them than a test run has time for, `MSM_SEED=<number>` that one alone.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use msm_protocol::RefusalCode;
use msm_scheduler::{Output, Redundancy, Worker};

use crate::{
    checker::Broken,
    fault::Fault,
    rng::Rng,
    sabotage::{Sabotage, Twist},
    scene::{Scene, tame},
    world::{Report, World},
};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

/// Seeds of a normal run.
const SEEDS: u64 = 1_000;
/// Seeds that once found a mistake: a job that stood still, or gave up what this device could have finished.
const KEPT: [u64; 7] = [6_299, 13_034, 36_954, 42_699, 44_654, 67_959, 84_814];
/// In each seed at least so many faults are felt.
const FAULTS: usize = 5;
/// A job may be over before that; then another is drawn, so often at most.
const DRAWS: u32 = 20;

/// Prints how to replay a seed when it fails.
struct Guard(u64);

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay: MSM_SEED={} cargo nextest run -p msm-scheduler --no-capture sim::seeds", self.0);
        }
    }
}

fn run(rng: Rng, scene: &Scene, trace: bool) -> Report {
    let report = World::new(scene.clone(), rng, trace).run();
    report.unwrap_or_else(|Broken { promise, what }| panic!("{promise:?}: {what}\nin {scene:?}"))
}

/// All runs of a seed, the last of which felt enough faults.
fn seed(number: u64, trace: bool) -> Vec<Report> {
    let guard = Guard(number);
    let mut rng = Rng(number);
    let mut reports = vec![];
    for _ in 0..DRAWS {
        let scene = Scene::draw(&mut rng);
        if trace {
            eprintln!("{scene:?}");
        }
        let report = run(Rng(rng.next()), &scene, trace);
        let enough = report.faults() >= FAULTS;
        reports.push(report);
        if enough {
            drop(guard);
            return reports;
        }
    }
    panic!("{DRAWS} worlds of seed {number} had fewer than {FAULTS} faults");
}

#[test]
fn seeds() {
    if let Ok(number) = std::env::var("MSM_SEED") {
        for report in seed(number.parse().expect("MSM_SEED is a number"), true) {
            eprintln!("{:?} after {:?}: {:?}", report.end, report.took, report.progress);
        }
        return;
    }
    let mut counts = Counts::default();
    let seeds = std::env::var("MSM_SEEDS").map_or(0..SEEDS, |text| range(&text));
    for number in seeds.clone().chain(KEPT) {
        seed(number, false).iter().for_each(|report| counts.add(report));
    }
    eprintln!("seeds {seeds:?}: {:?}", counts.0);
    // A simulation in which something never happens says nothing about it.
    let outputs = [
        "rerun",
        "hedge",
        "cancelled",
        "duplicate",
        "stale-lease",
        "bad-message",
        "silent",
        "lost",
        "done",
        "guest failed",
        "failed",
        "partial",
    ];
    let checks = ["unsigned", "check", "vote", "kept", "withdrawn", "confirmed", "contradicted", "struck"];
    for what in outputs.into_iter().chain(checks).chain(Fault::NAMES) {
        assert!(counts.0.get(what).is_some_and(|n| *n >= 5), "too little of {what}: {:?}", counts.0);
    }
}

/// `1000`, or `1000..2000`.
fn range(text: &str) -> Range<u64> {
    let number = |text: &str| text.parse().expect("MSM_SEEDS is a number or two: 1000 or 1000..2000");
    match text.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => 0..number(text),
    }
}

/// How often something happened.
#[derive(Default)]
struct Counts(BTreeMap<&'static str, u64>);

impl Counts {
    fn add(&mut self, report: &Report) {
        let mut count = |what, n| *self.0.entry(what).or_default() += n;
        count("runs", 1);
        count("events", report.events);
        count("rerun", u64::from(report.progress.reruns));
        count("hedge", u64::from(report.progress.hedges));
        count("unsigned", u64::from(report.progress.unsigned));
        for output in &report.outputs {
            count(name(output), 1);
        }
        for (fault, felt) in report.scene.faults.iter().zip(&report.felt) {
            count(fault.name(), u64::from(*felt > 0));
        }
    }
}

fn name(output: &Output) -> &'static str {
    use msm_scheduler::Why;
    match output {
        Output::Start { why: Why::Check { .. }, .. } => "check",
        Output::Start { why: Why::Vote, .. } => "vote",
        Output::Start { .. } => "started",
        Output::Cancel { .. } => "cancelled",
        Output::Accepted { .. } => "accepted",
        Output::Kept { .. } => "kept",
        Output::Withdrawn { .. } => "withdrawn",
        Output::Checked { agrees: true, .. } => "confirmed",
        Output::Checked { .. } => "contradicted",
        Output::Struck { .. } => "struck",
        Output::Dropped { why: RefusalCode::Duplicate, .. } => "duplicate",
        Output::Dropped { why: RefusalCode::StaleLease, .. } => "stale-lease",
        Output::Dropped { .. } => "bad-message",
        Output::Lost { reason, .. } if reason.starts_with("silent") => "silent",
        Output::Lost { .. } => "lost",
        Output::Done => "done",
        Output::Failed { refusal } if refusal.code == RefusalCode::ServiceFailed => "guest failed",
        Output::Failed { .. } => "failed",
        Output::Partial { .. } => "partial",
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let shown = |number| seed(number, false).into_iter().map(|r| (r.outputs, r.took, r.felt)).collect::<Vec<_>>();
    for number in 0..10 {
        assert_eq!(shown(number), shown(number), "seed {number}");
    }
}

/// The checker is worth something: each way in which a scheduler can be broken breaks its promise within some seeds.
#[test]
fn the_checker_catches_each_broken_scheduler() {
    for (twist, promise) in Twist::ALL {
        let mut others = vec![];
        let caught = (0..200).any(|number| {
            let mut rng = Rng(number);
            let scene = Scene::draw(&mut rng);
            let world = World::new(scene, Rng(rng.next()), false).sabotaged(Sabotage::new(twist));
            let Err(broken) = world.run() else { return false };
            let caught = broken.promise == promise;
            others.push(broken);
            caught
        });
        assert!(caught, "{twist:?} did not break {promise:?}, but {:?}", others.first());
    }
}

/// Mean time of a world over some seeds.
fn mean(scene: &Scene) -> Duration {
    (0..10).map(|number| run(Rng(number), scene, false).took).sum::<Duration>() / 10
}

/// B72, and the promise that a bad neighbour costs little.
#[test]
fn one_bad_device_among_good_ones_costs_little() {
    let good = mean(&tame(60, 3, vec![]));
    let alone = mean(&tame(60, 0, vec![]));
    assert!(alone > good * 3, "three helpers: {good:?}, alone {alone:?}");
    let (on, at) = (3, 2 * S);
    let faults = [
        Fault::Loss { on, percent: 20 },
        Fault::Delay { on, by: 300 * MS },
        Fault::SlowLink { on, bytes_per_s: 8_000 },
        Fault::Cut { on, at, lasts: 20 * S, up: true, down: true },
        Fault::Cut { on, at, lasts: 20 * S, up: true, down: false },
        Fault::Cut { on, at, lasts: 20 * S, up: false, down: true },
        Fault::Flaps { on, at, times: 30 },
        Fault::Slow { on, times: 50 },
        Fault::SlowsDown { on, at },
        Fault::Silent { on, at },
        Fault::Hogs { on },
        Fault::Freezes { on, at, lasts: 15 * S },
        Fault::Crashes { on, at, back: None, noticed: false },
        Fault::Crashes { on, at, back: Some(3 * S), noticed: true },
        Fault::Forgets { on },
        Fault::Doubles { on },
        Fault::Fails { on },
        Fault::Lies { on, percent: 100, plot: false },
        Fault::Flees { on, percent: 100 },
        Fault::Forges { on, at },
        Fault::Boasts { on },
    ];
    for fault in faults {
        let with = mean(&tame(60, 4, vec![fault]));
        eprintln!("{:>19}: {with:?}, without it {good:?}", fault.name());
        assert!(with < good * 115 / 100 + S, "with {fault:?}: {with:?}, without {good:?}");
    }
}

/// B99 in virtual time: 1,024 parts, four workers, each of which dies again and again; this device takes no part.
#[test]
fn b99_1024_parts_on_flapping_workers() {
    let crash = |on, n: u32| Fault::Crashes { on, at: (n * 12 + on as u32) * S, back: Some(S), noticed: true };
    let faults = (0..8).flat_map(|n| (0..4).map(move |on| crash(on, n))).collect();
    let scene = Scene { local: None, redundancy: Redundancy::None, ..tame(1_024, 4, faults) };
    for number in 0..2 {
        let report = run(Rng(number), &scene, false);
        assert_eq!(report.end, Output::Done);
        assert!(report.progress.reruns >= 4, "{:?}", report.progress);
    }
}

/// What is done again because honest workers die before they have signed: what they answered in the last moment, which
/// is at most one part for each death here, and in the mean far less.
#[test]
fn deaths_before_signing_cost_little() {
    let crash = |on, n: u32| Fault::Crashes { on, at: (n * 3 + on as u32) * S, back: Some(S), noticed: true };
    let faults: Vec<Fault> = (0..8).flat_map(|n| (0..4).map(move |on| crash(on, n))).collect();
    let (mut again, mut deaths) = (0, 0);
    for number in 0..50 {
        let report = run(Rng(number), &tame(400, 4, faults.clone()), false);
        assert_eq!(report.end, Output::Done);
        let died = report.felt.iter().sum::<u32>();
        assert!(report.progress.unsigned <= died, "seed {number}: {:?}", report.progress);
        (again, deaths) = (again + report.progress.unsigned, deaths + died);
    }
    eprintln!("{deaths} deaths in 50 jobs of 400 parts: {again} parts done again because nobody had signed for them");
    assert!(deaths > 500 && again * 5 < deaths, "{again} parts for {deaths} deaths");
}

/// B98: whatever the others do, this device alone is enough.
#[test]
fn b98_this_device_finishes_what_all_others_fail() {
    let all: [fn(usize) -> Fault; 5] = [
        |on| Fault::Crashes { on, at: S, back: None, noticed: true },
        |on| Fault::Crashes { on, at: S, back: None, noticed: false },
        |on| Fault::Silent { on, at: S },
        |on| Fault::Hogs { on },
        |on| Fault::Forgets { on },
    ];
    for fault in all {
        let faults: Vec<Fault> = (0..5).map(fault).collect();
        let report = run(Rng(1), &tame(30, 5, faults.clone()), false);
        assert_eq!(report.end, Output::Done, "{faults:?}");
        assert!(report.took < 35 * S, "{faults:?}: {:?}", report.took);
    }
}

/// B71 in virtual time: one of five workers gives a wrong answer to a tenth of its tasks; two of three must agree.
#[test]
fn b71_a_tenth_of_lies_and_never_a_wrong_result() {
    for number in 0..50 {
        let faults = vec![Fault::Lies { on: (number % 5) as usize, percent: 10, plot: false }];
        let scene = Scene {
            redundancy: Redundancy::Agree { agree: 2, of: 3 },
            local: (number % 2 == 0).then_some(1),
            ..tame(60, 5, faults)
        };
        // The checker compares every output with the true one.
        let report = run(Rng(number), &scene, false);
        assert_eq!(report.end, Output::Done, "seed {number}");
        let liar = report.progress.workers.iter().find(|worker| worker.struck);
        assert!(report.felt[0] == 0 || liar.is_some_and(|liar| liar.worker != Worker::Local), "seed {number}");
    }
}

/// B86, B90, B91: a cut in one direction, a sleep and a stopped process are noticed, and nothing is counted twice.
#[test]
fn b86_b90_b91_silence_of_either_side_costs_seconds() {
    let undisturbed = mean(&tame(60, 4, vec![]));
    let (on, at) = (0, 2 * S);
    let cut = |up, down| Fault::Cut { on, at, lasts: 30 * S, up, down };
    for fault in [cut(true, false), cut(false, true), Fault::Freezes { on, at, lasts: 15 * S }] {
        let report = run(Rng(1), &tame(60, 4, vec![fault]), false);
        assert!(report.end == Output::Done && report.took < undisturbed + 8 * S, "{fault:?}: {:?}", report.took);
    }
    for lasts in [5 * S, 864_000 * S] {
        for counted in [true, false] {
            let report = run(Rng(1), &tame(60, 4, vec![Fault::Sleeps { at, lasts, counted }]), false);
            assert!(report.end == Output::Done && report.took < lasts + undisturbed + 8 * S, "{:?}", report.took);
            let lost = report.outputs.iter().filter(|output| matches!(output, Output::Lost { .. })).count();
            assert!(lost <= 4, "no storm: {lost} losses");
        }
    }
}

/// A device that falls asleep before any worker has come does not give its job up when it wakes.
#[test]
fn b90_a_sleep_before_any_worker_has_come() {
    for fault in [
        Fault::ClockJumps { at: Duration::ZERO, by: 864_000 * S },
        Fault::Sleeps { at: Duration::ZERO, lasts: 864_000 * S, counted: true },
    ] {
        let report = run(Rng(1), &tame(10, 2, vec![fault]), false);
        assert_eq!(report.end, Output::Done, "{fault:?}");
    }
}

/// A requester that is killed again and again, and whose last line is lost each time, still gets every output once.
#[test]
fn a_requester_that_dies_again_and_again_goes_on() {
    let dies = |n: u32| Fault::Dies { at: n * 900 * MS, down: 200 * MS, last_line_lost: true };
    for redundancy in [Redundancy::None, Redundancy::Spot, Redundancy::Agree { agree: 2, of: 3 }] {
        let scene = Scene { redundancy, ..tame(40, 3, (1..12).map(dies).collect()) };
        let report = run(Rng(5), &scene, false);
        assert_eq!(report.end, Output::Done, "{redundancy:?}");
        assert!(report.faults() >= 3, "{redundancy:?}: it died {} times", report.faults());
    }
}
