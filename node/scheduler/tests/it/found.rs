//! Mistakes that the simulation has found, each as a short story.

use std::time::Duration;

use msm_protocol::{ContentHash, job::AttemptRef};
use msm_scheduler::{Input, JobConfig, JobState, Output, OutputId, Trust, Worker};

use crate::peer;

fn worker(n: u16) -> Worker {
    Worker::Remote(peer(n))
}

/// The output with this content.
fn bytes(content: &str) -> OutputId {
    OutputId { hash: ContentHash::of(content.as_bytes()), size: content.len() as u64 }
}

/// Tells a job something at its first moment.
fn tell(job: &mut JobState, input: Input) -> Vec<Output> {
    job.handle(input, Duration::ZERO);
    std::iter::from_fn(|| job.poll_output()).collect()
}

fn ready(job: &mut JobState, n: u16, trust: Trust) -> Vec<Output> {
    tell(job, Input::WorkerReady { worker: worker(n), credit: 1, trust })
}

/// The worker answers the attempt that it was just given.
fn answers(job: &mut JobState, started: &[Output], n: u16, content: &str) -> Vec<Output> {
    let attempt = started.iter().find_map(|output| match output {
        Output::Start { worker: by, attempt, .. } if *by == worker(n) => Some(*attempt),
        _ => None,
    });
    let attempt = attempt.unwrap_or_else(|| panic!("{n} has nothing to do: {started:?}"));
    tell(job, Input::Result { worker: worker(n), attempt, output: bytes(content) })
}

/// Of two answers that contradict each other none is believed because the one that they were to check is void.
#[test]
fn two_contradicting_checks_of_a_liar_decide_nothing() {
    let mut job = JobState::new(JobConfig::default(), Duration::ZERO);
    tell(&mut job, Input::Expected { workers: 3 });
    for (n, content) in [(1, "a lie"), (2, "another lie"), (3, "the truth")] {
        let started = ready(&mut job, n, Trust::default());
        answers(&mut job, &started, n, content);
    }
    let after = tell(&mut job, Input::Struck { worker: worker(1), reason: "it lied elsewhere".into() });
    assert!(after.contains(&Output::Withdrawn { task: 0, worker: worker(1) }), "{after:?}");
    assert_eq!(job.output_of(0), None, "one voice of two: {after:?}");
    let started = ready(&mut job, 4, Trust::default());
    let end = answers(&mut job, &started, 4, "the truth");
    assert_eq!(job.output_of(0), Some(bytes("the truth")));
    let liar = |output: &Output| matches!(output, Output::Struck { worker: by, .. } if *by == worker(2));
    assert!(end.iter().any(liar) && end.last() == Some(&Output::Done), "{end:?}");
}

/// After a restart, what the journal holds of a known liar is void, whether the driver names it before it is there or
/// it comes itself.
#[test]
fn a_liar_of_an_earlier_life_keeps_nothing() {
    for comes in [false, true] {
        let mut job = JobState::new(JobConfig { tasks: 2, ..JobConfig::default() }, Duration::ZERO);
        tell(&mut job, Input::Restored { task: 0, output: bytes("a lie"), worker: worker(1) });
        let after = match comes {
            false => tell(&mut job, Input::Struck { worker: worker(1), reason: "it lied before".into() }),
            true => ready(&mut job, 1, Trust { struck: true, ..Trust::default() }),
        };
        assert!(after.contains(&Output::Withdrawn { task: 0, worker: worker(1) }), "{after:?}");
        let started = |outputs: &[Output]| outputs.iter().any(|output| matches!(output, Output::Start { .. }));
        assert!(!started(&after) && !started(&ready(&mut job, 1, Trust::default())), "it gets nothing more");
        let first = ready(&mut job, 2, Trust::default());
        let attempt = AttemptRef { task: 0, attempt: 0 };
        assert!(first.iter().any(|output| matches!(output, Output::Start { attempt: a, .. } if *a == attempt)));
    }
}

/// While only this device works there are no leases to miss; what a task seemed to take while the device slept is not
/// its speed all the same, or it would get nothing more beside a slow worker.
#[test]
fn b90_a_sleep_while_only_this_device_works_is_not_its_speed() {
    const S: Duration = Duration::from_secs(1);
    let mut job = JobState::new(JobConfig { tasks: 9, ..JobConfig::default() }, Duration::ZERO);
    tell(&mut job, Input::WorkerReady { worker: Worker::Local, credit: 1, trust: Trust::default() });
    let result = |task| Input::Result {
        worker: Worker::Local,
        attempt: AttemptRef { task, attempt: 0 },
        output: bytes("the truth"),
    };
    job.handle(result(0), S);
    let asked = job.next_timeout().expect("it wants to know when this device wakes up");
    let wakes = asked + 864_000 * S;
    job.handle(Input::Tick, wakes);
    job.handle(result(1), wakes + S);
    let mean = job.progress().workers[0].mean.expect("two results");
    assert!(mean < 20 * S, "{mean:?}");
}
