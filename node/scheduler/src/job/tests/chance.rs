//! Many seeds of workers that lie, fail, die and answer late: whatever they do, every answer gets one word from the job,
//! the books stay right, and what was promised about results holds.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// Seeds of a run: under a second.
const SEEDS: u64 = 400;

struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

fn lie(task: u32, by: u64) -> OutputId {
    OutputId { hash: ContentHash::of(&(u64::from(task) << 8 | by | 1 << 60).to_le_bytes()), size: 4 }
}

/// Which bytes the driver of these outputs would hold.
#[derive(Default)]
struct Books {
    accepted: BTreeMap<u32, (Worker, OutputId)>,
    kept: BTreeMap<(u32, u32), (Worker, OutputId)>,
    struck: BTreeSet<Worker>,
    running: BTreeMap<(u32, u32), Worker>,
    end: Option<Output>,
}

impl Books {
    /// Carries out what came after `arrived`; panics where a driver could not.
    fn carry_out(&mut self, outputs: &[Output], arrived: Option<(Worker, AttemptRef, OutputId)>) {
        let mut answers = 0;
        let key = |at: &AttemptRef| (at.task, at.attempt);
        for output in outputs {
            match output {
                Output::Start { worker, attempt, .. } => {
                    assert!(!self.struck.contains(worker), "{worker} is struck and gets {attempt:?}");
                    assert!(self.running.insert(key(attempt), *worker).is_none());
                }
                Output::Cancel { worker, attempt } => assert_eq!(self.running.remove(&key(attempt)), Some(*worker)),
                Output::Accepted { worker, attempt, output } => {
                    let fresh = arrived.filter(|(w, at, _)| (w, at) == (worker, attempt)).map(|(w, _, id)| (w, id));
                    answers += u32::from(fresh.is_some());
                    let bytes = fresh.or_else(|| self.kept.remove(&key(attempt))).expect("bytes of what is accepted");
                    assert_eq!(bytes.1, *output, "{attempt:?} is accepted as what it is");
                    assert!(self.accepted.insert(attempt.task, bytes).is_none(), "{attempt:?} counts twice");
                }
                Output::Kept { worker, attempt } => {
                    let (w, at, id) = arrived.expect("only what arrives is kept");
                    assert_eq!((w, at), (*worker, *attempt));
                    answers += 1;
                    assert!(self.kept.insert(key(attempt), (w, id)).is_none());
                }
                Output::Dropped { attempt, worker, .. } => {
                    let new = arrived.is_some_and(|(w, at, _)| (w, at) == (*worker, *attempt));
                    answers += u32::from(new);
                    assert!(new || self.kept.remove(&key(attempt)).is_some(), "{attempt:?} is nowhere");
                }
                Output::Withdrawn { task, worker } => {
                    let gone = self.accepted.remove(task).expect("an accepted output");
                    assert_eq!(gone.0, *worker);
                }
                Output::Checked { worker, by, .. } => assert_ne!(worker, by),
                Output::Struck { worker, task, claimed, right, by } => {
                    assert!(self.struck.insert(*worker) && *worker != Worker::Local && worker != by);
                    assert_ne!(claimed, right, "task {task}");
                }
                Output::Lost { .. } => {}
                Output::Done | Output::Failed { .. } | Output::Partial { .. } => {
                    assert!(self.end.replace(output.clone()).is_none());
                }
            }
        }
        assert_eq!(answers, u32::from(arrived.is_some()), "each answer gets one word: {outputs:?}");
    }
}

/// One job; returns how it ended and whether everything in it is right.
fn play(seed: u64, redundancy: Redundancy, liars: u64) -> (Output, bool, Progress) {
    let mut chance = Chance(seed);
    let tasks = 1 + chance.below(60) as u32;
    let weights = if chance.below(2) == 0 { vec![] } else { (0..tasks).map(|_| 1 + chance.below(50)).collect() };
    let config = JobConfig { tasks, weights, seed, redundancy, credit: 8, ..JobConfig::default() };
    let mut story = Story::with(config);
    let mut books = Books::default();
    let workers = liars + 1 + chance.below(4);
    let local = chance.below(4) > 0;
    let mut silent = BTreeSet::new();
    for n in 1..=workers {
        story.ready(remote(n as u8), 1 + chance.below(8) as u32);
        books.carry_out(&story.last, None);
    }
    if local {
        story.ready(LOCAL, 1 + chance.below(3) as u32);
        books.carry_out(&story.last, None);
    }
    for _ in 0..200_000 {
        if books.end.is_some() {
            break;
        }
        story.now += chance.below(60) as u32 * MS;
        let busy: Vec<Worker> = books.running.values().filter(|worker| !silent.contains(*worker)).copied().collect();
        let mut arrived = None;
        if busy.is_empty() {
            story.pass(S);
        } else {
            let worker = busy[chance.below(busy.len() as u64) as usize];
            let attempt = story.held(worker)[0];
            let n = (1..=workers).find(|n| remote(*n as u8) == worker).unwrap_or(0);
            match chance.below(100) {
                0 if n > 0 => story.lost(worker),
                1 if n > 0 && chance.below(3) == 0 => {
                    silent.insert(worker);
                    continue;
                }
                2..5 if n > 0 => story.failed(worker, attempt.task, attempt.attempt, RefusalCode::TaskCrashed),
                _ => {
                    let lies = (1..=liars).contains(&n) && chance.below(3) == 0;
                    // Liars that agree with each other, and liars that do not.
                    let output = if lies { lie(attempt.task, n * chance.below(2)) } else { output(attempt.task) };
                    arrived = Some((worker, attempt, output));
                    story.step(Input::Result { worker, attempt, output })
                }
            };
            if !matches!(story.last.first(), Some(Output::Dropped { .. })) || arrived.is_some() {
                books.running.remove(&(attempt.task, attempt.attempt));
            }
            if arrived.is_none() {
                let held = story.held(worker);
                books
                    .running
                    .retain(|at, by| *by != worker || held.contains(&AttemptRef { task: at.0, attempt: at.1 }));
            }
        }
        let outputs = std::mem::take(&mut story.last);
        books.carry_out(&outputs, arrived);
        let progress = story.job.progress();
        assert_eq!(progress.done as usize, books.accepted.len());
        assert_eq!(progress.running as usize, books.running.len());
        assert!(books.kept.len() <= VOTES_WAITING + 8 * 16 + 64, "{} answers are kept", books.kept.len());
        if chance.below(50) == 0 && workers < 100 {
            story.ready(remote(1 + chance.below(workers) as u8), 4);
            let outputs = std::mem::take(&mut story.last);
            books.carry_out(&outputs, None);
        }
    }
    let end = books.end.expect("the job ends");
    let right = books.accepted.iter().all(|(task, (_, id))| *id == output(*task));
    (end, right, story.job.progress())
}

#[test]
fn without_liars_every_job_is_right_however_it_is_checked() {
    for redundancy in [Redundancy::None, Redundancy::Spot, Redundancy::Agree { agree: 2, of: 3 }] {
        for seed in 0..SEEDS {
            let (end, right, progress) = play(seed, redundancy, 0);
            assert!(right && progress.workers.iter().all(|worker| !worker.struck), "seed {seed}, {redundancy:?}");
            let local = progress.workers[0].worker == Worker::Local;
            assert!(!local || end == Output::Done, "seed {seed}, {redundancy:?}: {end:?}");
        }
    }
}

/// One liar among several is always found out by votes: no two others ever agree with it.
#[test]
fn votes_of_two_make_every_job_right_with_one_liar() {
    let mut struck = 0;
    for seed in 0..SEEDS {
        let (end, right, progress) = play(seed, Redundancy::Agree { agree: 2, of: 3 }, 1);
        assert!(right || end != Output::Done, "seed {seed}: {end:?}");
        struck += progress.workers.iter().filter(|worker| worker.struck).count();
    }
    assert!(struck as u64 > SEEDS / 2, "{struck} were found");
}

/// Two liars may agree, but not three.
#[test]
fn votes_of_three_make_every_job_right_with_two_liars() {
    for seed in 0..SEEDS {
        let (end, right, _) = play(seed, Redundancy::Agree { agree: 3, of: 5 }, 2);
        assert!(right || end != Output::Done, "seed {seed}: {end:?}");
    }
}

/// Spot checks promise less: most liars are found, and what is found is undone.
#[test]
fn spot_checks_find_most_liars() {
    let (mut right_jobs, mut struck) = (0, 0);
    for seed in 0..SEEDS {
        let (end, right, progress) = play(seed, Redundancy::Spot, 1);
        right_jobs += u64::from(right && end == Output::Done);
        struck += progress.workers.iter().filter(|worker| worker.struck).count() as u64;
    }
    eprintln!("spot: {right_jobs} of {SEEDS} jobs right, {struck} liars found");
    assert!(struck > SEEDS / 2 && right_jobs > SEEDS / 2, "{right_jobs} right, {struck} found");
}
