//! Workers that are killed, again and again: results stay right, and each task is counted once.

use msm_testnet::{
    delay::line::Draw,
    node::{Node, Repl, Running},
    wait,
};

use super::{FOUND, JOB, Lab, Work, links::seed, long};

/// About 30 ms of work for a part.
const ROUNDS: u32 = 8_000;
const KILLS: usize = 10;

/// Waits until the running job has so many tasks done. False when it ended before.
fn reached(lab: &Lab, repl: &mut Repl, done: u64) -> bool {
    let look = || {
        let job = &repl.json("jobs")?["jobs"][0];
        let over = job["state"] != "running";
        Ok((over || job["tasks_done"].as_u64() >= Some(done)).then_some(!over))
    };
    let (reached, _) = wait::until(JOB, &format!("{done} tasks are done"), look)
        .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.cli.log()));
    reached
}

/// Starts a job and waits until it is one.
fn started(lab: &Lab, work: &Work) -> Running {
    let mut running = lab.start(work, "out.bin");
    running.says("job ", JOB).unwrap();
    running
}

/// Kills a worker and has it come back, as the same device.
fn kill(lab: &mut Lab, victim: usize) {
    lab.workers[victim].kill().unwrap();
    let client = lab.workers[victim].client.clone();
    lab.workers[victim] = Node::start(client, &[]).unwrap();
}

/// By FAULTS.md 200 jobs; `MSM_LONG=1` runs them all.
#[test]
fn b81_workers_killed_at_ten_random_moments_of_a_job_change_nothing() {
    const PARTS: usize = 192;
    let jobs = if long() { 200 } else { 2 };
    let mut draw = Draw::new(seed());
    let mut lab = Lab::new(&["w1", "w2", "w3"], 64, 64);
    let work = lab.work(PARTS, ROUNDS);
    let (mut kills, mut reruns) = (0, 0);
    for number in 0..jobs {
        let mut moments: Vec<u64> = (0..KILLS).map(|_| draw.below(PARTS as u64)).collect();
        moments.sort_unstable();
        let running = started(&lab, &work);
        let mut repl = Repl::open(&lab.cli.client).unwrap();
        for moment in moments {
            if !reached(&lab, &mut repl, moment) {
                break;
            }
            let victim = draw.below(3) as usize;
            kill(&mut lab, victim);
            kills += 1;
        }
        let job = lab.check_work(&work, running, "out.bin");
        reruns += job["tasks_rerun"].as_u64().unwrap();
        eprintln!("b81: job {number}: {kills} kills so far; {} ms, {} run again", job["wall_ms"], job["tasks_rerun"]);
        lab.cli.sees(&lab.workers.iter().collect::<Vec<_>>(), FOUND).unwrap();
    }
    assert!(kills * 2 >= jobs * KILLS && reruns > 0, "too few kills came while a job ran: {kills} in {jobs} jobs");
}

#[test]
fn b99_1024_parts_and_four_workers_that_each_die_once() {
    const PARTS: usize = 1_024;
    let mut lab = Lab::new(&["w1", "w2", "w3", "w4"], 64, 64);
    let work = lab.work(PARTS, ROUNDS / 4);
    let running = started(&lab, &work);
    let mut repl = Repl::open(&lab.cli.client).unwrap();
    for victim in 0..4 {
        assert!(reached(&lab, &mut repl, (PARTS / 5 * (victim + 1)) as u64), "it runs while worker {victim} dies");
        kill(&mut lab, victim);
    }
    let job = lab.check_work(&work, running, "out.bin");
    eprintln!("b99: {} ms, {} of {} run again", job["wall_ms"], job["tasks_rerun"], job["tasks"]);
    assert_eq!(job["tasks"], PARTS, "{job}");
}
