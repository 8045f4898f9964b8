//! Stories of checks, votes, liars, and of what this device remembers of an interrupted job.

use super::*;
use crate::trust::LEFT_UNSIGNED;

/// What a liar says.
fn wrong(task: u32) -> OutputId {
    OutputId { hash: ContentHash::of(&(task + 1_000_000).to_le_bytes()), size: 4 }
}

fn spot(tasks: u32) -> JobConfig {
    JobConfig { tasks, ..JobConfig::default() }
}

fn votes(tasks: u32, agree: u32, of: u32) -> JobConfig {
    JobConfig { redundancy: Redundancy::Agree { agree, of }, ..spot(tasks) }
}

fn proven(in_a_row: u32) -> Trust {
    Trust { in_a_row, ..Trust::default() }
}

fn accepted_lie(worker: Worker, task: u32, attempt: u32) -> Output {
    Output::Accepted { worker, attempt: at(task, attempt), output: wrong(task) }
}

fn kept(worker: Worker, task: u32, attempt: u32) -> Output {
    Output::Kept { worker, attempt: at(task, attempt) }
}

fn checked(task: u32, worker: Worker, by: Worker, agrees: bool) -> Output {
    Output::Checked { task, worker, by, agrees }
}

fn withdrawn(task: u32, worker: Worker) -> Output {
    Output::Withdrawn { task, worker }
}

fn struck(worker: Worker, task: u32, by: Worker) -> Output {
    Output::Struck { worker, task, claimed: wrong(task), right: output(task), by }
}

impl Story {
    fn trusted(&mut self, worker: Worker, credit: u32, in_a_row: u32) -> &mut Self {
        self.step(Input::WorkerReady { worker, credit, trust: proven(in_a_row) })
    }

    fn lie(&mut self, worker: Worker, task: u32, attempt: u32) -> &mut Self {
        self.step(Input::Result { worker, attempt: at(task, attempt), output: wrong(task) })
    }

    /// It leaves, and has never signed for what it said about these tasks.
    fn leaves_unsigned(&mut self, worker: Worker, said: &[OutputId], tasks: &[u32]) -> &mut Self {
        let claims = tasks.iter().zip(said).map(|(task, said)| (*task, said.hash)).collect();
        self.step(Input::Unsigned { worker, claims });
        let before = std::mem::take(&mut self.last);
        self.lost(worker);
        self.last = [before, std::mem::take(&mut self.last)].concat();
        self
    }

    /// Answers, truly, everything that this worker holds, oldest first, until it holds nothing.
    fn works(&mut self, worker: Worker) -> &mut Self {
        while let Some(first) = self.held(worker).first().copied() {
            self.now += 10 * MS;
            self.result(worker, first.task, first.attempt);
        }
        self
    }
}

// ---- Spot checks ---------------------------------------------------------------------------------------------------

#[test]
fn the_first_three_of_a_newcomer_are_checked_here_and_the_job_waits_for_it() {
    let mut story = Story::with(spot(4));
    story.ready(remote(1), 4);
    for task in 0..4 {
        story.now += 10 * MS;
        assert_eq!(story.result(remote(1), task, 0).last[0], accepted(remote(1), task, 0));
    }
    assert_eq!(story.job.progress().done, 4, "all outputs are there");
    // Nobody is left to check them, and nobody is on the way: the answer counts, and it is told.
    assert_eq!(story.last.last(), Some(&Output::Done));
    assert_eq!((story.job.progress().unchecked, story.job.progress().checked), (3, 0));

    let mut story = Story::with(spot(4));
    story.ready(remote(1), 4).ready(LOCAL, 1);
    assert_eq!(story.held(LOCAL), [at(2, 0)]);
    story.now = 10 * MS;
    story.result(remote(1), 0, 0).result(remote(1), 1, 0).result(remote(1), 3, 0);
    assert!(!story.job.progress().over);
    assert_eq!(story.result(LOCAL, 2, 0).last, [accepted(LOCAL, 2, 0), start(LOCAL, 0, 1)]);
    assert_eq!(story.whys.last(), Some(&Why::Check { of: remote(1) }));
    let right = [checked(0, remote(1), LOCAL, true), dropped(LOCAL, 0, 1, RefusalCode::Duplicate), start(LOCAL, 1, 1)];
    assert_eq!(story.result(LOCAL, 0, 1).last, right);
    story.works(LOCAL);
    assert_eq!(story.last.last(), Some(&Output::Done));
    let progress = story.job.progress();
    assert_eq!((progress.checks, progress.checked, progress.unchecked, progress.withdrawn), (3, 3, 0, 0));
    assert_eq!((progress.reruns, progress.hedges), (0, 0), "a check is neither");
    assert_eq!((progress.workers[1].done, progress.workers[1].checked), (3, 3));
}

#[test]
fn the_share_of_checks_falls_with_trust() {
    let share = |in_a_row| {
        let mut checks = 0;
        for seed in 0..20 {
            let mut story = Story::with(JobConfig { seed, ..spot(100) });
            story.trusted(remote(1), 2, in_a_row).works(remote(1));
            assert!(story.job.progress().over);
            checks += story.job.progress().unchecked;
        }
        checks
    };
    // Of 2,000 results: the first three of each job and 5 %, 5 %, 2 %.
    let (new, known, trusted) = (share(0), share(3), share(1_000));
    assert!((110..210).contains(&new), "{new}");
    assert!((60..150).contains(&known), "{known}");
    assert!((20..65).contains(&trusted), "{trusted}");
}

#[test]
fn a_liar_is_struck_and_all_its_unchecked_tasks_are_done_again() {
    let mut story = Story::with(spot(9));
    story.ready(remote(1), 8).ready(LOCAL, 1);
    story.now = 10 * MS;
    // Right in the first, wrong in all others.
    story.result(remote(1), 0, 0).result(LOCAL, 2, 0);
    assert_eq!(story.held(LOCAL), [at(0, 1)]);
    story.lie(remote(1), 1, 0).lie(remote(1), 3, 0).result(LOCAL, 0, 1);
    assert_eq!(story.held(LOCAL), [at(1, 1)]);
    story.lie(remote(1), 4, 0);
    let held = story.held(remote(1));
    assert!(!held.is_empty());
    story.result(LOCAL, 1, 1);
    let mut expected = vec![
        withdrawn(1, remote(1)),
        accepted(LOCAL, 1, 1),
        checked(1, remote(1), LOCAL, false),
        struck(remote(1), 1, LOCAL),
    ];
    expected.extend(held.iter().map(|held| cancel(remote(1), held.task, held.attempt)));
    expected.extend([withdrawn(3, remote(1)), withdrawn(4, remote(1))]);
    assert_eq!(story.last[..expected.len()], expected);
    assert!(story.held(remote(1)).is_empty());
    assert!(story.ready(remote(1), 8).last.is_empty(), "it gets nothing more");
    assert!(story.trusted(remote(1), 8, 1_000).last.is_empty(), "whatever is said of it");
    story.works(LOCAL);
    assert_eq!(story.last.last(), Some(&Output::Done));
    for task in 0..9 {
        assert_eq!(story.job.output_of(task), Some(output(task)), "task {task}");
    }
    let progress = story.job.progress();
    assert_eq!((progress.withdrawn, progress.done), (3, 9));
    assert_eq!(progress.workers[1].done, 1, "what was confirmed stays");
    assert!(progress.workers[1].struck);
    assert!(story.whys.contains(&Why::Withdrawn { from: remote(1) }));
}

#[test]
fn a_check_goes_to_another_worker_and_never_to_the_one_that_is_checked() {
    let mut story = Story::with(spot(1));
    story.ready(remote(1), 2);
    assert_eq!(story.held(remote(1)), [at(0, 0)]);
    story.trusted(remote(2), 2, 100);
    story.now = 10 * MS;
    assert_eq!(story.result(remote(1), 0, 0).last, [accepted(remote(1), 0, 0), start(remote(2), 0, 1)]);
    let right = [checked(0, remote(1), remote(2), true), checked(0, remote(2), remote(1), true)];
    let ends = [dropped(remote(2), 0, 1, RefusalCode::Duplicate), Output::Done];
    assert_eq!(story.result(remote(2), 0, 1).last, [right, ends].concat());
}

#[test]
fn between_two_workers_a_third_decides() {
    for liar in [1, 2] {
        let mut story = Story::with(spot(1));
        story.ready(remote(1), 2).ready(remote(2), 2);
        story.now = 10 * MS;
        let says = |story: &mut Story, n: u8, attempt: u32| {
            let lies = n == liar;
            if lies {
                story.lie(remote(n), 0, attempt)
            } else {
                story.result(remote(n), 0, attempt)
            };
        };
        says(&mut story, 1, 0);
        let told = if liar == 1 { accepted_lie(remote(1), 0, 0) } else { accepted(remote(1), 0, 0) };
        assert_eq!(story.last, [told, start(remote(2), 0, 1)]);
        says(&mut story, 2, 1);
        assert_eq!(story.last, [kept(remote(2), 0, 1)], "nobody is there to decide");
        assert_eq!(story.ready(remote(3), 2).last, [start(remote(3), 0, 2)]);
        says(&mut story, 3, 2);
        let by = if liar == 1 { remote(2) } else { remote(1) };
        assert!(story.last.contains(&struck(remote(liar), 0, by)), "{:?}", story.last);
        assert_eq!(story.last.contains(&withdrawn(0, remote(1))), liar == 1);
        // The bytes that have just arrived are the output, the others are thrown away.
        assert_eq!(story.last.contains(&accepted(remote(3), 0, 2)), liar == 1);
        assert!(story.last.contains(&dropped(
            remote(2),
            0,
            1,
            if liar == 1 { RefusalCode::Duplicate } else { RefusalCode::StaleLease }
        )));
        assert_eq!(story.last.last(), Some(&Output::Done));
        assert_eq!(story.job.output_of(0), Some(output(0)));
    }
}

#[test]
fn this_device_decides_and_a_lying_checker_gets_no_honest_worker_struck() {
    let mut story = Story::with(spot(3));
    story.ready(remote(1), 1).trusted(remote(2), 1, 100).ready(LOCAL, 1);
    assert_eq!(story.held(LOCAL), [at(2, 0)]);
    story.now = 10 * MS;
    story.result(remote(2), 1, 0);
    assert_eq!(story.result(remote(1), 0, 0).last, [accepted(remote(1), 0, 0), start(remote(2), 0, 1)]);
    // Two liars would agree; they are not asked where this device can say.
    story.ready(remote(3), 1);
    assert_eq!(story.lie(remote(2), 0, 1).last, [kept(remote(2), 0, 1)]);
    assert!(story.held(remote(3)).is_empty());
    assert_eq!(story.result(LOCAL, 2, 0).last, [accepted(LOCAL, 2, 0), start(LOCAL, 0, 2)]);
    let end = story.result(LOCAL, 0, 2).last.clone();
    assert_eq!(end[0], checked(0, remote(1), LOCAL, true));
    assert!(end.contains(&struck(remote(2), 0, LOCAL)) && !end.contains(&withdrawn(0, remote(1))), "{end:?}");
    // What the lying checker did itself is done again, by somebody else.
    assert!(end.contains(&withdrawn(1, remote(2))), "{end:?}");
    assert!(
        end.contains(&start(LOCAL, 1, 1))
            || end.contains(&start(remote(1), 1, 1))
            || end.contains(&start(remote(3), 1, 1))
    );
}

/// A journal that asked the job for it when it is told would find nothing: the second liar's answer is out again by then.
#[test]
fn what_is_accepted_is_told_as_what_it_is_even_if_its_worker_is_struck_in_the_same_step() {
    let mut story = Story::with(spot(3));
    story.ready(remote(1), 1).ready(remote(2), 1).ready(LOCAL, 1);
    assert_eq!(story.held(LOCAL), [at(2, 0)]);
    story.now = 10 * MS;
    story.lie(remote(1), 0, 0).lie(remote(2), 1, 0);
    let other = OutputId { size: 5, ..wrong(0) };
    story.step(Input::Result { worker: remote(2), attempt: at(0, 1), output: other });
    assert_eq!(story.last[0], kept(remote(2), 0, 1));
    assert_eq!(story.result(remote(1), 1, 1).last, [kept(remote(1), 1, 1)]);
    story.result(LOCAL, 2, 0);
    assert_eq!(story.held(LOCAL), [at(0, 2)]);
    let end = story.result(LOCAL, 0, 2).last.clone();
    let of_one: Vec<&Output> = end
        .iter()
        .filter(|output| match output {
            Output::Accepted { attempt, .. } => attempt.task == 1,
            Output::Withdrawn { task, .. } => *task == 1,
            _ => false,
        })
        .collect();
    // Told as the answer that it was, between the two that take a result away: or the second would take one from nothing.
    let told = [withdrawn(1, remote(2)), accepted(remote(1), 1, 1), withdrawn(1, remote(1))];
    assert_eq!(of_one, told.iter().collect::<Vec<_>>(), "{end:?}");
    assert_eq!(story.job.output_of(1), None);
}

#[test]
fn a_check_that_is_lost_is_made_again_and_one_that_nobody_can_make_is_given_up() {
    let mut story = Story::with(spot(1));
    story.ready(remote(1), 2).ready(remote(2), 2);
    story.now = 10 * MS;
    story.result(remote(1), 0, 0);
    assert_eq!(story.held(remote(2)), [at(0, 1)]);
    story.ready(remote(3), 2);
    let again = story.lost(remote(2)).last.clone();
    assert_eq!(again, [lost(remote(2), 0), start(remote(3), 0, 2)]);
    story.step(Input::Expected { workers: 1 });
    assert_eq!(story.lost(remote(3)).last, [lost(remote(3), 0)], "somebody is on the way");
    assert_eq!(story.pass(STALL).last, [Output::Done]);
    assert_eq!((story.job.progress().unchecked, story.reruns()), (1, 0));
}

#[test]
fn two_that_differ_with_nobody_to_decide_fail_the_job_with_the_numbers() {
    let mut story = Story::with(spot(1));
    story.ready(remote(1), 2).ready(remote(2), 2);
    story.now = 10 * MS;
    story.result(remote(1), 0, 0).lie(remote(2), 0, 1);
    assert_eq!(story.pass(STALL / 2).last, []);
    let end = story.pass(STALL).last.clone();
    let [Output::Failed { refusal }] = &end[..] else { panic!("{end:?}") };
    assert!(refusal.reason.starts_with(UNDECIDED), "{refusal}");
    assert!(refusal.reason.contains("2 answers") && refusal.reason.contains("2 have to agree"), "{refusal}");
}

#[test]
fn an_output_that_others_call_a_failure_is_always_checked() {
    let mut story = Story::with(spot(2));
    story.trusted(remote(1), 1, u32::MAX).trusted(remote(2), 1, u32::MAX).ready(LOCAL, 0);
    story.now = 10 * MS;
    story.failed(remote(1), 0, 0, RefusalCode::ServiceFailed);
    story.result(remote(2), 1, 0);
    assert_eq!(story.held(remote(2)), [at(0, 1)]);
    story.ready(LOCAL, 1);
    story.result(remote(2), 0, 1);
    assert_eq!(story.held(LOCAL), [at(0, 2)], "{:?}", story.last);
    assert_eq!(story.result(LOCAL, 0, 2).last.last(), Some(&Output::Done));
    // Saying that the guest failed is signed by nobody: it costs no strike.
    assert!(!story.job.progress().workers.iter().any(|worker| worker.struck));
}

#[test]
fn a_checker_that_says_that_the_guest_fails_decides_nothing_alone() {
    let mut story = Story::with(spot(1));
    story.ready(remote(1), 1).ready(remote(2), 1).ready(remote(3), 1);
    story.now = 10 * MS;
    story.result(remote(1), 0, 0);
    story.failed(remote(2), 0, 1, RefusalCode::ServiceFailed);
    assert_eq!(story.last, [start(remote(3), 0, 2)]);
    assert_eq!(story.result(remote(3), 0, 2).last.last(), Some(&Output::Done));
}

// ---- Words that nobody stands for ----------------------------------------------------------------------------------

#[test]
fn what_a_worker_has_not_signed_for_when_it_leaves_is_computed_again() {
    for lies in [false, true] {
        let mut story = Story::with(spot(6));
        story.trusted(remote(1), 2, 1_000).ready(LOCAL, 1);
        assert_eq!(story.held(remote(1)), [at(0, 0), at(1, 0)]);
        story.now = 10 * MS;
        story.result(remote(1), 0, 0);
        let said = if lies { wrong(1) } else { output(1) };
        story.step(Input::Result { worker: remote(1), attempt: at(1, 0), output: said });
        // It signed for the first. Others' outputs, and what it never said, are none of its business.
        story.leaves_unsigned(remote(1), &[said, output(2), output(0), wrong(0)], &[1, 2, 7, 0]);
        assert_eq!((story.job.output_of(1), story.job.progress().unsigned), (Some(said), 1), "until somebody says no");
        story.works(LOCAL);
        assert_eq!(story.last.last(), Some(&Output::Done));
        assert!(story.whys.contains(&Why::Check { of: remote(1) }));
        let progress = story.job.progress();
        assert_eq!((progress.checks, progress.workers[1].checked), (1, u32::from(!lies)));
        assert_eq!((progress.workers[1].struck, story.job.output_of(1)), (lies, Some(output(1))));
    }
}

#[test]
fn one_that_stands_for_its_word_is_enough_beside_one_that_left() {
    for lies in [false, true] {
        let mut story = Story::with(spot(2));
        story.trusted(remote(1), 1, 1_000).trusted(remote(2), 1, 1_000);
        story.now = 10 * MS;
        let said = if lies { wrong(0) } else { output(0) };
        story.step(Input::Result { worker: remote(1), attempt: at(0, 0), output: said });
        story.leaves_unsigned(remote(1), &[said], &[0]);
        assert_eq!(story.result(remote(2), 1, 0).last, [accepted(remote(2), 1, 0), start(remote(2), 0, 1)]);
        let end = story.result(remote(2), 0, 1).last.clone();
        let expected = match lies {
            // It has confirmed one whose word it may have given itself: that is no merit.
            false => vec![checked(0, remote(1), remote(2), true), dropped(remote(2), 0, 1, RefusalCode::Duplicate)],
            true => vec![withdrawn(0, remote(1)), accepted(remote(2), 0, 1)],
        };
        assert_eq!(end, [expected, vec![Output::Done]].concat());
        assert!(!story.job.progress().workers.iter().any(|worker| worker.struck), "one word strikes nobody");
    }
}

#[test]
fn where_this_device_can_say_who_lies_it_does_before_one_that_left_is_forgotten() {
    let mut story = Story::with(spot(3));
    story.trusted(remote(1), 1, 1_000).trusted(remote(2), 1, 1_000).ready(LOCAL, 1);
    story.now = 10 * MS;
    story.lie(remote(1), 0, 0).leaves_unsigned(remote(1), &[wrong(0)], &[0]);
    story.result(remote(2), 1, 0);
    assert_eq!(story.result(remote(2), 0, 1).last, [kept(remote(2), 0, 1)]);
    story.result(LOCAL, 2, 0);
    let end = story.result(LOCAL, 0, 2).last.clone();
    assert!(end.contains(&struck(remote(1), 0, LOCAL)) && end.last() == Some(&Output::Done), "{end:?}");
}

#[test]
fn a_vote_that_nobody_stands_for_is_none() {
    let mut story = Story::with(votes(1, 2, 3));
    story.ready(remote(1), 2).ready(remote(2), 2).ready(remote(3), 2);
    story.now = 10 * MS;
    story.lie(remote(1), 0, 0);
    let gone = story.leaves_unsigned(remote(1), &[wrong(0)], &[0]).last.clone();
    assert!(gone.contains(&dropped(remote(1), 0, 0, RefusalCode::StaleLease)), "{gone:?}");
    assert!(gone.contains(&start(remote(3), 0, 2)), "another is asked: {gone:?}");
    story.lie(remote(2), 0, 1);
    assert_eq!(story.job.output_of(0), None, "the same lie is one voice");
    assert_eq!(story.job.progress().done, 0);
}

#[test]
fn who_left_unsigned_often_is_checked_always() {
    let mut story = Story::with(spot(6));
    story.trusted(remote(1), 1, 1_000);
    story.step(Input::Expected { workers: 1 });
    let answers = |story: &mut Story| {
        let AttemptRef { task, attempt } = story.held(remote(1))[0];
        story.now += 10 * MS;
        story.result(remote(1), task, attempt);
        task
    };
    for n in 1..=LEFT_UNSIGNED {
        let task = answers(&mut story);
        assert_eq!(story.job.open_checks, n - 1, "not drawn, or it says nothing");
        story.leaves_unsigned(remote(1), &[output(task)], &[task]).trusted(remote(1), 1, 1_000);
        assert_eq!(story.job.open_checks, n);
    }
    answers(&mut story);
    assert_eq!(story.job.open_checks, LEFT_UNSIGNED + 1);
    assert!(!story.job.progress().workers[0].struck, "that alone strikes nobody");
}

#[test]
fn where_nothing_is_compared_nothing_is_done_again() {
    let mut story = Story::with(JobConfig { redundancy: Redundancy::None, ..spot(2) });
    story.ready(remote(1), 1).ready(LOCAL, 1);
    story.now = 10 * MS;
    story.result(remote(1), 0, 0).leaves_unsigned(remote(1), &[output(0)], &[0]).works(LOCAL);
    assert_eq!((story.job.progress().checks, story.job.progress().unsigned), (0, 0));
    assert_eq!(story.last.last(), Some(&Output::Done));
}

// ---- Votes ---------------------------------------------------------------------------------------------------------

#[test]
fn an_answer_counts_when_two_of_three_gave_it() {
    let mut story = Story::with(votes(1, 2, 3));
    story.ready(remote(1), 2).ready(remote(2), 2).ready(remote(3), 2);
    assert_eq!((story.held(remote(1)), story.held(remote(2))), (vec![at(0, 0)], vec![at(0, 1)]));
    assert!(story.held(remote(3)).is_empty(), "two are enough as long as they agree");
    assert_eq!(story.whys, [Why::Fresh, Why::Vote]);
    story.now = 10 * MS;
    assert_eq!(story.result(remote(2), 0, 1).last, [kept(remote(2), 0, 1)]);
    assert_eq!(story.job.progress().done, 0);
    let end = story.result(remote(1), 0, 0).last.clone();
    assert_eq!(end[0], accepted(remote(1), 0, 0), "the bytes that have just arrived");
    assert!(end.contains(&dropped(remote(2), 0, 1, RefusalCode::Duplicate)));
    assert!(
        end.contains(&checked(0, remote(1), remote(2), true)) && end.contains(&checked(0, remote(2), remote(1), true))
    );
    assert_eq!(end.last(), Some(&Output::Done));
}

#[test]
fn a_vote_against_two_is_struck_and_the_kept_bytes_are_the_output() {
    let mut story = Story::with(votes(1, 2, 3));
    story.ready(remote(1), 2).ready(remote(2), 2).ready(remote(3), 2);
    story.now = 10 * MS;
    story.result(remote(1), 0, 0);
    assert_eq!(story.lie(remote(2), 0, 1).last, [kept(remote(2), 0, 1), start(remote(3), 0, 2)]);
    let end = story.result(remote(3), 0, 2).last.clone();
    assert!(end.contains(&struck(remote(2), 0, remote(1))), "{end:?}");
    assert_eq!((end.last(), story.job.output_of(0)), (Some(&Output::Done), Some(output(0))));
}

#[test]
fn this_device_fills_in_where_too_few_vote_and_decides_where_they_differ() {
    let mut story = Story::with(votes(3, 3, 5));
    story.ready(remote(1), 2).ready(remote(2), 2).ready(LOCAL, 1);
    story.now = 10 * MS;
    for worker in [remote(1), remote(2)] {
        while let Some(first) = story.held(worker).first().copied() {
            story.result(worker, first.task, first.attempt);
        }
    }
    assert!(!story.job.progress().over);
    story.works(LOCAL);
    assert_eq!(story.last.last(), Some(&Output::Done));
    assert_eq!(story.job.progress().done, 3);

    let mut story = Story::with(votes(1, 2, 5));
    story.ready(remote(1), 2).ready(remote(2), 2).ready(remote(3), 1);
    story.now = 10 * MS;
    story.lie(remote(1), 0, 0).ready(LOCAL, 1);
    assert_eq!(story.result(remote(2), 0, 1).last, [kept(remote(2), 0, 1), start(LOCAL, 0, 2)]);
    let end = story.result(LOCAL, 0, 2).last.clone();
    assert!(end.contains(&accepted(LOCAL, 0, 2)) && end.contains(&struck(remote(1), 0, LOCAL)), "{end:?}");
}

#[test]
fn votes_that_never_agree_fail_the_job_with_the_numbers() {
    let mut story = Story::with(votes(1, 2, 3));
    story.ready(remote(1), 2).ready(remote(2), 2).ready(remote(3), 2).ready(remote(4), 2);
    story.now = 10 * MS;
    for (n, attempt) in [(1, 0), (2, 1), (3, 2)] {
        let output = output(100 + u32::from(n));
        story.step(Input::Result { worker: remote(n), attempt: at(0, attempt), output });
    }
    let Some(Output::Failed { refusal }) = story.last.last() else { panic!("{:?}", story.last) };
    let expected =
        "task 0 has 3 answers of other devices, at most 1 of them equal; 2 have to agree (up to 3 are asked)";
    assert_eq!(refusal.reason, format!("{UNDECIDED}{expected}"));
}

#[test]
fn redundancy_out_of_bounds_is_refused() {
    for (agree, of, fine) in [(1, 3, false), (2, 2, true), (3, 2, false), (5, 5, true), (2, 6, false), (0, 0, false)] {
        let story = Story::with(votes(1, agree, of));
        assert_eq!(story.job.progress().over, !fine, "{agree}/{of}");
        assert!(
            fine || matches!(&story.last[..], [Output::Failed { refusal }] if refusal.reason.contains("2 <= K <= N <= 5"))
        );
    }
}

#[test]
fn what_waits_for_a_second_vote_is_bounded() {
    let mut story = Story::with(votes(500, 2, 2));
    story.ready(remote(1), 2);
    let mut answered = 0;
    while let Some(first) = story.held(remote(1)).first().copied() {
        story.now += 10 * MS;
        story.result(remote(1), first.task, first.attempt);
        answered += 1;
    }
    assert!((VOTES_WAITING..VOTES_WAITING + 8).contains(&answered), "{answered}");
    story.ready(remote(2), 2);
    while !story.job.progress().over {
        story.now += 10 * MS;
        for worker in [remote(1), remote(2)] {
            if let Some(first) = story.held(worker).first().copied() {
                story.result(worker, first.task, first.attempt);
            }
        }
    }
    assert_eq!(story.job.progress().done, 500);
}

#[test]
fn under_votes_as_many_must_say_that_the_guest_fails() {
    let mut story = Story::with(votes(1, 3, 5));
    (1..=4).for_each(|n| {
        story.ready(remote(n), 1);
    });
    story.now = 10 * MS;
    for (n, attempt) in [(1, 0), (2, 1)] {
        story.failed(remote(n), 0, attempt, RefusalCode::ServiceFailed);
        assert!(!story.job.progress().over);
    }
    story.failed(remote(3), 0, 2, RefusalCode::ServiceFailed);
    assert!(
        matches!(story.last.last(), Some(Output::Failed { refusal }) if refusal.code == RefusalCode::ServiceFailed)
    );
}

// ---- From outside --------------------------------------------------------------------------------------------------

#[test]
fn a_worker_that_is_struck_elsewhere_loses_what_nobody_confirmed() {
    let mut story = Story::with(spot(6));
    story.trusted(remote(1), 2, 1_000).ready(LOCAL, 1);
    story.now = 10 * MS;
    story.result(remote(1), 0, 0);
    story.step(Input::Struck { worker: remote(1), reason: "lied to another job".into() });
    let Output::Lost { worker, tasks_back: 2, reason } = &story.last[0] else { panic!("{:?}", story.last) };
    assert_eq!((*worker, reason.as_str()), (remote(1), "lied to another job"));
    assert!(story.last.contains(&withdrawn(0, remote(1))));
    assert!(story.ready(remote(1), 2).last.is_empty());
    assert!(story.step(Input::Struck { worker: remote(1), reason: "again".into() }).last.is_empty(), "once");
    story.works(LOCAL);
    assert_eq!((story.last.last(), story.job.progress().done), (Some(&Output::Done), 6));
}

#[test]
fn restored_tasks_are_done_and_only_a_liar_s_are_done_again() {
    let restored = |task, worker| Input::Restored { task, output: output(task), worker };
    let mut story = Story::with(spot(3));
    story.step(restored(0, remote(1))).step(restored(0, remote(1))).step(restored(1, LOCAL)).step(restored(9, LOCAL));
    assert_eq!(story.job.progress().done, 2);
    assert_eq!(story.ready(LOCAL, 4).last, [start(LOCAL, 2, 0)]);
    story.now = 10 * MS;
    assert_eq!(story.result(LOCAL, 2, 0).last, [accepted(LOCAL, 2, 0), Output::Done]);

    let mut story = Story::with(spot(2));
    story.step(restored(0, remote(1)));
    story.step(restored(1, LOCAL));
    assert_eq!(story.last, [Output::Done], "nothing is left to do");

    let mut story = Story::with(spot(3));
    story.step(restored(0, remote(1))).step(restored(1, LOCAL)).ready(remote(1), 1).ready(LOCAL, 1);
    story.step(Input::Struck { worker: remote(1), reason: "lied".into() });
    assert!(story.last.contains(&withdrawn(0, remote(1))), "{:?}", story.last);
    story.works(LOCAL);
    assert_eq!((story.last.last(), story.job.progress().done), (Some(&Output::Done), 3));
}

#[test]
fn a_partial_result_has_nothing_in_it_that_is_in_doubt() {
    let mut story = Story::with(JobConfig { on_loss: OnLoss::Partial, ..spot(2) });
    story.ready(remote(1), 1).ready(remote(2), 1);
    story.now = 10 * MS;
    story.result(remote(1), 0, 0);
    story.lie(remote(2), 1, 0);
    // Each checks the other: they differ on task 1 and nobody is left to decide.
    story.result(remote(2), 0, 1).result(remote(1), 1, 1);
    let end = story.pass(STALL).last.clone();
    assert!(end.is_empty() || end.contains(&withdrawn(1, remote(2))), "{end:?}");
    assert!(story.job.progress().over);
    assert_eq!((story.job.output_of(0), story.job.output_of(1)), (Some(output(0)), None));
}
