//! Stories in virtual time: one worker, one fault, what the job does about it.

use msm_protocol::{ContentHash, PeerId};

mod chance;
mod pace;
mod trust;

use super::*;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

fn peer(n: u8) -> PeerId {
    let mut bytes = [n; 38];
    bytes[..6].copy_from_slice(&[0x00, 0x24, 0x08, 0x01, 0x12, 0x20]);
    PeerId::from_libp2p_bytes(&bytes).unwrap()
}

const LOCAL: Worker = Worker::Local;

fn remote(n: u8) -> Worker {
    Worker::Remote(peer(n))
}

fn at(task: u32, attempt: u32) -> AttemptRef {
    AttemptRef { task, attempt }
}

fn output(task: u32) -> OutputId {
    OutputId { hash: ContentHash::of(&task.to_le_bytes()), size: 4 }
}

fn refusal(code: RefusalCode) -> Refusal {
    Refusal::new(code, "the reason")
}

/// A job without checks: they have stories of their own.
fn plain(tasks: u32) -> JobConfig {
    JobConfig { tasks, redundancy: Redundancy::None, ..JobConfig::default() }
}

/// A job, its clock, and the outputs of the last step.
struct Story {
    job: JobState,
    now: Duration,
    last: Vec<Output>,
    whys: Vec<Why>,
}

impl Story {
    fn new(tasks: u32) -> Self {
        Self::with(plain(tasks))
    }

    fn with(config: JobConfig) -> Self {
        let mut story =
            Self { job: JobState::new(config, Duration::ZERO), now: Duration::ZERO, last: vec![], whys: vec![] };
        story.last = std::iter::from_fn(|| story.job.poll_output()).collect();
        story
    }

    fn step(&mut self, input: Input) -> &mut Self {
        self.job.handle(input, self.now);
        self.last = std::iter::from_fn(|| self.job.poll_output()).collect();
        for output in &mut self.last {
            // Most stories tell who gets what; the others read the reasons here.
            if let Output::Start { why, .. } = output {
                self.whys.push(std::mem::replace(why, Why::Fresh));
            }
        }
        if let Some(next) = self.job.next_timeout() {
            assert!(next > self.now, "next timeout {next:?} is not after {:?}", self.now);
        }
        self
    }

    fn ready(&mut self, worker: Worker, credit: u32) -> &mut Self {
        self.step(Input::WorkerReady { worker, credit, trust: Trust::default() })
    }

    fn lost(&mut self, worker: Worker) -> &mut Self {
        self.step(Input::WorkerLost { worker, reason: "closed".into() })
    }

    fn result(&mut self, worker: Worker, task: u32, attempt: u32) -> &mut Self {
        self.step(Input::Result { worker, attempt: at(task, attempt), output: output(task) })
    }

    fn failed(&mut self, worker: Worker, task: u32, attempt: u32, code: RefusalCode) -> &mut Self {
        self.step(Input::Failed { worker, attempt: at(task, attempt), refusal: refusal(code) })
    }

    fn beat(&mut self, worker: Worker, attempts: &[AttemptRef]) -> &mut Self {
        self.step(Input::Heartbeat { worker, attempts: attempts.to_vec() })
    }

    /// Lets time pass with a tick whenever the job asked for one. Collects what came out on the way.
    fn pass(&mut self, time: Duration) -> &mut Self {
        let (end, mut seen) = (self.now + time, vec![]);
        while let Some(next) = self.job.next_timeout().filter(|next| *next <= end) {
            self.now = next;
            seen.append(&mut self.step(Input::Tick).last);
        }
        self.now = end;
        self.last = seen;
        self
    }

    fn held(&self, worker: Worker) -> Vec<AttemptRef> {
        self.job.members.get(&worker).map_or_else(Vec::new, Member::attempts)
    }

    fn reruns(&self) -> u32 {
        self.job.progress().reruns
    }
}

fn start(worker: Worker, task: u32, attempt: u32) -> Output {
    Output::Start { worker, attempt: at(task, attempt), why: Why::Fresh }
}

fn cancel(worker: Worker, task: u32, attempt: u32) -> Output {
    Output::Cancel { worker, attempt: at(task, attempt) }
}

fn accepted(worker: Worker, task: u32, attempt: u32) -> Output {
    Output::Accepted { worker, attempt: at(task, attempt), output: output(task) }
}

fn dropped(worker: Worker, task: u32, attempt: u32, why: RefusalCode) -> Output {
    Output::Dropped { worker, attempt: at(task, attempt), why }
}

fn lost(worker: Worker, tasks_back: u32) -> Output {
    Output::Lost { worker, tasks_back, reason: "closed".into() }
}

#[test]
fn workers_pull_up_to_their_credit() {
    let mut story = Story::new(6);
    assert_eq!(story.ready(LOCAL, 1).last, [start(LOCAL, 0, 0)]);
    assert_eq!(story.ready(remote(1), 2).last, [start(remote(1), 1, 0), start(remote(1), 2, 0)]);
    story.now = 100 * MS;
    assert_eq!(story.result(remote(1), 1, 0).last, [accepted(remote(1), 1, 0), start(remote(1), 3, 0)]);
    assert_eq!(story.job.progress().done, 1);
    assert_eq!(story.job.output_of(1), Some(output(1)));
}

#[test]
fn b98_with_nobody_around_the_local_worker_does_everything() {
    let mut story = Story::new(5);
    story.ready(LOCAL, 2);
    for task in 0..5 {
        story.now += S;
        story.result(LOCAL, task, 0);
    }
    assert_eq!(story.last, [accepted(LOCAL, 4, 0), Output::Done]);
    assert_eq!(story.reruns(), 0);
    assert_eq!(story.job.next_timeout(), None);
}

#[test]
fn b98_all_workers_gone_before_the_first_part() {
    let mut story = Story::new(4);
    story.ready(remote(1), 2).ready(remote(2), 2).ready(LOCAL, 1);
    assert_eq!(story.lost(remote(1)).last, [lost(remote(1), 2), start(LOCAL, 0, 1)]);
    assert_eq!(story.lost(remote(2)).last, [lost(remote(2), 2)]);
    for (task, attempt) in [(0, 1), (2, 1), (3, 1), (1, 1)] {
        story.now += S;
        story.result(LOCAL, task, attempt);
    }
    assert_eq!(story.last.last(), Some(&Output::Done));
}

#[test]
fn a_worker_dies_holding_two_tasks_and_both_move_first() {
    let mut story = Story::new(20);
    story.ready(remote(1), 2).ready(remote(2), 2);
    assert_eq!(story.lost(remote(1)).last, [lost(remote(1), 2)]);
    story.now = S;
    assert_eq!(story.result(remote(2), 2, 0).last, [accepted(remote(2), 2, 0), start(remote(2), 0, 1)]);
    assert_eq!(story.result(remote(2), 3, 0).last, [accepted(remote(2), 3, 0), start(remote(2), 1, 1)]);
    assert_eq!(story.reruns(), 2);
    assert!(story.lost(remote(1)).last.is_empty(), "lost once");
    assert!(story.lost(remote(9)).last.is_empty(), "a stranger");
}

#[test]
fn b86_b91_a_silent_worker_is_given_up_within_8_s_and_its_late_result_is_stale() {
    for done_in in [10 * MS, 60 * S] {
        let mut story = Story::new(9);
        story.ready(remote(2), 1);
        story.now = done_in;
        story.beat(remote(2), &[at(0, 0)]).result(remote(2), 0, 0).lost(remote(2));
        let since = story.now;
        story.ready(remote(1), 2);
        assert_eq!(story.held(remote(1)), [at(1, 1), at(2, 0)]);
        story.pass(8 * S);
        let silent = story.last.iter().find_map(|output| match output {
            Output::Lost { worker, tasks_back: 2, reason } if *worker == remote(1) => Some(reason.clone()),
            _ => None,
        });
        assert!(silent.is_some_and(|reason| reason.starts_with("silent for ")), "{:?}", story.last);
        assert!(story.last.contains(&cancel(remote(1), 2, 0)));
        story.now = since + 15 * S;
        let late = story.result(remote(1), 2, 0).last.clone();
        assert_eq!(late[0], dropped(remote(1), 2, 0, RefusalCode::StaleLease));
        assert_eq!(late[1], start(remote(1), 1, 2), "its word brought it back, and nobody else is there");
        assert_eq!(story.job.progress().done, 1);
    }
}

#[test]
fn heartbeats_renew_what_they_name() {
    let mut story = Story::new(2);
    story.ready(remote(1), 2);
    for _ in 0..20 {
        story.pass(S);
        assert!(story.last.is_empty(), "{:?}", story.last);
        story.beat(remote(1), &[at(0, 0), at(1, 0)]);
    }
    // It forgets task 1, which nobody would ever notice without a lease of its own.
    for second in 1..=5 {
        story.pass(S);
        if second < 5 {
            assert!(story.last.is_empty(), "{:?}", story.last);
        }
        story.beat(remote(1), &[at(0, 0)]);
    }
    assert_eq!(story.held(remote(1)), [at(0, 0), at(1, 1)]);
}

#[test]
fn an_input_that_is_still_on_its_way_keeps_its_lease_for_a_while() {
    let mut story = Story::new(2);
    story.ready(remote(1), 2).ready(remote(2), 2);
    let mut seconds = 0;
    while story.held(remote(1)) == [at(0, 0), at(1, 0)] {
        story.pass(S);
        story.beat(remote(1), &[at(0, 0)]);
        story.beat(remote(2), &[]);
        seconds += 1;
        assert!(seconds < 60);
    }
    assert!((DELIVERY.as_secs()..DELIVERY.as_secs() + 5).contains(&seconds), "{seconds} s");
}

#[test]
fn heartbeats_for_ever_do_not_hold_a_task_for_ever() {
    let mut story = Story::new(1);
    story.ready(remote(1), 1);
    let mut seconds = 0;
    while story.held(remote(1)) == [at(0, 0)] {
        story.beat(remote(1), &[at(0, 0)]).pass(S);
        seconds += 1;
        assert!(seconds <= 1_000);
    }
    assert_eq!(seconds, ATTEMPT_MAX.as_secs());
}

#[test]
fn b90_after_a_sleep_of_this_device_workers_may_speak_first() {
    let mut story = Story::new(4);
    story.ready(remote(1), 2).ready(remote(2), 2);
    story.now = 10 * 24 * 3_600 * S;
    assert!(story.step(Input::Tick).last.is_empty());
    assert!(story.job.next_timeout().is_some_and(|next| next >= story.now + OVERSLEPT));
    let mut lost = 0;
    for _ in 0..8 {
        story.beat(remote(1), &[at(0, 0), at(1, 0)]).pass(S);
        lost += story.last.iter().filter(|output| matches!(output, Output::Lost { .. })).count();
    }
    assert_eq!(lost, 1, "the leases of the one that did not speak end, once");
    assert_eq!(story.held(remote(1))[..], [at(0, 0), at(1, 0)]);
    assert!(story.held(remote(2)).is_empty());
}

#[test]
fn a_failure_of_the_guest_fails_the_job_with_its_message_when_a_second_device_says_so() {
    let refusal = Refusal::new(RefusalCode::ServiceFailed, "radius must be\u{7} odd");
    let fails = |worker, attempt| Input::Failed { worker, attempt, refusal: refusal.clone() };
    let failed = Output::Failed { refusal: refusal.clone().sanitised() };
    // This device's word is enough.
    let mut story = Story::new(9);
    story.ready(LOCAL, 1).ready(remote(1), 2);
    story.step(fails(LOCAL, at(0, 0)));
    assert_eq!(story.last, [cancel(remote(1), 1, 0), cancel(remote(1), 2, 0), failed.clone()]);
    assert_eq!(story.result(remote(1), 1, 0).last, [dropped(remote(1), 1, 0, RefusalCode::StaleLease)]);
    assert!(story.ready(remote(2), 2).last.is_empty());
    assert!(story.job.progress().over);
    // One stranger's is not: another one has to say so too.
    let mut story = Story::new(9);
    story.ready(remote(1), 1).ready(remote(2), 1);
    story.step(fails(remote(1), at(0, 0)));
    assert_eq!(story.last, [start(remote(1), 2, 0)]);
    assert_eq!(story.result(remote(2), 1, 0).last, [accepted(remote(2), 1, 0), start(remote(2), 0, 1)]);
    assert_eq!(story.whys.last(), Some(&Why::Lost { from: remote(1) }));
    story.step(fails(remote(2), at(0, 1)));
    assert_eq!(story.last, [cancel(remote(1), 2, 0), failed.clone()]);
    // Unless nobody else can be asked, or is on the way.
    for expected in [0, 1] {
        let mut story = Story::new(2);
        story.ready(remote(1), 1).step(Input::Expected { workers: expected });
        story.step(fails(remote(1), at(0, 0)));
        assert_eq!(story.job.progress().over, expected == 0);
    }
}

#[test]
fn other_failures_are_tried_on_three_workers_and_then_here() {
    let mut story = Story::new(2);
    story.ready(LOCAL, 1).ready(remote(1), 2).ready(remote(2), 2).ready(remote(3), 2).ready(remote(4), 2);
    for n in 1..=2 {
        story.failed(remote(n), 1, u32::from(n) - 1, RefusalCode::TaskCrashed);
        assert_eq!(story.last, [start(remote(n + 1), 1, u32::from(n))]);
    }
    assert!(story.failed(remote(3), 1, 2, RefusalCode::Deadline).last.is_empty(), "three remote attempts are enough");
    assert_eq!(story.result(LOCAL, 0, 0).last, [accepted(LOCAL, 0, 0), start(LOCAL, 1, 3)]);
    assert_eq!(story.failed(LOCAL, 1, 3, RefusalCode::TaskCrashed).last, [start(LOCAL, 1, 4)]);
    let end = story.failed(LOCAL, 1, 4, RefusalCode::TaskCrashed).last.clone();
    let [Output::Failed { refusal }] = &end[..] else { panic!("{end:?}") };
    assert_eq!(refusal.code, RefusalCode::TaskCrashed);
    assert!(refusal.reason.starts_with("task 1 was lost or failed 5 times"), "{}", refusal.reason);
}

#[test]
fn where_this_device_takes_no_part_the_others_get_twice_as_many_attempts() {
    let mut story = Story::new(1);
    (1..=7).for_each(|n| {
        story.ready(remote(n), 2);
    });
    for n in 1..=6 {
        assert_eq!(story.held(remote(n)), [at(0, u32::from(n) - 1)]);
        story.lost(remote(n));
    }
    assert!(story.held(remote(7)).is_empty());
    story.pass(STALL);
    assert!(matches!(&story.last[..], [Output::Failed { .. }]), "{:?}", story.last);
}

#[test]
fn a_lost_task_returns_to_the_same_worker_only_if_there_is_no_other() {
    let mut story = Story::new(1);
    story.ready(remote(1), 2);
    assert_eq!(story.failed(remote(1), 0, 0, RefusalCode::TaskCrashed).last, [start(remote(1), 0, 1)]);
    story.ready(remote(2), 2);
    assert_eq!(story.failed(remote(1), 0, 1, RefusalCode::TaskCrashed).last, [start(remote(2), 0, 2)]);
    // Task and workers that are busy count as others too: it waits for them.
    let mut story = Story::new(2);
    story.ready(remote(1), 1).ready(remote(2), 1);
    assert!(story.failed(remote(1), 0, 0, RefusalCode::TaskCrashed).last.is_empty());
    assert_eq!(story.result(remote(2), 1, 0).last, [accepted(remote(2), 1, 0), start(remote(2), 0, 1)]);
}

#[test]
fn double_and_foreign_answers_are_dropped() {
    let mut story = Story::new(3);
    story.ready(remote(1), 2).ready(remote(2), 2);
    story.result(remote(1), 0, 0);
    assert_eq!(story.result(remote(1), 0, 0).last, [dropped(remote(1), 0, 0, RefusalCode::Duplicate)]);
    for (task, attempt) in [(1, 0), (2, 1), (99, 0), (0, u32::MAX), (u32::MAX, u32::MAX)] {
        let dropped = dropped(remote(2), task, attempt, RefusalCode::BadMessage);
        assert_eq!(story.result(remote(2), task, attempt).last[..], *std::slice::from_ref(&dropped));
        assert_eq!(story.failed(remote(2), task, attempt, RefusalCode::ServiceFailed).last, [dropped]);
    }
    assert_eq!(story.job.progress().done, 1);
}

#[test]
fn a_straggler_gets_a_second_attempt_and_the_first_good_answer_wins() {
    for straggler_wins in [true, false] {
        let mut story = Story::new(4);
        story.ready(remote(1), 1).ready(remote(2), 1);
        story.now = S;
        story.result(remote(1), 0, 0);
        story.now = 2 * S;
        story.result(remote(1), 2, 0);
        story.now = 3 * S;
        assert_eq!(story.result(remote(1), 3, 0).last, [accepted(remote(1), 3, 0), start(remote(1), 1, 1)]);
        assert_eq!((story.reruns(), story.job.progress().hedges), (0, 1));
        let (winner, loser) = if straggler_wins { (0, 1) } else { (1, 0) };
        let worker = |attempt| if attempt == 0 { remote(2) } else { remote(1) };
        story.result(worker(winner), 1, winner);
        let ends = [accepted(worker(winner), 1, winner), cancel(worker(loser), 1, loser), Output::Done];
        assert_eq!(story.last, ends);
        let late = [dropped(worker(loser), 1, loser, RefusalCode::Duplicate)];
        assert_eq!(story.result(worker(loser), 1, loser).last, late);
    }
}

#[test]
fn second_attempts_wait_for_their_time_and_are_never_a_third_remote() {
    let mut story = Story::new(3);
    story.ready(remote(1), 1).ready(remote(2), 1).ready(remote(3), 1);
    story.now = 100 * MS;
    assert_eq!(story.result(remote(1), 0, 0).last, [accepted(remote(1), 0, 0), start(remote(1), 1, 1)]);
    story.now = 200 * MS;
    story.result(remote(1), 1, 1);
    // Tasks took 100 ms each; worker 1 is known to be fast, worker 2 is not.
    assert_eq!(story.last, [accepted(remote(1), 1, 1), cancel(remote(2), 1, 0), start(remote(1), 2, 1)]);
    for _ in 0..4 {
        story.pass(S);
        story.beat(remote(3), &[at(2, 0)]).beat(remote(1), &[at(2, 1)]).beat(remote(2), &[]);
    }
    assert!(story.held(remote(2)).is_empty());
    assert_eq!(story.ready(LOCAL, 1).last, [start(LOCAL, 2, 2)], "this device may always help");
}

#[test]
fn a_lone_task_is_hedged_blindly() {
    let mut story = Story::new(1);
    story.ready(remote(1), 2).ready(LOCAL, 1);
    assert_eq!(story.job.next_timeout(), Some(HEDGE_BLIND));
    assert_eq!(story.pass(HEDGE_BLIND).last, [start(LOCAL, 0, 1)]);
}

#[test]
fn b72_claims_get_two_parts_before_measured_speed_rules() {
    let mut story = Story::with(JobConfig { tasks: 300, credit: 16, ..plain(1) });
    story.ready(remote(1), 16).ready(remote(2), 16);
    assert_eq!((story.held(remote(1)).len(), story.held(remote(2)).len()), (2, 2));
    // Worker 2 does a part in 10 ms, worker 1 in 500 ms.
    let mut slow_parts = 2;
    while !story.job.progress().over {
        story.now += 10 * MS;
        if let Some(first) = story.held(remote(2)).first() {
            story.result(remote(2), first.task, first.attempt);
        }
        if story.now.as_millis().is_multiple_of(500)
            && let Some(first) = story.held(remote(1)).first()
        {
            story.result(remote(1), first.task, first.attempt);
        }
        slow_parts = slow_parts.max(story.held(remote(1)).len());
        assert!(story.now < 10 * S);
    }
    // 300 parts take the fast worker 3 s. What its neighbour started in the last half second it does again itself.
    assert!(story.now <= 3_200 * MS, "{:?}", story.now);
    let slow = &story.job.progress().workers[0];
    assert!(slow.worker == remote(1) && slow.done <= 6, "{slow:?}");
}

/// A newcomer that is overtaken with both of its parts gets no third, however long the job still is.
#[test]
fn b72_overtaken_parts_count() {
    let mut story = Story::with(JobConfig { credit: 16, ..plain(4) });
    story.ready(remote(1), 16).ready(LOCAL, 2);
    let mut parts = story.held(remote(1)).len();
    assert_eq!(parts, 2);
    while !story.job.progress().over {
        story.pass(50 * MS);
        if let Some(first) = story.held(LOCAL).first() {
            story.result(LOCAL, first.task, first.attempt);
        }
        story.beat(remote(1), &[]);
        parts += story
            .last
            .iter()
            .filter(|output| matches!(output, Output::Start { worker, .. } if *worker == remote(1)))
            .count();
        assert!(story.now < 10 * S);
    }
    assert_eq!(parts, 2);
}

#[test]
fn on_loss_local_runs_lost_tasks_here_at_once() {
    let mut story = Story::with(JobConfig { tasks: 9, on_loss: OnLoss::Local, ..plain(1) });
    story.ready(LOCAL, 1).ready(remote(1), 2).ready(remote(2), 2);
    story.lost(remote(1));
    assert_eq!(story.result(remote(2), 3, 0).last, [accepted(remote(2), 3, 0), start(remote(2), 5, 0)]);
    assert_eq!(story.result(LOCAL, 0, 0).last, [accepted(LOCAL, 0, 0), start(LOCAL, 1, 1)]);
    assert_eq!(story.result(LOCAL, 1, 1).last, [accepted(LOCAL, 1, 1), start(LOCAL, 2, 1)]);
}

#[test]
fn on_loss_remote_asks_workers_around_before_this_device() {
    let mut story = Story::new(9);
    story.ready(LOCAL, 1).ready(remote(1), 2).ready(remote(2), 2);
    story.lost(remote(1));
    assert_eq!(story.result(LOCAL, 0, 0).last, [accepted(LOCAL, 0, 0), start(LOCAL, 5, 0)]);
    assert_eq!(story.result(remote(2), 3, 0).last, [accepted(remote(2), 3, 0), start(remote(2), 1, 1)]);
}

#[test]
fn a_lost_task_does_not_wait_behind_another_while_this_device_is_idle() {
    let mut story = Story::new(3);
    story.ready(remote(1), 1).ready(remote(2), 2);
    story.now = 10 * MS;
    story.ready(LOCAL, 1).result(remote(2), 2, 0);
    assert_eq!(story.lost(remote(1)).last, [lost(remote(1), 1), start(LOCAL, 0, 1)]);
}

#[test]
fn on_loss_partial_reports_what_is_missing() {
    let mut story = Story::with(JobConfig { tasks: 4, on_loss: OnLoss::Partial, ..plain(1) });
    story.ready(LOCAL, 1).ready(remote(1), 2).result(LOCAL, 0, 0).result(LOCAL, 3, 0);
    assert_eq!(story.held(LOCAL), []);
    assert_eq!(story.lost(remote(1)).last, [lost(remote(1), 2), Output::Partial { missing: vec![1, 2] }]);
}

#[test]
fn b99_1024_parts_and_four_workers_that_each_die_once() {
    let mut story = Story::new(1_024);
    let workers = [remote(1), remote(2), remote(3), remote(4)];
    workers.iter().for_each(|worker| {
        story.ready(*worker, 2);
    });
    let mut deaths = 0;
    while !story.job.progress().over {
        story.now += 10 * MS;
        for worker in workers {
            if let Some(first) = story.held(worker).first() {
                story.result(worker, first.task, first.attempt);
            }
        }
        let done = story.job.progress().done;
        if deaths < 4 && done >= (deaths + 1) * 200 {
            let worker = workers[deaths as usize];
            story.lost(worker).ready(worker, 2);
            deaths += 1;
        }
    }
    assert_eq!(story.last.last(), Some(&Output::Done));
    assert_eq!((deaths, story.reruns(), story.job.progress().done), (4, 8, 1_024));
}

#[test]
fn without_any_worker_a_job_fails_after_a_while() {
    let mut story = Story::new(3);
    assert_eq!(story.job.next_timeout(), Some(STALL));
    story.pass(STALL);
    let [Output::Failed { refusal }] = &story.last[..] else { panic!("{:?}", story.last) };
    assert_eq!(refusal.reason, "no device is left for 3 of 3 tasks");
}

#[test]
fn a_busy_worker_gets_a_pause_that_depends_on_the_seed() {
    let pause = |seed| {
        let mut story = Story::with(JobConfig { tasks: 1, seed, ..plain(1) });
        story.ready(remote(1), 2);
        assert!(story.failed(remote(1), 0, 0, RefusalCode::Busy).last.is_empty());
        let until = story.job.next_timeout().unwrap();
        assert_eq!(story.pass(until).last, [start(remote(1), 0, 1)]);
        until
    };
    assert!((0..50).map(pause).all(|pause| pause >= BUSY_PAUSE / 2 && pause <= 2 * BUSY_PAUSE));
    assert_eq!(pause(7), pause(7));
    assert_ne!(pause(7), pause(8));
}

#[test]
fn a_worker_that_leaves_keeps_what_it_holds() {
    let mut story = Story::new(9);
    story.ready(remote(1), 2).ready(remote(2), 2);
    story.failed(remote(1), 0, 0, RefusalCode::NotLending);
    assert_eq!(story.held(remote(1)), [at(1, 0)]);
    assert_eq!(story.result(remote(1), 1, 0).last, [accepted(remote(1), 1, 0)]);
    assert_eq!(story.ready(remote(1), 1).last, [start(remote(1), 4, 0)], "its owner lends it again");
}

#[test]
fn b87_a_worker_that_only_flaps_is_given_up() {
    let mut story = Story::new(50);
    for _ in 0..WORKER_FAULTS {
        story.ready(remote(1), 2);
        assert!(!story.held(remote(1)).is_empty());
        story.lost(remote(1));
        story.now += S;
    }
    assert!(story.ready(remote(1), 2).last.is_empty());
    assert!(!story.job.progress().workers[0].ready);
}

#[test]
fn cancel_stops_everything() {
    let mut story = Story::new(9);
    story.ready(LOCAL, 1).ready(remote(1), 2);
    story.step(Input::Cancel);
    assert_eq!(story.last, [cancel(LOCAL, 0, 0), cancel(remote(1), 1, 0), cancel(remote(1), 2, 0)]);
    assert!(story.step(Input::Cancel).last.is_empty());
    assert!(story.ready(remote(2), 2).last.is_empty());
    assert_eq!(story.job.next_timeout(), None);
}

#[test]
fn sizes_at_the_edges() {
    assert_eq!(Story::new(0).last, [Output::Done]);
    let story = Story::new(TASKS_PER_JOB as u32 + 1);
    assert!(matches!(&story.last[..], [Output::Failed { refusal }] if refusal.reason == "16385 tasks > 16384 per job"));
    let mut story = Story::new(1);
    (0..=WORKERS).for_each(|n| {
        story.ready(if n == 0 { LOCAL } else { remote(n as u8) }, u32::MAX);
    });
    assert_eq!(story.job.progress().workers.len(), WORKERS);
}
