//! Many seeds of many worlds: whatever devices do, a job keeps its promises (see `checker`).
//!
//! A failing seed is printed; `MSM_SIM_SEED=<seed>` runs that one alone and prints every step. `MSM_SIM_SEEDS=<number>`
//! runs more of them than a test run has time for.

use std::time::Duration;

use msm_protocol::RefusalCode;
use msm_scheduler::Output;

use crate::{
    rng::Rng,
    scene::{Habit, Scene, tame},
    world::{Report, World},
};

/// Seeds of a normal run: about three seconds of one core.
const SEEDS: u64 = 1_200;

/// Seeds that once found a mistake: this device slept while a worker's speed was measured.
const KEPT: [u64; 2] = [2_034, 42_884];

/// Prints the seed when the job itself panics.
struct Guard(u64);

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "seed {0}; replay with MSM_SIM_SEED={0} cargo test -p msm-scheduler seeds -- --nocapture",
                self.0
            );
        }
    }
}

fn run(seed: u64, scene: Option<Scene>, trace: bool) -> Report {
    let guard = Guard(seed);
    let mut rng = Rng(seed);
    let scene = scene.unwrap_or_else(|| Scene::draw(&mut rng));
    let report = World::new(scene.clone(), rng, trace).run();
    let report = report.unwrap_or_else(|broken| panic!("{broken}\nin {scene:?}"));
    drop(guard);
    report
}

#[test]
fn seeds() {
    if let Ok(seed) = std::env::var("MSM_SIM_SEED") {
        let report = run(seed.parse().expect("MSM_SIM_SEED is a number"), None, true);
        eprintln!("{:?} after {:?}: {:?}", report.end, report.took, report.progress);
        return;
    }
    let mut counts = std::collections::BTreeMap::<&str, u64>::new();
    let seeds = std::env::var("MSM_SIM_SEEDS").map_or(SEEDS, |n| n.parse().expect("MSM_SIM_SEEDS is a number"));
    for seed in (0..seeds).chain(KEPT) {
        let report = run(seed, None, false);
        let mut count = |what, n| *counts.entry(what).or_default() += n;
        count("reruns", u64::from(report.progress.reruns));
        count("hedges", u64::from(report.progress.hedges));
        for output in &report.outputs {
            match output {
                Output::Start { .. } => count("started", 1),
                Output::Cancel { .. } => count("cancelled", 1),
                Output::Accepted { .. } => count("accepted", 1),
                Output::Dropped { why: RefusalCode::Duplicate, .. } => count("duplicate", 1),
                Output::Dropped { why: RefusalCode::StaleLease, .. } => count("stale-lease", 1),
                Output::Dropped { .. } => count("bad-message", 1),
                Output::Lost { reason, .. } if reason.starts_with("silent") => count("lost by silence", 1),
                Output::Lost { .. } => count("lost", 1),
                Output::Kept { .. } => count("kept", 1),
                Output::Withdrawn { .. } => count("withdrawn", 1),
                Output::Checked { .. } => count("checked", 1),
                Output::Struck { .. } => count("struck", 1),
                Output::Done => count("done", 1),
                Output::Failed { refusal } if refusal.code == RefusalCode::ServiceFailed => count("guest failed", 1),
                Output::Failed { .. } => count("failed", 1),
                Output::Partial { .. } => count("partial", 1),
            }
        }
    }
    eprintln!("{seeds} seeds: {counts:?}");
    // A simulation in which something never happens says nothing about it.
    let all = ["reruns", "hedges", "cancelled", "duplicate", "stale-lease", "bad-message", "lost by silence", "lost"];
    for what in all.into_iter().chain(["done", "guest failed", "failed", "partial"]) {
        assert!(counts.get(what).is_some_and(|n| *n >= 10), "too little of {what}: {counts:?}");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..20 {
        let (first, second) = (run(seed, None, false), run(seed, None, false));
        assert_eq!((first.outputs, first.took), (second.outputs, second.took), "seed {seed}");
    }
}

/// Mean time of a world over some seeds.
fn mean(scene: &Scene) -> Duration {
    (0..20).map(|seed| run(seed, Some(scene.clone()), false).took).sum::<Duration>() / 20
}

/// B72, and the promise that a bad neighbour costs little.
#[test]
fn one_bad_device_among_good_ones_costs_little() {
    let good = mean(&tame(60, vec![Habit::Steady; 3]));
    let alone = mean(&tame(60, vec![]));
    assert!(alone > good * 3, "three helpers: {good:?}, alone {alone:?}");
    for habit in Habit::ALL {
        let scene = tame(60, vec![Habit::Steady, Habit::Steady, Habit::Steady, habit]);
        let with = mean(&scene);
        eprintln!("{habit:?}: {with:?}, without {good:?}");
        assert!(
            with < good * 115 / 100 + Duration::from_secs(1),
            "with one that {habit:?}: {with:?}, without {good:?}"
        );
    }
}

/// B99 with real time: 1,024 parts, four workers, each of which dies again and again; this device takes no part.
#[test]
fn b99_1024_parts_on_flapping_workers() {
    let scene = Scene { local: None, credit: 4, ..tame(1_024, vec![Habit::Flaps; 4]) };
    for seed in 0..3 {
        let report = run(seed, Some(scene.clone()), false);
        assert_eq!(report.end, Output::Done);
        assert!(report.progress.reruns >= 4, "{:?}", report.progress);
    }
}

/// B98: whatever the others do, this device alone is enough.
#[test]
fn b98_this_device_finishes_what_all_others_fail() {
    for habit in [Habit::Dies, Habit::DiesUnnoticed, Habit::Mute, Habit::Hogs, Habit::Forgets] {
        let report = run(1, Some(tame(30, vec![habit; 5])), false);
        assert_eq!(report.end, Output::Done, "{habit:?}");
        assert!(report.took < Duration::from_secs(30), "{habit:?}: {:?}", report.took);
    }
}
