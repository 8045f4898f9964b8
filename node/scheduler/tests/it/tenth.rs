//! B71 in numbers: one of five workers falsifies a tenth of its parts, a thousand jobs long.

use std::{collections::HashMap, time::Duration};

use msm_protocol::{ContentHash, job::AttemptRef};
use msm_scheduler::{Input, JobConfig, JobState, Output, OutputId, Redundancy, Trust, Worker};

use crate::{peer, rng::Rng};

const TASKS: u32 = 60;
const WORKERS: u16 = 5;
/// The last of them is the liar.
const LIAR: u16 = WORKERS - 1;
const STEP: Duration = Duration::from_millis(5);

fn output(task: u32, lie: bool) -> OutputId {
    let hash = ContentHash::of(format!("{task}{}", if lie { " not" } else { "" }).as_bytes());
    OutputId { hash, size: 8 }
}

/// How one job went.
#[derive(Default)]
struct Told {
    /// Tasks whose final output is wrong.
    wrong: usize,
    /// Lies that were told.
    lies: usize,
    /// Who was struck.
    struck: Vec<Worker>,
    /// Answers that the liar gave from its first lie on, that one included.
    after_first_lie: usize,
    /// Comparisons with the liar that it passed, for its trust in the next job.
    passed: u32,
}

/// Runs one job: workers answer in random order, each some steps after it was asked. `local` is this device.
fn job(seed: u64, redundancy: Redundancy, local: bool, trust: Trust, lie_one_in: u64) -> Told {
    let mut rng = Rng(seed);
    let config = JobConfig { tasks: TASKS, seed: rng.next(), redundancy, ..JobConfig::default() };
    let mut state = JobState::new(config, Duration::ZERO);
    let mut now = Duration::ZERO;
    if local {
        state.handle(Input::WorkerReady { worker: Worker::Local, credit: 1, trust: Trust::default() }, now);
    }
    for n in 0..WORKERS {
        let trust = if n == LIAR { trust } else { Trust::default() };
        state.handle(Input::WorkerReady { worker: Worker::Remote(peer(n)), credit: 2, trust }, now);
    }
    let liar = Worker::Remote(peer(LIAR));
    let mut told = Told::default();
    let mut running: Vec<(Worker, AttemptRef)> = Vec::new();
    let mut answers: HashMap<AttemptRef, OutputId> = HashMap::new();
    let mut outputs: Vec<Option<OutputId>> = vec![None; TASKS as usize];
    for _ in 0..100_000 {
        while let Some(decided) = state.poll_output() {
            match decided {
                Output::Start { worker, attempt, .. } => running.push((worker, attempt)),
                Output::Cancel { worker, attempt } => running.retain(|it| *it != (worker, attempt)),
                Output::Accepted { attempt, .. } => outputs[attempt.task as usize] = Some(answers[&attempt]),
                Output::Withdrawn { task, .. } => outputs[task as usize] = None,
                Output::Struck { worker, .. } => told.struck.push(worker),
                Output::Checked { worker, agrees: true, .. } if worker == liar => told.passed += 1,
                Output::Done => {
                    let wrong = |(task, it): (usize, &Option<OutputId>)| *it != Some(output(task as u32, false));
                    told.wrong = outputs.iter().enumerate().filter(|(task, it)| wrong((*task, it))).count();
                    return told;
                }
                Output::Failed { refusal } => panic!("seed {seed}: {refusal}"),
                _ => {}
            }
        }
        now += STEP;
        if running.is_empty() {
            state.handle(Input::Tick, now);
            continue;
        }
        let (worker, attempt) = running.swap_remove(rng.range(0..running.len() as u64) as usize);
        let lie = worker == liar && rng.next().is_multiple_of(lie_one_in);
        told.lies += usize::from(lie);
        told.after_first_lie += usize::from(worker == liar && told.lies > 0);
        let output = output(attempt.task, lie);
        answers.insert(attempt, output);
        state.handle(Input::Result { worker, attempt, output }, now);
    }
    panic!("seed {seed}: the job does not end");
}

/// Where two of three must agree, one liar changes nothing, ever; it is out within 30 parts, and nobody else is.
#[test]
fn b71_two_of_three_are_right_in_all_of_a_thousand_jobs() {
    let two_of_three = Redundancy::Agree { agree: 2, of: 3 };
    let (mut lies, mut most) = (0, 0);
    for seed in 0..1_000 {
        let told = job(seed, two_of_three, seed % 2 == 0, Trust::default(), 10);
        assert_eq!(told.wrong, 0, "seed {seed}");
        assert!(told.struck.iter().all(|worker| *worker == Worker::Remote(peer(LIAR))), "seed {seed}");
        assert!(told.lies == 0 || !told.struck.is_empty(), "seed {seed}: {} lies went unpunished", told.lies);
        assert!(told.after_first_lie <= 30, "seed {seed}: {} parts", told.after_first_lie);
        lies += told.lies;
        most = most.max(told.after_first_lie);
    }
    assert!(lies > 500, "{lies} lies are no test");
    eprintln!("2/3: 1,000 jobs, {lies} lies, 0 wrong outputs, at most {most} parts after the first lie");
}

/// Samples promise less, and say how much: who lies in one of its first three parts is always found; later each wrong
/// part is found with the share that is checked.
#[test]
fn b71_samples_find_newcomers_always_and_others_by_lot() {
    for seed in 0..200 {
        let told = job(seed, Redundancy::Spot, seed % 2 == 0, Trust::default(), 1);
        assert_eq!((told.wrong, told.struck.len()), (0, 1), "seed {seed}: a liar from its first part on");
    }
    // One that was right ten times before it begins to lie: one in twenty parts is looked at.
    let trusted = Trust { in_a_row: 10, ..Trust::default() };
    let (mut lies, mut found, mut through) = (0, 0, 0);
    for seed in 0..1_000 {
        let told = job(seed, Redundancy::Spot, true, trusted, 10);
        lies += told.lies;
        found += told.struck.len();
        through += told.wrong;
    }
    eprintln!("spot, trusted before: 1,000 jobs, {lies} lies, {found} times found, {through} wrong parts got through");
    // At least the share of parts that is checked, 5 % (less four standard deviations): it is found as a checker too.
    let (share, promised) = (found as f64 / lies as f64, 0.05_f64);
    let deviation = (promised * (1.0 - promised) / lies as f64).sqrt();
    assert!(share > promised - 4.0 * deviation, "{found} of {lies}: {share:.3}");
}

/// A worker that lies now and then does not last for many jobs: its trust goes with it from one to the next.
#[test]
fn b71_a_liar_is_found_by_samples_in_the_end() {
    let mut jobs_until_found: Vec<u32> = Vec::new();
    for liar in 0..200u64 {
        let mut trust = Trust::default();
        for number in 1.. {
            assert!(number < 500, "liar {liar} is never found");
            let told = job(liar << 32 | u64::from(number), Redundancy::Spot, true, trust, 10);
            if !told.struck.is_empty() {
                jobs_until_found.push(number);
                break;
            }
            (0..told.passed).for_each(|_| trust.right());
        }
    }
    jobs_until_found.sort_unstable();
    eprintln!("spot: found after {} jobs in the median, {} at most", jobs_until_found[100], jobs_until_found[199]);
}
